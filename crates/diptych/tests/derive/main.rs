//! Tests of `#[derive(Event)]`: it writes what a person would write.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod by_hand;
mod fields;
mod quiet;
mod unions;

use std::fmt::Debug;

use diptych::{
    Event,
    event::{EncodedEvent, SchemaError},
    store::RawEvent,
};

/// The event in bytes, which is the same event when it is read, by a type that has it.
fn written<E: Event + PartialEq + Debug>(event: E) -> RawEvent {
    let raw = event.encode().unwrap();
    let known = E::types();
    let known = known.iter().find(|known| known.name == raw.event_type).unwrap();
    assert_eq!(known.version, raw.version);
    for tag in &raw.tags {
        assert!(known.tags.contains(&tag.key()), "{tag:?} is not declared");
    }
    assert!(E::has_type(&raw.event_type));
    assert_eq!(E::decode(&encoded(&raw)), Ok(event));
    raw
}

fn encoded(raw: &RawEvent) -> EncodedEvent<'_> {
    EncodedEvent { event_type: &raw.event_type, version: raw.version, payload: &raw.payload }
}

fn json(event_type: &str, payload: &str) -> RawEvent {
    RawEvent::new(event_type.to_owned(), payload)
}

fn read<E: Event>(raw: &RawEvent) -> Result<E, SchemaError> {
    E::decode(&encoded(raw))
}

fn text(raw: &RawEvent) -> &str {
    str::from_utf8(&raw.payload).unwrap()
}

fn tags(raw: &RawEvent) -> Vec<&str> {
    raw.tags.iter().map(|tag| tag.as_str()).collect()
}

/// Each file is something that cannot be an event, beside what is said about it. After a change
/// of what is said, `TRYBUILD=overwrite` writes that down; read the difference.
#[test]
fn what_cannot_be_an_event_is_said_where_it_stands() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}
