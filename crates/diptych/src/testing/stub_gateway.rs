//! A stub of a system outside.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    future::pending,
    sync::Arc,
};

use parking_lot::Mutex;
use serde::{Serialize, de::DeserializeOwned};

use crate::process::{CallFailure, Gateway, Reconciliation};

/// A gateway for tests. It counts its effects by key, fails when it is told to, and can die
/// half-way: after an effect and before its answer. Clones share one stub, so it outlives the app
/// that calls it, as a system outside does.
///
/// Without [`once_for_each_key`](StubGateway::once_for_each_key) a second call with a key has a
/// second effect.
pub struct StubGateway<C, A> {
    shared: Arc<Mutex<StubState<C, A>>>,
}

struct StubState<C, A> {
    answer: Arc<dyn Fn(&C) -> A + Send + Sync>,
    is_idempotent: bool,
    can_reconcile: bool,
    next: VecDeque<StubFault>,
    effects: BTreeMap<String, u64>,
    calls: u64,
    lane: Option<StubLane<C>>,
}

/// Finds the lane of a call.
type StubLane<C> = Arc<dyn Fn(&C) -> String + Send + Sync>;

/// The fault of a call, in place of an answer.
enum StubFault {
    Failure(CallFailure),
    /// The call never ends. It has its effect before that, or it does not.
    Death {
        has_effect: bool,
    },
}

impl<C, A> StubGateway<C, A> {
    /// A stub that gives these answers.
    pub fn answering(answer: impl Fn(&C) -> A + Send + Sync + 'static) -> StubGateway<C, A> {
        StubGateway {
            shared: Arc::new(Mutex::new(StubState {
                answer: Arc::new(answer),
                is_idempotent: false,
                can_reconcile: false,
                next: VecDeque::new(),
                effects: BTreeMap::new(),
                calls: 0,
                lane: None,
            })),
        }
    }

    /// A second call with a key has no second effect.
    #[must_use]
    pub fn once_for_each_key(self) -> StubGateway<C, A> {
        self.shared.lock().is_idempotent = true;
        self
    }

    /// It can be asked about calls.
    #[must_use]
    pub fn reconciling(self) -> StubGateway<C, A> {
        self.shared.lock().can_reconcile = true;
        self
    }

    /// Calls have lanes: see [`Gateway::lane`].
    #[must_use]
    pub fn in_lanes(
        self,
        lane: impl Fn(&C) -> String + Send + Sync + 'static,
    ) -> StubGateway<C, A> {
        self.shared.lock().lane = Some(Arc::new(lane));
        self
    }

    /// The next calls fail so. Faults are used up in the order in which they are given.
    pub fn fail_next(&self, failures: impl IntoIterator<Item = CallFailure>) {
        self.shared.lock().next.extend(failures.into_iter().map(StubFault::Failure));
    }

    /// The next call has its effect and never answers.
    pub fn die_after_effect(&self) {
        self.shared.lock().next.push_back(StubFault::Death { has_effect: true });
    }

    /// The next call never answers, and has no effect.
    pub fn die_before_effect(&self) {
        self.shared.lock().next.push_back(StubFault::Death { has_effect: false });
    }

    /// The number of effects of each key.
    pub fn effects(&self) -> BTreeMap<String, u64> {
        self.shared.lock().effects.clone()
    }

    /// The number of calls, with or without effect.
    pub fn calls(&self) -> u64 {
        self.shared.lock().calls
    }
}

impl<C, A> Gateway for StubGateway<C, A>
where
    C: Serialize + DeserializeOwned + Send + Sync + 'static,
    A: Serialize + DeserializeOwned + Send + 'static,
{
    type Call = C;
    type Answer = A;

    async fn send(&self, call: &C, key: &str) -> Result<A, CallFailure> {
        let fault = {
            let mut state = self.shared.lock();
            state.calls += 1;
            let fault = state.next.pop_front();
            let has_effect = !matches!(
                fault,
                Some(StubFault::Failure(_) | StubFault::Death { has_effect: false })
            );
            if has_effect {
                let is_idempotent = state.is_idempotent;
                let effects = state.effects.entry(key.to_owned()).or_default();
                if *effects == 0 || !is_idempotent {
                    *effects += 1;
                }
            }
            fault
        };
        match fault {
            None => {
                let answer = self.shared.lock().answer.clone();
                Ok(answer(call))
            }
            Some(StubFault::Failure(failure)) => Err(failure),
            Some(StubFault::Death { .. }) => pending().await,
        }
    }

    async fn reconcile(&self, call: &C, key: &str) -> Result<Reconciliation<A>, CallFailure> {
        let state = self.shared.lock();
        if !state.can_reconcile {
            return Ok(Reconciliation::Unknown);
        }
        match state.effects.contains_key(key) {
            true => Ok(Reconciliation::Done((state.answer)(call))),
            false => Ok(Reconciliation::NotDone),
        }
    }

    fn lane(&self, call: &C) -> Option<String> {
        let lane = self.shared.lock().lane.clone();
        lane.map(|lane| lane(call))
    }
}

impl<C, A> Clone for StubGateway<C, A> {
    fn clone(&self) -> StubGateway<C, A> {
        StubGateway { shared: self.shared.clone() }
    }
}

impl<C, A> fmt::Debug for StubGateway<C, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.shared.lock();
        let mut stub = f.debug_struct("StubGateway");
        stub.field("calls", &state.calls).field("effects", &state.effects).finish_non_exhaustive()
    }
}
