//! The `#[serde(...)]` attributes of an enum, of its variants and of their fields.

use quote::ToTokens;
use syn::{Attribute, Error, Meta, Result, Token, parse_quote, punctuated::Punctuated};

/// Attributes of a variant that hold for its payload.
const OF_PAYLOAD: [&str; 2] = ["rename_all", "deny_unknown_fields"];
/// Attributes that name a variant when the enum derives serde's traits as well; no part of the
/// payload.
const OF_NAME: [&str; 2] = ["rename", "alias"];

/// Everything in the `#[serde(...)]` among these attributes.
pub(crate) fn metas(attributes: &[Attribute]) -> Result<Vec<Meta>> {
    let mut metas = Vec::new();
    for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("serde")) {
        let list = Punctuated::<Meta, Token![,]>::parse_terminated;
        metas.extend(attribute.parse_args_with(list)?);
    }
    Ok(metas)
}

/// The attributes of an enum that hold for the payloads of all variants. Those that tell variants
/// apart are left out: an event has its name for that.
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

/// The attributes of the payload of a variant: its own, and those `for_all` that it does not
/// replace.
pub(crate) fn of_variant(attributes: &[Attribute], for_all: &[Meta]) -> Result<Vec<Meta>> {
    let mut own = metas(attributes)?;
    for meta in &own {
        if !is_one_of(meta, &OF_PAYLOAD) && !is_one_of(meta, &OF_NAME) {
            let key = meta.path().to_token_stream();
            let problem = format!(
                "`{key}` cannot be said of the payload of a variant: make the event a struct \
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
