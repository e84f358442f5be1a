//! A digest of a log: of each commit, with everything that is in it.
//!
//! It depends on no encoding of a store, so that stores of every kind give equal ones.

use blake3::Hasher;
use diptych_store::{CommitRef, EventRef, LogIdentity, Metadata, Tracking};
use uuid::Uuid;

/// Takes commits in their order, and gives their digest.
#[derive(Default)]
pub(crate) struct LogDigest(Hasher);

impl LogDigest {
    /// Adds the next commit.
    pub(crate) fn add(&mut self, commit: CommitRef<'_>) {
        self.number(commit.last().get());
        self.number(commit.recorded_at().as_micros().cast_unsigned());
        self.number(commit.events().len() as u64);
        for event in commit.events() {
            self.event(event);
        }
        self.is_some(commit.key().is_some());
        if let Some(key) = commit.key() {
            self.bytes(key.name.as_bytes());
            self.bytes(&key.digest.0);
        }
        self.is_some(commit.tracking().is_some());
        if let Some(Tracking { source, origin, position }) = commit.tracking() {
            self.bytes(source.as_bytes());
            self.is_some(origin.is_some());
            if let Some(LogIdentity { id, epoch }) = origin {
                self.bytes(&id.to_bytes());
                self.number(epoch.to_u64());
            }
            self.number(position.get());
        }
    }

    /// The digest of all commits so far, in hexadecimal digits.
    pub(crate) fn finish(&self) -> String {
        self.0.finalize().to_hex().to_string()
    }

    fn event(&mut self, event: EventRef<'_>) {
        self.bytes(event.event_type().as_bytes());
        self.number(u64::from(event.version()));
        self.number(event.tags().count() as u64);
        for tag in event.tags() {
            self.bytes(tag.as_bytes());
        }
        self.bytes(event.payload());
        self.id(event.id());
        let Metadata { occurred_at, correlation, causation, actor, extra } = event.metadata();
        self.is_some(occurred_at.is_some());
        if let Some(at) = occurred_at {
            self.number(at.as_micros().cast_unsigned());
        }
        self.id(correlation);
        self.id(causation);
        self.is_some(actor.is_some());
        if let Some(actor) = actor {
            self.bytes(actor.as_bytes());
        }
        self.number(extra.len() as u64);
        for (name, value) in &extra {
            self.bytes(name.as_bytes());
            self.bytes(value.as_bytes());
        }
    }

    fn id(&mut self, id: Option<Uuid>) {
        self.is_some(id.is_some());
        if let Some(id) = id {
            self.bytes(id.as_bytes());
        }
    }

    fn is_some(&mut self, is_some: bool) {
        self.0.update(&[u8::from(is_some)]);
    }

    fn number(&mut self, number: u64) {
        self.0.update(&number.to_le_bytes());
    }

    /// The length comes first, so that no two sequences of texts are alike.
    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.0.update(bytes);
    }
}

#[cfg(test)]
mod tests {
    use diptych_store::{
        Append, Digest, Key, Memory, RawEvent, ReadCommits, Store, Tag, TimeSource, Timestamp,
    };
    use pollster::block_on;

    use super::*;

    /// The digest of a log with this commit.
    fn digest(append: Append) -> String {
        let store = Store::new(Memory::new().time(TimeSource::Caller));
        let (mut digest, start) = (LogDigest::default(), ReadCommits::after(0.into()));
        block_on(async {
            store.append(append).await.unwrap().synced().await.unwrap();
            let batch = store.commits(start).await.unwrap();
            batch.iter().for_each(|commit| digest.add(commit));
        });
        digest.finish()
    }

    fn full() -> Append {
        let metadata = Metadata {
            occurred_at: Some(Timestamp::from_micros(-5)),
            correlation: Some(Uuid::from_u128(2)),
            causation: Some(Uuid::from_u128(3)),
            actor: Some("ann".into()),
            extra: [("a".into(), "1".into())].into(),
        };
        let event = RawEvent::new("opened", "{}").id(Uuid::from_u128(1)).metadata(metadata);
        let tags = [Tag::new("account", "a"), Tag::new("bank", "b")];
        let event = tags.into_iter().fold(event, RawEvent::tag);
        let mut append = Append::event(event)
            .key(Key::new("k", Digest::of(b"k")))
            .tracking(Tracking::new("source", 3).origin(LogIdentity::random()));
        append.recorded_at = Some(Timestamp::from_micros(7));
        append
    }

    #[test]
    fn a_digest_covers_everything_in_a_commit() {
        let commit = full();
        let change = |change: fn(&mut Append)| {
            let mut changed = commit.clone();
            change(&mut changed);
            digest(changed)
        };
        let mut digests = vec![
            change(|_| {}),
            change(|append| append.recorded_at = Some(Timestamp::from_micros(8))),
            change(|append| append.key = None),
            change(|append| append.key = Some(Key::new("l", Digest::of(b"k")))),
            change(|append| append.key = Some(Key::new("k", Digest::of(b"l")))),
            change(|append| append.tracking = None),
            change(|append| append.tracking = Some(Tracking::new("source", 3))),
            change(|append| append.tracking.as_mut().unwrap().position = 4.into()),
            change(|append| append.tracking.as_mut().unwrap().source = "other".into()),
            change(|append| append.events.push(RawEvent::new("opened", "{}"))),
            change(|append| append.events[0].event_type = "closed".into()),
            change(|append| append.events[0].version = 2),
            change(|append| append.events[0].tags.reverse()),
            change(|append| append.events[0].payload.push(b' ')),
            change(|append| append.events[0].id = None),
            change(|append| append.events[0].metadata.occurred_at = None),
            change(|append| append.events[0].metadata.correlation = None),
            change(|append| append.events[0].metadata.causation = None),
            change(|append| append.events[0].metadata.actor = None),
            change(|append| append.events[0].metadata.extra.clear()),
        ];
        assert_eq!(change(|_| {}), digests[0]);
        let count = digests.len();
        digests.sort_unstable();
        digests.dedup();
        assert_eq!(digests.len(), count);
    }
}
