//! The tags that fields give, and the output of `#[derive(Tags)]`.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::{
    DeriveInput, GenericArgument, Ident, LitStr, Path, PathArguments, Result, Type,
    spanned::Spanned,
};

use crate::{
    attributes::{self, TagSource},
    declaration::{self, Tag, without_self},
};

/// The output of `#[derive(Tags)]`.
pub(crate) fn write(input: DeriveInput) -> Result<TokenStream> {
    let diptych = attributes::of_tags(&input.attrs)?.unwrap_or_else(attributes::diptych);
    let (ident, tags) = declaration::read_tags(input)?;
    let keys = keys(&tags, &ident, &diptych);
    let each = tags.iter().map(|tag| {
        let field = &tag.field;
        let value = quote_spanned!(at(tag.of.span())=> &self.#field);
        tagged(&tag.source, &tag.of, &value, &quote!((*__tags)), &diptych)
    });
    Ok(quote! {
        #[automatically_derived]
        #[allow(deprecated)]
        impl #diptych::event::Tags for #ident {
            const KEYS: &'static [&'static str] = #keys;

            fn tags(&self, __tags: &mut ::std::vec::Vec<#diptych::Tag>) {
                #(#each)*
            }
        }
    })
}

/// The distinct keys of these tags as a static slice, or `None` without tags.
pub(crate) fn keys(tags: &[Tag], of: &Ident, diptych: &Path) -> Option<TokenStream> {
    let (mut own, mut nested): (Vec<&LitStr>, Vec<TokenStream>) = (Vec::new(), Vec::new());
    for tag in tags {
        match &tag.source {
            TagSource::Value(key) if own.iter().any(|known| known.value() == key.value()) => {}
            TagSource::Value(key) => own.push(key),
            TagSource::Nested => {
                let inner = innermost(&tag.of);
                let (span, inner) = (at(inner.span()), without_self(inner, of));
                nested.push(quote_spanned!(span=> <#inner as #diptych::event::Tags>::KEYS));
            }
        }
    }
    if nested.is_empty() {
        return (!own.is_empty()).then(|| quote!(&[#(#own),*]));
    }
    Some(quote! {{
        const __PARTS: &[&[&str]] = &[&[#(#own),*], #(#nested),*];
        static __KEYS: ([&str; #diptych::private::total(__PARTS)], usize) =
            #diptych::private::distinct(__PARTS);
        __KEYS.0.split_at(__KEYS.1).0
    }})
}

/// Adds the tags of a field to the list `to`: at most one for an `Option`, one for each element of
/// a `Vec`.
pub(crate) fn tagged(
    source: &TagSource,
    of: &Type,
    value: &TokenStream,
    to: &TokenStream,
    diptych: &Path,
) -> TokenStream {
    // If the type lacks a trait that a tag needs, the compiler's message points at the field's
    // type.
    let this = at(of.span());
    if let Some((container, inner)) = container(of) {
        let each = Ident::new("__value", at(inner.span()));
        let tagged = tagged(source, inner, &each.to_token_stream(), to, diptych);
        return match container {
            "Option" => quote!(if let ::std::option::Option::Some(#each) = #value { #tagged }),
            _ => quote!(for #each in #value { #tagged }),
        };
    }
    match source {
        TagSource::Value(key) => {
            let tag = quote_spanned!(this=> #diptych::Tag::new(#key, #value));
            quote!(#to.push(#tag);)
        }
        TagSource::Nested => {
            quote_spanned!(this=> #diptych::event::Tags::tags(#value, &mut #to);)
        }
    }
}

/// The type in `Option`s and `Vec`s.
fn innermost(of: &Type) -> &Type {
    container(of).map_or(of, |(_, inner)| innermost(inner))
}

/// Recognises `Option<T>` and `Vec<T>` by the last segment of their path.
fn container(of: &Type) -> Option<(&'static str, &Type)> {
    let last = match of {
        // A macro of the user produced this type, and the compiler put it into a group.
        Type::Group(group) => return container(&group.elem),
        Type::Paren(paren) => return container(&paren.elem),
        Type::Path(path) => path.path.segments.last()?,
        _ => return None,
    };
    let container = ["Option", "Vec"].into_iter().find(|name| last.ident == name)?;
    let PathArguments::AngleBracketed(arguments) = &last.arguments else {
        return None;
    };
    match arguments.args.first()? {
        GenericArgument::Type(inner) => Some((container, inner)),
        _ => None,
    }
}

/// A span for generated code. Compiler messages point at the user's code, but names resolve as
/// those of generated code.
pub(crate) fn at(span: Span) -> Span {
    Span::call_site().located_at(span)
}
