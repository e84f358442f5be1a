//! Rows of a file with one JSON object a line.

use std::{
    collections::BTreeSet,
    fs::File,
    io::{BufRead, BufReader, ErrorKind},
    path::{Path, PathBuf},
};

use serde_json::{Map, Value};

use super::{
    csv_file::names,
    error::ImportError,
    source::{Cell, RowSource},
};

/// A file with one JSON object a line.
#[derive(Clone, Debug)]
pub struct NdjsonFile {
    path: PathBuf,
    name: String,
    table: String,
    columns: Vec<String>,
}

impl NdjsonFile {
    /// The file at this path. It is read once for the names of its columns.
    ///
    /// # Errors
    /// [`ImportError`] if the file cannot be read, or a line is no object.
    pub fn open(path: impl AsRef<Path>) -> Result<NdjsonFile, ImportError> {
        let path = path.as_ref().to_owned();
        let (name, table) = names(&path);
        let mut file = NdjsonFile { path, name, table, columns: Vec::new() };
        let mut columns = BTreeSet::new();
        file.lines(|_, object| {
            columns.extend(object.into_iter().map(|(name, _)| name));
            Ok(())
        })?;
        file.columns = columns.into_iter().collect();
        Ok(file)
    }

    /// The name of the other system, in place of that of the file.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> NdjsonFile {
        self.name = name.into();
        self
    }

    fn lines(
        &self,
        mut each: impl FnMut(u64, Map<String, Value>) -> Result<(), ImportError>,
    ) -> Result<(), ImportError> {
        let file = File::open(&self.path).map_err(|error| ImportError::file(&self.path, error))?;
        for (line, row) in BufReader::new(file).lines().zip(1..) {
            let fault =
                |problem: String| ImportError::Row { table: self.table.clone(), row, problem };
            let line = line.map_err(|error| match error.kind() {
                // A line that is not UTF-8.
                ErrorKind::InvalidData => fault(error.to_string()),
                _ => ImportError::file(&self.path, error),
            })?;
            if line.trim().is_empty() {
                continue;
            }
            let object = serde_json::from_str(&line).map_err(|error| fault(error.to_string()))?;
            each(row, object)?;
        }
        Ok(())
    }
}

impl RowSource for NdjsonFile {
    fn name(&self) -> &str {
        &self.name
    }

    fn table(&self) -> &str {
        &self.table
    }

    fn columns(&self) -> &[String] {
        &self.columns
    }

    fn read(
        &mut self,
        row: &mut dyn FnMut(&[Cell]) -> Result<(), ImportError>,
    ) -> Result<(), ImportError> {
        self.lines(|number, mut object| {
            let of = |name: &String| object.remove(name).map_or(Cell::Absent, Cell::Json);
            let cells: Vec<_> = self.columns.iter().map(of).collect();
            match object.keys().next() {
                None => row(&cells),
                Some(name) => Err(ImportError::Row {
                    table: self.table.clone(),
                    row: number,
                    problem: format!("has {name}, which came after the file was opened"),
                }),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_is_no_text_has_its_number() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.ndjson");
        std::fs::write(&path, b"{\"id\":1}\n{\"id\":\"\xe4\"}\n").unwrap();
        let error = NdjsonFile::open(&path).unwrap_err();
        assert!(matches!(&error, ImportError::Row { row: 2, .. }), "{error:?}");
    }

    /// A folder is opened, and cannot be read.
    #[cfg(unix)]
    #[test]
    fn a_file_that_the_system_does_not_read_is_no_fault_of_a_row() {
        let folder = tempfile::tempdir().unwrap();
        let error = NdjsonFile::open(folder.path()).unwrap_err();
        assert!(matches!(&error, ImportError::File { .. }), "{error:?}");
    }
}
