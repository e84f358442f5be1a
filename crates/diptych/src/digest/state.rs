use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The digest of a state, as [`digest`](crate::digest()) gives it. Its text, which serde writes
/// too, has 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StateDigest([u8; 32]);

/// A text is no digest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no digest: a digest has 64 hexadecimal digits")]
pub struct DigestSyntaxError {
    /// The beginning of the text.
    pub text: String,
}

const TEXT_BYTES: usize = 64;

impl StateDigest {
    /// The digest with these bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> StateDigest {
        StateDigest(bytes)
    }

    /// The digest as bytes.
    pub const fn to_bytes(self) -> [u8; 32] {
        self.0
    }
}

impl fmt::Display for StateDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(blake3::Hash::from_bytes(self.0).to_hex().as_str())
    }
}

impl fmt::Debug for StateDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StateDigest({self})")
    }
}

impl FromStr for StateDigest {
    type Err = DigestSyntaxError;

    fn from_str(text: &str) -> Result<StateDigest, DigestSyntaxError> {
        match blake3::Hash::from_hex(text) {
            Ok(hash) => Ok(StateDigest(*hash.as_bytes())),
            // The text may come from outside and be of any length.
            Err(_) => Err(DigestSyntaxError { text: text.chars().take(TEXT_BYTES + 1).collect() }),
        }
    }
}

impl Serialize for StateDigest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for StateDigest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<StateDigest, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}
