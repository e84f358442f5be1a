//! The lints of a user do not fire on code that the derive generates.

#![deny(warnings, deprecated, single_use_lifetimes, unused_qualifications)]
#![deny(clippy::all, clippy::pedantic, clippy::nursery)]

use diptych::{Event, event::MessagePack};
use serde::{Deserialize, Serialize};

use super::written;

/// A struct that makes the derive generate all its code for a struct.
#[derive(Clone, Debug, PartialEq, Eq, Event, Serialize, Deserialize)]
#[event("loud", version = 2, codec = MessagePack)]
struct Loud {
    /// A tag.
    #[tag]
    id: u8,
    /// Tags.
    #[tag]
    more: Vec<Option<String>>,
}

/// A program no longer writes this struct, but its events stay in the log.
#[deprecated = "nothing is as quiet"]
#[allow(dead_code)]
#[derive(Event, Serialize, Deserialize)]
#[event("whispered")]
struct Whisper {
    #[tag]
    id: u8,
}

/// An enum that makes the derive generate all its code for an enum.
#[derive(Clone, Debug, PartialEq, Eq, Event)]
enum Noise {
    /// An event of another type.
    Loud(Loud),
    /// An event of this enum.
    #[event("quiet")]
    Quiet {
        /// A tag.
        #[tag]
        id: Option<u8>,
        /// A field that serde skips.
        #[serde(skip)]
        skipped: u8,
        /// A field with functions for serde.
        #[serde(with = "text", skip_serializing_if = "is_zero")]
        text: u64,
    },
    /// A program no longer writes this event, but it stays in the log.
    #[deprecated = "nothing is as loud"]
    #[event("silent")]
    Silent,
}

mod text {
    #![allow(clippy::trivially_copy_pass_by_ref)]

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(value: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(*value)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
        u64::deserialize(from)
    }
}

#[allow(clippy::trivially_copy_pass_by_ref)]
const fn is_zero(value: &u64) -> bool {
    *value == 0
}

#[test]
fn generated_code_passes_every_lint() {
    written(Noise::Loud(Loud { id: 1, more: vec![None, Some(String::new())] }));
    written(Noise::Quiet { id: Some(1), skipped: 0, text: 1 });
}
