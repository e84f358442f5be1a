//! Replicas beside the primary, which answer long reads.
//!
//! A replica answers only about positions that are compared: it has the same event as the primary
//! at the mark, which is the last event that this handle has seen there. So everything below the
//! mark is equal, also if the replica follows a former primary or an old timeline, whose events
//! differ only above the point where the histories parted. A replica that cannot answer so leaves
//! the read to the primary.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use diptych_store::{
    Batch, Direction, EventChecksum, Filter, LogIdentity, Position, Read, ReadError, Unavailable,
};
use parking_lot::Mutex;
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep, timeout},
};

use crate::{
    address::ReplicaAddress,
    failure::{Fault, no_answer},
    history::History,
    link::Link,
    reads::{self, PageLimits},
    schema::{self, LogRow, ServerName},
    session::Session,
};

/// The time for which a replica that failed is left alone.
const LEFT_ALONE: Duration = Duration::from_secs(5);
/// The time for which no read waits for a replica again after one waited in vain.
const BEHIND: Duration = Duration::from_secs(1);
/// The shortest and the longest time between two looks at a replica that is behind.
const LOOKS: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(20));

/// The replicas that the address names.
#[derive(Debug)]
pub(crate) struct Replicas {
    all: Vec<Replica>,
    /// The replica that is asked first by the next read.
    next: AtomicUsize,
}

#[derive(Debug)]
struct Replica {
    address: ReplicaAddress,
    idle: Mutex<Vec<ComparedSession>>,
    places: Semaphore,
    state: Mutex<ReplicaState>,
}

#[derive(Debug, Default)]
struct ReplicaState {
    /// It failed, and is left alone until then.
    left_until: Option<Instant>,
    /// It was behind. Until then no read waits for it.
    behind_until: Option<Instant>,
    /// Whether its failure was told.
    is_told: bool,
}

/// A connection to a replica.
#[derive(Debug)]
struct ComparedSession {
    session: Session,
    /// Up to here its events are those of this history of the primary.
    upto: Position,
    of: LogIdentity,
}

/// Why a replica does not answer.
enum Absence {
    /// It has not reached the positions of the read.
    Behind,
    /// It cannot be asked, or its events are not those of the log.
    Failed(String),
}

/// A read of positions that the primary has shown.
struct KnownRead<'a> {
    filter: &'a Filter,
    read: Read,
    limits: PageLimits,
    mark: (Position, EventChecksum),
}

impl Replicas {
    pub(crate) fn new(addresses: Vec<ReplicaAddress>, readers: usize) -> Replicas {
        let all = addresses.into_iter().map(|address| Replica {
            address,
            idle: Mutex::default(),
            places: Semaphore::new(readers),
            state: Mutex::default(),
        });
        Replicas { all: all.collect(), next: AtomicUsize::new(0) }
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// A batch from a replica, or `None` if the primary has to answer.
    pub(crate) async fn page(
        &self,
        link: &Link,
        filter: &Filter,
        read: &Read,
        limits: PageLimits,
    ) -> Option<Batch> {
        let history = link.history();
        let mark = history.mark();
        let read = below(read, mark.0)?;
        let known = KnownRead { filter, read, limits, mark };
        let first = self.next.fetch_add(1, Ordering::Relaxed);
        for number in 0..self.all.len() {
            let replica = self.all.get(first.wrapping_add(number) % self.all.len())?;
            if link.closed().is_none()
                && !replica.is_left()
                && let Some(batch) = replica.answer(link, &history, &known).await
            {
                return Some(batch);
            }
        }
        None
    }
}

/// The part of the read that ends at the mark, if the read has such a part.
fn below(read: &Read, mark: Position) -> Option<Read> {
    let upto = match read.direction {
        Direction::Forwards => read.upto.min(mark),
        // It begins at its end.
        Direction::Backwards => Some(read.upto).filter(|upto| *upto <= mark)?,
    };
    (read.after < upto && read.limit > 0).then(|| Read { upto, ..read.clone() })
}

impl Replica {
    fn is_left(&self) -> bool {
        self.state.lock().left_until.is_some_and(|until| Instant::now() < until)
    }

    /// A batch, unless the replica is behind or fails.
    async fn answer(&self, link: &Link, history: &History, known: &KnownRead<'_>) -> Option<Batch> {
        let most = link.options().connect_time;
        let answer = match timeout(most, self.page(link, history, known)).await {
            Ok(answer) => answer,
            Err(_) => Err(Absence::Failed(no_answer(most).to_string())),
        };
        let mut state = self.state.lock();
        match answer {
            Ok(batch) => {
                state.left_until = None;
                if std::mem::take(&mut state.is_told) {
                    let name = &self.address.name;
                    tracing::info!(replica = name, "a replica answers reads again");
                }
                Some(batch)
            }
            Err(Absence::Behind) => None,
            Err(Absence::Failed(reason)) => {
                state.left_until = Some(Instant::now() + LEFT_ALONE);
                if !std::mem::replace(&mut state.is_told, true) {
                    let name = &self.address.name;
                    tracing::warn!(
                        replica = name,
                        reason,
                        "a replica cannot be read, and the primary answers in its place"
                    );
                }
                self.idle.lock().clear();
                None
            }
        }
    }

    async fn page(
        &self,
        link: &Link,
        history: &History,
        known: &KnownRead<'_>,
    ) -> Result<Batch, Absence> {
        let place = self.places.acquire().await;
        let _place = place.map_err(|_| Absence::Failed(Unavailable::Closed.to_string()))?;
        let mut lent = self.session(link, history).await?;
        let copy = history.of_copy();
        if known.read.upto > lent.upto
            && let Err(absence) = self.compare(link, &copy, &mut lent, known.mark).await
        {
            if matches!(absence, Absence::Behind) {
                self.idle.lock().push(lent);
            }
            return Err(absence);
        }
        let KnownRead { filter, read, limits, .. } = known;
        let batch = reads::page(&lent.session, &copy, filter, read, *limits).await;
        let batch = batch.map_err(failed)?;
        self.idle.lock().push(lent);
        Ok(batch)
    }

    /// A connection whose log is that of the primary.
    async fn session(&self, link: &Link, history: &History) -> Result<ComparedSession, Absence> {
        let idle = std::iter::from_fn(|| self.idle.lock().pop());
        let mut idle = idle.filter(|idle| idle.of == history.identity);
        if let Some(lent) = idle.find(|idle| !idle.session.is_closed()) {
            return Ok(lent);
        }
        let session = link.connect_to(&self.address.config).await.map_err(failed)?;
        check(&session, link, history).await?;
        Ok(ComparedSession { session, upto: Position::START, of: history.identity })
    }

    /// Compares the events up to the mark. A replica that is behind is waited for.
    async fn compare(
        &self,
        link: &Link,
        copy: &History,
        lent: &mut ComparedSession,
        (position, checksum): (Position, EventChecksum),
    ) -> Result<(), Absence> {
        let is_waited_for = {
            let mut state = self.state.lock();
            state.behind_until = state.behind_until.filter(|until| Instant::now() < *until);
            state.behind_until.is_none()
        };
        let deadline = Instant::now() + link.options().replica_wait;
        let mut pause = LOOKS.0;
        loop {
            let found = reads::checksum(&lent.session, copy, position).await;
            match found.map_err(failed)? {
                Some(found) if found == checksum => {
                    lent.upto = position;
                    return Ok(());
                }
                Some(_) => return Err(other_event(position)),
                None if !is_waited_for => return Err(Absence::Behind),
                None if Instant::now() + pause > deadline => {
                    self.state.lock().behind_until = Some(Instant::now() + BEHIND);
                    return Err(Absence::Behind);
                }
                None => sleep(pause).await,
            }
            pause = (pause * 2).min(LOOKS.1);
        }
    }
}

/// Refuses a replica whose history parted from that of the primary.
fn other_event(position: Position) -> Absence {
    Absence::Failed(format!(
        "it has another event at position {position} than the primary, so it follows a former \
         primary or an old timeline: make it again from the primary"
    ))
}

/// Refuses a server that is no replica of the primary, as far as its names show that.
async fn check(session: &Session, link: &Link, history: &History) -> Result<(), Absence> {
    let refused = |why: String| Err(Absence::Failed(why));
    if !schema::is_replica(session).await.map_err(failed)? {
        return refused(
            "it takes writes, so it is no replica: it may be a former primary, which has to be \
             made a replica of the new one"
                .to_owned(),
        );
    }
    let log = link.log();
    let Some(row) = LogRow::of(session, log).await.map_err(failed)? else {
        return refused(format!("it has no log {log:?}, so it is behind or of another primary"));
    };
    let (is, own) = (row.identity, history.identity);
    if is.id != own.id {
        return refused(format!(
            "its log {log:?} is {}, and that of the primary {}",
            is.id, own.id
        ));
    }
    if is.epoch != own.epoch {
        return refused(format!(
            "its log has epoch {}, and that of the primary {}: it is behind, or follows a former \
             primary",
            is.epoch, own.epoch
        ));
    }
    let name = ServerName::of(session).await.map_err(failed)?;
    if let (Some(is), Some(was)) = (name.system_id, row.server.system_id)
        && is != was
    {
        return refused(format!(
            "it belongs to another database cluster (system {is}) than the primary (system {was})"
        ));
    }
    Ok(())
}

fn failed(fault: Fault) -> Absence {
    match fault {
        // The replica has not seen the change yet, or will not.
        Fault::Answer(ReadError::Unavailable(Unavailable::HistoryChanged(changed))) => {
            let (is, was) = (changed.is.epoch, changed.was.epoch);
            Absence::Failed(format!("its log has epoch {is}, and that of the primary {was}"))
        }
        other => Absence::Failed(other.into_read_error().to_string()),
    }
}
