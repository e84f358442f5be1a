mod move_log;

use std::{
    fmt,
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use diptych_store::{
    AcceptedCommit, Append, AppendError, Batch, CommitBatch, EventChecksum, EventStore, Filter,
    Head, KeyedCommit, Limits, LogIdentity, Position, Read, ReadCommits, ReadError, SyncError, Tag,
    Tracking, Unavailable,
};
pub use move_log::{Arrival, MoveTarget};
use tokio::{
    runtime::{Builder, Runtime},
    sync::{Semaphore, mpsc, oneshot, watch},
    task::{JoinError, JoinHandle},
    time::{Instant, timeout_at},
};

use crate::{
    address::DatabaseAddress,
    batch::{self, CommitJob, CommitReply},
    error::OpenError,
    failure::{Fault, Pauses, no_answer},
    history::History,
    inline::{self, InlineSet},
    link::Link,
    options::PostgresOptions,
    pool::Pool,
    reads::{self, PageLimits},
    replicas::Replicas,
    schema::NewLog,
    session::Session,
    watch as watching,
    writer::{self, WriterOrder},
};

/// A log in a PostgreSQL database. Clones share its connections.
///
/// Every promise of the store contract holds, with several processes on one log. An append answers
/// once its transaction is committed, so an accepted commit is durable already.
///
/// A lost connection is made again. Calls wait for that, at most
/// [`answer_time`](PostgresOptions::answer_time):
///
/// - A read is asked again.
/// - An append without an answer is sent again, and the server executes it once.
/// - Before any call goes on, the events that this handle has seen are looked for. If they are
///   gone, the log gets a new epoch, and every call fails with
///   [`HistoryChanged`](Unavailable::HistoryChanged) for a pinned handle.
#[derive(Clone)]
pub struct PostgresStore {
    shared: Arc<StoreParts>,
}

struct StoreParts {
    link: Arc<Link>,
    pool: Arc<Pool>,
    replicas: Arc<Replicas>,
    orders: mpsc::UnboundedSender<WriterOrder>,
    in_flight: Arc<Semaphore>,
    /// Whether rows are written with each append.
    has_rows: bool,
    thread: StoreThread,
}

impl Drop for StoreParts {
    fn drop(&mut self) {
        self.link.close();
        self.link.end(Unavailable::Closed);
    }
}

impl PostgresStore {
    /// Opens the log at an address such as `postgres://ann@localhost/shop?log=orders`. The
    /// driver takes all other parameters.
    ///
    /// # Errors
    /// [`OpenError`] if the address has another form, the server does not answer, or the database
    /// cannot hold a log.
    pub async fn open(address: &str, options: PostgresOptions) -> Result<PostgresStore, OpenError> {
        PostgresStore::with_rows(address, options, InlineSet::default()).await
    }

    /// Opens the log, with rows that are written in the transaction of each append.
    pub(crate) async fn with_rows(
        address: &str,
        options: PostgresOptions,
        rows: InlineSet,
    ) -> Result<PostgresStore, OpenError> {
        let new = if options.create { NewLog::Own } else { NewLog::None };
        PostgresStore::open_log(address, options, rows, new).await
    }

    /// Opens the log, and makes this one if there is none.
    async fn open_log(
        address: &str,
        options: PostgresOptions,
        rows: InlineSet,
        new: NewLog,
    ) -> Result<PostgresStore, OpenError> {
        let address = DatabaseAddress::parse(address)?;
        let options = options.within_bounds();
        let thread = StoreThread::start().map_err(OpenError::Thread)?;
        let (pool, places) = (Pool::new(options.readers), options.commits_in_flight);
        let place = address.place();
        if let Some(name) = rows.misnamed() {
            let (projection, problem) = (name.to_owned(), inline::MISNAMED.to_owned());
            return Err(OpenError::Inline { place, projection, problem });
        }
        let replicas = Replicas::new(address.replicas.clone(), options.readers);
        let (has_rows, rows) = (!rows.is_empty(), Arc::new(rows));
        let own_rows = rows.clone();
        let opening = async move {
            let (link, session) = Link::open(address, options, &new).await?;
            inline::start(&link, &session, &own_rows).await?;
            Ok((link, session))
        };
        let (link, session) = thread.run(opening).await.unwrap_or_else(|_| {
            Err(OpenError::Server { place, cause: Unavailable::Closed.into() })
        })?;
        let (orders, received) = mpsc::unbounded_channel();
        let (heads, own_heads) = watch::channel(link.history().head().position());
        if link.is_replica() {
            pool.add(session);
            thread.spawn(watching::follow_replica(link.clone()));
        } else {
            thread.spawn(writer::run(link.clone(), session, rows, received, heads));
            thread.spawn(watching::follow(link.clone(), own_heads));
        }
        let in_flight = Arc::new(Semaphore::new(places));
        let (pool, replicas) = (Arc::new(pool), Arc::new(replicas));
        let shared = StoreParts { link, pool, replicas, orders, in_flight, has_rows, thread };
        Ok(PostgresStore { shared: Arc::new(shared) })
    }

    /// The answer of a store at a replica to an append.
    fn refusal(&self) -> Unavailable {
        let link = &self.shared.link;
        if let Some(closed) = link.closed() {
            return closed;
        }
        let reason = format!(
            "it reads the log from a replica at {}; appends need the address of the primary, \
             without `target_session_attrs=read-only` or `prefer-standby`",
            link.place()
        );
        Unavailable::Failed { reason: reason.into() }
    }

    /// The answer of a replica beside the primary, if one can answer.
    async fn of_replica(&self, filter: &Filter, read: &Read, limits: PageLimits) -> Option<Batch> {
        if self.shared.replicas.is_empty() {
            return None;
        }
        let (link, replicas) = (self.shared.link.clone(), self.shared.replicas.clone());
        let (filter, read) = (filter.clone(), read.clone());
        let asked = self
            .shared
            .thread
            .run(async move { replicas.page(&link, &filter, &read, limits).await });
        asked.await.ok().flatten()
    }

    /// Asks on the thread of the store, and again after a lost connection.
    async fn ask<T, F>(&self, question: F) -> Result<T, ReadError>
    where
        T: Send + 'static,
        F: for<'a> Fn(Question<'a>) -> BoxAnswer<'a, T> + Send + Sync + 'static,
    {
        let (link, pool) = (self.shared.link.clone(), self.shared.pool.clone());
        let asked = self.shared.thread.run(async move { answer(&link, &pool, &question).await });
        asked.await.unwrap_or_else(|_| Err(Unavailable::Closed.into()))
    }
}

type BoxAnswer<'a, T> = Pin<Box<dyn Future<Output = Result<T, Fault>> + Send + 'a>>;

/// A connection for a question, and the history that the answer has to be of.
#[derive(Clone, Copy)]
struct Question<'a> {
    session: &'a Session,
    history: &'a History,
}

/// Asks until there is an answer, or the time is over.
async fn answer<T>(
    link: &Link,
    pool: &Pool,
    question: &(dyn for<'a> Fn(Question<'a>) -> BoxAnswer<'a, T> + Send + Sync),
) -> Result<T, ReadError> {
    let answer_time = link.options().answer_time;
    let deadline = Instant::now() + answer_time;
    let (mut pauses, history) = (Pauses::new(), link.history());
    loop {
        if let Some(closed) = link.closed() {
            return Err(closed.into());
        }
        let attempt = async {
            let lease = pool.take(link).await?;
            let answer = question(Question { session: &lease.session, history: &history }).await;
            match answer {
                Err(Fault::Answer(ReadError::Unavailable(Unavailable::HistoryChanged(
                    changed,
                )))) => Err(link.changed(&lease.session, changed).await),
                Err(Fault::Connection(why)) => Err(Fault::Connection(why)),
                answer => {
                    lease.give_back();
                    answer
                }
            }
        };
        match timeout_at(deadline, attempt).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(Fault::Connection(_))) if Instant::now() + pauses.next() < deadline => {
                pauses.wait().await;
            }
            Ok(Err(fault)) => return Err(fault.into_read_error()),
            Err(_) => return Err(no_answer(answer_time).into()),
        }
    }
}

/// A task on the thread of the store. It ends if its caller goes away.
struct AskTask<T>(JoinHandle<T>);

impl<T> Future for AskTask<T> {
    type Output = Result<T, JoinError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context)
    }
}

impl<T> Drop for AskTask<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The thread of a store, with its runtime. So its futures can be polled anywhere.
pub(crate) struct StoreThread {
    /// Taken when this value is dropped.
    runtime: Option<Runtime>,
}

/// The thread of the store has ended.
#[derive(Debug)]
pub(crate) struct ThreadEnd;

impl StoreThread {
    pub(crate) fn start() -> io::Result<StoreThread> {
        let mut builder = Builder::new_multi_thread();
        builder.worker_threads(1).thread_name("diptych-postgres").enable_all();
        Ok(StoreThread { runtime: Some(builder.build()?) })
    }

    /// Runs the task on the thread and waits for its answer.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, ThreadEnd> {
        let Some(runtime) = &self.runtime else { return Err(ThreadEnd) };
        let task = AskTask(runtime.spawn(task));
        task.await.map_err(|_| ThreadEnd)
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        if let Some(runtime) = &self.runtime {
            runtime.spawn(task);
        }
    }
}

impl Drop for StoreThread {
    fn drop(&mut self) {
        // A handle may be dropped in a task, where a runtime cannot wait for its own end.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl EventStore for PostgresStore {
    fn identity(&self) -> LogIdentity {
        self.shared.link.identity()
    }

    fn limits(&self) -> Limits {
        self.shared.link.options().limits.clone()
    }

    fn head(&self) -> Head {
        self.shared.link.history().head()
    }

    fn has_other_writers(&self) -> bool {
        true
    }

    fn is_replica(&self) -> bool {
        self.shared.link.is_replica()
    }

    async fn fresh_head(&self) -> Result<Position, ReadError> {
        self.ask(|Question { session, history }| Box::pin(reads::head(session, history))).await
    }

    async fn append(&self, append: Append) -> Result<AcceptedCommit, AppendError> {
        let link = &self.shared.link;
        if link.is_replica() {
            return Err(self.refusal().into());
        }
        batch::check(&append, &link.options().limits, link.options().time)?;
        let place = self.shared.in_flight.clone().acquire_owned().await;
        let place = place.map_err(|_| Unavailable::Closed)?;
        if let Some(closed) = link.closed() {
            return Err(closed.into());
        }
        let (reply, replied) = oneshot::channel();
        let deadline = Instant::now() + link.options().answer_time;
        let (log, limits) = (link.identity(), &link.options().limits);
        let reply = CommitReply { reply, place };
        let has_rows = self.shared.has_rows;
        let job = CommitJob::new(append, log, limits, has_rows, deadline, reply)?;
        let sent = self.shared.orders.send(WriterOrder::Commit(Box::new(job)));
        sent.map_err(|_| Unavailable::Closed)?;
        // The writer ended. It may have sent the commit.
        let ended = || Err(SyncError { cause: Unavailable::Closed }.into());
        replied.await.unwrap_or_else(|_| ended())
    }

    async fn read(&self, filter: &Filter, read: Read) -> Result<Batch, ReadError> {
        let limits = &self.shared.link.options().limits;
        filter.check(limits)?;
        let (filter, limits) = (filter.clone(), PageLimits::of(limits));
        if read.takes_replica
            && let Some(batch) = self.of_replica(&filter, &read, limits).await
        {
            return Ok(batch);
        }
        self.ask(move |Question { session, history }| {
            let (filter, read) = (filter.clone(), read.clone());
            Box::pin(async move { reads::page(session, history, &filter, &read, limits).await })
        })
        .await
    }

    async fn commits(&self, read: ReadCommits) -> Result<CommitBatch, ReadError> {
        let limits = self.shared.link.options().limits.clone();
        self.ask(move |Question { session, history }| {
            let (read, limits) = (read.clone(), limits.clone());
            Box::pin(async move { reads::commits(session, history, &read, &limits).await })
        })
        .await
    }

    async fn checksum(&self, position: Position) -> Result<Option<EventChecksum>, ReadError> {
        self.ask(move |Question { session, history }| {
            Box::pin(reads::checksum(session, history, position))
        })
        .await
    }

    async fn last(&self, filter: &Filter, upto: Position) -> Result<Option<Position>, ReadError> {
        filter.check(&self.shared.link.options().limits)?;
        let filter = filter.clone();
        self.ask(move |Question { session, history }| {
            let filter = filter.clone();
            Box::pin(async move { reads::last(session, history, &filter, upto).await })
        })
        .await
    }

    async fn count(&self, tag: &Tag, upto: Position) -> Result<u64, ReadError> {
        let tag = tag.clone();
        self.ask(move |Question { session, history }| {
            let tag = tag.clone();
            Box::pin(async move { reads::count(session, history, &tag, upto).await })
        })
        .await
    }

    async fn keyed(&self, key: &str) -> Result<Option<KeyedCommit>, ReadError> {
        let key = key.to_owned();
        self.ask(move |Question { session, history }| {
            let key = key.clone();
            Box::pin(async move { reads::keyed(session, history, &key).await })
        })
        .await
    }

    async fn tracked(&self, source: &str) -> Result<Option<Tracking>, ReadError> {
        let source = source.to_owned();
        Ok(self
            .ask(move |Question { session, history }| {
                let source = source.clone();
                Box::pin(async move { reads::tracked(session, history, &source).await })
            })
            .await?
            .map(|(tracking, _)| tracking))
    }

    async fn types(&self) -> Result<Vec<String>, ReadError> {
        self.ask(|Question { session, history }| Box::pin(reads::types(session, history))).await
    }

    async fn close(&self) -> Result<(), SyncError> {
        let StoreParts { link, orders, in_flight, .. } = &*self.shared;
        link.close();
        in_flight.close();
        let (closed, is_closed) = oneshot::channel();
        if orders.send(WriterOrder::Close(closed)).is_ok() {
            // An error means that the writer ended before.
            let _ = is_closed.await;
        }
        link.end(Unavailable::Closed);
        Ok(())
    }
}

impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (log, head) = (self.identity(), self.head());
        f.debug_struct("PostgresStore").field("log", &log).field("head", &head).finish()
    }
}
