//! The file with the hashes of tokens.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::hinge::tokens::{self, KnownToken, TokenHash, TokenScope};

/// The version of the file's form. A file that was cut off has none, so it revokes no token.
const VERSION: u32 = 1;

/// A file of tokens that cannot be used or changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenFileError {
    /// The file cannot be read.
    #[error("the tokens in {path:?} cannot be read: {reason}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The reason, and how to fix it.
        reason: String,
    },
    /// The file cannot be written.
    #[error("the tokens cannot be written to {path:?}: {reason}; the old file is as it was")]
    Write {
        /// The file.
        path: PathBuf,
        /// The reason.
        #[source]
        reason: io::Error,
    },
    /// There is a token of this name.
    #[error("there is a token {name:?}: take another name, or revoke that one first")]
    NameTaken {
        /// The name.
        name: String,
    },
    /// There is no token of this name.
    #[error("there is no token {name:?}; there are: {known:?}")]
    NoSuchToken {
        /// The name.
        name: String,
        /// The names that are there.
        known: Vec<String>,
    },
    /// A name or the scopes are missing.
    #[error(
        "a token needs a name and at least one of the scopes read, append, admin, feed and \
         feed:NAME"
    )]
    Incomplete,
    /// The system gives no random bytes.
    #[error("the system gives no random bytes for a token: {reason}")]
    NoRandomness {
        /// The reason.
        reason: String,
    },
}

/// The tokens of a server: names, scopes and hashes, as a file keeps them.
///
/// A server that was given the file by [`LogServer::token_file`](crate::LogServer::token_file)
/// reads it again when it changes.
pub struct TokenFile {
    path: PathBuf,
    tokens: Vec<KnownToken>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileForm {
    version: u32,
    #[serde(default, rename = "token")]
    tokens: Vec<TokenForm>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenForm {
    name: String,
    scopes: Vec<TokenScope>,
    sha256: String,
}

impl TokenFile {
    /// Reads the file.
    ///
    /// # Errors
    /// [`TokenFileError::Read`] if it is missing, or has another form.
    pub fn read(path: impl AsRef<Path>) -> Result<TokenFile, TokenFileError> {
        let path = path.as_ref();
        let unreadable = |reason: String| TokenFileError::Read { path: path.to_owned(), reason };
        let text = fs::read_to_string(path).map_err(|error| unreadable(error.to_string()))?;
        let FileForm { version, tokens } =
            toml::from_str(&text).map_err(|error| unreadable(error.message().to_owned()))?;
        if version != VERSION {
            let reason = format!("its version is {version}, and this program knows {VERSION}");
            return Err(unreadable(reason));
        }
        let tokens: Result<Vec<KnownToken>, String> = tokens.into_iter().map(known).collect();
        let tokens = tokens.map_err(unreadable)?;
        Ok(TokenFile { path: path.to_owned(), tokens })
    }

    /// Reads the file, or begins an empty one if there is none. [`save`](TokenFile::save) writes
    /// it.
    ///
    /// # Errors
    /// [`TokenFileError::Read`] if it has another form.
    pub fn read_or_new(path: impl AsRef<Path>) -> Result<TokenFile, TokenFileError> {
        let path = path.as_ref();
        match path.try_exists() {
            Ok(false) => Ok(TokenFile { path: path.to_owned(), tokens: Vec::new() }),
            _ => TokenFile::read(path),
        }
    }

    /// Makes a token with this name and these scopes, and returns it. Only its hash is kept, so
    /// this is the one time that it can be shown.
    ///
    /// # Errors
    /// [`TokenFileError`] if the name is taken or empty, or there are no scopes.
    pub fn issue(
        &mut self,
        name: &str,
        scopes: impl IntoIterator<Item = TokenScope>,
    ) -> Result<String, TokenFileError> {
        let mut scopes: Vec<TokenScope> = scopes.into_iter().collect();
        scopes.sort_unstable();
        scopes.dedup();
        if name.is_empty() || scopes.is_empty() {
            return Err(TokenFileError::Incomplete);
        }
        let name = name.to_owned();
        if self.tokens.iter().any(|token| token.name == name) {
            return Err(TokenFileError::NameTaken { name });
        }
        let token = tokens::random()
            .map_err(|error| TokenFileError::NoRandomness { reason: error.to_string() })?;
        self.tokens.push(KnownToken { name, scopes, hash: TokenHash::of(&token) });
        Ok(token)
    }

    /// Removes the token of this name.
    ///
    /// # Errors
    /// [`TokenFileError::NoSuchToken`] if there is none.
    pub fn revoke(&mut self, name: &str) -> Result<(), TokenFileError> {
        let before = self.tokens.len();
        self.tokens.retain(|token| token.name != name);
        if self.tokens.len() == before {
            let known = self.names().map(|(name, _)| name.to_owned()).collect();
            return Err(TokenFileError::NoSuchToken { name: name.to_owned(), known });
        }
        Ok(())
    }

    /// The names and scopes of all tokens.
    pub fn names(&self) -> impl Iterator<Item = (&str, &[TokenScope])> {
        self.tokens.iter().map(|token| (token.name.as_str(), token.scopes.as_slice()))
    }

    /// Writes the file. Its readers see the old file or the new one, and only its owner may read a
    /// new one.
    ///
    /// # Errors
    /// [`TokenFileError::Write`] if that fails.
    pub fn save(&self) -> Result<(), TokenFileError> {
        let tokens = self.tokens.iter().map(|token| TokenForm {
            name: token.name.clone(),
            scopes: token.scopes.clone(),
            sha256: token.hash.to_hex(),
        });
        let form = FileForm { version: VERSION, tokens: tokens.collect() };
        let written = toml::to_string(&form)
            .map_err(io::Error::other)
            .and_then(|text| replace(&self.path, text.as_bytes()));
        written.map_err(|reason| TokenFileError::Write { path: self.path.clone(), reason })
    }

    pub(crate) fn into_tokens(self) -> Vec<KnownToken> {
        self.tokens
    }
}

fn known(form: TokenForm) -> Result<KnownToken, String> {
    let TokenForm { name, scopes, sha256 } = form;
    let hash = TokenHash::from_hex(&sha256).ok_or_else(|| {
        format!("the sha256 of the token {name:?} has to be 64 hexadecimal digits")
    })?;
    Ok(KnownToken { name, scopes, hash })
}

/// Writes a file beside this one, and renames it into place.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    let written = new_file(&beside).and_then(|mut file| {
        file.write_all(bytes)?;
        if let Ok(old) = fs::metadata(path) {
            file.set_permissions(old.permissions())?;
        }
        file.sync_all()?;
        fs::rename(&beside, path)
    });
    if written.is_err() {
        // Only the first error matters.
        let _ = fs::remove_file(&beside);
    }
    written
}

fn new_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}
