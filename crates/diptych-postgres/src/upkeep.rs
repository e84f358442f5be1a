//! The work of an operator on a database: to check it, and to bring its schema up to date.

use diptych_store::{LogIdentity, Position, Unavailable};
use uuid::Uuid;

use crate::{
    address::DatabaseAddress,
    error::OpenError,
    failure::Fault,
    link::{self, Opening},
    options::PostgresOptions,
    schema::{self, LogRow, ServerFacts, ServerName},
    session::Session,
    store::StoreThread,
    takeover,
};

/// A database with a log, as its operator sees it.
#[derive(Clone, Debug)]
pub struct PostgresDatabase {
    address: DatabaseAddress,
    options: PostgresOptions,
}

/// The state of a database and of one log in it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DatabaseReport {
    /// The version of the server, as it writes it, such as `15.4`.
    pub server: String,
    /// The version of the schema, or 0 if there is none.
    pub schema: i32,
    /// The version that this program works with.
    pub newest_schema: i32,
    /// The name of the log that the address or the options name.
    pub log_name: String,
    /// The log, if the database has it.
    pub log: Option<LogReport>,
    /// The inline projections of the log, each as its name, an `@`, and its version. Appends are
    /// refused from programs that do not write them.
    pub inline: Vec<String>,
    /// The number of partitions of the events, which all logs of the database share.
    pub partitions: u64,
    /// The last position for which there is a partition. `None` if there is no partition.
    pub partitions_upto: Option<Position>,
    /// Why no store can work on the log. Empty if one can.
    pub problems: Vec<String>,
    /// Settings that weaken the promise, and other facts that an operator should know.
    pub warnings: Vec<String>,
}

/// The state of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogReport {
    /// The identity of the log.
    pub identity: LogIdentity,
    /// Its last position.
    pub head: Position,
}

/// The versions of a schema before and after [`PostgresDatabase::migrate`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SchemaMigration {
    /// The version that was found.
    pub was: i32,
    /// The version that the schema has now.
    pub is: i32,
}

impl PostgresDatabase {
    /// The database at an address such as `postgres://ann@localhost/shop?log=orders`.
    ///
    /// # Errors
    /// [`OpenError::Address`] if the address has another form.
    pub fn at(address: &str, options: PostgresOptions) -> Result<PostgresDatabase, OpenError> {
        let address = DatabaseAddress::parse(address)?;
        Ok(PostgresDatabase { address, options: options.within_bounds() })
    }

    /// The address of the log with servers, ports, database and log, without user and secrets, as
    /// the other end of a move notes it.
    pub fn bare_address(&self) -> String {
        self.address.bare(&self.options)
    }

    /// Looks at the server, the schema and the log, and changes nothing.
    ///
    /// # Errors
    /// [`OpenError`] if the server does not answer.
    pub async fn check(&self) -> Result<DatabaseReport, OpenError> {
        self.on_thread(|database, session| async move {
            database.report(&session).await.map_err(|fault| database.failed(fault))
        })
        .await
    }

    /// Brings a schema that is there to the newest version, all or nothing. Stores go on meanwhile,
    /// also while a dump or a long transaction holds a table: then the migration tries again until
    /// [`answer_time`](PostgresOptions::answer_time) is over.
    ///
    /// # Errors
    /// [`OpenError`] if the server does not answer, if the schema is missing or too new, or if
    /// another session holds a table for too long.
    pub async fn migrate(&self) -> Result<SchemaMigration, OpenError> {
        self.on_thread(|database, session| async move {
            let failed = |fault| database.failed(fault);
            if schema::is_replica(&session).await.map_err(failed)? {
                let place = database.address.place();
                let problem = "its server is a replica: give the address of the primary".to_owned();
                return Err(OpenError::Unsuitable { place, problem });
            }
            let was = schema::version(&session).await.map_err(failed)?;
            if let Some(problem) = database.schema_problem(was) {
                let place = database.address.place();
                return Err(OpenError::Schema { place, problem });
            }
            if was < schema::NEWEST {
                let options = &database.options;
                let (partitions, patience) = (options.partition_events, options.answer_time);
                schema::migrate(&session, partitions, patience).await.map_err(failed)?;
            }
            let is = schema::version(&session).await.map_err(failed)?;
            Ok(SchemaMigration { was, is })
        })
        .await
    }

    /// Ends the inline projection of this name, such as `public.sales`, in whatever version. Its
    /// rows stay as they are, and all programs append without them. Returns whether the log had it.
    ///
    /// # Errors
    /// [`OpenError`] if the server does not answer, or if the schema has no inline projections.
    pub async fn end_inline(&self, name: &str) -> Result<bool, OpenError> {
        let name = name.to_owned();
        self.on_thread(|database, session| async move {
            let log = database.address.log_name(&database.options);
            let ended = session.query_one(END_INLINE, &[&log, &name]).await;
            let ended = ended.map_err(|fault| database.failed(fault))?;
            Ok(ended.is_some_and(|row| row.get("is_ended")))
        })
        .await
    }

    /// Why the schema cannot be brought to the newest version.
    fn schema_problem(&self, found: i32) -> Option<String> {
        match found {
            0 => Some("there is none: make it with `diptych postgres init`".to_owned()),
            found if found > schema::NEWEST => Some(schema::too_new(found)),
            _ => None,
        }
    }

    async fn on_thread<T, F, W>(&self, work: F) -> Result<T, OpenError>
    where
        T: Send + 'static,
        F: FnOnce(PostgresDatabase, Session) -> W + Send + 'static,
        W: Future<Output = Result<T, OpenError>> + Send + 'static,
    {
        let thread = StoreThread::start().map_err(OpenError::Thread)?;
        let database = self.clone();
        let done = thread.run(async move {
            let authorities = database.options.authorities.as_deref();
            let encryption = database.address.encryption(authorities)?;
            let (role, options) = (database.address.role, &database.options);
            let opened = (&database.address.config, encryption.as_ref());
            let opening = Opening { writer: Uuid::new_v4(), hints: None, is_first: true };
            let session = link::open_session(opened, role, options, opening).await;
            let session = session.map_err(|fault| database.failed(fault))?;
            work(database, session).await
        });
        done.await.unwrap_or_else(|_| Err(self.failed(Unavailable::Closed.into())))
    }

    fn failed(&self, fault: Fault) -> OpenError {
        OpenError::of(self.address.place(), fault)
    }

    /// Problems of a schema that was found, for a report.
    fn schema_problems(&self, found: i32) -> Vec<String> {
        let mut problems: Vec<String> = Vec::new();
        problems.extend(self.schema_problem(found).map(|problem| format!("schema: {problem}")));
        if found > 0 && found < schema::NEWEST {
            let newest = schema::NEWEST;
            problems.push(format!(
                "schema: it has version {found}, and this program needs version {newest}: run \
                 `diptych postgres migrate`"
            ));
        }
        problems
    }

    async fn report(&self, session: &Session) -> Result<DatabaseReport, Fault> {
        let log_name = self.address.log_name(&self.options);
        let schema = schema::version(session).await?;
        let row = match schema {
            0 => None,
            _ => LogRow::of(session, &log_name).await?,
        };
        let mut problems: Vec<String> = Vec::new();
        if let Some(facts) = ServerFacts::of(session).await? {
            problems.extend(facts.problem(self.options.allow_unsafe_settings));
        }
        problems.extend(self.schema_problems(schema));
        if schema > 0 && row.is_none() {
            problems.push(format!(
                "the database has no log {log_name:?}: check the name, or make it with `diptych \
                 postgres init`"
            ));
        }
        let settings = Settings::of(session).await?;
        let mut warnings = settings.warnings();
        let is_replica = schema::is_replica(session).await?;
        if is_replica {
            warnings.push(
                "the server is a replica: stores at this address only read, with \
                 `target_session_attrs=read-only`"
                    .to_owned(),
            );
        }
        let inline = match &row {
            Some(row) if schema >= schema::WITH_INLINE => inline(session, row).await?,
            _ => Vec::new(),
        };
        if !inline.is_empty() {
            warnings.push(format!(
                "each append writes the rows of {}: programs without them cannot append",
                inline.join(", ")
            ));
        }
        if let Some(row) = &row {
            warnings.extend(log_warnings(session, row, schema, is_replica).await?);
        }
        let (partitions, upto) = partitions(session, schema).await?;
        Ok(DatabaseReport {
            server: settings.server,
            schema,
            newest_schema: schema::NEWEST,
            log_name,
            log: row.map(|row| LogReport { identity: row.identity, head: row.head }),
            inline,
            partitions,
            partitions_upto: upto,
            problems,
            warnings,
        })
    }
}

/// The facts about a log that its operator should know.
async fn log_warnings(
    session: &Session,
    row: &LogRow,
    schema: i32,
    is_replica: bool,
) -> Result<Vec<String>, Fault> {
    let mut warnings = Vec::new();
    // A replica does not tell its timeline.
    if !is_replica && ServerName::of(session).await?.differs(&row.server) {
        warnings.push(
            "another server or timeline wrote to the log last: look for acknowledged commits that \
             are missing, before programs write to it"
                .to_owned(),
        );
    }
    if schema >= schema::WITH_MOVES {
        warnings.extend(moved(session, row).await?);
    }
    if schema >= schema::WITH_TAKEOVERS {
        let told = takeover::recorded(session, row).await?;
        warnings.extend(told.into_iter().map(|told| format!("takeover: {told}")));
    }
    Ok(warnings)
}

/// Settings of the server under which a log works, and that its operator should know.
struct Settings {
    server: String,
    standbys: String,
    synchronous_commit: String,
    autovacuum: String,
}

const SETTINGS: &str = "select current_setting('server_version') as server,
  current_setting('synchronous_standby_names') as standbys,
  current_setting('synchronous_commit') as synchronous_commit,
  current_setting('autovacuum') as autovacuum";

impl Settings {
    async fn of(session: &Session) -> Result<Settings, Fault> {
        let row = session.query_one(SETTINGS, &[]).await?;
        let text = |name: &str| row.as_ref().map_or_else(String::new, |row| row.get(name));
        Ok(Settings {
            server: text("server"),
            standbys: text("standbys"),
            synchronous_commit: text("synchronous_commit"),
            autovacuum: text("autovacuum"),
        })
    }

    fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.standbys.is_empty() {
            warnings.push(
                "synchronous_standby_names is empty: the loss of the server can lose acknowledged \
                 commits"
                    .to_owned(),
            );
        } else if self.synchronous_commit == "local" {
            warnings.push(
                "synchronous_commit is local: a commit does not wait for a standby, so the loss of \
                 the server can lose it"
                    .to_owned(),
            );
        }
        if self.autovacuum == "off" {
            warnings.push("autovacuum is off: turn it on, because it freezes old rows".to_owned());
        }
        warnings
    }
}

const END_INLINE: &str = "select diptych.end_inline($1, $2) as is_ended";
const INLINE: &str = "select inline from diptych.log where id = $1";

/// The inline projections of a log.
async fn inline(session: &Session, log: &LogRow) -> Result<Vec<String>, Fault> {
    let row = session.query_one(INLINE, &[&log.id]).await?;
    Ok(row.map_or_else(Vec::new, |row| row.get("inline")))
}

const MOVED: &str = "select moved_to, moving_from from diptych.log where id = $1";

/// The warning of a log that takes no commits because it moves.
async fn moved(session: &Session, log: &LogRow) -> Result<Option<String>, Fault> {
    let Some(row) = session.query_one(MOVED, &[&log.id]).await? else { return Ok(None) };
    let (to, from): (Option<String>, Option<String>) =
        (row.get("moved_to"), row.get("moving_from"));
    Ok(match (to, from) {
        (Some(to), _) => {
            Some(format!("the log moved to {to} and takes commits there, and not here"))
        }
        (None, Some(from)) => Some(format!(
            "the log moves here from {from} and takes no commits until all of it is here: repeat \
             `diptych copy --move`"
        )),
        (None, None) => None,
    })
}

const PARTITIONS: &str = "select count(*) as partitions,
    (max(substr(c.relname::text, 8)::bigint) + 1)
      * (select partition_events from diptych.setting) - 1 as upto
  from pg_inherits i join pg_class c on c.oid = i.inhrelid
  where i.inhparent = to_regclass('diptych.event')";

/// The number of partitions, and the last position that has one.
async fn partitions(session: &Session, schema: i32) -> Result<(u64, Option<Position>), Fault> {
    if schema == 0 {
        return Ok((0, None));
    }
    let Some(row) = session.query_one(PARTITIONS, &[]).await? else { return Ok((0, None)) };
    let (count, upto): (i64, Option<i64>) = (row.get("partitions"), row.get("upto"));
    Ok((count.max(0).cast_unsigned(), upto.map(schema::position_of)))
}
