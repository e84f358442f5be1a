//! From the columns of a table to the fields of a record.

use std::{collections::BTreeMap, marker::PhantomData};

use diptych::Tag;
use serde_json::Value;

use super::{
    error::ImportError,
    source::{Cell, Form, RowSource},
};
use crate::{
    record::{Record, check_key, field},
    row_json::{self, Fields, checked_fields},
    state::unique_tags,
};

/// The fields of columns with another name. A column without a field is `None`.
#[derive(Clone, Debug, Default)]
pub(super) struct Mapping {
    pub(super) columns: BTreeMap<String, Option<String>>,
    /// The columns that are the key together; none if one column is the key.
    pub(super) key: Vec<String>,
}

impl Mapping {
    /// The fields of the columns of this table.
    ///
    /// # Errors
    /// [`ImportError::Mapping`] if a column has no field, or two have the same one.
    pub(super) fn reader<R: Record>(
        &self,
        table: &dyn RowSource,
    ) -> Result<RowReader<R>, ImportError> {
        let columns = table.columns();
        let wrong = |problem| ImportError::Mapping { table: table.table().to_owned(), problem };
        if let Some(unknown) =
            self.columns.keys().chain(&self.key).find(|name| !columns.contains(name))
        {
            let problem = format!("it has no column {unknown}; it has {}", columns.join(", "));
            return Err(wrong(problem));
        }
        let mut fields = Vec::with_capacity(columns.len());
        for column in columns {
            let name = match self.columns.get(column) {
                Some(None) => {
                    fields.push(None);
                    continue;
                }
                Some(Some(name)) => name,
                None => column,
            };
            if let Some(problem) = table.unreadable(column) {
                return Err(wrong(format!("column {column} {problem}")));
            }
            let Some(field) = field::<R>(name) else {
                let known: Vec<_> = R::FIELDS.iter().map(|field| field.name).collect();
                let problem = format!(
                    "{} has no field {name} for its column {column}: rename the column to one of \
                     {}, or skip it",
                    R::NAME,
                    known.join(", ")
                );
                return Err(wrong(problem));
            };
            if fields.contains(&Some(field.name)) {
                let problem = format!("two columns are field {name}: skip either");
                return Err(wrong(problem));
            }
            fields.push(Some(field.name));
        }
        let has_key = fields.contains(&Some(R::KEY_FIELD));
        if has_key && !self.key.is_empty() {
            let problem = format!(
                "a column is {}, the key of {}, and the key is made of others: skip that column",
                R::KEY_FIELD,
                R::NAME
            );
            return Err(wrong(problem));
        }
        if !has_key && self.key.is_empty() {
            let problem = format!(
                "no column is {}, the key of {}: rename a column to it, or make the key of several \
                 columns",
                R::KEY_FIELD,
                R::NAME
            );
            return Err(wrong(problem));
        }
        let forms = vec![Form::Own; fields.len()];
        let place = |name: &String| columns.iter().position(|column| column == name);
        let key = self.key.iter().filter_map(place).collect();
        Ok(RowReader { fields, key, forms, of: PhantomData })
    }
}

/// A row of the table, as a row of the record.
#[derive(Clone)]
pub(super) struct SourceRow<R: Record> {
    pub(super) key: R::Key,
    /// The fields that have a column.
    pub(super) fields: Fields,
    /// The tags of its unique values, also of those that no column gives.
    pub(super) tags: Vec<Tag>,
    pub(super) digest: String,
    /// The bytes of its values as JSON, about.
    pub(super) bytes: usize,
}

/// Reads rows of a table as rows of a record. It remembers the form that each field takes.
#[derive(Debug)]
pub(super) struct RowReader<R> {
    fields: Vec<Option<&'static str>>,
    /// The columns that are the key together.
    key: Vec<usize>,
    forms: Vec<Form>,
    of: PhantomData<fn() -> R>,
}

impl<R: Record> RowReader<R> {
    /// The names of the fields that have a column.
    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> {
        let key = (!self.key.is_empty()).then_some(R::KEY_FIELD);
        self.fields.iter().filter_map(|field| *field).chain(key)
    }

    /// The row with these cells.
    ///
    /// # Errors
    /// The reason for which the record has no such row.
    pub(super) fn row(&mut self, cells: &[Cell]) -> Result<SourceRow<R>, String> {
        let row = self.typed(cells)?;
        let fault = |invalid: diptych::Invalid| format!("{}: {}", invalid.field, invalid.problem);
        let key = row.key();
        check_key::<R>(&key).map_err(fault)?;
        let mut fields = checked_fields(&row).map_err(fault)?;
        let tags = unique_tags::<R>(&fields).map(|(_, tag)| tag).collect();
        fields.retain(|name, _| self.names().any(|field| field == name));
        let RowDigest { text: digest, bytes } = RowDigest::of(&fields);
        Ok(SourceRow { key, fields, tags, digest, bytes })
    }

    fn typed(&mut self, cells: &[Cell]) -> Result<R, String> {
        let mut forms = self.forms.clone();
        let mut fields = Fields::new();
        for (at, cell) in cells.iter().enumerate() {
            let Some(name) = self.fields.get(at).copied().flatten() else { continue };
            let Some(form) = forms.get_mut(at) else { continue };
            let value = cell.json(*form).or_else(|| {
                *form = Form::Own;
                cell.json(Form::Own)
            });
            match (value, cell) {
                (Some(value), _) => drop(fields.insert(name.to_owned(), value)),
                (None, Cell::Absent) => {}
                (None, _) => return Err(format!("{name}: {}", cell.problem())),
            }
        }
        if !self.key.is_empty() {
            fields.insert(R::KEY_FIELD.to_owned(), joined(&self.key, cells)?.into());
        }
        // The forms of each column that were tried, and the first fault.
        let (mut tried, mut first) = (BTreeMap::<usize, Vec<Form>>::new(), None);
        loop {
            let fault = match row_json::row::<R>(fields.clone()) {
                Ok(row) => {
                    self.forms = forms;
                    return Ok(row);
                }
                Err(fault) => fault,
            };
            let name = fault.field.split(['.', '[']).next().unwrap_or_default().to_owned();
            let reason = format!("{}: {}", fault.field, fault.problem);
            let reason = first.get_or_insert(reason).clone();
            let at = self.fields.iter().position(|field| *field == Some(name.as_str()));
            let Some((at, cell)) = at.and_then(|at| Some((at, cells.get(at)?))) else {
                return Err(reason);
            };
            let Some(current) = forms.get_mut(at) else { return Err(reason) };
            let tried = tried.entry(at).or_default();
            tried.push(*current);
            let is_new = |form: &Form| !tried.contains(form);
            let mut others = Form::ALL.into_iter().filter(is_new);
            let Some((form, value)) = others.find_map(|form| Some((form, cell.json(form)?))) else {
                return Err(reason);
            };
            *current = form;
            fields.insert(name, value);
        }
    }
}

/// The key that these columns are together: their texts with `/` in between, which is `%2F` inside
/// of a text.
pub(super) fn joined(columns: &[usize], cells: &[Cell]) -> Result<String, String> {
    let mut parts = Vec::with_capacity(columns.len());
    for at in columns {
        let text = match cells.get(*at) {
            Some(Cell::Text(text)) => Some(Value::from(text.as_str())),
            Some(cell) => cell.json(Form::Text).or_else(|| cell.json(Form::Own)),
            None => None,
        };
        let Some(Value::String(text)) = text else {
            return Err(format!("column {} of the key has no text", at + 1));
        };
        parts.push(text.replace('%', "%25").replace('/', "%2F"));
    }
    Ok(parts.join("/"))
}

/// The digest of a row. It is the same in whatever order the fields come.
pub(super) fn digest(fields: &Fields) -> String {
    RowDigest::of(fields).text
}

/// The digest of a row, and the bytes that it was made of.
pub(super) struct RowDigest {
    pub(super) text: String,
    pub(super) bytes: usize,
}

impl RowDigest {
    pub(super) fn of(fields: &Fields) -> RowDigest {
        let (mut hasher, mut bytes) = (blake3::Hasher::new(), 0);
        let mut names: Vec<_> = fields.iter().collect();
        names.sort_unstable_by_key(|(name, _)| *name);
        for (name, value) in names {
            let value: &Value = value;
            for part in [name.clone(), value.to_string()] {
                hasher.update(&(part.len() as u64).to_le_bytes());
                hasher.update(part.as_bytes());
                bytes += part.len();
            }
        }
        let mut text = hasher.finalize().to_hex().to_string();
        text.truncate(32);
        RowDigest { text, bytes }
    }
}
