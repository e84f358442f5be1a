use diptych::{Event, Upcasters};

/// Everything that happens in the shed.
#[derive(Clone, Debug, PartialEq, Event)]
pub enum Shed {
    #[event("tool-added")]
    Added {
        #[tag]
        tool: String,
    },
    #[event("tool-lent", version = 2)]
    Lent {
        #[tag]
        tool: String,
        #[tag]
        member: String,
        days: u32,
    },
    #[event("tool-returned")]
    Returned {
        #[tag]
        tool: String,
        #[tag]
        member: String,
    },
}

/// Makes events of today from those of earlier releases. Loans of version 1 had no time: the shed
/// lent for two weeks.
pub fn upcasters() -> Upcasters {
    Upcasters::new().object("tool-lent", 1, |loan| loan.insert("days", 14))
}
