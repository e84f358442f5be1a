//! The codes of problems: one word each, for programs.

/// Defines the codes with their words. Each has a row in the table of problems of
/// `http.md`.
macro_rules! codes {
    ($($(#[$attribute:meta])* $name:ident = $word:literal,)*) => {
        /// The last part of the type of a problem, `urn:diptych:<word>`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Code {
            $($(#[$attribute])* $name,)*
        }

        impl Code {
            #[cfg(test)]
            const ALL: &[Code] = &[$(Code::$name,)*];

            pub(crate) fn word(self) -> &'static str {
                match self {
                    $(Code::$name => $word,)*
                }
            }
        }
    };
}

codes! {
    AboveHead = "above-head",
    Answered = "answered",
    Arguments = "arguments",
    Body = "body",
    Busy = "busy",
    Conflict = "conflict",
    ContentType = "content-type",
    Denied = "denied",
    Header = "header",
    Host = "host",
    Invalid = "invalid",
    KeyReused = "key-reused",
    #[cfg_attr(not(feature = "poster"), allow(dead_code))]
    Loop = "loop",
    Malformed = "malformed",
    Method = "method",
    Mistake = "mistake",
    NotReady = "not-ready",
    NotTaken = "not-taken",
    NotYet = "not-yet",
    OrdinalAhead = "ordinal-ahead",
    OrdinalGap = "ordinal-gap",
    OrdinalPassed = "ordinal-passed",
    OutcomeUnknown = "outcome-unknown",
    Parameter = "parameter",
    Rejected = "rejected",
    Slow = "slow",
    Stopping = "stopping",
    Token = "token",
    TooLarge = "too-large",
    TooManyEvents = "too-many-events",
    #[cfg_attr(not(feature = "log"), allow(dead_code))]
    Tracked = "tracked",
    Unavailable = "unavailable",
    Unknown = "unknown",
    ViewStopped = "view-stopped",
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_table_of_the_documentation_has_exactly_the_codes() {
        let page = include_str!("../http.md");
        let (_, table) = page.split_once("| word | status | meaning |").unwrap();
        let (table, _) = table.split_once("\n\n").unwrap();
        let rows = table.lines().filter_map(|row| row.strip_prefix("| `")?.split('`').next());
        let in_table: BTreeSet<&str> = rows.collect();
        let in_code: BTreeSet<&str> = Code::ALL.iter().map(|code| code.word()).collect();
        assert_eq!(in_table, in_code);
    }
}
