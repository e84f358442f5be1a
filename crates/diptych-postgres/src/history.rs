//! A history of the log, as this handle has seen it.

use std::{collections::HashMap, sync::Arc};

use diptych_store::{
    CommitNumber, EventChecksum, Head, HeadPublisher, HistoryChanged, LogIdentity, Position,
    Unavailable,
};
use parking_lot::{Mutex, RwLock};

use crate::{
    failure::Fault,
    marks::{Mark, Marks},
    schema::{LogRow, position_of},
    session::Session,
    text::unescape,
};

/// A history of the log. Clones share the head.
#[derive(Clone, Debug)]
pub(crate) struct History {
    pub(crate) identity: LogIdentity,
    /// The number of the log in its database.
    pub(crate) log: i16,
    /// Whether answers come from a replica beside the primary. They do not move the head.
    is_copy: bool,
    shared: Arc<HistoryParts>,
}

#[derive(Debug)]
struct HistoryParts {
    publisher: HeadPublisher,
    /// The events that this handle has seen: by them another state of the log is noticed.
    marks: Mutex<Marks>,
    types: RwLock<TypeNames>,
}

/// The dictionary of types, as far as it was needed.
#[derive(Debug, Default)]
struct TypeNames {
    names: HashMap<i32, Arc<str>>,
    ids: HashMap<Arc<str>, i32>,
}

const TYPES_BY_ID: &str = "select id, name from diptych.type_name where id = any($1)";
const TYPES_BY_NAME: &str = "select id, name from diptych.type_name where name = any($1)";
const NEW_TYPES: &str = "insert into diptych.type_name (name) select unnest($1::text[])
  on conflict (name) do nothing";

impl History {
    pub(crate) fn of(row: &LogRow) -> History {
        History::with_marks(row, Marks::default())
    }

    /// The history of which these events were seen already.
    pub(crate) fn with_marks(row: &LogRow, marks: Marks) -> History {
        let parts = HistoryParts {
            publisher: HeadPublisher::new(row.head),
            marks: Mutex::new(marks),
            types: RwLock::default(),
        };
        History { identity: row.identity, log: row.id, is_copy: false, shared: Arc::new(parts) }
    }

    /// The same history for answers of a replica beside the primary. Its end is not the end of the
    /// log, and may be of another history.
    pub(crate) fn of_copy(&self) -> History {
        History { is_copy: true, ..self.clone() }
    }

    pub(crate) fn head(&self) -> Head {
        self.shared.publisher.head()
    }

    /// Publishes the events up to this position, which are durable.
    pub(crate) fn publish(&self, head: Position) {
        self.shared.publisher.publish(head, CommitNumber(0));
    }

    /// Shows the epoch and the head that a statement found. The error means that its answer is of
    /// another history.
    pub(crate) fn seen(&self, epoch: i64, head: i64) -> Result<Position, HistoryChanged> {
        if epoch != self.epoch() {
            let is = LogIdentity { epoch: crate::schema::epoch_of(epoch), ..self.identity };
            return Err(HistoryChanged { was: self.identity, is });
        }
        let head = position_of(head);
        if !self.is_copy {
            self.publish(head);
        }
        Ok(head)
    }

    /// The epoch as the database has it.
    pub(crate) fn epoch(&self) -> i64 {
        self.identity.epoch.to_u64().cast_signed()
    }

    /// Ends the head for its readers.
    pub(crate) fn end(&self, why: Unavailable) {
        self.shared.publisher.end(why);
    }

    /// The last event that this handle has seen.
    pub(crate) fn mark(&self) -> (Position, EventChecksum) {
        let last = self.shared.marks.lock().last();
        last.map_or((Position::START, EventChecksum::START), |mark| (mark.position, mark.checksum))
    }

    /// The events that this handle has seen, as far as it remembers them, in order.
    pub(crate) fn marks(&self) -> Vec<Mark> {
        self.shared.marks.lock().all()
    }

    /// Remembers an event of a read, unless a later one is known.
    pub(crate) fn set_mark(&self, position: Position, checksum: EventChecksum) {
        let mut marks = self.shared.marks.lock();
        if marks.last().is_none_or(|last| position > last.position) && !self.is_copy {
            marks.add(Mark::read(position, checksum));
        }
    }

    /// Remembers commits of this handle.
    pub(crate) fn add_commits(&self, commits: impl Iterator<Item = Mark>) {
        let mut marks = self.shared.marks.lock();
        commits.for_each(|commit| marks.add(commit));
    }

    /// The stored names of these types. A type that the dictionary lacks is left out.
    pub(crate) async fn type_names(
        &self,
        session: &Session,
        ids: impl Iterator<Item = i32>,
    ) -> Result<HashMap<i32, Arc<str>>, Fault> {
        let mut names = HashMap::new();
        let mut missing: Vec<i32> = Vec::new();
        {
            let types = self.shared.types.read();
            for id in ids {
                match types.names.get(&id) {
                    Some(name) => drop(names.insert(id, name.clone())),
                    None if missing.contains(&id) => {}
                    None => missing.push(id),
                }
            }
        }
        if !missing.is_empty() {
            let found = session.query(TYPES_BY_ID, &[&missing]).await?;
            names.extend(self.learn(found));
        }
        Ok(names)
    }

    /// The numbers of these types, given as stored names. New ones get a number.
    pub(crate) async fn type_ids<'n>(
        &self,
        session: &Session,
        names: impl Iterator<Item = &'n str>,
    ) -> Result<HashMap<String, i32>, Fault> {
        let mut ids = HashMap::new();
        let mut missing: Vec<&str> = Vec::new();
        {
            let types = self.shared.types.read();
            for name in names {
                match types.ids.get(name) {
                    Some(id) => drop(ids.insert(name.to_owned(), *id)),
                    None if missing.contains(&name) => {}
                    None => missing.push(name),
                }
            }
        }
        if !missing.is_empty() {
            session.query(NEW_TYPES, &[&missing]).await?;
            let found = session.query(TYPES_BY_NAME, &[&missing]).await?;
            let found = self.learn(found).into_iter();
            ids.extend(found.map(|(id, name)| (name.to_string(), id)));
        }
        Ok(ids)
    }

    fn learn(&self, rows: Vec<tokio_postgres::Row>) -> Vec<(i32, Arc<str>)> {
        let found: Vec<(i32, Arc<str>)> =
            rows.iter().map(|row| (row.get("id"), Arc::from(row.get::<_, &str>("name")))).collect();
        let mut types = self.shared.types.write();
        for (id, name) in &found {
            types.names.insert(*id, name.clone());
            types.ids.insert(name.clone(), *id);
        }
        found
    }
}

/// The name of a type as a program gives it.
pub(crate) fn plain_name(stored: &str) -> String {
    unescape(stored).into_owned()
}
