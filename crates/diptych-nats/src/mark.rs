//! The mark of a bridge: how far it is, for the readers of its stream. A stream alone cannot tell
//! whether its bridge is at work, or has ended.

use std::time::Duration;

use async_nats::jetstream::{
    context::KeyValueErrorKind,
    kv::{self, Entry, Operation, Store},
    stream::Config,
};
use diptych::{Position, collaboration::FeedName, store::LogIdentity};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::stream::{FeedStream, StreamError};

/// The key of the mark in its bucket.
const KEY: &str = "bridge";
/// A bridge writes its mark at most once in this time.
pub(crate) const SHORTEST: Duration = Duration::from_secs(1);

/// How far a bridge is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BridgeMark {
    /// The log of the feed.
    pub(crate) log: LogIdentity,
    /// The stream has every event up to here.
    pub(crate) position: Position,
    /// The position of the last event that the stream has, or had.
    pub(crate) stored: Position,
    /// The number of the last message of the stream then.
    pub(crate) sequence: u64,
    /// The end of the log.
    pub(crate) head: Position,
}

/// The mark as it is stored.
#[derive(Serialize, Deserialize)]
struct StoredMark {
    source: String,
    position: u64,
    stored: u64,
    sequence: u64,
    head: u64,
}

/// The bucket with the mark of a stream.
#[derive(Clone, Debug)]
pub(crate) struct MarkBucket(Store);

impl MarkBucket {
    /// Opens the bucket of a stream, and creates it beside the stream if there is none.
    pub(crate) async fn create(
        stream: &FeedStream,
        settings: &Config,
    ) -> Result<MarkBucket, StreamError> {
        let name = name(stream);
        match stream.context().get_key_value(&name).await {
            Ok(store) => return Ok(MarkBucket(store)),
            Err(error) if error.kind() == KeyValueErrorKind::InvalidStoreName => {
                return Err(stream.unusable(format!("NATS allows no bucket {name}: {error}")));
            }
            // There is none, or NATS does not answer: then the next question fails, too.
            Err(_) => {}
        }
        let (storage, num_replicas) = (settings.storage, settings.num_replicas);
        let wanted = kv::Config { bucket: name, storage, num_replicas, ..kv::Config::default() };
        let created = stream.context().create_key_value(wanted).await;
        created.map(MarkBucket).map_err(|error| stream.unreachable(error))
    }

    /// Opens the bucket of a stream.
    pub(crate) async fn open(stream: &FeedStream) -> Result<MarkBucket, StreamError> {
        let store = stream.context().get_key_value(name(stream)).await;
        store.map(MarkBucket).map_err(|error| {
            stream.unreachable(format!("no bridge ran yet, or NATS does not answer ({error})"))
        })
    }

    pub(crate) async fn write(
        &self,
        stream: &FeedStream,
        mark: BridgeMark,
    ) -> Result<(), StreamError> {
        let BridgeMark { log, position, stored, sequence, head } = mark;
        let source = FeedName { log, feed: stream.name().to_owned() }.to_string();
        let [position, stored, head] = [position, stored, head].map(Position::get);
        let json = serde_json::to_vec(&StoredMark { source, position, stored, sequence, head })
            .map_err(|error| stream.unusable(error.to_string()))?;
        let written = self.0.put(KEY, json.into()).await;
        written.map(drop).map_err(|error| stream.unreachable(error))
    }

    /// Takes the mark away.
    pub(crate) async fn delete(&self, stream: &FeedStream) -> Result<(), StreamError> {
        self.0.delete(KEY).await.map_err(|error| stream.unreachable(error))
    }

    /// The mark, and the number under which it was written, if there is one.
    pub(crate) async fn read(
        &self,
        stream: &FeedStream,
    ) -> Result<Option<(BridgeMark, u64)>, StreamError> {
        let entry = self.0.entry(KEY).await.map_err(|error| stream.unreachable(error))?;
        let is_mark = |entry: &Entry| entry.operation == Operation::Put;
        let Some(entry) = entry.filter(is_mark) else { return Ok(None) };
        let unreadable = || stream.unusable("the mark of its bridge cannot be read");
        let mark: StoredMark = serde_json::from_slice(&entry.value).map_err(|_| unreadable())?;
        let FeedName { log, .. } = FeedName::parse(&mark.source).ok_or_else(unreadable)?;
        let [position, stored, head] = [mark.position, mark.stored, mark.head].map(Position::new);
        let mark = BridgeMark { log, position, stored, sequence: mark.sequence, head };
        Ok(Some((mark, entry.revision)))
    }
}

fn name(stream: &FeedStream) -> String {
    format!("diptych-{}", stream.name())
}

/// The mark as a reader of the stream saw it. Its age is counted by the clock of the reader, so
/// clocks need not agree.
#[derive(Clone, Debug)]
pub(crate) struct SeenMark {
    bucket: MarkBucket,
    pub(crate) mark: BridgeMark,
    revision: u64,
    /// When this revision was first seen.
    since: Instant,
    asked: Instant,
}

impl SeenMark {
    /// The mark as it is now, or as it was less than a second ago.
    pub(crate) async fn after(
        before: Option<SeenMark>,
        stream: &FeedStream,
    ) -> Result<SeenMark, StreamError> {
        let now = Instant::now();
        let bucket = match &before {
            Some(seen) if now.duration_since(seen.asked) < SHORTEST => return Ok(seen.clone()),
            Some(seen) => seen.bucket.clone(),
            None => MarkBucket::open(stream).await?,
        };
        let found = bucket.read(stream).await?;
        let (mark, revision) = found.ok_or_else(|| stream.unreachable("no bridge ran yet"))?;
        let since = before.filter(|seen| seen.revision == revision).map_or(now, |seen| seen.since);
        Ok(SeenMark { bucket, mark, revision, since, asked: now })
    }

    /// The time for which the bridge wrote nothing, as far as this reader knows.
    pub(crate) fn silence(&self) -> Duration {
        self.since.elapsed()
    }
}
