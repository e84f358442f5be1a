//! The right panel: the register, rows that are derived from it, and queries that only look them
//! up.

use diptych::{
    Fold, Query, Recorded,
    derived::{Derivation, Derived, Reads, Rows, Source},
};

use crate::Parish;

/// The registered people.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Register {
    people: Rows<String, Entry>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Entry {
    father: Option<String>,
}

impl Fold for Register {
    type Event = Parish;

    fn apply(&mut self, event: &Recorded<Parish>) {
        match event.event.clone() {
            Parish::Born { person, father } => drop(self.people.insert(person, Entry { father })),
            Parish::FatherCorrected { person, father } => {
                self.people.change_or_default(person).father = Some(father);
            }
        }
    }
}

impl Source for Register {
    type Key = String;
    type Row = Entry;

    fn rows(&self) -> &Rows<String, Entry> {
        &self.people
    }

    fn rows_mut(&mut self) -> &mut Rows<String, Entry> {
        &mut self.people
    }
}

/// The father of a person's father. The two may be registered in any order.
pub(crate) struct PaternalGrandfather;

impl Derivation for PaternalGrandfather {
    type Source = Register;
    type Key = String;
    type Value = String;

    fn keys(person: &String, _: &Entry) -> impl IntoIterator<Item = String> {
        [person.clone()]
    }

    fn derive(person: &String, people: &Reads<'_, Register>) -> Option<String> {
        let father = people.get(person)?.father.as_ref()?;
        people.get(father)?.father.clone()
    }
}

/// The grandchildren of each grandfather, derived from rows that are themselves derived.
pub(crate) struct Grandchildren;

impl Derivation for Grandchildren {
    type Source = Derived<PaternalGrandfather>;
    type Key = String;
    type Value = Vec<String>;

    fn keys(_: &String, grandfather: &String) -> impl IntoIterator<Item = String> {
        [grandfather.clone()]
    }

    fn derive(_: &String, people: &Reads<'_, Self::Source>) -> Option<Vec<String>> {
        Some(people.named_by().map(|(person, _)| person.clone()).collect())
    }
}

/// One state with all of this, so that all parts are at the same position.
pub(crate) type Family = Derived<Grandchildren>;

/// The paternal grandfather of a person, if known.
pub(crate) struct GrandfatherOf(pub(crate) &'static str);

impl Query for GrandfatherOf {
    type View = Family;
    type Answer = Option<String>;

    fn answer(&self, family: &Family) -> Option<String> {
        family.source().get(self.0).cloned()
    }
}

/// The grandchildren of a person.
pub(crate) struct GrandchildrenOf(pub(crate) &'static str);

impl Query for GrandchildrenOf {
    type View = Family;
    type Answer = Vec<String>;

    fn answer(&self, family: &Family) -> Vec<String> {
        family.get(self.0).cloned().unwrap_or_default()
    }
}
