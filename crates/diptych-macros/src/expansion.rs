//! Writes the implementation, as a person would write it.

use proc_macro2::TokenStream;
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::{Ident, Path, Result, spanned::Spanned};

use crate::{
    declaration::{Declaration, Kind, Own, OwnVariant, Tag, Variant},
    payload,
    tags::{at, keys, tagged},
};

/// The trait that a macro implements. Both have the same functions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DerivedTrait {
    Event,
    PublicEvent,
}

impl DerivedTrait {
    fn path(self, diptych: &Path) -> TokenStream {
        match self {
            DerivedTrait::Event => quote!(#diptych::Event),
            DerivedTrait::PublicEvent => quote!(#diptych::collaboration::PublicEvent),
        }
    }
}

/// The output of `#[derive(Event)]` and `#[derive(PublicEvent)]`.
pub(crate) fn write(declared: &Declaration, implemented: DerivedTrait) -> Result<TokenStream> {
    let Declaration { ident, diptych, kind } = declared;
    let implemented = implemented.path(diptych);
    match kind {
        Kind::Struct(event) => Ok(of_struct(ident, event, diptych, implemented)),
        Kind::Enum(variants) => of_enum(ident, variants, diptych, implemented),
    }
}

fn of_struct(ident: &Ident, event: &Own, diptych: &Path, implemented: TokenStream) -> TokenStream {
    let (name, codec) = (&event.name, codec(event, diptych));
    let known = event_type(event, ident, diptych);
    // If the type lacks a trait that the codec needs, the compiler's message points at the struct.
    let this = at(ident.span());
    let encode = quote_spanned! {this=>
        <#codec as #diptych::event::Codec>::encode::<#ident>(self)
    };
    let decode = quote_spanned!(this=> __encoded.read::<#codec, #ident>());
    let encode = encoded(event, &encode, diptych, |tag| {
        let field = &tag.field;
        quote_spanned!(at(tag.of.span())=> &self.#field)
    });
    implementation(&Functions {
        ident,
        diptych,
        implemented,
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

fn of_enum(
    ident: &Ident,
    variants: &[Variant],
    diptych: &Path,
    implemented: TokenStream,
) -> Result<TokenStream> {
    let (mut names, mut known, mut inners) = (Vec::new(), Vec::new(), Vec::new());
    let (mut encode, mut decode) = (Vec::new(), Vec::new());
    // Arms with a literal name come first, because guards are tested one by one and cost more.
    let mut delegated = Vec::new();
    let mut conversions = Vec::new();
    for variant in variants {
        match variant {
            Variant::Own(variant) => {
                names.push(&variant.event.name);
                known.push(event_type(&variant.event, ident, diptych));
                let (encoded, decoded) = arms(variant, diptych)?;
                encode.push(encoded);
                decode.push(decoded);
            }
            Variant::Of { ident: variant, inner } => {
                let event = quote_spanned!(at(inner.span())=> <#inner as #implemented>);
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
        diptych,
        implemented,
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
fn arms(variant: &OwnVariant, diptych: &Path) -> Result<(TokenStream, TokenStream)> {
    let OwnVariant { ident, event, fields, .. } = variant;
    let (name, codec, payload) = (&event.name, codec(event, diptych), payload::name(ident));
    let borrowed = payload::borrowed(variant, diptych)?;
    let owned = payload::owned(variant, diptych);
    let members: Vec<_> = fields.iter().map(|field| &field.ident).collect();
    let bound: Vec<_> = members.iter().map(|member| binding(*member)).collect();

    let taken =
        quote!(<#codec as #diptych::event::Codec>::encode(&#payload { #(#members: #bound),* }));
    let encoded = encoded(event, &taken, diptych, |tag| {
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

fn codec(event: &Own, diptych: &Path) -> TokenStream {
    match &event.codec {
        Some(codec) => quote!(#codec),
        None => quote!(#diptych::event::Json),
    }
}

fn event_type(event: &Own, of: &Ident, diptych: &Path) -> TokenStream {
    let Own { name, version, codec, tags, fields } = event;
    let version = (*version != 1).then(|| quote!(.version(#version)));
    let keys = keys(tags, of, diptych).map(|keys| quote!(.tags(#keys)));
    let codec = codec.as_ref().map(|codec| quote!(.codec::<#codec>()));
    let fields = fields.iter().map(|(name, of)| quote!((#name, #of)));
    let fields = quote!(.declared_by::<Self>(&[#(#fields),*]));
    quote!(#diptych::EventType::new(#name) #version #keys #codec #fields)
}

/// Builds the raw event from its name, the payload expression `taken`, its version and its tags.
fn encoded(
    event: &Own,
    taken: &TokenStream,
    diptych: &Path,
    value: impl Fn(&Tag) -> TokenStream,
) -> TokenStream {
    let Own { name, version, tags, .. } = event;
    let version = (*version != 1).then(|| quote!(.version(#version)));
    let raw = quote!(#diptych::store::RawEvent::new(#name, #taken?) #version);
    if tags.is_empty() {
        return quote!(::std::result::Result::Ok(#raw));
    }
    let to = quote!(__event.tags);
    let tags = tags.iter().map(|tag| tagged(&tag.source, &tag.of, &value(tag), &to, diptych));
    quote! {
        let mut __event = #raw;
        #(#tags)*
        ::std::result::Result::Ok(__event)
    }
}

struct Functions<'a> {
    ident: &'a Ident,
    diptych: &'a Path,
    /// The trait.
    implemented: TokenStream,
    types: TokenStream,
    encode: TokenStream,
    decode: TokenStream,
    has_type: TokenStream,
}

fn implementation(functions: &Functions<'_>) -> TokenStream {
    let Functions { ident, diptych, implemented, types, encode, decode, has_type } = functions;
    let result = quote!(::std::result::Result);
    // Deprecated events stay in the log, so their code must not warn.
    quote! {
        #[automatically_derived]
        #[allow(deprecated)]
        impl #implemented for #ident {
            fn types() -> ::std::vec::Vec<#diptych::EventType> {
                #types
            }

            fn encode(&self) -> #result<#diptych::store::RawEvent, #diptych::event::SchemaError> {
                #encode
            }

            fn decode(
                __encoded: &#diptych::event::EncodedEvent<'_>,
            ) -> #result<Self, #diptych::event::SchemaError> {
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
