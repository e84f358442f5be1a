//! The task that sends all appends of a store. While one call is under way, the commits that come
//! wait, and the next call takes them all: one transaction and one sync for many commits.
//!
//! After a lost connection the call is sent again with its number. The function answers a number
//! that it has decided from the log, so each call is executed once, also if the first one was only
//! on its way.

use std::{collections::VecDeque, sync::Arc};

use diptych_store::{
    AcceptedCommit, AppendError, CommitNumber, CommitSync, HistoryChanged, LogIdentity, Position,
    ReadError, Refusal, SyncError, Unavailable,
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, timeout_at},
};
use tokio_postgres::error::SqlState;

use crate::{
    batch::{APPEND, CallHead, CommitBatch, CommitJob, Verdict},
    failure::{Fault, Pauses, no_answer, server},
    history::History,
    inline::{AppendAnswer, InlineSet, RefusedRows, RowsAppend},
    link::Link,
    marks::Mark,
    reads, schema,
    schema::stored_position,
    session::Session,
};

/// An order to the writer.
#[derive(Debug)]
pub(crate) enum WriterOrder {
    Commit(Box<CommitJob>),
    /// End after the commits that came before.
    Close(oneshot::Sender<()>),
}

#[derive(Debug)]
struct Writer {
    link: Arc<Link>,
    session: Option<Session>,
    /// The rows that are written in the transaction of each call.
    rows: Arc<InlineSet>,
    queue: VecDeque<CommitJob>,
    closing: Vec<oneshot::Sender<()>>,
    /// The number of the next call.
    next: i64,
    /// Positions of one partition, once it is known, and the end of those that are there.
    partition_events: Option<i64>,
    partitions_upto: Position,
    heads: watch::Sender<Position>,
}

/// Works on orders until the store is closed or dropped.
pub(crate) async fn run(
    link: Arc<Link>,
    session: Session,
    rows: Arc<InlineSet>,
    mut orders: mpsc::UnboundedReceiver<WriterOrder>,
    heads: watch::Sender<Position>,
) {
    let mut writer = Writer {
        link,
        session: Some(session),
        rows,
        queue: VecDeque::new(),
        closing: Vec::new(),
        next: 1,
        partition_events: None,
        partitions_upto: Position::START,
        heads,
    };
    loop {
        if writer.queue.is_empty() {
            if !writer.closing.is_empty() {
                break;
            }
            let Some(order) = orders.recv().await else { return };
            writer.take(order);
        }
        while let Ok(order) = orders.try_recv() {
            writer.take(order);
        }
        let batch = writer.batch();
        if !batch.is_empty() {
            writer.decide(batch).await;
        }
    }
    // The connection closes first, so that the server has no session of a closed store.
    drop(writer.session.take());
    for closed in writer.closing {
        let _ = closed.send(());
    }
}

/// The answer of the function.
struct Decision {
    head: Position,
    numbers: Vec<i64>,
    /// Whether the server stopped waiting for a standby.
    is_unreplicated: bool,
}

impl Writer {
    fn take(&mut self, order: WriterOrder) {
        match order {
            WriterOrder::Commit(job) => self.queue.push_back(*job),
            WriterOrder::Close(closed) => self.closing.push(closed),
        }
    }

    /// The waiting commits, as many as fit in one call.
    fn batch(&mut self) -> CommitBatch {
        let (mut batch, now, is) = (CommitBatch::default(), Instant::now(), self.link.identity());
        while let Some(job) = self.queue.pop_front() {
            if job.log != is {
                let changed = HistoryChanged { was: job.log, is };
                job.answer(Err(Unavailable::HistoryChanged(changed).into()));
            } else if job.deadline <= now {
                let why = no_answer(self.link.options().answer_time);
                job.answer(Err(why.into()));
            } else if batch.has_room(&job) {
                batch.push(job);
            } else {
                self.queue.push_front(job);
                break;
            }
        }
        batch
    }

    /// Sends the call until there is an answer, or the time of all its commits is over.
    async fn decide(&mut self, batch: CommitBatch) {
        let history = self.link.history();
        let number = self.next;
        self.next += 1;
        let deadline = batch.jobs.iter().map(|job| job.deadline).max();
        let deadline = deadline.unwrap_or_else(Instant::now);
        let (mut pauses, mut is_unknown, mut grew) = (Pauses::new(), false, false);
        // Kept for a call whose answer is lost.
        let mut refused_rows = RefusedRows::new();
        loop {
            let mut is_sent = false;
            let attempt = self.attempt(&batch, &history, number, &mut is_sent, &mut refused_rows);
            let why = match timeout_at(deadline, attempt).await {
                Ok(Ok(decision)) => {
                    return self.answer(batch, &history, &decision, refused_rows).await;
                }
                Err(_) => {
                    is_unknown |= is_sent;
                    // Rows may be under way on it.
                    self.session.take().inspect(Session::cut);
                    no_answer(self.link.options().answer_time)
                }
                Ok(Err(Fault::Connection(why))) => {
                    is_unknown |= is_sent;
                    self.session = None;
                    if Instant::now() + pauses.next() < deadline {
                        pauses.wait().await;
                        continue;
                    }
                    why
                }
                Ok(Err(Fault::Statement(refused)))
                    if *refused.code() == SqlState::CHECK_VIOLATION && !grew =>
                {
                    // Another process filled the partitions that were there.
                    (grew, self.partitions_upto) = (true, Position::START);
                    continue;
                }
                Ok(Err(fault)) => {
                    // The function looks for an earlier call with this number before it refuses
                    // this one. So that call did not write, and cannot later.
                    is_unknown &= !fault.is_of_moved_log();
                    fault.into_unavailable()
                }
            };
            let answer = |why: Unavailable| match is_unknown {
                true => AppendError::OutcomeUnknown(SyncError { cause: why }),
                false => AppendError::Unavailable(why),
            };
            batch.jobs.into_iter().for_each(|job| job.answer(Err(answer(why.clone()))));
            return;
        }
    }

    /// Sends the call once.
    async fn attempt(
        &mut self,
        batch: &CommitBatch,
        history: &History,
        number: i64,
        is_sent: &mut bool,
        refused_rows: &mut RefusedRows,
    ) -> Result<Decision, Fault> {
        if self.session.as_ref().is_none_or(Session::is_closed) {
            self.session = Some(self.link.connect(None).await?);
        }
        let is = self.link.identity();
        if is != history.identity {
            return Err(changed(history.identity, is).into());
        }
        self.make_partitions(batch, history).await?;
        let Some(session) = &self.session else { return Err(Unavailable::Closed.into()) };
        let names = batch.types();
        let types = history.type_ids(session, names.iter().map(String::as_str)).await?;
        let head = CallHead::new(history, self.link.writer, number, &self.link.options().limits);
        session.take_unreplicated();
        let answer = match self.rows.is_empty() {
            true => {
                let call = batch.call(history.identity.id, &types);
                let Some(parameters) = call.parameters(&head) else {
                    return Err(server("the call has no parameters").into());
                };
                *is_sent = true;
                AppendAnswer::of(session.query_one(APPEND, &parameters).await?)?
            }
            false => {
                let (set, head, types) = (&self.rows, &head, &types);
                let append = RowsAppend { set, session, history, batch, head, types };
                append.run(is_sent, refused_rows).await?
            }
        };
        let is_unreplicated = session.take_unreplicated();
        let AppendAnswer { epoch, head, numbers } = answer;
        if epoch != history.epoch() {
            let is = LogIdentity { epoch: schema::epoch_of(epoch), ..history.identity };
            let changed = HistoryChanged { was: history.identity, is };
            return Err(self.link.changed(session, changed).await);
        }
        let Some(numbers) = numbers else {
            return Err(server("a later call of this store was decided before").into());
        };
        Ok(Decision { head, numbers, is_unreplicated })
    }

    /// Makes partitions ahead of time, in transactions of their own.
    async fn make_partitions(
        &mut self,
        batch: &CommitBatch,
        history: &History,
    ) -> Result<(), Fault> {
        let Some(session) = &self.session else { return Ok(()) };
        let size = match self.partition_events {
            Some(size) => size,
            None => schema::partition_events(session).await?,
        };
        self.partition_events = Some(size);
        let events = batch.events() as u64;
        if history.head().position().plus(events) < self.partitions_upto {
            return Ok(());
        }
        // Other processes may be far ahead.
        let head = reads::head(session, history).await?;
        let needed = head.plus(events);
        // The next one comes when half of the last is full.
        let upto = needed.plus(size.cast_unsigned() / 2);
        schema::add_partitions(session, size, head, upto).await?;
        let last = stored_position(upto) / size;
        let end = (last + 1).saturating_mul(size).cast_unsigned();
        self.partitions_upto = Position::new(end.saturating_sub(size.cast_unsigned() / 2));
        Ok(())
    }

    async fn answer(
        &mut self,
        batch: CommitBatch,
        history: &History,
        decision: &Decision,
        mut refused_rows: RefusedRows,
    ) {
        let limits = &self.link.options().limits;
        let Some(verdicts) = Verdict::all(&batch.jobs, &decision.numbers, limits) else {
            let cause = server("the function gave an answer of another version of the schema");
            let unknown = || AppendError::OutcomeUnknown(SyncError { cause: cause.clone() });
            return batch.jobs.into_iter().for_each(|job| job.answer(Err(unknown())));
        };
        let own = u32::from(!decision.is_unreplicated);
        history.add_commits(batch.jobs.iter().zip(&verdicts).filter_map(|(job, verdict)| {
            let Verdict::Accepted { first, last, recorded_at } = verdict else { return None };
            let checksum = job.content?.at(*last, *recorded_at);
            Some(Mark { first: *first, position: *last, checksum, own })
        }));
        // Before any answer, which may rest on these commits.
        history.publish(decision.head);
        self.heads.send_replace(decision.head);
        for (number, (job, verdict)) in batch.jobs.into_iter().zip(verdicts).enumerate() {
            let answer = match verdict {
                Verdict::Accepted { .. } if decision.is_unreplicated && job.writes() => {
                    Err(AppendError::OutcomeUnknown(SyncError { cause: unreplicated() }))
                }
                Verdict::Accepted { first, last, recorded_at } => {
                    let sync = CommitSync::new(CommitNumber(0), history.head());
                    Ok(AcceptedCommit { first, last, recorded_at, sync })
                }
                Verdict::Denied(error) => Err(error),
                Verdict::RowsRefused => {
                    let refusal = refused_rows.remove(&number);
                    Err(refusal.unwrap_or_else(lost_refusal).into())
                }
                Verdict::TrackingRefused => Err(self.tracking_refusal(&job, history).await),
            };
            job.answer(answer);
        }
    }

    /// The refusal by the stored tracking. That only moves on, so it still refuses the commit.
    async fn tracking_refusal(&self, job: &CommitJob, history: &History) -> AppendError {
        let (Some(session), Some(tracking)) = (&self.session, job.tracking()) else {
            return Unavailable::Closed.into();
        };
        match reads::tracked(session, history, &tracking.source).await {
            Ok(Some((stored, at))) => match tracking.check_against(&stored, at) {
                Err(refusal) => refusal.into(),
                Ok(()) => server("the tracking of a source went back").into(),
            },
            Ok(None) => server("the tracking of a source is gone").into(),
            Err(Fault::Answer(ReadError::Corrupt(corruption))) => corruption.into(),
            Err(fault) => fault.into_unavailable().into(),
        }
    }
}

fn changed(was: LogIdentity, is: LogIdentity) -> Unavailable {
    Unavailable::HistoryChanged(HistoryChanged { was, is })
}

/// The refusal of rows for which the reason is lost.
fn lost_refusal() -> Refusal {
    let (projection, reason) = ("of the store".to_owned(), "the reason was lost".to_owned());
    Refusal::Rows { projection, reason }
}

fn unreplicated() -> Unavailable {
    server(
        "it stopped waiting for a standby: the commit is in the log of this server, and is lost if \
         a standby without it takes over",
    )
}
