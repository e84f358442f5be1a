//! The states that commands on rows decide over.

use std::collections::BTreeMap;

use diptych::{Filter, Fold, Position, Recorded, Tag};
use serde::{Deserialize, Serialize};

use crate::{
    fact::RecordEvent,
    record::{Record, row_tag},
    row_json::{Fields, fields},
};

/// One row, as the rule of a command sees it. A command with an intent decides over it, too:
///
/// ```
/// # use diptych::Filter;
/// # use diptych_records::{Record, Row};
/// # fn boundary<Customer: Record<Key = u64>>(customer: u64) -> Filter {
/// Row::<Customer>::filter(&customer) // in `Command::boundary`, with `type State = Row<Customer>`
/// # }
/// ```
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(bound = "")]
pub struct Row<R: Record> {
    row: Option<R>,
    revision: u64,
}

impl<R: Record> Row<R> {
    /// The events of the row with this key.
    pub fn filter(key: &R::Key) -> Filter {
        Filter::tag(row_tag::<R>(key))
    }

    /// The row, if there is one.
    pub fn get(&self) -> Option<&R> {
        self.row.as_ref()
    }

    /// The revision of the row: the position of its last event.
    pub fn revision(&self) -> Position {
        Position::new(self.revision)
    }
}

impl<R: Record> Default for Row<R> {
    fn default() -> Row<R> {
        Row { row: None, revision: 0 }
    }
}

impl<R: Record> Fold for Row<R> {
    type Event = RecordEvent<R>;

    fn apply(&mut self, event: &Recorded<RecordEvent<R>>) {
        self.row = event.event.after(self.row.take());
        self.revision = event.position.get();
    }
}

/// The rows that have some values of unique fields.
#[derive(Clone, Debug)]
pub struct Holders<R: Record>(BTreeMap<Tag, R::Key>);

impl<R: Record> Holders<R> {
    /// The events about these tags of values.
    pub(crate) fn filter(tags: impl IntoIterator<Item = Tag>) -> Filter {
        tags.into_iter().fold(Filter::nothing(), |filter, tag| filter.or(tag))
    }

    /// The first of these fields whose value another row has.
    pub(crate) fn taken(&self, of: &Fields, by: &R::Key) -> Option<&'static str> {
        let is_taken = |tag: Tag| self.0.get(&tag).is_some_and(|holder| holder != by);
        let mut tagged = unique_tags::<R>(of);
        tagged.find(|(_, tag)| is_taken(tag.clone())).map(|(name, _)| name)
    }

    pub(crate) fn release(&mut self, of: &Fields, by: &R::Key) {
        for (_, tag) in unique_tags::<R>(of) {
            if self.0.get(&tag) == Some(by) {
                self.0.remove(&tag);
            }
        }
    }

    pub(crate) fn hold(&mut self, of: &Fields, by: &R::Key) {
        self.0.extend(unique_tags::<R>(of).map(|(_, tag)| (tag, by.clone())));
    }
}

impl<R: Record> Default for Holders<R> {
    fn default() -> Holders<R> {
        Holders(BTreeMap::new())
    }
}

impl<R: Record> Fold for Holders<R> {
    type Event = RecordEvent<R>;

    fn apply(&mut self, event: &Recorded<RecordEvent<R>>) {
        match &event.event {
            RecordEvent::Created(row) | RecordEvent::Imported { row, .. } => {
                self.hold(&fields(row).unwrap_or_default(), &row.key());
            }
            RecordEvent::Changed { key, old, new, .. } => {
                self.release(old, key);
                self.hold(new, key);
            }
            RecordEvent::Deleted { key, old, .. } => self.release(old, key),
            // It changes no unique field.
            RecordEvent::Intent(_) => {}
        }
    }
}

/// The tags of the unique values among these fields, with the names of their fields.
pub(crate) fn unique_tags<R: Record>(of: &Fields) -> impl Iterator<Item = (&'static str, Tag)> {
    R::FIELDS.iter().filter_map(|field| Some((field.name, field.tag(of.get(field.name)?)?)))
}
