//! Writes the implementation, as a person would write it.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::{GenericArgument, Ident, LitStr, PathArguments, Result, Type, spanned::Spanned};

use crate::{
    declaration::{Declaration, Own, OwnVariant, Tag, Variant},
    payload,
};

/// The output of `#[derive(Event)]`.
pub(crate) fn write(declared: &Declaration) -> Result<TokenStream> {
    match declared {
        Declaration::Struct { ident, event } => Ok(of_struct(ident, event)),
        Declaration::Enum { ident, variants } => of_enum(ident, variants),
    }
}

fn of_struct(ident: &Ident, event: &Own) -> TokenStream {
    let (name, codec, known) = (&event.name, codec(event), event_type(event));
    // If the type lacks a trait that the codec needs, the compiler's message points at the struct.
    let this = at(ident.span());
    let encode = quote_spanned!(this=> <#codec as ::diptych::event::Codec>::encode::<#ident>(self));
    let decode = quote_spanned!(this=> __encoded.read::<#codec, #ident>());
    let encode = encoded(event, &encode, |tag| {
        let field = &tag.field;
        quote_spanned!(at(tag.of.span())=> &self.#field)
    });
    implementation(&Functions {
        ident,
        types: quote!(::std::vec![#known]),
        encode,
        decode: quote! {
            match __encoded.event_type {
                #name => #decode,
                _ => ::std::result::Result::Err(__encoded.unknown::<Self>()),
            }
        },
        has_type: quote!(__name == #name),
    })
}

fn of_enum(ident: &Ident, variants: &[Variant]) -> Result<TokenStream> {
    let (mut names, mut known, mut inners) = (Vec::new(), Vec::new(), Vec::new());
    let (mut encode, mut decode) = (Vec::new(), Vec::new());
    // Arms with a literal name come first, because guards are tested one by one and cost more.
    let mut delegated = Vec::new();
    let mut conversions = Vec::new();
    for variant in variants {
        match variant {
            Variant::Own(variant) => {
                names.push(&variant.event.name);
                known.push(event_type(&variant.event));
                let (encoded, decoded) = arms(variant)?;
                encode.push(encoded);
                decode.push(decoded);
            }
            Variant::Of { ident: variant, inner } => {
                let event = quote_spanned!(at(inner.span())=> <#inner as ::diptych::Event>);
                encode.push(quote!(Self::#variant(__event) => #event::encode(__event),));
                delegated.push(quote! {
                    __other if #event::has_type(__other) => {
                        #event::decode(__encoded).map(Self::#variant)
                    }
                });
                conversions.push(conversion(ident, variant, inner));
                inners.push(event);
            }
        }
    }
    let own_types = (!known.is_empty()).then(|| quote!(::std::vec![#(#known),*],));
    let types = match inners.is_empty() {
        true => quote!(::std::vec![#(#known),*]),
        false => quote!([#own_types #(#inners::types()),*].concat()),
    };
    let own_names = (!names.is_empty()).then(|| quote!(::std::matches!(__name, #(#names)|*)));
    let has_type =
        own_names.into_iter().chain(inners.iter().map(|of| quote!(#of::has_type(__name))));
    let implementation = implementation(&Functions {
        ident,
        types,
        encode: quote!(match self { #(#encode)* }),
        decode: quote! {
            match __encoded.event_type {
                #(#decode)*
                #(#delegated)*
                _ => ::std::result::Result::Err(__encoded.unknown::<Self>()),
            }
        },
        has_type: quote!(#(#has_type)||*),
    });
    Ok(quote!(#implementation #(#conversions)*))
}

/// The arms of a variant with its own fields, in `encode` and in `decode`.
fn arms(variant: &OwnVariant) -> Result<(TokenStream, TokenStream)> {
    let OwnVariant { ident, event, fields, .. } = variant;
    let (name, codec, payload) = (&event.name, codec(event), payload::name(ident));
    let borrowed = payload::borrowed(variant)?;
    let owned = payload::owned(variant);
    let members: Vec<_> = fields.iter().map(|field| &field.ident).collect();
    let bound: Vec<_> = members.iter().map(|member| binding(*member)).collect();

    let taken =
        quote!(<#codec as ::diptych::event::Codec>::encode(&#payload { #(#members: #bound),* }));
    let encoded = encoded(event, &taken, |tag| {
        let mut bound = binding(&tag.field);
        bound.set_span(at(tag.of.span()));
        bound.to_token_stream()
    });
    let encode = quote! {
        Self::#ident { #(#members: #bound),* } => {
            #borrowed
            #encoded
        }
    };
    let decode = quote! {
        #name => {
            #owned
            let #payload { #(#members: #bound),* } = __encoded.read::<#codec, #payload>()?;
            ::std::result::Result::Ok(Self::#ident { #(#members: #bound),* })
        }
    };
    Ok((encode, decode))
}

/// A local name for a field. Without its prefix, the name could match a constant of the user.
fn binding(field: &impl ToTokens) -> Ident {
    let field = field.to_token_stream().to_string();
    format_ident!("__{}", field.trim_start_matches("r#"))
}

fn codec(event: &Own) -> TokenStream {
    match &event.codec {
        Some(codec) => quote!(#codec),
        None => quote!(::diptych::event::Json),
    }
}

fn event_type(event: &Own) -> TokenStream {
    let Own { name, version, codec, tags, fields } = event;
    let version = (*version != 1).then(|| quote!(.version(#version)));
    let keys: Vec<_> = tags.iter().map(|tag| &tag.key).collect();
    let keys = (!keys.is_empty()).then(|| quote!(.tags(&[#(#keys),*])));
    let codec = codec.as_ref().map(|codec| quote!(.codec::<#codec>()));
    let fields = fields.iter().map(|(name, of)| quote!((#name, #of)));
    let fields = quote!(.declared_by::<Self>(&[#(#fields),*]));
    quote!(::diptych::EventType::new(#name) #version #keys #codec #fields)
}

/// Builds the raw event from its name, the payload expression `taken`, its version and its tags.
fn encoded(event: &Own, taken: &TokenStream, value: impl Fn(&Tag) -> TokenStream) -> TokenStream {
    let Own { name, version, tags, .. } = event;
    let version = (*version != 1).then(|| quote!(.version(#version)));
    let raw = quote!(::diptych::store::RawEvent::new(#name, #taken?) #version);
    if tags.is_empty() {
        return quote!(::std::result::Result::Ok(#raw));
    }
    let tags = tags.iter().map(|tag| tagged(&tag.key, &tag.of, &value(tag)));
    quote! {
        let mut __event = #raw;
        #(#tags)*
        ::std::result::Result::Ok(__event)
    }
}

/// Adds the tags of a field: at most one for an `Option`, one for each element of a `Vec`.
fn tagged(key: &LitStr, of: &Type, value: &TokenStream) -> TokenStream {
    // If the type lacks a trait that a tag needs, the compiler's message points at the field's
    // type.
    let this = at(of.span());
    match container(of) {
        Some((container, inner)) => {
            let each = Ident::new("__value", at(inner.span()));
            let tagged = tagged(key, inner, &each.to_token_stream());
            match container {
                "Option" => {
                    quote!(if let ::std::option::Option::Some(#each) = #value { #tagged })
                }
                _ => quote!(for #each in #value { #tagged }),
            }
        }
        None => {
            let tag = quote_spanned!(this=> ::diptych::Tag::new(#key, #value));
            quote!(__event.tags.push(#tag);)
        }
    }
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

struct Functions<'a> {
    ident: &'a Ident,
    types: TokenStream,
    encode: TokenStream,
    decode: TokenStream,
    has_type: TokenStream,
}

fn implementation(functions: &Functions<'_>) -> TokenStream {
    let Functions { ident, types, encode, decode, has_type } = functions;
    let result = quote!(::std::result::Result);
    // Deprecated events stay in the log, so their code must not warn.
    quote! {
        #[automatically_derived]
        #[allow(deprecated)]
        impl ::diptych::Event for #ident {
            fn types() -> ::std::vec::Vec<::diptych::EventType> {
                #types
            }

            fn encode(&self) -> #result<::diptych::store::RawEvent, ::diptych::event::SchemaError> {
                #encode
            }

            fn decode(
                __encoded: &::diptych::event::EncodedEvent<'_>,
            ) -> #result<Self, ::diptych::event::SchemaError> {
                #decode
            }

            fn has_type(__name: &str) -> bool {
                #has_type
            }
        }
    }
}

fn conversion(ident: &Ident, variant: &Ident, inner: &TokenStream) -> TokenStream {
    quote! {
        #[automatically_derived]
        #[allow(deprecated)]
        impl ::std::convert::From<#inner> for #ident {
            fn from(__event: #inner) -> Self {
                Self::#variant(__event)
            }
        }
    }
}

/// A span for generated code. Compiler messages point at the user's code, but names resolve as
/// those of generated code.
fn at(span: Span) -> Span {
    Span::call_site().located_at(span)
}
