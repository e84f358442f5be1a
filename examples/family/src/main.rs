//! A family tree, in which who is whose grandfather is derived when an event comes, and not when
//! somebody asks. `cargo run -p example-family`
#![allow(clippy::print_stdout)] // It shows something.

#[cfg(test)]
mod tests;

use diptych::{
    Event, Fold, Metadata, Position, Recorded, Timestamp, Uuid,
    derived::{Derivation, Derived, Reads, Rows, Source},
};

#[derive(Clone, Debug, PartialEq, Event)]
enum Parish {
    #[event("birth-registered")]
    Born {
        #[tag]
        person: String,
        father: Option<String>,
    },
    #[event("father-corrected")]
    FatherCorrected {
        #[tag]
        person: String,
        father: String,
    },
}

/// Who is in the register.
#[derive(Clone, Debug, Default, PartialEq)]
struct Register {
    people: Rows<String, Entry>,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Entry {
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

/// The father of the father, whoever of them is registered first.
struct PaternalGrandfather;

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

/// The grandchildren of each grandfather: derived from what is derived.
struct Grandchildren;

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

/// Everything in one state, so that all of it shows the same moment.
type Family = Derived<Grandchildren>;

fn grandfather<'a>(family: &'a Family, person: &str) -> Option<&'a str> {
    family.source().get(person).map(String::as_str)
}

fn grandchildren<'a>(family: &'a Family, person: &str) -> &'a [String] {
    family.get(person).map_or(&[], Vec::as_slice)
}

fn born(person: &str, father: Option<&str>) -> Parish {
    Parish::Born { person: person.to_owned(), father: father.map(str::to_owned) }
}

fn corrected(person: &str, father: &str) -> Parish {
    Parish::FatherCorrected { person: person.to_owned(), father: father.to_owned() }
}

fn main() {
    let story = [
        // The parish of the grandson sends its register first.
        born("Otto", Some("Paul")),
        born("Quentin", None),
        born("Paul", Some("Quentin")),
        born("Berta", Some("Paul")),
        born("Rudolf", None),
        corrected("Paul", "Rudolf"),
    ];
    let mut family = Family::default();
    for (position, event) in (1..).zip(story) {
        family.apply(&Recorded {
            position: Position::new(position),
            recorded_at: Timestamp::from_micros(0),
            id: Uuid::nil(),
            metadata: Metadata::default(),
            event,
        });
        let otto = grandfather(&family, "Otto").unwrap_or("nobody that we know");
        println!("after event {position} the grandfather of Otto is {otto}");
    }
    println!("the grandchildren of Rudolf are {}", grandchildren(&family, "Rudolf").join(", "));
}
