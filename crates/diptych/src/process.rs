//! Processes: reactions to events with commands and timers, for flows that take longer than one
//! command.
//!
//! A process has an instance for each value of a tag, such as one for each order. An instance is a
//! fold of its events, and [`react`](Process::react) is a pure function: state and trigger in,
//! actions out. So a process needs no rules of determinism, and an instance in flight survives a
//! new release: its actions are stored as data, and no code is replayed.
//!
//! ```
//! use std::time::Duration;
//!
//! use diptych::{
//!     App, Command, DecisionContext, Event, Filter, Memory, Tag,
//!     catalogue::Catalogue,
//!     process::{Process, ProcessStart, ReactionContext, Reactions, Trigger},
//! };
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Clone, Debug, Event, Serialize, Deserialize)]
//! enum Ordering {
//!     #[event("order-placed")]
//!     Placed {
//!         #[tag]
//!         order: u64,
//!     },
//!     #[event("order-paid")]
//!     Paid {
//!         #[tag]
//!         order: u64,
//!     },
//!     #[event("order-cancelled")]
//!     Cancelled {
//!         #[tag]
//!         order: u64,
//!     },
//! }
//!
//! /// Cancels an order.
//! #[derive(Serialize, Deserialize)]
//! struct Cancel {
//!     order: u64,
//! }
//!
//! impl Command for Cancel {
//!     type State = ();
//!     type Event = Ordering;
//!     type Rejection = std::convert::Infallible;
//!
//!     fn boundary(&self) {}
//!
//!     fn decide(&self, (): (), _: &DecisionContext) -> Result<Vec<Ordering>, Self::Rejection> {
//!         Ok(vec![Ordering::Cancelled { order: self.order }])
//!     }
//! }
//!
//! /// Cancels orders that are not paid within a day.
//! #[derive(Default)]
//! struct PaymentDeadline {
//!     order: u64,
//! }
//!
//! impl Process for PaymentDeadline {
//!     type Event = Ordering;
//!     const NAME: &'static str = "payment-deadline";
//!     const TAG: &'static str = "order";
//!
//!     fn apply(&mut self, trigger: &Trigger<Ordering>) {
//!         if let Some(Ordering::Placed { order }) = trigger.event() {
//!             self.order = *order;
//!         }
//!     }
//!
//!     fn react(&self, trigger: &Trigger<Ordering>, cx: &ReactionContext<'_>) -> Reactions {
//!         match trigger {
//!             Trigger::Event(event) => match event.event {
//!                 Ordering::Placed { .. } => {
//!                     let day = Duration::from_secs(24 * 60 * 60);
//!                     Reactions::none().set_timer("pay-by", cx.now().saturating_add(day))
//!                 }
//!                 Ordering::Paid { .. } | Ordering::Cancelled { .. } => Reactions::none().end(),
//!             },
//!             Trigger::Timer(_) => {
//!                 Reactions::none().send("cancel-order", &Cancel { order: self.order })
//!             }
//!             _ => Reactions::none(),
//!         }
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let catalogue = Catalogue::new().infallible_command::<Cancel>("cancel-order");
//! let app = App::over(Memory::new())
//!     .catalogue(catalogue)
//!     .process::<PaymentDeadline>(ProcessStart::Now)
//!     .start()
//!     .await?;
//! # app.stop().await?;
//! # Ok(()) }
//! ```
//!
//! # The guarantees
//!
//! - A reaction is one event in the log with all its actions. It is committed together with the
//!   place of the process in the log, so each trigger leads to at most one reaction. If the program
//!   ends before that commit, the process reacts again. If it ends after the commit, the next
//!   start finds the actions and carries them out.
//! - A command goes under a key that is derived from its action. So it happens once, whatever
//!   program or node sends it, and however often. A rejection, or a command that had nothing to do,
//!   is recorded under that key and comes back as [`Trigger::Settled`].
//! - A timer fires once. Its event is appended on the condition that the timer was not fired, set
//!   again or cancelled meanwhile.
//! - Commands of one instance are carried out one after another, and those of different instances
//!   side by side.
//! - Triggers without a reaction write nothing.
//!
//! Several programs may run one process on one log. Each trigger gets its reaction from one of
//! them.

mod actions;
mod ask;
#[cfg(feature = "calendars")]
pub mod calendar;
mod call_list;
mod calls;
mod carrier;
mod command;
mod context;
mod due;
mod entry;
mod gateway;
mod instance;
mod instances;
mod joined;
mod json;
mod known;
mod letter;
mod metrics;
mod operations;
mod options;
mod places;
mod plan;
mod preview;
mod reactor;
mod reader;
mod registry;
mod runner;
mod running;
mod shard;
mod shared;
mod status;
mod stored;
mod timers;
mod trace;
mod trace_sources;
mod trace_text;
mod traced;
mod tracer;
mod trigger;
mod watch;
mod wheel;
mod work;
mod worklist;

pub use actions::{Action, Reactions};
pub(crate) use ask::ask;
pub use ask::{AskError, OutsideAnswer};
pub use call_list::{CallPhase, CallQuestion, GatewayCall, GatewayCallState};
pub(crate) use command::{CommandsByName, PreparedCommand, SendAction, SendFailure, SentCommand};
pub use context::{Phase, ReactionContext};
pub use due::{CivilTime, Due};
pub use entry::{CallTries, CircuitState, GatewayStatus};
pub(crate) use entry::{GatewayEntry, Gateways};
pub use gateway::{CallFailure, CallsFrom, Gateway, GatewayOptions, Reconciliation};
#[cfg(feature = "testing")]
pub(crate) use instance::Instance;
pub use instances::{ProcessInstance, WaitingTimer};
pub use joined::{JoinedStep, JoinedTrace, TracedService};
pub use known::KnownProcess;
pub use letter::{LetterAnswer, LetterError, ParkedLetter};
pub use operations::{OperationError, ProcessOperations};
pub use options::{ProcessOptions, ProcessStart};
pub(crate) use plan::{AppParts, ProcessPlan, ProcessPlans};
pub(crate) use preview::preview;
pub use preview::{CallCounts, PreviewedCall, ProcessPreview};
pub use registry::ProcessStartError;
pub(crate) use runner::Processes;
pub use runner::{NoSuchProcess, ProcessControl};
pub use status::{ProcessState, ProcessStatus};
pub use trace::{
    CallOutcome, CommandOutcome, OperatorAnswer, OperatorNote, PublishedNote, StepKind,
    TimerOutcome, Trace, TraceError, TraceOptions, TraceStep, TraceTarget, UnknownTarget,
};
pub use trace_sources::{NoSuchFlow, TraceSource, TraceSourceError, TraceSources};
pub use trigger::{ActionOutcome, ActionRejection, ActionSettled, TimerFired, Trigger};
pub use worklist::{CallAnswer, WaitingCall};

use crate::event::Event;

/// A process: the state of one instance, and its reactions.
///
/// Both methods are pure and synchronous. Time arrives in the [context](ReactionContext), and the
/// answers to commands arrive as triggers.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a process",
    label = "a process reacts to events",
    note = "implement `diptych::process::Process`: the state of one instance, and its reactions"
)]
pub trait Process: Default + Send + Sync + 'static {
    /// The events that it reacts to.
    type Event: Event;

    /// Its name in the log: small letters, digits and dashes. The log knows the process by it, so a
    /// new name needs a [line](ProcessOptions::renamed_from) at the start.
    const NAME: &'static str;

    /// The key of the tag whose values are the instances. An event with several such tags triggers
    /// several instances, and an event without one triggers none.
    const TAG: &'static str;

    /// Applies a trigger to the state of the instance. It is called before
    /// [`react`](Process::react) with the same trigger.
    fn apply(&mut self, trigger: &Trigger<Self::Event>);

    /// The actions that follow from the trigger.
    fn react(&self, trigger: &Trigger<Self::Event>, cx: &ReactionContext<'_>) -> Reactions;
}
