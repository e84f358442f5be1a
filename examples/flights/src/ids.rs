//! What flights, airports, airlines and planes are called. A name is checked when it is read, from
//! JSON as from a table, and trusted from then on; all of them are small and copied freely.

mod code;
mod day;
mod flight;

pub use code::{Airline, Airport, Plane};
pub use day::Day;
pub use flight::{BoardId, FlightId};

/// The text is no such name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {what}: write {wanted}")]
pub struct NotA {
    text: String,
    what: &'static str,
    wanted: &'static str,
}

impl NotA {
    /// How much of the text is shown: it comes from anywhere.
    const SHOWN_CHARS: usize = 40;

    fn new(text: &str, what: &'static str, wanted: &'static str) -> NotA {
        let mut shown: String = text.chars().take(NotA::SHOWN_CHARS).collect();
        if shown.len() < text.len() {
            shown.push('…');
        }
        NotA { text: shown, what, wanted }
    }
}

/// Serde and schemars for a name: as text, with this pattern.
macro_rules! as_text {
    ($name:ident, $expecting:literal, $pattern:literal) => {
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                // Short enough to stand in place, so that nothing is allocated.
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
