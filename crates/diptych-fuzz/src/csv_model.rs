//! A model of an import of a CSV file: the rows that a log takes, and those that are refused.
//!
//! It is written from RFC 4180 and the documentation of `PlainRecord`, and shares no code with the
//! import.

use std::collections::HashSet;

use serde_json::{Map, Value};

/// Longer keys are refused.
const KEY_BYTES: usize = 256;

/// The options of an import.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CsvOptions {
    pub(crate) delimiter: u8,
    /// The text of a cell without a value.
    pub(crate) nulls: Option<&'static str>,
    /// The column whose cells stay texts.
    pub(crate) texts: Option<&'static str>,
    pub(crate) key: &'static str,
    pub(crate) unique: &'static str,
}

/// The table as a whole, if it can be imported.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ModelTable {
    /// Each row in order: its stored values, or the column for which the row is refused.
    Rows(Vec<Result<Map<String, Value>, &'static str>>),
    /// This row has other cells than the header has columns, or is no text.
    Unreadable(u64),
    /// The header is no text.
    UnreadableNames,
    /// The columns do not fit the record.
    Unfit,
}

impl ModelTable {
    pub(crate) fn of(bytes: &[u8], options: CsvOptions) -> ModelTable {
        let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
        let mut rows = records(bytes, options.delimiter).into_iter();
        let Some(header) = texts(&rows.next().unwrap_or_default()) else {
            return ModelTable::UnreadableNames;
        };
        let is_there = |name: &str| header.iter().any(|column| column == name);
        let different: HashSet<_> = header.iter().collect();
        let is_complete = is_there(options.key) && options.texts.is_none_or(is_there);
        if different.len() < header.len() || !is_complete {
            return ModelTable::Unfit;
        }
        let mut table = Vec::new();
        for (number, row) in (1..).zip(rows) {
            match texts(&row).filter(|cells| cells.len() == header.len()) {
                Some(cells) => table.push(cells),
                None => return ModelTable::Unreadable(number),
            }
        }
        let columns = (0..).zip(&header).map(|(at, name)| {
            let cells: Vec<_> = table.iter().map(|row: &Vec<String>| row[at].as_str()).collect();
            (name.as_str(), column(&cells, options.texts == Some(name), options.nulls))
        });
        let columns: Vec<_> = columns.collect();
        let row =
            |at: usize| columns.iter().map(move |(name, of)| ((*name).to_owned(), of[at].clone()));
        ModelTable::Rows(accepted((0..table.len()).map(|at| row(at).collect()), options))
    }
}

/// The rows that are stored. A refused row has its key, but no unique value.
fn accepted(
    rows: impl Iterator<Item = Map<String, Value>>,
    options: CsvOptions,
) -> Vec<Result<Map<String, Value>, &'static str>> {
    let (mut keys, mut taken) = (HashSet::new(), HashSet::new());
    let accept = |row: Map<String, Value>| {
        let key = match &row[options.key] {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            _ => return Err(options.key),
        };
        if key.is_empty() || key.len() > KEY_BYTES || !keys.insert(key) {
            return Err(options.key);
        }
        match row.get(options.unique) {
            None | Some(Value::Null) => Ok(row),
            Some(value) => match taken.insert(value.to_string()) {
                true => Ok(row),
                false => Err(options.unique),
            },
        }
    };
    rows.map(accept).collect()
}

/// The values of a column.
fn column(cells: &[&str], is_text: bool, nulls: Option<&str>) -> Vec<Value> {
    let is_null = |cell: &str| match nulls {
        Some(nulls) => cell == nulls,
        None => cell.is_empty() && !is_text,
    };
    let all = |of: fn(&str) -> bool| !is_text && cells.iter().all(|cell| is_null(cell) || of(cell));
    let (are_whole, are_numbers) = (all(is_whole), all(|cell| is_whole(cell) || is_float(cell)));
    let are_truths = all(|cell| cell == "true" || cell == "false");
    let value = |cell: &&str| match () {
        () if is_null(cell) => Value::Null,
        () if are_truths => Value::Bool(*cell == "true"),
        () if are_whole => Value::from(cell.parse::<i64>().unwrap()),
        () if are_numbers => Value::from(cell.parse::<f64>().unwrap()),
        () => Value::from(*cell),
    };
    cells.iter().map(value).collect()
}

/// Whether the text is a whole number that a float tells from its neighbours.
fn is_whole(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let is_plain = digits == "0" && text == digits
        || !digits.starts_with('0') && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_plain && digits.parse::<u64>().is_ok_and(|whole| whole <= 1 << 53)
}

/// Whether JSON has exactly this text for a float.
fn is_float(text: &str) -> bool {
    let float = text.parse::<f64>().ok().filter(|float| float.is_finite());
    let json = float.map(|float| Value::from(float).to_string());
    json.is_some_and(|json| json == text)
}

fn texts(cells: &[Vec<u8>]) -> Option<Vec<String>> {
    cells.iter().map(|cell| String::from_utf8(cell.clone()).ok()).collect()
}

/// The records of a file. A line without a character is none.
fn records(bytes: &[u8], delimiter: u8) -> Vec<Vec<Vec<u8>>> {
    let mut records = Vec::new();
    let mut rest = bytes;
    loop {
        while let Some(after) = rest.strip_prefix(b"\n").or_else(|| rest.strip_prefix(b"\r")) {
            rest = after;
        }
        if rest.is_empty() {
            return records;
        }
        let mut record = Vec::new();
        loop {
            let (cell, after) = cell(rest, delimiter);
            record.push(cell);
            match after.split_first() {
                Some((byte, behind)) if *byte == delimiter => rest = behind,
                _ => {
                    rest = after;
                    break;
                }
            }
        }
        records.push(record);
    }
}

/// A cell, and what is left from its end on. Quotes count only where a cell begins.
fn cell(bytes: &[u8], delimiter: u8) -> (Vec<u8>, &[u8]) {
    let (mut cell, mut rest) = (Vec::new(), bytes);
    if let Some(mut quoted) = bytes.strip_prefix(b"\"") {
        loop {
            let end = quoted.iter().position(|byte| *byte == b'"').unwrap_or(quoted.len());
            cell.extend_from_slice(&quoted[..end]);
            rest = quoted.get(end + 1..).unwrap_or(&[]);
            match rest.strip_prefix(b"\"") {
                Some(behind) => quoted = behind,
                None => break,
            }
            cell.push(b'"');
        }
    }
    let is_end = |byte: &u8| [delimiter, b'\n', b'\r'].contains(byte);
    let end = rest.iter().position(is_end).unwrap_or(rest.len());
    cell.extend_from_slice(&rest[..end]);
    (cell, &rest[end..])
}
