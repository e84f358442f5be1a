//! The commands on rows.

use diptych::{Command, DecisionContext, Filter, Invalid, Position};
use serde::{Serialize, Serializer};

use crate::{
    fact::{RecordEvent, change},
    record::{Record, check_key, field},
    refusal::Refusal,
    row_json::{self, Fields, check_name, checked_fields, difference},
    state::{Holders, Row, unique_tags},
};

/// The state of every command: the row, and the rows with the same unique values.
type State<R> = (Row<R>, Holders<R>);

/// Creates a row.
#[derive(Clone, Debug, PartialEq)]
pub struct Create<R> {
    /// The row.
    pub row: R,
}

/// Puts this row in place of the one with its key.
#[derive(Clone, Debug, PartialEq)]
pub struct Replace<R> {
    /// The row.
    pub row: R,
    /// The revision that the row has to have; any if `None`.
    pub expected: Option<Position>,
}

/// Changes some fields of a row by a JSON merge patch (RFC 7396): `null` removes a value.
#[derive(Clone, Debug, PartialEq)]
pub struct Patch<R: Record> {
    /// The key of the row.
    pub key: R::Key,
    /// The fields to change.
    pub patch: Fields,
    /// The revision that the row has to have; any if `None`.
    pub expected: Option<Position>,
}

/// Deletes a row.
#[derive(Clone, Debug, PartialEq)]
pub struct Delete<R: Record> {
    /// The key of the row.
    pub key: R::Key,
    /// The revision that the row has to have; any if `None`.
    pub expected: Option<Position>,
}

impl<R: Record> Delete<R> {
    /// Deletes the row with this key.
    pub fn new(key: R::Key) -> Delete<R> {
        Delete { key, expected: None }
    }
}

/// The content of a command, by which a repeat under its key is recognised.
#[derive(Serialize)]
struct Content<T> {
    command: &'static str,
    record: &'static str,
    content: T,
    expected: Option<u64>,
}

impl<T: Serialize> Content<T> {
    fn of<R: Record>(command: &'static str, content: T, expected: Option<Position>) -> Content<T> {
        Content { command, record: R::NAME, content, expected: expected.map(Position::get) }
    }
}

impl<R: Record> Serialize for Create<R> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Content::of::<R>("create", &self.row, None).serialize(serializer)
    }
}

impl<R: Record> Serialize for Replace<R> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Content::of::<R>("replace", &self.row, self.expected).serialize(serializer)
    }
}

impl<R: Record> Serialize for Patch<R> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Content::of::<R>("patch", (&self.key, &self.patch), self.expected).serialize(serializer)
    }
}

impl<R: Record> Serialize for Delete<R> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Content::of::<R>("delete", &self.key, self.expected).serialize(serializer)
    }
}

impl<R: Record> Command for Create<R> {
    type State = State<R>;
    type Event = RecordEvent<R>;
    type Rejection = Refusal;

    fn boundary(&self) -> (Filter, Filter) {
        boundary_of(&self.row)
    }

    fn validate(&self) -> Result<(), Invalid> {
        check_key::<R>(&self.row.key())?;
        checked_fields(&self.row).map(drop)
    }

    fn decide(
        &self,
        (row, holders): (&Row<R>, &Holders<R>),
        _: &DecisionContext<'_>,
    ) -> Result<Vec<RecordEvent<R>>, Refusal> {
        if row.get().is_some() {
            return Err(Refusal::Exists { record: R::NAME, key: self.row.key().to_string() });
        }
        check_free(holders, &row_json::fields(&self.row)?, &self.row.key())?;
        Ok(vec![RecordEvent::Created(self.row.clone())])
    }
}

impl<R: Record> Command for Replace<R> {
    type State = State<R>;
    type Event = RecordEvent<R>;
    type Rejection = Refusal;

    fn boundary(&self) -> (Filter, Filter) {
        boundary_of(&self.row)
    }

    fn validate(&self) -> Result<(), Invalid> {
        check_key::<R>(&self.row.key())?;
        checked_fields(&self.row).map(drop)
    }

    fn decide(
        &self,
        (row, holders): (&Row<R>, &Holders<R>),
        _: &DecisionContext<'_>,
    ) -> Result<Vec<RecordEvent<R>>, Refusal> {
        let key = self.row.key();
        let before = row_json::fields(there(row, &key, self.expected)?)?;
        changed(holders, &key, &before, &row_json::fields(&self.row)?)
    }
}

impl<R: Record> Patch<R> {
    /// # Errors
    /// [`Invalid`] if a unique field gets another value than the patch has: the rule did not see
    /// the rows with that value.
    fn check_values(&self, before: &Fields, after: &Fields) -> Result<(), Invalid> {
        let known: Vec<_> = unique_tags::<R>(before).chain(unique_tags::<R>(&self.patch)).collect();
        match unique_tags::<R>(after).find(|tagged| !known.contains(tagged)) {
            None => Ok(()),
            Some((name, tag)) => {
                let problem = format!("is stored as {:?}: send it in this form", tag.value());
                Err(Invalid::new(name, problem))
            }
        }
    }
}

impl<R: Record> Command for Patch<R> {
    type State = State<R>;
    type Event = RecordEvent<R>;
    type Rejection = Refusal;

    fn boundary(&self) -> (Filter, Filter) {
        let tags = unique_tags::<R>(&self.patch).map(|(_, tag)| tag);
        (Row::<R>::filter(&self.key), Holders::<R>::filter(tags))
    }

    fn validate(&self) -> Result<(), Invalid> {
        check_key::<R>(&self.key)?;
        self.patch.keys().try_for_each(|name| check_name::<R>(name))?;
        // Otherwise the values of the fields inside it would decide which rows the rule sees.
        let is_nested = |name: &&String| {
            let is_unique = field::<R>(name).is_some_and(|field| field.unique.is_some());
            is_unique && self.patch.get(*name).is_some_and(|value| value.is_object())
        };
        match self.patch.keys().find(is_nested) {
            None => Ok(()),
            Some(name) => Err(Invalid::new(name, "is unique: give its whole value, no part of it")),
        }
    }

    fn decide(
        &self,
        (row, holders): (&Row<R>, &Holders<R>),
        _: &DecisionContext<'_>,
    ) -> Result<Vec<RecordEvent<R>>, Refusal> {
        let before = row_json::fields(there(row, &self.key, self.expected)?)?;
        let mut merged = before.clone();
        row_json::merge(&mut merged, &self.patch);
        let row: R = row_json::row(merged)?;
        if row.key() != self.key {
            return Err(other_key::<R>().into());
        }
        let after = checked_fields(&row)?;
        self.check_values(&before, &after)?;
        changed(holders, &self.key, &before, &after)
    }
}

impl<R: Record> Command for Delete<R> {
    type State = Row<R>;
    type Event = RecordEvent<R>;
    type Rejection = Refusal;

    fn boundary(&self) -> Filter {
        Row::<R>::filter(&self.key)
    }

    fn validate(&self) -> Result<(), Invalid> {
        check_key::<R>(&self.key)
    }

    fn decide(
        &self,
        row: &Row<R>,
        _: &DecisionContext<'_>,
    ) -> Result<Vec<RecordEvent<R>>, Refusal> {
        let old = row_json::fields(there(row, &self.key, self.expected)?)?;
        Ok(vec![RecordEvent::Deleted { key: self.key.clone(), old, origin: None }])
    }
}

/// The fault of a change to another key.
pub(crate) fn other_key<R: Record>() -> Invalid {
    Invalid::new(R::KEY_FIELD, "is the key, and stays: create another row instead")
}

/// The events of this row, and those about its unique values.
fn boundary_of<R: Record>(row: &R) -> (Filter, Filter) {
    // A row that is no JSON was refused by `validate`.
    let fields = row_json::fields(row).unwrap_or_default();
    let tags = unique_tags::<R>(&fields).map(|(_, tag)| tag);
    (Row::<R>::filter(&row.key()), Holders::<R>::filter(tags))
}

/// The row, which exists and has the expected revision.
fn there<'r, R: Record>(
    row: &'r Row<R>,
    key: &R::Key,
    expected: Option<Position>,
) -> Result<&'r R, Refusal> {
    let missing = || Refusal::Missing { record: R::NAME, key: key.to_string() };
    let there = row.get().ok_or_else(missing)?;
    match expected {
        Some(expected) if expected != row.revision() => {
            Err(Refusal::stale(R::NAME, key, expected, row.revision()))
        }
        _ => Ok(there),
    }
}

fn check_free<R: Record>(
    holders: &Holders<R>,
    fields: &Fields,
    key: &R::Key,
) -> Result<(), Refusal> {
    match holders.taken(fields, key) {
        None => Ok(()),
        Some(field) => Err(Refusal::Taken { record: R::NAME, field }),
    }
}

/// The change between these fields, if it is allowed.
fn changed<R: Record>(
    holders: &Holders<R>,
    key: &R::Key,
    before: &Fields,
    after: &Fields,
) -> Result<Vec<RecordEvent<R>>, Refusal> {
    for field in R::FIELDS {
        if let Some(command) = field.retired
            && before.get(field.name) != after.get(field.name)
        {
            return Err(Refusal::Retired { record: R::NAME, field: field.name, command });
        }
    }
    // The rule of a patch sees only the events about the values of the patch. What they say about
    // other values may be out of date.
    check_free(holders, &difference(before, after).1, key)?;
    Ok(change(key, before, after).into_iter().collect())
}
