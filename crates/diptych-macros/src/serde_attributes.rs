//! The `#[serde(...)]` attributes of an enum, of its variants and of their fields.

use quote::ToTokens;
use syn::{Attribute, Error, Meta, Result, Token, parse_quote, punctuated::Punctuated};

/// Attributes of a variant that apply to its payload.
const OF_PAYLOAD: [&str; 2] = ["rename_all", "deny_unknown_fields"];
/// Attributes that rename a variant for serde's own derives. They do not change the payload.
const OF_NAME: [&str; 2] = ["rename", "alias"];

/// All items of the `#[serde(...)]` attributes.
pub(crate) fn metas(attributes: &[Attribute]) -> Result<Vec<Meta>> {
    let mut metas = Vec::new();
    for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("serde")) {
        let list = Punctuated::<Meta, Token![,]>::parse_terminated;
        metas.extend(attribute.parse_args_with(list)?);
    }
    Ok(metas)
}

/// The attributes of an enum that apply to the payloads of all variants. Attributes that tell
/// variants apart are left out, because an event's name does that.
pub(crate) fn of_enum(attributes: &[Attribute]) -> Result<Vec<Meta>> {
    let metas = metas(attributes)?.into_iter().filter_map(|mut meta| {
        if meta.path().is_ident("deny_unknown_fields") {
            return Some(meta);
        }
        if !meta.path().is_ident("rename_all_fields") {
            return None;
        }
        let path = match &mut meta {
            Meta::Path(path) => path,
            Meta::List(list) => &mut list.path,
            Meta::NameValue(pair) => &mut pair.path,
        };
        *path = parse_quote!(rename_all);
        Some(meta)
    });
    Ok(metas.collect())
}

/// The attributes of a variant's payload: its own, and each of `for_all` that it does not override.
pub(crate) fn of_variant(attributes: &[Attribute], for_all: &[Meta]) -> Result<Vec<Meta>> {
    let mut own = metas(attributes)?;
    for meta in &own {
        if !is_one_of(meta, &OF_PAYLOAD) && !is_one_of(meta, &OF_NAME) {
            let key = meta.path().to_token_stream();
            let problem = format!(
                "`{key}` cannot apply to the payload of a variant: make the event a struct \
                 that derives Event, and hold it in the variant"
            );
            return Err(Error::new_spanned(meta, problem));
        }
    }
    own.retain(|meta| is_one_of(meta, &OF_PAYLOAD));
    for meta in for_all {
        if !own.iter().any(|own| own.path().get_ident() == meta.path().get_ident()) {
            own.push(meta.clone());
        }
    }
    Ok(own)
}

fn is_one_of(meta: &Meta, keys: &[&str]) -> bool {
    keys.iter().any(|key| meta.path().is_ident(key))
}
