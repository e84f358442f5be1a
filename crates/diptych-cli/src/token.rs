//! `diptych token`: makes, lists and revokes the tokens of a server of a log.

use std::{
    io::{self, Write},
    path::PathBuf,
};

use clap::{Args, ValueHint};
use diptych_server::{TokenFile, TokenFileError, TokenScope};

use crate::exit::{Exit, Failure};

/// Make a token for a server of a log, list the tokens, or revoke one.
///
/// The file keeps a hash of each token, and the token itself is printed once. A running server
/// reads the file again within a second; a token that is revoked ends its streams.
///
/// Examples:
///   diptych token --file tokens.toml --name shop --scope read,append
///   diptych token --file tokens.toml --revoke shop
///   diptych token --file tokens.toml
#[derive(Debug, Args)]
#[command(about = "Make, list and revoke the tokens of a server of a log", verbatim_doc_comment)]
pub(crate) struct TokenArgs {
    /// The file of the tokens, created if missing.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    file: PathBuf,
    /// Make a token of this name and print it.
    #[arg(long, value_name = "NAME", requires = "scopes")]
    name: Option<String>,
    /// The scopes of the new token: read, append, admin, feed, feed:NAME.
    #[arg(
        long = "scope",
        value_name = "SCOPES",
        value_delimiter = ',',
        requires = "name",
        conflicts_with = "revoke"
    )]
    scopes: Vec<TokenScope>,
    /// Revoke the token of this name.
    #[arg(long, value_name = "NAME", conflicts_with = "name")]
    revoke: Option<String>,
}

pub(crate) fn run(args: &TokenArgs) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    if let Some(name) = &args.name {
        let mut file = TokenFile::read_or_new(&args.file)?;
        let token = file.issue(name, args.scopes.iter().cloned())?;
        file.save()?;
        return Ok(writeln!(out, "{token}")?);
    }
    let mut file = TokenFile::read(&args.file)?;
    if let Some(name) = &args.revoke {
        file.revoke(name)?;
        return Ok(file.save()?);
    }
    for (name, scopes) in file.names() {
        let scopes: Vec<String> = scopes.iter().map(ToString::to_string).collect();
        writeln!(out, "{name} {}", scopes.join(","))?;
    }
    Ok(())
}

impl From<TokenFileError> for Failure {
    fn from(error: TokenFileError) -> Failure {
        let exit = match &error {
            TokenFileError::Write { .. } | TokenFileError::NoRandomness { .. } => Exit::Failed,
            _ => Exit::Input,
        };
        Failure::new(exit, error.to_string())
    }
}
