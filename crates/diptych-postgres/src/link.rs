//! The database as all connections of a store know it: where it is, which history of the log it
//! has, and whether acknowledged commits are still there.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use diptych_store::{EventChecksum, HistoryChanged, LogIdentity, Position, ReadError, Unavailable};
use parking_lot::{Mutex, RwLock};
use tokio::sync::mpsc;
use tokio_postgres::{Config, config::TargetSessionAttrs};
use uuid::Uuid;

use crate::{
    address::{DatabaseAddress, ServerRole},
    error::OpenError,
    failure::{Fault, behind, server},
    history::History,
    loss::{self, Loss},
    marks::Marks,
    options::PostgresOptions,
    pooler::Backends,
    schema::{self, LogRow, NewLog, ServerFacts, ServerName},
    session::{Session, SessionTimes},
    takeover::{self, SeenEvents},
    tls::Encryption,
};

/// The database, shared by the handles and the tasks.
#[derive(Debug)]
pub(crate) struct Link {
    config: Config,
    role: ServerRole,
    encryption: Option<Encryption>,
    /// Server and database, for messages.
    place: String,
    /// The name of the log.
    log: String,
    options: PostgresOptions,
    /// The name of this handle for the server, by which it finds the last batch again.
    pub(crate) writer: Uuid,
    backends: Backends,
    history: RwLock<History>,
    /// Held while one connection looks for what is missing, so that it is reported once.
    comparing: tokio::sync::Mutex<()>,
    /// Why no further calls are made.
    closed: Mutex<Option<Unavailable>>,
    is_closed: AtomicBool,
}

const FORGET_WRITERS: &str =
    "delete from diptych.writer where log = $1 and used_at < now() - interval '30 days'";

impl Link {
    /// Connects, makes what is missing if the options say so, and finds the log.
    pub(crate) async fn open(
        address: DatabaseAddress,
        options: PostgresOptions,
        new: &NewLog,
    ) -> Result<(Arc<Link>, Session), OpenError> {
        let place = address.place();
        let failed = |fault: Fault| OpenError::of(place.clone(), fault);
        let writer = Uuid::new_v4();
        let encryption = address.encryption(options.authorities.as_deref())?;
        let role = address.role;
        let opened = (&address.config, encryption.as_ref());
        let opening = Opening { writer, hints: None, is_first: true };
        let session = open_session(opened, role, &options, opening).await;
        let session = session.map_err(failed)?;
        if let Some(problem) =
            unsuitable(&session, is_safe(role, &options)).await.map_err(failed)?
        {
            return Err(OpenError::Unsuitable { place, problem });
        }
        let found = schema::version(&session).await.map_err(failed)?;
        if found > schema::NEWEST {
            return Err(OpenError::Schema { place, problem: schema::too_new(found) });
        }
        if found < schema::NEWEST {
            if !options.create || role != ServerRole::Primary {
                let problem = format!(
                    "it has version {found} (0 is none), and this program needs version {}: open \
                     the primary with `create` set",
                    schema::NEWEST
                );
                return Err(OpenError::Schema { place, problem });
            }
            let (partitions, patience) = (options.partition_events, options.answer_time);
            schema::migrate(&session, partitions, patience).await.map_err(failed)?;
        }
        let log = address.log_name(&options);
        let row = match role {
            ServerRole::Primary => takeover::find_log(&session, &log, new).await,
            ServerRole::Replica { .. } => LogRow::of(&session, &log).await,
        };
        let Some(row) = row.map_err(failed)? else { return Err(OpenError::NoLog { place, log }) };
        if role == ServerRole::Primary {
            session.query(FORGET_WRITERS, &[&row.id]).await.map_err(failed)?;
        }
        let backends = Backends::default();
        backends.add(&session.backend);
        let link = Link {
            config: address.config,
            role,
            encryption,
            place,
            log,
            options,
            writer,
            backends,
            history: RwLock::new(History::of(&row)),
            comparing: tokio::sync::Mutex::default(),
            closed: Mutex::new(None),
            is_closed: AtomicBool::new(false),
        };
        Ok((Arc::new(link), session))
    }

    /// A new connection to the log. Its server may be another one than before, so the settings are
    /// checked, and the events that this handle has seen are looked for first.
    pub(crate) async fn connect(
        &self,
        hints: Option<mpsc::UnboundedSender<String>>,
    ) -> Result<Session, Fault> {
        let opened = (&self.config, self.encryption.as_ref());
        let opening = Opening { writer: self.writer, hints, is_first: false };
        let session = open_session(opened, self.role, &self.options, opening).await?;
        if self.backends.add(&session.backend) {
            session.refuse_pooler(opened, times(&self.options)).await?;
        }
        if let Some(problem) = unsuitable(&session, is_safe(self.role, &self.options)).await? {
            let what = format!("the database {} cannot hold a log: {problem}", self.place);
            return Err(server(what).into());
        }
        let has_changed = |compared: &Result<(), Fault>| {
            matches!(
                compared,
                Err(Fault::Answer(ReadError::Unavailable(Unavailable::HistoryChanged(_))))
            )
        };
        let mut compared = self.compare(&session).await;
        if has_changed(&compared) {
            // Another program gave the log a new epoch at the same time.
            compared = self.compare(&session).await;
        }
        match has_changed(&compared) {
            true => self.find(&session).await?,
            false => compared?,
        }
        Ok(session)
    }

    /// A new connection to a replica beside the primary. Nothing is compared.
    pub(crate) async fn connect_to(&self, config: &Config) -> Result<Session, Fault> {
        let (times, encryption) = (times(&self.options), self.encryption.as_ref());
        Session::open((config, encryption), times, self.writer, None).await
    }

    /// Takes the history that the server has now. All that was seen over a connection that is
    /// there is part of it.
    async fn find(&self, session: &Session) -> Result<(), Fault> {
        if let Some(row) = LogRow::of(session, &self.log).await? {
            let marks = Marks::up_to(self.history().marks(), row.head);
            self.found(&row, marks);
        }
        Ok(())
    }

    /// Looks for the commits that this handle has seen. If some are gone, the log gets a new epoch.
    async fn compare(&self, session: &Session) -> Result<(), Fault> {
        let _alone = self.comparing.lock().await;
        // Before the questions, because the head moves on meanwhile.
        let history = self.history();
        let (highest, mark) = (history.head().position(), history.mark());
        let Some(row) = LogRow::of(session, &self.log).await? else {
            let what = format!("the database {} has no log {:?} any more", self.place, self.log);
            return Err(server(what).into());
        };
        if self.is_replica() {
            return self.compare_copy(session, &history, &row, (highest, mark)).await;
        }
        let (is, was) = (row.identity, history.identity);
        if is.id != was.id {
            tracing::error!(
                log = self.log, was = %was.id, is = %is.id, seen = highest.get(),
                "the database has another log under this name: every commit that was seen is gone"
            );
            self.found(&row, Marks::default());
            return Ok(());
        }
        // Another program may have given the log a new epoch for a loss of its own.
        let own = if is == was { history.clone() } else { History::of(&row).of_copy() };
        if row.head < highest || !loss::has(session, &own, mark.0, mark.1).await? {
            return self.lost(session, &history, &row, highest).await;
        }
        let kept = (mark.0 > Position::START).then_some(mark.0);
        let seen = kept.map_or(SeenEvents::None, SeenEvents::Kept);
        if is != was {
            tracing::warn!(
                log = self.log, was = %was.epoch, is = %is.epoch, seen = highest.get(),
                "another program gave the log a new epoch; every commit that was seen is there"
            );
            self.found(&row, Marks::up_to(history.marks(), mark.0));
        }
        let is = ServerName::of(session).await?;
        if is.differs(&row.server) {
            tracing::warn!(
                log = self.log, was = ?row.server, is = ?is, head = row.head.get(),
                "another server or timeline has the log; every commit that was seen is there"
            );
        }
        takeover::set_server(session, &row, is, seen).await
    }

    /// The log has an older state, or another one, than this handle has seen.
    async fn lost(
        &self,
        session: &Session,
        history: &History,
        row: &LogRow,
        highest: Position,
    ) -> Result<(), Fault> {
        let (server, marks) = (History::of(row).of_copy(), history.marks());
        let loss = Loss::find(session, &server, (row.head, highest), &marks).await?;
        if row.identity == history.identity {
            takeover::set_new_epoch(session, row.id, row.identity.epoch).await?;
        }
        tracing::error!(
            log = self.log,
            seen = highest.get(),
            head = row.head.get(),
            "acknowledged commits are gone from the log: {loss}; the database was restored to an \
             earlier state, or a standby without them took over; the log has a new epoch"
        );
        takeover::record_loss(session, row, &loss).await?;
        // Another process may have set the epoch.
        if let Some(now) = LogRow::of(session, &self.log).await? {
            self.found(&now, Marks::up_to(marks, loss.common));
        }
        Ok(())
    }

    /// Looks on a replica for the events that this handle has seen. A replica that is behind is
    /// asked again later. If it has other events, the store ends, because only the primary can give
    /// the log a new epoch.
    async fn compare_copy(
        &self,
        session: &Session,
        history: &History,
        row: &LogRow,
        (highest, mark): (Position, (Position, EventChecksum)),
    ) -> Result<(), Fault> {
        let (is, was) = (row.identity, history.identity);
        if is.id != was.id || is.epoch.number() > was.epoch.number() {
            self.found(row, Marks::default());
            return Ok(());
        }
        if is != was || row.head < highest {
            return Err(Fault::Connection(behind(&self.place, row.head, highest)));
        }
        if loss::has(session, history, mark.0, mark.1).await? {
            return Ok(());
        }
        let loss = Loss::find(session, history, (row.head, highest), &history.marks()).await?;
        let what = format!(
            "the replica {} has another event at position {} than before: a standby without \
             acknowledged commits took over, or the replica follows another primary; position {} \
             is the last one that is known to be equal: compare what was read above it, then start \
             the program again",
            self.place, mark.0, loss.common
        );
        tracing::error!(log = self.log, seen = highest.get(), head = row.head.get(), what);
        self.fail(server(what.clone()));
        Err(server(what).into())
    }

    /// Whether the store only reads from a replica.
    pub(crate) fn is_replica(&self) -> bool {
        self.role != ServerRole::Primary
    }

    /// Server and database, for messages.
    pub(crate) fn place(&self) -> &str {
        &self.place
    }

    /// The name of the log.
    pub(crate) fn log(&self) -> &str {
        &self.log
    }

    pub(crate) fn options(&self) -> &PostgresOptions {
        &self.options
    }

    pub(crate) fn identity(&self) -> LogIdentity {
        self.history.read().identity
    }

    /// The history that the log has now. A call keeps it until its answer.
    pub(crate) fn history(&self) -> History {
        self.history.read().clone()
    }

    /// Takes the history that the server has now. The head of the old one ends.
    fn found(&self, row: &LogRow, marks: Marks) {
        let old = {
            let mut history = self.history.write();
            if history.identity == row.identity {
                return;
            }
            std::mem::replace(&mut *history, History::with_marks(row, marks))
        };
        let changed = HistoryChanged { was: old.identity, is: row.identity };
        old.end(Unavailable::HistoryChanged(changed));
    }

    /// A statement found another epoch, which another process has set.
    pub(crate) async fn changed(&self, session: &Session, changed: HistoryChanged) -> Fault {
        match self.find(session).await {
            Ok(()) => Unavailable::HistoryChanged(changed).into(),
            Err(fault) => fault,
        }
    }

    /// Refuses further calls, and ends the head.
    pub(crate) fn close(&self) {
        self.closed.lock().get_or_insert(Unavailable::Closed);
        self.is_closed.store(true, Ordering::SeqCst);
    }

    /// Refuses further calls, and ends the head, with this reason.
    fn fail(&self, why: Unavailable) {
        self.closed.lock().get_or_insert(why.clone());
        self.is_closed.store(true, Ordering::SeqCst);
        self.end(why);
    }

    /// Ends the head for all readers.
    pub(crate) fn end(&self, why: Unavailable) {
        self.history.read().end(why);
    }

    /// Why no further calls are made, or `None` if they are.
    pub(crate) fn closed(&self) -> Option<Unavailable> {
        match self.is_closed.load(Ordering::SeqCst) {
            true => self.closed.lock().clone(),
            false => None,
        }
    }
}

pub(crate) fn times(options: &PostgresOptions) -> SessionTimes {
    SessionTimes { answer: options.answer_time, connect: options.connect_time }
}

/// The use of a connection.
#[derive(Debug)]
pub(crate) struct Opening {
    pub(crate) writer: Uuid,
    pub(crate) hints: Option<mpsc::UnboundedSender<String>>,
    /// Whether it is the first one, which looks for a pooler.
    pub(crate) is_first: bool,
}

/// Connects to a server of this role.
pub(crate) async fn open_session(
    (config, encryption): (&Config, Option<&Encryption>),
    role: ServerRole,
    options: &PostgresOptions,
    Opening { writer, hints, is_first }: Opening,
) -> Result<Session, Fault> {
    let times = times(options);
    let opened = match is_first {
        true => Session::open_first((config, encryption), times, writer).await,
        false => Session::open((config, encryption), times, writer, hints).await,
    };
    match (opened, role) {
        (Err(Fault::Connection(_)), ServerRole::Replica { or_primary: true }) => {
            let mut config = config.clone();
            config.target_session_attrs(TargetSessionAttrs::Any);
            match is_first {
                true => Session::open_first((&config, encryption), times, writer).await,
                false => Session::open((&config, encryption), times, writer, None).await,
            }
        }
        (opened, _) => opened,
    }
}

/// Whether no setting of the server can lose commits, or the options allow that. A replica loses
/// none.
fn is_safe(role: ServerRole, options: &PostgresOptions) -> bool {
    options.allow_unsafe_settings || role != ServerRole::Primary
}

/// Why the server cannot hold a log.
async fn unsuitable(session: &Session, is_safe: bool) -> Result<Option<String>, Fault> {
    let facts = ServerFacts::of(session).await?;
    Ok(facts.and_then(|facts| facts.problem(is_safe)))
}
