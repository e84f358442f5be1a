//! Rows of a CSV file.

use std::{
    fs::File,
    path::{Path, PathBuf},
};

use super::{
    error::ImportError,
    source::{Cell, RowSource},
};

/// A CSV file whose first line names the columns.
///
/// An empty cell has no value if its field may be without one, and is an empty text otherwise.
/// [`nulls`](CsvFile::nulls) tells both apart.
#[derive(Clone, Debug)]
pub struct CsvFile {
    path: PathBuf,
    name: String,
    table: String,
    columns: Vec<String>,
    delimiter: u8,
    nulls: Option<String>,
}

impl CsvFile {
    /// The file at this path. The name of the table is that of the file.
    ///
    /// # Errors
    /// [`ImportError`] if the file or its first line cannot be read.
    pub fn open(path: impl AsRef<Path>) -> Result<CsvFile, ImportError> {
        CsvFile::with_delimiter(path, b',')
    }

    /// The file at this path, whose cells are separated by another byte: `b';'`, `b'\t'`.
    ///
    /// # Errors
    /// [`ImportError`] if the file or its first line cannot be read.
    pub fn with_delimiter(path: impl AsRef<Path>, delimiter: u8) -> Result<CsvFile, ImportError> {
        let path = path.as_ref().to_owned();
        let (name, table) = names(&path);
        let mut file = CsvFile { path, name, table, columns: Vec::new(), delimiter, nulls: None };
        let mut reader = file.reader()?;
        let header = reader.headers().map_err(|error| file.fault(None, error))?;
        file.columns = header.iter().map(str::to_owned).collect();
        // Some programs begin a file with a byte order mark.
        if let Some(first) = file.columns.first_mut()
            && let Some(rest) = first.strip_prefix('\u{feff}')
        {
            *first = rest.to_owned();
        }
        Ok(file)
    }

    /// The text of a cell without a value, such as `\N` or `NA`. An empty cell is an empty text
    /// then.
    #[must_use]
    pub fn nulls(mut self, text: impl Into<String>) -> CsvFile {
        self.nulls = Some(text.into());
        self
    }

    /// The name of the other system, in place of that of the file.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> CsvFile {
        self.name = name.into();
        self
    }

    fn reader(&self) -> Result<csv::Reader<File>, ImportError> {
        let file = File::open(&self.path).map_err(|error| ImportError::file(&self.path, error))?;
        Ok(csv::ReaderBuilder::new().delimiter(self.delimiter).from_reader(file))
    }

    /// The problem with a row, or with the first line.
    fn fault(&self, row: Option<u64>, error: csv::Error) -> ImportError {
        let problem = error.to_string();
        match (error.into_kind(), row) {
            (csv::ErrorKind::Io(source), _) => ImportError::file(&self.path, source),
            (_, Some(row)) => ImportError::Row { table: self.table.clone(), row, problem },
            (_, None) => ImportError::Format {
                path: self.path.display().to_string(),
                problem: format!(
                    "its first line, which names the columns, cannot be read: {problem}; save it \
                     as UTF-8"
                ),
            },
        }
    }

    fn cell(&self, text: &str) -> Cell {
        match &self.nulls {
            Some(nulls) if nulls == text => Cell::Null,
            None if text.is_empty() => Cell::Blank,
            _ => Cell::Text(text.to_owned()),
        }
    }
}

/// The names of a file and of its table.
pub(super) fn names(path: &Path) -> (String, String) {
    let of = |part: Option<&std::ffi::OsStr>| {
        part.map_or_else(String::new, |part| part.to_string_lossy().into_owned())
    };
    (of(path.file_name()), of(path.file_stem()))
}

impl RowSource for CsvFile {
    fn name(&self) -> &str {
        &self.name
    }

    fn table(&self) -> &str {
        &self.table
    }

    fn columns(&self) -> &[String] {
        &self.columns
    }

    fn is_typed(&self) -> bool {
        false
    }

    fn read(
        &mut self,
        row: &mut dyn FnMut(&[Cell]) -> Result<(), ImportError>,
    ) -> Result<(), ImportError> {
        let mut reader = self.reader()?;
        let (mut record, mut cells, mut number) = (csv::StringRecord::new(), Vec::new(), 0);
        loop {
            number += 1;
            let is_there =
                reader.read_record(&mut record).map_err(|error| self.fault(Some(number), error))?;
            if !is_there {
                return Ok(());
            }
            cells.clear();
            cells.extend(record.iter().map(|text| self.cell(text)));
            row(&cells)?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file_of(bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.csv");
        std::fs::write(&path, bytes).unwrap();
        (folder, path)
    }

    #[test]
    fn names_of_columns_that_are_no_text_are_no_row() {
        let (_folder, path) = file_of(b"id,n\xe4me\n1,a\n");
        let error = CsvFile::open(&path).unwrap_err();
        assert!(matches!(&error, ImportError::Format { .. }), "{error:?}");
        let text = error.to_string();
        for part in ["rows.csv", "its first line", "save it as UTF-8"] {
            assert!(text.contains(part), "{part:?} is not in: {text}");
        }
    }

    #[test]
    fn a_row_that_is_no_text_has_its_number() {
        let (_folder, path) = file_of(b"id,name\n1,a\n2,n\xe4me\n");
        let mut rows = 0;
        let mut table = CsvFile::open(&path).unwrap();
        let read = table.read(&mut |_| {
            rows += 1;
            Ok(())
        });
        assert!(matches!(&read, Err(ImportError::Row { row: 2, .. })), "{read:?}");
        assert_eq!(rows, 1);
    }

    /// A folder is opened, and cannot be read.
    #[cfg(unix)]
    #[test]
    fn a_file_that_the_system_does_not_read_is_no_fault_of_a_row() {
        let folder = tempfile::tempdir().unwrap();
        let error = CsvFile::open(folder.path()).unwrap_err();
        assert!(matches!(&error, ImportError::File { .. }), "{error:?}");
    }
}
