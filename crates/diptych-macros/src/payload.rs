//! The payload of a variant, as two private structs with the fields of the variant. `encode`
//! serialises one that borrows the fields, and `decode` deserialises one that owns them. The
//! `#[serde(...)]` attributes of the fields apply to both.

use proc_macro2::{Span, TokenStream};
use quote::{format_ident, quote};
use syn::{
    Error, Expr, ExprLit, ExprPath, Ident, Lit, Meta, MetaNameValue, Path, Result, ext::IdentExt,
    parse_quote,
};

use crate::declaration::{Field, OwnVariant};

/// The name of the private structs. No field is likely to have a type of this name, and serde's
/// generated code uses other names (such as `__Field` and `__D`).
pub(crate) fn name(variant: &Ident) -> Ident {
    format_ident!("__{}Payload", variant)
}

/// The struct that `decode` deserialises.
pub(crate) fn owned(variant: &OwnVariant, diptych: &Path) -> TokenStream {
    let OwnVariant { ident, fields, serde, .. } = variant;
    let (name, said) = (name(ident), said(ident, serde, diptych));
    let fields = fields.iter().map(|Field { ident, of, serde }| {
        let serde = (!serde.is_empty()).then(|| quote!(#[serde(#(#serde),*)]));
        quote!(#serde #ident: #of)
    });
    quote! {
        #[derive(#diptych::private::serde::Deserialize)]
        #said
        struct #name { #(#fields,)* }
    }
}

/// The struct that `encode` serialises.
pub(crate) fn borrowed(variant: &OwnVariant, diptych: &Path) -> Result<TokenStream> {
    let OwnVariant { ident, fields, serde, .. } = variant;
    let (name, said) = (name(ident), said(ident, serde, diptych));
    let lifetime = (!fields.is_empty()).then(|| quote!(<'__field>));
    let mut functions = Vec::new();
    let fields = fields.iter().map(|field| {
        let Field { ident, of, .. } = field;
        let serde = adapted(field, diptych, &mut functions)?;
        let serde = (!serde.is_empty()).then(|| quote!(#[serde(#(#serde),*)]));
        Ok(quote!(#serde #ident: &'__field #of))
    });
    let fields = fields.collect::<Result<Vec<_>>>()?;
    Ok(quote! {
        #(#functions)*
        #[derive(#diptych::private::serde::Serialize)]
        #said
        struct #name #lifetime { #(#fields,)* }
    })
}

/// The attributes of both structs. They rename the struct to the variant, for serde's messages and
/// for codecs that write names.
fn said(variant: &Ident, serde: &[Meta], diptych: &Path) -> TokenStream {
    let of_serde = quote!(#diptych::private::serde).to_string().replace(' ', "");
    let variant = variant.unraw().to_string();
    let expecting = format!("struct {variant}");
    // `dead_code`, because no code reads a field that serde skips.
    quote! {
        #[serde(crate = #of_serde, rename = #variant, expecting = #expecting)]
        #[serde(#(#serde),*)]
        #[allow(dead_code)]
    }
}

/// The `#[serde(...)]` attributes of a borrowed field. Serde calls the user's functions with a
/// reference to the field. The field is itself a reference here, so generated functions in between
/// remove one level of reference.
fn adapted(field: &Field, diptych: &Path, functions: &mut Vec<TokenStream>) -> Result<Vec<Meta>> {
    let Field { ident, of, serde } = field;
    let serializer = |path: &ExprPath| {
        let name = format_ident!("__serialize_{}", ident);
        let function = quote! {
            fn #name<__S>(
                &__field: &&#of,
                __serializer: __S,
            ) -> ::std::result::Result<__S::Ok, __S::Error>
            where
                __S: #diptych::private::serde::Serializer,
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

/// The path in `key = "path"`. For any other form, serde itself reports the error.
fn called(meta: &Meta, key: &str) -> Result<Option<ExprPath>> {
    match meta {
        Meta::NameValue(MetaNameValue {
            path,
            value: Expr::Lit(ExprLit { lit: Lit::Str(called), .. }),
            ..
        }) if path.is_ident(key) => called.parse().map(Some).map_err(|_| {
            let problem = format!("`{key}` is the path of a function or module: {key} = \"a::b\"");
            Error::new(called.span(), problem)
        }),
        _ => Ok(None),
    }
}

fn calling(key: &str, function: &Ident) -> Meta {
    let (key, function) = (Ident::new(key, Span::call_site()), function.to_string());
    parse_quote!(#key = #function)
}
