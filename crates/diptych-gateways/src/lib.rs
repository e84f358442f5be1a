//! Gateways of Diptych: the doors of its [processes](diptych::process) to systems outside.
//!
//! - [`HttpGateway`] sends a call as a request over HTTP, with the key of the call as
//!   `Idempotency-Key`.
//! - [`HttpFeed`] reads the [feed](diptych::collaboration) of another service.
//! - [`HttpTraces`] reads the part of a flow that another service has, for a trace of several
//!   services.
//! - [`Webhooks`] sends signed webhooks after the specification of Standard Webhooks.
//! - [`WebhookVerifier`] verifies those that come in, in any server.
//!
//! Without the feature `client`, which is on by default, the crate has only the last of them.
//!
//! ```
//! use diptych::{App, Memory, process::{CallsFrom, GatewayOptions}};
//! use diptych_gateways::{HttpGateway, HttpOptions};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize, Deserialize)]
//! struct Charge {
//!     order: u64,
//!     cents: u64,
//! }
//!
//! #[derive(Serialize, Deserialize)]
//! struct Charged {
//!     receipt: String,
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let charges = "https://payments.example/charges";
//! let payments = HttpGateway::<Charge, Charged>::post(charges, HttpOptions::default())?
//!     .header("authorization", "Bearer secret")?
//!     .found_at("https://payments.example/charges/{key}")?;
//! // The provider carries out a charge once for each key, so calls may be repeated.
//! let policy = GatewayOptions::default().idempotent();
//! let app = App::over(Memory::new()).gateway("payments", payments, CallsFrom::Beginning, policy);
//! # drop(app);
//! # Ok(()) }
//! ```
//!
//! # The outcome of a request
//!
//! A gateway has to tell whether a call that failed may have had its effect. This is how both read
//! a failure:
//!
//! | failure | meaning |
//! |---|---|
//! | the name has no address, or no connection opens | nothing was sent: tried again |
//! | the connection ends, or time runs out, after that | it may have been sent |
//! | an answer that is cut short, too long, or not as expected | the answer is lost |
//! | a status | see [`StatusMeaning::of`] |
//!
//! No redirect is followed, and no proxy of the environment is used.
//!
//! # Where to go next
//!
//! One guide shows [gateways in a process][calls], another one [webhooks in both
//! directions][webhooks].
//!
//! [calls]: https://github.com/diptych-rs/diptych/blob/main/docs/guides/outside-calls.md
//! [webhooks]: https://github.com/diptych-rs/diptych/blob/main/docs/guides/webhooks.md

#[cfg(feature = "client")]
mod address;
#[cfg(feature = "client")]
mod deliveries;
#[cfg(feature = "client")]
mod exchange;
#[cfg(feature = "client")]
mod feed;
#[cfg(feature = "client")]
mod http;
mod signature;
#[cfg(feature = "client")]
mod status;
#[cfg(feature = "client")]
mod traces;
mod verifier;
#[cfg(feature = "client")]
mod webhooks;

#[cfg(feature = "client")]
pub use self::http::{HttpGateway, HttpRequest};
#[cfg(feature = "client")]
pub use address::Reach;
#[cfg(feature = "client")]
pub use deliveries::{WebhookCall, WebhookReport};
#[cfg(feature = "client")]
pub use exchange::{GatewaySetupError, HttpOptions};
#[cfg(feature = "client")]
pub use feed::HttpFeed;
pub use signature::{PublicKeyError, SecretError, WebhookPublicKey, WebhookSecret};
#[cfg(feature = "client")]
pub use status::StatusMeaning;
#[cfg(feature = "client")]
pub use traces::HttpTraces;
pub use verifier::{WebhookFault, WebhookHeaders, WebhookVerifier};
#[cfg(feature = "client")]
pub use webhooks::{Webhook, WebhookDelivery, WebhookEndpoint, WebhookRefusal, Webhooks};
