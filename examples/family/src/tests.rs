use diptych::{
    Filter,
    testing::{check_determinism, given},
};

use super::*;

fn family(events: impl IntoIterator<Item = Parish>) -> Family {
    given(events).state(Filter::everything())
}

fn fathers() -> [Parish; 3] {
    [born("Otto", Some("Paul")), born("Paul", Some("Quentin")), born("Quentin", None)]
}

#[test]
fn a_grandfather_is_the_father_of_the_father() {
    let family = family(fathers());
    assert_eq!(grandfather(&family, "Otto"), Some("Quentin"));
    assert_eq!(grandfather(&family, "Paul"), None);
    assert_eq!(grandchildren(&family, "Quentin"), ["Otto"]);
}

#[test]
fn who_is_registered_first_makes_no_difference() {
    let mut backwards = fathers();
    backwards.reverse();
    assert_eq!(family(backwards), family(fathers()));
}

#[test]
fn a_correction_reaches_the_grandchildren() {
    let mistaken = fathers().into_iter().chain([corrected("Paul", "Rudolf")]);
    let family = family(mistaken);
    assert_eq!(grandfather(&family, "Otto"), Some("Rudolf"));
    assert_eq!(grandchildren(&family, "Quentin"), [""; 0]);
    assert_eq!(grandchildren(&family, "Rudolf"), ["Otto"]);
}

#[test]
fn a_correction_may_come_before_the_birth() {
    let family = family([born("Otto", Some("Paul")), corrected("Paul", "Rudolf")]);
    assert_eq!(grandfather(&family, "Otto"), Some("Rudolf"));
}

#[test]
fn the_same_events_give_the_same_family() {
    check_determinism::<Family>(fathers());
}
