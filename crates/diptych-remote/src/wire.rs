//! The messages of the protocol, and their translation into the words of the store contract.
//!
//! A translation into a message cannot fail. A translation from a message checks everything,
//! because the peer may have another version, or lie.

mod codec;
mod encoded;
mod failure;
mod request;
#[cfg(test)]
mod samples;
mod stored;
#[cfg(test)]
mod tests;

pub use codec::{CheckedCodec, CheckedDecoder, CheckedEncoder, OutgoingMessage, WireMessage};
use diptych_store::{Epoch, LogId, LogIdentity};
pub use encoded::{BatchEnds, EncodedReply};
pub use failure::{
    FailureCause, as_append_error, as_read_error, failure_of, from_status, is_unknown_failure,
    status, unavailable_message, unavailable_of,
};
pub use request::{
    RequestError, append_of, call_of, filter_of, message_of_filter, read_of, read_request,
};
pub use stored::{
    batch_of, commits_of, event_of, identity_message, identity_of, keyed_commit_message,
    keyed_commit_of, limits_message, limits_of, message_of_event, read_commits_reply, read_reply,
    recorded_messages, tracking_message, tracking_of,
};
use uuid::Uuid;

/// The definition of the protocol, from which clients in other languages are generated.
pub const DEFINITION: &str = include_str!("../proto/diptych/v1/log.proto");
/// The definition of the service of feeds. It imports [`DEFINITION`].
pub const FEEDS_DEFINITION: &str = include_str!("../proto/diptych/v1/feeds.proto");
/// The header with the name of the log that a call is about.
pub const LOG_HEADER: &str = "diptych-log";
/// The header with the history that the client works with: the id of the log, a slash, and the
/// epoch as a number. A server with another history refuses the call.
pub const HISTORY_HEADER: &str = "diptych-history";

/// The text of a history in its header.
pub fn history_header(history: LogIdentity) -> String {
    format!("{}/{}", history.id, history.epoch.to_u64())
}

/// The history of a header, or `None` if the text is none.
pub fn history_of_header(text: &str) -> Option<LogIdentity> {
    let (id, epoch) = text.split_once('/')?;
    let id = LogId::from_bytes(Uuid::try_parse(id).ok()?.into_bytes());
    Some(LogIdentity { id, epoch: Epoch::from_u64(epoch.parse().ok()?) })
}

/// The generated messages, with the services and their clients.
#[allow(missing_docs, clippy::all, clippy::pedantic, unreachable_pub)]
pub mod messages {
    include!("generated.in");
}

/// A message of the peer that has no meaning.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the peer sent a message that cannot be used: {what}; compare the versions of client and server"
)]
pub struct MessageError {
    what: &'static str,
}

impl MessageError {
    /// The error for a message with this mistake.
    pub fn new(what: &'static str) -> MessageError {
        MessageError { what }
    }
}
