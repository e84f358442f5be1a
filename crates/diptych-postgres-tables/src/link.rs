//! A connection to the database. The driver works on a thread of its own, and callers wait for it.

use std::{
    collections::HashMap,
    future::Future,
    pin::pin,
    sync::{Arc, OnceLock},
    time::Duration,
};

use bytes::Bytes;
use diptych::projection::{CheckedSchema, TargetError};
use diptych_postgres::DatabaseConnection;
use futures_util::{SinkExt, future::try_join};
use tokio::{
    runtime::{Builder, Runtime},
    time::timeout,
};
use tokio_postgres::{Client, Row, Statement, types::ToSql};

use crate::{
    Postgres,
    trouble::{StatementError, of_opening, of_place},
};

/// A value of a statement.
pub(crate) type Value<'a> = &'a (dyn ToSql + Sync);

/// The most prepared statements that a connection keeps.
const CACHED_STATEMENTS: usize = 256;

/// Statements that a connection has prepared.
pub(crate) type PreparedStatements = HashMap<Box<str>, Statement>;

pub(crate) struct Link {
    runtime: &'static Runtime,
    client: Arc<Client>,
    statements: PreparedStatements,
    answer_time: Duration,
    /// The result of the last check of the tables; `None` before the first check.
    pub(crate) checked: Option<CheckedSchema>,
    /// A statement failed, so the server commits nothing of the transaction.
    pub(crate) has_failed: bool,
}

/// The thread of all connections of the program.
fn runtime() -> Result<&'static Runtime, TargetError> {
    static RUNTIME: OnceLock<Result<Runtime, String>> = OnceLock::new();
    let made = RUNTIME.get_or_init(|| {
        let mut builder = Builder::new_multi_thread();
        builder.worker_threads(1).thread_name("diptych-tables").enable_all();
        builder.build().map_err(|error| error.to_string())
    });
    made.as_ref().map_err(|reason| {
        TargetError::unavailable("starting the thread of the connections", reason.clone())
    })
}

impl Link {
    pub(crate) fn open(place: &Postgres) -> Result<(Link, String), TargetError> {
        let runtime = runtime()?;
        let (address, within) = (place.address.clone(), place.connect_time);
        let opening =
            runtime.spawn(async move { diptych_postgres::connect(&address, within).await });
        let opened = pollster::block_on(opening)
            .map_err(|error| TargetError::unavailable("connecting", error))?;
        let DatabaseConnection { client, place: name } = opened.map_err(of_opening)?;
        let statements = PreparedStatements::new();
        let mut link = Link::over(&Arc::new(client), place.answer_time, statements)?;
        let settings = format!(
            "set search_path = {}; set client_min_messages = warning; set lock_timeout = {}; \
             set statement_timeout = {}; set idle_in_transaction_session_timeout = {}; \
             set timezone = 'UTC'; set datestyle = 'ISO'",
            quoted(&place.schema),
            place.lock_time.as_millis().max(1),
            place.answer_time.as_millis().max(1),
            place.answer_time.as_millis().max(1),
        );
        link.batch(&settings)
            .map_err(|error| of_place(&name, "preparing the connection", error))?;
        Ok((link, name))
    }

    /// Works on the connection of this client, which others use between two transactions.
    pub(crate) fn over(
        client: &Arc<Client>,
        answer_time: Duration,
        statements: PreparedStatements,
    ) -> Result<Link, TargetError> {
        let (runtime, client) = (runtime()?, client.clone());
        let (checked, has_failed) = (None, false);
        Ok(Link { runtime, client, statements, answer_time, checked, has_failed })
    }

    /// Gives the connection back. The statements stay prepared on it.
    pub(crate) fn into_statements(self) -> PreparedStatements {
        self.statements
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    fn wait<T>(
        &self,
        work: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, StatementError> {
        let _inside = self.runtime.enter();
        match pollster::block_on(timeout(self.answer_time, work)) {
            Ok(done) => Ok(done?),
            Err(_) => Err(StatementError::Late(self.answer_time)),
        }
    }

    fn noted<T>(&mut self, done: Result<T, StatementError>) -> Result<T, StatementError> {
        self.has_failed |= done.is_err();
        done
    }

    pub(crate) fn prepared(&mut self, sql: &str) -> Result<Statement, StatementError> {
        if let Some(known) = self.statements.get(sql) {
            return Ok(known.clone());
        }
        let prepared = self.wait(self.client.prepare(sql));
        let prepared = self.noted(prepared)?;
        if self.statements.len() >= CACHED_STATEMENTS {
            self.statements.clear();
        }
        self.statements.insert(sql.into(), prepared.clone());
        Ok(prepared)
    }

    pub(crate) fn query(
        &mut self,
        sql: &str,
        values: &[Value<'_>],
    ) -> Result<Vec<Row>, StatementError> {
        let statement = self.prepared(sql)?;
        let done = self.wait(self.client.query(&statement, values));
        self.noted(done)
    }

    pub(crate) fn first(
        &mut self,
        sql: &str,
        values: &[Value<'_>],
    ) -> Result<Option<Row>, StatementError> {
        Ok(self.query(sql, values)?.into_iter().next())
    }

    pub(crate) fn execute(
        &mut self,
        sql: &str,
        values: &[Value<'_>],
    ) -> Result<u64, StatementError> {
        let statement = self.prepared(sql)?;
        let done = self.wait(self.client.execute(&statement, values));
        self.noted(done)
    }

    /// Executes settings and a statement that does not depend on them, in one round trip.
    pub(crate) fn execute_after(
        &mut self,
        settings: &str,
        sql: &str,
        values: &[Value<'_>],
    ) -> Result<u64, StatementError> {
        let statement = self.prepared(sql)?;
        let set = self.client.batch_execute(settings);
        let done = self.wait(try_join(set, self.client.execute(&statement, values)));
        Ok(self.noted(done)?.1)
    }

    /// Executes one statement that is not kept.
    pub(crate) fn execute_once(&mut self, sql: &str) -> Result<u64, StatementError> {
        let done = self.wait(self.client.execute(sql, &[]));
        self.noted(done)
    }

    /// Executes statements without values.
    pub(crate) fn batch(&mut self, sql: &str) -> Result<(), StatementError> {
        let done = self.wait(self.client.batch_execute(sql));
        self.noted(done)
    }

    /// Sends rows by a `COPY` statement.
    pub(crate) fn copy(&mut self, sql: &str, rows: Bytes) -> Result<u64, StatementError> {
        let statement = self.prepared(sql)?;
        let done = self.wait(async {
            let mut sink = pin!(self.client.copy_in::<_, Bytes>(&statement).await?);
            sink.send(rows).await?;
            sink.finish().await
        });
        self.noted(done)
    }

    pub(crate) fn begin(&mut self) -> Result<(), StatementError> {
        self.has_failed = false;
        self.batch("begin isolation level read committed read write")
    }

    /// Begins a transaction for which programs that write the same projection wait for each other.
    pub(crate) fn begin_alone(&mut self, projection: &str) -> Result<(), StatementError> {
        self.has_failed = false;
        let name = literal(projection);
        self.batch(&format!(
            "begin isolation level read committed read write;
            select pg_advisory_xact_lock(hashtextextended(
                'diptych projection ' || current_setting('search_path') || ' ' || {name}, 0))"
        ))
    }

    /// Rolls back. Plans that were made in the transaction may be those of tables that are gone.
    pub(crate) fn roll_back(&mut self) -> Result<(), StatementError> {
        self.statements.clear();
        self.batch("rollback")?;
        self.has_failed = false;
        Ok(())
    }

    /// Forgets the plans, after the schema was changed.
    pub(crate) fn forget_plans(&mut self) {
        self.statements.clear();
    }
}

/// A name as SQL has it.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text as SQL has it.
pub(crate) fn literal(text: &str) -> String {
    format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_texts_cannot_end_early() {
        assert_eq!(quoted("a\"b"), "\"a\"\"b\"");
        assert_eq!(literal("a'b\\'c"), "E'a''b\\\\''c'");
    }
}
