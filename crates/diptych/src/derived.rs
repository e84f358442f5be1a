//! Values that are derived once, when an event is folded, so that every read is a look-up.
//!
//! A [`Source`] is a fold that keeps [`Rows`]. A [`Derivation`] is a rule that makes one derived
//! row from rows of the source. [`Derived`] is the fold that holds both. When an event changes rows
//! of the source, only the affected rows are derived again. A derived row is affected if its
//! derivation looked up a changed row, even without finding one, or if a changed row starts or
//! stops naming it.
//!
//! ```
//! use diptych::{
//!     Event, Fold,
//!     derived::{Derivation, Derived, Reads, Rows, Source},
//! };
//! # use diptych::{Position, Recorded, Timestamp};
//!
//! #[derive(Event)]
//! enum Parentage {
//!     #[event("father-recorded")]
//!     FatherRecorded { #[tag] person: String, father: String },
//! }
//!
//! /// The father of each person.
//! #[derive(Clone, Default)]
//! struct Fathers(Rows<String, String>);
//!
//! impl Fold for Fathers {
//!     type Event = Parentage;
//!
//!     fn apply(&mut self, event: &diptych::Recorded<Parentage>) {
//!         let Parentage::FatherRecorded { person, father } = &event.event;
//!         self.0.insert(person.clone(), father.clone());
//!     }
//! }
//!
//! impl Source for Fathers {
//!     type Key = String;
//!     type Row = String;
//!
//!     fn rows(&self) -> &Rows<String, String> {
//!         &self.0
//!     }
//!
//!     fn rows_mut(&mut self) -> &mut Rows<String, String> {
//!         &mut self.0
//!     }
//! }
//!
//! struct PaternalGrandfather;
//!
//! impl Derivation for PaternalGrandfather {
//!     type Source = Fathers;
//!     type Key = String;
//!     type Value = String;
//!
//!     fn keys(person: &String, _: &String) -> impl IntoIterator<Item = String> {
//!         [person.clone()]
//!     }
//!
//!     fn derive(person: &String, fathers: &Reads<'_, Fathers>) -> Option<String> {
//!         fathers.get(fathers.get(person)?).cloned()
//!     }
//! }
//!
//! # let father = |person: &str, father: &str| Recorded {
//! #     position: Position::new(1),
//! #     recorded_at: Timestamp::from_micros(0),
//! #     id: diptych::Uuid::nil(),
//! #     metadata: Default::default(),
//! #     event: Parentage::FatherRecorded { person: person.into(), father: father.into() },
//! # };
//! let mut family = Derived::<PaternalGrandfather>::default();
//! family.apply(&father("Otto", "Paul"));
//! assert_eq!(family.get("Otto"), None);
//! family.apply(&father("Paul", "Quentin"));
//! assert_eq!(family.get("Otto").map(String::as_str), Some("Quentin"));
//! ```
//!
//! # Guarantees
//!
//! - Order and consistency: the source and the derived rows are one state, which applies events one
//!   after another. A reader sees an event in both of them or in neither.
//! - Deriving step by step gives the rows that deriving everything from the present source would
//!   give.
//! - The work for an event grows with the number of rows that it changes and of rows derived from
//!   these, not with the total number of rows.
//! - There are no circles: a derivation reads its source and nothing else. To derive from derived
//!   values, use a `Derived` as the source. A `Derived` reports which of its rows changed. A row
//!   that is derived again and comes out equal counts as unchanged.
//!
//! A `Derived` is a fold like any other. It can be a view if its source can be cloned.
//! `Derived<(A, B)>` applies several derivations to one source, which is kept only once.
//!
//! # Snapshots
//!
//! The source and the derived rows are both serialised, so that the digest covers everything that
//! can be queried. Deserialising reads only the source and derives all rows anew. So no stored row
//! of an older derivation is ever used, and the version of the source is the version of the whole.
//!
//! # When to use it
//!
//! Use it when a value is read much more often than its inputs change, and when deriving the value
//! costs something: joins, paths, prices by a table of rules. Deriving a row again costs about ten
//! look-ups in addition to the derivation itself. Each row also costs memory for the keys that it
//! read: [`Rows::heap_bytes`] estimates it.
//!
//! Do not use it when a query can derive the value from a few look-ups. Do not use it for sums over
//! many rows either: a group is derived again as a whole when one of its rows changes. A number
//! that each event changes belongs in a fold of its own, which adds and subtracts.

mod relation;
mod rows;
mod table;

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, de::IgnoredAny};

use rows::Changes;
pub use rows::Rows;
pub use table::Reads;
use table::Table;

use crate::{event::Recorded, fold::Fold};

/// A fold that keeps rows from which other rows can be derived.
///
/// Derivations read only these rows; a source may keep further state for itself. Both methods must
/// always return the same field.
pub trait Source: Fold {
    /// The key of a row: an enum, if there are rows of several kinds.
    type Key: Ord + Clone + Send + Sync + 'static;
    /// A row.
    type Row: PartialEq + Clone + Send + Sync + 'static;

    /// The rows.
    fn rows(&self) -> &Rows<Self::Key, Self::Row>;

    /// The rows of [`Source::rows`], so that [`Derived`] can make them record what an event
    /// changes.
    fn rows_mut(&mut self) -> &mut Rows<Self::Key, Self::Row>;
}

/// How one derived row comes from rows of the source.
///
/// Both functions must be pure: equal rows must give equal results. [`Derived`] calls them to find
/// the rows to derive again after a change.
pub trait Derivation: 'static {
    /// The source that it reads. To read the rows of another derivation, use its [`Derived`].
    type Source: Source;
    /// The key of a derived row.
    type Key: Ord + Clone + Send + Sync + 'static;
    /// A derived row.
    type Value: PartialEq + Clone + Send + Sync + 'static;

    /// The keys of the derived rows that this row of the source contributes to: its own, those of
    /// the groups that it belongs to, or none. A derived row exists only while a row of the source
    /// names its key.
    fn keys(
        key: &<Self::Source as Source>::Key,
        row: &<Self::Source as Source>::Row,
    ) -> impl IntoIterator<Item = Self::Key>;

    /// The derived row of this key, or none.
    fn derive(key: &Self::Key, rows: &Reads<'_, Self::Source>) -> Option<Self::Value>;
}

/// The key of a row that a derivation reads.
type Key<D> = <<D as Derivation>::Source as Source>::Key;
/// A row that a derivation reads.
type Row<D> = <<D as Derivation>::Source as Source>::Row;
/// The changed rows of a source.
type ChangesOf<S> = Changes<<S as Source>::Key, <S as Source>::Row>;

/// One derivation, or a tuple of up to eight with the same source.
///
/// It is implemented for these, and for nothing else.
pub trait Derivations: 'static {
    /// The source that all of them read.
    type Source: Source;
    /// A reference to the derived rows; for several derivations, a tuple of references.
    type Ref<'a>;

    #[doc(hidden)]
    type Tables: Default + Clone + Send + Sync + 'static;

    #[doc(hidden)]
    fn rows(tables: &Self::Tables) -> Self::Ref<'_>;

    #[doc(hidden)]
    fn follow(tables: &mut Self::Tables, source: &Self::Source, changes: &ChangesOf<Self::Source>);

    #[doc(hidden)]
    fn heap_bytes(tables: &Self::Tables) -> usize;
}

/// A source and the rows derived from it, in one state.
///
/// If a derivation panics, [`apply`](Fold::apply) panics, and the state must not be used any more.
#[derive(Serialize)]
#[serde(bound(serialize = "D::Source: Serialize, D::Tables: Serialize"))]
pub struct Derived<D: Derivations> {
    source: D::Source,
    derived: D::Tables,
}

impl<D: Derivations> Derived<D> {
    /// Derives everything from a source as it is now.
    pub fn new(source: D::Source) -> Derived<D> {
        let mut derived = D::Tables::default();
        D::follow(&mut derived, &source, &None);
        Derived { source, derived }
    }

    /// The source of the derived rows.
    pub fn source(&self) -> &D::Source {
        &self.source
    }

    /// The derived rows; for several derivations, a tuple.
    pub fn rows(&self) -> D::Ref<'_> {
        D::rows(&self.derived)
    }
}

impl<D: Derivation> Derived<D> {
    /// The derived row of this key: a look-up, which derives nothing.
    pub fn get<Q>(&self, key: &Q) -> Option<&D::Value>
    where
        D::Key: std::borrow::Borrow<Q>,
        Q: Ord + ?Sized,
    {
        self.derived.rows.get(key)
    }
}

impl<D: Derivations> Fold for Derived<D> {
    type Event = <D::Source as Fold>::Event;

    const VERSION: Option<u32> = <D::Source as Fold>::VERSION;

    fn apply(&mut self, event: &Recorded<Self::Event>) {
        self.source.rows_mut().note();
        self.source.apply(event);
        let changes = self.source.rows_mut().noted();
        D::follow(&mut self.derived, &self.source, &changes);
    }

    /// The estimate of the source, plus the approximate bytes of the derived rows and of the keys
    /// that were read for them, counted as in [`Rows::heap_bytes`]. `None` if the source gives no
    /// estimate.
    fn heap_bytes(&self) -> Option<usize> {
        Some(self.source.heap_bytes()? + D::heap_bytes(&self.derived))
    }
}

impl<D: Derivation> Source for Derived<D> {
    type Key = D::Key;
    type Row = D::Value;

    fn rows(&self) -> &Rows<D::Key, D::Value> {
        &self.derived.rows
    }

    fn rows_mut(&mut self) -> &mut Rows<D::Key, D::Value> {
        &mut self.derived.rows
    }
}

impl<D: Derivation> Derivations for D {
    type Source = D::Source;
    type Ref<'a> = &'a Rows<D::Key, D::Value>;
    type Tables = Table<D>;

    fn rows(table: &Table<D>) -> &Rows<D::Key, D::Value> {
        &table.rows
    }

    fn follow(table: &mut Table<D>, source: &D::Source, changes: &ChangesOf<D::Source>) {
        table.follow(source.rows(), changes);
    }

    fn heap_bytes(table: &Table<D>) -> usize {
        table.heap_bytes()
    }
}

macro_rules! several {
    ($first:ident $($other:ident)*) => {
        impl<$first: Derivation, $($other: Derivation<Source = $first::Source>),*> Derivations
            for ($first, $($other),*)
        {
            type Source = $first::Source;
            type Ref<'a> = (
                &'a Rows<$first::Key, $first::Value>,
                $(&'a Rows<$other::Key, $other::Value>),*
            );
            type Tables = (Table<$first>, $(Table<$other>),*);

            #[allow(non_snake_case)] // The table of a type has the name of the type.
            fn rows(($first, $($other),*): &Self::Tables) -> Self::Ref<'_> {
                (&$first.rows, $(&$other.rows),*)
            }

            #[allow(non_snake_case)]
            fn follow(
                ($first, $($other),*): &mut Self::Tables,
                source: &$first::Source,
                changes: &ChangesOf<$first::Source>,
            ) {
                $first.follow(source.rows(), changes);
                $($other.follow(source.rows(), changes);)*
            }

            #[allow(non_snake_case)]
            fn heap_bytes(($first, $($other),*): &Self::Tables) -> usize {
                $first.heap_bytes() $(+ $other.heap_bytes())*
            }
        }
    };
}

several!(A B);
several!(A B C);
several!(A B C D);
several!(A B C D E);
several!(A B C D E F);
several!(A B C D E F G);
several!(A B C D E F G H);

/// Derives the rows of a default source, because even that may have rows.
impl<D: Derivations> Default for Derived<D> {
    fn default() -> Derived<D> {
        Derived::new(D::Source::default())
    }
}

impl<D: Derivations<Source: Clone>> Clone for Derived<D> {
    fn clone(&self) -> Derived<D> {
        Derived { source: self.source.clone(), derived: self.derived.clone() }
    }
}

impl<D: Derivations<Source: PartialEq, Tables: PartialEq>> PartialEq for Derived<D> {
    fn eq(&self, other: &Derived<D>) -> bool {
        self.source == other.source && self.derived == other.derived
    }
}

impl<D: Derivations<Source: fmt::Debug, Tables: fmt::Debug>> fmt::Debug for Derived<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Derived { source, derived } = self;
        f.debug_struct("Derived").field("source", source).field("derived", derived).finish()
    }
}

/// Reads the source, skips the stored derived rows, and derives all rows anew.
impl<'de, D: Derivations<Source: Deserialize<'de>>> Deserialize<'de> for Derived<D> {
    fn deserialize<R: Deserializer<'de>>(reader: R) -> Result<Derived<D>, R::Error> {
        #[derive(Deserialize)]
        #[serde(rename = "Derived")]
        struct StoredFold<S> {
            source: S,
            #[serde(rename = "derived")]
            _derived: IgnoredAny,
        }
        let written = StoredFold::deserialize(reader)?;
        Ok(Derived::new(written.source))
    }
}

#[cfg(test)]
mod tests;
