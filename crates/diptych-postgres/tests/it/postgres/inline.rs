//! A store that writes rows in the transaction of each append, as an author of projections sees it.

use std::sync::Arc;

use diptych_postgres::{
    InlineRows, PostgresOptions, PostgresStore, RowsBatch, RowsError, RowsStart, StoreBuilder,
};
use diptych_store::{Append, AppendError, Filter, LogIdentity, Position, Refusal, Store};
use pollster::block_on;
use tokio_postgres::Client;

use super::{
    append, event, payloads,
    proxy::Proxy,
    server::{PostgresServer, runtime},
};

/// Each event in a row of a schema. A payload that begins with `refused-` is refused.
pub(super) struct Lines {
    pub(super) schema: String,
}

impl Lines {
    fn sql(&self, sql: &str) -> String {
        sql.replace("SCHEMA", &format!("\"{}\"", self.schema))
    }
}

const TABLES: &str = "create schema if not exists SCHEMA;
    create table if not exists SCHEMA.line (
      pos bigint primary key, payload text not null check (payload not like 'refused-%'));
    create table if not exists SCHEMA.reached (pos bigint not null);
    insert into SCHEMA.reached select 0 where not exists (select from SCHEMA.reached)";

fn failed(error: tokio_postgres::Error) -> RowsError {
    let reason = error.to_string();
    match error.as_db_error() {
        Some(told) => RowsError::Refused { reason: told.message().to_owned() },
        None => RowsError::Passing { reason },
    }
}

impl InlineRows for Lines {
    fn name(&self) -> String {
        format!("{}.lines", self.schema)
    }

    fn version(&self) -> u32 {
        1
    }

    fn begin(&mut self, client: &Arc<Client>, log: LogIdentity) -> Result<RowsStart, RowsError> {
        let reached = block_on(async {
            client.batch_execute(&self.sql(TABLES)).await?;
            client.query_one(&self.sql("select pos from SCHEMA.reached"), &[]).await
        });
        let reached: i64 = reached.map_err(failed)?.get(0);
        let reached = (log, Position::new(reached.cast_unsigned()), None);
        Ok(RowsStart { filter: Filter::everything(), reached: Some(reached) })
    }

    fn write(&mut self, client: &Arc<Client>, batch: &RowsBatch) -> Result<(), RowsError> {
        let number = |position: Position| position.get().cast_signed();
        let written = block_on(async {
            let (after, upto) = (number(batch.after), number(batch.upto));
            let sql = self.sql("update SCHEMA.reached set pos = $2 where pos = $1");
            if client.execute(&sql, &[&after, &upto]).await? != 1 {
                return Ok(false);
            }
            let sql = self.sql("insert into SCHEMA.line values ($1, $2)");
            for event in batch.events.iter() {
                // The server has no NUL in a text.
                let payload = String::from_utf8_lossy(event.payload()).replace('\0', "0");
                let row: &[&(dyn tokio_postgres::types::ToSql + Sync)] =
                    &[&number(event.position()), &payload];
                client.execute(&sql, row).await?;
            }
            Ok(true)
        });
        match written.map_err(failed)? {
            true => Ok(()),
            false => Err(RowsError::Moved { expected: batch.after }),
        }
    }
}

fn open(address: &str) -> PostgresStore {
    let builder = StoreBuilder::new(address, PostgresOptions::default());
    block_on(builder.inline(Lines { schema: "public".to_owned() }).open()).unwrap()
}

/// The rows are those of the log.
pub(super) fn assert_in_step(server: &PostgresServer, store: &Store) {
    let rows = runtime().block_on(async {
        let client = server.client("postgres").await;
        let lines = client.query("select pos, payload from public.line order by pos", &[]);
        lines.await.unwrap()
    });
    let found: Vec<(i64, String)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    let expected: Vec<_> = (1..).zip(payloads(store)).collect();
    assert_eq!(found, expected);
}

#[test]
fn a_connection_that_is_lost_at_any_message_writes_rows_once() {
    let Some(server) = PostgresServer::start() else { return };
    let proxy = Proxy::start(server.port());
    let address = server.address_at(proxy.port(), "postgres", "main");
    let store = Store::new(open(&address));
    let mut accepted = 0;
    for number in 0..24_u64 {
        // The connections are cut before this message of the server arrives.
        proxy.cut_after(number % 12);
        append(&store, Append::event(event(number, "k:1"))).unwrap();
        accepted += 1;
        proxy.cut_after(number);
        // Each is decided again by itself, and refused.
        let refused = append(&store, Append::event(event(format!("refused-{number}"), "k:1")));
        let Err(AppendError::Refused(Refusal::Rows { projection, reason })) = refused else {
            panic!("{refused:?}")
        };
        assert_eq!(projection, "public.lines");
        assert!(reason.contains("line_payload_check"), "{reason}");
        assert_eq!(block_on(store.fresh_head()).unwrap().get(), accepted);
    }
    assert!(proxy.cuts() > 24, "{} connections were cut", proxy.cuts());
    assert_in_step(&server, &store);
}

/// Once, any warning of the server counted as that of a standby, which has the same code.
#[test]
fn a_warning_of_a_trigger_is_no_unknown_outcome() {
    let Some(server) = PostgresServer::start() else { return };
    let store = Store::new(open(&server.address("postgres", "main")));
    append(&store, Append::event(event(0, "k:1"))).unwrap();
    server.execute(
        "postgres",
        "create function public.warn() returns trigger language plpgsql as $$
         begin raise warning 'a line'; return new; end $$;
         create trigger warns before insert on public.line
         for each row execute function public.warn()",
    );
    append(&store, Append::event(event(1, "k:1"))).unwrap();
    // Its neighbours are decided one by one.
    let refused = append(&store, Append::event(event("refused-2", "k:1")));
    assert!(matches!(refused, Err(AppendError::Refused(Refusal::Rows { .. }))), "{refused:?}");
    append(&store, Append::event(event(2, "k:1"))).unwrap();
    assert_in_step(&server, &store);
}

#[test]
fn rows_that_were_changed_by_others_stop_appends_until_they_are_mended() {
    let Some(server) = PostgresServer::start() else { return };
    let store = Store::new(open(&server.address("postgres", "main")));
    append(&store, Append::event(event(0, "k:1"))).unwrap();
    server.execute("postgres", "update public.reached set pos = 7");
    let error = append(&store, Append::event(event(1, "k:1"))).unwrap_err();
    assert!(matches!(error, AppendError::Unavailable(_)), "{error:?}");
    assert!(error.to_string().contains("public.lines"), "{error}");
    assert_eq!(block_on(store.fresh_head()).unwrap().get(), 1);
    server.execute("postgres", "update public.reached set pos = 1");
    append(&store, Append::event(event(1, "k:1"))).unwrap();
    assert_in_step(&server, &store);
}

#[test]
fn a_program_of_the_schema_before_is_refused_once_the_log_has_an_inline_projection() {
    let Some(server) = PostgresServer::start() else { return };
    // Its store was opened before the schema had this version, and says nothing about rows.
    let old = Store::new(server.open("main"));
    append(&old, Append::event(event(0, "k:1"))).unwrap();
    let other = Store::new(server.open("other"));
    let store = Store::new(open(&server.address("postgres", "main")));
    let error = append(&old, Append::event(event(1, "k:1"))).unwrap_err();
    let words = "each append to the log writes the rows of public.lines@1";
    assert!(error.to_string().contains(words), "{error}");
    append(&store, Append::event(event(2, "k:1"))).unwrap();
    // Other logs of the database have none.
    append(&other, Append::event(event(3, "k:1"))).unwrap();
    assert_eq!(payloads(&store), ["0", "2"]);
    assert_in_step(&server, &store);
}
