//! The time before a row was imported, about which a log knows nothing.

use diptych::{Filter, Fold, Point, Position, Query, Recorded, query::QueryError};
use serde::Serialize;

use crate::{
    fact::RecordEvent,
    record::Record,
    records::Records,
    state::Row,
    view::{Entry, Get},
};

/// The answer about a row at a point in the past.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Knowledge<R> {
    /// The row.
    There(Entry<R>),
    /// There was no row.
    Absent,
    /// The row was imported later. Whether it was there before, and how, the log does not know.
    Unknown {
        /// The position of the import.
        imported_at: u64,
    },
}

/// The first event about a row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Beginning<R> {
    /// Its position, and whether it is an import.
    first: Option<(Position, bool)>,
    of: std::marker::PhantomData<fn() -> R>,
}

impl<R> Default for Beginning<R> {
    fn default() -> Beginning<R> {
        Beginning { first: None, of: std::marker::PhantomData }
    }
}

impl<R: Record> Fold for Beginning<R> {
    type Event = RecordEvent<R>;

    fn apply(&mut self, event: &Recorded<RecordEvent<R>>) {
        let is_import = matches!(event.event, RecordEvent::Imported { .. });
        self.first.get_or_insert((event.position, is_import));
    }
}

/// Asks for the first event about a row, and whether it is an import.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct FirstEvent<R: Record> {
    pub(crate) key: R::Key,
}

impl<R: Record> Query for FirstEvent<R> {
    type View = Beginning<R>;
    type Answer = Option<(Position, bool)>;

    fn answer(&self, view: &Beginning<R>) -> Option<(Position, bool)> {
        view.first
    }

    fn scope(&self) -> Filter {
        Row::<R>::filter(&self.key)
    }
}

impl<R: Record> Records<R> {
    /// The row at a point in the past, if the log has it. Before a row was imported, the
    /// answer is [`Knowledge::Unknown`]: the row may have been there, in another system.
    ///
    /// # Errors
    /// [`QueryError`] as of the query at that point.
    pub async fn as_of(
        &self,
        key: R::Key,
        point: impl Into<Point>,
    ) -> Result<Knowledge<R>, QueryError> {
        let point = point.into();
        if let Some(entry) = self.app().query(Get::<R> { key: key.clone() }).at(point).await?.value
        {
            return Ok(Knowledge::There(entry));
        }
        let first = FirstEvent::<R> { key: key.clone() };
        if self.app().query(first).at(point).await?.is_some() {
            return Ok(Knowledge::Absent);
        }
        Ok(match imported_at(self, key).await? {
            Some(position) => Knowledge::Unknown { imported_at: position.get() },
            None => Knowledge::Absent,
        })
    }
}

/// The position of the first event about a row, if it is an import.
pub(crate) async fn imported_at<R: Record>(
    records: &Records<R>,
    key: R::Key,
) -> Result<Option<Position>, QueryError> {
    let first = records.app().query(FirstEvent::<R> { key }).at(Point::now()).await?.value;
    Ok(first.and_then(|(position, is_import)| is_import.then_some(position)))
}
