//! A checker of histories: concurrent clients call a store, each call is recorded, the store is
//! killed and started again in between, and the record is compared with the log that is there at
//! the end.
//!
//! The conformance suite asks one question at a time, or lets threads contend for one boundary.
//! Here clients of all kinds work at once, over few tags and keys, and no call knows what the
//! others do. The parts can be used alone:
//!
//! - A [`Recorder`] takes the calls of [`Client`]s, with a reading of one [`Clock`] before and
//!   after each. A call that never returned has an unknown outcome. A client of another process, or
//!   of another language, writes the same lines to a file.
//! - A [`Deployment`] is a store with all that runs it, so that it can be killed. A [`TestStore`]
//!   of the conformance suite is one.
//! - A [`Drill`] runs rounds of clients and kills over a deployment, and returns the [`History`].
//! - [`check`] is a pure function from a history to [`Violation`]s, in words.
//!
//! ```
//! use diptych_store::{Memory, testing::{TestStore, history::{Drill, Survival, check}}};
//!
//! let mut store = TestStore::new(Memory::new());
//! let history = Drill { kills: 0, ..Drill::new(1) }.run(&mut store);
//! assert_eq!(check(&history, Survival::EveryCommit), []);
//! ```
//!
//! # No search
//!
//! A checker of linearizability usually searches for an order of the calls that explains all
//! answers, which can take exponential time. Here the log itself is the order: each commit has its
//! positions, and a refusal names the event that it rests on. So each call is compared with the log
//! by itself, and once with the calls that ended before it began. The time is that of a sort and a
//! few look-ups for each call.
//!
//! # Anomalies that it finds
//!
//! Each [`ViolationKind`] is one. Together they say:
//!
//! - Commits are linearizable. A commit that was accepted before another was requested has the
//!   lower positions, and at the place of each commit its conditions hold. A refusal names an event
//!   that forbids the commit, and no later one was accepted before the request.
//! - A key has one commit, and each repeated request gets the receipt of that commit.
//! - An acknowledged commit is in the log with its exact content at its positions. A refused commit
//!   is not. A commit with an unknown outcome is there whole, or not at all, and at most once.
//! - Heads, reads and look-ups show each commit that was acknowledged before, to the clients of one
//!   handle at once. They never go back, and show nothing that is not in the log. A fresh head is
//!   not below any acknowledged commit.
//! - A subscription gives each event once, in order.
//! - Whole commits and tracking agree with the appends.
//!
//! # Limits
//!
//! - A client of another handle may see less than the head ([`EventStore::has_other_writers`]), so
//!   it is compared with its own calls and with fresh heads.
//! - A log that lost commits ([`Survival::Prefix`]) is checked up to the last position that
//!   survived. Answers about later positions of a lost round are not checked.
//! - Requests above the limits of a store, and other invalid ones, are left to the conformance
//!   suite, and so are corrupted files.
//!
//! [`EventStore::has_other_writers`]: crate::EventStore::has_other_writers
//! [`TestStore`]: crate::testing::TestStore

mod answer;
mod check;
mod client;
mod deployment;
mod file;
mod line;
mod log_model;
mod record;
mod recorder;
mod violation;
mod workload;

pub use answer::{Answer, CommitRecord, KeyedRecord, Receipt, RefusalRecord, Sighting};
pub use check::{Survival, check};
pub use client::{Client, ClientOptions};
pub use deployment::{Deployment, Drill};
pub use file::{CallRecord, History};
pub use line::{CallName, Completion, HistoryLine, Invocation, Kill, Opening, Question};
pub use record::{
    AppendRecord, ConditionRecord, EventRecord, KeyRecord, ReadRecord, TrackingRecord,
};
pub use recorder::{Clock, Notes, Recorder};
pub use violation::{Violation, ViolationKind};
pub use workload::Mix;
