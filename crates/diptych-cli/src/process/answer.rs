//! The answers of `diptych process`.

use diptych::process::{
    Action, ActionRejection, CallAnswer, LetterAnswer, ProcessOperations, Reactions,
};
use diptych_store::Position;
use serde_json::Value;

use super::list::{no_call, no_letter};
use crate::{
    answers,
    args::{AnswerArgs, CallAnswerArgs, RefuseArgs, ReplaceArgs},
    exit::Failure,
};

pub(super) fn retry(args: &AnswerArgs) -> Result<(), Failure> {
    letter(args, LetterAnswer::Retry)
}

pub(super) fn skip(args: &AnswerArgs) -> Result<(), Failure> {
    letter(args, LetterAnswer::Skip)
}

pub(super) fn replace(args: &ReplaceArgs) -> Result<(), Failure> {
    let (text, file) = (answers::read(&args.actions)?, args.actions.display());
    let actions: Vec<Action> = serde_json::from_str(&text).map_err(|error| {
        Failure::input(format!(
            "the actions in {file} cannot be read: {error}; give a JSON list of actions, such as \
             [{{\"send\": {{\"command\": \"cancel-order\", \"body\": {{}}}}}}]"
        ))
    })?;
    letter(&args.answer, LetterAnswer::Replace(Reactions::of(actions)))
}

pub(super) fn answer(args: &CallAnswerArgs) -> Result<(), Failure> {
    let answer = parse("--answer", &args.json_answer)?;
    call(&args.answer, CallAnswer::Answered(answer))
}

pub(super) fn refuse(args: &RefuseArgs) -> Result<(), Failure> {
    let detail = parse("--detail", &args.detail)?;
    call(&args.answer, CallAnswer::Refused(ActionRejection::new(&args.text, detail)))
}

pub(super) fn send_again(args: &AnswerArgs) -> Result<(), Failure> {
    call(args, CallAnswer::SendAgain)
}

fn letter(args: &AnswerArgs, given: LetterAnswer) -> Result<(), Failure> {
    with_operations(args, |operations| {
        let letters = pollster::block_on(operations.letters(None))?;
        let found = letters.into_iter().find(|letter| letter.parked_at == args.position);
        let letter = found.ok_or_else(|| no_letter(args.position))?;
        Ok(pollster::block_on(operations.answer(&letter, given, &args.who, &args.why))?)
    })
}

fn call(args: &AnswerArgs, given: CallAnswer) -> Result<(), Failure> {
    with_operations(args, |operations| {
        let calls = pollster::block_on(operations.waiting_calls(None))?;
        let found = calls.into_iter().find(|call| call.listed_at == args.position);
        let call = found.ok_or_else(|| no_call(args.position))?;
        Ok(pollster::block_on(operations.answer_call(&call, given, &args.who, &args.why))?)
    })
}

/// Stores an answer in a log that exists, and prints its position.
fn with_operations(
    args: &AnswerArgs,
    answer: impl FnOnce(&ProcessOperations) -> Result<Position, Failure>,
) -> Result<(), Failure> {
    answers::store(args, |store| answer(&ProcessOperations::over(store)))
}

fn parse(option: &str, text: &str) -> Result<Value, Failure> {
    serde_json::from_str(text)
        .map_err(|error| Failure::input(format!("{option} is no JSON: {error}")))
}
