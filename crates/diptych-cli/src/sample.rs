//! `diptych sample`: a first look. It appends the events of a small library, reads some, and tails
//! the log.

use std::{
    env,
    io::{self, IsTerminal, Write},
};

use diptych_log::{Log, LogOptions};
use diptych_store::{Append, AppendError, EventStore, Filter, Key, Position, Read, Refusal, Tag};

use crate::{
    address::LogAddress,
    args::{Folder, LogPlace, SampleArgs},
    batches::{Batches, digest},
    exit::{Exit, Failure},
    folder, read, remote,
    table::counted,
    tail::{Begin, Tail},
};

const EVENTS: &str = include_str!("../samples/library.ndjson");
/// The idempotency key of the events. It has to change when the events do.
const KEY: &str = "sample-library-1";
const READ_EVENTS: usize = 5;
const TAIL_EVENTS: usize = 3;

pub(crate) fn run(args: &SampleArgs) -> Result<(), Failure> {
    let folder = Folder { dir: args.dir.clone(), wait: args.wait };
    let place = LogPlace { address: LogAddress::Folder(args.dir.clone()), wait: args.wait };
    let data = folder.dir.display();
    let program = env::args().next().unwrap_or_else(|| "diptych".to_owned());
    let filter = Filter::tag(Tag::new("member", "hana"));

    folder::with_log(&folder, &LogOptions::default(), |log| {
        say(&format!("A small library: {}", load(log)?));
        Ok(())
    })?;
    say(&format!("\n$ {program} read --data {data} --filter '{filter}' --limit {READ_EVENTS}"));
    read::print(&remote::open_to_read(&place)?, &filter, Read::all().limit(READ_EVENTS))?;

    say(&format!("\n$ {program} tail --data {data} --last {TAIL_EVENTS}"));
    let tail =
        Tail { place: &place, filter: Filter::everything(), begin: Begin::Last(TAIL_EVENTS) };
    if args.until_head || !io::stdout().is_terminal() {
        tail.print_once()?;
        say(&format!(
            "\nThe folder {data} is an ordinary log; {program} --help lists what else you can do."
        ));
        return Ok(());
    }
    say(&format!(
        "(it prints new events as they come; in another terminal in this folder, try\n  \
         echo '{{\"type\":\"noted\",\"tags\":[\"member:hana\"],\"data\":\"hello\"}}' | \
         {program} append --data {data})"
    ));
    tail.follow()
}

/// Prints a message to standard error, so that standard output is NDJSON and nothing else.
fn say(text: &str) {
    // Ignored: there is no other place to report that standard error is closed.
    let _ = writeln!(io::stderr(), "{text}");
}

/// Appends the events unless the log has them, and returns a text with their positions.
fn load(log: &Log) -> Result<String, Failure> {
    let limits = log.limits();
    let mut batches = Batches::new(EVENTS.as_bytes(), limits.clone(), limits.commit_events);
    let events = batches.first()?.events;
    let count = counted(events.len() as u64, "event");
    let key = Key::new(KEY, digest(&events, &limits)?);
    let place = |first: Position, last: Position| format!("positions {first} to {last}");
    match log.blocking().commit(Append::events(events).key(key)) {
        Ok(at) => Ok(format!("{count} appended in one commit, at {}", place(at.first, at.last))),
        Err(AppendError::Refused(Refusal::KeyTaken { first, last })) => {
            Ok(format!("{count}, there since an earlier run, at {}", place(first, last)))
        }
        Err(AppendError::Refused(refusal @ Refusal::KeyReused { .. })) => {
            let message = format!("{refusal}; take another folder with --data");
            Err(Failure::new(Exit::Refused, message))
        }
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use diptych_store::Limits;

    use super::*;

    #[test]
    fn the_events_fit_in_one_commit_and_have_several_types() {
        let limits = Limits::default();
        let mut batches = Batches::new(EVENTS.as_bytes(), limits.clone(), limits.commit_events);
        let events = batches.first().unwrap().events;
        assert!(!batches.has_more().unwrap());
        assert!((200..=1_000).contains(&events.len()), "{}", events.len());
        let types: BTreeSet<_> = events.iter().map(|event| &event.event_type).collect();
        assert!(types.len() >= 6, "{types:?}");
        let times = events.iter().map(|event| event.metadata.occurred_at.unwrap());
        assert!(times.is_sorted());
    }
}
