//! Moves a log into a database or away from one, with its identity.
//!
//! The row of the log says where it moved to, or where it is moving from. A trigger refuses commits
//! by that row, whose lock each append holds. So no append of any program is accepted after the
//! fence, also of programs that do not know moves. Each statement below can be sent again.

use diptych_store::{
    EventStore, Fence, LogId, LogIdentity, Position, ReadError, SyncError, TimeSource,
};
use tokio_postgres::Row;
use uuid::Uuid;

use super::{PostgresStore, Question};
use crate::{
    error::{MoveError, OpenError},
    failure::{Fault, server},
    inline::InlineSet,
    options::PostgresOptions,
    schema::{NewLog, epoch_of, position_of, stored_position},
    session::{Parameter, Session},
};

const STATE: &str = "select uuid, epoch, head, moved_to, moving_from from diptych.log
  where id = $1";
/// It waits for the append that has the lock. A repeated one waits for standbys again.
const FENCE: &str = "update diptych.log set moved_to = $4
  where id = $1 and uuid = $2 and epoch = $3 and moving_from is null
    and (moved_to is null or moved_to = $4)
  returning head";
/// An earlier run of the move cannot write from now on.
const TAKE_OVER: &str = "update diptych.log set moving_from = $4, mover = $5
  where id = $1 and uuid = $2 and epoch = $3 and moving_from is not null
  returning head";
const COMPLETE: &str = "update diptych.log set moving_from = null, mover = null
  where id = $1 and uuid = $2 and epoch = $3 and moving_from is not null and mover = $4
    and head = $5
  returning head";

impl PostgresStore {
    /// Fences this log, which moves to the place `to`, a folder or an address without secrets: from
    /// now on it takes no commits of any program. Reads go on.
    ///
    /// The fence is as durable as a commit when this returns. It can be called again.
    ///
    /// # Errors
    /// [`MoveError::Source`] if the log has another identity, moved to another place, or is not
    /// whole. [`OpenError::Server`] if there is no answer: then the log may be fenced.
    pub async fn fence(&self, identity: LogIdentity, to: &str) -> Result<Fence, MoveError> {
        self.must_be_primary()?;
        let to: Box<str> = to.into();
        let noted = to.clone();
        let upto = self.update(identity, FENCE, move || vec![Box::new(noted.clone())]).await?;
        if let Some(upto) = upto {
            return Ok(Fence::new(identity, upto));
        }
        let state = self.move_state().await?;
        if state.identity != identity {
            return Err(self.source_error(format!(
                "is the log {} now, and the move began with {identity}: commits may be lost, or a \
                 backup was restored; remove the target, then begin the move anew",
                state.identity
            )));
        }
        // Both of these were so before.
        match self.fence_in(state, &to)? {
            Some(fence) => Ok(fence),
            None => Err(self.source_error("changed while it was fenced: repeat the move")),
        }
    }

    /// The fence of this log, if it moved to the place `to`; `None` if it did not move yet.
    ///
    /// # Errors
    /// [`MoveError::Source`] if it moved elsewhere, or cannot move, because it is read from a
    /// replica, or is the target of a move.
    pub async fn fenced(&self, to: &str) -> Result<Option<Fence>, MoveError> {
        self.must_be_primary()?;
        let state = self.move_state().await?;
        self.fence_in(state, to)
    }

    fn fence_in(&self, state: MoveState, to: &str) -> Result<Option<Fence>, MoveError> {
        match (state.moved_to, state.moving_from) {
            (Some(noted), _) if noted == to => Ok(Some(Fence::new(state.identity, state.head))),
            (Some(noted), _) => Err(self.source_error(format!(
                "moved to {noted} and takes commits there: use it there, or finish that move"
            ))),
            (None, Some(from)) => Err(self.source_error(format!(
                "is not whole, because it moves here from {from}: finish that move first"
            ))),
            (None, None) => Ok(None),
        }
    }

    fn must_be_primary(&self) -> Result<(), MoveError> {
        match self.is_replica() {
            true => Err(self.source_error(
                "is read from a replica, which cannot move: give the address of the primary",
            )),
            false => Ok(()),
        }
    }

    async fn move_state(&self) -> Result<MoveState, MoveError> {
        let asked = self.ask(|Question { session, history }| {
            Box::pin(async move {
                let row = session.query_one(STATE, &[&history.log]).await?;
                row.map(|row| MoveState::of(&row)).ok_or_else(|| server("the log is gone").into())
            })
        });
        asked.await.map_err(|cause| self.unanswered(cause))
    }

    /// Executes a statement that changes the row of the log, and returns its head. The first
    /// parameters are the log and its identity. `None` if the row is not as the statement wants it.
    async fn update(
        &self,
        identity: LogIdentity,
        statement: &'static str,
        more: impl Fn() -> Vec<OwnedParameter> + Send + Sync + 'static,
    ) -> Result<Option<Position>, MoveError> {
        let uuid = Uuid::from_bytes(identity.id.to_bytes());
        let epoch = identity.epoch.to_u64().cast_signed();
        let asked = self.ask(move |Question { session, history }| {
            let more = more();
            Box::pin(async move {
                let mut parameters: Vec<Parameter<'_>> = vec![&history.log, &uuid, &epoch];
                parameters.extend(more.iter().map(|parameter| &**parameter as Parameter<'_>));
                session.take_unreplicated();
                let row = session.query_one(statement, &parameters).await?;
                must_be_replicated(session)?;
                Ok(row.map(|row| position_of(row.get("head"))))
            })
        });
        asked.await.map_err(|cause| self.unanswered(cause))
    }

    fn unanswered(&self, cause: ReadError) -> MoveError {
        OpenError::Server { place: self.shared.link.place().to_owned(), cause }.into()
    }

    /// The log in messages.
    fn named(&self) -> String {
        let link = &self.shared.link;
        format!("the log {:?} in the database {}", link.log(), link.place())
    }

    fn source_error(&self, problem: impl Into<String>) -> MoveError {
        MoveError::Source { log: self.named(), problem: problem.into() }
    }

    fn target_error(&self, problem: impl Into<String>) -> MoveError {
        MoveError::Target { log: self.named(), problem: problem.into() }
    }
}

type OwnedParameter = Box<dyn tokio_postgres::types::ToSql + Send + Sync>;

/// Refuses a change if the server said that it stopped waiting for a standby, which may not have
/// the change when it takes over.
fn must_be_replicated(session: &Session) -> Result<(), Fault> {
    match session.take_unreplicated() {
        true => Err(server(
            "it stopped waiting for a standby, which may not know of the move yet: repeat the move \
             when the standby is there",
        )
        .into()),
        false => Ok(()),
    }
}

/// The row of a log that may be moving.
struct MoveState {
    identity: LogIdentity,
    head: Position,
    moved_to: Option<String>,
    moving_from: Option<String>,
}

impl MoveState {
    fn of(row: &Row) -> MoveState {
        let uuid: Uuid = row.get("uuid");
        let id = LogId::from_bytes(uuid.into_bytes());
        MoveState {
            identity: LogIdentity { id, epoch: epoch_of(row.get("epoch")) },
            head: position_of(row.get("head")),
            moved_to: row.get("moved_to"),
            moving_from: row.get("moving_from"),
        }
    }
}

/// The target of a move, as the move found it.
#[derive(Debug)]
pub enum MoveTarget {
    /// It takes the commits of the source.
    Incomplete(Arrival),
    /// The log has arrived, and takes commits of its users.
    Complete,
}

/// A log that is being moved into a database. It has the identity of its source, and takes only the
/// commits that the caller copies. Those of other stores are refused.
#[derive(Debug)]
pub struct Arrival {
    store: PostgresStore,
    identity: LogIdentity,
}

impl Arrival {
    /// Begins a move to the log at an address, or continues it, for the log with this identity at
    /// the place `from`, which is a folder or an address without secrets. The schema and the log
    /// are made if they are missing. An earlier `Arrival` at this log takes no commits any more.
    ///
    /// # Errors
    /// [`MoveError::Target`]: the database has another log of this name. The other errors are those
    /// of an open.
    pub async fn begin(
        address: &str,
        identity: LogIdentity,
        from: &str,
        options: PostgresOptions,
    ) -> Result<MoveTarget, MoveError> {
        let options = PostgresOptions { create: true, time: TimeSource::Caller, ..options };
        let new = NewLog::Arriving { identity, from: from.to_owned() };
        let store = PostgresStore::open_log(address, options, InlineSet::default(), new).await?;
        if store.is_replica() {
            let problem =
                "is on a replica, which takes no commits: give the address of the primary";
            return Err(store.target_error(problem));
        }
        let state = store.move_state().await?;
        if state.identity != identity {
            return Err(store.target_error(format!(
                "is the log {}, and the log that moves is {identity}: take a name that no log of \
                 the database has",
                state.identity
            )));
        }
        if let Some(to) = state.moved_to {
            return Err(store.target_error(format!(
                "moved away from here to {to}, and does not come back: take a name that no log of \
                 the database has"
            )));
        }
        if state.moving_from.is_none() {
            return Ok(MoveTarget::Complete);
        }
        let (from, mover): (Box<str>, Uuid) = (from.into(), store.shared.link.writer);
        let more = move || -> Vec<OwnedParameter> { vec![Box::new(from.clone()), Box::new(mover)] };
        match store.update(identity, TAKE_OVER, more).await? {
            Some(_) => Ok(MoveTarget::Incomplete(Arrival { store, identity })),
            None => Err(store.target_error("changed meanwhile: repeat the move")),
        }
    }

    /// The store of the target.
    pub fn store(&self) -> &PostgresStore {
        &self.store
    }

    /// Opens the target to the commits of its users, and closes this store. The caller has compared
    /// source and target after the source was fenced.
    ///
    /// # Errors
    /// [`MoveError::Target`] if the target does not end where the source ends, or another run of
    /// the move works on it. The move can be repeated.
    pub async fn complete(self, fence: &Fence) -> Result<(), MoveError> {
        let Arrival { store, identity } = self;
        let completed = complete(&store, identity, fence).await;
        // Nothing is left to sync.
        let _ = store.close().await;
        completed
    }

    /// Closes the store. The target stays incomplete.
    ///
    /// # Errors
    /// [`SyncError`] if the store fails to close.
    pub async fn interrupt(self) -> Result<(), SyncError> {
        self.store.close().await
    }
}

async fn complete(
    store: &PostgresStore,
    identity: LogIdentity,
    fence: &Fence,
) -> Result<(), MoveError> {
    let (upto, mover) = (stored_position(fence.upto()), store.shared.link.writer);
    if identity == fence.identity() {
        let more = move || -> Vec<OwnedParameter> { vec![Box::new(mover), Box::new(upto)] };
        if store.update(identity, COMPLETE, more).await?.is_some() {
            return Ok(());
        }
    }
    let state = store.move_state().await?;
    // An answer was lost, or another run of the move was faster.
    let is_done = state.moving_from.is_none() && state.identity == fence.identity();
    match is_done && state.head >= fence.upto() {
        true => Ok(()),
        false => Err(store.target_error(format!(
            "has {} up to position {}, and its source has {} up to position {}, or another run of \
             the move works on it: repeat the move",
            state.identity,
            state.head,
            fence.identity(),
            fence.upto()
        ))),
    }
}
