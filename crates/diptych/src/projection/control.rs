//! Handles to look after the projections of an app.

use std::{fmt, sync::Arc, time::Duration};

use diptych_store::{Filter, Position};

use super::{Target, runner::Runner};
use crate::{
    event::{Schema, SchemaError},
    follow::{
        self, Control, ControlError, Feed, FollowState, Halted, Lag, Progress, Refresh, Request,
    },
    lineage::{Claims, Lineage, settled},
    query::{NotYet, QueryError},
    token::Receipt,
    view::panel::Unstarted,
};

/// The app runs no such projection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the app runs no projection {name:?}: add it with `AppBuilder::projection` before the app is \
     started"
)]
pub struct NoSuchProjection {
    /// The name that was asked for.
    pub name: String,
}

/// The status of a projection.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProjectionStatus {
    /// Its name.
    pub projection: String,
    /// All events up to here are in its rows. The stored checkpoint may be lower if no matching
    /// event came since.
    pub position: Position,
    /// Its state, with the reason if it stands still.
    pub state: FollowState,
    /// How far it is behind the log.
    pub lag: Lag,
    /// Number of events applied since the app was started.
    pub events: u64,
}

/// A handle to look after one projection of an app: see
/// [`App::projection`](crate::App::projection).
#[derive(Clone)]
pub struct ProjectionControl {
    control: Arc<Control>,
    lineage: Arc<Lineage>,
    head: diptych_store::Head,
}

/// A projection before the start of the app, when there is no store to read yet.
pub(crate) trait Planned: Send {
    fn name(&self) -> String;
    fn filter(&self, schema: &Schema) -> Result<Filter, SchemaError>;
    fn start(self: Box<Self>, feed: &Arc<Feed>, schema: &Schema) -> Result<Control, Unstarted>;
}

pub(crate) struct Plan<T> {
    pub(crate) target: T,
    pub(crate) refresh: Refresh,
}

impl<T: Target> Planned for Plan<T> {
    fn name(&self) -> String {
        self.target.name().to_owned()
    }

    fn filter(&self, schema: &Schema) -> Result<Filter, SchemaError> {
        let reading = schema.reading::<T::Event>()?;
        reading.check_current()?;
        Ok(reading.everything())
    }

    fn start(self: Box<Self>, feed: &Arc<Feed>, schema: &Schema) -> Result<Control, Unstarted> {
        let reading = schema.reading::<T::Event>().map_err(Unstarted::Schema)?;
        let filter = reading.everything();
        let progress = Arc::new(Progress::new("projection", self.name(), Position::START));
        let runner = Runner::new(self.target, feed.lineage().clone(), progress.clone());
        let control = follow::spawn(runner, feed.clone(), reading, filter, self.refresh, progress);
        control.map_err(Unstarted::Thread)
    }
}

impl ProjectionControl {
    pub(crate) fn new(control: Arc<Control>, feed: &Feed) -> ProjectionControl {
        ProjectionControl { control, lineage: feed.lineage().clone(), head: feed.head().clone() }
    }

    /// Its status.
    pub fn status(&self) -> ProjectionStatus {
        let progress = &self.control.progress;
        ProjectionStatus {
            projection: progress.name().to_owned(),
            position: progress.position(),
            state: progress.state(),
            lag: progress.lag(self.head.position()),
            events: progress.events(),
        }
    }

    /// Waits until the events of this command are in the rows. Returns the position of the rows.
    ///
    /// # Errors
    /// [`QueryError::NotYet`] if that takes longer than `within`; other errors if the rows will not
    /// get there.
    pub async fn after(&self, receipt: &Receipt, within: Duration) -> Result<Position, QueryError> {
        let mut claims = Claims::default();
        claims.point(&self.lineage, receipt.point());
        if !claims.are_settled() {
            settled(claims, self.lineage.clone(), within).await?;
        }
        self.until(receipt.last(), within).await
    }

    /// Waits until every event that is durable now is in the rows. Returns the position of the
    /// rows.
    ///
    /// # Errors
    /// As [`after`](ProjectionControl::after).
    pub async fn caught_up(&self, within: Duration) -> Result<Position, QueryError> {
        let progress = &self.control.progress;
        let need = self.head.position();
        // The order matters: if the head has not ended by now, the position read before was the end
        // of the log.
        let current = progress.check_current(&self.head);
        current.map_err(|halted| QueryError::halted(halted, progress.name()))?;
        self.until(need, within).await
    }

    async fn until(&self, need: Position, within: Duration) -> Result<Position, QueryError> {
        let progress = &self.control.progress;
        match follow::within(within, self.reaches(need)).await {
            None => {
                let have = progress.position();
                Err(QueryError::NotYet(NotYet { need, have, within }))
            }
            Some(Ok(reached)) => Ok(reached),
            Some(Err(halted)) => Err(QueryError::halted(halted, progress.name())),
        }
    }

    /// Waits until the rows reach `need` and the target confirms it. While no event came, another
    /// database may have been put in its place.
    async fn reaches(&self, need: Position) -> Result<Position, Halted> {
        loop {
            self.control.progress.until(need).await?;
            match self.control.ask(Request::Confirm).await {
                Ok(reached) if reached >= need => return Ok(reached),
                Err(ControlError::Stopped(stopped)) => return Err(Halted::Stopped(stopped)),
                Err(ControlError::Ended { reason }) => return Err(Halted::Ended { reason }),
                Err(ControlError::Closed) => return Err(Halted::Closed),
                // The rows went back, or the target cannot confirm for now.
                Ok(_) | Err(ControlError::Failed { .. } | ControlError::NotPaused) => {}
            }
        }
    }

    /// Pauses the projection. Once this returns, nothing more is written to its rows.
    ///
    /// # Errors
    /// [`ControlError`] if it is stopped.
    pub async fn pause(&self) -> Result<Position, ControlError> {
        self.control.ask(Request::Pause).await
    }

    /// Applies the next matching event, if any. The projection has to be paused.
    ///
    /// # Errors
    /// [`ControlError`] if it is not paused, or stopped.
    pub async fn step(&self) -> Result<Position, ControlError> {
        self.control.ask(Request::Step).await
    }

    /// Continues after a pause, or after a failure whose cause was fixed.
    ///
    /// # Errors
    /// [`ControlError`] if the log or the app has ended.
    pub async fn resume(&self) -> Result<Position, ControlError> {
        self.control.ask(Request::Resume).await
    }

    /// Applies the events that came, whatever its [`Refresh`] says. Returns when that has begun.
    ///
    /// # Errors
    /// [`ControlError`] if it is stopped.
    pub async fn refresh(&self) -> Result<Position, ControlError> {
        self.control.ask(Request::Refresh).await
    }

    /// Removes all rows and starts over from the start of the log, also after a failure. Returns
    /// when the rows are gone.
    ///
    /// # Errors
    /// [`ControlError`] with the error of the database.
    pub async fn reset(&self) -> Result<(), ControlError> {
        self.control.ask(Request::Rebuild).await.map(drop)
    }
}

impl fmt::Debug for ProjectionControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ProjectionControl").field(&self.control.progress.name()).finish()
    }
}
