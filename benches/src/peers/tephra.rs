//! tephra 0.4, an embedded event store with the same kind of condition.
//!
//! It acknowledges an append after its writer thread has synced the batch with it (`fdatasync`,
//! for which it has no option); appends of several threads share one sync. Segments are of the
//! size that its documentation shows, everything else is its default. It has no cache of what
//! was decided before: every decision reads its account.

use std::path::Path;

use tephra::{
    AppendCondition, AppendError, Event, EventType, Position, Query, QueryItem, SegmentConfig,
    SegmentSet, Tag, Tags, WriteCoordinator, WriteHandle, WriterConfig,
};

use crate::workload::{Balance, Entry, Fold, Numbers};

const SEGMENT_BYTES: usize = 256 << 20;

pub(crate) struct Tephra {
    coordinator: WriteCoordinator,
    handle: WriteHandle,
}

impl Tephra {
    pub(crate) fn open(folder: &Path) -> Tephra {
        let set = SegmentSet::open(folder, SegmentConfig::new(SEGMENT_BYTES)).unwrap();
        let (coordinator, handle) = WriteCoordinator::start(set, WriterConfig::default()).unwrap();
        Tephra { coordinator, handle }
    }

    pub(crate) fn append_all(&self, entries: impl Iterator<Item = Entry>) {
        let events = entries.map(|entry| event(&entry)).collect();
        self.handle.append(events, None).unwrap();
    }

    /// Reads one account and appends to it if nothing of it came since; whether that was so.
    pub(crate) fn decide(&self, numbers: &mut Numbers, fold: Fold) -> bool {
        let entry = Entry::random(numbers);
        let account = Tags::new([tag("account", entry.account)]).unwrap();
        let query = Query::item(QueryItem::with_tags(account));
        let mut balance = Balance::default();
        let mut reads = self.handle.read(&query, Position::ZERO, None);
        let upto = reads.watermark();
        while let Some(read) = reads.next() {
            fold.event(&mut balance, read.unwrap().event.data());
        }
        assert!(balance.events > 0, "an account without events: the log is not filled");
        let unchanged = AppendCondition::new(query).after(upto);
        match self.handle.append(vec![event(&entry)], Some(unchanged)) {
            Ok(_) => true,
            Err(AppendError::Conflict { .. }) => false,
            Err(error) => panic!("tephra: {error}"),
        }
    }

    pub(crate) fn close(self) {
        self.coordinator.shutdown();
    }
}

fn event(entry: &Entry) -> Event {
    let tags = [tag("account", entry.account), tag("tenant", entry.tenant)];
    let event_type = EventType::new(entry.event_type).unwrap();
    Event::new(&event_type, &Tags::new(tags).unwrap(), entry.payload().as_bytes()).unwrap()
}

fn tag(key: &str, value: u64) -> Tag {
    Tag::new(format!("{key}:{value}")).unwrap()
}
