//! `diptych postgres`: makes, migrates and checks logs in PostgreSQL.

use std::io::{self, Write};

use diptych_postgres::{DatabaseReport, LogReport, PostgresDatabase, SchemaMigration};
use pollster::block_on;

use crate::{
    args::{DatabaseArgs, InitArgs, PostgresArgs, PostgresCommand},
    exit::{Exit, Failure},
    remote,
    table::{count, counted, facts},
};

pub(crate) fn run(args: &PostgresArgs) -> Result<(), Failure> {
    match &args.command {
        PostgresCommand::Init(args) => init(args),
        PostgresCommand::Migrate(args) => migrate(args),
        PostgresCommand::Check(args) => check(args),
    }
}

fn init(args: &InitArgs) -> Result<(), Failure> {
    let before = report(&args.database)?;
    let DatabaseArgs { address, wait } = &args.database;
    let made = remote::make_database(address, *wait, args.partition_events)?;
    let word = |was_there| if was_there { "was there" } else { "made" };
    let after = report(&args.database)?;
    let rows = [
        ("schema", format!("version {}, {}", after.schema, word(before.schema > 0))),
        ("log", format!("{}, {}", before.log_name, word(before.log.is_some()))),
        ("identity", made.identity().to_string()),
    ];
    Ok(facts(&mut io::stdout().lock(), &rows)?)
}

fn migrate(args: &DatabaseArgs) -> Result<(), Failure> {
    let migrated = block_on(database(args)?.migrate()).map_err(remote::database_failure)?;
    let SchemaMigration { was, is, .. } = migrated;
    let mut out = io::stdout().lock();
    match was == is {
        true => writeln!(out, "the schema has version {is}, which is the newest")?,
        false => writeln!(out, "the schema has version {is} now, and had version {was}")?,
    }
    Ok(())
}

fn check(args: &DatabaseArgs) -> Result<(), Failure> {
    let report = report(args)?;
    let mut out = io::stdout().lock();
    let schema = match report.schema {
        0 => "none".to_owned(),
        version => format!("version {version} of {}", report.newest_schema),
    };
    let mut rows = vec![("server", format!("PostgreSQL {}", report.server)), ("schema", schema)];
    rows.push(("log", report.log_name.clone()));
    if let Some(LogReport { identity, head, .. }) = report.log {
        rows.push(("identity", identity.to_string()));
        rows.push(("head", count(head.get())));
    }
    if let Some(upto) = report.partitions_upto {
        let partitions = counted(report.partitions, "partition");
        rows.push(("events", format!("{partitions}, up to position {}", count(upto.get()))));
    }
    let warnings = report.warnings.iter().map(|warning| ("warning", warning.clone()));
    rows.extend(warnings);
    facts(&mut out, &rows)?;
    match report.problems.is_empty() {
        true => Ok(()),
        false => Err(Failure::new(Exit::Failed, report.problems.join("; "))),
    }
}

fn report(args: &DatabaseArgs) -> Result<DatabaseReport, Failure> {
    block_on(database(args)?.check()).map_err(remote::database_failure)
}

fn database(args: &DatabaseArgs) -> Result<PostgresDatabase, Failure> {
    let options = remote::database_options(args.wait);
    PostgresDatabase::at(&args.address, options).map_err(remote::database_failure)
}
