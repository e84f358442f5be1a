//! Gathers lines of input into commits within the limits of the store.

use std::io::BufRead;

use diptych_store::{
    Digest, InvalidRequest, Limits, RawEvent,
    encoding::{self, put_varint},
};

use crate::{
    exit::Failure,
    lines::{Lines, NextInput},
    ndjson::{self, RecordedTime},
};

/// Gathers events until a commit is full, in events or in bytes.
pub(crate) struct Batches<R> {
    lines: Lines<R>,
    limits: Limits,
    events_per_commit: usize,
    /// The event that did not fit into the last batch. The next batch begins with it.
    carried: Option<LineInput>,
    /// The events of the commit that is not full yet, and their encoded bytes.
    gathered: (CommitInput, usize),
    /// Whether a commit ends where the input pauses.
    ends_at_pause: bool,
    recorded: RecordedTime,
    /// A pause has ended the last commit.
    pauses: bool,
    encoded: Vec<u8>,
}

struct LineInput {
    event: RawEvent,
    line: u64,
    bytes: usize,
}

/// The events of one commit.
#[derive(Debug, Default)]
pub(crate) struct CommitInput {
    pub(crate) events: Vec<RawEvent>,
    /// The number of the line with the first event.
    pub(crate) first_line: u64,
}

impl<R: BufRead> Batches<R> {
    pub(crate) fn new(reader: R, limits: Limits, events_per_commit: usize) -> Batches<R> {
        Batches {
            lines: Lines::new(reader, ndjson::line_bytes(&limits)),
            limits,
            events_per_commit,
            carried: None,
            gathered: <(CommitInput, usize)>::default(),
            ends_at_pause: false,
            recorded: RecordedTime::default(),
            pauses: false,
            encoded: Vec::new(),
        }
    }

    /// From now on a commit also ends where the input pauses.
    #[must_use]
    pub(crate) fn ending_at_pauses(mut self) -> Batches<R> {
        self.ends_at_pause = true;
        self
    }

    /// Keeps the recorded times of lines in this way.
    #[must_use]
    pub(crate) fn keeping(mut self, recorded: RecordedTime) -> Batches<R> {
        self.recorded = recorded;
        self
    }

    /// The events of the next commit. A pause follows the commit that it ends.
    pub(crate) fn next(&mut self) -> Result<NextInput<CommitInput>, Failure> {
        if std::mem::take(&mut self.pauses) {
            return Ok(NextInput::Pause);
        }
        while self.gathered.0.events.len() < self.events_per_commit {
            let parsed = self.parsed().map_err(|failure| {
                let gathered = &self.gathered.0;
                let is_first = gathered.events.is_empty();
                let line = if is_first { self.lines.number() } else { gathered.first_line };
                failure.and(&nothing_from(line))
            })?;
            let parsed = match parsed {
                NextInput::Part(parsed) => parsed,
                NextInput::Pause if self.ends_at_pause && !self.gathered.0.events.is_empty() => {
                    self.pauses = true;
                    break;
                }
                NextInput::Pause => return Ok(NextInput::Pause),
                NextInput::End => break,
            };
            let (gathered, bytes) = &mut self.gathered;
            *bytes += parsed.bytes;
            if gathered.events.is_empty() {
                gathered.first_line = parsed.line;
            } else if *bytes > self.limits.commit_bytes {
                self.carried = Some(parsed);
                break;
            }
            gathered.events.push(parsed.event);
        }
        let (gathered, _) = std::mem::take(&mut self.gathered);
        Ok(if gathered.events.is_empty() { NextInput::End } else { NextInput::Part(gathered) })
    }

    /// The events of the first commit, none if there is no input. Waits over pauses.
    pub(crate) fn first(&mut self) -> Result<CommitInput, Failure> {
        loop {
            match self.next()? {
                NextInput::Part(gathered) => return Ok(gathered),
                NextInput::Pause => {}
                NextInput::End => return Ok(CommitInput::default()),
            }
        }
    }

    /// Whether there is more input. This consumes a line without parsing it, so no other call may
    /// follow.
    pub(crate) fn has_more(&mut self) -> Result<bool, Failure> {
        Ok(self.carried.is_some() || self.lines.next()? != NextInput::End)
    }

    /// Bytes that were read from the input so far.
    pub(crate) fn read_bytes(&self) -> u64 {
        self.lines.read_bytes()
    }

    fn parsed(&mut self) -> Result<NextInput<LineInput>, Failure> {
        if let Some(carried) = self.carried.take() {
            return Ok(NextInput::Part(carried));
        }
        let text = match self.lines.next()? {
            NextInput::Part(text) => text,
            NextInput::Pause => return Ok(NextInput::Pause),
            NextInput::End => return Ok(NextInput::End),
        };
        let event = ndjson::parse(text, self.recorded);
        let line = self.lines.number();
        let event = event.map_err(|problem| Failure::input(format!("line {line}: {problem}")))?;
        // The store encodes the event too. Encoding it here lets an error about a limit name the
        // line.
        self.encoded.clear();
        encoding::encode(&event, &self.limits, &mut self.encoded)
            .map_err(|problem| Failure::input(format!("line {line}: {problem}")))?;
        Ok(NextInput::Part(LineInput { event, line, bytes: self.encoded.len() }))
    }
}

/// The message for a commit that was not written, with the line of its first event.
pub(crate) fn nothing_from(line: u64) -> String {
    format!("nothing from line {line} on was written")
}

/// A digest of the events and of their order.
///
/// It leaves out the condition, because a retry may have read further in the meantime.
pub(crate) fn digest(events: &[RawEvent], limits: &Limits) -> Result<Digest, InvalidRequest> {
    let (mut encoded, mut all) = (Vec::new(), Vec::new());
    for event in events {
        encoded.clear();
        encoding::encode(event, limits, &mut encoded)?;
        put_varint(&mut all, encoded.len() as u64);
        all.extend_from_slice(&encoded);
    }
    Ok(Digest::of(&all))
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENT: &str = "{\"type\":\"t\",\"data\":1}\n";

    fn batches(input: &str, events_per_commit: usize) -> Batches<&[u8]> {
        Batches::new(input.as_bytes(), Limits::default(), events_per_commit)
    }

    fn part(batches: &mut Batches<impl BufRead>) -> Option<CommitInput> {
        match batches.next().unwrap() {
            NextInput::Part(gathered) => Some(gathered),
            NextInput::Pause => panic!("a slice does not pause"),
            NextInput::End => None,
        }
    }

    fn sizes(mut batches: Batches<&[u8]>) -> Vec<(usize, u64)> {
        std::iter::from_fn(|| part(&mut batches))
            .map(|gathered| (gathered.events.len(), gathered.first_line))
            .collect()
    }

    #[test]
    fn input_is_cut_into_commits_of_the_given_size() {
        assert_eq!(sizes(batches(&EVENT.repeat(7), 3)), [(3, 1), (3, 4), (1, 7)]);
        assert_eq!(sizes(batches(&EVENT.repeat(6), 3)), [(3, 1), (3, 4)]);
        assert_eq!(sizes(batches("\n\n", 3)), []);
    }

    #[test]
    fn a_commit_ends_before_it_becomes_too_large() {
        let input = EVENT.repeat(5);
        let mut batches = batches(&input, 100);
        // One such event is encoded in 5 bytes.
        batches.limits.commit_bytes = 11;
        assert_eq!(sizes(batches), [(2, 1), (2, 3), (1, 5)]);
    }

    #[test]
    fn an_error_names_the_broken_line_and_the_first_unwritten_line() {
        let input = format!("{}\n{{\"type\":\"t\"}}\n", EVENT.repeat(4));
        let mut batches = batches(&input, 3);
        assert_eq!(part(&mut batches).unwrap().events.len(), 3);
        let error = batches.next().unwrap_err().to_string();
        assert!(error.starts_with("line 6: the data is missing"), "{error}");
        assert!(error.ends_with("nothing from line 4 on was written"), "{error}");
    }

    #[test]
    fn an_error_about_a_limit_names_the_line() {
        let input = format!("{EVENT}{{\"type\":\"{}\",\"data\":1}}", "t".repeat(256));
        let error = batches(&input, 3).next().unwrap_err().to_string();
        assert!(error.starts_with("line 2: ") && error.contains("type_bytes"), "{error}");
    }

    #[test]
    fn remaining_input_is_detected() {
        let input = EVENT.repeat(4);
        for (events, more) in [(3, true), (4, false), (5, false)] {
            let mut batches = batches(&input, events);
            part(&mut batches).unwrap();
            assert_eq!(batches.has_more().unwrap(), more, "{events}");
        }
    }

    #[test]
    fn a_digest_depends_on_events_and_their_order() {
        let limits = Limits::default();
        let digest = |types: &[&str]| {
            let events: Vec<_> =
                types.iter().map(|name| RawEvent::new((*name).to_owned(), [])).collect();
            digest(&events, &limits).unwrap()
        };
        assert_eq!(digest(&["a", "b"]), digest(&["a", "b"]));
        assert_ne!(digest(&["a", "b"]), digest(&["b", "a"]));
        assert_ne!(digest(&["a", "b"]), digest(&["a"]));
    }
}
