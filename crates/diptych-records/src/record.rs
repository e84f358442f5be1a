//! The declaration of a record: its key, its fields, and the names of its events.

use std::{fmt::Display, hash::Hash, str::FromStr};

use diptych::{
    Event, EventType, Invalid, Tag,
    event::{EncodedEvent, SchemaError},
    store::RawEvent,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

/// The longest text of a key. A longer key is refused, because it would not fit into a tag.
pub const KEY_BYTES: usize = 256;
/// The longest unique value that is a tag as it is. The tag of a longer value has its digest.
const PLAIN_BYTES: usize = 200;
/// Marks the tag of a digest.
const DIGEST: &str = "blake3:";

/// A row with a key that is created, changed and deleted as a whole.
///
/// `#[derive(Record)]` writes this implementation:
///
/// ```
/// use diptych_records::{EventNames, Field, NoIntents, Record, event_names};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Clone, PartialEq, Serialize, Deserialize)]
/// struct Customer {
///     id: u64,
///     email: String,
///     city: String,
/// }
///
/// impl Record for Customer {
///     type Key = u64;
///     type Intents = NoIntents;
///     const NAME: &'static str = "customer";
///     const EVENTS: EventNames = event_names!("customer");
///     const TAGS: &'static [&'static str] = &["customer", "customer-email"];
///     const KEY_FIELD: &'static str = "id";
///     const FIELDS: &'static [Field] = &[
///         Field::new("id"),
///         Field::new("email").unique("customer-email"),
///         Field::new("city").indexed(),
///     ];
///
///     fn key(&self) -> u64 {
///         self.id
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a record",
    label = "records are declared here",
    note = "derive `diptych_records::Record`, and mark its key: `#[key] id: u64`"
)]
pub trait Record:
    Serialize + DeserializeOwned + Clone + PartialEq + Send + Sync + Sized + 'static
{
    /// The key, as a field of the row.
    type Key: RecordKey;
    /// Events with a meaning of their own that change the row too; [`NoIntents`] at first.
    type Intents: RecordIntents<Self>;

    /// The name of the record, and the key of the tag of each row: `customer`.
    const NAME: &'static str;
    /// The names of the events about its rows.
    const EVENTS: EventNames;
    /// The keys of all tags of these events: the name, and the tags of unique fields.
    const TAGS: &'static [&'static str];
    /// The name of the field with the key.
    const KEY_FIELD: &'static str;
    /// All fields of the row, with their names in JSON.
    const FIELDS: &'static [Field];
    /// The version of the events. Raise it, and add upcasters, when a field becomes unique that
    /// rows of the log have already: their events lack its tag until
    /// [`App::retag`](diptych::App::retag).
    const VERSION: u32 = 1;
    /// The names and types of the fields as text, for the schema lock (`diptych::testing`). The
    /// derive writes it.
    const SHAPE: &'static [(&'static str, &'static str)] = &[];

    /// The key of this row.
    fn key(&self) -> Self::Key;

    /// Checks that the row makes sense by itself: shape, ranges, lengths.
    ///
    /// # Errors
    /// [`Invalid`] with the field and its fault.
    fn validate(&self) -> Result<(), Invalid> {
        Ok(())
    }
}

/// The type of a key: text, a number, a UUID. Its text has to be read back as the same key.
pub trait RecordKey:
    Display + FromStr + Ord + Hash + Clone + Serialize + DeserializeOwned + Send + Sync + 'static
{
}

impl<K> RecordKey for K where
    K: Display
        + FromStr
        + Ord
        + Hash
        + Clone
        + Serialize
        + DeserializeOwned
        + Send
        + Sync
        + 'static
{
}

/// Events with a meaning of their own, such as a move of house, that change rows of a record.
///
/// Each carries the tag of its row, which has the name of the record as its key. The key and the
/// unique fields of a row are not changed by such an event.
pub trait RecordIntents<R: Record>: Event {
    /// The key of the row that the event is about.
    fn key(&self) -> R::Key;

    /// Changes the row as the event says. An event about no row is not applied.
    fn apply(&self, row: &mut R);
}

/// No event but the plain ones changes the rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoIntents {}

impl Event for NoIntents {
    fn types() -> Vec<EventType> {
        Vec::new()
    }

    fn encode(&self) -> Result<RawEvent, SchemaError> {
        match *self {}
    }

    fn decode(encoded: &EncodedEvent<'_>) -> Result<NoIntents, SchemaError> {
        Err(encoded.unknown::<NoIntents>())
    }
}

impl<R: Record> RecordIntents<R> for NoIntents {
    fn key(&self) -> R::Key {
        match *self {}
    }

    fn apply(&self, _: &mut R) {
        match *self {}
    }
}

/// The names of the events about rows. [`event_names!`](crate::event_names) makes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventNames {
    /// A row was created: `customer-created`.
    pub created: &'static str,
    /// Fields of a row were changed: `customer-changed`.
    pub changed: &'static str,
    /// A row was deleted: `customer-deleted`.
    pub deleted: &'static str,
    /// A row of another system was imported: `customer-imported`.
    pub imported: &'static str,
}

/// The names of the events of a record: `event_names!("customer")` are `customer-created`,
/// `customer-changed`, `customer-deleted` and `customer-imported`.
#[macro_export]
macro_rules! event_names {
    ($name:literal) => {
        $crate::EventNames {
            created: concat!($name, "-created"),
            changed: concat!($name, "-changed"),
            deleted: concat!($name, "-deleted"),
            imported: concat!($name, "-imported"),
        }
    };
}

/// A field of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Field {
    /// Its name in JSON.
    pub name: &'static str,
    /// Whether rows are listed by it. A unique field is indexed, too.
    pub is_indexed: bool,
    /// The key of its tag, if no two rows may have the same value: `customer-email`.
    pub unique: Option<&'static str>,
    /// The command that changes it, if plain changes are refused.
    pub retired: Option<&'static str>,
}

impl Field {
    /// A field that may be changed, and that no list is ordered by.
    pub const fn new(name: &'static str) -> Field {
        Field { name, is_indexed: false, unique: None, retired: None }
    }

    /// Lets lists be filtered and ordered by the field.
    #[must_use]
    pub const fn indexed(mut self) -> Field {
        self.is_indexed = true;
        self
    }

    /// Allows a value in one row only. The tag of a value has this key.
    #[must_use]
    pub const fn unique(mut self, tag: &'static str) -> Field {
        self.unique = Some(tag);
        self.is_indexed = true;
        self
    }

    /// Refuses plain changes of the field, and names the command that changes it.
    #[must_use]
    pub const fn retired(mut self, command: &'static str) -> Field {
        self.retired = Some(command);
        self
    }

    /// The tag of this value, if the field is unique and the row has a value.
    pub(crate) fn tag(&self, value: &Value) -> Option<Tag> {
        value_tag(self.unique?, value)
    }
}

/// The tag of a unique value, if there is a value.
pub(crate) fn value_tag(key: &str, value: &Value) -> Option<Tag> {
    let text = match value {
        Value::Null => return None,
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let text = match text.len() > PLAIN_BYTES || text.starts_with(DIGEST) {
        true => format!("{DIGEST}{}", blake3::hash(text.as_bytes()).to_hex()),
        false => text,
    };
    Some(Tag::new(key, text))
}

/// The field of this name.
pub(crate) fn field<R: Record>(name: &str) -> Option<&'static Field> {
    R::FIELDS.iter().find(|field| field.name == name)
}

/// The tag of the row with this key.
pub(crate) fn row_tag<R: Record>(key: &R::Key) -> Tag {
    Tag::new(R::NAME, key)
}

/// # Errors
/// [`Invalid`] if the key is no tag, or is not found again by its text.
pub(crate) fn check_key<R: Record>(key: &R::Key) -> Result<(), Invalid> {
    let text = key.to_string();
    let problem = match text.len() {
        0 => "is empty: give the row a key".to_owned(),
        bytes if bytes > KEY_BYTES => {
            format!("has {bytes} bytes, more than {KEY_BYTES}: take a shorter key")
        }
        _ if text.parse().is_ok_and(|again: R::Key| again == *key) => return Ok(()),
        _ => "is another key when its text is read again: change its `Display`".to_owned(),
    };
    Err(Invalid::new(R::KEY_FIELD, problem))
}
