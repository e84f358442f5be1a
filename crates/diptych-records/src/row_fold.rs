//! Further views of the rows, typed.

use std::{collections::BTreeMap, ops::Deref};

use diptych::{Fold, Recorded};

use crate::{fact::RecordEvent, record::Record};

/// A view that is told of each change of a row, as typed rows before and after.
///
/// An event with a meaning of its own is told like a plain one, so such a view needs no change when
/// a field is retired.
pub trait RowChanges<R: Record>: Default + Send + Sync + 'static {
    /// The row was created (`old` is `None`), changed, or deleted (`new` is `None`).
    fn apply(&mut self, old: Option<&R>, new: Option<&R>);
}

/// The fold of a view that is told of [`RowChanges`]. It dereferences to the view.
///
/// ```
/// use std::collections::BTreeMap;
///
/// use diptych::Query;
/// use diptych_records::{Record, RowChanges, RowFold};
/// # use serde::{Deserialize, Serialize};
///
/// # #[derive(Clone, PartialEq, Serialize, Deserialize, Record)]
/// # #[record("customer")]
/// # struct Customer {
/// #     #[key]
/// #     id: u64,
/// #     city: String,
/// # }
/// #[derive(Clone, Default)]
/// struct PerCity(BTreeMap<String, i64>);
///
/// impl RowChanges<Customer> for PerCity {
///     fn apply(&mut self, old: Option<&Customer>, new: Option<&Customer>) {
///         for (row, by) in [(old, -1), (new, 1)] {
///             if let Some(row) = row {
///                 *self.0.entry(row.city.clone()).or_default() += by;
///             }
///         }
///     }
/// }
///
/// struct CustomersIn(&'static str);
///
/// impl Query for CustomersIn {
///     type View = RowFold<Customer, PerCity>;
///     type Answer = i64;
///
///     fn answer(&self, cities: &RowFold<Customer, PerCity>) -> i64 {
///         cities.0.get(self.0).copied().unwrap_or_default()
///     }
/// }
/// ```
///
/// It keeps a copy of the rows, because an event has the changed fields only.
#[derive(Clone, Debug)]
pub struct RowFold<R: Record, V> {
    rows: BTreeMap<R::Key, R>,
    view: V,
}

impl<R: Record, V: Default> Default for RowFold<R, V> {
    fn default() -> RowFold<R, V> {
        RowFold { rows: BTreeMap::new(), view: V::default() }
    }
}

impl<R: Record, V> Deref for RowFold<R, V> {
    type Target = V;

    fn deref(&self) -> &V {
        &self.view
    }
}

impl<R: Record, V: RowChanges<R>> Fold for RowFold<R, V> {
    type Event = RecordEvent<R>;

    fn apply(&mut self, event: &Recorded<RecordEvent<R>>) {
        let key = event.event.key();
        let old = self.rows.remove(&key);
        let new = event.event.after(old.clone());
        if old != new {
            self.view.apply(old.as_ref(), new.as_ref());
        }
        if let Some(new) = new {
            self.rows.insert(key, new);
        }
    }
}
