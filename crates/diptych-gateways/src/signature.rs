//! Signatures after Standard Webhooks.

use std::{fmt, str::FromStr};

use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// The secret that a receiver of webhooks shares: `whsec_` and 24 to 64 bytes in base64.
#[derive(Clone, PartialEq, Eq)]
pub struct WebhookSecret(Vec<u8>);

/// A text is no secret of webhooks. The text is not shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the secret is not `whsec_` with 24 to 64 bytes in base64: take it over unchanged")]
pub struct SecretError;

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
    fn sign(&self, id: &str, at: u64, body: &[u8]) -> Option<String> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).ok()?;
        mac.update(format!("{id}.{at}.").as_bytes());
        mac.update(body);
        Some(format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes())))
    }
}

/// The header with the signatures of all secrets, so that a receiver accepts the message whichever
/// of them it has.
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
