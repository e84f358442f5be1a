//! The payload of a variant: two private structs with its fields, one that borrows them and is
//! written, one that owns them and is read. What serde is told about the fields holds for both.

use proc_macro2::{Span, TokenStream};
use quote::{format_ident, quote};
use syn::{
    Expr, ExprLit, ExprPath, Ident, Lit, Meta, MetaNameValue, Result, ext::IdentExt, parse_quote,
};

use crate::declared::{Field, OwnVariant};

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
