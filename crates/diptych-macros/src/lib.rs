//! The derive macros `Event`, `PublicEvent` and `Tags` of the crate
//! [`diptych`](https://docs.rs/diptych), which exports them with its default feature `derive`, and
//! `Record` of the crate [`diptych-records`](https://docs.rs/diptych-records).
//!
//! ```text
//! use diptych::Event;
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Event, Serialize, Deserialize)]
//! #[event("payment-made", version = 2)]
//! struct Paid {
//!     #[tag]
//!     account: u64,
//!     cents: u64,
//! }
//! ```
//!
//! The attributes are described at [`diptych::Event`][event], and the guide to their use over time
//! is [Evolving events][guide]. The crate has no features.
//!
//! [event]: https://docs.rs/diptych/latest/diptych/derive.Event.html
//! [guide]: https://github.com/diptych-rs/diptych/blob/main/docs/guides/evolving-events.md

mod attributes;
mod declaration;
mod described;
mod expansion;
mod payload;
mod record;
mod serde_attributes;
mod tags;

use expansion::DerivedTrait;
use proc_macro::TokenStream;
use syn::{DeriveInput, parse_macro_input};

/// Implements the trait `diptych::Event`. The documentation is at its export, `diptych::Event`.
///
/// The examples use the crate `diptych`. This crate cannot depend on it for tests: cargo would then
/// compile `diptych` and all that it needs a second time, for the compiler's own machine.
#[proc_macro_derive(Event, attributes(event, tag, serde))]
pub fn event(item: TokenStream) -> TokenStream {
    implement(item, DerivedTrait::Event)
}

/// Implements the trait `diptych::collaboration::PublicEvent`. The documentation is at its export.
#[proc_macro_derive(PublicEvent, attributes(event, tag, serde))]
pub fn public_event(item: TokenStream) -> TokenStream {
    implement(item, DerivedTrait::PublicEvent)
}

fn implement(item: TokenStream, implemented: DerivedTrait) -> TokenStream {
    let input = parse_macro_input!(item as DeriveInput);
    let written =
        declaration::read(input).and_then(|declared| expansion::write(&declared, implemented));
    written.unwrap_or_else(|error| error.into_compile_error()).into()
}

/// Implements the trait `diptych::event::Tags`. The documentation is at its export.
#[proc_macro_derive(Tags, attributes(tag, tags))]
pub fn tags(item: TokenStream) -> TokenStream {
    let input = parse_macro_input!(item as DeriveInput);
    let written = tags::write(input);
    written.unwrap_or_else(|error| error.into_compile_error()).into()
}

/// Implements the trait `diptych_records::Record`. The documentation is at its export.
#[proc_macro_derive(Record, attributes(record, key, unique, index, retired, serde))]
pub fn record(item: TokenStream) -> TokenStream {
    let input = parse_macro_input!(item as DeriveInput);
    let written = record::write(input);
    written.unwrap_or_else(|error| error.into_compile_error()).into()
}
