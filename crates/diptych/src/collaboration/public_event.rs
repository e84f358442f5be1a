//! Events of a published language.

use diptych_store::RawEvent;

use crate::event::{EncodedEvent, Event, EventType, SchemaError};

/// An event of a published language: what a service tells other services.
///
/// `#[derive(PublicEvent)]` takes the attributes of `#[derive(Event)]`. The first tag is the
/// subject of the published event, which consumers use as the key of their order. The payload has
/// to be JSON, which is the default.
///
/// A public event is no [`Event`], so no fold, command or process of any service can use it. It
/// leaves a service by the [`Feed`](super::Feed) that makes it from private events, and enters
/// another one by the [`Intake`](super::Intake) that makes private events from it. So a change of
/// private events breaks no other service, and foreign words stay out of a model:
///
/// ```compile_fail,E0277
/// use diptych::{Fold, Recorded, collaboration::PublicEvent};
///
/// #[derive(PublicEvent, serde::Serialize, serde::Deserialize)]
/// #[event("order-placed")]
/// struct OrderPlaced {
///     #[tag]
///     order: u64,
/// }
///
/// #[derive(Default)]
/// struct Orders(u64);
///
/// impl Fold for Orders {
///     type Event = OrderPlaced; // the trait `Event` is not implemented for `OrderPlaced`
///
///     fn apply(&mut self, _: &Recorded<OrderPlaced>) {
///         self.0 += 1;
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a public event",
    label = "public events are declared here",
    note = "derive `diptych::collaboration::PublicEvent`, with a name that other services read"
)]
pub trait PublicEvent: Send + Sync + Sized + 'static {
    /// The types that an event of this Rust type can have.
    fn types() -> Vec<EventType>;

    /// The event as named bytes.
    ///
    /// # Errors
    /// [`SchemaError::Encode`] if the codec cannot hold the value.
    fn encode(&self) -> Result<RawEvent, SchemaError>;

    /// Reads an event of one of the [`types`](PublicEvent::types), at its current version.
    ///
    /// # Errors
    /// [`SchemaError`] if the bytes are not such an event.
    fn decode(encoded: &EncodedEvent<'_>) -> Result<Self, SchemaError>;

    /// Whether an event of this name is one of the [`types`](PublicEvent::types).
    fn has_type(name: &str) -> bool {
        Self::types().iter().any(|known| known.name == name)
    }
}

/// A public event as an event, so that the one way to read events serves it, too. The type has no
/// public name, because no fold may use it.
pub(super) struct PublicAsEvent<P>(pub(super) P);

impl<P: PublicEvent> Event for PublicAsEvent<P> {
    fn types() -> Vec<EventType> {
        P::types()
    }

    fn encode(&self) -> Result<RawEvent, SchemaError> {
        self.0.encode()
    }

    fn decode(encoded: &EncodedEvent<'_>) -> Result<Self, SchemaError> {
        P::decode(encoded).map(PublicAsEvent)
    }

    fn has_type(name: &str) -> bool {
        P::has_type(name)
    }
}
