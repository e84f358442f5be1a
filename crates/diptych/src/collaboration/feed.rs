//! A feed: the events that a service publishes.

use std::{
    any::type_name,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use diptych_store::{
    EventRef, Filter, Head, Position, RawEvent, Read, ReadError, Store, Timestamp,
};
use serde_json::value::RawValue;
use tokio::{
    sync::{Mutex, watch},
    time::{Instant, timeout_at},
};
use uuid::Uuid;

use super::{
    cloud_event::{CloudEvent, EventPlace, FeedName},
    metrics::FeedMetrics,
    page::{FeedCursor, FeedError, FeedPage, FeedRead, FeedSource},
    public_event::PublicEvent,
};
use crate::{
    event::{
        Codec, Event, EventType, Json, Reading, Recorded, Schema, SchemaError, StoredEvent, Trail,
    },
    panics::caught,
    request::BoxFuture,
};

/// The events that a service tells other services, in a language of their own.
///
/// Publishing is a translation of the log: [`publish`](Feed::publish) makes public events from a
/// private one. There is no second write, so whatever is in the log is published, in the order of
/// the log. A new feed has the whole history.
///
/// ```
/// use diptych::{
///     App, Event, Memory, Recorded,
///     collaboration::{Feed, FeedCursor, FeedRead, PublicEvent},
///     store::Append,
/// };
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Event)]
/// enum Ordering {
///     #[event("order-placed")]
///     Placed { #[tag] order: u64, cents: u64, margin_cents: u64 },
///     #[event("order-checked")]
///     Checked { #[tag] order: u64, by: String },
/// }
///
/// /// An order that other services may know of.
/// #[derive(PublicEvent, Serialize, Deserialize)]
/// #[event("order-accepted")]
/// struct Accepted {
///     #[tag]
///     order: u64,
///     cents: u64,
/// }
///
/// struct Orders;
///
/// impl Feed for Orders {
///     const NAME: &'static str = "orders";
///     type Private = Ordering;
///     type Public = Accepted;
///
///     fn publish(event: &Recorded<Ordering>) -> impl IntoIterator<Item = Accepted> {
///         match event.event {
///             Ordering::Placed { order, cents, .. } => Some(Accepted { order, cents }),
///             Ordering::Checked { .. } => None,
///         }
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let app = App::over(Memory::new()).feed::<Orders>().start().await?;
/// # let placed = Ordering::Placed { order: 7, cents: 1_000, margin_cents: 200 }.encode()?;
/// # app.store().append(Append::event(placed)).await?.synced().await?;
/// let feed = app.feed("orders").ok_or("no such feed")?;
/// let page = feed.page(FeedRead::after(FeedCursor::Position(0.into()))).await?;
/// assert_eq!(page.events[0].event_type, "order-accepted.v1");
/// assert_eq!(page.events[0].data.get(), r#"{"order":7,"cents":1000}"#);
/// # Ok(()) }
/// ```
pub trait Feed: Send + Sync + 'static {
    /// The name, unique in the service: small letters, digits and dashes.
    const NAME: &'static str;
    /// The private events that it is made from.
    type Private: Event;
    /// The published events.
    type Public: PublicEvent;

    /// The public events that a private event becomes: none, one or several. The function is pure:
    /// each reader of the feed causes it to be called again.
    fn publish(event: &Recorded<Self::Private>) -> impl IntoIterator<Item = Self::Public>;
}

/// Maximum number of private events of one read.
const PAGE: usize = 1_000;
/// A page ends when its data has so many bytes.
const PAGE_BYTES: usize = 1 << 20;

/// A feed of an app, to be read by other services. Cheap to clone.
#[derive(Clone)]
pub struct FeedHandle(Arc<dyn AnyFeed>);

impl FeedHandle {
    /// The longest wait of a [page](FeedHandle::page). A longer one is cut.
    pub const LONGEST_WAIT: Duration = Duration::from_secs(60);

    pub(super) fn new(feed: Arc<dyn AnyFeed>) -> FeedHandle {
        FeedHandle(feed)
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        self.0.name()
    }

    /// The types of its public events.
    pub fn public_events(&self) -> Vec<EventType> {
        self.0.public_events()
    }

    /// The status of the feed in this program.
    pub fn status(&self) -> FeedStatus {
        self.0.status()
    }

    /// The public events that the event at a position became, each with its place and its name and
    /// version.
    ///
    /// # Errors
    /// [`FeedError`] if the event cannot be read or published.
    pub(crate) async fn made_of(
        &self,
        position: Position,
    ) -> Result<Vec<(EventPlace, String)>, FeedError> {
        self.0.clone().made_of(position).await
    }

    /// The next events after a place. If there are none, it waits for one as long as the question
    /// says, and returns an empty page then.
    ///
    /// # Errors
    /// [`FeedError`] if the place lies above the end of the log, an event cannot be published, or
    /// the log cannot be read.
    pub async fn page(&self, read: FeedRead) -> Result<FeedPage, FeedError> {
        self.0.clone().page(read).await
    }
}

impl FeedSource for FeedHandle {
    fn name(&self) -> String {
        self.0.name().to_owned()
    }

    async fn read(&self, read: FeedRead) -> Result<FeedPage, FeedError> {
        self.page(read).await
    }
}

impl fmt::Debug for FeedHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FeedHandle").field(&self.name()).finish()
    }
}

/// The status of a feed in this program. Its figures count since the start.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FeedStatus {
    /// Its name.
    pub name: &'static str,
    /// The pages that were asked.
    pub reads: u64,
    /// The public events on these pages.
    pub events: u64,
    /// The questions that failed.
    pub failures: u64,
    /// Everything up to here was given to the reader that was ahead of the others.
    pub read_upto: Position,
}

/// The public events of one event, each with its place and its name and version.
type MadeOf = Result<Vec<(EventPlace, String)>, FeedError>;

/// A feed whose type is erased.
pub(super) trait AnyFeed: Send + Sync {
    fn name(&self) -> &'static str;
    fn public_events(&self) -> Vec<EventType>;
    fn status(&self) -> FeedStatus;
    fn made_of(self: Arc<Self>, position: Position) -> BoxFuture<MadeOf>;
    fn page(self: Arc<Self>, read: FeedRead) -> BoxFuture<Result<FeedPage, FeedError>>;
}

/// Reads the log for the readers of a feed.
pub(super) struct FeedReader<F: Feed> {
    store: Store,
    reading: Arc<Reading<F::Private>>,
    filter: Filter,
    tail: FeedTail,
    figures: FeedFigures,
}

/// The figures of a feed since its start.
struct FeedFigures {
    metrics: FeedMetrics,
    reads: AtomicU64,
    events: AtomicU64,
    failures: AtomicU64,
    read_upto: AtomicU64,
}

/// The end of a feed, which all waiting readers share: one of them looks at new commits, and wakes
/// the others if an event is for them.
struct FeedTail {
    /// The position up to which the log was looked at. The reader that holds it looks.
    looked: Mutex<Position>,
    /// The newest position with an event for the feed.
    newest: watch::Sender<Position>,
}

impl<F: Feed> FeedReader<F> {
    /// # Errors
    /// [`SchemaError`] if the declarations contradict each other, or a public event is no JSON.
    pub(super) fn new(store: Store, schema: &Schema) -> Result<FeedReader<F>, SchemaError> {
        check_public::<F::Public>()?;
        let reading = schema.reading::<F::Private>()?;
        reading.check_current()?;
        let filter = reading.everything();
        let head = store.head().position();
        let tail = FeedTail { looked: Mutex::new(head), newest: watch::Sender::new(head) };
        let figures = FeedFigures {
            metrics: FeedMetrics::new(F::NAME),
            reads: AtomicU64::new(0),
            events: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            read_upto: AtomicU64::new(0),
        };
        Ok(FeedReader { store, reading, filter, tail, figures })
    }

    async fn read_page(&self, read: FeedRead) -> Result<FeedPage, FeedError> {
        let begin = match read.after {
            FeedCursor::Position(after) => after,
            FeedCursor::Event(place) => place.position.before(),
            FeedCursor::End => self.store.fresh_head().await?,
        };
        let mut head = self.store.head().position();
        if begin > head {
            head = self.store.fresh_head().await?;
        }
        if begin > head {
            return Err(FeedError::AboveHead { after: begin, head });
        }
        let skipped = match read.after {
            FeedCursor::Event(place) => Some(place),
            _ => None,
        };
        let deadline = Instant::now() + read.wait.min(FeedHandle::LONGEST_WAIT);
        let mut page = PageBuilder::<F>::new(self, begin, skipped, read.limit.max(1));
        loop {
            page.fill(head).await?;
            if !page.events.is_empty() || Instant::now() >= deadline {
                return Ok(page.finish(head));
            }
            let waited = timeout_at(deadline, self.tail.after(self, page.upto)).await;
            head = match waited {
                Ok(position) => position?.max(head),
                Err(_) => self.store.head().position(),
            };
        }
    }

    /// The position of the last event for the feed at or before this position.
    async fn newest(&self, upto: Position) -> Result<Position, FeedError> {
        let mut before = upto;
        // A private event can become no public one, so the last of them is looked for.
        loop {
            let read = Read { upto: before, ..Read::backwards().limit(16) };
            let batch = self.store.read(&self.filter, read).await?;
            let mut found = None;
            for event in batch.iter() {
                if !self.publish(&event)?.is_empty() {
                    found = found.max(Some(event.position()));
                }
                before = before.min(event.position().before());
            }
            if let Some(found) = found {
                return Ok(found);
            }
            if batch.is_empty() || before == Position::START {
                return Ok(Position::START);
            }
        }
    }

    /// The public events that a stored event becomes.
    fn publish(&self, event: &EventRef<'_>) -> Result<Vec<PublishedParts>, FeedError> {
        let (stored, mut made) = (StoredEvent::of(event), Vec::new());
        let failed = |reason: String| FeedError::Event { position: event.position(), reason };
        let mut problem = None;
        let read = self.reading.read_tagged(&stored, |event, _| {
            let recorded = self.reading.recorded(&stored, event);
            match caught(|| published::<F>(&recorded)) {
                Ok(Ok(public)) => made.extend(public.into_iter().map(|raw| {
                    let (id, correlation) = (recorded.id, recorded.correlation());
                    let occurred_at = recorded.occurred_at();
                    PublishedParts { raw, id, correlation, occurred_at }
                })),
                Ok(Err(error)) => problem = Some(error.to_string()),
                Err(panic) => problem = Some(panic),
            }
        });
        read.map_err(|error| failed(error.to_string()))?;
        match problem {
            Some(problem) => Err(failed(problem)),
            None => Ok(made),
        }
    }
}

impl<F: Feed> AnyFeed for FeedReader<F> {
    fn name(&self) -> &'static str {
        F::NAME
    }

    fn public_events(&self) -> Vec<EventType> {
        F::Public::types()
    }

    fn page(self: Arc<Self>, read: FeedRead) -> BoxFuture<Result<FeedPage, FeedError>> {
        Box::pin(async move {
            let page = self.read_page(read).await;
            self.figures.count(&page);
            page
        })
    }

    fn made_of(self: Arc<Self>, position: Position) -> BoxFuture<MadeOf> {
        Box::pin(async move {
            let read = Read::after(position.before()).upto(position).limit(1);
            let batch = self.store.read(&self.filter, read).await?;
            let made = batch.get(0).map(|event| self.publish(&event)).transpose()?;
            let made = made.unwrap_or_default();
            let typed = |raw: &RawEvent| format!("{}.v{}", raw.event_type, raw.version);
            let made = (0..)
                .zip(made)
                .map(|(part, made)| (EventPlace { position, part }, typed(&made.raw)));
            Ok(made.collect())
        })
    }

    fn status(&self) -> FeedStatus {
        let FeedFigures { reads, events, failures, read_upto, .. } = &self.figures;
        FeedStatus {
            name: F::NAME,
            reads: reads.load(Relaxed),
            events: events.load(Relaxed),
            failures: failures.load(Relaxed),
            read_upto: Position::new(read_upto.load(Relaxed)),
        }
    }
}

impl FeedFigures {
    fn count(&self, page: &Result<FeedPage, FeedError>) {
        self.reads.fetch_add(1, Relaxed);
        match page {
            Ok(page) => {
                let events = page.events.len() as u64;
                self.events.fetch_add(events, Relaxed);
                self.read_upto.fetch_max(page.upto.get(), Relaxed);
                self.metrics.read(events);
            }
            Err(_) => {
                self.failures.fetch_add(1, Relaxed);
                self.metrics.failure();
            }
        }
    }
}

/// A public event before it is written as a CloudEvent.
struct PublishedParts {
    raw: RawEvent,
    /// Those of the private event.
    id: Uuid,
    correlation: Uuid,
    occurred_at: Timestamp,
}

/// The public events of a private one, encoded.
fn published<F: Feed>(event: &Recorded<F::Private>) -> Result<Vec<RawEvent>, SchemaError> {
    F::publish(event).into_iter().map(|public| public.encode()).collect()
}

/// Checks that public events can be written as CloudEvents with JSON.
///
/// # Errors
/// [`SchemaError::Declaration`] if one has another codec.
pub(super) fn check_public<P: PublicEvent>() -> Result<(), SchemaError> {
    match P::types().iter().find(|known| known.codec != Json::NAME) {
        None => Ok(()),
        Some(known) => {
            let (of, name, codec) = (type_name::<P>(), known.name, known.codec);
            let problem = format!(
                "the public event {name} of {of} has the codec {codec}: a feed has JSON, so leave \
                 the codec out"
            );
            Err(SchemaError::Declaration { problem })
        }
    }
}

/// A page that is being read.
struct PageBuilder<'f, F: Feed> {
    feed: &'f FeedReader<F>,
    name: FeedName,
    /// Events up to here are known to the reader.
    skipped: Option<EventPlace>,
    limit: usize,
    events: Vec<CloudEvent>,
    bytes: usize,
    upto: Position,
    /// The position of the last event for the feed, once it is needed.
    previous: Option<Position>,
}

impl<'f, F: Feed> PageBuilder<'f, F> {
    fn new(
        feed: &'f FeedReader<F>,
        after: Position,
        skipped: Option<EventPlace>,
        limit: usize,
    ) -> PageBuilder<'f, F> {
        let name = FeedName { log: feed.store.identity(), feed: F::NAME.to_owned() };
        let (events, bytes, previous) = (Vec::new(), 0, None);
        PageBuilder { feed, name, skipped, limit, events, bytes, upto: after, previous }
    }

    fn is_full(&self) -> bool {
        self.events.len() >= self.limit || self.bytes >= PAGE_BYTES
    }

    /// Reads up to this position, or until the page is full.
    async fn fill(&mut self, head: Position) -> Result<(), FeedError> {
        while self.upto < head && !self.is_full() {
            let read = Read::after(self.upto).upto(head).limit(PAGE);
            let batch = self.feed.store.read(&self.feed.filter, read).await?;
            for event in batch.iter() {
                self.take(&event).await?;
                if self.is_full() {
                    self.upto = event.position();
                    return Ok(());
                }
            }
            self.upto = batch.upto();
        }
        Ok(())
    }

    async fn take(&mut self, event: &EventRef<'_>) -> Result<(), FeedError> {
        let (position, made) = (event.position(), self.feed.publish(event)?);
        if made.is_empty() {
            return Ok(());
        }
        let before = self.previous.replace(position);
        let is_new = |part: u32| self.skipped < Some(EventPlace { position, part });
        let parts: Vec<_> = (0..).zip(made).filter(|(part, _)| is_new(*part)).collect();
        // An event that the reader has needs no search for the one before it.
        if parts.is_empty() {
            return Ok(());
        }
        let previous = match before {
            Some(previous) => previous,
            None => self.feed.newest(position.before()).await?,
        };
        let metadata = event.metadata();
        for (part, PublishedParts { raw, id, correlation, occurred_at }) in parts {
            let place = EventPlace { position, part };
            let failed = |reason: String| FeedError::Event { position, reason };
            self.bytes += raw.payload.len();
            let text = String::from_utf8(raw.payload).map_err(|error| failed(error.to_string()))?;
            let data = RawValue::from_string(text).map_err(|error| failed(error.to_string()))?;
            let event_type = format!("{}.v{}", raw.event_type, raw.version);
            let mut event = CloudEvent::new(&self.name, place, previous, event_type, data);
            event.subject = raw.tags.first().map(|tag| tag.as_str().to_owned());
            event.partitionkey = event.subject.clone();
            event.time = Some(occurred_at).filter(|time| time.has_text());
            event.eventid = Some(id);
            event.correlationid = Some(correlation);
            event.causationid = metadata.causation;
            Trail { hops: event.hops, via: event.via } = Trail::of(&metadata);
            self.events.push(event);
        }
        Ok(())
    }

    fn finish(self, head: Position) -> FeedPage {
        let (log, head) = (self.name.log, head.max(self.upto));
        FeedPage { log, events: self.events, upto: self.upto, head }
    }
}

impl FeedTail {
    /// Waits for an event for the feed after this position. Returns a position up to which the log
    /// is worth reading.
    async fn after<F: Feed>(
        &self,
        feed: &FeedReader<F>,
        after: Position,
    ) -> Result<Position, FeedError> {
        let mut newest = self.newest.subscribe();
        let looks = async {
            let mut looked = self.looked.lock().await;
            // Others may have looked while this one waited for its turn.
            while *self.newest.borrow() <= after {
                let head: Head = feed.store.head();
                let head = head.after(*looked).await.map_err(ReadError::from)?;
                let read = Read::after(*looked).upto(head).limit(PAGE);
                let batch = feed.store.read(&feed.filter, read).await?;
                // The reader that waits gets the error of an event that cannot be published.
                let is_not_for_feed =
                    |event: EventRef<'_>| feed.publish(&event).is_ok_and(|made| made.is_empty());
                *looked = batch.upto();
                if !batch.iter().all(is_not_for_feed) {
                    self.newest.send_replace(*looked);
                }
            }
            Ok(*self.newest.borrow())
        };
        tokio::select! {
            found = newest.wait_for(|newest| *newest > after) => match found {
                Ok(newest) => Ok(*newest),
                // The sender lives in this very value.
                Err(_) => Ok(after),
            },
            looked = looks => looked,
        }
    }
}
