//! The answers of operators: they are events in a log that exists.

use std::{
    fs,
    io::{self, Read, Write},
    path::Path,
};

use diptych_log::LogOptions;
use diptych_store::{Position, Store};
use serde_json::json;

use crate::{
    address::LogAddress,
    args::{AnswerArgs, Folder},
    exit::{Exit, Failure},
    folder::{must_exist, with_log},
    ndjson::write_json,
    remote,
};

/// Stores an answer in a log that exists, and prints its position.
pub(crate) fn store(
    args: &AnswerArgs,
    answer: impl FnOnce(Store) -> Result<Position, Failure>,
) -> Result<(), Failure> {
    let place = &args.list.place;
    let answered_at = match &place.address {
        LogAddress::Folder(dir) => {
            let folder = Folder { dir: dir.clone(), wait: place.wait };
            must_exist(&folder)?;
            let opened =
                with_log(&folder, &LogOptions::default(), |log| answer(Store::new(log.clone())));
            opened.map_err(|failure| match &failure {
                Failure::Stopped { exit: Exit::Held, .. } => failure.and(
                    "to answer while an application runs, use its HTTP routes \
                     (`Server::process_operations`)",
                ),
                _ => failure,
            })?
        }
        LogAddress::Remote(address) => answer(remote::connect_to_read(address, place.wait)?)?,
    };
    let mut out = io::stdout().lock();
    if args.list.json {
        return Ok(write_json(&json!({ "answered_at": answered_at.get() }), &mut out)?);
    }
    Ok(writeln!(out, "answered at position {answered_at}")?)
}

/// The text of a file, or of standard input.
pub(crate) fn read(file: &Path) -> Result<String, Failure> {
    let mut text = String::new();
    let read = match file == Path::new("-") {
        true => io::stdin().lock().read_to_string(&mut text).map(drop),
        false => fs::read_to_string(file).map(|read| text = read),
    };
    read.map_err(|error| Failure::input(format!("cannot read {}: {error}", file.display())))?;
    Ok(text)
}
