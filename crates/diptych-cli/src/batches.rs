//! Gathers lines of input into commits within the limits of the store.

use std::io::BufRead;

use diptych_store::{
    Digest, InvalidRequest, Limits, RawEvent,
    encoding::{self, put_varint},
};

use crate::{exit::Failure, lines::Lines, ndjson};

/// Gathers events until a commit is full, in events or in bytes.
pub(crate) struct Batches<R> {
    lines: Lines<R>,
    limits: Limits,
    events_per_commit: usize,
    /// The event that did not fit into the last batch. The next batch begins with it.
    carried: Option<LineInput>,
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
            encoded: Vec::new(),
        }
    }

    /// Returns the events of the next commit, or `None` at the end of the input.
    pub(crate) fn next(&mut self) -> Result<Option<CommitInput>, Failure> {
        let mut gathered = CommitInput::default();
        let mut bytes = 0;
        while gathered.events.len() < self.events_per_commit {
            let parsed = self.parsed().map_err(|failure| {
                let is_first = gathered.events.is_empty();
                let line = if is_first { self.lines.number() } else { gathered.first_line };
                failure.and(&nothing_from(line))
            })?;
            let Some(parsed) = parsed else {
                break;
            };
            bytes += parsed.bytes;
            if gathered.events.is_empty() {
                gathered.first_line = parsed.line;
            } else if bytes > self.limits.commit_bytes {
                self.carried = Some(parsed);
                break;
            }
            gathered.events.push(parsed.event);
        }
        Ok((!gathered.events.is_empty()).then_some(gathered))
    }

    /// Whether there is more input. This consumes a line without parsing it, so no other call may
    /// follow.
    pub(crate) fn has_more(&mut self) -> Result<bool, Failure> {
        Ok(self.carried.is_some() || self.lines.next()?.is_some())
    }

    /// Bytes that were read from the input so far.
    pub(crate) fn read_bytes(&self) -> u64 {
        self.lines.read_bytes()
    }

    fn parsed(&mut self) -> Result<Option<LineInput>, Failure> {
        if self.carried.is_some() {
            return Ok(self.carried.take());
        }
        let Some(text) = self.lines.next()? else {
            return Ok(None);
        };
        let event = ndjson::parse(text);
        let line = self.lines.number();
        let event = event.map_err(|problem| Failure::input(format!("line {line}: {problem}")))?;
        // The store encodes the event too. Encoding it here lets an error about a limit name the
        // line.
        self.encoded.clear();
        encoding::encode(&event, &self.limits, &mut self.encoded)
            .map_err(|problem| Failure::input(format!("line {line}: {problem}")))?;
        Ok(Some(LineInput { event, line, bytes: self.encoded.len() }))
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

    fn sizes(mut batches: Batches<&[u8]>) -> Vec<(usize, u64)> {
        std::iter::from_fn(|| batches.next().unwrap())
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
        assert_eq!(batches.next().unwrap().unwrap().events.len(), 3);
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
            batches.next().unwrap();
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
