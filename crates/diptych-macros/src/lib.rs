//! `#[derive(Event)]` of the crate `diptych`, which re-exports it.

mod attributes;
mod declared;
mod payload;
mod written;

use proc_macro::TokenStream;
use syn::{DeriveInput, parse_macro_input};

/// Writes the implementation of `diptych::Event`.
#[proc_macro_derive(Event, attributes(event, tag, serde))]
pub fn event(item: TokenStream) -> TokenStream {
    let input = parse_macro_input!(item as DeriveInput);
    let written = declared::read(input).and_then(|declared| written::write(&declared));
    written.unwrap_or_else(|error| error.into_compile_error()).into()
}
