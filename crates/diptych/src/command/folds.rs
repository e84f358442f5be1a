//! The states that one command decides over: each fold with its own filter and its own position.

use diptych_store::{Filter, Timestamp};

use super::{
    accepted::{hash_item, hash_state},
    cache::Cache,
    error::CommandError,
    state::{FoldState, Slot},
};
use crate::{event::Schema, fold::Fold, snapshot::SnapshotPolicies};

/// The states that a command decides over: one fold, a tuple of up to eight, or `()` for a command
/// without a rule. Each fold has its own filter.
///
/// The trait is implemented for exactly these types.
#[diagnostic::on_unimplemented(
    message = "a command cannot decide over `{Self}`",
    label = "not a fold, a tuple of folds, or `()`",
    note = "the state of a command is a `diptych::Fold`, a tuple of at most eight, or `()`"
)]
pub trait Folds: 'static {
    /// A [`Filter`], or a tuple of filters.
    type Boundary: Send;
    /// A reference to the state, or a tuple of references.
    type Ref<'a>;

    #[doc(hidden)]
    type Slots: Send;

    #[doc(hidden)]
    fn open(boundary: Self::Boundary, from: &StateSource<'_>) -> Result<Self::Slots, CommandError>;

    #[doc(hidden)]
    fn slots(slots: &mut Self::Slots) -> SlotRefs<'_>;

    #[doc(hidden)]
    fn states(slots: &Self::Slots) -> Self::Ref<'_>;

    #[doc(hidden)]
    fn keep(slots: Self::Slots, cache: &Cache);

    #[doc(hidden)]
    fn gates(boundary: &Self::Boundary, each: &mut dyn FnMut(u64));
}

/// Where the states of a command come from: the cache, or else a snapshot and the log.
#[derive(Clone, Copy)]
pub struct StateSource<'a> {
    pub(super) schema: &'a Schema,
    /// `None` if no state is kept outside the log.
    pub(super) policies: Option<&'a SnapshotPolicies>,
    pub(super) cache: Option<&'a Cache>,
}

impl<'a> StateSource<'a> {
    /// New states, taken from no cache and no snapshot.
    #[cfg(feature = "testing")]
    pub(crate) fn uncached(schema: &'a Schema) -> StateSource<'a> {
        StateSource { schema, policies: None, cache: None }
    }
}

/// When the newest event in these states was recorded.
pub(crate) fn newest<S: Folds>(slots: &mut S::Slots) -> Timestamp {
    let newest = S::slots(slots).into_iter().flatten().map(|slot| slot.newest()).max();
    newest.unwrap_or(Timestamp::NEVER)
}

/// One entry for each place of the longest tuple, so that a walk over the slots allocates nothing.
type SlotRefs<'a> = [Option<&'a mut dyn Slot>; 8];

impl<F: Fold> Folds for F {
    type Boundary = Filter;
    type Ref<'a> = &'a F;
    type Slots = Box<FoldState<F>>;

    fn open(boundary: Filter, from: &StateSource<'_>) -> Result<Box<FoldState<F>>, CommandError> {
        let hash = hash_state::<F>(&boundary);
        let cached = from.cache.and_then(|cache| cache.take::<F>(hash, &boundary));
        match cached.filter(|state| state.is_of(from.schema.retags().generation())) {
            Some(state) => Ok(state),
            None => {
                let policy = from.policies.and_then(SnapshotPolicies::get::<F>);
                Ok(Box::new(FoldState::new(boundary, hash, from.schema, policy)?))
            }
        }
    }

    fn slots(slots: &mut Box<FoldState<F>>) -> SlotRefs<'_> {
        [Some(slots), None, None, None, None, None, None, None]
    }

    fn states(slots: &Box<FoldState<F>>) -> &F {
        &slots.fold
    }

    fn keep(mut slots: Box<FoldState<F>>, cache: &Cache) {
        slots.drop_own_events();
        cache.put(slots);
    }

    fn gates(boundary: &Filter, each: &mut dyn FnMut(u64)) {
        boundary.items().iter().for_each(|item| each(hash_item(item)));
    }
}

impl Folds for () {
    type Boundary = ();
    type Ref<'a> = ();
    type Slots = ();

    fn open((): (), _: &StateSource<'_>) -> Result<(), CommandError> {
        Ok(())
    }

    fn slots((): &mut ()) -> SlotRefs<'_> {
        [const { None }; 8]
    }

    fn states((): &()) {}

    fn keep((): (), _: &Cache) {}

    fn gates((): &(), _: &mut dyn FnMut(u64)) {}
}

macro_rules! filter_of {
    ($fold:ident) => {
        Filter
    };
}

macro_rules! tuple {
    ($($fold:ident $index:tt),+) => {
        impl<$($fold: Fold),+> Folds for ($($fold,)+) {
            type Boundary = ($(filter_of!($fold),)+);
            type Ref<'a> = ($(&'a $fold,)+);
            type Slots = ($(Box<FoldState<$fold>>,)+);

            fn open(
                boundary: Self::Boundary,
                from: &StateSource<'_>,
            ) -> Result<Self::Slots, CommandError> {
                Ok(($(<$fold as Folds>::open(boundary.$index, from)?,)+))
            }

            fn slots(slots: &mut Self::Slots) -> SlotRefs<'_> {
                let mut refs: SlotRefs<'_> = [const { None }; 8];
                $(refs[$index] = Some(&mut slots.$index);)+
                refs
            }

            fn states(slots: &Self::Slots) -> Self::Ref<'_> {
                ($(&slots.$index.fold,)+)
            }

            fn keep(slots: Self::Slots, cache: &Cache) {
                $(<$fold as Folds>::keep(slots.$index, cache);)+
            }

            fn gates(boundary: &Self::Boundary, each: &mut dyn FnMut(u64)) {
                $(<$fold as Folds>::gates(&boundary.$index, each);)+
            }
        }
    };
}

tuple!(A 0);
tuple!(A 0, B 1);
tuple!(A 0, B 1, C 2);
tuple!(A 0, B 1, C 2, D 3);
tuple!(A 0, B 1, C 2, D 3, E 4);
tuple!(A 0, B 1, C 2, D 3, E 4, G 5);
tuple!(A 0, B 1, C 2, D 3, E 4, G 5, H 6);
tuple!(A 0, B 1, C 2, D 3, E 4, G 5, H 6, I 7);
