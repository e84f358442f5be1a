//! The rows of one record in an app.

use std::{error::Error, marker::PhantomData};

use diptych::{
    App, AppBuilder, CommandError, Event, Execute, ExecuteError, Filter, Invalid, Point, Position,
    Receipt,
    event::SchemaError,
    past::Past,
    poster::PosterBuilder,
    query::{Ask, QueryError},
    subscribe::Subscribe,
};
use serde_json::Value;

use crate::{
    commands::{Create, Delete, Patch, Replace, other_key},
    fact::RecordEvent,
    journal::{Changes, HISTORY_EVENTS},
    list::List,
    record::Record,
    refusal::Refusal,
    row_json::checked_fields,
    view::{Get, RecordView},
};

/// How often [`Records::update`] reads a row that others change meanwhile.
pub const UPDATE_TRIES: u32 = 100;

/// Adds records to an app, and reaches them.
///
/// ```
/// # use diptych::{App, Memory};
/// # use diptych_records::{Record, Records, WithRecords};
/// # async fn start<Customer: Record>() -> Result<(), Box<dyn std::error::Error>> {
/// let app = App::over(Memory::new()).records::<Customer>().start().await?;
/// let customers: Records<Customer> = app.records::<Customer>();
/// # Ok(()) }
/// ```
pub trait WithRecords: Sized {
    /// The result of [`records`](WithRecords::records).
    type With<R: Record>;

    /// An app gives the rows of this record. A builder gives itself, declares the events of the
    /// record, and keeps its view.
    fn records<R: Record>(self) -> Self::With<R>;
}

impl WithRecords for AppBuilder {
    type With<R: Record> = AppBuilder;

    fn records<R: Record>(self) -> AppBuilder {
        self.view::<RecordView<R>>().events::<RecordEvent<R>>()
    }
}

/// A poster has the reads alone.
impl WithRecords for PosterBuilder {
    type With<R: Record> = PosterBuilder;

    fn records<R: Record>(self) -> PosterBuilder {
        self.view::<RecordView<R>>()
    }
}

impl WithRecords for &App {
    type With<R: Record> = Records<R>;

    fn records<R: Record>(self) -> Records<R> {
        Records::of(self)
    }
}

/// The rows of one record in an app.
///
/// Each change is a [`Command`](diptych::Command), so it takes the options of
/// [`Execute`]: an idempotency key, an actor, a session. Each question is a
/// [`Query`](diptych::Query), so it can be asked [after a receipt](Ask::after), or
/// [of the past](Ask::as_of).
#[derive(Debug)]
pub struct Records<R> {
    app: App,
    expected: Option<Position>,
    of: PhantomData<fn() -> R>,
}

impl<R> Clone for Records<R> {
    fn clone(&self) -> Records<R> {
        Records { app: self.app.clone(), expected: self.expected, of: PhantomData }
    }
}

impl<R: Record> Records<R> {
    /// The rows of this record in `app`.
    pub fn of(app: &App) -> Records<R> {
        Records { app: app.clone(), expected: None, of: PhantomData }
    }

    /// A handle whose changes need the row to have this revision. They are otherwise refused as
    /// [`Refusal::Stale`].
    #[must_use]
    pub fn expecting(&self, revision: impl Into<Option<Position>>) -> Records<R> {
        Records { expected: revision.into(), ..self.clone() }
    }

    /// Creates a row.
    pub fn create(&self, row: R) -> Execute<Create<R>> {
        self.app.execute(Create { row })
    }

    /// Puts this row in place of the one with its key.
    pub fn replace(&self, row: R) -> Execute<Replace<R>> {
        self.app.execute(Replace { row, expected: self.expected })
    }

    /// Changes some fields by a JSON merge patch (RFC 7396): `json!({ "city": "Rome" })`.
    /// A patch that is no object is refused.
    pub fn patch(&self, key: R::Key, patch: Value) -> Execute<Patch<R>> {
        let patch = match patch {
            Value::Object(fields) => fields,
            // No field has this name, so the command is refused.
            other => [("a patch that is no object".to_owned(), other)].into_iter().collect(),
        };
        self.app.execute(Patch { key, patch, expected: self.expected })
    }

    /// Deletes a row.
    pub fn delete(&self, key: R::Key) -> Execute<Delete<R>> {
        self.app.execute(Delete { key, expected: self.expected })
    }

    /// Changes a row by a function. If others change the row meanwhile, the function is called
    /// again with the newer row. So it may be called several times.
    ///
    /// # Errors
    /// [`UpdateError`] if the row cannot be read, or the change is refused. After
    /// [`UPDATE_TRIES`] changes by others it is [`Refusal::Stale`].
    pub async fn update(
        &self,
        key: R::Key,
        change: impl FnMut(&mut R),
    ) -> Result<Receipt, UpdateError> {
        self.update_with(key, change, |execute| execute).await
    }

    /// Like [`update`](Records::update), with options for the command, such as its actor.
    ///
    /// # Errors
    /// As of [`update`](Records::update).
    pub async fn update_with(
        &self,
        key: R::Key,
        mut change: impl FnMut(&mut R),
        options: impl Fn(Execute<Replace<R>>) -> Execute<Replace<R>>,
    ) -> Result<Receipt, UpdateError> {
        let mut tries = 1;
        loop {
            let answer = self.get(key.clone()).strong().await?;
            let Some(entry) = answer.value else {
                return Err(Refusal::Missing { record: R::NAME, key: key.to_string() }.into());
            };
            let read = entry.position();
            let mut row = entry.row.clone();
            change(&mut row);
            check_update(&key, &row)?;
            // A merge patch cannot say each change inside a nested value, so the whole row is sent.
            let command = Replace { row, expected: self.expected.or(Some(read)) };
            match options(self.app.execute(command)).await {
                Ok(receipt) => return Ok(receipt),
                Err(ExecuteError::Rejected(Refusal::Stale { .. }))
                    if self.expected.is_none() && tries < UPDATE_TRIES =>
                {
                    tries += 1;
                }
                Err(ExecuteError::Rejected(refusal)) => return Err(refusal.into()),
                Err(ExecuteError::Failed(error)) => return Err(error.into()),
            }
        }
    }

    /// The row with this key, if there is one.
    pub fn get(&self, key: R::Key) -> Ask<Get<R>> {
        self.app.query(Get { key })
    }

    /// Rows by an index, a page at a time.
    ///
    /// # Errors
    /// [`Invalid`] if the list uses a field without an index, or continues another list.
    pub fn list(&self, list: List<R>) -> Result<Ask<List<R>>, Invalid> {
        Ok(self.app.query(list.checked()?))
    }

    /// All changes of a row, from its creation on, by the log itself. More than
    /// [`HISTORY_EVENTS`] are [`QueryError::OverBudget`].
    pub fn history(&self, key: R::Key) -> Past<Changes<R>> {
        self.app.query(Changes { key }).at(Point::now()).read_at_most(HISTORY_EVENTS)
    }

    /// The events about all rows, for another part of the program. A second view is a
    /// [`Fold`](diptych::Fold) over [`RecordEvent`].
    pub fn events(&self) -> Subscribe<RecordEvent<R>> {
        self.app.subscribe(Filter::everything())
    }

    /// The app.
    pub fn app(&self) -> &App {
        &self.app
    }
}

/// # Errors
/// The refusal of a row that makes no sense in place of the one with this key.
fn check_update<R: Record>(key: &R::Key, row: &R) -> Result<(), Refusal> {
    if row.key() != *key {
        return Err(other_key::<R>().into());
    }
    checked_fields(row)?;
    Ok(())
}

/// A row was not updated.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UpdateError {
    /// The rule refused the change.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The row could not be read.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// The change could not be carried out.
    #[error(transparent)]
    Command(#[from] CommandError),
}

/// The mistake in the declaration of a record, if it has one. A test of a program calls it for a
/// record that is implemented by hand.
///
/// # Errors
/// [`SchemaError::Declaration`] with the contradiction.
pub fn check_record<R: Record>() -> Result<(), Box<dyn Error + Send + Sync>> {
    let wrong = |problem: String| Err(SchemaError::Declaration { problem }.into());
    let record = R::NAME;
    if !R::FIELDS.iter().any(|field| field.name == R::KEY_FIELD) {
        return wrong(format!("{record} has no field {}, its key: list it", R::KEY_FIELD));
    }
    let unique = R::FIELDS.iter().filter_map(|field| field.unique);
    for tag in std::iter::once(record).chain(unique) {
        if !R::TAGS.contains(&tag) {
            return wrong(format!("{record} has the tag {tag}, which `TAGS` lacks: list it there"));
        }
    }
    let guarded = R::FIELDS.iter().find(|field| {
        field.retired.is_some() && (field.unique.is_some() || field.name == R::KEY_FIELD)
    });
    if let Some(field) = guarded {
        return wrong(format!(
            "{record} retires {}, which is its key or unique: keep plain changes of it",
            field.name
        ));
    }
    let mut intents = <R::Intents as Event>::types().into_iter();
    match intents.find(|intent| !intent.tags.contains(&record)) {
        None => Ok(()),
        Some(intent) => wrong(format!(
            "{} changes rows of {record} and has no tag {record}: give it one",
            intent.name
        )),
    }
}
