//! `diptych read`: prints events in either direction, as NDJSON.

use std::io::{self, BufWriter, Write};

use diptych_store::{Batch, Direction, Filter, Read, Store};

use crate::{args::ReadArgs, exit::Failure, ndjson, remote};

pub(crate) fn run(args: &ReadArgs) -> Result<(), Failure> {
    let log = remote::open_to_read(&args.place)?;
    let direction = if args.backwards { Direction::Backwards } else { Direction::Forwards };
    let mut read = Read::after(args.after).limit(args.limit.unwrap_or(usize::MAX));
    read.direction = direction;
    print(&log, &args.which.filter(), read)
}

/// Prints all events of a read, which may take several batches.
pub(crate) fn print(log: &Store, filter: &Filter, read: Read) -> Result<(), Failure> {
    each_batch(log, filter, read, print_batch)
}

/// Prints the events of one batch and flushes, so that the reader of the output sees them at once.
pub(crate) fn print_batch(batch: &Batch) -> Result<(), Failure> {
    let mut out = output();
    for event in batch.iter() {
        ndjson::write(&event, &mut out)?;
    }
    Ok(out.flush()?)
}

/// Standard output with a large buffer, for many lines.
pub(crate) fn output() -> impl Write {
    BufWriter::with_capacity(64 << 10, io::stdout().lock())
}

/// Passes the batches of a read to `take`, one after another, up to the head or the limit of the
/// read.
pub(crate) fn each_batch(
    log: &Store,
    filter: &Filter,
    mut read: Read,
    mut take: impl FnMut(&Batch) -> Result<(), Failure>,
) -> Result<(), Failure> {
    // Events that another process appends meanwhile are not printed.
    read.upto = read.upto.min(pollster::block_on(log.known_head())?);
    loop {
        let batch = pollster::block_on(log.read(filter, read.clone()))?;
        take(&batch)?;
        read.limit = read.limit.saturating_sub(batch.len());
        match read.direction {
            Direction::Forwards => read.after = batch.upto(),
            Direction::Backwards => read.upto = batch.upto().before(),
        }
        if read.limit == 0 || read.after >= read.upto {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use diptych_log::{Log, LogOptions, ReadOnlyLog};
    use diptych_store::{Append, Limits, Position, RawEvent};

    use super::*;

    /// A log of twenty events whose batches have at most three events.
    fn with_log(test: impl FnOnce(&Store)) {
        let dir = tempfile::tempdir().unwrap();
        let mut limits = Limits::default();
        limits.batch_events = 3;
        let options = LogOptions { limits, ..LogOptions::default() };
        let log = Log::open(dir.path(), options.clone()).unwrap();
        let kinds = ["even", "odd"];
        let events = (0..20_usize).map(|n| RawEvent::new(kinds[n % 2], b"1"));
        log.blocking().commit(Append::events(events)).unwrap();
        test(&Store::new(ReadOnlyLog::open(dir.path(), options).unwrap()));
        log.close().unwrap();
    }

    fn positions(log: &Store, filter: &str, read: Read) -> Vec<u64> {
        let mut positions = Vec::new();
        let take = |batch: &Batch| {
            positions.extend(batch.iter().map(|event| event.position().get()));
            Ok(())
        };
        each_batch(log, &filter.parse().unwrap(), read, take).unwrap();
        positions
    }

    #[test]
    fn batches_of_a_read_add_up_in_both_directions() {
        with_log(|log| {
            let forwards: Vec<u64> = (1..=20).collect();
            let backwards: Vec<u64> = (1..=20).rev().collect();
            assert_eq!(positions(log, "*", Read::all()), forwards);
            assert_eq!(positions(log, "*", Read::backwards()), backwards);
            assert_eq!(positions(log, "type=odd", Read::all()).len(), 10);
            assert!(positions(log, "type=none", Read::backwards()).is_empty());
        });
    }

    #[test]
    fn both_bounds_and_the_limit_hold_in_both_directions() {
        with_log(|log| {
            let read = Read::after(Position::new(4)).upto(Position::new(15));
            assert_eq!(positions(log, "type=even", read), [5, 7, 9, 11, 13, 15]);
            let mut read = Read::backwards().limit(4);
            read.after = Position::new(14);
            assert_eq!(positions(log, "type=odd", read), [20, 18, 16]);
            assert_eq!(positions(log, "*", Read::all().limit(5)), [1, 2, 3, 4, 5]);
            assert!(positions(log, "*", Read::all().limit(0)).is_empty());
        });
    }
}
