//! Commands by name, with their types erased.

use std::{
    any::{Any, TypeId, type_name},
    convert::Infallible,
    fmt,
    sync::Arc,
};

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::{
    decode::{DecodeError, decode_json},
    schemas::Describe,
};
use crate::{
    command::{Command, Execute, ExecuteError, ExecuteOptions, panel::LeftPanel},
    event::{Event, EventType},
    process::{ActionRejection, SendAction, SendFailure, SentCommand},
    request::BoxFuture,
    token::Receipt,
};

/// A command of an application, as declared.
#[derive(Clone)]
pub(super) struct CommandEntry {
    pub(super) name: String,
    pub(super) type_name: &'static str,
    pub(super) events: fn() -> Vec<EventType>,
    /// The Rust type of its rejection; `None` for a command that no rule rejects.
    pub(super) rejection_type: Option<&'static str>,
    /// The schemas of the command and of its rejection.
    pub(super) describe: Describe,
    id: TypeId,
    decode: DecodeCommand,
}

/// Reads a command from JSON.
type DecodeCommand = fn(&[u8]) -> Result<Box<dyn ErasedCommand>, DecodeError>;

impl CommandEntry {
    pub(super) fn new<C>(name: String, describe: Describe) -> CommandEntry
    where
        C: Command<Rejection: Serialize> + Serialize + DeserializeOwned,
    {
        let rejection_type = Some(type_name::<C::Rejection>());
        CommandEntry::with::<C>(name, describe, rejection_type, |json| {
            let rejection = |reason: &C::Rejection| serde_json::to_value(reason);
            Ok(Box::new(TypedCommand { command: decode_json::<C>(json)?, rejection }))
        })
    }

    pub(super) fn infallible<C>(name: String, describe: Describe) -> CommandEntry
    where
        C: Command<Rejection = Infallible> + Serialize + DeserializeOwned,
    {
        CommandEntry::with::<C>(name, describe, None, |json| {
            let rejection = |never: &Infallible| match *never {};
            Ok(Box::new(TypedCommand { command: decode_json::<C>(json)?, rejection }))
        })
    }

    fn with<C: Command>(
        name: String,
        describe: Describe,
        rejection_type: Option<&'static str>,
        decode: DecodeCommand,
    ) -> CommandEntry {
        let (type_name, id, events) = (type_name::<C>(), TypeId::of::<C>(), C::Event::types);
        CommandEntry { name, type_name, events, rejection_type, describe, id, decode }
    }
}

/// A command of a running app, found by its name in [`App::catalogue`](crate::App::catalogue).
#[derive(Clone)]
pub struct NamedCommand {
    pub(super) entry: Arc<CommandEntry>,
    pub(super) panel: Arc<LeftPanel>,
}

/// The rejection of a command that was executed by name.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{text}")]
#[non_exhaustive]
pub struct JsonRejection {
    /// The reason for people.
    pub text: String,
    /// The reason for programs: the typed rejection as JSON, or null if it cannot be written so.
    pub json: Value,
}

/// Why a command that was sent by name was not executed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NamedCommandError {
    /// The JSON is not a command of this name. Nothing was done.
    #[error("the command {command} cannot be read: {error}")]
    Malformed {
        /// The name of the command.
        command: String,
        /// The problem with the JSON.
        #[source]
        error: DecodeError,
    },
    /// The command was rejected, or failed.
    #[error(transparent)]
    Execute(#[from] ExecuteError<JsonRejection>),
}

impl NamedCommand {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.entry.name
    }

    /// Its Rust type.
    pub fn type_name(&self) -> &'static str {
        self.entry.type_name
    }

    /// Whether it is of this Rust type.
    pub fn is<C: Command>(&self) -> bool {
        self.entry.id == TypeId::of::<C>()
    }

    /// Reads the command from JSON.
    ///
    /// # Errors
    /// [`DecodeError`] if the JSON is not a command of this name.
    pub fn decode(&self, json: &[u8]) -> Result<AnyCommand, DecodeError> {
        Ok(AnyCommand { command: (self.entry.decode)(json)?, panel: self.panel.clone() })
    }

    /// Reads the command from JSON, and executes it with these options.
    ///
    /// # Errors
    /// [`NamedCommandError`] if the JSON is not a command of this name, or as of
    /// [`App::execute`](crate::App::execute).
    pub async fn execute(
        &self,
        json: &[u8],
        options: &ExecuteOptions,
    ) -> Result<Receipt, NamedCommandError> {
        let command = self.decode(json).map_err(|error| {
            let command = self.entry.name.clone();
            NamedCommandError::Malformed { command, error }
        })?;
        Ok(command.execute(options).await?)
    }
}

impl fmt::Debug for NamedCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let CommandEntry { name, type_name, .. } = &*self.entry;
        f.debug_struct("NamedCommand")
            .field("name", name)
            .field("type_name", type_name)
            .finish_non_exhaustive()
    }
}

/// A command that was read by name. It is ready to be executed, and its type is known only to the
/// catalogue.
pub struct AnyCommand {
    command: Box<dyn ErasedCommand>,
    panel: Arc<LeftPanel>,
}

impl AnyCommand {
    /// The command as this type, if it is one.
    pub fn downcast_ref<C: Command>(&self) -> Option<&C> {
        self.command.command().downcast_ref()
    }

    /// The command as this type, or `None` if it is of another type.
    pub fn downcast<C: Command>(self) -> Option<C> {
        let command = self.command.into_command().downcast().ok()?;
        Some(*command)
    }

    /// Executes the command with these options, as [`App::execute`](crate::App::execute) does.
    ///
    /// # Errors
    /// [`ExecuteError`] with the rejection as JSON.
    pub async fn execute(
        self,
        options: &ExecuteOptions,
    ) -> Result<Receipt, ExecuteError<JsonRejection>> {
        let AnyCommand { command, panel } = self;
        command.execute(panel, options).await
    }

    /// Executes the command as an action of a process.
    pub(super) fn send(self, action: SendAction) -> BoxFuture<Result<SentCommand, SendFailure>> {
        let AnyCommand { command, panel } = self;
        command.send(panel, action)
    }
}

impl fmt::Debug for AnyCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AnyCommand").field(&self.command.type_name()).finish()
    }
}

/// A command whose type is erased.
trait ErasedCommand: Send + Sync {
    fn type_name(&self) -> &'static str;

    fn command(&self) -> &dyn Any;

    fn into_command(self: Box<Self>) -> Box<dyn Any>;

    fn execute(
        self: Box<Self>,
        panel: Arc<LeftPanel>,
        options: &ExecuteOptions,
    ) -> BoxFuture<Result<Receipt, ExecuteError<JsonRejection>>>;

    /// Executes the command as an action of a process.
    fn send(
        self: Box<Self>,
        panel: Arc<LeftPanel>,
        action: SendAction,
    ) -> BoxFuture<Result<SentCommand, SendFailure>>;
}

struct TypedCommand<C: Command> {
    command: C,
    /// Writes the reason of the rule as JSON.
    rejection: fn(&C::Rejection) -> serde_json::Result<Value>,
}

impl<C: Command + Serialize> ErasedCommand for TypedCommand<C> {
    fn type_name(&self) -> &'static str {
        type_name::<C>()
    }

    fn command(&self) -> &dyn Any {
        &self.command
    }

    fn into_command(self: Box<Self>) -> Box<dyn Any> {
        Box::new(self.command)
    }

    fn execute(
        self: Box<Self>,
        panel: Arc<LeftPanel>,
        options: &ExecuteOptions,
    ) -> BoxFuture<Result<Receipt, ExecuteError<JsonRejection>>> {
        let TypedCommand { command, rejection } = *self;
        let execute = Execute::new(panel, None, command).options(options);
        Box::pin(async move {
            execute.await.map_err(|error| match error {
                ExecuteError::Rejected(reason) => ExecuteError::Rejected(JsonRejection {
                    text: reason.to_string(),
                    json: rejection(&reason).unwrap_or_default(),
                }),
                ExecuteError::Failed(error) => ExecuteError::Failed(error),
            })
        })
    }

    fn send(
        self: Box<Self>,
        panel: Arc<LeftPanel>,
        action: SendAction,
    ) -> BoxFuture<Result<SentCommand, SendFailure>> {
        let TypedCommand { command, rejection } = *self;
        let execute = Execute::new(panel, None, command).of_process(action.key, action.metadata);
        Box::pin(async move {
            match execute.await {
                Ok(receipt) if receipt.is_empty() => Ok(SentCommand::NothingToDo),
                Ok(_) => Ok(SentCommand::Committed),
                Err(ExecuteError::Rejected(reason)) => {
                    let json = rejection(&reason).unwrap_or_default();
                    let rejection = ActionRejection::new(reason.to_string(), json);
                    Err(SendFailure::Rejected(rejection))
                }
                Err(ExecuteError::Failed(error)) => Err(SendFailure::Failed(error)),
            }
        })
    }
}
