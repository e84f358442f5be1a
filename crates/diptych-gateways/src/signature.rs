//! Signatures after Standard Webhooks.

use std::{fmt, str::FromStr};

use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use ring::signature::{ED25519, UnparsedPublicKey};
use sha2::Sha256;

/// Number of bytes of a public key.
const KEY_BYTES: usize = 32;

/// The secret that sender and receiver of webhooks share: `whsec_` and 24 to 64 bytes in base64.
#[derive(Clone, PartialEq, Eq)]
pub struct WebhookSecret(Vec<u8>);

/// A text is no secret of webhooks. The text is not shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the secret is not `whsec_` with 24 to 64 bytes in base64: take it over unchanged")]
pub struct SecretError;

/// The public key of a sender of webhooks: `whpk_` and the 32 bytes of an ed25519 key in base64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WebhookPublicKey([u8; KEY_BYTES]);

/// A text is no public key of a sender of webhooks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the key is not `whpk_` with 32 bytes in base64: take it over unchanged")]
pub struct PublicKeyError;

impl FromStr for WebhookPublicKey {
    type Err = PublicKeyError;

    fn from_str(text: &str) -> Result<WebhookPublicKey, PublicKeyError> {
        let encoded = text.strip_prefix("whpk_").ok_or(PublicKeyError)?;
        let bytes = decoded(encoded).ok_or(PublicKeyError)?;
        bytes.try_into().map(WebhookPublicKey).map_err(|_| PublicKeyError)
    }
}

impl WebhookPublicKey {
    /// Whether the owner of the key signed this message.
    pub(crate) fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, self.0).verify(message, signature).is_ok()
    }
}

/// The bytes behind a text in base64.
pub(crate) fn decoded(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

impl FromStr for WebhookSecret {
    type Err = SecretError;

    fn from_str(text: &str) -> Result<WebhookSecret, SecretError> {
        let encoded = text.strip_prefix("whsec_").ok_or(SecretError)?;
        let bytes = STANDARD.decode(encoded).map_err(|_| SecretError)?;
        match (24..=64).contains(&bytes.len()) {
            true => Ok(WebhookSecret(bytes)),
            false => Err(SecretError),
        }
    }
}

impl WebhookSecret {
    /// The signature of a message, sent at this second of Unix time.
    #[cfg(feature = "client")]
    fn sign(&self, id: &str, at: u64, body: &[u8]) -> Option<String> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).ok()?;
        mac.update(format!("{id}.{at}.").as_bytes());
        mac.update(body);
        Some(format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes())))
    }

    /// Whether a holder of the secret signed this message. It takes equally long for each
    /// signature of the right length.
    pub(crate) fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        Hmac::<Sha256>::new_from_slice(&self.0)
            .is_ok_and(|mac| mac.chain_update(message).verify_slice(signature).is_ok())
    }
}

/// The header with the signatures of all secrets, so that a receiver accepts the message whichever
/// of them it has.
#[cfg(feature = "client")]
pub(crate) fn signatures(secrets: &[WebhookSecret], id: &str, at: u64, body: &[u8]) -> String {
    let signed = secrets.iter().filter_map(|secret| secret.sign(id, at, body));
    signed.collect::<Vec<_>>().join(" ")
}

impl fmt::Debug for WebhookSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WebhookSecret")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_that_is_none_is_refused_and_never_shown() {
        let short = format!("whsec_{}", STANDARD.encode([1; 23]));
        let long = format!("whsec_{}", STANDARD.encode([1; 65]));
        let bare = STANDARD.encode([1; 24]);
        for text in [&*short, &*long, &*bare, "whsec_", "whsec_%%%", ""] {
            assert_eq!(text.parse::<WebhookSecret>(), Err(SecretError), "{text}");
        }
        let secret: WebhookSecret = format!("whsec_{bare}").parse().unwrap();
        assert!(!format!("{secret:?} {SecretError}").contains(&bare));
    }
}
