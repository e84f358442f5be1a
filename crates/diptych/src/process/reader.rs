//! Reads the events of a process from the log.

use std::sync::Arc;

use diptych_store::{EventRef, Filter, FilterItem, LogId, Position, Store, Tag};

use super::{
    Process,
    stored::{
        FiringRecord, InstanceId, PARKED, ParkingRecord, REACTED, RELEASED, ReactionRecord,
        ReleaseRecord, SETTLED, SettlementRecord, TIMER_FIRED, TriggerPlace, decode, process_tag,
    },
    trigger::{ActionSettled, TimerFired, Trigger},
};
use crate::event::{
    AnyReading, Event, MarkedRead, Reading, Recorded, RetagFailure, Schema, SchemaError,
    StoredEvent, derived_id, is_reserved,
};

/// How the events of a process are found and read in one log.
pub(super) struct ProcessReader<P: Process> {
    schema: Arc<Schema>,
    reading: Arc<Reading<P::Event>>,
    store: Store,
    log: LogId,
    process: Arc<str>,
}

/// An event about an instance.
pub(super) enum InstanceEvent<E> {
    Trigger(TriggerPlace, Trigger<E>),
    Reacted {
        at: Position,
        record: ReactionRecord,
    },
    Parked {
        at: Position,
        record: ParkingRecord,
    },
    Released {
        at: Position,
        record: ReleaseRecord,
    },
    /// A stored event that cannot be read.
    Unreadable(TriggerPlace, SchemaError),
}

/// An instance, and an event about it.
type AboutInstance<E> = (InstanceId, InstanceEvent<E>);

impl<P: Process> ProcessReader<P> {
    pub(super) fn new(
        schema: Arc<Schema>,
        store: Store,
        process: Arc<str>,
    ) -> Result<ProcessReader<P>, SchemaError> {
        let reading = schema.reading::<P::Event>()?;
        reading.check_current()?;
        Ok(ProcessReader { schema, reading, log: store.identity().id, store, process })
    }

    pub(super) fn store(&self) -> &Store {
        &self.store
    }

    pub(super) fn process(&self) -> &Arc<str> {
        &self.process
    }

    /// The id of the event at this position, if its writer gave none.
    pub(super) fn id_at(&self, position: Position) -> uuid::Uuid {
        derived_id(self.log, position)
    }

    /// Checks that instances find all of their events by the tag.
    ///
    /// # Errors
    /// [`RetagFailure`] if older events lack it, or the log cannot be read.
    pub(super) async fn check_tag(&self) -> Result<(), RetagFailure> {
        let any = Filter::tag(Tag::new(P::TAG, "instance"));
        let declared: &dyn AnyReading = &*self.reading;
        self.schema.keys_over(&self.store, declared, &any).await.map(drop)
    }

    /// The names of the events, in order.
    pub(super) fn types() -> Vec<String> {
        let mut types: Vec<_> =
            P::Event::types().iter().map(|known| known.name.to_owned()).collect();
        types.sort_unstable();
        types
    }

    /// All triggers of the process, and what operators answered.
    pub(super) fn triggers(&self) -> Filter {
        let own = FilterItem::everything().or_type(TIMER_FIRED).or_type(SETTLED);
        let own = own.or_type(RELEASED).and_tag(process_tag(&self.process));
        self.reading.everything().or(Filter::from(own))
    }

    /// The events that the process reacts to, without those of processes.
    pub(super) fn events(&self) -> Filter {
        self.reading.everything()
    }

    /// Where all events about an instance are.
    ///
    /// # Errors
    /// [`RetagFailure`] if older events lack the tag, or the log cannot be read.
    pub(super) async fn about(&self, id: &InstanceId) -> Result<MarkedRead, RetagFailure> {
        let own = FilterItem::everything();
        let own = [REACTED, TIMER_FIRED, SETTLED, PARKED, RELEASED]
            .into_iter()
            .fold(own, FilterItem::or_type)
            .and_tag(id.tag());
        let wanted = Filter::tag(Tag::new(P::TAG, id.value()));
        let declared: &dyn AnyReading = &*self.reading;
        let keys = self.schema.keys_over(&self.store, declared, &wanted).await?;
        let boundary = |error| SchemaError::Declaration { problem: format!("{error}") };
        match self.reading.retagged(&wanted, &keys).map_err(boundary)? {
            Some(retagged) => Ok(retagged.find(&self.store).await?.or(own.into())),
            None => {
                let narrowed = self.reading.narrow(&wanted).map_err(boundary)?;
                Ok(MarkedRead::new(narrowed.or(Filter::from(own)), Vec::new()))
            }
        }
    }

    /// The instances that an event is about, each with the event as that instance sees it.
    ///
    /// If the event cannot be read, the instances are those of its stored tags.
    ///
    /// # Errors
    /// [`SchemaError`] if an event of processes cannot be read: then this program is older than the
    /// log.
    pub(super) fn read(
        &self,
        event: &EventRef<'_>,
    ) -> Result<Vec<AboutInstance<P::Event>>, SchemaError> {
        if is_reserved(event.event_type()) {
            return Ok(self.read_own(event)?.into_iter().collect());
        }
        let (stored, position) = (StoredEvent::of(event), event.position());
        let (mut found, mut part) = (Vec::new(), 0);
        let read = self.reading.read_tagged(&stored, |event, tags| {
            let place = TriggerPlace { position, part };
            part += 1;
            let mut event = Some(self.reading.recorded(&stored, event));
            let instances: Vec<_> = tags.iter().filter(|tag| tag.key() == P::TAG).collect();
            let count = instances.len();
            for (at, tag) in instances.into_iter().enumerate() {
                let id = self.instance(tag.as_str());
                // An event is read once more for each further instance.
                let trigger = match event.take() {
                    Some(event) if at + 1 == count => Some(event),
                    Some(whole) => {
                        let again = self.again(&stored, part - 1);
                        event = Some(whole);
                        again
                    }
                    None => None,
                };
                if let Some(trigger) = trigger {
                    found.push((id, InstanceEvent::Trigger(place, Trigger::Event(trigger))));
                }
            }
        });
        match read {
            Ok(()) => Ok(found),
            Err(error) => {
                let prefix = format!("{}:", P::TAG);
                let tags = event.tags().filter(|tag| tag.starts_with(&prefix));
                let place = TriggerPlace { position, part: 0 };
                let unreadable = |tag| {
                    let why = InstanceEvent::Unreadable(place, error.clone());
                    (self.instance(tag), why)
                };
                Ok(tags.map(unreadable).collect())
            }
        }
    }

    /// One of the events that a stored event is today, read once more.
    fn again(&self, stored: &StoredEvent<'_>, wanted: u32) -> Option<Recorded<P::Event>> {
        let (mut part, mut found) = (0, None);
        let read = self.reading.read_tagged(stored, |event, _| {
            if part == wanted {
                found = Some(self.reading.recorded(stored, event));
            }
            part += 1;
        });
        read.ok().and(found)
    }

    fn instance(&self, tag: &str) -> InstanceId {
        InstanceId { process: self.process.clone(), instance: tag.into() }
    }

    fn read_own(
        &self,
        event: &EventRef<'_>,
    ) -> Result<Option<AboutInstance<P::Event>>, SchemaError> {
        let position = event.position();
        let place = TriggerPlace { position, part: 0 };
        let id = |process, instance| InstanceId { process, instance };
        let read = match event.event_type() {
            TIMER_FIRED => {
                let FiringRecord { process, instance, timer, set_at, due, civil, fired_at } =
                    decode(event)?;
                let fired = TimerFired { timer, set_at, due, civil, fired_at };
                let fired = self.recorded(event, fired);
                (id(process, instance), InstanceEvent::Trigger(place, Trigger::Timer(fired)))
            }
            SETTLED => {
                let SettlementRecord { process, instance, reaction, action, name, outcome } =
                    decode(event)?;
                let settled = ActionSettled { name, reaction, action, outcome };
                let settled = self.recorded(event, settled);
                (id(process, instance), InstanceEvent::Trigger(place, Trigger::Settled(settled)))
            }
            REACTED => {
                let record: ReactionRecord = decode(event)?;
                (record.id(), InstanceEvent::Reacted { at: position, record })
            }
            PARKED => {
                let record: ParkingRecord = decode(event)?;
                let id = id(record.process.clone(), record.instance.clone());
                (id, InstanceEvent::Parked { at: position, record })
            }
            RELEASED => {
                let record: ReleaseRecord = decode(event)?;
                let id = id(record.process.clone(), record.instance.clone());
                (id, InstanceEvent::Released { at: position, record })
            }
            _ => return Ok(None),
        };
        // An event about several processes does not exist, but tags are digests.
        Ok(Some(read).filter(|(id, _)| id.process == self.process))
    }

    fn recorded<T>(&self, of: &EventRef<'_>, event: T) -> Recorded<T> {
        let position = of.position();
        Recorded {
            position,
            recorded_at: of.recorded_at(),
            id: of.id().unwrap_or_else(|| self.id_at(position)),
            metadata: of.metadata(),
            event,
        }
    }
}
