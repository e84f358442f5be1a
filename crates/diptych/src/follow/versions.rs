//! Versions of a view or a projection that live side by side: one is served to readers, and the
//! others are built beside it, or kept after a switch.
//!
//! A version that is not served never passes the served one. So there is a moment at which both
//! are at the same position. Then they are compared and switched.

use std::{fmt, time::Duration};

use diptych_store::Position;

/// The time between two looks at the served version, while another version waits at its position.
pub(crate) const BETWEEN_LOOKS: Duration = Duration::from_millis(50);

/// When a version that is built beside the served one takes its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SwitchPolicy {
    /// By itself, at the first equal position, if the comparison finds no difference. After a
    /// difference, and after a switch back, it takes a command.
    Automatic,
    /// By a command only: see [`FollowerControl::switch`](super::FollowerControl::switch). The
    /// comparison runs by itself at the first equal position.
    ByCommand,
}

/// The state of one version of a view or a projection.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum VersionState {
    /// Readers see it.
    Served,
    /// It is built beside the served version, and was not compared with it yet.
    Building,
    /// At this position its answers were those of the served version. It waits for the switch.
    Equal {
        /// The position of the comparison.
        at: Position,
    },
    /// At this position its answers differed. It is switched only by a command that accepts that.
    Different {
        /// The position of the comparison.
        at: Position,
        /// The first difference.
        difference: String,
    },
    /// It was served before, and is kept so that a switch back needs no rebuild.
    Kept,
}

/// One version of a view or a projection.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct VersionStatus {
    /// The version. The versions of a view are counted: the view that the queries name is 1, and
    /// its candidate is 2.
    pub version: u32,
    /// Its state.
    pub state: VersionState,
    /// All events up to here are applied to it.
    pub position: Position,
}

impl VersionStatus {
    pub(crate) fn new(version: u32, state: VersionState, position: Position) -> VersionStatus {
        VersionStatus { version, state, position }
    }
}

/// A command to serve another version: see
/// [`FollowerControl::switch`](super::FollowerControl::switch).
///
/// ```
/// use diptych::follow::Switch;
/// use std::time::Duration;
///
/// // The version of this program, after a comparison at an equal position.
/// let switch = Switch::forward().within(Duration::from_secs(30));
/// // The version that was served before, at once, with the rows that it has.
/// let back = Switch::back().at_any_position();
/// # drop((switch, back));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "it is a command, give it to `FollowerControl::switch`"]
pub struct Switch {
    pub(crate) to: SwitchTarget,
    pub(crate) compares: bool,
    pub(crate) needs_equal_position: bool,
    pub(crate) within: Duration,
}

/// The version that a [`Switch`] is to serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SwitchTarget {
    /// The version of this program, or the candidate of a view.
    Own,
    /// The version that was served before.
    Before,
}

impl Switch {
    /// The default of [`within`](Switch::within).
    pub const WITHIN: Duration = Duration::from_secs(10);

    /// Serves the version of this program, or the candidate of a view.
    pub fn forward() -> Switch {
        let (to, within) = (SwitchTarget::Own, Switch::WITHIN);
        Switch { to, compares: true, needs_equal_position: true, within }
    }

    /// Serves the kept version again; if a projection keeps several, the newest of them. It is not
    /// compared. The version that was served until then is kept, and takes a command to be served
    /// again.
    pub fn back() -> Switch {
        Switch { to: SwitchTarget::Before, compares: false, ..Switch::forward() }
    }

    /// Skips the comparison, for a version that is meant to answer otherwise.
    pub fn accept_difference(mut self) -> Switch {
        self.compares = false;
        self
    }

    /// Switches also to a version that is at another position, and compares nothing. Readers may
    /// then see an older state than before, until that version has caught up.
    pub fn at_any_position(mut self) -> Switch {
        self.needs_equal_position = false;
        self.accept_difference()
    }

    /// How long to wait for an equal position; the default is 10 seconds.
    pub fn within(mut self, longest: Duration) -> Switch {
        self.within = longest;
        self
    }
}

/// A change of the versions of a follower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum VersionChange {
    /// Compare the version of this program with the served one, and note the result.
    Compare,
    /// Serve the version of this program.
    Forward {
        /// Only if the comparison finds no difference.
        compares: bool,
        /// Only at an equal position.
        needs_equal_position: bool,
    },
    /// Serve the version that was served before.
    Back {
        /// Only at an equal position.
        needs_equal_position: bool,
    },
    /// Remove this version, which is not served.
    Drop(u32),
}

impl VersionChange {
    pub(crate) fn of(switch: Switch) -> VersionChange {
        let Switch { to, compares, needs_equal_position, .. } = switch;
        match to {
            SwitchTarget::Own => VersionChange::Forward { compares, needs_equal_position },
            SwitchTarget::Before => VersionChange::Back { needs_equal_position },
        }
    }
}

/// The outcome of a [`VersionChange`] that did not fail.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum VersionOutcome {
    /// It was carried out.
    Done,
    /// The two versions are not at the same position. Nothing was changed.
    Unequal {
        /// The position of the served version.
        served: Position,
        /// The position of the other version.
        other: Position,
    },
    /// The answers of the two versions differ. The difference was noted, and nothing else was
    /// changed.
    Different {
        /// The first difference.
        difference: String,
    },
}

/// Whether a follower may read on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    On,
    /// It waits at the position of the served version.
    Hold {
        reason: String,
    },
}

impl fmt::Display for VersionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            VersionState::Served => f.write_str("served"),
            VersionState::Building => f.write_str("building"),
            VersionState::Equal { at } => write!(f, "equal at position {at}"),
            VersionState::Different { at, difference } => {
                write!(f, "different at position {at}: {difference}")
            }
            VersionState::Kept => f.write_str("kept"),
        }
    }
}
