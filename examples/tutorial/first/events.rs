use diptych::Event;

/// Everything that happens in the shed.
#[derive(Clone, Debug, PartialEq, Event)]
pub enum Shed {
    #[event("tool-added")]
    Added {
        #[tag]
        tool: String,
    },
    #[event("tool-lent")]
    Lent {
        #[tag]
        tool: String,
        #[tag]
        member: String,
    },
    #[event("tool-returned")]
    Returned {
        #[tag]
        tool: String,
        #[tag]
        member: String,
    },
}
