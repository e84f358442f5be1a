//! The lists of `diptych process`.

use std::io::{self, Write};

use diptych::process::{ParkedLetter, ProcessOperations, WaitingCall};
use diptych_store::{RawEvent, Timestamp};
use serde_json::{Value, json};

use crate::{
    args::{ItemsArgs, ListArgs, RowsArgs},
    exit::Failure,
    ndjson::write_json,
    remote,
    table::{columns, count, counted, facts, printable},
};

pub(super) fn processes(args: &ListArgs) -> Result<(), Failure> {
    let processes = pollster::block_on(operations(args)?.processes())?;
    let mut out = io::stdout().lock();
    if args.json {
        return Ok(write_json(&json!({ "processes": processes }), &mut out)?);
    }
    let row = |process: &diptych::process::KnownProcess| {
        vec![
            process.name.clone(),
            process.tag.clone(),
            count(process.position.get()),
            process.types.join(" "),
        ]
    };
    let rows: Vec<_> = processes.iter().map(row).collect();
    Ok(columns(&mut out, &["process", "tag", "reacted up to", "events"], &rows, "process")?)
}

pub(super) fn instances(args: &RowsArgs) -> Result<(), Failure> {
    let operations = operations(&args.list)?;
    let found = operations.instances(args.process.as_deref(), args.limit);
    let instances = pollster::block_on(found)?;
    let mut out = io::stdout().lock();
    if args.list.json {
        return Ok(write_json(&json!({ "instances": instances }), &mut out)?);
    }
    let row = |instance: &diptych::process::ProcessInstance| {
        let state = match (instance.is_parked, instance.is_ended) {
            (true, _) => "parked",
            (false, true) => "ended",
            (false, false) => "under way",
        };
        vec![
            instance.process.clone(),
            instance.instance.clone(),
            state.to_owned(),
            instance.position.to_string(),
            instance.at.to_string(),
        ]
    };
    let rows: Vec<_> = instances.iter().map(row).collect();
    let heading = ["process", "instance", "state", "position", "at"];
    Ok(columns(&mut out, &heading, &rows, "instance")?)
}

pub(super) fn letters(args: &ItemsArgs) -> Result<(), Failure> {
    let ItemsArgs { position, rows: RowsArgs { list, process, limit } } = args;
    let operations = operations(list)?;
    let mut letters = pollster::block_on(operations.letters(process.as_deref()))?;
    let mut out = io::stdout().lock();
    if let Some(at) = position {
        let found = letters.iter().find(|letter| letter.parked_at == *at);
        let letter = found.ok_or_else(|| no_letter(*at))?;
        let trigger = pollster::block_on(operations.trigger(letter))?;
        return Ok(show_letter(letter, trigger.as_ref(), list.json, &mut out)?);
    }
    let all = letters.len();
    letters.truncate(*limit);
    if list.json {
        return Ok(write_json(&json!({ "letters": letters, "count": all }), &mut out)?);
    }
    let row = |letter: &ParkedLetter| {
        vec![
            letter.parked_at.to_string(),
            letter.process.clone(),
            letter.instance.clone(),
            letter.position.to_string(),
            letter.since.to_string(),
            letter.reason.clone(),
        ]
    };
    let rows: Vec<_> = letters.iter().map(row).collect();
    let heading = ["letter", "process", "instance", "event", "since", "reason"];
    columns(&mut out, &heading, &rows, "parked letter")?;
    Ok(left_out(&mut out, all - rows.len())?)
}

fn show_letter(
    letter: &ParkedLetter,
    trigger: Option<&RawEvent>,
    as_json: bool,
    out: &mut impl Write,
) -> io::Result<()> {
    let event = trigger.map(event);
    if as_json {
        return write_json(&json!({ "letter": letter, "event": event }), out);
    }
    let event = event.map_or_else(|| "unknown".to_owned(), |event| event.to_string());
    facts(
        out,
        &[
            ("letter", letter.parked_at.to_string()),
            ("process", letter.process.clone()),
            ("instance", printable(&letter.instance)),
            ("since", letter.since.to_string()),
            ("reason", printable(&letter.reason)),
            ("position of the event", letter.position.to_string()),
            ("event", event),
        ],
    )
}

/// An event as it is stored.
fn event(event: &RawEvent) -> Value {
    let data = serde_json::from_slice::<Value>(&event.payload);
    json!({
        "type": event.event_type,
        "version": event.version,
        "tags": event.tags.iter().map(|tag| tag.as_str()).collect::<Vec<_>>(),
        "data": data.unwrap_or_else(|_| Value::from(String::from_utf8_lossy(&event.payload))),
    })
}

pub(super) fn calls(args: &ItemsArgs) -> Result<(), Failure> {
    let ItemsArgs { position, rows: RowsArgs { list, process, limit } } = args;
    let operations = operations(list)?;
    let mut calls = pollster::block_on(operations.waiting_calls(process.as_deref()))?;
    let mut out = io::stdout().lock();
    if let Some(at) = position {
        let found = calls.iter().find(|call| call.listed_at == *at);
        let call = found.ok_or_else(|| no_call(*at))?;
        return Ok(show_call(call, list.json, &mut out)?);
    }
    let all = calls.len();
    calls.truncate(*limit);
    if list.json {
        return Ok(write_json(&json!({ "calls": calls, "count": all }), &mut out)?);
    }
    let row = |call: &WaitingCall| {
        vec![
            call.listed_at.to_string(),
            call.process.clone(),
            call.instance.clone(),
            call.gateway.clone(),
            call.since.to_string(),
            call.reason.clone(),
        ]
    };
    let rows: Vec<_> = calls.iter().map(row).collect();
    let heading = ["call", "process", "instance", "gateway", "since", "reason"];
    columns(&mut out, &heading, &rows, "waiting call")?;
    Ok(left_out(&mut out, all - rows.len())?)
}

fn show_call(call: &WaitingCall, as_json: bool, out: &mut impl Write) -> io::Result<()> {
    if as_json {
        return write_json(&json!({ "call": call }), out);
    }
    facts(
        out,
        &[
            ("call", call.listed_at.to_string()),
            ("process", call.process.clone()),
            ("instance", printable(&call.instance)),
            ("gateway", call.gateway.clone()),
            ("since", call.since.to_string()),
            ("reason", printable(&call.reason)),
            ("key", call.key.clone()),
            ("body", printable(&call.call)),
        ],
    )
}

pub(super) fn timers(args: &RowsArgs) -> Result<(), Failure> {
    let operations = operations(&args.list)?;
    let found = operations.timers(args.process.as_deref(), args.limit);
    let (timers, all) = pollster::block_on(found)?;
    let mut out = io::stdout().lock();
    if args.list.json {
        return Ok(write_json(&json!({ "timers": timers, "count": all }), &mut out)?);
    }
    let now = Timestamp::now();
    let row = |timer: &diptych::process::WaitingTimer| {
        let state = if timer.due <= now { "late" } else { "to come" };
        vec![
            timer.due.to_string(),
            state.to_owned(),
            timer.process.clone(),
            timer.instance.clone(),
            timer.timer.clone(),
            timer.set_at.to_string(),
        ]
    };
    let rows: Vec<_> = timers.iter().map(row).collect();
    let heading = ["due", "state", "process", "instance", "timer", "set at"];
    columns(&mut out, &heading, &rows, "pending timer")?;
    Ok(left_out(&mut out, all - rows.len())?)
}

fn left_out(out: &mut impl Write, rows: usize) -> io::Result<()> {
    match rows {
        0 => Ok(()),
        rows => writeln!(out, "… and {}: use --limit", counted(rows as u64, "more row")),
    }
}

pub(super) fn no_letter(at: diptych_store::Position) -> Failure {
    Failure::input(format!(
        "no letter waits at position {at}: list them with `diptych process letters`"
    ))
}

pub(super) fn no_call(at: diptych_store::Position) -> Failure {
    Failure::input(format!(
        "no call waits at position {at}: list them with `diptych process calls`"
    ))
}

/// The processes of a log that is opened for reading.
fn operations(args: &ListArgs) -> Result<ProcessOperations, Failure> {
    Ok(ProcessOperations::over(remote::open_to_read(&args.place)?))
}
