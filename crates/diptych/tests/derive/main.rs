//! Tests of `#[derive(Event)]`. The derive writes the code that a person would write.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod by_hand;
mod fields;
mod quiet;
mod tags;
mod unions;

use std::fmt::Debug;

use diptych::{
    Event,
    event::{EncodedEvent, SchemaError},
    store::RawEvent,
};

/// Encodes the event. Asserts that its type declares it and decodes it to the same event.
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
