//! The lines of a history.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{
    answer::{Answer, CommitRecord},
    record::{AppendRecord, ReadRecord, text},
};
use crate::filter::Filter;

/// One line of a history.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HistoryLine {
    /// A store was started.
    Opening(Opening),
    /// A store is about to be killed.
    Kill(Kill),
    /// A client is about to call the store.
    Invocation(Invocation),
    /// The call returned. A call without this line was cut off: its outcome is unknown.
    Completion(Completion),
    /// A commit of the log, as it was read when all clients had ended.
    Commit(CommitRecord),
}

/// A start of the store.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Opening {
    /// The number of the start, from 0. A round lasts until the store is killed.
    pub round: u64,
    /// Reading of the clock.
    pub time: u64,
    /// Id of the log.
    pub log: String,
    /// Epoch of the log.
    pub epoch: u64,
    /// The fresh head at that time.
    pub head: u64,
}

/// The end of a round. A store that is not killed has no reason to be unavailable.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Kill {
    /// The round.
    pub round: u64,
    /// Reading of the clock before the kill.
    pub time: u64,
}

/// The beginning of a call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Invocation {
    /// The call.
    pub call: CallName,
    /// Reading of the clock before the call.
    pub time: u64,
    /// The arguments.
    pub question: Question,
}

/// The end of a call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Completion {
    /// The call.
    pub call: CallName,
    /// Reading of the clock after the call.
    pub time: u64,
    /// The result.
    pub answer: Answer,
}

/// The name of a call. The calls of one client follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CallName {
    /// The round.
    pub round: u64,
    /// The client, within the round.
    pub client: u64,
    /// The number of the call, within the client.
    pub number: u64,
}

/// A call with its arguments.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Question {
    /// The client gets its handle.
    Connect,
    /// [`Store::append`](crate::Store::append), and the wait for the sync.
    Append(AppendRecord),
    /// [`Store::read`](crate::Store::read).
    Read(ReadRecord),
    /// [`Store::commits`](crate::Store::commits).
    Commits {
        /// Only commits after this position.
        after: u64,
        /// Maximum number of events.
        limit: u64,
    },
    /// [`Store::head`](crate::Store::head).
    Head,
    /// [`Head::after`](crate::Head::after).
    HeadAfter {
        /// The wait ends when the head is above this position.
        after: u64,
    },
    /// [`Store::fresh_head`](crate::Store::fresh_head).
    FreshHead,
    /// [`Store::last`](crate::Store::last).
    Last {
        /// The filter.
        #[serde(with = "text")]
        filter: Filter,
        /// Only events at or below this position.
        upto: u64,
    },
    /// [`Store::count`](crate::Store::count).
    Count {
        /// The tag.
        tag: String,
        /// Only events at or below this position.
        upto: u64,
    },
    /// [`Store::keyed`](crate::Store::keyed).
    Keyed {
        /// The key.
        key: String,
    },
    /// [`Store::tracked`](crate::Store::tracked).
    Tracked {
        /// The source.
        source: String,
    },
    /// [`Store::subscribe`](crate::Store::subscribe). A client has one subscription at a time.
    Subscribe {
        /// The filter.
        #[serde(with = "text")]
        filter: Filter,
        /// Only events after this position.
        after: u64,
    },
    /// [`Subscription::next`](crate::Subscription::next).
    Next,
}

/// As JSON, cut off where it gets long.
impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const LONGEST: usize = 300;
        let text = serde_json::to_string(self).map_err(|_| fmt::Error)?;
        match text.char_indices().nth(LONGEST) {
            Some((end, _)) => write!(f, "{}…", &text[..end]),
            None => f.write_str(&text),
        }
    }
}
