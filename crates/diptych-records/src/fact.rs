//! The events about rows.

use diptych::{
    Event, EventType, Upcasters,
    event::{Codec, EncodedEvent, Json, SchemaError},
    store::RawEvent,
};
use serde::{Deserialize, Serialize};

use crate::{
    record::{Record, RecordIntents, row_tag},
    row_json::{self, Fields, difference},
};

/// A fact about a row. It says what was stored, and not why: it carries no intent.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum RecordEvent<R: Record> {
    /// The row was created.
    Created(R),
    /// Fields of the row were changed.
    Changed {
        /// The key of the row.
        key: R::Key,
        /// The values before.
        old: Fields,
        /// The values after.
        new: Fields,
        /// The row of another system that the change came from, if it came by an import.
        origin: Option<Origin>,
    },
    /// The row was there already, in another system, and was imported. The event is a baseline:
    /// when the row came to be is unknown.
    Imported {
        /// The row.
        row: R,
        /// The row of the other system.
        origin: Origin,
    },
    /// The row was deleted.
    Deleted {
        /// The key of the row.
        key: R::Key,
        /// All its fields before.
        old: Fields,
        /// The row of another system that is gone, if an import deleted the row. It is imported
        /// again if it comes back.
        origin: Option<Origin>,
    },
    /// An event with a meaning of its own.
    Intent(R::Intents),
}

/// The row of another system that an event came from. Its key is that of the row here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The name of the other system, such as its file.
    pub source: String,
    /// The table there.
    pub table: String,
    /// The digest of the row there. A row with this digest has not changed since.
    pub digest: String,
}

/// The payload of a change.
#[derive(Serialize, Deserialize)]
struct ChangePayload<K> {
    key: K,
    old: Fields,
    new: Fields,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    origin: Option<Origin>,
}

/// The payload of an import.
#[derive(Serialize, Deserialize)]
struct ImportPayload<R> {
    row: R,
    origin: Origin,
}

/// The payload of a deletion.
#[derive(Serialize, Deserialize)]
struct DeletionPayload<K> {
    key: K,
    old: Fields,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    origin: Option<Origin>,
}

impl<R: Record> RecordEvent<R> {
    /// The key of the row.
    pub fn key(&self) -> R::Key {
        match self {
            RecordEvent::Created(row) | RecordEvent::Imported { row, .. } => row.key(),
            RecordEvent::Changed { key, .. } | RecordEvent::Deleted { key, .. } => key.clone(),
            RecordEvent::Intent(intent) => intent.key(),
        }
    }

    /// Adds upcasters that take the events of earlier [versions](Record::VERSION) as they are. A
    /// record needs them when a field becomes unique: the version is raised, so that
    /// [`App::retag`](diptych::App::retag) gives the older events the tag of its value.
    pub fn upcasters(upcasters: Upcasters) -> Upcasters {
        let own = R::EVENTS;
        let names = [own.created, own.changed, own.deleted, own.imported];
        let earlier = (1..R::VERSION).flat_map(|version| names.map(|name| (name, version)));
        earlier.fold(upcasters, |upcasters, (name, version)| {
            upcasters.object(name, version, |_| Ok(()))
        })
    }

    /// The fields before and after: those that were changed, and all of a row that was created or
    /// deleted. An event with a meaning of its own has none, because it names them itself.
    ///
    /// A second view adds what is after, and takes away what is before.
    pub fn sides(&self) -> (Fields, Fields) {
        match self {
            RecordEvent::Created(row) | RecordEvent::Imported { row, .. } => {
                (Fields::new(), row_json::fields(row).unwrap_or_default())
            }
            RecordEvent::Changed { old, new, .. } => (old.clone(), new.clone()),
            RecordEvent::Deleted { old, .. } => (old.clone(), Fields::new()),
            RecordEvent::Intent(_) => (Fields::new(), Fields::new()),
        }
    }

    /// The row after the event.
    ///
    /// # Panics
    /// If the event does not fit the row. The fold that applies it stops before the event.
    pub(crate) fn after(&self, row: Option<R>) -> Option<R> {
        match (self, row) {
            (RecordEvent::Created(row) | RecordEvent::Imported { row, .. }, _) => Some(row.clone()),
            (RecordEvent::Deleted { .. }, _) => None,
            (RecordEvent::Changed { key, .. }, None) => {
                panic!("{} {key} was changed without a row: its creation is missing", R::NAME)
            }
            // Only what the other system has changed: the row is here as it is there.
            (RecordEvent::Changed { old, new, .. }, Some(row))
                if old.is_empty() && new.is_empty() =>
            {
                Some(row)
            }
            (RecordEvent::Changed { old, new, .. }, Some(row)) => Some(changed(&row, old, new)),
            // There is no row that it could change.
            (RecordEvent::Intent(_), None) => None,
            (RecordEvent::Intent(intent), Some(row)) => Some(applied(&row, intent)),
        }
    }
}

fn changed<R: Record>(row: &R, old: &Fields, new: &Fields) -> R {
    let changed = row_json::fields(row).and_then(|mut fields| {
        row_json::exchange(&mut fields, old, new);
        row_json::row(fields)
    });
    match changed {
        Ok(row) => row,
        Err(fault) => panic!(
            "{} {} does not take a change of the log: {fault}; read the older form of the field \
             too, as by `#[serde(deserialize_with)]`",
            R::NAME,
            row.key()
        ),
    }
}

fn applied<R: Record>(row: &R, intent: &R::Intents) -> R {
    let mut after = row.clone();
    intent.apply(&mut after);
    let guarded = |of: &R| {
        let fields = row_json::fields(of).unwrap_or_default();
        let unique = R::FIELDS.iter().filter(|field| field.unique.is_some());
        let values = unique.map(|field| fields.get(field.name).cloned());
        (of.key(), values.collect::<Vec<_>>())
    };
    assert!(
        guarded(row) == guarded(&after),
        "an intent of {} changes the key or a unique field of row {}: leave these to plain \
         changes, because no tag of the event names the value",
        R::NAME,
        row.key()
    );
    after
}

impl<R: Record> Event for RecordEvent<R> {
    fn types() -> Vec<EventType> {
        let own = |name| EventType::new(name).version(R::VERSION).tags(R::TAGS);
        let mut types = vec![
            own(R::EVENTS.created).declared_by::<RecordEvent<R>>(R::SHAPE),
            own(R::EVENTS.changed).declared_by::<RecordEvent<R>>(&[
                ("key", "Record::Key"),
                ("old", "Fields"),
                ("new", "Fields"),
                ("origin", "Option<Origin>"),
            ]),
            own(R::EVENTS.deleted).declared_by::<RecordEvent<R>>(&[
                ("key", "Record::Key"),
                ("old", "Fields"),
                ("origin", "Option<Origin>"),
            ]),
            own(R::EVENTS.imported)
                .declared_by::<RecordEvent<R>>(&[("row", "Record"), ("origin", "Origin")]),
        ];
        types.extend(R::Intents::types());
        types
    }

    fn encode(&self) -> Result<RawEvent, SchemaError> {
        let names = R::EVENTS;
        let (event, sides) = match self {
            RecordEvent::Intent(intent) => return intent.encode(),
            RecordEvent::Created(row) => {
                let sides = [encoded_fields(row)?, Fields::new()];
                (RawEvent::new(names.created, Json::encode(row)?), sides)
            }
            RecordEvent::Imported { row, origin } => {
                let payload = ImportPayload { row, origin: origin.clone() };
                let sides = [encoded_fields(row)?, Fields::new()];
                (RawEvent::new(names.imported, Json::encode(&payload)?), sides)
            }
            RecordEvent::Changed { key, old, new, origin } => {
                let (old_side, new_side, origin) = (old.clone(), new.clone(), origin.clone());
                let payload = ChangePayload { key, old: old_side, new: new_side, origin };
                let event = RawEvent::new(names.changed, Json::encode(&payload)?);
                (event, [old.clone(), new.clone()])
            }
            RecordEvent::Deleted { key, old, origin } => {
                let payload = DeletionPayload { key, old: old.clone(), origin: origin.clone() };
                let event = RawEvent::new(names.deleted, Json::encode(&payload)?);
                (event, [old.clone(), Fields::new()])
            }
        };
        let mut event = event.version(R::VERSION).tag(row_tag::<R>(&self.key()));
        for field in R::FIELDS {
            let values = sides.iter().filter_map(|side| side.get(field.name));
            for tag in values.filter_map(|value| field.tag(value)) {
                event = event.tag(tag);
            }
        }
        Ok(event)
    }

    fn decode(encoded: &EncodedEvent<'_>) -> Result<RecordEvent<R>, SchemaError> {
        let name = encoded.event_type;
        if name == R::EVENTS.created {
            Ok(RecordEvent::Created(encoded.read::<Json, R>()?))
        } else if name == R::EVENTS.changed {
            let ChangePayload { key, old, new, origin } = encoded.read::<Json, _>()?;
            Ok(RecordEvent::Changed { key, old, new, origin })
        } else if name == R::EVENTS.imported {
            let ImportPayload { row, origin } = encoded.read::<Json, _>()?;
            Ok(RecordEvent::Imported { row, origin })
        } else if name == R::EVENTS.deleted {
            let DeletionPayload { key, old, origin } = encoded.read::<Json, _>()?;
            Ok(RecordEvent::Deleted { key, old, origin })
        } else {
            R::Intents::decode(encoded).map(RecordEvent::Intent)
        }
    }
}

fn encoded_fields<R: Record>(row: &R) -> Result<Fields, SchemaError> {
    row_json::fields(row).map_err(|fault| SchemaError::Encode {
        what: std::any::type_name::<R>(),
        reason: fault.to_string(),
    })
}

/// The change from one row to another, or `None` if they are equal.
pub(crate) fn change<R: Record>(
    key: &R::Key,
    before: &Fields,
    after: &Fields,
) -> Option<RecordEvent<R>> {
    let (old, new) = difference(before, after);
    let is_equal = old.is_empty() && new.is_empty();
    (!is_equal).then(|| RecordEvent::Changed { key: key.clone(), old, new, origin: None })
}
