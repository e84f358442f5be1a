//! From a published event to the events of this service.

use std::sync::Arc;

use diptych_store::{LogId, LogIdentity, Metadata, RawEvent};

use super::{
    cloud_event::{CloudEvent, EventPlace, FeedName},
    intake::{ForeignEvent, Intake, IntakeOptions},
    public_event::{PublicAsEvent, PublicEvent},
    stored::{FEED, FEED_EVENT},
};
use crate::{
    event::{EncodedEvent, Event, Reading, Schema, SchemaError, Trail},
    panics::caught,
};

/// Translates the published events of one intake.
pub(super) struct Translator<I: Intake> {
    reading: Reading<PublicAsEvent<I::Public>>,
    own: Arc<Reading<I::Event>>,
    is_strict: bool,
    hops: u32,
}

/// The outcome of a translation.
pub(super) enum Translation {
    /// These events, which can be none.
    Events(Vec<RawEvent>),
    /// The intake does not know the type, and leaves it out.
    LeftOut,
    /// It cannot be taken in, for this reason.
    Failed(String),
}

impl<I: Intake> Translator<I> {
    /// # Errors
    /// [`SchemaError`] if declarations contradict each other.
    pub(super) fn new(
        options: &IntakeOptions,
        schema: &Schema,
    ) -> Result<Translator<I>, SchemaError> {
        options.upcasters.check()?;
        // A public event needs no id that is derived from its log.
        let reading =
            Reading::new(Arc::new(options.upcasters.clone()), LogId::from_bytes([0; 16]))?;
        reading.check_current()?;
        let own = schema.reading::<I::Event>()?;
        let IntakeOptions { is_strict, hops, .. } = *options;
        Ok(Translator { reading, own, is_strict, hops })
    }

    pub(super) fn translate(
        &self,
        log: LogIdentity,
        place: EventPlace,
        event: &CloudEvent,
    ) -> Translation {
        let (name, version) = event.name_and_version();
        if !self.reading.selects(name) {
            return match self.is_strict {
                true => Translation::Failed(format!(
                    "the intake does not know the type {:?}: add it to the public events, or an \
                     upcaster that takes it",
                    event.event_type
                )),
                false => Translation::LeftOut,
            };
        }
        let Some(feed) = FeedName::parse(&event.source) else {
            return Translation::Failed(format!("{:?} names no feed", event.source));
        };
        let trail = Trail { hops: event.hops, via: event.via.clone() };
        let trail = trail.through(&format!("{}@{}", feed.feed, feed.log.id));
        if trail.hops > self.hops {
            let (Trail { hops, via }, most) = (trail, self.hops);
            return Translation::Failed(format!(
                "its cause came through {hops} feeds, and {most} are allowed; the last were {via}: \
                 they look like a loop; let one of the services end it, or raise `hops`"
            ));
        }
        let mut metadata = Metadata {
            occurred_at: event.time,
            correlation: event.correlationid,
            causation: event.eventid,
            ..Metadata::default()
        };
        trail.write(&mut metadata);
        metadata.extra.insert(FEED.into(), event.source.as_str().into());
        metadata.extra.insert(FEED_EVENT.into(), event.id.as_str().into());
        match self.events(log, place, event, (name, version), &metadata) {
            Ok(events) => Translation::Events(events),
            Err(reason) => Translation::Failed(reason),
        }
    }

    /// # Errors
    /// The reason why the event cannot be taken in.
    fn events(
        &self,
        log: LogIdentity,
        place: EventPlace,
        event: &CloudEvent,
        (event_type, version): (&str, u32),
        metadata: &Metadata,
    ) -> Result<Vec<RawEvent>, String> {
        let encoded = EncodedEvent { event_type, version, payload: event.data.get().as_bytes() };
        let mut foreign = Vec::new();
        let read =
            self.reading.read(&encoded, |_| true, |PublicAsEvent(event)| foreign.push(event));
        read.map_err(|error| error.to_string())?;
        let mut made = Vec::new();
        for public in foreign {
            let foreign = ForeignEvent::<I::Public> {
                event: public,
                log,
                position: place.position,
                id: event.eventid,
                subject: event.subject.clone(),
                occurred_at: event.time,
                correlation: event.correlationid,
            };
            let own = caught(|| I::translate(&foreign))?.map_err(|error| error.to_string())?;
            for own in own {
                let raw = own.encode().map_err(|error| error.to_string())?;
                self.own.check(&raw).map_err(|error| error.to_string())?;
                made.push(raw.metadata(metadata.clone()));
            }
        }
        Ok(made)
    }

    /// The names of the public events, in order.
    pub(super) fn types() -> Vec<String> {
        let mut types: Vec<_> =
            I::Public::types().iter().map(|known| known.name.to_owned()).collect();
        types.sort_unstable();
        types
    }
}
