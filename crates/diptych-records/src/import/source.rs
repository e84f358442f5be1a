//! Tables of other systems, row by row.

use serde_json::{Number, Value};

use super::error::ImportError;

/// A value in a table of another system.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Cell {
    /// The row lacks the column, as an object of JSON may.
    Absent,
    /// `NULL`.
    Null,
    /// Nothing, in a file that does not tell `NULL` from an empty text: `NULL` if the field takes
    /// it, and an empty text otherwise.
    Blank,
    /// A whole number.
    Integer(i64),
    /// Any other number.
    Real(f64),
    /// A text. A field that is a number or a truth value reads it as one.
    Text(String),
    /// Bytes. A field with a text gets them in base64.
    Blob(Vec<u8>),
    /// A value in JSON.
    Json(Value),
    /// A value that JSON would lose, with the reason. Its row is refused.
    Unfit(String),
}

/// A table of another system. It is read from its first row on, each time.
pub trait RowSource: Send + 'static {
    /// The name of the other system, such as its file. It is part of the origin of each row, so it
    /// has to be the same for the next import.
    fn name(&self) -> &str;

    /// The name of the table.
    fn table(&self) -> &str;

    /// The names of its columns.
    fn columns(&self) -> &[String];

    /// Whether its cells have types. A CSV file has texts only.
    fn is_typed(&self) -> bool {
        true
    }

    /// The reason for which no value of this column can be read, with what to do. An import stops
    /// before its first row, unless it skips the column.
    fn unreadable(&self, column: &str) -> Option<String> {
        let _ = column;
        None
    }

    /// Calls the function with each row: a cell for each column. An error of the function ends it.
    ///
    /// # Errors
    /// [`ImportError`] if the table cannot be read, or from the function.
    fn read(
        &mut self,
        row: &mut dyn FnMut(&[Cell]) -> Result<(), ImportError>,
    ) -> Result<(), ImportError>;
}

impl RowSource for Box<dyn RowSource> {
    fn name(&self) -> &str {
        (**self).name()
    }

    fn table(&self) -> &str {
        (**self).table()
    }

    fn columns(&self) -> &[String] {
        (**self).columns()
    }

    fn is_typed(&self) -> bool {
        (**self).is_typed()
    }

    fn unreadable(&self, column: &str) -> Option<String> {
        (**self).unreadable(column)
    }

    fn read(
        &mut self,
        row: &mut dyn FnMut(&[Cell]) -> Result<(), ImportError>,
    ) -> Result<(), ImportError> {
        (**self).read(row)
    }
}

/// A way to write a cell in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// As it is in the table.
    Own,
    /// As a number.
    Number,
    /// As yes or no.
    Truth,
    /// As a text.
    Text,
    /// As a list or an object.
    Structure,
}

impl Form {
    pub(super) const ALL: [Form; 5] =
        [Form::Own, Form::Number, Form::Truth, Form::Text, Form::Structure];
}

impl Cell {
    /// Why the cell has no form in JSON.
    pub(super) fn problem(&self) -> String {
        match self {
            Cell::Unfit(reason) => reason.clone(),
            other => format!("{other:?} is no value of JSON"),
        }
    }

    /// The cell in this form, if it has one.
    pub(super) fn json(&self, form: Form) -> Option<Value> {
        match form {
            Form::Own => self.own(),
            Form::Number => match self {
                Cell::Text(text) | Cell::Json(Value::String(text)) => number(text),
                Cell::Real(real) => whole(*real).map(Value::from),
                _ => None,
            },
            Form::Truth => match self {
                Cell::Integer(0) => Some(Value::Bool(false)),
                Cell::Integer(1) => Some(Value::Bool(true)),
                Cell::Text(text) => truth(text).map(Value::Bool),
                _ => None,
            },
            Form::Text => match self {
                Cell::Blank => Some(Value::String(String::new())),
                Cell::Integer(whole) => Some(whole.to_string().into()),
                Cell::Real(real) => Some(real.to_string().into()),
                Cell::Json(Value::Number(number)) => Some(number.to_string().into()),
                _ => None,
            },
            Form::Structure => match self {
                Cell::Text(text) => serde_json::from_str(text)
                    .ok()
                    .filter(|value: &Value| value.is_array() || value.is_object()),
                Cell::Blob(bytes) => Some(bytes.iter().copied().collect()),
                _ => None,
            },
        }
    }

    fn own(&self) -> Option<Value> {
        use base64::{Engine, engine::general_purpose::STANDARD};
        match self {
            Cell::Absent | Cell::Unfit(_) => None,
            Cell::Null | Cell::Blank => Some(Value::Null),
            Cell::Integer(whole) => Some((*whole).into()),
            Cell::Real(real) => Number::from_f64(*real).map(Value::Number),
            Cell::Text(text) => Some(text.as_str().into()),
            Cell::Blob(bytes) => Some(STANDARD.encode(bytes).into()),
            Cell::Json(value) => Some(value.clone()),
        }
    }
}

fn number(text: &str) -> Option<Value> {
    if let Ok(whole) = text.parse::<i64>() {
        return Some(whole.into());
    }
    if let Ok(large) = text.parse::<u64>() {
        return Some(large.into());
    }
    let float = text.parse::<f64>().ok()?;
    Number::from_f64(float).map(Value::Number)
}

/// The whole number that this float is, if a float tells it from its neighbours.
fn whole(real: f64) -> Option<i64> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let is_exact = real.fract() == 0.0 && real.abs() <= EXACT;
    // The range is within that of the integer.
    is_exact.then_some(real as i64)
}

fn truth(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "t" | "yes" | "y" | "1" => Some(true),
        "false" | "f" | "no" | "n" | "0" => Some(false),
        _ => None,
    }
}
