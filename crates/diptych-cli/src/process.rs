//! `diptych process`: what waits in the processes of a log, and the answers to it.

mod answer;
mod list;

use diptych::process::{LetterError, OperationError};
use diptych_store::AppendError;

use crate::{
    args::{ProcessArgs, ProcessCommand},
    exit::{Exit, Failure},
};

pub(crate) fn run(args: &ProcessArgs) -> Result<(), Failure> {
    match &args.command {
        ProcessCommand::List(args) => list::processes(args),
        ProcessCommand::Instances(args) => list::instances(args),
        ProcessCommand::Letters(args) => list::letters(args),
        ProcessCommand::Retry(args) => answer::retry(args),
        ProcessCommand::Skip(args) => answer::skip(args),
        ProcessCommand::Replace(args) => answer::replace(args),
        ProcessCommand::Calls(args) => list::calls(args),
        ProcessCommand::Answer(args) => answer::answer(args),
        ProcessCommand::Refuse(args) => answer::refuse(args),
        ProcessCommand::SendAgain(args) => answer::send_again(args),
        ProcessCommand::Timers(args) => list::timers(args),
    }
}

impl From<OperationError> for Failure {
    fn from(error: OperationError) -> Failure {
        match error {
            OperationError::Read(error) => error.into(),
            error => Failure::input(error.to_string()),
        }
    }
}

impl From<LetterError> for Failure {
    fn from(error: LetterError) -> Failure {
        let exit = match &error {
            LetterError::Answered { .. } => Exit::Refused,
            LetterError::Malformed(_) | LetterError::Append(AppendError::Invalid(_)) => Exit::Input,
            _ => Exit::Failed,
        };
        Failure::new(exit, error.to_string())
    }
}
