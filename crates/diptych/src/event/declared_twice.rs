use std::fmt;

use super::EventType;

/// One name of an event type that two Rust types of an app declare, each in its own way: two crates
/// that use one name, or two versions of one crate. A reader of the log could not tell their events
/// apart.
///
/// A type that holds events of another type, such as an enum for one fold, does not declare them
/// again.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeclaredTwice {
    /// The name of the event type.
    pub name: &'static str,
    /// The Rust type that the app met first.
    pub first: &'static str,
    /// The Rust type that declares the name in another way.
    pub second: &'static str,
    /// Both declarations as text.
    told: [String; 2],
}

impl DeclaredTwice {
    /// `first` and `second` with the Rust types that name them, if they name no other.
    pub(super) fn new(
        first: (&EventType, &'static str),
        second: (&EventType, &'static str),
    ) -> Self {
        let rust = |(of, by): (&EventType, &'static str)| of.declared_in().unwrap_or(by);
        DeclaredTwice {
            name: second.0.name,
            first: rust(first),
            second: rust(second),
            told: [told(first.0), told(second.0)],
        }
    }
}

fn told(of: &EventType) -> String {
    let EventType { version, codec, tags, .. } = of;
    match tags {
        [] => format!("version {version}, {codec}"),
        tags => format!("version {version}, {codec}, tags {}", tags.join(", ")),
    }
}

impl fmt::Display for DeclaredTwice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let DeclaredTwice { name, first, second, told: [one, other] } = self;
        write!(
            f,
            "the event type {name} is declared twice, by {first} ({one}) and by {second} ({other})"
        )?;
        if first == second {
            write!(f, ": the program has two versions of their crate, use one")
        } else {
            write!(
                f,
                ": give one of them another name, or, if both are one fact, keep one of the two \
                 types and hold it in an enum wherever it is read with others"
            )
        }
    }
}
