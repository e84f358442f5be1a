use diptych::{
    Filter, Query,
    testing::{check_determinism, given, nothing_given},
};

use super::*;
use crate::commands::Registered;

fn born(person: &str, father: Option<&str>) -> Parish {
    Parish::Born { person: person.to_owned(), father: father.map(str::to_owned) }
}

fn corrected(person: &str, father: &str) -> Parish {
    Parish::FatherCorrected { person: person.to_owned(), father: father.to_owned() }
}

fn grandfather(family: &Family, person: &'static str) -> Option<String> {
    GrandfatherOf(person).answer(family)
}

fn grandchildren(family: &Family, person: &'static str) -> Vec<String> {
    GrandchildrenOf(person).answer(family)
}

fn family(events: impl IntoIterator<Item = Parish>) -> Family {
    given(events).state(Filter::everything())
}

fn fathers() -> [Parish; 3] {
    [born("Otto", Some("Paul")), born("Paul", Some("Quentin")), born("Quentin", None)]
}

#[test]
fn a_grandfather_is_the_father_of_the_father() {
    let family = family(fathers());
    assert_eq!(grandfather(&family, "Otto"), Some("Quentin".to_owned()));
    assert_eq!(grandfather(&family, "Paul"), None);
    assert_eq!(grandchildren(&family, "Quentin"), ["Otto"]);
}

#[test]
fn the_order_of_registration_does_not_matter() {
    let mut backwards = fathers();
    backwards.reverse();
    assert_eq!(family(backwards), family(fathers()));
}

#[test]
fn a_correction_reaches_the_grandchildren() {
    let mistaken = fathers().into_iter().chain([corrected("Paul", "Rudolf")]);
    let family = family(mistaken);
    assert_eq!(grandfather(&family, "Otto"), Some("Rudolf".to_owned()));
    assert!(grandchildren(&family, "Quentin").is_empty());
    assert_eq!(grandchildren(&family, "Rudolf"), ["Otto"]);
}

#[test]
fn a_correction_may_come_before_the_birth() {
    let family = family([born("Otto", Some("Paul")), corrected("Paul", "Rudolf")]);
    assert_eq!(grandfather(&family, "Otto"), Some("Rudolf".to_owned()));
}

#[test]
fn the_same_events_give_the_same_family() {
    check_determinism::<Family>(fathers());
}

#[test]
fn a_birth_is_registered_once() {
    let register = || RegisterBirth { person: "Otto", father: Some("Paul") };
    let there = nothing_given().when(register()).then([born("Otto", Some("Paul"))]);
    there.when(register()).then_rejected(Registered);
}

#[tokio::test]
async fn queries_of_the_past_see_the_family_before_a_correction() {
    let app = App::over(Memory::new()).view::<Family>().start().await.unwrap();
    for (person, father) in [("Otto", "Paul"), ("Paul", "Quentin")] {
        app.execute(RegisterBirth { person, father: Some(father) }).await.unwrap();
    }
    let correct = CorrectFather { person: "Paul", father: "Rudolf" };
    let receipt = app.execute(correct).await.unwrap();
    let now = app.query(GrandfatherOf("Otto")).after(&receipt).await.unwrap();
    let before = app.query(GrandfatherOf("Otto")).as_of(receipt.last().before()).await.unwrap();
    assert_eq!(now.value.as_deref(), Some("Rudolf"));
    assert_eq!(before.value.as_deref(), Some("Quentin"));
}
