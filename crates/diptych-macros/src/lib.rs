//! The derive macro `Event` of the crate `diptych`, which re-exports it.

mod attributes;
mod declaration;
mod described;
mod expansion;
mod payload;
mod serde_attributes;
mod tags;

use proc_macro::TokenStream;
use syn::{DeriveInput, parse_macro_input};

/// Implements the trait `diptych::Event`. The documentation is at its export, `diptych::Event`.
///
/// The examples use the crate `diptych`. This crate cannot depend on it for tests: cargo would then
/// compile `diptych` and all that it needs a second time, for the compiler's own machine.
#[proc_macro_derive(Event, attributes(event, tag, serde))]
pub fn event(item: TokenStream) -> TokenStream {
    let input = parse_macro_input!(item as DeriveInput);
    let written = declaration::read(input).and_then(|declared| expansion::write(&declared));
    written.unwrap_or_else(|error| error.into_compile_error()).into()
}

/// Implements the trait `diptych::event::Tags`. The documentation is at its export.
#[proc_macro_derive(Tags, attributes(tag, tags))]
pub fn tags(item: TokenStream) -> TokenStream {
    let input = parse_macro_input!(item as DeriveInput);
    let written = tags::write(input);
    written.unwrap_or_else(|error| error.into_compile_error()).into()
}
