//! The schema of a database: its versions, its logs, and the server that it is on.

use std::time::Duration;

use diptych_store::{Epoch, LogId, LogIdentity, Position};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::{
    failure::{Fault, server},
    session::Session,
};

/// The statements of each version, which make it from the version before.
const VERSIONS: [&str; 7] = [
    include_str!("sql/0001.sql"),
    include_str!("sql/0002.sql"),
    include_str!("sql/0003.sql"),
    include_str!("sql/0004.sql"),
    include_str!("sql/0005.sql"),
    include_str!("sql/0006.sql"),
    include_str!("sql/0007.sql"),
];

/// The first version with inline projections.
pub(crate) const WITH_INLINE: i32 = 2;
/// The first version with logs that move.
pub(crate) const WITH_MOVES: i32 = 3;
/// The first version that remembers takeovers.
pub(crate) const WITH_TAKEOVERS: i32 = 6;

/// The version that this program works with.
pub(crate) const NEWEST: i32 = VERSIONS.len() as i32;

/// The problem with a schema of this version, which is above the newest that is known.
pub(crate) fn too_new(found: i32) -> String {
    format!(
        "it has version {found}, and this program knows versions up to {NEWEST}: use a newer \
         program"
    )
}

/// The lock that one process holds while it changes the schema.
const LOCK: &str = "select pg_advisory_xact_lock(7239842318440297028)";

const NEW_SCHEMA: &str = "create schema if not exists diptych;
create table if not exists diptych.schema_version (
  version integer primary key,
  applied_at timestamptz not null default now()
);";

const HAS_VERSIONS: &str = "select to_regclass('diptych.schema_version') is not null as is_there";
const VERSION: &str = "select coalesce(max(version), 0) as version from diptych.schema_version";

/// The version of the schema, or 0 if there is none.
pub(crate) async fn version(session: &Session) -> Result<i32, Fault> {
    let there = session.query_one(HAS_VERSIONS, &[]).await?;
    if !there.is_some_and(|row| row.get("is_there")) {
        return Ok(0);
    }
    let row = session.query_one(VERSION, &[]).await?;
    Ok(row.map_or(0, |row| row.get("version")))
}

/// How long a migration waits for a lock at once, and the pause until it tries again. Every append
/// and read of a program that runs waits behind it.
const LOCK_WAIT: &str = "set local lock_timeout = '200ms'";
const LOCK_PAUSE: Duration = Duration::from_millis(300);

/// Brings the schema to the newest version, all or nothing. Processes that do so at once wait for
/// each other. Programs that run go on meanwhile, also while a dump or a long read holds a table:
/// then the migration tries again for this time.
pub(crate) async fn migrate(
    session: &Session,
    partition_events: u64,
    patience: Duration,
) -> Result<(), Fault> {
    let deadline = Instant::now() + patience;
    loop {
        session.execute("begin").await?;
        let migrated = migrate_within(session, partition_events).await;
        let end = if migrated.is_ok() { "commit" } else { "rollback" };
        let ended = session.execute(end).await;
        match migrated {
            Err(fault) if fault.is_of_held_lock() => {
                ended?;
                if Instant::now() >= deadline {
                    let what = format!(
                        "the schema cannot be changed: another session holds a table of it, as a \
                         dump or a long transaction does, for {} s (pg_stat_activity shows it): \
                         wait until it has ended, and migrate again",
                        patience.as_secs()
                    );
                    return Err(server(what).into());
                }
                sleep(LOCK_PAUSE).await;
            }
            migrated => return migrated.and(ended),
        }
    }
}

async fn migrate_within(session: &Session, partition_events: u64) -> Result<(), Fault> {
    session.execute(LOCK_WAIT).await?;
    session.execute(LOCK).await?;
    session.execute(NEW_SCHEMA).await?;
    let found = version(session).await?;
    let missing = VERSIONS.iter().zip(1_i32..).filter(|(_, number)| *number > found);
    for (statements, number) in missing {
        session.execute(statements).await?;
        let noted = format!("insert into diptych.schema_version (version) values ({number})");
        session.execute(&noted).await?;
    }
    if found == 0 {
        let setting =
            format!("insert into diptych.setting (partition_events) values ({partition_events})");
        session.execute(&setting).await?;
    }
    Ok(())
}

/// Settings of the server that matter for a log.
#[derive(Debug)]
pub(crate) struct ServerFacts {
    pub(crate) version: i32,
    encoding: String,
    settings: [(&'static str, String); 3],
}

const SERVER: &str = "select current_setting('server_version_num')::integer as version,
  current_setting('server_encoding') as encoding,
  current_setting('fsync') as fsync,
  current_setting('full_page_writes') as full_page_writes,
  current_setting('synchronous_commit') as synchronous_commit";

/// The oldest server that the statements run on.
const OLDEST: i32 = 140_000;

impl ServerFacts {
    pub(crate) async fn of(session: &Session) -> Result<Option<ServerFacts>, Fault> {
        let row = session.query_one(SERVER, &[]).await?;
        Ok(row.map(|row| ServerFacts {
            version: row.get("version"),
            encoding: row.get("encoding"),
            settings: ["fsync", "full_page_writes", "synchronous_commit"]
                .map(|name| (name, row.get(name))),
        }))
    }

    /// Why the server cannot hold a log.
    pub(crate) fn problem(&self, allow_unsafe_settings: bool) -> Option<String> {
        let ServerFacts { version, encoding, settings } = self;
        if *version < OLDEST {
            return Some(format!(
                "its server has version {}, and 14 is the oldest that works: upgrade it",
                version / 10_000
            ));
        }
        if encoding != "UTF8" {
            return Some(format!("its encoding is {encoding}: create it with the encoding UTF8"));
        }
        let off = settings.iter().find(|(_, value)| value == "off");
        let (name, _) = off.filter(|_| !allow_unsafe_settings)?;
        Some(format!(
            "{name} is off, so a crash loses commits that were acknowledged: turn it on, or set \
             `allow_unsafe_settings`"
        ))
    }
}

/// The server, as its control file and its log name it, and the database. Each is `None` where the
/// role may not ask, or where an older version did not note it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ServerName {
    pub(crate) system_id: Option<i64>,
    pub(crate) timeline: Option<i64>,
    pub(crate) database: Option<u32>,
}

const IN_RECOVERY: &str = "select pg_is_in_recovery() as is_replica";

/// Whether the server is a replica.
pub(crate) async fn is_replica(session: &Session) -> Result<bool, Fault> {
    let row = session.query_one(IN_RECOVERY, &[]).await?;
    Ok(row.is_some_and(|row| row.get("is_replica")))
}

const SYSTEM: &str = "select system_identifier from pg_control_system()";
const DATABASE: &str = "select oid from pg_database where datname = current_database()";
const TIMELINE: &str =
    "select substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8) as timeline";

impl ServerName {
    pub(crate) async fn of(session: &Session) -> Result<ServerName, Fault> {
        let told = |answer| match answer {
            Ok(row) => Ok(row),
            Err(Fault::Statement(_)) => Ok(None),
            Err(fault) => Err(fault),
        };
        let system: Option<tokio_postgres::Row> = told(session.query_one(SYSTEM, &[]).await)?;
        let timeline = told(session.query_one(TIMELINE, &[]).await)?;
        let database = session.query_one(DATABASE, &[]).await?;
        let number = |text: String| i64::from_str_radix(&text, 16).ok();
        Ok(ServerName {
            system_id: system.map(|row| row.get("system_identifier")),
            timeline: timeline.and_then(|row| number(row.get("timeline"))),
            database: database.map(|row| row.get("oid")),
        })
    }

    /// Whether it is another database, of another cluster or of the same one, as far as both names
    /// tell.
    pub(crate) fn is_elsewhere(&self, was: &ServerName) -> bool {
        differ(self.system_id, was.system_id) || differ(self.database, was.database)
    }

    /// Whether it is another database, or another timeline of it, as far as both names tell.
    pub(crate) fn differs(&self, was: &ServerName) -> bool {
        self.is_elsewhere(was) || differ(self.timeline, was.timeline)
    }
}

fn differ<T: PartialEq>(is: Option<T>, was: Option<T>) -> bool {
    is.zip(was).is_some_and(|(is, was)| is != was)
}

/// The row of a log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LogRow {
    pub(crate) id: i16,
    pub(crate) identity: LogIdentity,
    pub(crate) head: Position,
    pub(crate) server: ServerName,
}

const LOG: &str = "select id, uuid, epoch, head, system_id, timeline,
    (to_jsonb(l) ->> 'database_id')::oid as database_id
  from diptych.log l where name = $1";
const NEW_LOG: &str =
    "insert into diptych.log (name, uuid, epoch, system_id, timeline, database_id, moving_from)
  values ($1, $2, $3, $4, $5, $6, $7) on conflict (name) do nothing";

/// The log that an open makes if the database has none of its name.
#[derive(Clone, Debug)]
pub(crate) enum NewLog {
    /// None is made.
    None,
    /// A log of its own.
    Own,
    /// The target of a move from this place.
    Arriving { identity: LogIdentity, from: String },
}

impl LogRow {
    /// The log of this name.
    pub(crate) async fn of(session: &Session, name: &str) -> Result<Option<LogRow>, Fault> {
        let row = session.query_one(LOG, &[&name]).await?;
        Ok(row.map(|row| {
            let (uuid, epoch): (Uuid, i64) = (row.get("uuid"), row.get("epoch"));
            LogRow {
                id: row.get("id"),
                identity: LogIdentity {
                    id: LogId::from_bytes(uuid.into_bytes()),
                    epoch: epoch_of(epoch),
                },
                head: position_of(row.get("head")),
                server: ServerName {
                    system_id: row.get("system_id"),
                    timeline: row.get("timeline"),
                    database: row.get("database_id"),
                },
            }
        }))
    }

    /// Makes this log under the name, unless there is one.
    pub(crate) async fn make(
        session: &Session,
        name: &str,
        server: ServerName,
        new: &NewLog,
    ) -> Result<(), Fault> {
        let (LogIdentity { id, epoch }, from) = match new {
            NewLog::None => return Ok(()),
            NewLog::Own => (LogIdentity::random(), None),
            NewLog::Arriving { identity, from } => (*identity, Some(from)),
        };
        let (uuid, epoch) = (Uuid::from_bytes(id.to_bytes()), epoch.to_u64().cast_signed());
        let ServerName { system_id, timeline, database } = server;
        session
            .query(NEW_LOG, &[&name, &uuid, &epoch, &system_id, &timeline, &database, &from])
            .await?;
        Ok(())
    }
}

/// An epoch as the database has it.
pub(crate) fn epoch_of(stored: i64) -> Epoch {
    Epoch::from_u64(stored.cast_unsigned())
}

/// A position as the database has it. It has none below 0.
pub(crate) fn position_of(stored: i64) -> Position {
    Position::new(stored.max(0).cast_unsigned())
}

/// The position for a statement. No log reaches the numbers that it cuts off.
pub(crate) fn stored_position(position: Position) -> i64 {
    i64::try_from(position.get()).unwrap_or(i64::MAX)
}

const PARTITION_EVENTS: &str = "select partition_events from diptych.setting";
const ADD_PARTITION: &str = "select diptych.add_partition($1)";
const HAS_PARTITION: &str =
    "select to_regclass('diptych.tag_p' || $1::bigint) is not null as is_there";

/// Positions of one partition.
pub(crate) async fn partition_events(session: &Session) -> Result<i64, Fault> {
    let row = session.query_one(PARTITION_EVENTS, &[]).await?;
    Ok(row.map_or(i64::MAX, |row| row.get("partition_events")))
}

/// Makes the partitions of these positions, as far as they are missing.
pub(crate) async fn add_partitions(
    session: &Session,
    size: i64,
    from: Position,
    upto: Position,
) -> Result<(), Fault> {
    let number = |position| stored_position(position) / size.max(1);
    for number in number(from)..=number(upto) {
        let there = session.query_one(HAS_PARTITION, &[&number]).await?;
        if !there.is_some_and(|row| row.get("is_there")) {
            session.query(ADD_PARTITION, &[&number]).await?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(version: i32, encoding: &str) -> ServerFacts {
        let settings = ["fsync", "full_page_writes", "synchronous_commit"];
        let settings = settings.map(|name| (name, "on".to_owned()));
        ServerFacts { version, encoding: encoding.to_owned(), settings }
    }

    #[test]
    fn a_server_before_version_14_and_another_encoding_are_refused() {
        assert_eq!(facts(140_000, "UTF8").problem(false), None);
        let old = facts(130_021, "UTF8").problem(true).unwrap();
        assert!(old.contains("version 13") && old.contains("14 is the oldest"), "{old}");
        for encoding in ["LATIN1", "SQL_ASCII"] {
            let other = facts(180_004, encoding).problem(true).unwrap();
            assert!(other.contains(&format!("its encoding is {encoding}")), "{other}");
            assert!(other.contains("with the encoding UTF8"), "{other}");
        }
    }

    #[test]
    fn each_setting_that_loses_commits_is_refused_unless_it_is_allowed() {
        for place in 0..3 {
            let mut facts = facts(140_000, "UTF8");
            facts.settings[place].1 = "off".to_owned();
            let problem = facts.problem(false).unwrap();
            assert!(problem.contains(facts.settings[place].0), "{problem}");
            assert_eq!(facts.problem(true), None);
        }
    }
}
