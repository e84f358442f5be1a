//! Gateways of Diptych: the doors of its [processes](diptych::process) to systems outside.
//!
//! - [`HttpGateway`] sends a call as a request over HTTP, with the key of the call as
//!   `Idempotency-Key`.
//! - [`HttpFeed`] reads the [feed](diptych::collaboration) of another service.
//! - [`HttpTraces`] reads the part of a flow that another service has, for a trace of several
//!   services.
//! - [`Webhooks`] sends signed webhooks after the specification of Standard Webhooks.
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
//! The [guide] shows both gateways in a process.
//!
//! [guide]: https://github.com/diptych-rs/diptych/blob/main/docs/guides/outside-calls.md

mod address;
mod exchange;
mod feed;
mod http;
mod signature;
mod status;
mod traces;
mod webhooks;

pub use address::Reach;
pub use exchange::{GatewaySetupError, HttpOptions};
pub use feed::HttpFeed;
pub use http::{HttpGateway, HttpRequest};
pub use signature::{SecretError, WebhookSecret};
pub use status::StatusMeaning;
pub use traces::HttpTraces;
pub use webhooks::{Webhook, WebhookDelivery, WebhookEndpoint, WebhookRefusal, Webhooks};
