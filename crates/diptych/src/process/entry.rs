//! The gateways of an app, with the state that their calls share: places, lanes and the circuit.

use std::{
    any::type_name,
    collections::HashMap,
    future::poll_fn,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    task::Poll,
    time::Duration,
};

use diptych_store::Timestamp;
use parking_lot::Mutex;
use serde::Serialize;
use serde_json::Value;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit},
    time::Instant,
};

use super::gateway::{
    AnyGateway, CallFailure, CallsFrom, Gateway, GatewayOptions, Reconciliation, TypedGateway,
};
use crate::panics::caught;

/// The status of a gateway in this program.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GatewayStatus {
    /// Its name.
    pub name: String,
    /// Number of calls that are under way.
    pub calling: usize,
    /// Number of calls that wait for a place, for a place in their lane, or for the circuit.
    pub waiting: usize,
    /// Whether calls are made.
    pub circuit: CircuitState,
    /// Number of calls since the start that were withheld. See [`CallsFrom`].
    pub withheld: u64,
}

/// Whether the calls of a gateway are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CircuitState {
    /// Calls are made.
    Closed {
        /// Number of failures since the last answer.
        failures: u32,
    },
    /// Too many calls failed in a row, so none is made for now.
    Open {
        /// The time until a call is made again.
        left: Duration,
    },
}

/// The tries of a call that failed in one run of a program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct CallTries {
    /// How many failed.
    pub failures: u32,
    /// The reason why the latest failed.
    pub reason: String,
    /// When the next one is made. It may wait longer for a place, or for the circuit.
    pub next_at: Timestamp,
}

/// A gateway of an app, with the state that its calls share.
pub(crate) struct GatewayEntry {
    pub(crate) name: String,
    pub(crate) type_name: &'static str,
    pub(super) gateway: Box<dyn AnyGateway>,
    pub(super) from: CallsFrom,
    pub(super) options: GatewayOptions,
    places: Semaphore,
    lanes: Mutex<HashMap<String, GatewayLane>>,
    /// The failed tries of calls that have no outcome yet, by their keys.
    tries: Mutex<HashMap<String, CallTries>>,
    circuit: Mutex<Circuit>,
    calling: AtomicUsize,
    waiting: AtomicUsize,
    withheld: AtomicU64,
}

/// The calls of one lane that are under way or wait.
struct GatewayLane {
    places: Arc<Semaphore>,
    users: usize,
}

/// Whether calls may be made.
#[derive(Default)]
struct Circuit {
    failures: u32,
    open_until: Option<Instant>,
}

/// A call may be made while this is held.
pub(super) struct CallPlace<'a> {
    _calling: InCount<'a>,
    _place: Option<SemaphorePermit<'a>>,
    // The permit of the lane is given back before the lane is dropped.
    _lane: Option<(OwnedSemaphorePermit, LaneUse<'a>)>,
}

/// The notes about the failed tries of a call, until the call has an outcome or its work ends.
pub(super) struct TryNotes<'a> {
    entry: &'a GatewayEntry,
    key: &'a str,
}

impl TryNotes<'_> {
    pub(super) fn note(&self, tries: CallTries) {
        self.entry.tries.lock().insert(self.key.to_owned(), tries);
    }
}

impl Drop for TryNotes<'_> {
    fn drop(&mut self) {
        self.entry.tries.lock().remove(self.key);
    }
}

/// A use of a lane. The last one drops the lane.
struct LaneUse<'a> {
    entry: &'a GatewayEntry,
    lane: &'a str,
}

impl Drop for LaneUse<'_> {
    fn drop(&mut self) {
        let mut lanes = self.entry.lanes.lock();
        if let Some(lane) = lanes.get_mut(self.lane) {
            lane.users -= 1;
            if lane.users == 0 {
                lanes.remove(self.lane);
            }
        }
    }
}

/// Counts until it is dropped.
struct InCount<'a>(&'a AtomicUsize);

impl InCount<'_> {
    fn new(count: &AtomicUsize) -> InCount<'_> {
        count.fetch_add(1, Ordering::Relaxed);
        InCount(count)
    }
}

impl Drop for InCount<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
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
            lanes: Mutex::default(),
            tries: Mutex::default(),
            circuit: Mutex::default(),
            calling: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            withheld: AtomicU64::new(0),
            options,
        }
    }

    /// The notes about the tries of the call with this key.
    pub(super) fn notes<'a>(&'a self, key: &'a str) -> TryNotes<'a> {
        TryNotes { entry: self, key }
    }

    /// Waits until a call of this lane may be made. The lane is waited for first, so a full lane
    /// takes no place from the others.
    pub(super) async fn place<'a>(&'a self, lane: Option<&'a str>) -> CallPlace<'a> {
        let waiting = InCount::new(&self.waiting);
        let lane = match lane {
            Some(lane) => self.lane(lane).await,
            None => None,
        };
        let place = loop {
            if let Some(until) = self.open_until() {
                tokio::time::sleep_until(until).await;
                continue;
            }
            // The semaphore is never closed.
            let place = self.places.acquire().await.ok();
            // Calls before this one may have failed meanwhile.
            if self.open_until().is_none() {
                break place;
            }
        };
        drop(waiting);
        CallPlace { _calling: InCount::new(&self.calling), _place: place, _lane: lane }
    }

    async fn lane<'a>(&'a self, name: &'a str) -> Option<(OwnedSemaphorePermit, LaneUse<'a>)> {
        let places = {
            let mut lanes = self.lanes.lock();
            let lane = lanes.entry(name.to_owned()).or_insert_with(|| {
                let places = self.options.calls_at_once_in_a_lane.max(1);
                GatewayLane { places: Arc::new(Semaphore::new(places)), users: 0 }
            });
            lane.users += 1;
            lane.places.clone()
        };
        let used = LaneUse { entry: self, lane: name };
        Some((places.acquire_owned().await.ok()?, used))
    }

    /// Sends a call, and counts its outcome for the circuit. The caller holds a place.
    pub(super) async fn send(&self, call: &str, key: &str) -> Result<Value, CallFailure> {
        let sent = self.within(self.gateway.send(call, key)).await;
        match &sent {
            Ok(_) | Err(CallFailure::Refused(_)) => self.succeeded(),
            Err(_) => self.failed(),
        }
        sent
    }

    /// Asks about an earlier call.
    pub(super) async fn reconcile(
        &self,
        call: &str,
        key: &str,
    ) -> Result<Reconciliation<Value>, CallFailure> {
        self.within(self.gateway.reconcile(call, key)).await
    }

    /// Waits for the system outside, at most as long as a call may take. A call that panics may
    /// have had its effect, and other calls go on.
    async fn within<T>(
        &self,
        call: impl Future<Output = Result<T, CallFailure>>,
    ) -> Result<T, CallFailure> {
        let longest = self.options.longest_call;
        let mut call = pin!(call);
        let call = poll_fn(|context| match caught(|| call.as_mut().poll(context)) {
            Ok(polled) => polled,
            Err(panic) => Poll::Ready(Err(CallFailure::Unknown { reason: panic })),
        });
        let late = |_| {
            let reason = format!("no answer came within {longest:?}");
            Err(CallFailure::Unknown { reason })
        };
        tokio::time::timeout(longest, call).await.unwrap_or_else(late)
    }

    fn open_until(&self) -> Option<Instant> {
        self.circuit.lock().open_until.filter(|until| *until > Instant::now())
    }

    fn succeeded(&self) {
        *self.circuit.lock() = Circuit::default();
    }

    fn failed(&self) {
        let mut circuit = self.circuit.lock();
        circuit.failures = circuit.failures.saturating_add(1);
        if circuit.failures >= self.options.failures_to_open.max(1) {
            tracing::warn!(gateway = self.name, "the circuit of a gateway is open");
            circuit.open_until = Some(Instant::now() + self.options.open_for);
        }
    }

    /// Whether a call is withheld whose trigger and reaction have these times. The times are in the
    /// log, so a later run decides alike.
    pub(super) fn withholds(&self, triggered_at: Timestamp, reacted_at: Timestamp) -> bool {
        match self.from {
            CallsFrom::Beginning => false,
            CallsFrom::Instant(from) => triggered_at < from,
            CallsFrom::Within(time) => reacted_at > triggered_at.saturating_add(time),
            CallsFrom::Never => true,
        }
    }

    pub(super) fn withheld(&self) {
        self.withheld.fetch_add(1, Ordering::Relaxed);
    }

    /// The wait before the next try, after this number of failures.
    pub(super) fn wait(&self, failures: u32, asked: Option<Duration>) -> Duration {
        let GatewayOptions { first_wait, longest_wait, longest_asked, jitter, .. } = self.options;
        let doubled = first_wait.saturating_mul(1 << failures.saturating_sub(1).min(30));
        let wait = doubled.min(longest_wait);
        let random = wait.mul_f64(jitter.clamp(0.0, 1.0) * fastrand::f64());
        (wait - random).max(asked.unwrap_or_default().min(longest_asked))
    }

    fn status(&self) -> GatewayStatus {
        let open_until = self.open_until();
        let circuit = match open_until {
            Some(until) => CircuitState::Open { left: until - Instant::now() },
            None => CircuitState::Closed { failures: self.circuit.lock().failures },
        };
        GatewayStatus {
            name: self.name.clone(),
            calling: self.calling.load(Ordering::Relaxed),
            waiting: self.waiting.load(Ordering::Relaxed),
            circuit,
            withheld: self.withheld.load(Ordering::Relaxed),
        }
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

    pub(crate) fn status(&self) -> Vec<GatewayStatus> {
        self.iter().map(GatewayEntry::status).collect()
    }

    /// The failed tries of a call of this gateway, in this program.
    pub(super) fn tries(&self, gateway: &str, key: &str) -> Option<CallTries> {
        self.named(gateway)?.tries.lock().get(key).cloned()
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

    /// Whether no place is free.
    async fn is_full(entry: &GatewayEntry, lane: Option<&str>) -> bool {
        tokio::time::timeout(Duration::from_secs(60), entry.place(lane)).await.is_err()
    }

    #[tokio::test(start_paused = true)]
    async fn an_open_circuit_holds_calls_back_for_its_time_and_a_failure_opens_it_again() {
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
        drop(entry.place(None).await);
        assert_eq!(begin.elapsed(), Duration::ZERO);
        assert_eq!(entry.status().circuit, CircuitState::Closed { failures: 2 });
        entry.failed();
        let left = Duration::from_secs(7);
        assert_eq!(entry.status().circuit, CircuitState::Open { left });
        drop(entry.place(None).await);
        assert!(begin.elapsed() >= left);
        entry.failed();
        drop(entry.place(None).await);
        assert!(begin.elapsed() >= 2 * left);
    }

    #[tokio::test(start_paused = true)]
    async fn at_most_the_named_number_of_calls_is_made_at_once() {
        let options = GatewayOptions { calls_at_once: 2, ..GatewayOptions::default() };
        let entry = entry(options);
        let (one, _other) = (entry.place(None).await, entry.place(None).await);
        assert!(is_full(&entry, None).await);
        assert_eq!((entry.status().calling, entry.status().waiting), (2, 0));
        drop(one);
        drop(entry.place(None).await);
        assert_eq!(entry.status().calling, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_lane_holds_its_own_calls_and_no_others() {
        let options = GatewayOptions { calls_at_once: 2, ..GatewayOptions::default() };
        let entry = entry(options);
        let ann = entry.place(Some("ann")).await;
        assert!(is_full(&entry, Some("ann")).await);
        {
            // A call that waits for its lane takes no place.
            let mut waiting = std::pin::pin!(entry.place(Some("ann")));
            tokio::select! {
                biased;
                _ = &mut waiting => panic!("the lane is full"),
                () = std::future::ready(()) => {}
            }
            assert_eq!((entry.status().calling, entry.status().waiting), (1, 1));
            drop(entry.place(Some("bob")).await);
        }
        drop(ann);
        drop(entry.place(Some("ann")).await);
        assert!(entry.lanes.lock().is_empty(), "a lane without calls is dropped");
    }

    #[test]
    fn waits_double_up_to_the_longest_and_respect_what_the_system_asks_for() {
        let options = GatewayOptions {
            first_wait: Duration::from_millis(100),
            longest_wait: Duration::from_millis(350),
            longest_asked: Duration::from_secs(60),
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
        assert_eq!(entry.wait(1, Some(Duration::MAX)), Duration::from_secs(60));
    }
}
