//! An append with its rows: one transaction has the events, the rows, and the place that the rows
//! have reached.
//!
//! The commits of a batch are decided and written together. If rows are refused, the transaction is
//! rolled back, and the batch is decided again commit by commit, each after a savepoint. So the
//! commit whose rows are refused leaves nothing, the positions stay dense, and the others go on.

use std::{collections::HashMap, ops::Range, sync::Arc};

use diptych_store::{BatchBuilder, Position, Refusal};
use tokio::try_join;
use tokio_postgres::Row;

use super::{InlineSet, LOCKED, RowsBatch, RowsError};
use crate::{
    batch::{APPEND, CallHead, CommitBatch, CommitJob, CommitPlace, ROWS_REFUSED},
    failure::{Fault, server},
    history::History,
    schema::position_of,
    session::{Parameter, Session, plans},
};

/// The answer of the function.
#[derive(Debug)]
pub(crate) struct AppendAnswer {
    pub(crate) epoch: i64,
    pub(crate) head: Position,
    /// `None` if the log has another epoch, or a later call of the writer was decided.
    pub(crate) numbers: Option<Vec<i64>>,
}

impl AppendAnswer {
    pub(crate) fn of(row: Option<Row>) -> Result<AppendAnswer, Fault> {
        let Some(row) = row else { return Err(server("the function gave no answer").into()) };
        Ok(AppendAnswer {
            epoch: row.get("o_epoch"),
            head: position_of(row.get("o_head")),
            numbers: row.get("o_verdicts"),
        })
    }
}

/// The commits of a batch whose rows were refused, by their number in it.
pub(crate) type RefusedRows = HashMap<usize, Refusal>;

/// A batch that is decided together with its rows.
#[derive(Debug)]
pub(crate) struct RowsAppend<'a> {
    pub(crate) set: &'a Arc<InlineSet>,
    pub(crate) session: &'a Session,
    pub(crate) history: &'a History,
    pub(crate) batch: &'a CommitBatch,
    pub(crate) head: &'a CallHead,
    pub(crate) types: &'a HashMap<String, i32>,
}

const DECIDED: &str = "select verdicts from diptych.writer
  where log = $1 and id = $2 and batch = $3";
/// Makes room for the decision about the next commit of the same call.
const UNDECIDED: &str = "update diptych.writer set batch = $3 - 1
  where log = $1 and id = $2 and batch = $3";
const DECIDE: &str = "insert into diptych.writer (log, id, batch, verdicts)
  values ($1, $2, $3, $4)
  on conflict (log, id) do update
  set batch = excluded.batch, verdicts = excluded.verdicts, used_at = excluded.used_at";
const BEFORE_COMMIT: &str = "savepoint diptych_commit";
const WITHOUT_COMMIT: &str = "rollback to savepoint diptych_commit";

/// Ends a commit, with the settings of the session, which its rows may have changed for the
/// transaction.
fn after_commit() -> String {
    let plans = plans("set local");
    format!("release savepoint diptych_commit; set local search_path = pg_catalog; {plans}")
}

/// The row of the log while its lock is held.
struct LockedLog {
    head: Position,
    named: Vec<String>,
}

impl LockedLog {
    fn of(row: Option<Row>) -> Result<LockedLog, Fault> {
        let Some(row) = row else { return Err(server("the log is gone").into()) };
        Ok(LockedLog { head: position_of(row.get("head")), named: row.get("inline") })
    }
}

impl RowsAppend<'_> {
    /// Decides the batch and writes its rows. `is_sent` becomes true when a commit may be done.
    pub(crate) async fn run(
        &self,
        is_sent: &mut bool,
        refused: &mut RefusedRows,
    ) -> Result<AppendAnswer, Fault> {
        let together = self.together(is_sent).await;
        let answer = match together {
            Ok(Some(answer)) => return Ok(answer),
            Ok(None) => {
                self.session.execute("rollback").await?;
                self.one_by_one(is_sent, refused).await
            }
            Err(fault) => Err(fault),
        };
        if answer.is_err() && self.session.execute("rollback").await.is_err() {
            // The transaction ends with its connection.
            self.session.cut();
        }
        answer
    }

    /// Decides all commits by one call, and writes their rows together. Returns `None` if rows were
    /// refused, within the transaction.
    async fn together(&self, is_sent: &mut bool) -> Result<Option<AppendAnswer>, Fault> {
        let (session, set) = (self.session, self.set);
        let call = self.batch.call(self.history.identity.id, self.types);
        let Some(parameters) = call.parameters(self.head) else { return Err(no_parameters()) };
        // Both are prepared before, so the three statements are sent at once, in this order.
        session.prepared(LOCKED).await?;
        session.prepared(APPEND).await?;
        let (begin, log): (_, [Parameter<'_>; 1]) = (set.begin(), [&self.head.log]);
        let ((), locked, decided) = try_join!(
            session.execute(&begin),
            session.query_one(LOCKED, &log),
            session.query_one(APPEND, &parameters)
        )?;
        let (locked, answer) = (LockedLog::of(locked)?, AppendAnswer::of(decided)?);
        let numbers = answer.numbers.as_deref().unwrap_or_default();
        let rows = self.rows(0..self.batch.jobs.len(), numbers, locked.head)?;
        if let Some(rows) = rows {
            match set.write(session.client(), &locked.named, rows).await {
                Ok(()) => {}
                Err((_, RowsError::Refused { .. })) => return Ok(None),
                Err((name, error)) => return Err(fault_of(&name, error)),
            }
        }
        self.commit(is_sent).await?;
        Ok(Some(answer))
    }

    /// Commits the transaction. Only a notice from here on is about a standby: a trigger of a table
    /// may warn as well.
    async fn commit(&self, is_sent: &mut bool) -> Result<(), Fault> {
        self.session.take_unreplicated();
        *is_sent = true;
        self.session.execute("commit").await
    }

    /// Decides and writes each commit by itself, in one transaction.
    async fn one_by_one(
        &self,
        is_sent: &mut bool,
        refused: &mut RefusedRows,
    ) -> Result<AppendAnswer, Fault> {
        let (session, head) = (self.session, self.head);
        session.execute(&self.set.begin()).await?;
        let locked = session.query_one(LOCKED, &[&head.log]).await?;
        let mut log = LockedLog::of(locked)?;
        let writer: [Parameter<'_>; 3] = [&head.log, &head.writer, &head.number];
        if let Some(row) = session.query_one(DECIDED, &writer).await? {
            session.execute("rollback").await?;
            let (epoch, numbers) = (self.history.epoch(), Some(row.get("verdicts")));
            return Ok(AppendAnswer { epoch, head: log.head, numbers });
        }
        let (mut numbers, after_commit) =
            (Vec::with_capacity(4 * self.batch.jobs.len()), after_commit());
        for at in 0..self.batch.jobs.len() {
            session.execute(BEFORE_COMMIT).await?;
            let answer = self.decide(at).await?;
            let Some(own) = answer.numbers.as_deref() else {
                session.execute("rollback").await?;
                return Ok(answer);
            };
            match self.write(at, own, &log).await? {
                Ok(()) => {
                    numbers.extend_from_slice(own);
                    log.head = answer.head;
                }
                Err(refusal) => {
                    session.execute(WITHOUT_COMMIT).await?;
                    numbers.extend_from_slice(&ROWS_REFUSED);
                    refused.insert(at, refusal);
                }
            }
            session.execute(&after_commit).await?;
            session.query(UNDECIDED, &writer).await?;
        }
        session.query(DECIDE, &[&head.log, &head.writer, &head.number, &numbers]).await?;
        self.commit(is_sent).await?;
        let epoch = self.history.epoch();
        Ok(AppendAnswer { epoch, head: log.head, numbers: Some(numbers) })
    }

    /// Decides one commit of the batch.
    async fn decide(&self, at: usize) -> Result<AppendAnswer, Fault> {
        let Some(job) = self.batch.jobs.get(at) else { return Err(no_parameters()) };
        let call = CommitBatch::call_alone(job, self.history.identity.id, self.types);
        let Some(parameters) = call.parameters(self.head) else { return Err(no_parameters()) };
        AppendAnswer::of(self.session.query_one(APPEND, &parameters).await?)
    }

    /// Writes the rows of one commit, or returns why they were refused.
    async fn write(
        &self,
        at: usize,
        numbers: &[i64],
        log: &LockedLog,
    ) -> Result<Result<(), Refusal>, Fault> {
        let Some(rows) = self.rows(at..at + 1, numbers, log.head)? else { return Ok(Ok(())) };
        match self.set.write(self.session.client(), &log.named, rows).await {
            Ok(()) => Ok(Ok(())),
            Err((projection, RowsError::Refused { reason })) => {
                Ok(Err(Refusal::Rows { projection, reason }))
            }
            Err((name, error)) => Err(fault_of(&name, error)),
        }
    }

    /// The events of the accepted commits among these. `None` if there are none, or if the call was
    /// decided before: its events are in the log already.
    fn rows(
        &self,
        jobs: Range<usize>,
        numbers: &[i64],
        head: Position,
    ) -> Result<Option<RowsBatch>, Fault> {
        let jobs = self.batch.jobs.get(jobs).unwrap_or_default();
        let places = jobs.iter().zip(numbers.chunks_exact(4));
        let accepted = |(job, numbers)| Some((job, CommitPlace::of(job, numbers)?));
        let accepted: Vec<(&CommitJob, CommitPlace)> = places.filter_map(accepted).collect();
        let Some((job, last)) = accepted.last() else { return Ok(None) };
        if last.last <= head {
            return Ok(None);
        }
        let mut events = BatchBuilder::new();
        for (job, place) in &accepted {
            let put = job.put_events(place, &mut events);
            put.map_err(|error| server(format!("an event cannot be read again: {error}")))?;
        }
        let Some(checksum) = last.checksum(job) else { return Ok(None) };
        Ok(Some(RowsBatch {
            log: self.history.identity,
            events: events.finish(last.last, last.last),
            after: head,
            upto: last.last,
            checksum,
            recorded_at: Some(last.recorded_at),
        }))
    }
}

fn no_parameters() -> Fault {
    server("the call has no parameters").into()
}

/// The fault of rows that have another error than a refusal.
fn fault_of(projection: &str, error: RowsError) -> Fault {
    let what = format!("the inline projection {projection}: {error}");
    match error {
        RowsError::Passing { .. } => Fault::Connection(server(what)),
        RowsError::Moved { .. } => server(format!(
            "{what}: other programs moved its rows or its checkpoint; end it by \
             diptych.end_inline, rebuild it, and open the store again"
        ))
        .into(),
        RowsError::Refused { .. } | RowsError::Broken { .. } => server(what).into(),
    }
}
