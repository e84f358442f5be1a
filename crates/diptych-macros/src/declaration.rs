//! Reads the declaration of an event from the syntax of an item, and checks it.

use std::collections::BTreeSet;

use proc_macro2::{Group, TokenStream, TokenTree};
use quote::ToTokens;
use syn::{
    Attribute, Data, DataEnum, DataStruct, DeriveInput, Error, Fields, Generics, Ident, LitStr,
    Member, Meta, Path, Result, Type,
};

use crate::{
    attributes::{self, NAMELESS, TagSource},
    described, serde_attributes,
};

/// A struct, or an enum of events.
pub(crate) struct Declaration {
    pub(crate) ident: Ident,
    /// The path of the crate `diptych`.
    pub(crate) diptych: Path,
    pub(crate) kind: Kind,
}

pub(crate) enum Kind {
    Struct(Own),
    Enum(Vec<Variant>),
}

/// An event whose name is in an `#[event]` of this item.
pub(crate) struct Own {
    pub(crate) name: LitStr,
    pub(crate) version: u32,
    /// The codec, if it is not the default.
    pub(crate) codec: Option<TokenStream>,
    pub(crate) tags: Vec<Tag>,
    /// The fields and their types as text.
    pub(crate) fields: Vec<(String, String)>,
}

/// A field that becomes tags.
pub(crate) struct Tag {
    pub(crate) source: TagSource,
    pub(crate) field: Member,
    pub(crate) of: Type,
}

pub(crate) enum Variant {
    /// The variant is an event of its own.
    Own(OwnVariant),
    /// The variant holds an event of another type.
    Of { ident: Ident, inner: TokenStream },
}

/// A variant that is an event of its own. It has named fields, or no fields.
pub(crate) struct OwnVariant {
    pub(crate) ident: Ident,
    pub(crate) event: Own,
    pub(crate) fields: Vec<Field>,
    /// The `#[serde(...)]` attributes of the payload.
    pub(crate) serde: Vec<Meta>,
}

/// A field of such a variant.
pub(crate) struct Field {
    pub(crate) ident: Ident,
    pub(crate) of: TokenStream,
    /// The `#[serde(...)]` attributes of the field.
    pub(crate) serde: Vec<Meta>,
}

/// Reads the item. Reports all of its errors together.
pub(crate) fn read(input: DeriveInput) -> Result<Declaration> {
    let DeriveInput { attrs, ident, generics, data, .. } = input;
    let mut errors = Errors::default();
    errors.take(without_generics(&generics));
    errors.take(attributes::refuse(&attrs, "tag", ON_TYPE));
    let declared = match data {
        Data::Struct(data) => errors.take(read_struct(&attrs, ident, &data)),
        Data::Enum(data) => errors.take(read_enum(&attrs, ident, data)),
        Data::Union(data) => {
            let problem = "a union cannot be an event: make it a struct or an enum";
            errors.take(Err(Error::new(data.union_token.span, problem)))
        }
    };
    errors.finish(declared)
}

fn without_generics(generics: &Generics) -> Result<()> {
    let problem = "an event cannot be generic: a name in the log is one type for ever";
    if let Some(lifetime) = generics.lifetimes().next() {
        let problem = "an event cannot borrow, because it outlives the code that makes it: own the \
                       data, for example as `String` in place of `&str`";
        return Err(Error::new_spanned(lifetime, problem));
    }
    match &generics.where_clause {
        _ if !generics.params.is_empty() => Err(Error::new_spanned(generics, problem)),
        Some(clause) => Err(Error::new_spanned(clause, problem)),
        None => Ok(()),
    }
}

fn read_struct(attributes: &[Attribute], ident: Ident, data: &DataStruct) -> Result<Declaration> {
    let mut errors = Errors::default();
    if let Fields::Unnamed(fields) = &data.fields
        && fields.unnamed.len() != 1
    {
        let problem = "fields of an event have names, so that one can be added: name them";
        errors.take::<()>(Err(Error::new_spanned(fields, problem)));
    }
    let event = errors.take(own(attributes, &ident, &data.fields));
    errors.finish(event.map(|(event, diptych)| {
        let diptych = diptych.unwrap_or_else(attributes::diptych);
        Declaration { ident, diptych, kind: Kind::Struct(event) }
    }))
}

fn read_enum(attributes: &[Attribute], ident: Ident, data: DataEnum) -> Result<Declaration> {
    let mut errors = Errors::default();
    let diptych = errors.take(attributes::of_enum(attributes)).flatten();
    let diptych = diptych.unwrap_or_else(attributes::diptych);
    let for_all = errors.take(serde_attributes::of_enum(attributes)).unwrap_or_default();
    if data.variants.is_empty() {
        let problem = "an enum without variants is no event: add one, or drop the derive";
        errors.take::<()>(Err(Error::new(ident.span(), problem)));
    }
    let (mut names, mut inners) = (BTreeSet::new(), BTreeSet::new());
    let mut variants = Vec::new();
    for variant in data.variants {
        let Some(variant) = errors.take(read_variant(&ident, variant, &for_all)) else {
            continue;
        };
        match &variant {
            Variant::Own(own) if !names.insert(own.event.name.value()) => {
                let problem = "two events have this name: rename the one that is in no log yet";
                errors.take::<()>(Err(Error::new(own.event.name.span(), problem)));
            }
            Variant::Of { inner, .. } if !inners.insert(inner.to_string()) => {
                let problem = "two variants hold this type, so an event that is read could be \
                               either of them: drop one";
                errors.take::<()>(Err(Error::new_spanned(inner, problem)));
            }
            _ => {}
        }
        variants.push(variant);
    }
    errors.finish(Some(Declaration { ident, diptych, kind: Kind::Enum(variants) }))
}

fn read_variant(of: &Ident, variant: syn::Variant, for_all: &[Meta]) -> Result<Variant> {
    let syn::Variant { attrs, ident, fields, .. } = variant;
    attributes::refuse(&attrs, "tag", ON_TYPE)?;
    match fields {
        Fields::Unnamed(fields) if fields.unnamed.len() == 1 => {
            let problem = "the variant holds an event that has its own name: drop the attribute, \
                           or name the field to make this an event: `{ details: Details }`";
            attributes::refuse(&attrs, "event", problem)?;
            let field = fields.unnamed.into_iter().next();
            let field =
                field.ok_or_else(|| Error::new(ident.span(), "the variant has no field"))?;
            attributes::refuse(&field.attrs, "event", ON_FIELD)?;
            let problem = "the event in the variant has its own tags: put the attribute there";
            attributes::refuse(&field.attrs, "tag", problem)?;
            Ok(Variant::Of { ident, inner: without_self(&field.ty, of) })
        }
        Fields::Unnamed(fields) => {
            let problem = "fields of an event have names, so that one can be added: name them; a \
                           variant without names holds one other event";
            Err(Error::new_spanned(fields, problem))
        }
        fields => {
            let (event, diptych) = own(&attrs, &ident, &fields)?;
            if let Some(path) = diptych {
                let problem = "the path of diptych stands before the enum: #[event(crate = path)]";
                return Err(Error::new_spanned(path, problem));
            }
            let serde = serde_attributes::of_variant(&attrs, for_all)?;
            let fields = fields.into_iter().filter_map(|field| {
                let (ident, of) = (field.ident?, without_self(&field.ty, of));
                Some(serde_attributes::metas(&field.attrs).map(|serde| Field { ident, of, serde }))
            });
            let fields = fields.collect::<Result<Vec<_>>>()?;
            Ok(Variant::Own(OwnVariant { ident, event, fields, serde }))
        }
    }
}

const ON_TYPE: &str = "a tag is a field: put the attribute there";
const ON_FIELD: &str = "a field is no event: put the attribute before the struct or the variant";

/// The event, and the path of `diptych` if its attribute has one.
fn own(attributes: &[Attribute], ident: &Ident, fields: &Fields) -> Result<(Own, Option<Path>)> {
    let mut errors = Errors::default();
    let nameless = || Error::new(ident.span(), NAMELESS);
    let event = attributes::event(attributes).and_then(|event| event.ok_or_else(nameless));
    let event = errors.take(event);
    let (mut tags, mut told) = (Vec::new(), Vec::new());
    for (member, field) in fields.members().zip(fields) {
        errors.take(attributes::refuse(&field.attrs, "event", ON_FIELD));
        let source = errors.take(attributes::tag(&field.attrs, field.ident.as_ref())).flatten();
        told.push(described::field(&member, field, source.as_ref()));
        if let Some(source) = source {
            tags.push(Tag { source, field: member, of: field.ty.clone() });
        }
    }
    errors.finish(event.map(|attributes::Event { name, version, codec, diptych }| {
        (Own { name, version, codec, tags, fields: told }, diptych)
    }))
}

/// Reads a struct whose fields give tags to the events that hold it.
pub(crate) fn read_tags(input: DeriveInput) -> Result<(Ident, Vec<Tag>)> {
    let DeriveInput { attrs, ident, generics, data, .. } = input;
    let mut errors = Errors::default();
    let problem = "the tags of a generic type are not known: make it a plain struct";
    if !generics.params.is_empty() {
        errors.take::<()>(Err(Error::new_spanned(generics, problem)));
    }
    errors.take(attributes::refuse(&attrs, "tag", ON_TYPE));
    let Data::Struct(data) = data else {
        let problem = "only the fields of a struct give tags: make it a struct";
        errors.take::<()>(Err(Error::new(ident.span(), problem)));
        return errors.finish(None);
    };
    let mut tags = Vec::new();
    for (member, field) in data.fields.members().zip(&data.fields) {
        let source = errors.take(attributes::tag(&field.attrs, field.ident.as_ref()));
        if let Some(source) = source.flatten() {
            tags.push(Tag { source, field: member, of: field.ty.clone() });
        }
    }
    if tags.is_empty() {
        let problem = "no field gives a tag: put #[tag] before one";
        errors.take::<()>(Err(Error::new(ident.span(), problem)));
    }
    errors.finish(Some((ident, tags)))
}

/// The type with the enum's name in place of `Self`. The generated code uses the type in places
/// where `Self` is another type.
pub(crate) fn without_self(of: &Type, ident: &Ident) -> TokenStream {
    renamed(of.to_token_stream(), ident)
}

fn renamed(tokens: TokenStream, ident: &Ident) -> TokenStream {
    let each = tokens.into_iter().map(|token| match token {
        TokenTree::Ident(this) if this == "Self" => {
            TokenTree::Ident(Ident::new(&ident.to_string(), this.span()))
        }
        TokenTree::Group(group) => {
            let mut inside = Group::new(group.delimiter(), renamed(group.stream(), ident));
            inside.set_span(group.span());
            TokenTree::Group(inside)
        }
        other => other,
    });
    each.collect()
}

/// Collects errors, so that the compiler reports all of them together.
#[derive(Default)]
pub(crate) struct Errors(Option<Error>);

impl Errors {
    /// Returns the value, or keeps the error and returns `None`.
    pub(crate) fn take<T>(&mut self, result: Result<T>) -> Option<T> {
        match (result, &mut self.0) {
            (Ok(value), _) => return Some(value),
            (Err(error), Some(so_far)) => so_far.combine(error),
            (Err(error), none) => *none = Some(error),
        }
        None
    }

    /// Returns the value, or all errors together if there are any.
    pub(crate) fn finish<T>(self, value: Option<T>) -> Result<T> {
        match (self.0, value) {
            (None, Some(value)) => Ok(value),
            (Some(error), _) => Err(error),
            // A value is missing only after an error, so this does not happen.
            (None, None) => Err(Error::new(proc_macro2::Span::call_site(), "not an event")),
        }
    }
}
