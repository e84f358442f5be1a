//! Parses the attributes `#[event(...)]` and `#[tag(...)]`.

use proc_macro2::TokenStream;
use quote::ToTokens;
use syn::{
    Attribute, Error, Ident, LitInt, LitStr, Meta, Result, Token, Type, ext::IdentExt,
    parse::ParseStream,
};

pub(crate) const NAMELESS: &str = "give the event a stable name: #[event(\"account-opened\")]; it \
                                   stands in the log for ever, so it is not taken from the Rust \
                                   name";

/// `#[event("name", version = 2, codec = MessagePack)]`.
pub(crate) struct Event {
    pub(crate) name: LitStr,
    pub(crate) version: u32,
    /// The codec, if it is not the default.
    pub(crate) codec: Option<TokenStream>,
}

/// The parsed attribute `#[event]` among `attributes`, if there is one.
pub(crate) fn event(attributes: &[Attribute]) -> Result<Option<Event>> {
    let Some(attribute) = only(attributes, "event", "an event has one name: drop this")? else {
        return Ok(None);
    };
    match &attribute.meta {
        Meta::List(list) => list.parse_args_with(|input: ParseStream<'_>| {
            if !input.peek(LitStr) {
                return Err(Error::new_spanned(attribute, NAMELESS));
            }
            named(input).map(Some)
        }),
        _ => Err(Error::new_spanned(attribute, NAMELESS)),
    }
}

fn named(input: ParseStream<'_>) -> Result<Event> {
    let name: LitStr = input.parse()?;
    if name.value().trim().is_empty() {
        let problem = "an event cannot be found by an empty name: say what happened";
        return Err(Error::new(name.span(), problem));
    }
    let (mut version, mut codec) = (None, None);
    while !input.is_empty() {
        input.parse::<Token![,]>()?;
        if input.is_empty() {
            break;
        }
        let key = input.call(Ident::parse_any)?;
        let twice = match key.to_string().as_str() {
            "version" => {
                input.parse::<Token![=]>()?;
                version.replace(number(input)?).is_some()
            }
            "codec" => {
                input.parse::<Token![=]>()?;
                codec.replace(input.parse::<Type>()?.into_token_stream()).is_some()
            }
            other => {
                let problem =
                    format!("unknown option `{other}`: the options are `version` and `codec`");
                return Err(Error::new(key.span(), problem));
            }
        };
        if twice {
            return Err(Error::new(key.span(), format!("`{key}` is there twice: drop one")));
        }
    }
    Ok(Event { name, version: version.unwrap_or(1), codec })
}

fn number(input: ParseStream<'_>) -> Result<u32> {
    let problem = "the version of an event is a number, from 1: version = 2";
    let literal = input.parse::<LitInt>();
    let literal = literal.map_err(|error| Error::new(error.span(), problem))?;
    match literal.base10_parse() {
        Ok(version) if version > 0 => Ok(version),
        _ => Err(Error::new(literal.span(), problem)),
    }
}

/// The tag's key, if `#[tag]` or `#[tag("key")]` is among `attributes`. `field` is the name of the
/// field, if it has one.
pub(crate) fn tag(attributes: &[Attribute], field: Option<&Ident>) -> Result<Option<LitStr>> {
    let Some(attribute) = only(attributes, "tag", "a field has at most one #[tag]: drop this")?
    else {
        return Ok(None);
    };
    let key = match (&attribute.meta, field) {
        (Meta::Path(_), Some(field)) => {
            // `r#` belongs to the Rust syntax and not to the name.
            return Ok(Some(LitStr::new(&field.unraw().to_string(), field.span())));
        }
        (Meta::Path(_), None) => {
            let problem = "a field without a name needs a key: #[tag(\"order\")]";
            return Err(Error::new_spanned(attribute, problem));
        }
        (Meta::List(list), _) => list.parse_args::<LitStr>(),
        (Meta::NameValue(_), _) => Err(Error::new_spanned(attribute, "")),
    };
    let key = key.map_err(|_| {
        let problem = "a tag is #[tag], with the name of the field as its key, or #[tag(\"key\")]";
        Error::new_spanned(attribute, problem)
    })?;
    let text = key.value();
    if text.is_empty() || text.contains(':') {
        let problem = "the key of a tag is not empty and has no colon: in the log a tag is \
                       `key:value`";
        return Err(Error::new(key.span(), problem));
    }
    Ok(Some(key))
}

/// Rejects the attribute `name` in a place where it has no meaning.
pub(crate) fn refuse(attributes: &[Attribute], name: &str, problem: &str) -> Result<()> {
    match attributes.iter().find(|attribute| attribute.path().is_ident(name)) {
        Some(attribute) => Err(Error::new_spanned(attribute, problem)),
        None => Ok(()),
    }
}

fn only<'a>(attributes: &'a [Attribute], name: &str, twice: &str) -> Result<Option<&'a Attribute>> {
    let mut found = attributes.iter().filter(|attribute| attribute.path().is_ident(name));
    let first = found.next();
    match found.next() {
        Some(second) => Err(Error::new_spanned(second, twice)),
        None => Ok(first),
    }
}
