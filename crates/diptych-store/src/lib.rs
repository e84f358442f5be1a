//! The contract between Diptych and an event store: events as named bytes, the operations of a
//! store, and its promises.
//!
//! The author of a store implements [`EventStore`] and tests it with the conformance suite (feature
//! `testing`). All other code holds a [`Store`], a plain handle that is cheap to clone.
//!
//! The contract follows the specification of dynamic consistency boundaries (DCB). A [`Filter`]
//! selects events by type (any of them) and by tag (all of them). An [`AppendCondition`] refuses a
//! commit if the log has a matching event after the position that the decision knew.
//!
//! ```
//! use diptych_store::{Append, AppendCondition, Filter, Memory, RawEvent, Read, Store, Tag};
//!
//! # pollster::block_on(async {
//! let store = Store::new(Memory::new());
//! let ann = Filter::tag(Tag::new("account", "ann"));
//!
//! let opened = RawEvent::new("opened", b"{}").tag(Tag::new("account", "ann"));
//! let accepted = store.append(Append::event(opened.clone())).await?;
//! let committed = accepted.synced().await?;
//!
//! // This decision did not know the event: the store refuses it, and names the conflicting one.
//! let stale = AppendCondition { fail_if: ann.clone(), after: 0.into() };
//! let refused = store.append(Append::event(opened).condition(stale)).await;
//! assert!(refused.is_err());
//!
//! let batch = store.read(&ann, Read::all()).await?;
//! assert_eq!(batch.len(), 1);
//! assert_eq!(batch.upto(), committed.last);
//! # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
//! ```
//!
//! # Where to go next
//!
//! | page | contents |
//! |---|---|
//! | [`EventStore`] | the promises of a store, method by method |
//! | `testing` (feature `testing`) | the conformance suite, for authors of stores |
//! | [Dynamic boundaries by example][guide] | the guide: what conditions can express |
//! | [The DCB specification][dcb] | each rule with the test cases that prove it |
//! | [Limits][limits], [errors][errors] | each with its default, or what to do |
//!
//! Applications use the crate [`diptych`](https://docs.rs/diptych), which exports these types.
//!
//! # Features
//!
//! | feature | default | contents |
//! |---|---|---|
//! | `testing` | no | the conformance suite and the wrong stores that prove it |
//! | `serde` | no | [`Timestamp`] in what serde reads and writes |
//! | `jiff`, `chrono`, `time` | no | conversions of [`Timestamp`] from and to these crates |
//!
//! [guide]: https://github.com/diptych-rs/diptych/blob/main/docs/guides/dcb-examples.md
//! [dcb]: https://github.com/diptych-rs/diptych/blob/main/docs/reference/dcb.md
//! [limits]: https://github.com/diptych-rs/diptych/blob/main/docs/reference/limits.md#diptych-store
//! [errors]: https://github.com/diptych-rs/diptych/blob/main/docs/reference/errors.md#diptych-store

mod append;
mod batch;
mod checksum;
mod commits;
pub mod encoding;
mod error;
mod event;
mod fence;
mod filter;
mod head;
mod identity;
mod limits;
mod live;
mod memory;
mod position;
mod store;
mod subscribe;
#[cfg(not(diptych_model))]
mod sync;
#[cfg(diptych_model)]
pub mod sync;
mod tag;
#[cfg(feature = "testing")]
pub mod testing;
mod time;

pub use append::{
    AcceptedCommit, Append, AppendCondition, CommitSync, Digest, Key, KeyedCommit, SyncedCommit,
    Tracking,
};
pub use batch::{Batch, BatchBuilder, Direction, EventRef, Read};
pub use checksum::{ContentChecksum, EventChecksum, HistoryPoint};
pub use commits::{
    CommitBatch, CommitBatchBuilder, CommitFacts, CommitRef, CommitSize, ReadCommits,
};
pub use error::{
    AppendError, Corruption, HistoryChanged, InvalidRequest, ReadError, Refusal, SubscribeError,
    SyncError, Unavailable,
};
pub use event::{Metadata, RawEvent};
pub use fence::Fence;
pub use filter::{Filter, FilterItem, FilterSyntaxError};
pub use head::{CommitNumber, Head, HeadPublisher, Pause};
pub use identity::{Epoch, LogId, LogIdentity};
pub use limits::Limits;
pub use live::LiveEvents;
pub use memory::Memory;
pub use position::Position;
pub use store::{EventStore, Store};
pub use subscribe::{Delivery, SubscribeOptions, Subscription};
pub use tag::{Tag, TagError};
pub use time::{OutOfRange, TimeSource, Timestamp, TimestampError};
