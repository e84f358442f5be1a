//! Names of flights, airports, airlines and planes. A name is checked when it is parsed, from JSON
//! or from a table, and is valid from then on. All names are small and `Copy`.

mod code;
mod day;
mod flight;

pub use code::{Airline, Airport, Plane};
pub use day::Day;
pub use flight::{BoardId, FlightId};

/// The text is not a valid name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {what}: write {wanted}")]
pub struct InvalidName {
    text: String,
    what: &'static str,
    wanted: &'static str,
}

impl InvalidName {
    /// The number of characters that the error shows. The text may come from any client.
    const SHOWN_CHARS: usize = 40;

    fn new(text: &str, what: &'static str, wanted: &'static str) -> InvalidName {
        let mut shown: String = text.chars().take(InvalidName::SHOWN_CHARS).collect();
        if shown.len() < text.len() {
            shown.push('…');
        }
        InvalidName { text: shown, what, wanted }
    }
}

/// Implements serde and schemars for a name as text with this pattern.
macro_rules! as_text {
    ($name:ident, $expecting:literal, $pattern:literal) => {
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                // The text fits on the stack, so that this allocates nothing.
                to.serialize_str(&compact_str::format_compact!("{self}"))
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<$name, D::Error> {
                struct Text;

                impl serde::de::Visitor<'_> for Text {
                    type Value = $name;

                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str($expecting)
                    }

                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<$name, E> {
                        text.parse().map_err(E::custom)
                    }
                }

                from.deserialize_str(Text)
            }
        }

        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({
                    "type": "string", "description": $expecting, "pattern": $pattern
                })
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Display::fmt(self, f)
            }
        }
    };
}
use as_text;
