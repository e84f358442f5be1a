//! Questions to systems outside whose answers a decision needs.
//!
//! The answer is recorded under a key of the caller before the decision uses it. So a repetition
//! of the decision gets the answer of the first time, and nothing is asked again.

use std::{any::type_name, sync::Arc};

use diptych_store::{
    Append, AppendError, Digest, Filter, Key, Position, RawEvent, ReadError, Refusal, Store,
    Timestamp,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    command::outside_key,
    entry::{GatewayEntry, Gateways},
    gateway::{CallFailure, Gateway},
    stored::{decode, prefixed},
    worklist::only,
};
use crate::event::{Codec, Json, SchemaError};

const ANSWERED: &str = "diptych:outside-answered";

/// An answer of a system outside that the log has.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct OutsideAnswer<A> {
    /// The answer.
    pub answer: A,
    /// The position at which it is recorded.
    pub position: Position,
    /// When it was recorded.
    pub recorded_at: Timestamp,
}

/// Why there is no answer.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AskError {
    /// The app has no such gateway, or one of another type.
    #[error("the app has no gateway {name:?} of the type {wanted}: add it to the builder")]
    NoSuchGateway {
        /// The name.
        name: String,
        /// The wanted type.
        wanted: &'static str,
    },
    /// Another question was answered under this key. Nothing was asked.
    #[error(
        "the key {key:?} has the answer of {gateway:?} to another question, at position {at}: give \
         each question a key of its own"
    )]
    AnotherQuestion {
        /// The name of the gateway.
        gateway: String,
        /// The key.
        key: String,
        /// The position of the recorded answer.
        at: Position,
    },
    /// The system outside gave no answer. Nothing is recorded, and it may be asked again.
    #[error("{gateway:?} gave no answer: {failure:?}; ask again with the same key")]
    NoAnswer {
        /// The name of the gateway.
        gateway: String,
        /// The reason.
        failure: CallFailure,
    },
    /// The question or the answer cannot be written or read as the type of this program.
    #[error("the question or the answer of {gateway:?} does not fit its type: {reason}")]
    Malformed {
        /// The name of the gateway.
        gateway: String,
        /// The reason.
        reason: String,
    },
    /// The log cannot be read.
    #[error("the answers in the log cannot be read: {0}")]
    Read(#[from] ReadError),
    /// The answer cannot be recorded, so it must not be used. A repetition may get another one.
    #[error("the answer cannot be recorded: {0}; ask again with the same key")]
    Append(#[source] Arc<AppendError>),
}

/// A system outside answered a question.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct AnswerRecord {
    gateway: String,
    key: String,
    question: Value,
    answer: Value,
}

/// The recorded answer to the question under this key. If there is none, the system outside is
/// asked, and its answer recorded.
///
/// # Errors
/// [`AskError`] if there is no answer, or the key belongs to another question.
pub(crate) async fn ask<G: Gateway>(
    store: &Store,
    gateways: &Gateways,
    name: &str,
    question: &G::Call,
    key: &str,
) -> Result<OutsideAnswer<G::Answer>, AskError> {
    let wanted = type_name::<G>();
    let entry = gateways.named(name).filter(|entry| entry.type_name == wanted);
    let missing = || AskError::NoSuchGateway { name: name.to_owned(), wanted };
    let asking = Asking { store, entry: entry.ok_or_else(missing)?, key };
    let body = serde_json::to_string(question).map_err(|error| asking.malformed(&error))?;
    let stored =
        Key::new(prefixed(format_args!("asked:{name}:{key}")), Digest::of(body.as_bytes()));
    store.fresh_head().await?;
    if let Some(recorded) = asking.recorded(&stored).await? {
        return asking.typed::<G>(recorded);
    }
    let answer = asking.send(&body, &stored).await?;
    let question = serde_json::from_str(&body).map_err(|error| asking.malformed(&error))?;
    let (gateway, key) = (name.to_owned(), key.to_owned());
    let record = AnswerRecord { gateway, key, question, answer };
    let payload = Json::encode(&record).map_err(|error| asking.malformed(&error))?;
    let append = Append::event(RawEvent::new(ANSWERED, payload)).key(stored.clone());
    let not_stored = |error| AskError::Append(Arc::new(error));
    match store.append(append).await {
        Ok(accepted) => {
            accepted.synced().await.map_err(|error| not_stored(error.into()))?;
        }
        // Another program recorded an answer first: that one counts.
        Err(AppendError::Refused(Refusal::KeyTaken { .. } | Refusal::KeyReused { .. })) => {}
        Err(error) => return Err(not_stored(error)),
    }
    store.fresh_head().await?;
    match asking.recorded(&stored).await? {
        Some(recorded) => asking.typed::<G>(recorded),
        None => Err(asking.malformed(&"the log has no answer under the key")),
    }
}

struct Asking<'a> {
    store: &'a Store,
    entry: &'a GatewayEntry,
    key: &'a str,
}

impl Asking<'_> {
    fn malformed(&self, reason: &dyn std::fmt::Display) -> AskError {
        AskError::Malformed { gateway: self.entry.name.clone(), reason: reason.to_string() }
    }

    async fn send(&self, body: &str, stored: &Key) -> Result<Value, AskError> {
        let lane = self.entry.gateway.lane(body);
        let outside = outside_key(self.store.identity().id, &stored.name);
        let _place = self.entry.place(lane.as_deref()).await;
        let sent = self.entry.send(body, &outside).await;
        let gateway = self.entry.name.clone();
        sent.map_err(|failure| AskError::NoAnswer { gateway, failure })
    }

    /// The answer that the log has under this key.
    async fn recorded(&self, key: &Key) -> Result<Option<OutsideAnswer<Value>>, AskError> {
        let Some(found) = self.store.keyed(&key.name).await? else { return Ok(None) };
        let position = found.last;
        if found.digest != key.digest {
            let (gateway, key) = (self.entry.name.clone(), self.key.to_owned());
            return Err(AskError::AnotherQuestion { gateway, key, at: position });
        }
        let batch = self.store.read(&Filter::everything(), only(position)).await?;
        let Some(event) = batch.get(0) else { return Ok(None) };
        let unreadable = |error: SchemaError| self.malformed(&error);
        let AnswerRecord { answer, .. } = decode(&event).map_err(unreadable)?;
        Ok(Some(OutsideAnswer { answer, position, recorded_at: event.recorded_at() }))
    }

    fn typed<G: Gateway>(
        &self,
        of: OutsideAnswer<Value>,
    ) -> Result<OutsideAnswer<G::Answer>, AskError> {
        let OutsideAnswer { answer, position, recorded_at } = of;
        let answer = serde_json::from_value(answer).map_err(|error| self.malformed(&error))?;
        Ok(OutsideAnswer { answer, position, recorded_at })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_keeps_its_stored_form() {
        let (gateway, key) = ("rates".to_owned(), "invoice-7".to_owned());
        let (question, answer) = ("USD".into(), "1.10".into());
        let record = AnswerRecord { gateway, key, question, answer };
        let stored = concat!(
            r#"{"gateway":"rates","key":"invoice-7","#,
            r#""question":"USD","answer":"1.10"}"#,
        );
        assert_eq!(serde_json::to_string(&record).unwrap(), stored);
        assert_eq!(serde_json::from_str::<AnswerRecord>(stored).unwrap(), record);
    }
}
