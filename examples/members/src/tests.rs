use diptych::{
    Filter, Memory, Query,
    testing::{check_determinism, given, nothing_given},
};

use super::*;
use crate::commands::Refused;

fn register(member: &str, email: &str) -> Register {
    Register { member: member.to_owned(), email: email.to_owned() }
}

fn registered(member: &str, email: &str) -> Membership {
    Membership::Registered { member: member.to_owned(), email: email.to_owned() }
}

#[test]
fn an_address_is_taken_until_it_is_released() {
    let (ann, email) = ("ann", "a@example.org");
    let taken = nothing_given().when(register(ann, email)).then([registered(ann, email)]);
    let taken =
        taken.when(register("ben", email)).then_rejected(Refused::EmailTaken(email.to_owned()));
    let left = Membership::Left { member: ann.to_owned(), email: email.to_owned() };
    let free = taken.when(Leave { member: ann.to_owned() }).then([left]);
    free.when(register("ben", email)).then([registered("ben", email)]);
}

#[test]
fn a_member_registers_once_and_leaves_once() {
    let (ann, email) = ("ann", "a@example.org");
    let taken = nothing_given().when(register(ann, email)).then([registered(ann, email)]);
    taken.when(register(ann, "b@example.org")).then_rejected(Refused::Registered);
    nothing_given().when(Leave { member: ann.to_owned() }).then_rejected(Refused::NoMember);
}

#[test]
fn an_address_is_validated() {
    nothing_given().when(register("ann", "Ann@example.org")).then_invalid("email");
    nothing_given().when(register("ann", "ann")).then_invalid("email");
}

#[test]
fn the_directory_leaves_out_members_who_left() {
    let left = Membership::Left { member: "ben".to_owned(), email: "ben@b".to_owned() };
    let events = [registered("ann", "ann@a"), registered("ben", "ben@b"), left];
    let directory: Directory = given(events).state(Filter::everything());
    let found = |prefix: &str| Search { prefix: prefix.to_owned() }.answer(&directory);
    assert_eq!((found("a"), found("b")), (vec!["ann".to_owned()], Vec::new()));
}

#[test]
fn the_same_events_give_the_same_directory() {
    check_determinism::<Directory>([registered("ann", "ann@a"), registered("ben", "ben@b")]);
}

#[tokio::test]
async fn the_owner_of_an_address_depends_on_its_own_events_alone() {
    let app = App::over(Memory::new()).view::<Directory>().start().await.unwrap();
    let session = app.session();
    for (member, email) in [("ann", "ann@a"), ("ben", "ben@b")] {
        app.execute(register(member, email)).session(&session).await.unwrap();
    }
    let whose = || WhoHas { email: "ann@a".to_owned() };
    let answer = app.query(whose()).session(&session).await.unwrap();
    assert_eq!(answer.value.unwrap().member, "ann");
    app.check_scope(&whose(), app.head()).await.unwrap();
}
