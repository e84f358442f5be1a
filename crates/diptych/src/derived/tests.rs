use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
};

use diptych_store::{Metadata, Position, Timestamp};
use proptest::prelude::*;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::*;
use crate::{digest::digest, event::Event};

/// Events of things that point at each other and belong to groups.
#[derive(Clone, Debug, Event)]
enum Step {
    #[event("thing-set")]
    Set { thing: u8, next: u8, groups: Vec<u8> },
    #[event("thing-turned")]
    Turned { thing: u8, next: u8 },
    #[event("thing-joined")]
    Joined { thing: u8, group: u8 },
    #[event("thing-removed")]
    Removed { thing: u8 },
    /// Set and taken away again within one event.
    #[event("thing-flickered")]
    Flickered { thing: u8 },
    #[event("things-kept")]
    SavedState,
    /// Puts back the rows that were kept.
    #[event("things-restored")]
    Restored,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Thing {
    next: u8,
    groups: Vec<u8>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Things {
    rows: Rows<u8, Thing>,
    kept: Rows<u8, Thing>,
}

impl Fold for Things {
    type Event = Step;

    fn apply(&mut self, event: &Recorded<Step>) {
        let rows = &mut self.rows;
        match event.event.clone() {
            Step::Set { thing, next, groups } => drop(rows.insert(thing, Thing { next, groups })),
            Step::Turned { thing, next } => {
                if let Some(row) = rows.change(&thing) {
                    row.next = next;
                }
            }
            Step::Joined { thing, group } => rows.change_or_default(thing).groups.push(group),
            Step::Removed { thing } => drop(rows.remove(&thing)),
            Step::Flickered { thing } => {
                let before = rows.insert(thing, Thing::default());
                rows.change_or_default(thing).groups.push(3);
                rows.remove(&thing);
                before.into_iter().for_each(|row| drop(rows.insert(thing, row)));
            }
            Step::SavedState => self.kept = rows.clone(),
            Step::Restored => *rows = self.kept.clone(),
        }
    }

    fn heap_bytes(&self) -> Option<usize> {
        Some(self.rows.heap_bytes() + self.kept.heap_bytes())
    }
}

impl Source for Things {
    type Key = u8;
    type Row = Thing;

    fn rows(&self) -> &Rows<u8, Thing> {
        &self.rows
    }

    fn rows_mut(&mut self) -> &mut Rows<u8, Thing> {
        &mut self.rows
    }
}

/// The end of three steps, or nothing if they lead back.
struct Reach;

impl Derivation for Reach {
    type Source = Things;
    type Key = u8;
    type Value = (u8, u8);

    fn keys(thing: &u8, _: &Thing) -> impl IntoIterator<Item = u8> {
        [*thing]
    }

    fn derive(thing: &u8, things: &Reads<'_, Things>) -> Option<(u8, u8)> {
        let (mut at, mut steps) = (*thing, 0);
        while steps < 3
            && let Some(row) = things.get(&at)
        {
            (at, steps) = (row.next, steps + 1);
        }
        (at != *thing).then_some((at, steps))
    }
}

/// The things that the first two members of a group point at. The other members are not read.
struct Groups;

impl Derivation for Groups {
    type Source = Things;
    type Key = u8;
    type Value = Vec<(u8, Option<Thing>)>;

    fn keys(_: &u8, thing: &Thing) -> impl IntoIterator<Item = u8> {
        thing.groups.clone()
    }

    fn derive(_: &u8, things: &Reads<'_, Things>) -> Option<Self::Value> {
        let first = things.named_by().take(2);
        Some(first.map(|(key, row)| (*key, things.get(&row.next).cloned())).collect())
    }
}

/// The number of things that reach each thing.
struct ReachedBy;

impl Derivation for ReachedBy {
    type Source = Derived<Reach>;
    type Key = u8;
    type Value = usize;

    fn keys(_: &u8, (end, _): &(u8, u8)) -> impl IntoIterator<Item = u8> {
        [*end]
    }

    fn derive(_: &u8, reached: &Reads<'_, Derived<Reach>>) -> Option<usize> {
        Some(reached.named_by().count())
    }
}

fn recorded<E>(event: E) -> Recorded<E> {
    Recorded {
        position: Position::new(1),
        recorded_at: Timestamp::from_micros(0),
        id: Uuid::nil(),
        metadata: Metadata::default(),
        event,
    }
}

fn step() -> impl Strategy<Value = Step> {
    let (key, groups) = (0_u8..8, prop::collection::vec(0_u8..4, 0..3));
    prop_oneof![
        8 => (key.clone(), key.clone(), groups)
            .prop_map(|(thing, next, groups)| Step::Set { thing, next, groups }),
        6 => (key.clone(), key.clone()).prop_map(|(thing, next)| Step::Turned { thing, next }),
        4 => (key.clone(), 0_u8..4).prop_map(|(thing, group)| Step::Joined { thing, group }),
        4 => key.clone().prop_map(|thing| Step::Removed { thing }),
        2 => key.prop_map(|thing| Step::Flickered { thing }),
        1 => Just(Step::SavedState),
        1 => Just(Step::Restored),
    ]
}

type Both = Derived<(Reach, Groups)>;
type Chain = Derived<ReachedBy>;

/// The value written in each format and read back.
fn forms<T: Serialize + DeserializeOwned>(value: &T) -> [T; 3] {
    let named = rmp_serde::to_vec_named(value).unwrap();
    let compact = rmp_serde::to_vec(value).unwrap();
    let json = serde_json::to_string(value).unwrap();
    [
        rmp_serde::from_slice(&named).unwrap(),
        rmp_serde::from_slice(&compact).unwrap(),
        serde_json::from_str(&json).unwrap(),
    ]
}

fn assert_as_derived_anew(both: &Both, chain: &Chain) {
    let anew = Both::new(both.source.clone());
    assert!(both.derived.0.is_the_very_same(&anew.derived.0));
    assert!(both.derived.1.is_the_very_same(&anew.derived.1));
    assert_eq!(digest(both).unwrap(), digest(&anew).unwrap());
    let anew = Chain::new(Derived::new(chain.source.source.clone()));
    assert!(chain.source.derived.is_the_very_same(&anew.source.derived));
    assert!(chain.derived.is_the_very_same(&anew.derived));
    assert_eq!(digest(chain).unwrap(), digest(&anew).unwrap());
}

proptest! {
    /// This also covers the parts that are neither compared nor serialised.
    #[test]
    fn it_is_at_every_step_what_is_derived_anew(steps in prop::collection::vec(step(), 1..50)) {
        let (mut both, mut chain) = (Both::default(), Chain::default());
        for step in steps {
            both.apply(&recorded(step.clone()));
            chain.apply(&recorded(step));
            assert_as_derived_anew(&both, &chain);
        }
    }

    #[test]
    fn what_was_read_back_goes_on_alike(
        steps in prop::collection::vec(step(), 1..30),
        more in prop::collection::vec(step(), 1..10),
    ) {
        let (mut both, mut chain) = (Both::default(), Chain::default());
        for step in steps {
            both.apply(&recorded(step.clone()));
            chain.apply(&recorded(step));
        }
        for (mut other, mut other_chain) in forms(&both).into_iter().zip(forms(&chain)) {
            prop_assert_eq!(&other, &both);
            prop_assert_eq!(digest(&other_chain).unwrap(), digest(&chain).unwrap());
            let (mut both, mut chain) = (both.clone(), chain.clone());
            for step in &more {
                both.apply(&recorded(step.clone()));
                other.apply(&recorded(step.clone()));
                chain.apply(&recorded(step.clone()));
                other_chain.apply(&recorded(step.clone()));
                assert_as_derived_anew(&other, &other_chain);
            }
            prop_assert_eq!(digest(&other).unwrap(), digest(&both).unwrap());
            prop_assert_eq!(&other_chain, &chain);
        }
    }

    #[test]
    fn rows_note_what_they_were(steps in prop::collection::vec(step(), 1..30)) {
        let mut things = Things::default();
        for step in steps {
            let before: BTreeMap<_, _> = things.rows.iter().map(|(k, r)| (*k, r.clone())).collect();
            things.rows.note();
            things.apply(&recorded(step));
            let Some(noted) = things.rows.noted() else {
                continue; // All of them were replaced.
            };
            for thing in 0..8 {
                let (before, now) = (before.get(&thing), things.rows.get(&thing));
                match noted.get(&thing) {
                    Some(was) => prop_assert_eq!(was.as_ref(), before),
                    None => prop_assert_eq!(now, before),
                }
            }
        }
    }
}

#[test]
fn rows_note_nothing_unless_somebody_wants_to_know() {
    let mut things = Things::default();
    things.apply(&recorded(Step::Set { thing: 1, next: 2, groups: vec![] }));
    assert_eq!(things.rows.noted(), None);
}

#[test]
fn a_digest_is_also_of_what_is_derived() {
    let things = Things::default();
    let (both, reach) = (Both::new(things.clone()), Derived::<Reach>::new(things));
    assert_ne!(digest(&both).unwrap(), digest(&reach).unwrap());
}

#[test]
fn a_derived_row_that_was_altered_in_a_snapshot_is_not_believed() {
    let mut reach = Derived::<Reach>::default();
    reach.apply(&recorded(Step::Set { thing: 1, next: 2, groups: vec![] }));
    let text = serde_json::to_string(&reach).unwrap();
    let altered = text.replace(r#""derived":{"1":[2,1]}"#, r#""derived":{"1":[7,7]}"#);
    assert_ne!(altered, text);
    assert_eq!(serde_json::from_str::<Derived<Reach>>(&altered).unwrap(), reach);
    assert!(serde_json::from_str::<Derived<Reach>>("{}").is_err());
}

#[test]
fn bytes_grow_with_rows_and_with_what_was_read() {
    let full = |things: u8| {
        let mut both = Both::default();
        for thing in 0..things {
            both.apply(&recorded(Step::Set { thing, next: thing + 1, groups: vec![thing / 2] }));
        }
        both
    };
    assert_eq!(full(0).heap_bytes(), Some(0));
    let (some, more) = (full(10).heap_bytes().unwrap(), full(100).heap_bytes().unwrap());
    assert!(some > 10 * 40 && some < 10 * 1_000, "{some}");
    assert!(more > 8 * some && more < 12 * some, "{some}, {more}");
    let source = full(10).source.heap_bytes().unwrap();
    assert!(some > 2 * source, "{some}, of the source {source}");
}

#[test]
fn a_state_that_goes_to_nothing_holds_nothing() {
    let mut both = Both::default();
    let first = |thing| Step::Set { thing, next: thing + 1, groups: vec![0, thing] };
    (0..20).for_each(|thing| both.apply(&recorded(first(thing))));
    (0..20).for_each(|thing| both.apply(&recorded(Step::Removed { thing })));
    assert_eq!(both.heap_bytes(), Some(0));
    assert!(both.derived.0.is_the_very_same(&Table::default()));
    assert!(both.derived.1.is_the_very_same(&Table::default()));
}

/// The copy whose `apply` panicked is not used again; the other copy must be unchanged.
#[test]
fn a_panic_comes_out_of_apply_and_leaves_a_copy_alone() {
    struct Choosy;
    impl Derivation for Choosy {
        type Source = Things;
        type Key = u8;
        type Value = u8;

        fn keys(thing: &u8, _: &Thing) -> impl IntoIterator<Item = u8> {
            [*thing]
        }

        fn derive(thing: &u8, _: &Reads<'_, Things>) -> Option<u8> {
            assert_ne!(*thing, 7, "not seven");
            Some(*thing)
        }
    }
    let set = |thing| recorded(Step::Set { thing, next: 0, groups: vec![] });
    let mut shown = Derived::<Choosy>::default();
    shown.apply(&set(1));
    let mut hidden = shown.clone();
    let panic = catch_unwind(AssertUnwindSafe(|| hidden.apply(&set(7)))).unwrap_err();
    assert!(crate::panics::panic_text(&*panic).contains("not seven"));
    assert_eq!(shown.rows().len(), 1);
    shown.apply(&set(2));
    assert_eq!(shown.rows().iter().map(|(_, value)| *value).collect::<Vec<_>>(), [1, 2]);
}
