//! The family tree: a row reads another row, which may appear later, change or be removed.

use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet},
    panic::{AssertUnwindSafe, catch_unwind},
};

use diptych::{
    Event, Fold, Recorded,
    derived::{Derivation, Derived, Reads, Rows, Source},
};
use fastrand::Rng;
use proptest::prelude::*;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{folded, recorded};

pub(super) type Person = u32;

#[derive(Clone, Debug, PartialEq, Event)]
pub(super) enum Register {
    #[event("birth-registered")]
    Born { person: Person, father: Option<Person> },
    #[event("father-corrected")]
    Corrected { person: Person, father: Option<Person> },
    /// The entry was registered by mistake.
    #[event("entry-struck")]
    Struck { person: Person },
}

use Register::{Born, Corrected, Struck};

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct People {
    people: Rows<Person, Entry>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) father: Option<Person>,
}

impl Fold for People {
    type Event = Register;

    fn apply(&mut self, event: &Recorded<Register>) {
        match event.event {
            Born { person, father } => drop(self.people.insert(person, Entry { father })),
            Corrected { person, father } => {
                if let Some(entry) = self.people.change(&person) {
                    entry.father = father;
                }
            }
            Struck { person } => drop(self.people.remove(&person)),
        }
    }
}

impl Source for People {
    type Key = Person;
    type Row = Entry;

    fn rows(&self) -> &Rows<Person, Entry> {
        &self.people
    }

    fn rows_mut(&mut self) -> &mut Rows<Person, Entry> {
        &mut self.people
    }
}

thread_local! {
    /// Counts the derivations of a grandfather on this thread.
    static DERIVED: Cell<u64> = const { Cell::new(0) };
}

pub(super) fn derivations() -> u64 {
    DERIVED.get()
}

/// The derivation panics for this person.
const UNKNOWABLE: Person = Person::MAX;

/// The father of the father.
pub(super) struct PaternalGrandfather;

impl Derivation for PaternalGrandfather {
    type Source = People;
    type Key = Person;
    type Value = Person;

    fn keys(person: &Person, _: &Entry) -> impl IntoIterator<Item = Person> {
        [*person]
    }

    fn derive(person: &Person, people: &Reads<'_, People>) -> Option<Person> {
        DERIVED.set(DERIVED.get() + 1);
        assert_ne!(*person, UNKNOWABLE, "the fathers of {person} are unknowable");
        people.get(&people.get(person)?.father?)?.father
    }
}

pub(super) type Family = Derived<PaternalGrandfather>;

/// Computes all grandfathers directly, without derivations.
fn grandfathers(people: &People) -> BTreeMap<Person, Person> {
    let father = |person: &Person| people.people.get(person)?.father;
    let with = |person: &Person| Some((*person, father(&father(person)?)?));
    people.people.iter().filter_map(|(person, _)| with(person)).collect()
}

fn rows(family: &Family) -> BTreeMap<Person, Person> {
    family.rows().iter().map(|(person, grandfather)| (*person, *grandfather)).collect()
}

fn random_event(random: &mut Rng, people: Person) -> Register {
    let person = random.u32(..people);
    let father = (random.u8(..10) > 0).then(|| random.u32(..people));
    match random.u8(..10) {
        0..5 => Born { person, father },
        5..8 => Corrected { person, father },
        _ => Struck { person },
    }
}

/// The people whose derivation reads the row of this person: its children and the person itself.
fn affected(people: &People, person: Person) -> BTreeSet<Person> {
    let reads = |(child, entry): (&Person, &Entry)| {
        (*child == person || entry.father == Some(person)).then_some(*child)
    };
    people.people.iter().filter_map(reads).collect()
}

fn subject(event: &Register) -> Person {
    match event {
        Born { person, .. } | Corrected { person, .. } | Struck { person } => *person,
    }
}

#[test]
fn step_by_step_rows_equal_rows_derived_anew_after_random_births() {
    for seed in 0..4 {
        let mut random = Rng::with_seed(seed);
        let mut family = Family::default();
        for position in 1..=10_000 {
            let event = random_event(&mut random, 200);
            let before = (family.source().clone(), derivations());
            family.apply(&recorded(position, event.clone()));
            // Only the current readers of the changed row are derived. An unchanged row costs
            // no derivation.
            let expected = match before.0 == *family.source() {
                true => 0,
                false => affected(family.source(), subject(&event)).len() as u64,
            };
            let work = derivations() - before.1;
            assert_eq!(work, expected, "seed {seed}, position {position}: {event:?}");
            if position % 100 == 0 {
                assert_eq!(rows(&family), grandfathers(family.source()), "seed {seed}");
                assert_eq!(family, Family::new(family.source().clone()), "seed {seed}");
            }
        }
        assert!(family.rows().len() > 20, "seed {seed}: too few people have a grandfather");
    }
}

#[test]
fn work_does_not_grow_with_the_number_of_people() {
    // The father of person n is person n - 1, so each person has at most one child.
    let line = |people: Person| {
        let father = |person: Person| person.checked_sub(1);
        folded::<Family>((0..people).map(|person| Born { person, father: father(person) }))
    };
    let work = |mut family: Family| {
        let before = derivations();
        family.apply(&recorded(1_000_000, Corrected { person: 50, father: Some(3) }));
        derivations() - before
    };
    assert_eq!(work(line(100)), 2);
    assert_eq!(work(line(100_000)), 2);
}

#[test]
fn a_million_reads_derive_nothing() {
    let family =
        folded::<Family>((0..1_000).map(|person| Born { person, father: Some(person / 2) }));
    let before = derivations();
    let mut random = Rng::with_seed(1);
    let mut found: u64 = 0;
    for _ in 0..1_000_000 {
        let person = random.u32(..2_000);
        found += u64::from(family.get(&person) == Some(&(person / 4)));
    }
    assert_eq!(derivations(), before);
    assert!((400_000..600_000).contains(&found), "{found}");
}

#[test]
fn a_father_may_be_registered_after_the_child() {
    let mut family = folded::<Family>([Born { person: 3, father: Some(2) }]);
    assert_eq!(family.get(&3), None);
    family.apply(&recorded(2, Born { person: 2, father: Some(1) }));
    assert_eq!(family.get(&3), Some(&1));
    family.apply(&recorded(3, Struck { person: 2 }));
    assert_eq!(family.get(&3), None);
    family.apply(&recorded(4, Born { person: 2, father: Some(0) }));
    assert_eq!(family.get(&3), Some(&0));
    family.apply(&recorded(5, Struck { person: 3 }));
    assert!(family.rows().is_empty());
}

#[test]
fn a_person_who_is_their_own_father_is_derived_once() {
    let before = derivations();
    let family = folded::<Family>([Born { person: 1, father: Some(1) }]);
    assert_eq!((family.get(&1), derivations() - before), (Some(&1), 1));
}

#[test]
fn a_correction_that_corrects_nothing_derives_nothing() {
    let mut family = folded::<Family>([Born { person: 1, father: Some(2) }]);
    let before = derivations();
    family.apply(&recorded(2, Corrected { person: 1, father: Some(2) }));
    family.apply(&recorded(3, Corrected { person: 8, father: Some(2) }));
    family.apply(&recorded(4, Struck { person: 9 }));
    assert_eq!(derivations(), before);
}

#[test]
fn a_derived_view_meets_the_bounds_of_a_view() {
    fn is_a_view<V: Fold + Clone + PartialEq + Serialize + DeserializeOwned>() {}
    is_a_view::<Family>();
}

/// Both copies of a view fold the same batches and are equal after each batch.
#[test]
fn two_copies_stay_equal() {
    for seed in 0..20 {
        let mut random = Rng::with_seed(seed);
        let (mut shown, mut hidden) = (Family::default(), Family::default());
        for batch in 0..40 {
            let events: Vec<_> =
                (0..random.u64(1..9)).map(|_| random_event(&mut random, 20)).collect();
            for copy in [&mut hidden, &mut shown] {
                for (position, event) in (batch * 10..).zip(&events) {
                    copy.apply(&recorded(position, event.clone()));
                }
            }
            assert_eq!(shown, hidden, "seed {seed}, batch {batch}");
            if random.u8(..8) == 0 {
                hidden = shown.clone(); // The app clones like this while a reader holds a copy.
            }
        }
    }
}

#[test]
fn a_panic_in_derive_reaches_the_caller_of_apply() {
    let mut family = folded::<Family>([Born { person: 1, father: Some(UNKNOWABLE) }]);
    let event = recorded(2, Born { person: UNKNOWABLE, father: None });
    let panic = catch_unwind(AssertUnwindSafe(|| family.apply(&event))).unwrap_err();
    let says = panic.downcast_ref::<String>().unwrap();
    assert!(says.contains("are unknowable"), "{says}");
}

#[cfg(feature = "testing")]
#[test]
fn it_is_deterministic() {
    let mut random = Rng::with_seed(7);
    diptych::testing::check_determinism::<Family>(
        (0..300).map(|_| random_event(&mut random, 20)).collect::<Vec<_>>(),
    );
}

fn bytes(family: &Family) -> String {
    serde_json::to_string(family).unwrap()
}

#[test]
fn a_derived_view_is_serialized_as_its_source_and_its_rows() {
    let family = folded::<Family>((0..3).map(|person| Born { person, father: Some(person + 1) }));
    let source = r#"{"people":{"0":{"father":1},"1":{"father":2},"2":{"father":3}}}"#;
    let expected = format!(r#"{{"source":{source},"derived":{{"0":2,"1":3}}}}"#);
    assert_eq!(bytes(&family), expected);
    assert_eq!(serde_json::from_str::<Family>(&expected).unwrap(), family);
}

proptest! {
    /// Different events in a different order that lead to the same people give the same bytes.
    #[test]
    fn equal_states_have_equal_bytes_for_every_history(
        fathers in prop::collection::btree_map(0_u32..12, prop::option::of(0_u32..12), 0..12),
        detours in prop::collection::vec((0_u32..12, prop::option::of(0_u32..12)), 0..40),
        seed in any::<u64>(),
    ) {
        let births = fathers.iter().map(|(person, father)| (*person, *father));
        let straight = births.clone().map(|(person, father)| Born { person, father });
        let straight: Family = folded(straight);

        let mut random = Rng::with_seed(seed);
        let mut told: Vec<_> =
            detours.into_iter().map(|(person, father)| Born { person, father }).collect();
        let mut last: Vec<_> = (0..12)
            .map(|person| match fathers.get(&person) {
                Some(father) => Born { person, father: *father },
                None => Struck { person },
            })
            .collect();
        random.shuffle(&mut told);
        random.shuffle(&mut last);
        let detour: Family = folded(told.into_iter().chain(last));

        prop_assert_eq!(&detour, &straight);
        prop_assert_eq!(bytes(&detour), bytes(&straight));
        prop_assert_eq!(detour.heap_bytes(), straight.heap_bytes());
    }

    #[test]
    fn a_deserialized_view_folds_on_like_the_original(seed in any::<u64>()) {
        let mut random = Rng::with_seed(seed);
        let mut family: Family = folded((0..50).map(|_| random_event(&mut random, 12)));
        let mut kept: Family = serde_json::from_str(&bytes(&family)).unwrap();
        for position in 51..80 {
            let event = recorded(position, random_event(&mut random, 12));
            let before = derivations();
            family.apply(&event);
            let work = derivations() - before;
            kept.apply(&event);
            prop_assert_eq!(derivations() - before, 2 * work);
            prop_assert_eq!(&kept, &family);
        }
    }
}
