//! `diptych intake`: the intakes of a log, what waits in them, and the answers to it.

use std::io::{self, Write};

use diptych::collaboration::{
    IntakeAnswer, IntakeAnswerError, IntakeOperationError, IntakeOperations, KnownIntake,
    ParkedForeignEvent,
};
use diptych_store::{AppendError, Position};
use serde_json::{Value, json};

use crate::{
    answers,
    args::{AnswerArgs, IntakeArgs, IntakeCommand, ListArgs, ParkedArgs, PayloadArgs},
    exit::{Exit, Failure},
    ndjson::write_json,
    remote,
    table::{columns, count, counted, facts, printable},
};

pub(crate) fn run(args: &IntakeArgs) -> Result<(), Failure> {
    match &args.command {
        IntakeCommand::List(args) => list(args),
        IntakeCommand::Letters(args) => letters(args),
        IntakeCommand::Retry(args) => answer(args, IntakeAnswer::Retry),
        IntakeCommand::Skip(args) => answer(args, IntakeAnswer::Skip),
        IntakeCommand::Replace(args) => replace(args),
    }
}

fn list(args: &ListArgs) -> Result<(), Failure> {
    let intakes = pollster::block_on(operations(args)?.intakes())?;
    let mut out = io::stdout().lock();
    if args.json {
        return Ok(write_json(&json!({ "intakes": intakes }), &mut out)?);
    }
    let row = |intake: &KnownIntake| {
        vec![
            intake.name.clone(),
            intake.source.clone(),
            count(intake.position.get()),
            intake.types.join(" "),
        ]
    };
    let rows: Vec<_> = intakes.iter().map(row).collect();
    Ok(columns(&mut out, &["intake", "source", "taken up to", "events"], &rows, "intake")?)
}

fn letters(args: &ParkedArgs) -> Result<(), Failure> {
    let ParkedArgs { position, list, intake, limit } = args;
    let mut letters = pollster::block_on(operations(list)?.letters(intake.as_deref()))?;
    let mut out = io::stdout().lock();
    if let Some(at) = position {
        let found = letters.iter().find(|letter| letter.parked_at == *at);
        return Ok(show(found.ok_or_else(|| no_letter(*at))?, list.json, &mut out)?);
    }
    let all = letters.len();
    letters.truncate(*limit);
    if list.json {
        return Ok(write_json(&json!({ "letters": letters, "count": all }), &mut out)?);
    }
    let row = |letter: &ParkedForeignEvent| {
        vec![
            letter.parked_at.to_string(),
            letter.intake.clone(),
            letter.subject.clone(),
            letter.event.as_ref().map(|event| event.event_type.clone()).unwrap_or_default(),
            count(letter.waiting as u64),
            letter.since.to_string(),
            letter.reason.clone(),
        ]
    };
    let rows: Vec<_> = letters.iter().map(row).collect();
    let heading = ["letter", "intake", "subject", "event", "behind it", "since", "reason"];
    columns(&mut out, &heading, &rows, "parked event")?;
    match all - rows.len() {
        0 => Ok(()),
        more => Ok(writeln!(out, "… and {}: use --limit", counted(more as u64, "more row"))?),
    }
}

fn show(letter: &ParkedForeignEvent, as_json: bool, out: &mut impl Write) -> io::Result<()> {
    if as_json {
        return write_json(&json!({ "letter": letter }), out);
    }
    let mut shown = vec![
        ("letter", letter.parked_at.to_string()),
        ("intake", letter.intake.clone()),
        ("subject", printable(&letter.subject)),
        ("since", letter.since.to_string()),
        ("reason", printable(&letter.reason)),
        ("events behind it", count(letter.waiting as u64)),
    ];
    if let Some(event) = &letter.event {
        shown.extend([
            ("event", printable(&event.event_type)),
            ("feed", printable(&event.source)),
            ("place in the feed", printable(&event.id)),
            ("payload", printable(event.data.get())),
        ]);
    }
    facts(out, &shown)
}

fn replace(args: &PayloadArgs) -> Result<(), Failure> {
    let (text, file) = (answers::read(&args.payload)?, args.payload.display());
    let payload: Value = serde_json::from_str(&text)
        .map_err(|error| Failure::input(format!("the payload in {file} is no JSON: {error}")))?;
    answer(&args.answer, IntakeAnswer::Replace(payload))
}

fn answer(args: &AnswerArgs, given: IntakeAnswer) -> Result<(), Failure> {
    answers::store(args, |store| {
        let operations = IntakeOperations::over(store);
        let letters = pollster::block_on(operations.letters(None))?;
        let found = letters.into_iter().find(|letter| letter.parked_at == args.position);
        let letter = found.ok_or_else(|| no_letter(args.position))?;
        Ok(pollster::block_on(operations.answer(&letter, given, &args.who, &args.why))?)
    })
}

fn no_letter(at: Position) -> Failure {
    Failure::input(format!(
        "no event is parked at position {at}: list them with `diptych intake letters`"
    ))
}

/// The intakes of a log that is opened for reading.
fn operations(args: &ListArgs) -> Result<IntakeOperations, Failure> {
    Ok(IntakeOperations::over(remote::open_to_read(&args.place)?))
}

impl From<IntakeOperationError> for Failure {
    fn from(error: IntakeOperationError) -> Failure {
        match error {
            IntakeOperationError::Read(error) => error.into(),
            error => Failure::input(error.to_string()),
        }
    }
}

impl From<IntakeAnswerError> for Failure {
    fn from(error: IntakeAnswerError) -> Failure {
        let exit = match &error {
            IntakeAnswerError::Answered { .. } => Exit::Refused,
            IntakeAnswerError::Author
            | IntakeAnswerError::Unreadable { .. }
            | IntakeAnswerError::Malformed(_)
            | IntakeAnswerError::Append(AppendError::Invalid(_)) => Exit::Input,
            _ => Exit::Failed,
        };
        Failure::new(exit, error.to_string())
    }
}
