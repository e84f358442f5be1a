use std::fmt;

use uuid::Uuid;

/// The id of a log: random, and fixed when the log is created.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogId(Uuid);

impl LogId {
    /// A new random id.
    pub fn random() -> LogId {
        LogId(Uuid::new_v4())
    }

    /// The id with these bytes, as a store read them back.
    pub const fn from_bytes(bytes: [u8; 16]) -> LogId {
        LogId(Uuid::from_bytes(bytes))
    }

    /// The id as bytes.
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0.into_bytes()
    }
}

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The history of a log. The epoch changes when a backup is restored or acknowledged commits are
/// lost. In another epoch a position may name another event.
///
/// The upper half counts the changes. The lower half is random, so that two restores of one backup
/// get different epochs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(u64);

impl Epoch {
    /// The epoch of a new log.
    pub fn first() -> Epoch {
        Epoch::numbered(1)
    }

    /// The epoch that follows this one.
    #[must_use]
    pub fn next(self) -> Epoch {
        Epoch::numbered(self.number().saturating_add(1))
    }

    /// The epoch with this number, as a store read it back.
    pub const fn from_u64(number: u64) -> Epoch {
        Epoch(number)
    }

    /// The epoch as one number.
    pub const fn to_u64(self) -> u64 {
        self.0
    }

    /// The number of the history, 1 for the first.
    pub const fn number(self) -> u32 {
        (self.0 >> 32) as u32
    }

    fn numbered(number: u32) -> Epoch {
        let (random, _) = Uuid::new_v4().as_u64_pair();
        Epoch(u64::from(number) << 32 | random >> 32)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:08x}", self.number(), self.0 as u32)
    }
}

/// A log and its history. Receipts, checkpoints, tracking and snapshots carry it, so that a
/// position is never used with another log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogIdentity {
    /// The id of the log.
    pub id: LogId,
    /// The history of the log.
    pub epoch: Epoch,
}

impl LogIdentity {
    /// The identity of a new log.
    pub fn random() -> LogIdentity {
        LogIdentity { id: LogId::random(), epoch: Epoch::first() }
    }
}

impl fmt::Display for LogIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} epoch {}", self.id, self.epoch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_epoch_has_the_next_number_and_is_unique() {
        let first = Epoch::first();
        let (one, two) = (first.next(), first.next());
        assert_eq!((first.number(), one.number()), (1, 2));
        assert_ne!(one, two);
        assert_eq!(Epoch::from_u64(one.to_u64()), one);
    }
}
