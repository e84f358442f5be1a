//! The options of `diptych postgres`.

use clap::{Args, Subcommand};

use crate::{address, args::place::Wait, exit::EXIT_CODES};

/// Make, migrate and check logs in PostgreSQL.
///
/// An address is postgres://USER@HOST/DATABASE?log=NAME. Without a name the log is `main`.
///
/// Examples:
///   diptych postgres init 'postgres://ann@localhost/shop?log=orders'
///   diptych postgres check 'postgres://ann@localhost/shop?log=orders'
#[derive(Debug, Args)]
#[command(about = "Make, migrate and check logs in PostgreSQL", verbatim_doc_comment)]
pub(crate) struct PostgresArgs {
    #[command(subcommand)]
    pub(crate) command: PostgresCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum PostgresCommand {
    /// Make the schema and the log, as far as they are missing.
    #[command(after_help = EXIT_CODES)]
    Init(InitArgs),
    /// Bring the schema to the version of this program.
    #[command(after_help = EXIT_CODES)]
    Migrate(DatabaseArgs),
    /// Tell the state of the server, the schema and the log, and change nothing.
    #[command(after_help = EXIT_CODES)]
    Check(DatabaseArgs),
}

// No doc comments on these types: clap would show them instead of the commands' doc comments.
#[derive(Debug, Args)]
pub(crate) struct DatabaseArgs {
    /// The address of the log: postgres://USER@HOST/DATABASE?log=NAME.
    #[arg(value_name = "ADDRESS", value_parser = address::database())]
    pub(crate) address: String,
    #[command(flatten)]
    pub(crate) wait: Wait,
}

#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    #[command(flatten)]
    pub(crate) database: DatabaseArgs,
    /// Positions of one partition, if the schema is made.
    #[arg(
        long,
        value_name = "EVENTS",
        default_value_t = 10_000_000,
        value_parser = clap::value_parser!(u64).range(1..=1 << 40)
    )]
    pub(crate) partition_events: u64,
}
