//! The payload of a variant: two private structs with its fields, one that borrows them and is
//! written, one that owns them and is read. What serde is told about the fields holds for both.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, format_ident, quote};
use syn::{
    Attribute, Error, Expr, ExprLit, ExprPath, Ident, Lit, Meta, MetaNameValue, Result, Token,
    ext::IdentExt, parse_quote, punctuated::Punctuated,
};

use crate::declared::{Field, OwnVariant};

/// What serde can be told about a variant, and is told about its payload.
const OF_PAYLOAD: [&str; 2] = ["rename_all", "deny_unknown_fields"];
/// How serde names a variant when the enum derives its traits as well; no part of the payload.
const OF_NAME: [&str; 2] = ["rename", "alias"];

/// Everything in the `#[serde(...)]` among these.
pub(crate) fn metas(attributes: &[Attribute]) -> Result<Vec<Meta>> {
    let mut metas = Vec::new();
    for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("serde")) {
        let list = Punctuated::<Meta, Token![,]>::parse_terminated;
        metas.extend(attribute.parse_args_with(list)?);
    }
    Ok(metas)
}

/// What serde is told about an enum and holds for the payloads of all of its variants. How it
/// tells one variant from another is not asked: an event has its name for that.
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

/// What serde is told about the payload of a variant; `for_all` is what it is told about all of
/// them, and yields to what the variant says itself.
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

/// The private struct of the payload of this variant. It is called neither what a field's type
/// may be called, nor what serde calls things in the code that it writes (`__Field`, `__D`).
pub(crate) fn name(variant: &Ident) -> Ident {
    format_ident!("__{}Payload", variant)
}

/// The struct that is read.
pub(crate) fn owned(variant: &OwnVariant) -> TokenStream {
    let OwnVariant { ident, fields, serde, .. } = variant;
    let (name, said) = (name(ident), said(ident, serde));
    let fields = fields.iter().map(|Field { ident, of, serde }| {
        let serde = (!serde.is_empty()).then(|| quote!(#[serde(#(#serde),*)]));
        quote!(#serde #ident: #of)
    });
    quote! {
        #[derive(::diptych::private::serde::Deserialize)]
        #said
        struct #name { #(#fields,)* }
    }
}

/// The struct that is written.
pub(crate) fn borrowed(variant: &OwnVariant) -> Result<TokenStream> {
    let OwnVariant { ident, fields, serde, .. } = variant;
    let (name, said) = (name(ident), said(ident, serde));
    let lifetime = (!fields.is_empty()).then(|| quote!(<'__field>));
    let mut functions = Vec::new();
    let fields = fields.iter().map(|field| {
        let Field { ident, of, .. } = field;
        let serde = adapted(field, &mut functions)?;
        let serde = (!serde.is_empty()).then(|| quote!(#[serde(#(#serde),*)]));
        Ok(quote!(#serde #ident: &'__field #of))
    });
    let fields = fields.collect::<Result<Vec<_>>>()?;
    Ok(quote! {
        #(#functions)*
        #[derive(::diptych::private::serde::Serialize)]
        #said
        struct #name #lifetime { #(#fields,)* }
    })
}

/// What serde is told about both: its messages, and codecs that write names, call it like the
/// variant.
fn said(variant: &Ident, serde: &[Meta]) -> TokenStream {
    let variant = variant.unraw().to_string();
    let expecting = format!("struct {variant}");
    // Nobody reads a field that serde skips.
    quote! {
        #[serde(crate = "::diptych::private::serde", rename = #variant, expecting = #expecting)]
        #[serde(#(#serde),*)]
        #[allow(dead_code)]
    }
}

/// What serde is told about a borrowed field. It calls functions of the user with a reference to
/// the field, which here is a reference itself; so functions stand between that take one off.
fn adapted(field: &Field, functions: &mut Vec<TokenStream>) -> Result<Vec<Meta>> {
    let Field { ident, of, serde } = field;
    let serializer = |path: &ExprPath| {
        let name = format_ident!("__serialize_{}", ident);
        let function = quote! {
            fn #name<__S>(
                &__field: &&#of,
                __serializer: __S,
            ) -> ::std::result::Result<__S::Ok, __S::Error>
            where
                __S: ::diptych::private::serde::Serializer,
            {
                #path(__field, __serializer)
            }
        };
        (calling("serialize_with", &name), function)
    };
    let mut adapted = Vec::new();
    for meta in serde {
        let (meta, function) = if let Some(mut path) = called(meta, "with")? {
            path.path.segments.push(parse_quote!(serialize));
            serializer(&path)
        } else if let Some(path) = called(meta, "serialize_with")? {
            serializer(&path)
        } else if let Some(path) = called(meta, "skip_serializing_if")? {
            let name = format_ident!("__skip_{}", ident);
            let function = quote!(fn #name(&__field: &&#of) -> bool { #path(__field) });
            (calling("skip_serializing_if", &name), function)
        } else {
            (meta.clone(), TokenStream::new())
        };
        adapted.push(meta);
        functions.push(function);
    }
    Ok(adapted)
}

/// The path in `key = "path"`. Where it is something else, serde says what is wrong.
fn called(meta: &Meta, key: &str) -> Result<Option<ExprPath>> {
    match meta {
        Meta::NameValue(MetaNameValue {
            path,
            value: Expr::Lit(ExprLit { lit: Lit::Str(called), .. }),
            ..
        }) if path.is_ident(key) => called.parse().map(Some),
        _ => Ok(None),
    }
}

fn calling(key: &str, function: &Ident) -> Meta {
    let (key, function) = (Ident::new(key, Span::call_site()), function.to_string());
    parse_quote!(#key = #function)
}
