//! Reads lines of input one at a time, each of bounded length.

use std::io::{BufRead, Read};

use crate::exit::{Exit, Failure};

/// Reads lines that are not blank. A line beyond the limit is refused without being read whole.
pub(crate) struct Lines<R> {
    reader: R,
    line_bytes: usize,
    number: u64,
    read_bytes: u64,
    line: Vec<u8>,
}

impl<R: BufRead> Lines<R> {
    /// Lines of at most `line_bytes`.
    pub(crate) fn new(reader: R, line_bytes: usize) -> Lines<R> {
        Lines { reader, line_bytes, number: 0, read_bytes: 0, line: Vec::new() }
    }

    /// The next line that is not blank, without its line break.
    pub(crate) fn next(&mut self) -> Result<Option<&[u8]>, Failure> {
        loop {
            self.line.clear();
            self.number += 1;
            let bound = self.line_bytes as u64 + 1;
            let read = self.reader.by_ref().take(bound).read_until(b'\n', &mut self.line);
            let bytes = read.map_err(|error| {
                let message = format!("line {}: cannot read the input: {error}", self.number);
                Failure::new(Exit::Failed, message)
            })?;
            if bytes == 0 {
                return Ok(None);
            }
            self.read_bytes += bytes as u64;
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
                return Ok(Some(&self.line));
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
        assert_eq!(lines.next().unwrap(), Some(&b"one"[..]));
        assert_eq!(lines.number(), 1);
        assert_eq!(lines.next().unwrap(), Some(&b"two"[..]));
        assert_eq!(lines.number(), 4);
        assert_eq!(lines.next().unwrap(), None);
        assert_eq!(lines.read_bytes(), 12);
    }

    #[test]
    fn a_line_of_the_largest_size_passes_and_one_byte_more_does_not() {
        assert_eq!(Lines::new(&b"12345\n"[..], 5).next().unwrap(), Some(&b"12345"[..]));
        let error = Lines::new(&b"\n123456\n"[..], 5).next().unwrap_err();
        assert!(error.to_string().starts_with("line 2: longer than 5 bytes"), "{error}");
    }

    #[test]
    fn a_line_without_end_is_refused_without_reading_on() {
        let endless = BufReader::new(io::repeat(b'x'));
        assert!(Lines::new(endless, 1_000).next().is_err());
    }
}
