//! The questions by which two versions of a projection are compared, and their answers.

use diptych::projection::SampleAnswer;
use rusqlite::{Connection, Row, Transaction, types::ValueRef};

use crate::{
    Projection,
    guard::{Guard, Rules, Savepoints},
};

/// The name of the answer of [`Projection::sample`].
const SAMPLE: &str = "`sample` of the projection";

/// The answers to all questions of the projection, from the tables that readers see now.
pub(crate) fn answers<P: Projection>(
    projection: &P,
    tx: &Transaction<'_>,
    guard: &Guard,
) -> Vec<SampleAnswer> {
    let mut answers = Vec::new();
    for question in projection.compared() {
        let mut rows = Vec::new();
        let asked = each_row(tx, guard, &question, |row| {
            rows.push(digest(&row));
            true
        });
        answers.push(SampleAnswer { question, rows: asked.map(|()| rows) });
    }
    let sample = sampled(projection, tx, guard);
    let rows = sample.map(|lines| lines.iter().map(|line| digest(line)).collect());
    answers.push(SampleAnswer { question: SAMPLE.to_owned(), rows });
    answers
}

/// A row of the answer to a question, as text.
pub(crate) fn row<P: Projection>(
    projection: &P,
    tx: &Transaction<'_>,
    guard: &Guard,
    question: usize,
    row: usize,
) -> Option<String> {
    let Some(question) = projection.compared().into_iter().nth(question) else {
        return sampled(projection, tx, guard).ok()?.into_iter().nth(row);
    };
    let (mut at, mut found) = (0, None);
    let asked = each_row(tx, guard, &question, |text| {
        if at == row {
            found = Some(text);
        }
        at += 1;
        at <= row
    });
    asked.ok().and(found)
}

fn sampled<P: Projection>(
    projection: &P,
    tx: &Transaction<'_>,
    guard: &Guard,
) -> Result<Vec<String>, String> {
    let ran = guard.during(reading(), || projection.sample(tx));
    // The guard would not check a cached statement again in `apply`.
    tx.flush_prepared_statement_cache();
    match ran.outcome {
        Ok(Ok(lines)) => Ok(lines),
        Ok(Err(error)) => Err(ran.refused.unwrap_or_else(|| error.to_string())),
        Err(panic) => Err(panic),
    }
}

/// Calls `with` for each row, as text, until it returns false.
fn each_row(
    connection: &Connection,
    guard: &Guard,
    question: &str,
    mut with: impl FnMut(String) -> bool,
) -> Result<(), String> {
    let ran = guard.during(reading(), || -> rusqlite::Result<()> {
        let mut ask = connection.prepare(question)?;
        let columns = ask.column_count();
        let mut rows = ask.query(())?;
        while let Some(row) = rows.next()? {
            if !with(text(row, columns)?) {
                break;
            }
        }
        Ok(())
    });
    match ran.outcome {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(ran.refused.unwrap_or_else(|| error.to_string())),
        Err(panic) => Err(panic),
    }
}

/// Questions write nothing.
fn reading() -> Rules {
    Rules::Write { own: std::sync::Arc::default(), savepoints: Savepoints::Refused }
}

/// The values of a row, in a form that differs for different values.
fn text(row: &Row<'_>, columns: usize) -> rusqlite::Result<String> {
    let mut values = Vec::with_capacity(columns);
    for column in 0..columns {
        values.push(match row.get_ref(column)? {
            ValueRef::Null => "NULL".to_owned(),
            ValueRef::Integer(value) => value.to_string(),
            ValueRef::Real(value) => format!("{value:?}"),
            ValueRef::Text(value) => format!("{:?}", String::from_utf8_lossy(value)),
            ValueRef::Blob(value) => {
                let digits = value.iter().map(|byte| format!("{byte:02x}"));
                format!("x'{}'", digits.collect::<String>())
            }
        });
    }
    Ok(format!("({})", values.join(", ")))
}

/// 128 bits of the digest of this text.
fn digest(text: &str) -> u128 {
    let digest = diptych::digest::digest(text).map(|digest| digest.to_bytes());
    let half = digest.ok().and_then(|bytes| bytes.first_chunk::<16>().copied());
    half.map_or(0, u128::from_le_bytes)
}
