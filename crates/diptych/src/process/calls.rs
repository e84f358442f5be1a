//! Carries out the calls of gateways.
//!
//! The intent is in the log: it is the reaction. Before a call leaves, a gateway that is not
//! idempotent appends `diptych:process-call-started` under a key of the call. That is the claim
//! between programs, and tells a later run that the call may have been made. The answer is
//! committed under the key of the action, so there is one.
//!
//! Other programs wait for the answer of a claimed call for `unknown_after`. So a try that would
//! end later than that needs a claim of its own, with the next number. A call is listed for an
//! operator under the number of its newest claim. Either it is listed under a number, or claimed
//! under the next one, and never both: the condition of each append forbids the other.

use std::time::Duration;

use diptych_store::{
    Append, AppendCondition, AppendError, Digest, Filter, FilterItem, Key, Metadata, Position,
    ReadError, Refusal,
};
use serde_json::Value;
use tokio::time::Instant;

use super::{
    Process,
    command::ActionKey,
    entry::{CallTries, GatewayEntry},
    gateway::{CallFailure, CallsFrom, Reconciliation},
    places::Places,
    shared::{Interruption, ProcessShared, Waits},
    stored::{CALL_STARTED, CALL_UNKNOWN, StartedCall, UnknownCall, about, process_tag},
    trigger::ActionOutcome,
    work::{Work, most_outcome, settle},
    worklist::only,
};
use crate::stored_text::shortened;

/// A call of an action.
pub(super) struct Calling<'a, P: Process> {
    pub(super) shared: &'a ProcessShared<P>,
    pub(super) places: &'a Places,
    pub(super) work: &'a Work,
    /// The number of the action in its reaction.
    pub(super) action: u32,
    pub(super) key: &'a ActionKey,
    pub(super) entry: &'a GatewayEntry,
    pub(super) body: &'a str,
}

/// How a call goes on.
enum NextStep {
    Settle(ActionOutcome),
    /// The call had no effect, or has a later claim. It is made under the next claim.
    Anew,
    /// The call was settled elsewhere, or listed for an operator.
    Settled,
    Unknown(String),
}

/// The result of a claim.
enum ClaimResult {
    Own,
    /// The call was claimed under this number before.
    OfOther,
    /// The call was settled, or listed for an operator, so nothing may claim it.
    Gone,
}

impl<P: Process> Calling<'_, P> {
    /// Makes the call, until it has an outcome or is listed as unknown.
    pub(super) async fn run(&self) -> Result<(), Interruption> {
        if self.is_withheld().await? {
            self.entry.withheld();
            return self.settle(ActionOutcome::Withheld).await;
        }
        let (mut claim, mut failures) = (self.work.first_claim, 0_u32);
        let mut claimed_at = Instant::now();
        let options = &self.entry.options;
        let lane = self.entry.gateway.lane(self.body);
        let mut is_claimed = options.is_idempotent;
        let outside = self.outside_key();
        let notes = self.entry.notes(&outside);
        loop {
            // A claimed call leaves at once, so other programs know how long it may take.
            let place = self.entry.place(lane.as_deref()).await;
            if is_claimed && self.is_late(claimed_at) {
                (claim, is_claimed) = (claim + 1, false);
            }
            if !is_claimed {
                claimed_at = Instant::now();
            }
            let claimed = match is_claimed {
                true => ClaimResult::Own,
                false => self.claim(claim).await?,
            };
            let next = match claimed {
                ClaimResult::Own => {
                    is_claimed = true;
                    let sent = self.send(claimed_at).await;
                    drop(place);
                    match sent {
                        Ok(outcome) => NextStep::Settle(outcome),
                        Err(CallFailure::Unknown { reason }) if !options.is_idempotent => {
                            self.ask(reason).await?
                        }
                        Err(failure) => {
                            failures += 1;
                            let (reason, asked) = reason_of(failure);
                            if failures < options.attempts {
                                let wait = self.entry.wait(failures, asked);
                                let next_at = self.shared.clock.now().saturating_add(wait);
                                notes.note(CallTries { failures, reason: reason.clone(), next_at });
                                self.rest(wait, reason).await;
                                continue;
                            }
                            NextStep::Unknown(format!("{failures} tries failed, lately: {reason}"))
                        }
                    }
                }
                ClaimResult::OfOther => {
                    drop(place);
                    self.of_other(claim).await?
                }
                ClaimResult::Gone => NextStep::Settled,
            };
            match next {
                NextStep::Settle(outcome) => return self.settle(outcome).await,
                NextStep::Settled => return Ok(()),
                NextStep::Unknown(reason) if self.list(claim, &reason).await? => return Ok(()),
                NextStep::Unknown(_) | NextStep::Anew => (claim, is_claimed) = (claim + 1, false),
            }
        }
    }

    /// Whether other programs may ask about the call before a try that begins now has ended.
    fn is_late(&self, claimed_at: Instant) -> bool {
        let options = &self.entry.options;
        let ends_by = claimed_at.elapsed().saturating_add(options.longest_call);
        !options.is_idempotent && ends_by >= options.unknown_after
    }

    /// Whether a claim of this time does not protect a call that begins now, because its event was
    /// stored late, or this program stood still. With a `longest_call` above `unknown_after` no
    /// claim ever does.
    fn is_spent(&self, claimed_at: Instant) -> bool {
        let options = &self.entry.options;
        let left = options.unknown_after.saturating_sub(options.longest_call);
        !options.is_idempotent && !left.is_zero() && claimed_at.elapsed() >= left
    }

    /// Sends the call under the claim of this time. The caller holds a place.
    async fn send(&self, claimed_at: Instant) -> Result<ActionOutcome, CallFailure> {
        if self.is_spent(claimed_at) {
            let reason =
                "its claim was stored late, and other programs may ask about it".to_owned();
            return Err(CallFailure::NotSent { reason, retry_after: None });
        }
        match self.entry.send(self.body, &self.outside_key()).await {
            Ok(answer) => self.fitting(answer).map_err(|reason| CallFailure::Unknown { reason }),
            Err(CallFailure::Refused(rejection)) => Ok(ActionOutcome::Rejected(rejection)),
            Err(failure) => Err(failure),
        }
    }

    fn outside_key(&self) -> String {
        self.key.outside(self.shared.reader.store().identity().id)
    }

    /// Waits without a place. The status tells why.
    async fn rest(&self, time: Duration, reason: String) {
        self.shared.status.trouble(&self.work.id.instance, Some(reason));
        let _rest = self.places.rest();
        tokio::time::sleep(time).await;
    }

    /// The outcome of a call with this answer.
    ///
    /// # Errors
    /// The reason why no event can have it.
    fn fitting(&self, answer: Value) -> Result<ActionOutcome, String> {
        let most = most_outcome(self.shared.reader.store());
        let bytes = serde_json::to_vec(&answer).map_or(usize::MAX, |answer| answer.len());
        match bytes <= most {
            true => Ok(ActionOutcome::Answered(answer)),
            false => Err(format!("its answer has {bytes} bytes, and at most {most} fit")),
        }
    }

    /// Claims the call for this program.
    async fn claim(&self, claim: u64) -> Result<ClaimResult, Interruption> {
        let store = self.shared.reader.store();
        let key = Key::new(self.key.claim(claim), Digest::of(b"started"));
        let record = StartedCall {
            process: self.work.id.process.clone(),
            instance: self.work.id.instance.clone(),
            reaction: self.work.position,
            action: self.action,
            gateway: self.entry.name.clone(),
            claim,
        };
        let event = about(CALL_STARTED, &self.work.id, &record, self.metadata())?;
        loop {
            let mut append = Append::event(event.clone()).key(key.clone());
            // Nothing lists the call before its first claim.
            if claim > self.work.first_claim {
                let after = store.fresh_head().await?;
                let unknown = self.key.unknown(claim - 1);
                if self.is_settled().await? || store.keyed(&unknown).await?.is_some() {
                    return Ok(ClaimResult::Gone);
                }
                append = append.condition(self.unless(CALL_UNKNOWN, after));
            }
            match store.append(append).await {
                Ok(accepted) => {
                    // Before the call leaves, a later run has to know that it may have left.
                    accepted.synced().await.map_err(|error| Interruption::from(error.cause))?;
                    return Ok(ClaimResult::Own);
                }
                Err(AppendError::Refused(Refusal::KeyTaken { .. } | Refusal::KeyReused { .. })) => {
                    return Ok(ClaimResult::OfOther);
                }
                Err(AppendError::Refused(Refusal::Conflict { .. })) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// No event of this type about the instance came after this position.
    fn unless(&self, event_type: &'static str, after: Position) -> AppendCondition {
        let id = &self.work.id;
        let of_type = FilterItem::everything().or_type(event_type);
        let fail_if = Filter::from(of_type.and_tag(process_tag(&id.process)).and_tag(id.tag()));
        AppendCondition { fail_if, after }
    }

    /// Waits for the answer of a call that another program, or an earlier run, has begun under this
    /// claim. Then asks the system outside.
    async fn of_other(&self, claim: u64) -> Result<NextStep, Interruption> {
        let unknown_after = self.entry.options.unknown_after;
        let until = Instant::now() + unknown_after;
        if let Some(next) = self.left_by_other(claim).await? {
            return Ok(next);
        }
        let why = format!(
            "the call was begun before, and may get its answer there: it counts as unknown after \
             {unknown_after:?}"
        );
        self.shared.status.trouble(&self.work.id.instance, Some(why));
        {
            let _rest = self.places.rest();
            let mut waits = Waits::new(&self.shared.options);
            while Instant::now() < until {
                waits.wait().await;
                if let Some(next) = self.left_by_other(claim).await? {
                    return Ok(next);
                }
            }
        }
        self.ask("the program ended, or lost its connection, during the call".to_owned()).await
    }

    /// The next step, if the program that has this claim is not making the call any more.
    async fn left_by_other(&self, claim: u64) -> Result<Option<NextStep>, Interruption> {
        if self.is_settled().await? {
            return Ok(Some(NextStep::Settled));
        }
        let store = self.shared.reader.store();
        if store.keyed(&self.key.unknown(claim)).await?.is_some() {
            // An operator decides.
            return Ok(Some(NextStep::Settled));
        }
        // It claimed the call again, for a later try.
        let next = store.keyed(&self.key.claim(claim + 1)).await?;
        Ok(next.map(|_| NextStep::Anew))
    }

    /// Asks the system outside about a call that may have been made.
    async fn ask(&self, reason: String) -> Result<NextStep, Interruption> {
        let lane = self.entry.gateway.lane(self.body);
        let (mut failures, key) = (0, self.outside_key());
        loop {
            let place = self.entry.place(lane.as_deref()).await;
            let asked = self.entry.reconcile(self.body, &key).await;
            drop(place);
            match asked {
                Ok(Reconciliation::Done(answer)) => {
                    let of_answer = |reason| NextStep::Unknown(format!("it was sent: {reason}"));
                    return Ok(self.fitting(answer).map_or_else(of_answer, NextStep::Settle));
                }
                // One program sends it again.
                Ok(Reconciliation::NotDone) => return Ok(NextStep::Anew),
                Ok(Reconciliation::Unknown) => {
                    return Ok(NextStep::Unknown(format!("it may have been sent: {reason}")));
                }
                Err(CallFailure::Refused(rejection)) => {
                    return Ok(NextStep::Settle(ActionOutcome::Rejected(rejection)));
                }
                Err(CallFailure::NotSent { reason: why, retry_after: asked }) => {
                    failures += 1;
                    if let Some(unknown) = self.given_up(failures, &reason) {
                        return Ok(unknown);
                    }
                    self.rest(self.entry.wait(failures, asked), why).await;
                }
                Err(CallFailure::Unknown { reason: why }) => {
                    failures += 1;
                    if let Some(unknown) = self.given_up(failures, &reason) {
                        return Ok(unknown);
                    }
                    self.rest(self.entry.wait(failures, None), why).await;
                }
            }
        }
    }

    fn given_up(&self, failures: u32, reason: &str) -> Option<NextStep> {
        let text = || format!("it may have been sent, and the gateway cannot tell: {reason}");
        (failures >= self.entry.options.attempts.max(1)).then(|| NextStep::Unknown(text()))
    }

    /// Lists the call for an operator. It is carried out as far as this program can. False if it
    /// was claimed again instead.
    async fn list(&self, claim: u64, reason: &str) -> Result<bool, Interruption> {
        let store = self.shared.reader.store();
        let reason = shortened(reason.to_owned());
        let record = UnknownCall {
            process: self.work.id.process.clone(),
            instance: self.work.id.instance.clone(),
            reaction: self.work.position,
            action: self.action,
            gateway: self.entry.name.clone(),
            claim,
            reason,
        };
        let event = about(CALL_UNKNOWN, &self.work.id, &record, self.metadata())?;
        let key = Key::new(self.key.unknown(claim), Digest::of(b"unknown"));
        loop {
            let after = store.fresh_head().await?;
            if self.is_settled().await? {
                return Ok(true);
            }
            if store.keyed(&self.key.claim(claim + 1)).await?.is_some() {
                return Ok(false);
            }
            let append = Append::event(event.clone()).key(key.clone());
            match store.append(append.condition(self.unless(CALL_STARTED, after))).await {
                Ok(accepted) => {
                    accepted.synced().await.map_err(|error| Interruption::from(error.cause))?;
                    let (process, gateway) = (P::NAME, &self.entry.name);
                    tracing::warn!(process, gateway, reason = record.reason, "a call is unknown");
                    return Ok(true);
                }
                Err(AppendError::Refused(Refusal::KeyTaken { .. })) => return Ok(true),
                Err(AppendError::Refused(Refusal::Conflict { .. })) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    async fn settle(&self, outcome: ActionOutcome) -> Result<(), Interruption> {
        settle(self.shared, self.work, self.action, &self.entry.name, self.key, outcome).await
    }

    async fn is_settled(&self) -> Result<bool, ReadError> {
        let store = self.shared.reader.store();
        store.fresh_head().await?;
        Ok(store.keyed(self.key.name()).await?.is_some())
    }

    /// Whether the gateway does not send calls for so old a trigger.
    async fn is_withheld(&self) -> Result<bool, Interruption> {
        match self.entry.from {
            CallsFrom::Beginning => return Ok(false),
            CallsFrom::Never => return Ok(true),
            CallsFrom::Instant(_) | CallsFrom::Within(_) => {}
        }
        let at = self.work.record.trigger.position;
        let batch = self.shared.reader.store().read(&Filter::everything(), only(at)).await?;
        let reacted_at = self.work.record.at;
        let trigger = batch.get(0);
        Ok(trigger.is_some_and(|event| self.entry.withholds(event.recorded_at(), reacted_at)))
    }

    fn metadata(&self) -> Metadata {
        self.work.metadata.clone()
    }
}

/// The reason of a failure, and how long the system outside asked to wait.
fn reason_of(failure: CallFailure) -> (String, Option<Duration>) {
    match failure {
        CallFailure::NotSent { reason, retry_after } => (reason, retry_after),
        CallFailure::Unknown { reason } => (reason, None),
        // Not reached: a refusal is an outcome.
        CallFailure::Refused(refused) => (refused.text, None),
    }
}
