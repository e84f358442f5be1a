//! A view that is built beside another view, compared with it, and put in its place.
//!
//! The candidate is a view of its own, with its own thread. It never passes the view that it is to
//! replace, so that both are at one position when they are compared and switched.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use diptych_store::Position;

use super::{
    View,
    shown::{CandidateSide, ShownView},
    version::Version,
};
use crate::{
    follow::{Pace, SwitchPolicy, VersionChange, VersionOutcome, VersionState, VersionStatus},
    panics::caught,
};

/// The positions from which on the candidate holds the version that it is to be compared with.
const NEAR: u64 = 4_096;
/// How long the view waits for the candidate at the moment of a switch. Meanwhile its answers are
/// as old as that.
const FOR_A_SWITCH: Duration = Duration::from_millis(100);

/// For so long a comparison of a switch counts for its next try, if it took longer than the view
/// waits: the view moves on while a large state is compared.
const FOR_THE_NEXT_TRY: Duration = Duration::from_secs(1);

/// Compares two states of a view: the served one and that of the candidate.
pub(crate) type StateComparison<V> = Box<dyn Fn(&V, &V) -> Result<(), String> + Send + Sync>;

/// How a candidate takes the place of a view.
pub(crate) struct CandidateRules<V> {
    pub(crate) policy: SwitchPolicy,
    pub(crate) comparisons: Vec<StateComparison<V>>,
}

/// The candidate `N` of the view `V`, for the thread that folds it.
pub(crate) struct ViewCandidate<V, N> {
    served: Arc<ShownView<V>>,
    own: Arc<ShownView<N>>,
    rules: CandidateRules<V>,
    /// The state while it is not served.
    state: VersionState,
    /// The version to be compared with, and its position when it was taken. It is a copy that the
    /// view cannot fold into, so it is held only while this candidate reads on.
    held: Option<(Arc<Version<V>>, Position)>,
    /// When a switch found no difference in a long comparison, and could not take the place yet.
    tried: Option<Instant>,
}

impl<V: View, N: View + AsRef<V>> ViewCandidate<V, N> {
    pub(crate) fn new(
        served: Arc<ShownView<V>>,
        own: Arc<ShownView<N>>,
        rules: CandidateRules<V>,
    ) -> ViewCandidate<V, N> {
        let state = VersionState::Building;
        ViewCandidate { served, own, rules, state, held: None, tried: None }
    }

    fn position(&self) -> Position {
        self.own.now().position()
    }

    /// Compares this version of the view with the candidate, which is at the same position.
    fn compare(&mut self, served: &Version<V>) {
        let own = self.own.held();
        let at = own.position();
        let compare = |comparison: &StateComparison<V>| {
            caught(|| comparison(&served.state, own.state.as_ref()))
                .unwrap_or_else(|panic| Err(format!("the comparison panicked: {panic}")))
        };
        let compared = more_poison(served, &own)
            .map_or(Ok(()), Err)
            .and_then(|()| self.rules.comparisons.iter().try_for_each(compare));
        self.state = match compared {
            Ok(()) => VersionState::Equal { at },
            Err(difference) => VersionState::Different { at, difference },
        };
        tracing::info!(view = self.served.progress.name(), state = %self.state, "its candidate is");
    }

    /// Shows both versions in the status of both views.
    fn show(&self) {
        let is_served = self.served.is_replaced();
        let own = self.position();
        let (of_view, of_candidate) = match is_served {
            true => (VersionState::Kept, VersionState::Served),
            false => (VersionState::Served, self.state.clone()),
        };
        let mut versions = vec![VersionStatus::new(2, of_candidate, own)];
        if !self.served.is_dropped() {
            let at = self.served.now().position();
            versions.insert(usize::from(is_served), VersionStatus::new(1, of_view, at));
        }
        self.served.progress.show_versions(versions.clone());
        self.own.progress.show_versions(versions);
    }

    /// Puts the candidate in the place of the view, if both are at one position.
    fn take_place(&mut self, needs_equal_position: bool) -> Result<(), Position> {
        let own = self.position();
        self.served.switch(true, |at| !needs_equal_position || at == own)?;
        tracing::info!(
            view = self.served.progress.name(),
            candidate = self.own.progress.name(),
            position = own.get(),
            "the candidate answers in the place of the view"
        );
        Ok(())
    }

    fn forward(&mut self, compares: bool, needs_equal_position: bool) -> VersionOutcome {
        if self.served.is_replaced() {
            return VersionOutcome::Done;
        }
        let is_compared = self.tried.take().is_some_and(|at| at.elapsed() < FOR_THE_NEXT_TRY);
        if compares && !is_compared {
            let began = Instant::now();
            if let Some(outcome) = self.compared() {
                return outcome;
            }
            // A short comparison is repeated while the view waits for the next try.
            self.tried = (began.elapsed() >= FOR_A_SWITCH).then(Instant::now);
        }
        match self.take_place(needs_equal_position) {
            Ok(()) => {
                self.tried = None;
                VersionOutcome::Done
            }
            Err(served) => self.unequal(served),
        }
    }

    /// Compares now. Returns the outcome, unless no difference was found.
    fn compared(&mut self) -> Option<VersionOutcome> {
        let served = self.served.held();
        if served.position() != self.position() {
            return Some(self.unequal(served.position()));
        }
        self.compare(&served);
        match &self.state {
            VersionState::Different { difference, .. } => {
                Some(VersionOutcome::Different { difference: difference.clone() })
            }
            _ => None,
        }
    }

    fn unequal(&self, served: Position) -> VersionOutcome {
        self.served.freeze(FOR_A_SWITCH);
        VersionOutcome::Unequal { served, other: self.position() }
    }

    fn back(&mut self, needs_equal_position: bool) -> Result<VersionOutcome, String> {
        if self.served.is_dropped() {
            return Err("the view was dropped after the switch: there is no way back".to_owned());
        }
        if !self.served.is_replaced() {
            return Ok(VersionOutcome::Done);
        }
        let own = self.position();
        match self.served.switch(false, |at| !needs_equal_position || at >= own) {
            Ok(()) => {
                self.state = VersionState::Kept;
                tracing::warn!(view = self.served.progress.name(), "the view answers again");
                Ok(VersionOutcome::Done)
            }
            Err(at) => Ok(VersionOutcome::Unequal { served: own, other: at }),
        }
    }
}

/// The first key that is poisoned in the candidate only.
fn more_poison<V, N>(served: &Version<V>, own: &Version<N>) -> Option<String> {
    let known = served.quarantine();
    let mut keys = own.quarantine().poisoned().into_iter();
    let more = keys.find(|it| known.key(&it.key).is_none())?;
    Some(format!(
        "the key {} is poisoned in the candidate only, by the event at position {}: {}",
        more.key, more.failed, more.reason
    ))
}

impl<V: View, N: View + AsRef<V>> CandidateSide for ViewCandidate<V, N> {
    fn pace(&mut self) -> (Pace, Option<Position>) {
        let own = self.position();
        if self.served.is_replaced() {
            self.held = None;
            self.show();
            return (Pace::On, None);
        }
        // A comparison with a view that has not seen the log yet would tell little.
        let mut is_new =
            self.state == VersionState::Building && self.served.progress.was_at_the_head();
        if let Some((image, at)) = self.held.take() {
            if own < at {
                self.held = Some((image, at));
                return (Pace::On, Some(at));
            }
            if own == at && is_new && own < self.served.now().position() {
                self.compare(&image);
                is_new = false;
            }
        }
        let image = self.served.held();
        let at = image.position();
        let switches = self.rules.policy == SwitchPolicy::Automatic;
        if own < at {
            let is_near = at.get() - own.get() <= NEAR;
            if is_near && is_new {
                self.held = Some((image, at));
            }
            self.show();
            return (Pace::On, Some(at));
        }
        if own == at && is_new && !switches {
            self.compare(&image);
        }
        if own == at
            && matches!(self.state, VersionState::Equal { .. })
            && let Some(difference) = more_poison(&image, &self.own.held())
        {
            self.state = VersionState::Different { at, difference };
        }
        drop(image);
        let is_due = is_new || matches!(self.state, VersionState::Equal { .. });
        if own == at && switches && is_due {
            if self.forward(true, true) == VersionOutcome::Done {
                self.show();
                return (Pace::On, None);
            }
            let at = self.served.now().position();
            if own < at {
                return (Pace::On, Some(at));
            }
        }
        self.show();
        let reason = format!(
            "the candidate waits at position {own} beside the view, which is at position {at}"
        );
        (Pace::Hold { reason }, Some(at.max(own)))
    }

    fn limit(&self) -> Option<Position> {
        let is_served = self.served.is_replaced();
        (!is_served).then(|| self.served.now().position())
    }

    fn change(&mut self, change: VersionChange) -> Result<VersionOutcome, String> {
        let outcome = match change {
            VersionChange::Compare if self.served.is_replaced() => {
                return Err("the candidate answers in the place of the view".to_owned());
            }
            VersionChange::Compare => self.compared().unwrap_or(VersionOutcome::Done),
            VersionChange::Forward { compares, needs_equal_position } => {
                self.forward(compares, needs_equal_position)
            }
            VersionChange::Back { needs_equal_position } => self.back(needs_equal_position)?,
            VersionChange::Drop(1) if self.served.is_replaced() => {
                self.served.drop_own();
                VersionOutcome::Done
            }
            VersionChange::Drop(1) => {
                return Err("the view answers queries: switch to its candidate first".to_owned());
            }
            VersionChange::Drop(_) => {
                return Err("only the view itself, version 1, can be dropped after a switch: a \
                            candidate ends with its program"
                    .to_owned());
            }
        };
        self.show();
        Ok(outcome)
    }

    fn let_go(&mut self) {
        self.held = None;
    }

    fn begin_again(&mut self) {
        (self.held, self.tried) = (None, None);
        self.state = VersionState::Building;
        self.show();
    }
}
