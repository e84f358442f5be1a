//! Typed subscriptions: events of the log as the program knows them, for workers that react to
//! events outside of views and projections.

use std::{any::type_name, collections::VecDeque, fmt, marker::PhantomData, sync::Arc};

use diptych_store::{
    Batch, Delivery, EventChecksum, Filter, HistoryPoint, Position, ReadError, Store,
    SubscribeError, SubscribeOptions, Subscription, Tracking, Unavailable,
};

use crate::{
    event::{
        BoundaryError, Event, Reading, Recorded, RetagFailure, RetaggedKeys, Schema, SchemaError,
        StoredEvent,
    },
    lineage::Lineage,
    token::{ClaimError, Claims, SessionToken, TokenError},
};

/// A subscription being built: see [`App::subscribe`](crate::App::subscribe).
#[must_use = "a subscription begins when it is started"]
pub struct Subscribe<E> {
    lineage: Arc<Lineage>,
    schema: Arc<Schema>,
    filter: Filter,
    options: SubscribeOptions,
    claims: Claims,
    /// The place to begin after, if one was given.
    after: Option<Position>,
    /// Whether to begin at the end of the log if there is no place.
    from_now: bool,
    source: Option<String>,
    event: PhantomData<fn() -> E>,
}

/// One step of a typed subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Arrival<E> {
    /// The next event.
    Event(Recorded<E>),
    /// Every matching event was handed out, and the following ones are live.
    CaughtUp {
        /// The position of the head at that time.
        upto: Position,
    },
    /// The subscription was live, and fell behind because its reader is too slow.
    FellBehind {
        /// Number of positions between the last one that was read and the head.
        by: u64,
    },
}

/// Why a typed subscription could not begin, or ended.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SubscriptionError {
    /// The filter asks for types or tags that the events do not have.
    #[error(transparent)]
    Filter(#[from] BoundaryError),
    /// Declarations contradict each other, or older events lack a tag that the filter asks for.
    #[error(transparent)]
    Schema(#[from] SchemaError),
    /// The checkpoint belongs to another log, or to another history of this one.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// An event cannot be read. The subscription stands before it.
    #[error(
        "the event at position {position} cannot be read as {event}: {cause}; add an upcaster, \
         then subscribe again after the last checkpoint"
    )]
    Event {
        /// The position of the event.
        position: Position,
        /// The Rust type of the events.
        event: &'static str,
        /// The error of the schema.
        cause: SchemaError,
    },
    /// The log cannot be read.
    #[error("the subscription stands after position {after}: {cause}")]
    Read {
        /// Everything up to here was handed out.
        after: Position,
        /// The error of the store.
        cause: ReadError,
    },
    /// The store ended.
    #[error("the subscription ended after position {after}: {cause}")]
    Ended {
        /// Everything up to here was handed out.
        after: Position,
        /// Why the store ended.
        cause: Unavailable,
    },
}

impl<E: Event> Subscribe<E> {
    pub(crate) fn new(lineage: Arc<Lineage>, schema: Arc<Schema>, filter: Filter) -> Subscribe<E> {
        let (options, claims) = (SubscribeOptions::default(), Claims::default());
        let (after, from_now, source, event) = (None, false, None, PhantomData);
        Subscribe { lineage, schema, filter, options, claims, after, from_now, source, event }
    }

    /// Begins after this checkpoint: the [token](Events::checkpoint) of an earlier subscription, or
    /// of a session. Several checkpoints begin after the highest of them.
    pub fn after(mut self, checkpoint: &SessionToken) -> Self {
        let mut after = self.after.unwrap_or(Position::START);
        for (point, _) in checkpoint.logs() {
            after = after.max(self.claims.point(&self.lineage, point));
        }
        self.after = Some(after);
        self
    }

    /// Begins after this position. A position does not say to which history of the log it belongs:
    /// a [checkpoint](Subscribe::after) does.
    pub fn after_position(mut self, position: Position) -> Self {
        self.after = self.after.max(Some(position));
        self
    }

    /// Begins at the end of the log, in place of its start: only events are handed out that come
    /// after the first poll of [`start`](Subscribe::start).
    ///
    /// A place that is given or known goes before it: a [checkpoint](Subscribe::after), a
    /// [position](Subscribe::after_position), or that of a worker with a
    /// [name](Subscribe::tracked_as). A worker without a place that starts again begins at the
    /// end of that time, and leaves out the events in between.
    pub fn from_now(mut self) -> Self {
        self.from_now = true;
        self
    }

    /// Begins after the last event to which this worker reacted with a command, as the log knows
    /// it: see [`Events::tracking`]. `name` is a name in the log that no other worker and no import
    /// uses.
    pub fn tracked_as(mut self, name: impl Into<String>) -> Self {
        self.source = Some(name.into());
        self
    }

    /// With these sizes of batches, and this limit for being live.
    pub fn options(mut self, options: SubscribeOptions) -> Self {
        self.options = options;
        self
    }

    /// Begins the subscription.
    ///
    /// # Errors
    /// [`SubscriptionError`]: the filter cannot match, a checkpoint is of another history, or the
    /// log cannot be read.
    pub async fn start(self) -> Result<Events<E>, SubscriptionError> {
        let Subscribe { lineage, schema, filter, options, claims, from_now, source, .. } = self;
        let mut begin = self.after;
        let store = lineage.store().clone();
        // All events after the first poll count, so the end is asked for before anything else.
        let now = match from_now && begin.is_none() {
            true => {
                let head = store.known_head().await;
                let after = Position::START;
                head.map_err(|cause| SubscriptionError::Read { after, cause })?
            }
            false => Position::START,
        };
        let mut after = begin.unwrap_or(now);
        schema.check_tags(&filter)?;
        let reading = schema.reading::<E>()?;
        reading.check_current()?;
        let mut narrowed = reading.narrow(&filter)?;
        claims.settle(&lineage).await.map_err(|error| match error {
            ClaimError::Token(error) => SubscriptionError::Token(error),
            ClaimError::Read(cause) => SubscriptionError::Read { after, cause },
            ClaimError::Late { .. } | ClaimError::Behind { .. } => {
                SubscriptionError::Ended { after, cause: Unavailable::Closed }
            }
        })?;
        let keys = retagged_keys(&store, &schema, &reading, &filter, after).await?;
        if keys.is_some() {
            // Older events of these types may have the tags of the filter without carrying them.
            narrowed = reading.everything();
        }
        if let Some(source) = &source {
            let read = |cause| SubscriptionError::Read { after, cause };
            // Another process may have reacted to events since.
            store.fresh_head().await.map_err(read)?;
            if let Some(tracked) = store.tracked(source).await.map_err(read)? {
                begin = begin.max(Some(tracked.position));
                after = begin.unwrap_or(after);
            }
        }
        let subscription = store.subscribe(narrowed, after, options);
        let waiting = VecDeque::new();
        let (upto, checksum) = (after, None);
        Ok(Events { lineage, reading, filter, keys, subscription, waiting, upto, checksum, source })
    }
}

/// The retagged keys, if the filter asks for one of them.
///
/// # Errors
/// [`SchemaError::MissingTag`] if older events lack a tag that the filter asks for.
async fn retagged_keys<E: Event>(
    store: &Store,
    schema: &Schema,
    reading: &Arc<Reading<E>>,
    filter: &Filter,
    after: Position,
) -> Result<Option<Arc<RetaggedKeys>>, SubscriptionError> {
    if filter.items().iter().all(|item| item.tags.is_empty()) {
        return Ok(None);
    }
    let failed = |error| match error {
        RetagFailure::Read(cause) => SubscriptionError::Read { after, cause },
        RetagFailure::Schema(error) => SubscriptionError::Schema(error),
    };
    let keys = schema.keys_over(store, &**reading, filter).await.map_err(failed)?;
    Ok(reading.retagged(filter, &keys)?.map(|_| keys))
}

/// Events of the log in order, existing and future ones, as the program knows them.
///
/// Nothing is handed out before it is durable. A subscription waits for its reader, and delays
/// nobody else.
///
/// A worker that reacts to events keeps its place in one of two ways. If it reacts with commands,
/// the log keeps the place together with the events of the command
/// ([`tracking`](Events::tracking)), so each stored event leads to at most one reaction. If it does
/// something outside, it keeps the [`checkpoint`](Events::checkpoint) after each event, and does
/// the same thing again if it ends in between.
///
/// ```
/// # use diptych::{
/// #     App, Command, DecisionContext, Event, Filter, Fold, Memory, Recorded, Tag,
/// #     subscribe::Arrival,
/// # };
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Clone, Debug, Event)]
/// # enum Shop {
/// #     #[event("order-placed")]
/// #     Placed { #[tag] order: u64 },
/// #     #[event("order-packed")]
/// #     Packed { #[tag] order: u64 },
/// # }
/// # struct Place(u64);
/// # impl Command for Place {
/// #     type State = ();
/// #     type Event = Shop;
/// #     type Rejection = std::convert::Infallible;
/// #     fn boundary(&self) {}
/// #     fn decide(&self, (): (), _: &DecisionContext) -> Result<Vec<Shop>, Self::Rejection> {
/// #         Ok(vec![Shop::Placed { order: self.0 }])
/// #     }
/// # }
/// # struct Pack(u64);
/// # impl Command for Pack {
/// #     type State = ();
/// #     type Event = Shop;
/// #     type Rejection = std::convert::Infallible;
/// #     fn boundary(&self) {}
/// #     fn decide(&self, (): (), _: &DecisionContext) -> Result<Vec<Shop>, Self::Rejection> {
/// #         Ok(vec![Shop::Packed { order: self.0 }])
/// #     }
/// # }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let app = App::over(Memory::new()).start().await?;
/// app.execute(Place(7)).await?;
/// let placed = Filter::types(["order-placed"]);
/// let mut events = app.subscribe::<Shop>(placed).tracked_as("packer").start().await?;
/// loop {
///     match events.next().await? {
///         Arrival::Event(event) => {
///             let Shop::Placed { order } = &event.event else { continue };
///             let pack = app.execute(Pack(*order)).caused_by(&event);
///             pack.tracking(events.tracking()).await?;
///         }
///         _ => break, // here: when it has caught up
///     }
/// }
/// # assert_eq!(app.head().get(), 2);
/// # let again = app.subscribe::<Shop>(Filter::everything()).tracked_as("packer").start().await?;
/// # assert_eq!(again.upto().get(), 1);
/// # Ok(()) }
/// ```
pub struct Events<E> {
    lineage: Arc<Lineage>,
    reading: Arc<Reading<E>>,
    /// The filter as it was given.
    filter: Filter,
    /// The keys that older events got later, if the filter asks for one of them.
    keys: Option<Arc<RetaggedKeys>>,
    subscription: Subscription,
    /// Stored events that were read and not handed out yet.
    waiting: VecDeque<Waiting<E>>,
    /// Everything up to here was handed out.
    upto: Position,
    /// The checksum of the event at `upto`, if it is known.
    checksum: Option<EventChecksum>,
    source: Option<String>,
}

/// A stored event that is not handed out completely.
struct Waiting<E> {
    position: Position,
    checksum: Option<EventChecksum>,
    /// The events that it is today, or why it cannot be read.
    today: Result<VecDeque<Recorded<E>>, SchemaError>,
    /// Whether an event was handed out, and others were not.
    is_begun: bool,
}

impl<E: Event> Events<E> {
    /// Everything up to here was handed out. If an upcaster makes several events of one, the
    /// position moves with the last of them.
    pub fn upto(&self) -> Position {
        self.upto
    }

    /// A token that stands for having everything up to [`upto`](Events::upto). It names the event
    /// there, which may cost a read.
    ///
    /// # Errors
    /// [`ReadError`] if the log cannot be read.
    pub async fn checkpoint(&self) -> Result<SessionToken, ReadError> {
        let point = match self.checksum {
            Some(checksum) => {
                HistoryPoint { log: self.lineage.log(), position: self.upto, checksum }
            }
            None => self.lineage.point(self.upto).await?,
        };
        Ok(SessionToken::seen(point))
    }

    /// The tracking of a command that reacts to the event that was handed out last: see
    /// [`Execute::tracking`](crate::Execute::tracking). The log stores it with the events of the
    /// command, and refuses another command for the same event.
    ///
    /// `None` if the subscription has no [name](Subscribe::tracked_as). It is also `None` if an
    /// upcaster made several events of one stored event and the last of them was not handed out
    /// yet: their place in the log is one position, so the reaction to the last one stores it. Send
    /// the reactions to the others under a [key](crate::Execute::key) made of [`Recorded::id`] and
    /// their number, so that they happen once.
    pub fn tracking(&self) -> Option<Tracking> {
        let source = self.source.as_ref()?;
        let is_between = self.waiting.front().is_some_and(|first| first.is_begun);
        (!is_between).then(|| Tracking::new(source, self.upto))
    }

    /// Waits for the next event. Dropping the future loses no event.
    ///
    /// # Errors
    /// [`SubscriptionError`]. After an error of a read the call can be repeated: it goes on where
    /// it stood.
    pub async fn next(&mut self) -> Result<Arrival<E>, SubscriptionError> {
        loop {
            if let Some(event) = self.waiting()? {
                return Ok(Arrival::Event(event));
            }
            match self.subscription.next().await.map_err(|error| self.failed(error))? {
                Delivery::Batch(batch) => self.take(&batch),
                Delivery::CaughtUp { upto } => return Ok(Arrival::CaughtUp { upto }),
                Delivery::FellBehind { by } => return Ok(Arrival::FellBehind { by }),
                // No other delivery exists.
                _ => {}
            }
        }
    }

    /// The next event of those that were read.
    fn waiting(&mut self) -> Result<Option<Recorded<E>>, SubscriptionError> {
        while let Some(first) = self.waiting.front_mut() {
            let today = match &mut first.today {
                Ok(today) => today,
                Err(cause) => {
                    let (position, event) = (first.position, type_name::<E>());
                    let cause = cause.clone();
                    return Err(SubscriptionError::Event { position, event, cause });
                }
            };
            let event = today.pop_front();
            first.is_begun = event.is_some();
            if today.is_empty() {
                (self.upto, self.checksum) = (first.position, first.checksum);
                self.waiting.pop_front();
            }
            if event.is_some() {
                return Ok(event);
            }
        }
        Ok(None)
    }

    fn take(&mut self, batch: &Batch) {
        for event in batch.iter() {
            let stored = StoredEvent::of(&event);
            let mut today = VecDeque::new();
            // The filter selected the event by its stored type. It may have another type today.
            let read = self.reading.read_in(&stored, &self.filter, self.keys.as_deref(), |event| {
                today.push_back(self.reading.recorded(&stored, event));
            });
            self.waiting.push_back(Waiting {
                position: stored.position,
                checksum: Some(EventChecksum::of(&event)),
                today: read.map(|()| today),
                is_begun: false,
            });
        }
        // Events after the last matching one count as handed out together with it.
        self.waiting.push_back(Waiting {
            position: batch.upto(),
            checksum: None,
            today: Ok(VecDeque::new()),
            is_begun: false,
        });
    }

    fn failed(&self, error: SubscribeError) -> SubscriptionError {
        let after = self.upto;
        match error {
            SubscribeError::Ended { cause, .. } => SubscriptionError::Ended { after, cause },
            SubscribeError::Read { cause, .. } => SubscriptionError::Read { after, cause },
            _ => SubscriptionError::Ended { after, cause: Unavailable::Closed },
        }
    }
}

impl<E> fmt::Debug for Subscribe<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut subscribe = f.debug_struct("Subscribe");
        subscribe.field("filter", &self.filter).field("after", &self.after).finish_non_exhaustive()
    }
}

impl<E> fmt::Debug for Events<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut events = f.debug_struct("Events");
        events.field("filter", &self.filter).field("upto", &self.upto).finish_non_exhaustive()
    }
}
