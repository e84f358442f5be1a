use std::fmt;

use super::line::CallName;

/// A promise that a history breaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The promise.
    pub kind: ViolationKind,
    /// The call that shows it, unless the log alone shows it.
    pub call: Option<CallName>,
    /// The facts, in words.
    pub text: String,
}

/// The promises that the checker knows, each named by the way in which it is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum ViolationKind {
    // Commits and the log.
    /// A commit that was acknowledged is not in the log.
    LostCommit,
    /// A commit that was refused is in the log.
    RefusedCommit,
    /// A part of a commit is in the log, or its events do not stand together.
    HalfCommit,
    /// A commit is in the log twice.
    DoubledCommit,
    /// The log has an event that no client wrote.
    ForeignEvent,
    /// An event, a key or a tracking of the log differs from what its client wrote.
    ChangedCommit,
    /// The recorded times decrease, or differ from the time in a receipt.
    WrongTime,
    /// A commit has lower positions than one that was accepted before it was requested.
    RealTimeOrder,
    /// The log has another identity, although it is the same log.
    ChangedIdentity,
    /// The log lost acknowledged commits, and kept its epoch.
    KeptEpoch,

    // Checks of an append.
    /// A commit was accepted although an event forbids it that was accepted before the request.
    IgnoredCondition,
    /// A commit was accepted although an event forbids it that a concurrent request wrote: the
    /// condition was checked against an older log.
    StaleCondition,
    /// A commit was refused, and the refusal does not follow from the log.
    WrongRefusal,
    /// Two commits have one key.
    KeyUsedTwice,
    /// A repeated key, or a look-up by key, does not get the receipt of the commit.
    WrongReceipt,
    /// A source went back, or a look-up or a refusal has another position than the log.
    WrongTracking,

    // Readers.
    /// A reader does not see a commit that was acknowledged before the call.
    UnreadableReceipt,
    /// A head, or the end of a read, is below what the reader saw before.
    HeadWentBack,
    /// A fresh head is below a commit that was acknowledged before the call.
    StaleFreshHead,
    /// A reader saw an event that is not in the log, or not written yet.
    PhantomEvent,
    /// A reader saw an event that differs from that in the log.
    ChangedEvent,
    /// A read left out an event, gave one too much, or in another order.
    WrongRead,
    /// A look-up of an event or a number does not follow from the log.
    WrongLookUp,
    /// A read of whole commits differs from the log.
    WrongCommits,
    /// A subscription left out an event.
    SubscriptionSkips,
    /// A subscription gave an event twice, or in another order.
    SubscriptionRepeats,
    /// A valid call failed.
    UnexpectedError,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: ", self.kind)?;
        if let Some(CallName { round, client, number }) = self.call {
            write!(f, "call {number} of client {client} in round {round}: ")?;
        }
        f.write_str(&self.text)
    }
}
