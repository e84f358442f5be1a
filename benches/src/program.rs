//! The main function that the programs share.

use std::{fs, process::ExitCode};

use crate::{
    options::{self, Options, Program},
    table::{Report, Table},
};

/// Runs the parts that the arguments choose. Prints the tables of each part, and writes the file
/// that `--json` names.
///
/// # Errors
/// The exit code of a program that could not read its arguments, or not write the file.
pub fn run(
    program: &Program,
    arguments: impl Iterator<Item = String>,
    mut tables: impl FnMut(&str, &Options) -> Vec<Table>,
) -> Result<Options, ExitCode> {
    let options = Options::from_arguments(program, arguments).map_err(|problem| {
        eprintln!("{problem}\n\n{}", options::usage(program));
        ExitCode::from(2)
    })?;
    let mut report = Report::new(&options);
    println!("{report}");
    for part in options.parts() {
        let tables = tables(part, &options);
        for table in &tables {
            println!("{table}");
        }
        report.tables.extend(tables);
    }
    if let Some(file) = options.json.as_deref() {
        fs::write(file, report.to_json()).map_err(|error| {
            eprintln!("{}: {error}", file.display());
            ExitCode::FAILURE
        })?;
    }
    Ok(options)
}
