//! Tokens: callers show one, and it has scopes.
//!
//! A token is a random text of 256 bits, so a plain hash protects it. The file and the server have
//! hashes only.

use std::{fmt, str::FromStr};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// The begin of every token, by which scanners of source code find one that was published.
const PREFIX: &str = "diptych_";
/// Random bytes of a token.
const SECRET_BYTES: usize = 32;

/// A part of the server's services that a token allows. No scope contains another one, except that
/// [`Feeds`](TokenScope::Feeds) has every feed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
#[non_exhaustive]
pub enum TokenScope {
    /// Reading and following events.
    Read,
    /// Appending events. It includes looking up keys and tracking, by which a client finds out
    /// what became of its own commits.
    Append,
    /// Watching and changing the server itself, such as reading its metrics. On a server that
    /// receives a copy, appends need it beside [`Append`](TokenScope::Append).
    Admin,
    /// Reading every feed, and nothing of the log: `feed`.
    Feeds,
    /// Reading the feed of this name, and nothing of the log: `feed:orders`.
    Feed(String),
}

/// The begin of the scope of one feed.
const ONE_FEED: &str = "feed:";

impl TokenScope {
    /// All scopes without a name.
    pub const ALL: [TokenScope; 4] =
        [TokenScope::Read, TokenScope::Append, TokenScope::Admin, TokenScope::Feeds];

    /// Whether it allows to read this feed.
    pub(crate) fn has_feed(&self, name: &str) -> bool {
        match self {
            TokenScope::Feeds => true,
            TokenScope::Feed(one) => one == name,
            _ => false,
        }
    }

    /// Whether it is one of a feed.
    pub(crate) fn is_of_feed(&self) -> bool {
        matches!(self, TokenScope::Feeds | TokenScope::Feed(_))
    }
}

impl fmt::Display for TokenScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TokenScope::Read => f.write_str("read"),
            TokenScope::Append => f.write_str("append"),
            TokenScope::Admin => f.write_str("admin"),
            TokenScope::Feeds => f.write_str("feed"),
            TokenScope::Feed(name) => write!(f, "{ONE_FEED}{name}"),
        }
    }
}

impl From<TokenScope> for String {
    fn from(scope: TokenScope) -> String {
        scope.to_string()
    }
}

/// The text is no scope.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no scope of a token: read, append, admin, feed and feed:NAME are")]
pub struct UnknownScope {
    text: String,
}

impl FromStr for TokenScope {
    type Err = UnknownScope;

    fn from_str(text: &str) -> Result<TokenScope, UnknownScope> {
        let is_of_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        match text {
            "read" => Ok(TokenScope::Read),
            "append" => Ok(TokenScope::Append),
            "admin" => Ok(TokenScope::Admin),
            "feed" => Ok(TokenScope::Feeds),
            _ => match text.strip_prefix(ONE_FEED) {
                Some(name) if !name.is_empty() && name.chars().all(is_of_name) => {
                    Ok(TokenScope::Feed(name.to_owned()))
                }
                _ => Err(UnknownScope { text: text.to_owned() }),
            },
        }
    }
}

impl TryFrom<String> for TokenScope {
    type Error = UnknownScope;

    fn try_from(text: String) -> Result<TokenScope, UnknownScope> {
        text.parse()
    }
}

/// The SHA-256 of a token.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct TokenHash([u8; 32]);

impl TokenHash {
    pub(crate) fn of(token: &str) -> TokenHash {
        TokenHash(Sha256::digest(token.as_bytes()).into())
    }

    /// The hash in hexadecimal digits, as `sha256sum` prints it.
    pub(crate) fn to_hex(self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    pub(crate) fn from_hex(text: &str) -> Option<TokenHash> {
        let mut hash = [0; 32];
        let is_hex = text.bytes().all(|digit| digit.is_ascii_hexdigit());
        if text.len() != 2 * hash.len() || !is_hex {
            return None;
        }
        for (byte, digits) in hash.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            *byte = u8::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()?;
        }
        Some(TokenHash(hash))
    }
}

/// A token that the server knows.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct KnownToken {
    pub(crate) name: String,
    pub(crate) scopes: Vec<TokenScope>,
    pub(crate) hash: TokenHash,
}

/// The known token with this hash. The time does not tell how much of a hash is right.
pub(crate) fn find(known: &[KnownToken], hash: TokenHash) -> Option<&KnownToken> {
    let mut found = None;
    for token in known {
        if bool::from(token.hash.0.ct_eq(&hash.0)) {
            found = Some(token);
        }
    }
    found
}

/// A new random token.
pub(crate) fn random() -> Result<String, getrandom::Error> {
    let mut secret = [0; SECRET_BYTES];
    getrandom::fill(&mut secret)?;
    Ok(format!("{PREFIX}{}", BASE64_URL_SAFE_NO_PAD.encode(secret)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_what_sha256sum_prints() {
        let hash = TokenHash::of("abc");
        let hex = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hash.to_hex(), hex);
        assert!(TokenHash::from_hex(hex) == Some(hash));
        for wrong in ["", "00", &hex[1..], &format!("{hex}0"), &hex.replace('b', "+")] {
            assert!(TokenHash::from_hex(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn a_token_has_256_random_bits_and_no_two_are_equal() {
        let (one, two) = (random().unwrap(), random().unwrap());
        assert_ne!(one, two);
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(one.strip_prefix(PREFIX).unwrap()).unwrap();
        assert_eq!(bytes.len(), 32);
    }

    #[test]
    fn a_scope_has_one_word() {
        for scope in TokenScope::ALL.into_iter().chain([TokenScope::Feed("orders-2".to_owned())]) {
            assert_eq!(scope.to_string().parse(), Ok(scope));
        }
        for wrong in ["write", "feeds", "feed:", "feed:Orders", "feed:a b", "read:a"] {
            let error = wrong.parse::<TokenScope>().unwrap_err().to_string();
            assert!(error.contains("read, append"), "{error}");
        }
    }
}
