//! Gateways: the doors of processes to systems outside.

use std::{any::type_name, future::Future, pin::Pin, time::Duration};

use diptych_store::Timestamp;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::trigger::ActionRejection;

/// A door to a system outside. Only the live runner of a process calls it: never a rebuild, a
/// replay or a question about the past.
///
/// A process asks for a call with [`Reactions::call`](super::Reactions::call). The call is in the
/// log before it goes out, and its answer after it came. The process gets the answer as
/// [`Trigger::Settled`](super::Trigger::Settled).
pub trait Gateway: Send + Sync + 'static {
    /// The call, as data.
    type Call: Serialize + DeserializeOwned + Send + Sync + 'static;
    /// The answer, as data.
    type Answer: Serialize + DeserializeOwned + Send + 'static;

    /// Calls the system outside. `key` is the same at each try of the call, for systems that
    /// carry out a request once for each key.
    ///
    /// # Errors
    /// [`CallFailure`], which tells whether the call may have had its effect.
    fn send(
        &self,
        call: &Self::Call,
        key: &str,
    ) -> impl Future<Output = Result<Self::Answer, CallFailure>> + Send;

    /// Asks the system outside about a call that was begun and has no answer in the log. The
    /// default does not know.
    ///
    /// # Errors
    /// [`CallFailure`] if the system cannot be asked for now.
    fn reconcile(
        &self,
        _call: &Self::Call,
        _key: &str,
    ) -> impl Future<Output = Result<Reconciliation<Self::Answer>, CallFailure>> + Send {
        async { Ok(Reconciliation::Unknown) }
    }

    /// The lane of a call, such as its customer. At most
    /// [`calls_at_once_in_a_lane`](GatewayOptions::calls_at_once_in_a_lane) calls of one lane are
    /// made at once by one program. The default has no lanes.
    fn lane(&self, _call: &Self::Call) -> Option<String> {
        None
    }
}

/// Why a call has no answer.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum CallFailure {
    /// The system outside refused the call for good. The process gets the refusal.
    Refused(ActionRejection),
    /// The call had no effect for sure, and is tried again.
    NotSent {
        /// The reason.
        reason: String,
        /// The wait that the system outside asked for (`Retry-After`).
        retry_after: Option<Duration>,
    },
    /// The call may have had its effect: the answer is late, or was lost.
    Unknown {
        /// The reason.
        reason: String,
    },
}

/// The knowledge of a system outside about a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reconciliation<A> {
    /// The call had its effect, with this answer.
    Done(A),
    /// The call had no effect, and will have none unless it is sent again.
    NotDone,
    /// The system outside cannot tell.
    Unknown,
}

/// Which calls a gateway sends. There is no default, because a new gateway would else also send
/// what a process asks for while it catches up with old events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallsFrom {
    /// All calls.
    Beginning,
    /// Calls whose trigger was recorded at or after this instant. The others are withheld, and the
    /// process gets [`ActionOutcome::Withheld`](super::ActionOutcome::Withheld).
    Instant(Timestamp),
    /// Calls whose reaction was made within this time after its trigger was recorded. A process
    /// that catches up with older events makes its reactions late, so their calls are withheld. A
    /// call that was asked for in time is sent, also after the program was down.
    Within(Duration),
    /// None: every call is withheld.
    Never,
}

/// The policy of a gateway.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct GatewayOptions {
    /// Whether the system outside carries out a call once for each key. Then a call without an
    /// answer is sent again. Otherwise it is asked about, or listed as unknown.
    pub is_idempotent: bool,
    /// The first wait before another try. It doubles with each try.
    pub first_wait: Duration,
    /// The longest wait between two tries.
    pub longest_wait: Duration,
    /// The part of each wait that is random, from 0 to 1, so that callers do not come in step.
    pub jitter: f64,
    /// Number of tries in one run of the program, after which the call is listed for an operator.
    pub attempts: u32,
    /// The longest wait that the system outside may ask for (`Retry-After`). It is tried again
    /// after this time even if it asked for longer.
    pub longest_asked: Duration,
    /// Number of calls that this program makes at once through the gateway. A call that waits for
    /// another try, or for the outcome of an earlier one, does not count.
    pub calls_at_once: usize,
    /// Number of calls of one [lane](Gateway::lane) that this program makes at once.
    pub calls_at_once_in_a_lane: usize,
    /// After this number of failures in a row, from whatever calls, the circuit opens: no call is
    /// made for [`open_for`](GatewayOptions::open_for). A single failure after that opens it again.
    pub failures_to_open: u32,
    /// How long an open circuit stays open.
    pub open_for: Duration,
    /// How long a call may take. A call that takes longer is dropped, and may have had its effect.
    pub longest_call: Duration,
    /// How long a call that another program, or an earlier run of this one, has begun may still get
    /// its answer from there. After that the gateway is asked about it
    /// ([`reconcile`](Gateway::reconcile)), or it is listed for an operator. The time is counted
    /// from when this program found the call.
    ///
    /// Keep it longer than the [`longest_call`](GatewayOptions::longest_call) of every program. A
    /// call that is asked about while it is on its way may be sent a second time.
    pub unknown_after: Duration,
}

impl Default for GatewayOptions {
    fn default() -> GatewayOptions {
        GatewayOptions {
            is_idempotent: false,
            first_wait: Duration::from_millis(100),
            longest_wait: Duration::from_secs(60),
            longest_asked: Duration::from_secs(24 * 60 * 60),
            jitter: 0.2,
            attempts: 20,
            calls_at_once: 16,
            calls_at_once_in_a_lane: 1,
            failures_to_open: 10,
            open_for: Duration::from_secs(5),
            longest_call: Duration::from_secs(30),
            unknown_after: Duration::from_secs(60),
        }
    }
}

impl GatewayOptions {
    /// Declares that the system outside carries out a call once for each key.
    #[must_use]
    pub fn idempotent(mut self) -> GatewayOptions {
        self.is_idempotent = true;
        self
    }
}

pub(super) type BoxedCall<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A gateway whose types are erased. Calls and answers are JSON.
pub(super) trait AnyGateway: Send + Sync {
    /// # Errors
    /// The reason why the JSON is no call.
    fn check(&self, call: &str) -> Result<(), String>;

    /// The lane of the call, if it has one.
    fn lane(&self, call: &str) -> Option<String>;

    fn send<'a>(&'a self, call: &'a str, key: &'a str)
    -> BoxedCall<'a, Result<Value, CallFailure>>;

    fn reconcile<'a>(
        &'a self,
        call: &'a str,
        key: &'a str,
    ) -> BoxedCall<'a, Result<Reconciliation<Value>, CallFailure>>;
}

pub(super) struct TypedGateway<G>(pub(super) G);

impl<G: Gateway> TypedGateway<G> {
    fn read(call: &str) -> Result<G::Call, CallFailure> {
        let unreadable = |error| format!("{call} is no call of {}: {error}", type_name::<G>());
        serde_json::from_str(call)
            .map_err(|error| CallFailure::NotSent { reason: unreadable(error), retry_after: None })
    }

    /// The answer as JSON. An answer that cannot be written may still have had its effect.
    fn written(answer: &G::Answer) -> Result<Value, CallFailure> {
        serde_json::to_value(answer).map_err(|error| CallFailure::Unknown {
            reason: format!("the answer cannot be written as JSON: {error}"),
        })
    }
}

impl<G: Gateway> AnyGateway for TypedGateway<G> {
    fn check(&self, call: &str) -> Result<(), String> {
        match serde_json::from_str::<G::Call>(call) {
            Ok(_) => Ok(()),
            Err(error) => Err(format!("{call} is no call of {}: {error}", type_name::<G>())),
        }
    }

    fn lane(&self, call: &str) -> Option<String> {
        self.0.lane(&Self::read(call).ok()?)
    }

    fn send<'a>(
        &'a self,
        call: &'a str,
        key: &'a str,
    ) -> BoxedCall<'a, Result<Value, CallFailure>> {
        Box::pin(async move {
            let call = Self::read(call)?;
            Self::written(&self.0.send(&call, key).await?)
        })
    }

    fn reconcile<'a>(
        &'a self,
        call: &'a str,
        key: &'a str,
    ) -> BoxedCall<'a, Result<Reconciliation<Value>, CallFailure>> {
        Box::pin(async move {
            let call = Self::read(call)?;
            Ok(match self.0.reconcile(&call, key).await? {
                Reconciliation::Done(answer) => Reconciliation::Done(Self::written(&answer)?),
                Reconciliation::NotDone => Reconciliation::NotDone,
                Reconciliation::Unknown => Reconciliation::Unknown,
            })
        })
    }
}
