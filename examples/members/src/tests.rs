use diptych::testing::nothing_given;

use super::*;

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
fn an_address_looks_like_one() {
    nothing_given().when(register("ann", "Ann@example.org")).then_invalid("email");
    nothing_given().when(register("ann", "ann")).then_invalid("email");
}
