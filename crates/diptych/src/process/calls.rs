//! Carries out the calls of gateways.
//!
//! The intent is in the log: it is the reaction. Before a call leaves, a gateway that is not
//! idempotent appends `diptych:process-call-started` under a key of the call. That is the claim
//! between programs, and tells a later run that the call may have been made. The answer is
//! committed under the key of the action, so there is one.

use std::{future::poll_fn, pin::pin, task::Poll};

use diptych_store::{Append, AppendError, Digest, Filter, Key, Metadata, Read, ReadError, Refusal};
use serde_json::Value;

use super::{
    Process,
    command::ActionKey,
    gateway::{CallFailure, CallsFrom, GatewayEntry, Reconciliation},
    shared::{Interruption, ProcessShared, Waits},
    stored::{CALL_STARTED, CALL_UNKNOWN, StartedCall, UnknownCall, about},
    trigger::ActionOutcome,
    work::{Work, most_outcome, settle, shortened},
};
use crate::panics::caught;

/// A call of an action.
pub(super) struct Calling<'a, P: Process> {
    pub(super) shared: &'a ProcessShared<P>,
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
    /// The call may be made.
    Send,
    /// The call was settled elsewhere.
    Settled,
    Unknown(String),
}

impl<P: Process> Calling<'_, P> {
    /// Makes the call, until it has an outcome or is listed as unknown.
    pub(super) async fn run(&self) -> Result<(), Interruption> {
        if self.is_withheld().await? {
            return self.settle(ActionOutcome::Withheld).await;
        }
        let (mut claim, mut failures) = (self.work.first_claim, 0_u32);
        let options = &self.entry.options;
        let mut next = match options.is_idempotent {
            true => NextStep::Send,
            false => self.claim(&mut claim).await?,
        };
        loop {
            next = match next {
                NextStep::Settle(outcome) => return self.settle(outcome).await,
                NextStep::Settled => return Ok(()),
                NextStep::Unknown(reason) => return self.list(claim, reason).await,
                NextStep::Send => match self.send().await {
                    Ok(outcome) => NextStep::Settle(outcome),
                    Err(CallFailure::Unknown { reason }) if !options.is_idempotent => {
                        self.ask(&mut claim, reason).await?
                    }
                    Err(failure) => {
                        failures += 1;
                        let (reason, asked) = match failure {
                            CallFailure::NotSent { reason, retry_after } => (reason, retry_after),
                            CallFailure::Unknown { reason } => (reason, None),
                            // Not reached: a refusal is an outcome.
                            CallFailure::Refused(refused) => (refused.text, None),
                        };
                        if failures >= options.attempts.max(1) {
                            let tries = format!("{failures} tries failed, lately: {reason}");
                            return self.list(claim, tries).await;
                        }
                        self.shared.status.trouble(&self.work.id.instance, Some(reason));
                        tokio::time::sleep(self.entry.wait(failures, asked)).await;
                        NextStep::Send
                    }
                },
            };
        }
    }

    async fn send(&self) -> Result<ActionOutcome, CallFailure> {
        let _place = self.entry.place().await;
        match self.within(self.entry.gateway.send(self.body, self.key.name())).await {
            Ok(answer) => {
                self.entry.succeeded();
                self.fitting(answer).map_err(|reason| CallFailure::Unknown { reason })
            }
            Err(CallFailure::Refused(rejection)) => {
                self.entry.succeeded();
                Ok(ActionOutcome::Rejected(rejection))
            }
            Err(failure) => {
                self.entry.failed();
                Err(failure)
            }
        }
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

    /// Waits for the system outside, at most as long as a call may take. A call that panics may
    /// have had its effect.
    async fn within<T>(
        &self,
        call: impl Future<Output = Result<T, CallFailure>>,
    ) -> Result<T, CallFailure> {
        let longest = self.entry.options.longest_call;
        let late = |_| {
            let reason = format!("no answer came within {longest:?}");
            Err(CallFailure::Unknown { reason })
        };
        tokio::time::timeout(longest, caught_call(call)).await.unwrap_or_else(late)
    }

    /// Claims the call for this program. If it was claimed before, waits for its answer, and then
    /// asks the system outside.
    async fn claim(&self, claim: &mut u64) -> Result<NextStep, Interruption> {
        let store = self.shared.reader.store();
        let name = self.key.claim(*claim);
        let key = Key::new(&name, Digest::of(b"started"));
        let record = StartedCall {
            process: self.work.id.process.clone(),
            instance: self.work.id.instance.clone(),
            reaction: self.work.position,
            action: self.action,
            gateway: self.entry.name.clone(),
            claim: *claim,
        };
        let event = about(CALL_STARTED, &self.work.id, &record, self.metadata())?;
        match store.append(Append::event(event).key(key)).await {
            Ok(accepted) => {
                // Before the call leaves, a later run has to know that it may have left.
                accepted.synced().await.map_err(|error| Interruption::from(error.cause))?;
                Ok(NextStep::Send)
            }
            Err(AppendError::Refused(Refusal::KeyTaken { .. } | Refusal::KeyReused { .. })) => {
                let mut waits = Waits::new(&self.shared.options);
                let until = tokio::time::Instant::now() + self.entry.options.unknown_after;
                while tokio::time::Instant::now() < until {
                    if self.is_settled().await? {
                        return Ok(NextStep::Settled);
                    }
                    waits.wait().await;
                }
                if self.is_settled().await? {
                    return Ok(NextStep::Settled);
                }
                let reason = "the program ended, or lost its connection, during the call";
                self.ask(claim, reason.to_owned()).await
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Asks the system outside about a call that may have been made.
    async fn ask(&self, claim: &mut u64, reason: String) -> Result<NextStep, Interruption> {
        let mut failures = 0;
        loop {
            let place = self.entry.place().await;
            let asked = self.within(self.entry.gateway.reconcile(self.body, self.key.name())).await;
            drop(place);
            match asked {
                Ok(Reconciliation::Done(answer)) => {
                    let of_answer = |reason| NextStep::Unknown(format!("it was sent: {reason}"));
                    return Ok(self.fitting(answer).map_or_else(of_answer, NextStep::Settle));
                }
                Ok(Reconciliation::NotDone) => {
                    // One program sends it again.
                    *claim += 1;
                    return Box::pin(self.claim(claim)).await;
                }
                Ok(Reconciliation::Unknown) => {
                    return Ok(NextStep::Unknown(format!("it may have been sent: {reason}")));
                }
                Err(CallFailure::Refused(rejection)) => {
                    return Ok(NextStep::Settle(ActionOutcome::Rejected(rejection)));
                }
                Err(CallFailure::NotSent { .. } | CallFailure::Unknown { .. }) => {
                    failures += 1;
                    if failures >= self.entry.options.attempts.max(1) {
                        let text =
                            format!("it may have been sent, and the gateway cannot tell: {reason}");
                        return Ok(NextStep::Unknown(text));
                    }
                    tokio::time::sleep(self.entry.wait(failures, None)).await;
                }
            }
        }
    }

    /// Lists the call for an operator. It is carried out as far as this program can.
    async fn list(&self, claim: u64, reason: String) -> Result<(), Interruption> {
        if self.is_settled().await? {
            return Ok(());
        }
        tracing::warn!(process = P::NAME, gateway = self.entry.name, reason, "a call is unknown");
        let reason = shortened(reason);
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
        match self.shared.reader.store().append(Append::event(event).key(key)).await {
            Ok(accepted) => {
                let synced = accepted.synced().await;
                synced.map(drop).map_err(|error| error.cause.into())
            }
            Err(AppendError::Refused(Refusal::KeyTaken { .. })) => Ok(()),
            Err(error) => Err(error.into()),
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

    /// Whether the trigger is older than the calls that the gateway sends.
    async fn is_withheld(&self) -> Result<bool, Interruption> {
        let from = match self.entry.from {
            CallsFrom::Beginning => return Ok(false),
            CallsFrom::Never => return Ok(true),
            CallsFrom::Instant(from) => from,
        };
        let at = self.work.record.trigger.position;
        let read = Read::after(at.before()).upto(at).limit(1);
        let batch = self.shared.reader.store().read(&Filter::everything(), read).await?;
        Ok(batch.get(0).is_some_and(|event| event.recorded_at() < from))
    }

    fn metadata(&self) -> Metadata {
        self.work.metadata.clone()
    }
}

/// Calls code of a gateway. A panic becomes a failure, so that other calls go on.
async fn caught_call<T>(
    call: impl Future<Output = Result<T, CallFailure>>,
) -> Result<T, CallFailure> {
    let mut call = pin!(call);
    poll_fn(|context| match caught(|| call.as_mut().poll(context)) {
        Ok(polled) => polled,
        Err(panic) => Poll::Ready(Err(CallFailure::Unknown { reason: panic })),
    })
    .await
}
