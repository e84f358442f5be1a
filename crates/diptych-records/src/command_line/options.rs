//! The options of the commands.

use std::{fs::File, io::Read, path::PathBuf};

use clap::{Args, ValueEnum, ValueHint};

use super::outcome::RecordOutcome;
#[cfg(feature = "postgres")]
use crate::import::PostgresTable;
use crate::import::{CsvFile, Export, ImportError, NdjsonFile, RowSource, SqliteTable};

/// The first bytes of a SQLite file.
const SQLITE_MAGIC: &[u8] = b"SQLite format 3\0";

// The comments of these types are calls of `concat`, because clap would show other ones in place
// of the comments of the commands.
#[doc = concat!("The file with a table of another system, as options.")]
#[derive(Clone, Debug, Args)]
#[non_exhaustive]
pub struct TableArgs {
    /// The file of the table: SQLite, CSV whose first line names the columns, or one JSON object a
    /// line. Or a database, as postgres://USER@HOST/DATABASE.
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub file: PathBuf,
    /// The form of the file: sqlite, csv or ndjson. By default its contents tell SQLite, and its
    /// name the others: .csv, .tsv, .ndjson, .jsonl.
    #[arg(long, value_name = "FORMAT", hide_possible_values = true)]
    pub format: Option<TableFormat>,
    /// The table or view of a SQLite file or of a database, there also as SCHEMA.TABLE.
    #[arg(long, value_name = "TABLE")]
    pub table: Option<String>,
    /// Read the rows of this statement of a database. The name of the table stands for it in the
    /// origin of each row.
    #[arg(long, value_name = "SQL", requires = "table")]
    pub select: Option<String>,
    /// The text of a CSV cell without a value, such as NA. An empty cell is an empty text then.
    #[arg(long, value_name = "TEXT")]
    pub nulls: Option<String>,
    /// The character between the cells of a CSV file. By default a comma, and a tab in .tsv.
    #[arg(long, value_name = "CHARACTER")]
    pub delimiter: Option<char>,
    /// The name of the other system. It is kept with each row, so give the same one each time. By
    /// default it is the name of the file, or of the host and its database.
    #[arg(long, value_name = "NAME")]
    pub source: Option<String>,
}

/// The form of a file with a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[non_exhaustive]
pub enum TableFormat {
    /// A SQLite file.
    Sqlite,
    /// A CSV file.
    Csv,
    /// A file with one JSON object a line.
    Ndjson,
}

impl TableArgs {
    /// The table in the file.
    ///
    /// # Errors
    /// [`ImportError`] if there is no such table, or an option does not fit its file.
    pub fn open(&self) -> Result<Box<dyn RowSource>, ImportError> {
        let named = |name: String| self.source.clone().unwrap_or(name);
        if let Some(address) = self.database() {
            return self.of_database(address);
        }
        let format = self.format()?;
        if self.select.is_some() {
            return Err(self.wrong("--select is for databases: leave it out"));
        }
        if format != TableFormat::Csv && (self.nulls.is_some() || self.delimiter.is_some()) {
            return Err(self.wrong("--nulls and --delimiter are for CSV files: leave them out"));
        }
        if format != TableFormat::Sqlite && self.table.is_some() {
            return Err(self.wrong("--table is for SQLite files: leave it out"));
        }
        Ok(match format {
            TableFormat::Sqlite => {
                let Some(name) = &self.table else {
                    return Err(self.wrong("it is a SQLite file: name its table with --table"));
                };
                let table = SqliteTable::open(&self.file, name)?;
                let name = named(table.name().to_owned());
                Box::new(table.named(name))
            }
            TableFormat::Csv => {
                let mut table = CsvFile::with_delimiter(&self.file, self.delimiter()?)?;
                if let Some(nulls) = &self.nulls {
                    table = table.nulls(nulls);
                }
                let name = named(table.name().to_owned());
                Box::new(table.named(name))
            }
            TableFormat::Ndjson => {
                let table = NdjsonFile::open(&self.file)?;
                let name = named(table.name().to_owned());
                Box::new(table.named(name))
            }
        })
    }

    /// The address of the database, if the table is in one.
    fn database(&self) -> Option<&str> {
        let address = self.file.to_str()?;
        ["postgres://", "postgresql://"]
            .iter()
            .any(|scheme| address.starts_with(scheme))
            .then_some(address)
    }

    fn of_database(&self, address: &str) -> Result<Box<dyn RowSource>, ImportError> {
        if self.nulls.is_some() || self.delimiter.is_some() || self.format.is_some() {
            let problem = "--format, --nulls and --delimiter are for files: leave them out";
            return Err(self.wrong(problem));
        }
        let Some(name) = &self.table else {
            return Err(self.wrong("it is a database: name its table with --table"));
        };
        self.table_of(address, name)
    }

    #[cfg(feature = "postgres")]
    fn table_of(&self, address: &str, name: &str) -> Result<Box<dyn RowSource>, ImportError> {
        let table = match &self.select {
            Some(statement) => PostgresTable::select(address, name, statement)?,
            None => PostgresTable::open(address, name)?,
        };
        Ok(Box::new(match &self.source {
            Some(source) => table.named(source),
            None => table,
        }))
    }

    #[cfg(not(feature = "postgres"))]
    fn table_of(&self, _: &str, _: &str) -> Result<Box<dyn RowSource>, ImportError> {
        Err(self.wrong("this program was built without the feature postgres: export it as CSV"))
    }

    fn format(&self) -> Result<TableFormat, ImportError> {
        if let Some(format) = self.format {
            return Ok(format);
        }
        let mut first = Vec::new();
        let read = File::open(&self.file)
            .and_then(|file| file.take(SQLITE_MAGIC.len() as u64).read_to_end(&mut first));
        read.map_err(|error| ImportError::file(&self.file, error))?;
        match extension(&self.file).as_str() {
            _ if first == SQLITE_MAGIC => Ok(TableFormat::Sqlite),
            "csv" | "tsv" => Ok(TableFormat::Csv),
            "ndjson" | "jsonl" => Ok(TableFormat::Ndjson),
            _ => Err(self.wrong("its form is unknown: give --format sqlite, csv or ndjson")),
        }
    }

    fn delimiter(&self) -> Result<u8, ImportError> {
        match self.delimiter {
            None if extension(&self.file) == "tsv" => Ok(b'\t'),
            None => Ok(b','),
            Some(character) => u8::try_from(character)
                .ok()
                .filter(u8::is_ascii)
                .ok_or_else(|| self.wrong("--delimiter is no ASCII character: give , or ;")),
        }
    }

    fn wrong(&self, problem: &str) -> ImportError {
        match self.database() {
            // An address may have a password.
            Some(_) => wrong("the database".as_ref(), problem),
            None => wrong(&self.file, problem),
        }
    }
}

#[doc = concat!("The columns of a table as the fields of a record, as options.")]
#[derive(Clone, Debug, Default, Args)]
#[non_exhaustive]
pub struct ColumnArgs {
    /// Read this column as the field of another name. Can be given several times.
    #[arg(long, value_name = "COLUMN=FIELD", value_parser = renamed)]
    pub rename: Vec<(String, String)>,
    /// Leave this column out. Can be given several times.
    #[arg(long, value_name = "COLUMN")]
    pub skip: Vec<String>,
    /// Make the key of these columns: their texts with / in between.
    #[arg(long, value_name = "COLUMNS", value_delimiter = ',')]
    pub key_columns: Vec<String>,
}

fn renamed(text: &str) -> Result<(String, String), &'static str> {
    // A column may have any name.
    match text.rsplit_once('=') {
        Some((column, field)) if !column.is_empty() && !field.is_empty() => {
            Ok((column.to_owned(), field.to_owned()))
        }
        _ => Err("give the column and its field, such as number=id"),
    }
}

#[doc = concat!("The options of an import.")]
#[derive(Clone, Debug, Args)]
#[non_exhaustive]
pub struct ImportArgs {
    #[doc = concat!("The table.")]
    #[command(flatten)]
    pub table: TableArgs,
    #[doc = concat!("Its columns.")]
    #[command(flatten)]
    pub columns: ColumnArgs,
    /// After all rows, delete the rows here that came from the table and are no longer in it.
    #[arg(long)]
    pub delete_missing: bool,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}

#[doc = concat!("The options of a comparison.")]
#[derive(Clone, Debug, Args)]
#[non_exhaustive]
pub struct CompareArgs {
    #[doc = concat!("The table.")]
    #[command(flatten)]
    pub table: TableArgs,
    #[doc = concat!("Its columns.")]
    #[command(flatten)]
    pub columns: ColumnArgs,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}

#[doc = concat!("The options of an export.")]
#[derive(Clone, Debug, Args)]
#[non_exhaustive]
pub struct ExportArgs {
    /// The file to write. A CSV file is a new one, with its statement of SQL beside it. A SQLite
    /// file may exist, without a table of this name.
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub file: PathBuf,
    /// The form of the file: sqlite or csv. By default its name tells: .db, .sqlite,
    /// .sqlite3, .csv.
    #[arg(long, value_name = "FORMAT", hide_possible_values = true)]
    pub format: Option<TableFormat>,
    /// The name of the table. By default it is that of the record, with _ in place of -.
    #[arg(long, value_name = "TABLE")]
    pub table: Option<String>,
    /// The text of a CSV cell without a value, such as NA. By default the cell is empty.
    #[arg(long, value_name = "TEXT")]
    pub nulls: Option<String>,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}

impl ExportArgs {
    /// Writes a table into the file.
    ///
    /// # Errors
    /// [`ImportError`] if the table cannot be written.
    pub fn write(&self, mut export: Export) -> Result<RecordOutcome, ImportError> {
        let format = self.format()?;
        if let Some(name) = &self.table {
            export = export.named(name);
        }
        match (format, &self.nulls) {
            (TableFormat::Csv, None) => export.to_csv(&self.file)?,
            (TableFormat::Csv, Some(nulls)) => {
                export = export.nulls(nulls);
                export.to_csv(&self.file)?;
            }
            (_, Some(_)) => {
                return Err(wrong(&self.file, "--nulls is for CSV files: leave it out"));
            }
            (_, None) => export.to_sqlite(&self.file)?,
        }
        Ok(RecordOutcome::exported(&self.file, &export))
    }

    /// The form of the file, before any work is done for it.
    ///
    /// # Errors
    /// [`ImportError::Format`] if no table is written in this form.
    pub fn format(&self) -> Result<TableFormat, ImportError> {
        let unknown = "its form is unknown: give --format sqlite or csv";
        match (self.format, extension(&self.file).as_str()) {
            (Some(TableFormat::Ndjson), _) => {
                Err(wrong(&self.file, "a table is exported to SQLite or CSV: give either"))
            }
            (Some(format), _) => Ok(format),
            (None, "db" | "sqlite" | "sqlite3") => Ok(TableFormat::Sqlite),
            (None, "csv") => Ok(TableFormat::Csv),
            (None, _) => Err(wrong(&self.file, unknown)),
        }
    }
}

fn extension(file: &std::path::Path) -> String {
    file.extension().map_or_else(String::new, |of| of.to_string_lossy().to_ascii_lowercase())
}

fn wrong(file: &std::path::Path, problem: &str) -> ImportError {
    ImportError::Format { path: file.display().to_string(), problem: problem.to_owned() }
}
