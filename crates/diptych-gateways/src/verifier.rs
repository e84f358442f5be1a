//! Webhooks that come in: whether one is what its sender wrote, and how old it is.

use std::time::Duration;

use diptych::Timestamp;
use http::HeaderMap;

use crate::signature::{WebhookPublicKey, WebhookSecret};

const ID: &str = "webhook-id";
const TIMESTAMP: &str = "webhook-timestamp";
const SIGNATURE: &str = "webhook-signature";
/// Maximum number of bytes of an id. It becomes a part of an idempotency key.
const ID_BYTES: usize = 256;
/// Maximum number of signatures that are looked at. A rotation needs two of each scheme.
const SIGNATURES: usize = 16;

/// Verifies webhooks after the specification of Standard Webhooks. It needs no server of Diptych:
/// give it the headers and the body of a request.
///
/// ```
/// use diptych::Timestamp;
/// use diptych_gateways::{WebhookFault, WebhookHeaders, WebhookSecret, WebhookVerifier};
/// use http::HeaderMap;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let secret: WebhookSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".parse()?;
/// let verifier = WebhookVerifier::new([secret]);
///
/// let mut headers = HeaderMap::new();
/// headers.insert("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek".parse()?);
/// headers.insert("webhook-timestamp", "1614265330".parse()?);
/// let signature = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
/// headers.insert("webhook-signature", signature.parse()?);
/// let body = br#"{"test": 2432232314}"#;
///
/// let sent = WebhookHeaders::read(&headers)?;
/// let now = Timestamp::from_micros(1_614_265_330 * 1_000_000);
/// assert_eq!(verifier.verify(&sent, body, now), Ok(()));
/// assert_eq!(verifier.verify(&sent, b"{}", now), Err(WebhookFault::Signature));
/// # Ok(()) }
/// ```
///
/// A webhook that was verified may still be a repetition: carry out each [id](WebhookHeaders::id)
/// once.
#[derive(Clone, Debug)]
pub struct WebhookVerifier {
    secrets: Vec<WebhookSecret>,
    keys: Vec<WebhookPublicKey>,
    tolerance: Duration,
}

impl WebhookVerifier {
    /// Accepts webhooks that one of these secrets signed. While the sender exchanges a secret for
    /// another, both are here.
    pub fn new(secrets: impl IntoIterator<Item = WebhookSecret>) -> WebhookVerifier {
        let tolerance = Duration::from_secs(5 * 60);
        WebhookVerifier { secrets: secrets.into_iter().collect(), keys: Vec::new(), tolerance }
    }

    /// Also accepts webhooks that the owner of one of these keys signed.
    #[must_use]
    pub fn public_keys(mut self, keys: impl IntoIterator<Item = WebhookPublicKey>) -> Self {
        self.keys.extend(keys);
        self
    }

    /// How far the clock of the sender may be from the one here, in either direction. Within
    /// this time a webhook that was recorded on its way can be sent again. The default is five
    /// minutes.
    #[must_use]
    pub fn tolerance(self, tolerance: Duration) -> WebhookVerifier {
        WebhookVerifier { tolerance, ..self }
    }

    /// Whether it has neither a secret nor a key, and so accepts nothing.
    pub fn is_empty(&self) -> bool {
        self.secrets.is_empty() && self.keys.is_empty()
    }

    /// Checks that the sender signed exactly this id, this time and this body, and not long ago.
    ///
    /// # Errors
    /// [`WebhookFault::Signature`], or [`WebhookFault::Time`] for a webhook that is signed and has
    /// another time.
    pub fn verify(
        &self,
        headers: &WebhookHeaders,
        body: &[u8],
        now: Timestamp,
    ) -> Result<(), WebhookFault> {
        let WebhookHeaders { id, timestamp, signatures, .. } = headers;
        let message = [format!("{id}.{timestamp}.").as_bytes(), body].concat();
        let is_of_sender = signatures.iter().any(|signature| match signature {
            SentSignature::Symmetric(given) => {
                self.secrets.iter().any(|secret| secret.has_signed(&message, given))
            }
            SentSignature::Asymmetric(given) => {
                self.keys.iter().any(|key| key.has_signed(&message, given))
            }
        });
        if !is_of_sender {
            return Err(WebhookFault::Signature);
        }
        let apart = now.since(headers.sent_at).or_else(|| headers.sent_at.since(now));
        match apart.is_some_and(|apart| apart <= self.tolerance) {
            true => Ok(()),
            false => Err(WebhookFault::Time { sent_at: headers.sent_at }),
        }
    }
}

/// The headers of a webhook, before it is known whether they are true.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookHeaders {
    id: String,
    /// The time as it was sent, because this text is signed.
    timestamp: String,
    sent_at: Timestamp,
    signatures: Vec<SentSignature>,
}

/// A signature in the header.
#[derive(Clone, Debug, PartialEq, Eq)]
enum SentSignature {
    /// `v1`: HMAC-SHA256.
    Symmetric(Vec<u8>),
    /// `v1a`: ed25519.
    Asymmetric(Vec<u8>),
}

impl WebhookHeaders {
    /// Reads the headers `webhook-id`, `webhook-timestamp` and `webhook-signature`. Signatures of
    /// schemes that are not known here are left out.
    ///
    /// # Errors
    /// [`WebhookFault::Missing`], [`WebhookFault::Repeated`] or [`WebhookFault::Malformed`].
    pub fn read(headers: &HeaderMap) -> Result<WebhookHeaders, WebhookFault> {
        let id = only(headers, ID)?;
        // With a full stop in it, one text could be signed for two different messages.
        let is_plain = |byte: u8| byte.is_ascii_graphic() && byte != b'.';
        if id.is_empty() || id.len() > ID_BYTES || !id.bytes().all(is_plain) {
            let problem = "use at most 256 visible characters of ASCII, without a full stop";
            return Err(WebhookFault::Malformed { header: ID, problem });
        }
        let timestamp = only(headers, TIMESTAMP)?;
        let is_number =
            !timestamp.is_empty() && timestamp.bytes().all(|byte| byte.is_ascii_digit());
        let seconds = timestamp.parse::<i64>().ok().filter(|_| is_number);
        let micros = seconds.and_then(|seconds| seconds.checked_mul(1_000_000));
        let problem = "it is no number of seconds since 1970";
        let wrong = WebhookFault::Malformed { header: TIMESTAMP, problem };
        let sent_at = Timestamp::from_micros(micros.ok_or(wrong)?);
        let listed = only(headers, SIGNATURE)?;
        let signatures = listed.split(' ').take(SIGNATURES).filter_map(SentSignature::read);
        let (id, timestamp) = (id.to_owned(), timestamp.to_owned());
        Ok(WebhookHeaders { id, timestamp, sent_at, signatures: signatures.collect() })
    }

    /// The id. It is the same each time when the sender repeats the webhook.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// When it was sent. A repetition has a time of its own.
    pub fn sent_at(&self) -> Timestamp {
        self.sent_at
    }
}

impl SentSignature {
    fn read(text: &str) -> Option<SentSignature> {
        let (scheme, encoded) = text.split_once(',')?;
        let bytes = crate::signature::decoded(encoded)?;
        match scheme {
            "v1" => Some(SentSignature::Symmetric(bytes)),
            "v1a" => Some(SentSignature::Asymmetric(bytes)),
            _ => None,
        }
    }
}

/// The only value of a header, as text.
fn only<'h>(headers: &'h HeaderMap, header: &'static str) -> Result<&'h str, WebhookFault> {
    let mut values = headers.get_all(header).iter();
    match (values.next(), values.next()) {
        (None, _) => Err(WebhookFault::Missing { header }),
        (Some(_), Some(_)) => Err(WebhookFault::Repeated { header }),
        (Some(value), None) => value.to_str().map_err(|_| {
            let problem = "it is no text of ASCII";
            WebhookFault::Malformed { header, problem }
        }),
    }
}

/// Why a webhook is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WebhookFault {
    /// A header is missing.
    #[error("the webhook has no header {header}: send it after Standard Webhooks")]
    Missing {
        /// The name of the header.
        header: &'static str,
    },
    /// A header is there twice.
    #[error("the webhook has the header {header} more than once: send it once")]
    Repeated {
        /// The name of the header.
        header: &'static str,
    },
    /// A header cannot be read.
    #[error("the header {header} of the webhook cannot be read: {problem}")]
    Malformed {
        /// The name of the header.
        header: &'static str,
        /// The reason.
        problem: &'static str,
    },
    /// No known secret or key has signed it.
    #[error("no signature of the webhook is valid: compare the secrets of both sides")]
    Signature,
    /// It was signed too long ago, or in the future.
    #[error("the webhook was signed at {sent_at}, too far from now: compare the clocks")]
    Time {
        /// The time that it has.
        sent_at: Timestamp,
    },
}

impl WebhookFault {
    /// The header that the fault is about, if the webhook cannot be read.
    pub fn header(&self) -> Option<&'static str> {
        match self {
            WebhookFault::Missing { header }
            | WebhookFault::Repeated { header }
            | WebhookFault::Malformed { header, .. } => Some(header),
            WebhookFault::Signature | WebhookFault::Time { .. } => None,
        }
    }
}
