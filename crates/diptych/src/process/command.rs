//! The commands of an app by name, as a process needs them.

use diptych_store::{Digest, Key, LogId, Metadata};

use super::{
    stored::{InstanceId, prefixed},
    trigger::ActionRejection,
};
use crate::{command::error::CommandError, request::BoxFuture};

/// The commands of an app, by their names in its catalogue.
pub(crate) trait CommandsByName: Send + Sync {
    /// Reads a command from JSON.
    ///
    /// # Errors
    /// The reason why there is no such command, or why the JSON is not one.
    fn prepare(&self, name: &str, json: &str) -> Result<PreparedCommand, String>;
}

/// A command that is ready to be sent.
pub(crate) type PreparedCommand =
    Box<dyn FnOnce(SendAction) -> BoxFuture<Result<SentCommand, SendFailure>> + Send>;

/// The key and the metadata of a command that a process sends.
pub(crate) struct SendAction {
    pub(crate) key: Key,
    pub(crate) metadata: Metadata,
}

/// The outcome of a command.
pub(crate) enum SentCommand {
    /// Its events are in the log.
    Committed,
    NothingToDo,
}

/// Why a command wrote no events.
pub(crate) enum SendFailure {
    Rejected(ActionRejection),
    Failed(CommandError),
}

/// The key under which a system outside knows what this log knows under `name`.
pub(super) fn outside_key(log: LogId, name: &str) -> String {
    format!("diptych-{}", Digest::of(format!("{log}\n{name}").as_bytes()))
}

/// The key of an action. The events of its command are committed under it, or else the event that
/// tells why there are none. So an action has exactly one outcome, whatever sends it.
pub(crate) struct ActionKey(String);

impl ActionKey {
    /// The action with this number, of a reaction to this part of the event at `position`.
    pub(super) fn new(of: &InstanceId, position: u64, part: u32, action: u32) -> ActionKey {
        let text = format!("{position}\n{part}\n{action}\n{}", of.instance);
        let digest = Digest::of(text.as_bytes());
        ActionKey(prefixed(format_args!("process:{}:{digest}", of.process)))
    }

    pub(super) fn name(&self) -> &str {
        &self.0
    }

    /// The key under which a system outside knows the call. It differs between logs, because their
    /// positions are alike.
    pub(super) fn outside(&self, log: LogId) -> String {
        outside_key(log, &self.0)
    }

    /// The key of the command's own events.
    pub(super) fn of_command(&self) -> Key {
        Key::new(&self.0, Digest::of(b"committed"))
    }

    /// The key of the event that tells why the command wrote none, or the answer of the call.
    pub(super) fn of_settled(&self) -> Key {
        Key::new(&self.0, ActionKey::settled_digest())
    }

    pub(super) fn settled_digest() -> Digest {
        Digest::of(b"settled")
    }

    /// The name of the key under which a program claims the call.
    pub(super) fn claim(&self, number: u64) -> String {
        format!("{}:started:{number}", self.0)
    }

    /// The name of the key under which the call is listed for an operator.
    pub(super) fn unknown(&self, number: u64) -> String {
        format!("{}:unknown:{number}", self.0)
    }
}
