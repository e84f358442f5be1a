//! Reads lines of input one at a time, each of bounded length.

use std::io::{BufRead, ErrorKind, Read};

use crate::exit::{Exit, Failure};

/// Reads lines that are not blank. A line beyond the limit is refused without being read whole.
pub(crate) struct Lines<R> {
    reader: R,
    line_bytes: usize,
    number: u64,
    read_bytes: u64,
    line: Vec<u8>,
    /// The input paused within the line.
    unfinished: bool,
}

/// The next part of an input.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NextInput<T> {
    Part(T),
    /// The input pauses. Another call asks for what follows.
    Pause,
    End,
}

impl<R: BufRead> Lines<R> {
    /// Lines of at most `line_bytes`.
    pub(crate) fn new(reader: R, line_bytes: usize) -> Lines<R> {
        let (number, read_bytes, line) = (0, 0, Vec::new());
        Lines { reader, line_bytes, number, read_bytes, line, unfinished: false }
    }

    /// The next line that is not blank, without its line break.
    pub(crate) fn next(&mut self) -> Result<NextInput<&[u8]>, Failure> {
        loop {
            if !std::mem::take(&mut self.unfinished) {
                self.line.clear();
                self.number += 1;
            }
            let before = self.line.len();
            let bound = (self.line_bytes + 1).saturating_sub(before) as u64;
            let read = self.reader.by_ref().take(bound).read_until(b'\n', &mut self.line);
            self.read_bytes += (self.line.len() - before) as u64;
            match read {
                Err(error) if error.kind() == ErrorKind::TimedOut => {
                    self.unfinished = true;
                    return Ok(NextInput::Pause);
                }
                Err(error) => {
                    let message = format!("line {}: cannot read the input: {error}", self.number);
                    return Err(Failure::new(Exit::Failed, message));
                }
                Ok(_) if self.line.is_empty() => return Ok(NextInput::End),
                Ok(_) => {}
            }
            if self.line.last() == Some(&b'\n') {
                self.line.pop();
            }
            if self.line.len() > self.line_bytes {
                return Err(Failure::input(format!(
                    "line {}: longer than {} bytes, more than an event of the largest size needs",
                    self.number, self.line_bytes
                )));
            }
            if !self.line.trim_ascii().is_empty() {
                return Ok(NextInput::Part(&self.line));
            }
        }
    }

    /// The number of the line that was read last, 1 for the first.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Bytes that were read from the input so far.
    pub(crate) fn read_bytes(&self) -> u64 {
        self.read_bytes
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, BufReader};

    use super::*;

    #[test]
    fn blank_lines_are_skipped_and_counted() {
        let mut lines = Lines::new(&b"one\n\n  \r\ntwo"[..], 100);
        assert_eq!(lines.next().unwrap(), NextInput::Part(&b"one"[..]));
        assert_eq!(lines.number(), 1);
        assert_eq!(lines.next().unwrap(), NextInput::Part(&b"two"[..]));
        assert_eq!(lines.number(), 4);
        assert_eq!(lines.next().unwrap(), NextInput::End);
        assert_eq!(lines.read_bytes(), 12);
    }

    #[test]
    fn a_line_of_the_largest_size_passes_and_one_byte_more_does_not() {
        let mut lines = Lines::new(&b"12345\n"[..], 5);
        assert_eq!(lines.next().unwrap(), NextInput::Part(&b"12345"[..]));
        let error = Lines::new(&b"\n123456\n"[..], 5).next().unwrap_err();
        assert!(error.to_string().starts_with("line 2: longer than 5 bytes"), "{error}");
    }

    #[test]
    fn a_line_without_end_is_refused_without_reading_on() {
        let endless = BufReader::new(io::repeat(b'x'));
        assert!(Lines::new(endless, 1_000).next().is_err());
    }

    /// Pauses before each byte.
    struct Slow(&'static [u8], bool);

    impl Read for Slow {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            self.1 = !self.1;
            if self.1 {
                return Err(ErrorKind::TimedOut.into());
            }
            let (mut first, rest) = self.0.split_at(self.0.len().min(1));
            self.0 = rest;
            first.read(into)
        }
    }

    #[test]
    fn a_line_goes_on_after_a_pause() {
        let mut lines = Lines::new(BufReader::new(Slow(b"one\n123\n12345", false)), 4);
        let mut pauses = 0;
        let mut next = || loop {
            match lines.next() {
                Ok(NextInput::Pause) => pauses += 1,
                Ok(NextInput::Part(line)) => return Ok((line.to_owned(), lines.number())),
                Ok(NextInput::End) => panic!("it ended"),
                Err(error) => return Err(error.to_string()),
            }
        };
        assert_eq!(next(), Ok((b"one".to_vec(), 1)));
        assert_eq!(next(), Ok((b"123".to_vec(), 2)));
        let error = next().unwrap_err();
        assert!(error.starts_with("line 3: longer than 4 bytes"), "{error}");
        assert_eq!(pauses, 13);
    }
}
