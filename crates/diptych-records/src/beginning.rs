//! The time before a row was imported, about which a log knows nothing.

use diptych::{
    App, Filter, Fold, Invalid, Point, Position, Query, Recorded, query::QueryError, store::Read,
};
use serde::Serialize;

use crate::{
    fact::RecordEvent,
    list::{List, Page},
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

/// The answer about a list at a point in the past.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ListKnowledge<R> {
    /// The rows that the log knew at that point.
    Listed(Page<R>),
    /// No row was imported yet, and rows were imported later. Which of them were there, and how,
    /// the log does not know.
    Unknown {
        /// The position of the first import.
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

/// Asks for the first import of a row.
#[derive(Clone, Debug)]
pub(crate) struct FirstImport<R>(std::marker::PhantomData<fn() -> R>);

impl<R> Default for FirstImport<R> {
    fn default() -> FirstImport<R> {
        FirstImport(std::marker::PhantomData)
    }
}

impl<R: Record> Query for FirstImport<R> {
    type View = Beginning<R>;
    type Answer = Option<Position>;

    fn answer(&self, view: &Beginning<R>) -> Option<Position> {
        view.first.map(|(position, _)| position)
    }

    fn scope(&self) -> Filter {
        imports::<R>()
    }
}

fn imports<R: Record>() -> Filter {
    Filter::types([R::EVENTS.imported])
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

impl<R: Record> Records<R> {
    /// A list at a point in the past. Before the first import of rows, the answer is
    /// [`ListKnowledge::Unknown`]: any rows may have been there, in another system.
    ///
    /// From the first import on, a list has the rows that the log knew at that point. A row that
    /// came by a later run is not among them.
    ///
    /// # Errors
    /// [`Invalid`] if the list makes no sense, and [`QueryError`] as of the query at that point.
    pub fn list_as_of(
        &self,
        list: List<R>,
        point: impl Into<Point>,
    ) -> Result<impl Future<Output = Result<ListKnowledge<R>, QueryError>> + Send, Invalid> {
        let (app, list, point) = (self.app().clone(), list.checked()?, point.into());
        Ok(async move {
            if let Some(first) = first_import::<R>(&app).await? {
                let import = app.query(FirstImport::<R>::default()).at(point.as_of(first));
                if import.await?.is_none() {
                    return Ok(ListKnowledge::Unknown { imported_at: first.get() });
                }
            }
            Ok(ListKnowledge::Listed(app.query(list).at(point).await?.value))
        })
    }
}

/// The position of the first import of a row.
pub(crate) async fn first_import<R: Record>(app: &App) -> Result<Option<Position>, QueryError> {
    let read = Read::after(Position::START).limit(1);
    let first = app.store().read(&imports::<R>(), read).await?;
    Ok(first.get(0).map(|event| event.position()))
}

/// The position of the first event about a row, if it is an import.
pub(crate) async fn imported_at<R: Record>(
    records: &Records<R>,
    key: R::Key,
) -> Result<Option<Position>, QueryError> {
    let first = records.app().query(FirstEvent::<R> { key }).at(Point::now()).await?.value;
    Ok(first.and_then(|(position, is_import)| is_import.then_some(position)))
}
