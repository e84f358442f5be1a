//! A derived view that derives from another derived view, and several views of one source.

use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet},
};

use diptych::{
    Event, Fold,
    derived::{Derivation, Derived, Reads},
};
use fastrand::Rng;

use super::{
    family::{Entry, Family, PaternalGrandfather, People, Person, Register, derivations},
    folded, recorded,
};

thread_local! {
    static COUNTED: Cell<u64> = const { Cell::new(0) };
}

/// The number of grandchildren of each person through sons. Its source is the grandfather view.
struct Grandchildren;

impl Derivation for Grandchildren {
    type Source = Family;
    type Key = Person;
    type Value = usize;

    fn keys(_: &Person, grandfather: &Person) -> impl IntoIterator<Item = Person> {
        [*grandfather]
    }

    fn derive(_: &Person, grandfathers: &Reads<'_, Family>) -> Option<usize> {
        COUNTED.set(COUNTED.get() + 1);
        Some(grandfathers.named_by().count())
    }
}

/// An index by number of grandchildren. People with an equal number are adjacent.
struct ByNumber;

impl Derivation for ByNumber {
    type Source = Derived<Grandchildren>;
    type Key = (usize, Person);
    type Value = ();

    fn keys(person: &Person, number: &usize) -> impl IntoIterator<Item = (usize, Person)> {
        [(*number, *person)]
    }

    fn derive(_: &(usize, Person), _: &Reads<'_, Derived<Grandchildren>>) -> Option<()> {
        Some(())
    }
}

/// The sons of each registered father.
struct Sons;

impl Derivation for Sons {
    type Source = People;
    type Key = Person;
    type Value = BTreeSet<Person>;

    fn keys(_: &Person, entry: &Entry) -> impl IntoIterator<Item = Person> {
        entry.father
    }

    fn derive(father: &Person, people: &Reads<'_, People>) -> Option<BTreeSet<Person>> {
        people.get(father)?;
        Some(people.named_by().map(|(son, _)| *son).collect())
    }
}

fn born(person: Person, father: Person) -> Register {
    Register::Born { person, father: Some(father) }
}

fn random_event(random: &mut Rng) -> Register {
    let (person, father) = (random.u32(..30), random.u32(..30));
    match random.u8(..10) {
        0..7 => born(person, father),
        7 => Register::Corrected { person, father: None },
        _ => Register::Struck { person },
    }
}

#[test]
fn all_views_of_a_chain_show_the_same_position() {
    for seed in 0..20 {
        let mut random = Rng::with_seed(seed);
        let mut index = Derived::<ByNumber>::default();
        for position in 1..=300 {
            index.apply(&recorded(position, random_event(&mut random)));
            let (numbers, family) = (index.source(), index.source().source());
            let mut expected: BTreeMap<Person, usize> = BTreeMap::new();
            for (_, grandfather) in family.rows().iter() {
                *expected.entry(*grandfather).or_default() += 1;
            }
            assert!(numbers.rows().iter().eq(&expected), "seed {seed}, position {position}");
            let expected: BTreeSet<_> = expected.iter().map(|(who, of)| (*of, *who)).collect();
            let indexed = index.rows().iter().map(|(key, ())| key);
            assert!(indexed.eq(&expected), "seed {seed}, position {position}");
        }
        let people = index.source().source().source().clone();
        assert_eq!(*index.source().source(), Family::new(people), "seed {seed}");
        let text = serde_json::to_string(index.source()).unwrap();
        let numbers: Derived<Grandchildren> = serde_json::from_str(&text).unwrap();
        assert_eq!(&numbers, index.source(), "seed {seed}");
        assert_eq!(Derived::<ByNumber>::new(numbers), index, "seed {seed}");
    }
}

#[test]
fn an_index_is_asked_for_a_range() {
    // Person n (1, 2 or 3) has one son, and that son has n sons.
    let sons = (1..=3).map(|who| born(10 + who, who));
    let grandsons = (1..=3).flat_map(|who| (0..who).map(move |at| born(100 * who + at, 10 + who)));
    let index: Derived<ByNumber> = folded(sons.chain(grandsons));
    let at_least_two = index.rows().range((2, 0)..).map(|((number, who), ())| (*who, *number));
    assert_eq!(at_least_two.collect::<Vec<_>>(), [(2, 2), (3, 3)]);
    assert_eq!(index.get(&(3, 3)), Some(&()));
}

/// A new entry replaces the father by his brother, so the grandfather stays the same.
#[test]
fn an_unchanged_value_triggers_no_derivation_downstream() {
    let mut numbers: Derived<Grandchildren> = folded([born(2, 1), born(3, 1), born(4, 2)]);
    let before = (derivations(), COUNTED.get());
    numbers.apply(&recorded(4, born(4, 3)));
    assert_eq!((derivations() - before.0, COUNTED.get() - before.1), (1, 0));
    assert_eq!(numbers.get(&1), Some(&1));
    numbers.apply(&recorded(5, born(3, 5)));
    assert_eq!((numbers.get(&1), numbers.get(&5)), (None, Some(&1)));
}

#[test]
fn several_derivations_of_one_source_equal_each_alone() {
    for seed in 0..10 {
        let mut random = Rng::with_seed(seed);
        let events: Vec<_> = (0..300).map(|_| random_event(&mut random)).collect();
        let both: Derived<(PaternalGrandfather, Sons)> = folded(events.clone());
        let (grandfathers, sons) = both.rows();
        assert_eq!(grandfathers, folded::<Family>(events.clone()).rows(), "seed {seed}");
        assert_eq!(sons, folded::<Derived<Sons>>(events).rows(), "seed {seed}");
        assert!(sons.len() > 5, "seed {seed}");
        let people = both.source();
        assert_eq!(both, Derived::new(people.clone()), "seed {seed}");
        for (son, entry) in people_of(people) {
            let father = entry.father.and_then(|father| sons.get(&father));
            assert!(father.is_none_or(|sons| sons.contains(&son)), "seed {seed}");
        }
    }
}

fn people_of(people: &People) -> impl Iterator<Item = (Person, Entry)> {
    diptych::derived::Source::rows(people).iter().map(|(person, entry)| (*person, entry.clone()))
}

#[test]
fn a_chain_reads_the_events_of_its_first_source() {
    type View = Derived<ByNumber>;
    let names =
        |types: Vec<diptych::EventType>| types.iter().map(|one| one.name).collect::<Vec<_>>();
    assert_eq!(names(<View as Fold>::Event::types()), names(Register::types()));
    assert_eq!(View::VERSION, None);
}
