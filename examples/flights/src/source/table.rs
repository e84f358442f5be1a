//! Reads a table from untrusted text.

use std::{
    io::{self, Read},
    str::FromStr,
};

use csv::{ByteRecord, Reader, ReaderBuilder};
use flate2::read::MultiGzDecoder;

use super::{Source, SourceError};

const GZIP: &[u8] = &[0x1f, 0x8b];
/// The mark for an unknown value.
const NOTHING: &str = "NA";
/// The number of characters of a wrong value that an error shows.
const SHOWN_CHARS: usize = 40;

pub(super) struct Table<'a> {
    file: &'a str,
    columns: &'static [&'static str],
    reader: Reader<ShortLines<Box<dyn Read + 'a>>>,
    record: ByteRecord,
    /// Number of rows read so far.
    rows: usize,
}

/// Whether values may be quoted. An unclosed quote would turn the rest of a file into one value, so
/// files from users may not contain quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Quotes {
    Some,
    None,
}

impl<'a> Table<'a> {
    /// Opens the table in `bytes`, plain or compressed. It must have exactly these columns.
    pub(super) fn open(
        file: &'a str,
        bytes: &'a [u8],
        columns: &'static [&'static str],
        quotes: Quotes,
    ) -> Result<Table<'a>, SourceError> {
        let plain: Box<dyn Read + 'a> = match bytes.starts_with(GZIP) {
            true => Box::new(MultiGzDecoder::new(bytes)),
            false if file.ends_with(".gz") => {
                return Err(SourceError::NotGzip { file: file.to_owned() });
            }
            false => Box::new(bytes),
        };
        let lines = ShortLines { plain, bytes: 0 };
        let mut builder = ReaderBuilder::new();
        let reader = builder.has_headers(false).flexible(true).quoting(quotes == Quotes::Some);
        let reader = reader.from_reader(lines);
        let mut table = Table { file, columns, reader, record: ByteRecord::new(), rows: 0 };
        table.advance()?;
        if table.record.iter().eq(columns.iter().map(|name| name.as_bytes())) {
            return Ok(table);
        }
        let found = table.record.iter().map(String::from_utf8_lossy).collect::<Vec<_>>().join(",");
        let (file, wanted) = (file.to_owned(), columns.join(","));
        Err(SourceError::Header { file, found: shown(&found, wanted.len() + 80), wanted })
    }

    /// Reads the next row; `None` at the end of the table.
    pub(super) fn row(&mut self) -> Result<Option<Row<'_>>, SourceError> {
        if !self.advance()? {
            return Ok(None);
        }
        self.rows += 1;
        let (file, columns, record) = (self.file, self.columns, &self.record);
        let row = Row { file, columns, record, number: self.rows };
        let last = columns.len().saturating_sub(1);
        match record.len().cmp(&columns.len()) {
            std::cmp::Ordering::Equal => Ok(Some(row)),
            _ => Err(row.wrong(
                record.len().saturating_sub(1).min(last),
                format!("the row has {} values, not {}", record.len(), columns.len()),
            )),
        }
    }

    fn advance(&mut self) -> Result<bool, SourceError> {
        let read = self.reader.read_byte_record(&mut self.record);
        read.map_err(|error| {
            let reason = match error.into_kind() {
                csv::ErrorKind::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    "it ends in the middle".to_owned()
                }
                csv::ErrorKind::Io(error) => error.to_string(),
                other => format!("{other:?}"),
            };
            SourceError::Damaged { file: self.file.to_owned(), rows: self.rows, reason }
        })
    }
}

/// A row with one value for each column.
pub(super) struct Row<'a> {
    file: &'a str,
    columns: &'static [&'static str],
    record: &'a ByteRecord,
    pub(super) number: usize,
}

impl Row<'_> {
    /// The text in this column.
    pub(super) fn text(&self, column: usize) -> Result<&str, SourceError> {
        let bytes = self.record.get(column).unwrap_or_default();
        str::from_utf8(bytes).map_err(|_| {
            let shown = shown(&String::from_utf8_lossy(bytes), SHOWN_CHARS);
            self.wrong(column, format!("{shown:?} is not UTF-8"))
        })
    }

    /// The parsed value in this column.
    pub(super) fn value<T: FromStr<Err: ToString>>(&self, column: usize) -> Result<T, SourceError> {
        let text = self.text(column)?;
        text.parse().map_err(|error: T::Err| {
            let shown = shown(text, SHOWN_CHARS);
            self.wrong(column, format!("{shown:?} cannot be read: {}", error.to_string()))
        })
    }

    /// The parsed value in this column; `None` if it is unknown.
    pub(super) fn known<T: FromStr<Err: ToString>>(
        &self,
        column: usize,
    ) -> Result<Option<T>, SourceError> {
        match self.text(column)? {
            NOTHING => Ok(None),
            _ => self.value(column).map(Some),
        }
    }

    /// The number in this column, rounded to `digits` digits after the point; `None` if it is
    /// unknown. The file has more digits than were measured.
    pub(super) fn measured(&self, column: usize, digits: i32) -> Result<Option<f64>, SourceError> {
        let Some(number) = self.known::<f64>(column)? else { return Ok(None) };
        if !number.is_finite() {
            return Err(self.wrong(column, format!("{number} is not a number")));
        }
        let scale = 10_f64.powi(digits);
        Ok(Some((number * scale).round() / scale))
    }

    /// The error for a faulty value in this column.
    pub(super) fn wrong(&self, column: usize, problem: String) -> SourceError {
        let column = self.columns.get(column).copied().unwrap_or_default();
        SourceError::Row { file: self.file.to_owned(), row: self.number, column, problem }
    }
}

fn shown(text: &str, chars: usize) -> String {
    let mut shown: String = text.chars().take(chars).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}

/// A reader that fails at a line longer than [`Source::LINE_BYTES`], so that no row fills the
/// memory.
struct ShortLines<R> {
    plain: R,
    /// Bytes read of the current line.
    bytes: usize,
}

impl<R: Read> Read for ShortLines<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.plain.read(into)?;
        let mut lines = into.get(..read).unwrap_or_default().split(|byte| *byte == b'\n');
        self.bytes += lines.next().map_or(0, <[u8]>::len);
        let mut longest = self.bytes;
        for line in lines {
            self.bytes = line.len();
            longest = longest.max(line.len());
        }
        if longest > Source::LINE_BYTES {
            let problem = format!("a line has more than {} bytes", Source::LINE_BYTES);
            return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
        }
        Ok(read)
    }
}
