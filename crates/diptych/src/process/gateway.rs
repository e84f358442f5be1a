//! Gateways: the doors of processes to systems outside.

use std::{any::type_name, future::Future, pin::Pin, sync::Arc, time::Duration};

use diptych_store::Timestamp;
use parking_lot::Mutex;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::Instant,
};

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
    /// Number of calls that this program makes at once through the gateway.
    pub calls_at_once: usize,
    /// After this number of failures in a row, from whatever calls, the circuit opens: no call is
    /// made for [`open_for`](GatewayOptions::open_for).
    pub failures_to_open: u32,
    /// How long an open circuit stays open.
    pub open_for: Duration,
    /// How long a call may take. A call that takes longer is dropped, and may have had its effect.
    pub longest_call: Duration,
    /// How long a call that was begun, here before a restart or by another program, may take until
    /// it counts as unknown.
    pub unknown_after: Duration,
}

impl Default for GatewayOptions {
    fn default() -> GatewayOptions {
        GatewayOptions {
            is_idempotent: false,
            first_wait: Duration::from_millis(100),
            longest_wait: Duration::from_secs(60),
            jitter: 0.2,
            attempts: 20,
            calls_at_once: 16,
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

    fn send<'a>(&'a self, call: &'a str, key: &'a str)
    -> BoxedCall<'a, Result<Value, CallFailure>>;

    fn reconcile<'a>(
        &'a self,
        call: &'a str,
        key: &'a str,
    ) -> BoxedCall<'a, Result<Reconciliation<Value>, CallFailure>>;
}

struct TypedGateway<G>(G);

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

/// A gateway of an app, with the state that its calls share.
pub(crate) struct GatewayEntry {
    pub(crate) name: String,
    pub(crate) type_name: &'static str,
    pub(super) gateway: Box<dyn AnyGateway>,
    pub(super) from: CallsFrom,
    pub(super) options: GatewayOptions,
    places: Semaphore,
    circuit: Mutex<Circuit>,
}

/// Whether calls may be made.
#[derive(Default)]
struct Circuit {
    failures: u32,
    open_until: Option<Instant>,
}

impl GatewayEntry {
    pub(crate) fn new<G: Gateway>(
        name: String,
        gateway: G,
        from: CallsFrom,
        options: GatewayOptions,
    ) -> GatewayEntry {
        GatewayEntry {
            name,
            type_name: type_name::<G>(),
            gateway: Box::new(TypedGateway(gateway)),
            from,
            places: Semaphore::new(options.calls_at_once.max(1)),
            circuit: Mutex::default(),
            options,
        }
    }

    /// Waits until a call may be made.
    pub(super) async fn place(&self) -> Option<SemaphorePermit<'_>> {
        loop {
            let open_until = self.circuit.lock().open_until;
            match open_until.filter(|until| *until > Instant::now()) {
                Some(until) => tokio::time::sleep_until(until).await,
                // The semaphore is never closed.
                None => return self.places.acquire().await.ok(),
            }
        }
    }

    pub(super) fn succeeded(&self) {
        *self.circuit.lock() = Circuit::default();
    }

    pub(super) fn failed(&self) {
        let mut circuit = self.circuit.lock();
        circuit.failures = circuit.failures.saturating_add(1);
        if circuit.failures >= self.options.failures_to_open.max(1) {
            tracing::warn!(gateway = self.name, "the circuit of a gateway is open");
            *circuit =
                Circuit { failures: 0, open_until: Some(Instant::now() + self.options.open_for) };
        }
    }

    /// The wait before the next try, after this number of failures.
    pub(super) fn wait(&self, failures: u32, asked: Option<Duration>) -> Duration {
        let GatewayOptions { first_wait, longest_wait, jitter, .. } = self.options;
        let doubled = first_wait.saturating_mul(1 << failures.saturating_sub(1).min(30));
        let wait = doubled.min(longest_wait);
        let random = wait.mul_f64(jitter.clamp(0.0, 1.0) * fastrand::f64());
        (wait - random).max(asked.unwrap_or_default())
    }
}

/// The gateways of an app.
#[derive(Clone, Default)]
pub(crate) struct Gateways(Vec<Arc<GatewayEntry>>);

impl Gateways {
    pub(crate) fn add(&mut self, entry: GatewayEntry) {
        self.0.push(Arc::new(entry));
    }

    pub(crate) fn append(&mut self, mut other: Gateways) {
        self.0.append(&mut other.0);
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &GatewayEntry> + Clone {
        self.0.iter().map(|entry| &**entry)
    }

    pub(super) fn named(&self, name: &str) -> Option<&Arc<GatewayEntry>> {
        self.0.iter().find(|entry| entry.name == name)
    }

    /// # Errors
    /// The reason why there is no such gateway, or why the JSON is no call of it.
    pub(super) fn check(&self, name: &str, call: &str) -> Result<(), String> {
        match self.named(name) {
            Some(entry) => entry.gateway.check(call),
            None => Err(format!("the app has no gateway {name:?}: add it to the builder")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nothing;

    impl Gateway for Nothing {
        type Call = ();
        type Answer = ();

        async fn send(&self, (): &(), _: &str) -> Result<(), CallFailure> {
            Ok(())
        }
    }

    fn entry(options: GatewayOptions) -> GatewayEntry {
        GatewayEntry::new("nothing".to_owned(), Nothing, CallsFrom::Beginning, options)
    }

    #[tokio::test(start_paused = true)]
    async fn an_open_circuit_holds_calls_back_for_its_time() {
        let options = GatewayOptions {
            failures_to_open: 3,
            open_for: Duration::from_secs(7),
            ..GatewayOptions::default()
        };
        let (entry, begin) = (entry(options), Instant::now());
        entry.failed();
        entry.failed();
        // A success in between closes it.
        entry.succeeded();
        entry.failed();
        entry.failed();
        drop(entry.place().await);
        assert_eq!(begin.elapsed(), Duration::ZERO);
        entry.failed();
        drop(entry.place().await);
        assert!(begin.elapsed() >= Duration::from_secs(7));
    }

    #[tokio::test(start_paused = true)]
    async fn at_most_the_named_number_of_calls_is_made_at_once() {
        let options = GatewayOptions { calls_at_once: 2, ..GatewayOptions::default() };
        let entry = entry(options);
        let (one, _other) = (entry.place().await, entry.place().await);
        let third = tokio::time::timeout(Duration::from_secs(60), entry.place()).await;
        assert!(third.is_err());
        drop(one);
        assert!(entry.place().await.is_some());
    }

    #[test]
    fn waits_double_up_to_the_longest_and_respect_what_the_system_asks_for() {
        let options = GatewayOptions {
            first_wait: Duration::from_millis(100),
            longest_wait: Duration::from_millis(350),
            jitter: 0.5,
            ..GatewayOptions::default()
        };
        let entry = entry(options);
        for (failures, most) in [(1, 100), (2, 200), (3, 350), (40, 350)] {
            let wait = entry.wait(failures, None).as_millis();
            assert!((most / 2..=most).contains(&wait), "{failures}: {wait}");
        }
        let asked = Duration::from_secs(9);
        assert_eq!(entry.wait(1, Some(asked)), asked);
    }
}
