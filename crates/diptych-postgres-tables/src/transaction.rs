//! The transaction that a projection writes in.

use tokio_postgres::Row;

use crate::{
    link::{Link, Value},
    rows::RowBuffers,
    trouble::StatementError,
};

/// The statements by which a projection may begin.
const STATEMENTS: [&str; 7] = ["select", "insert", "update", "delete", "with", "merge", "values"];
/// The statements by which `create` may begin.
const CREATING: [&str; 5] = ["create", "alter", "comment", "insert", "grant"];

/// The transaction of a batch of events.
///
/// Values are parameters `$1`, `$2` and so on. Statements stay prepared, so give the same text each
/// time.
pub struct Transaction<'a> {
    link: &'a mut Link,
    rows: &'a mut RowBuffers,
}

impl std::fmt::Debug for Transaction<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Transaction")
    }
}

impl<'a> Transaction<'a> {
    pub(crate) fn new(link: &'a mut Link, rows: &'a mut RowBuffers) -> Transaction<'a> {
        Transaction { link, rows }
    }

    /// Executes a statement, and returns the number of rows that it changed.
    ///
    /// # Errors
    /// [`StatementError`]. Return it from `apply`: nothing of the transaction can be committed
    /// after it.
    pub fn execute(&mut self, sql: &str, values: &[Value<'_>]) -> Result<u64, StatementError> {
        may_execute(sql)?;
        self.rows.flush(self.link)?;
        self.link.execute(sql, values)
    }

    /// Executes a statement, and returns its rows.
    ///
    /// # Errors
    /// As [`execute`](Transaction::execute).
    pub fn query(&mut self, sql: &str, values: &[Value<'_>]) -> Result<Vec<Row>, StatementError> {
        may_execute(sql)?;
        self.rows.flush(self.link)?;
        self.link.query(sql, values)
    }

    /// Gives a new row of a table, with a value for each of these columns.
    ///
    /// Rows wait until the next statement of this transaction, or the end of the batch. Then one
    /// `COPY` for each table sends them. So a rebuild costs little more than the rows alone. Tables
    /// get their rows in the order in which they were named first: name a table before those that
    /// refer to it.
    ///
    /// # Errors
    /// [`StatementError`], also for rows that were given before.
    pub fn insert(
        &mut self,
        table: &str,
        columns: &[&str],
        values: &[Value<'_>],
    ) -> Result<(), StatementError> {
        self.rows.add(self.link, table, columns, values)
    }
}

/// Refuses statements that end the transaction, or whose effect outlasts it.
fn may_execute(sql: &str) -> Result<(), StatementError> {
    let word = first_word(sql);
    if STATEMENTS.contains(&word.as_str()) {
        return Ok(());
    }
    let reason = format!(
        "a projection must not execute {word:?} in `apply`: it reads and writes rows, its tables \
         are made in `create`, and the transaction ends after it"
    );
    Err(StatementError::Refused { reason })
}

/// Refuses statements in `create` that make no tables.
pub(crate) fn may_create(sql: &str) -> Result<(), StatementError> {
    let mut words = sql.split_whitespace().map(str::to_ascii_lowercase);
    let first = first_word(sql);
    let second = words.nth(1).unwrap_or_default();
    let objects = ["table", "view", "materialized", "index", "unique", "sequence"];
    let problem = match first.as_str() {
        "create" if second == "unlogged" => {
            "an unlogged table is empty after a crash of the server, and its checkpoint is not: \
             leave out UNLOGGED"
        }
        "create" if !objects.contains(&second.as_str()) => {
            "`create` of a projection makes tables, views, materialized views, indexes and \
             sequences: make other objects outside of it"
        }
        word if CREATING.contains(&word) => return Ok(()),
        _ => "`create` of a projection makes tables: write its rows in `apply`",
    };
    Err(StatementError::Refused { reason: format!("{problem} (it has {first} {second})") })
}

/// The first word of a statement, in lower case, after comments.
fn first_word(sql: &str) -> String {
    let mut rest = sql.trim_start();
    loop {
        let after = match (rest.strip_prefix("--"), rest.strip_prefix("/*")) {
            (Some(line), _) => line.split_once('\n').map(|(_, after)| after),
            (_, Some(block)) => block.split_once("*/").map(|(_, after)| after),
            (None, None) => break,
        };
        rest = after.unwrap_or_default().trim_start();
    }
    let word = rest.split(|letter: char| !letter.is_ascii_alphabetic()).next();
    word.unwrap_or_default().to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_statements_about_rows_may_be_executed() {
        for sql in ["select 1", "  -- a word\nINSERT INTO a VALUES (1)", "/* x */ with a as (b) c"]
        {
            may_execute(sql).unwrap();
        }
        for sql in ["commit", "-- select\nrollback", "set role a", "create table a ()", "", "/*"] {
            assert!(may_execute(sql).is_err(), "{sql}");
        }
    }

    #[test]
    fn create_makes_durable_tables() {
        for sql in
            ["create table a ()", "CREATE UNIQUE INDEX b ON a (c)", "comment on table a is ''"]
        {
            may_create(sql).unwrap();
        }
        for sql in
            ["create unlogged table a ()", "create temp table a ()", "commit", "drop table a"]
        {
            assert!(may_create(sql).is_err(), "{sql}");
        }
    }
}
