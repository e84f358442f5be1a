//! Rows of a file with one JSON object a line.

use std::{
    collections::BTreeSet,
    fs::File,
    io::{BufRead, BufReader},
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
            let line = line.map_err(|error| fault(error.to_string()))?;
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
