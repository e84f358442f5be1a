//! One connection, with the settings that the statements rely on.

use std::{
    collections::HashMap,
    error::Error,
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use diptych_store::Unavailable;
use parking_lot::Mutex;
use tokio::{sync::mpsc, task::AbortHandle, time::timeout};
use tokio_postgres::{
    AsyncMessage, Client, Config, Connection, NoTls, Row, Socket, Statement,
    error::{DbError, SqlState},
    tls::TlsStream,
    types::ToSql,
};
use uuid::Uuid;

use crate::{
    failure::{Fault, no_answer},
    pooler::{self, BACKEND},
    tls::Encryption,
};

/// A parameter of a statement.
pub(crate) type Parameter<'a> = &'a (dyn ToSql + Sync);

/// The times of a session.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SessionTimes {
    pub(crate) answer: Duration,
    pub(crate) connect: Duration,
}

/// A connection. It closes when it is dropped.
#[derive(Debug)]
pub(crate) struct Session {
    client: Arc<Client>,
    /// The task of the connection.
    connection: AbortHandle,
    statements: Mutex<HashMap<&'static str, Statement>>,
    is_unreplicated: Arc<AtomicBool>,
    /// The process of the server that works for this connection.
    pub(crate) backend: Arc<i32>,
}

impl Session {
    /// Connects for the first time, and refuses a pooler that keeps no session.
    pub(crate) async fn open_first(
        address: (&Config, Option<&Encryption>),
        times: SessionTimes,
        writer: Uuid,
    ) -> Result<Session, Fault> {
        within(times.connect, async {
            let opened = client(address, None).await?;
            refuse_pooler(&opened.client, address, times.connect).await?;
            Session::of(opened, times, writer).await
        })
        .await
    }

    /// Connects, encrypted where that is asked for. Payloads of notifications go to `hints`.
    pub(crate) async fn open(
        address: (&Config, Option<&Encryption>),
        times: SessionTimes,
        writer: Uuid,
        hints: Option<mpsc::UnboundedSender<String>>,
    ) -> Result<Session, Fault> {
        within(times.connect, async {
            let opened = client(address, hints).await?;
            Session::of(opened, times, writer).await
        })
        .await
    }

    async fn of(
        opened: PlainConnection,
        times: SessionTimes,
        writer: Uuid,
    ) -> Result<Session, Fault> {
        let PlainConnection { client, connection, is_unreplicated } = opened;
        let told = client.simple_query(&settings(times.answer, writer)).await?;
        let backend = Arc::new(pooler::process_of(&told).unwrap_or_default());
        let (client, statements) = (Arc::new(client), Mutex::default());
        Ok(Session { client, connection, statements, is_unreplicated, backend })
    }

    /// Refuses a pooler that came between this connection and the server.
    pub(crate) async fn refuse_pooler(
        &self,
        address: (&Config, Option<&Encryption>),
        times: SessionTimes,
    ) -> Result<(), Fault> {
        refuse_pooler(&self.client, address, times.connect).await
    }

    /// Executes a statement, which stays prepared.
    pub(crate) async fn query(
        &self,
        sql: &'static str,
        parameters: &[Parameter<'_>],
    ) -> Result<Vec<Row>, Fault> {
        let statement = self.prepared(sql).await?;
        Ok(self.client.query(&statement, parameters).await?)
    }

    /// The statement, prepared by the server. One that is known is there at once.
    pub(crate) async fn prepared(&self, sql: &'static str) -> Result<Statement, Fault> {
        let known = self.statements.lock().get(sql).cloned();
        if let Some(statement) = known {
            return Ok(statement);
        }
        let statement = self.client.prepare(sql).await?;
        self.statements.lock().insert(sql, statement.clone());
        Ok(statement)
    }

    /// Executes a statement that returns one row.
    pub(crate) async fn query_one(
        &self,
        sql: &'static str,
        parameters: &[Parameter<'_>],
    ) -> Result<Option<Row>, Fault> {
        Ok(self.query(sql, parameters).await?.into_iter().next())
    }

    /// Executes statements without an answer.
    pub(crate) async fn execute(&self, sql: &str) -> Result<(), Fault> {
        Ok(self.client.batch_execute(sql).await?)
    }

    /// Whether the server said since the last call that a commit may not be replicated.
    pub(crate) fn take_unreplicated(&self) -> bool {
        self.is_unreplicated.swap(false, Ordering::SeqCst)
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// The client, for code that works in the transactions of this connection.
    pub(crate) fn client(&self) -> &Arc<Client> {
        &self.client
    }

    /// Ends the connection at once, also for others who hold its client.
    pub(crate) fn cut(&self) {
        self.connection.abort();
    }
}

/// A connection without settings.
pub(crate) struct PlainConnection {
    pub(crate) client: Client,
    /// The task of the connection.
    connection: AbortHandle,
    /// Whether the server said that a commit may not be replicated.
    is_unreplicated: Arc<AtomicBool>,
}

/// A connection without settings, encrypted where that is asked for.
pub(crate) async fn client(
    (config, encryption): (&Config, Option<&Encryption>),
    hints: Option<mpsc::UnboundedSender<String>>,
) -> Result<PlainConnection, Fault> {
    let (client, connection, is_unreplicated) = match encryption {
        Some(encryption) => {
            let connected = config.connect(encryption.clone()).await;
            serve(connected.map_err(with_cause)?, hints)
        }
        None => serve(config.connect(NoTls).await?, hints),
    };
    Ok(PlainConnection { client, connection, is_unreplicated })
}

/// Refuses a pooler that keeps no session. A second connection proves it; where there can be none,
/// there is no proof.
pub(crate) async fn refuse_pooler(
    first: &Client,
    address: (&Config, Option<&Encryption>),
    connect_time: Duration,
) -> Result<(), Fault> {
    match timeout(connect_time / 2, client(address, None)).await {
        Ok(Ok(second)) => pooler::refuse_pooler(first, &second.client).await,
        _ => Ok(()),
    }
}

/// Connects in this time.
pub(crate) async fn within<T>(
    time: Duration,
    connecting: impl Future<Output = Result<T, Fault>>,
) -> Result<T, Fault> {
    timeout(time, connecting).await.unwrap_or_else(|_| Err(Fault::Connection(no_answer(time))))
}

/// The error with its cause, which says why a certificate is not trusted. Another try may help: the
/// certificate of a server can be renewed.
fn with_cause(error: tokio_postgres::Error) -> Fault {
    match (error.as_db_error(), error.source()) {
        (None, Some(cause)) => {
            let text = format!("{error}: {cause}");
            Fault::Connection(Unavailable::Backend(Arc::from(
                Box::<dyn Error + Send + Sync>::from(text),
            )))
        }
        _ => error.into(),
    }
}

/// Runs a connection on a task of its own. Returns the client, the task, and whether the server
/// said that a commit may not be replicated.
fn serve<T: TlsStream + Send + Unpin + 'static>(
    (client, mut connection): (Client, Connection<Socket, T>),
    hints: Option<mpsc::UnboundedSender<String>>,
) -> (Client, AbortHandle, Arc<AtomicBool>) {
    let is_unreplicated = Arc::new(AtomicBool::new(false));
    let noticed = is_unreplicated.clone();
    let task = tokio::spawn(async move {
        while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
            match message {
                AsyncMessage::Notice(notice) if is_of_standby(&notice) => {
                    // It arrives before the answer to the commit, which wakes the writer.
                    noticed.store(true, Ordering::SeqCst);
                }
                AsyncMessage::Notification(hint) => {
                    if let Some(hints) = &hints {
                        let _ = hints.send(hint.payload().to_owned());
                    }
                }
                _ => {}
            }
        }
    });
    (client, task.abort_handle(), is_unreplicated)
}

/// Whether the notice can say that a wait for a standby ended without it. The commit is there, and
/// a standby that takes over may not have it. A commit gives no other warning.
fn is_of_standby(notice: &DbError) -> bool {
    [SqlState::WARNING, SqlState::ADMIN_SHUTDOWN].contains(notice.code())
}

/// The settings of a session of a store for the plans of its statements, with their values. Each
/// statement looks few rows up by an index, whatever the statistics of a table say. So the plans
/// that read whole tables are off. Other statements on such a session, as those of
/// [inline rows](crate::InlineRows), set these to `default` for their transaction.
pub const PLAN_SETTINGS: [(&str, &str); 6] = [
    ("plan_cache_mode", "force_generic_plan"),
    ("enable_seqscan", "off"),
    ("enable_bitmapscan", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
    ("enable_memoize", "off"),
];

/// The statements that set the plans, with `set` or `set local`.
pub(crate) fn plans(set: &str) -> String {
    PLAN_SETTINGS.map(|(name, value)| format!("{set} {name} = {value};")).concat()
}

fn settings(answer: Duration, writer: Uuid) -> String {
    let (millis, plans) = (answer.as_millis().max(1), plans("set"));
    format!(
        "set session characteristics as transaction isolation level read committed;
        set client_min_messages = warning;
        set search_path = pg_catalog;
        set statement_timeout = {millis};
        set lock_timeout = {millis};
        set idle_in_transaction_session_timeout = {millis};
        {plans}
        set max_parallel_workers_per_gather = 0;
        set jit = off;
        set diptych.session = '{writer}';
        {BACKEND};"
    )
}
