//! Parses the attributes `#[event(...)]` and `#[tag(...)]`.

use proc_macro2::TokenStream;
use quote::ToTokens;
use syn::{
    Attribute, Error, Expr, Ident, LitInt, LitStr, Meta, Path, Result, Token, Type, ext::IdentExt,
    parse::ParseStream, parse_quote,
};

pub(crate) const NAMELESS: &str = "give the event a stable name: #[event(\"account-opened\")]; it \
                                   stands in the log for ever, so it is not taken from the Rust \
                                   name";

/// `#[event("name", version = 2, codec = MessagePack, crate = my::diptych)]`.
pub(crate) struct Event {
    pub(crate) name: LitStr,
    pub(crate) version: u32,
    /// The codec, if it is not the default.
    pub(crate) codec: Option<TokenStream>,
    /// The path of `diptych`, if it is not the default.
    pub(crate) diptych: Option<Path>,
}

/// The path of `diptych` unless another is given.
pub(crate) fn diptych() -> Path {
    parse_quote!(::diptych)
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
        Meta::NameValue(pair) => match &pair.value {
            Expr::Lit(literal) => {
                let name = literal.to_token_stream();
                let problem = format!("the name stands in parentheses: #[event({name})]");
                Err(Error::new_spanned(attribute, problem))
            }
            _ => Err(Error::new_spanned(attribute, NAMELESS)),
        },
        Meta::Path(_) => Err(Error::new_spanned(attribute, NAMELESS)),
    }
}

/// The path of `diptych` in `#[event(crate = my::diptych)]` before an enum, if there is one.
pub(crate) fn of_enum(attributes: &[Attribute]) -> Result<Option<Path>> {
    let problem = "an enum is several events: each variant has a name of its own; before the enum \
                   stands at most #[event(crate = path)]";
    let Some(attribute) = only(attributes, "event", problem)? else {
        return Ok(None);
    };
    let Meta::List(list) = &attribute.meta else {
        return Err(Error::new_spanned(attribute, problem));
    };
    let of_crate = list.parse_args_with(|input: ParseStream<'_>| {
        input.parse::<Token![crate]>()?;
        path_of_diptych(input)
    });
    of_crate.map(Some).map_err(|_| Error::new_spanned(attribute, problem))
}

/// The path of `diptych` in `#[tags(crate = my::diptych)]`, if there is one.
pub(crate) fn of_tags(attributes: &[Attribute]) -> Result<Option<Path>> {
    let Some(attribute) = only(attributes, "tags", "there is one #[tags]: drop this")? else {
        return Ok(None);
    };
    let path = attribute.parse_args_with(|input: ParseStream<'_>| {
        input.parse::<Token![crate]>()?;
        path_of_diptych(input)
    });
    let problem = "the only form is #[tags(crate = path)]";
    path.map(Some).map_err(|_| Error::new_spanned(attribute, problem))
}

fn path_of_diptych(input: ParseStream<'_>) -> Result<Path> {
    input.parse::<Token![=]>()?;
    let path = input.call(Path::parse_mod_style);
    path.map_err(|error| {
        Error::new(error.span(), "`crate` is the path of diptych: crate = my_library::diptych")
    })
}

fn named(input: ParseStream<'_>) -> Result<Event> {
    let name: LitStr = input.parse()?;
    if name.value().trim().is_empty() {
        let problem = "an event cannot be found by an empty name: say what happened";
        return Err(Error::new(name.span(), problem));
    }
    let (mut version, mut codec, mut diptych) = (None, None, None);
    while !input.is_empty() {
        input.parse::<Token![,]>().map_err(|error| {
            Error::new(
                error.span(),
                "options are separated by commas: #[event(\"a\", version = 2)]",
            )
        })?;
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
                let path = input.parse::<Type>().map_err(|error| {
                    Error::new(error.span(), "a codec is the path of a type: codec = MessagePack")
                })?;
                codec.replace(path.into_token_stream()).is_some()
            }
            "crate" => diptych.replace(path_of_diptych(input)?).is_some(),
            other => {
                let problem = format!(
                    "unknown option `{other}`: the options are `version`, `codec` and `crate`"
                );
                return Err(Error::new(key.span(), problem));
            }
        };
        if twice {
            return Err(Error::new(key.span(), format!("`{key}` is there twice: drop one")));
        }
    }
    Ok(Event { name, version: version.unwrap_or(1), codec, diptych })
}

fn number(input: ParseStream<'_>) -> Result<u32> {
    let problem = "the version of an event is a number, from 1: version = 2";
    let literal = input.parse::<LitInt>();
    let literal = literal.map_err(|error| Error::new(error.span(), problem))?;
    match literal.base10_parse::<u128>() {
        Ok(version) if version > u128::from(u32::MAX) => {
            let problem = format!("the version of an event is at most {}", u32::MAX);
            Err(Error::new(literal.span(), problem))
        }
        Ok(version) if version > 0 => Ok(version as u32),
        _ => Err(Error::new(literal.span(), problem)),
    }
}

/// The tags that a field gives.
pub(crate) enum TagSource {
    /// `#[tag]` or `#[tag("key")]`: the field is the value of a tag with this key.
    Value(LitStr),
    /// `#[tag(nested)]`: the fields of the field's own type give tags.
    Nested,
}

/// Reads `#[tag]`, `#[tag("key")]` or `#[tag(nested)]` among `attributes`. `field` is the name of
/// the field, if it has one.
pub(crate) fn tag(attributes: &[Attribute], field: Option<&Ident>) -> Result<Option<TagSource>> {
    let Some(attribute) = only(attributes, "tag", "a field has at most one #[tag]: drop this")?
    else {
        return Ok(None);
    };
    let key = match (&attribute.meta, field) {
        (Meta::Path(_), Some(field)) => {
            // `r#` belongs to the Rust syntax and not to the name.
            let key = LitStr::new(&field.unraw().to_string(), field.span());
            return Ok(Some(TagSource::Value(key)));
        }
        (Meta::Path(_), None) => {
            let problem = "a field without a name needs a key: #[tag(\"order\")]";
            return Err(Error::new_spanned(attribute, problem));
        }
        (Meta::List(list), _) if list.tokens.to_string() == "nested" => {
            return Ok(Some(TagSource::Nested));
        }
        (Meta::List(list), _) => list.parse_args::<LitStr>(),
        (Meta::NameValue(_), _) => Err(Error::new_spanned(attribute, "")),
    };
    let key = key.map_err(|_| {
        let problem = "a tag is #[tag], with the name of the field as its key, or #[tag(\"key\")]; \
                       #[tag(nested)] takes the tags of the field's own fields";
        Error::new_spanned(attribute, problem)
    })?;
    let text = key.value();
    if text.is_empty() || text.contains(':') {
        let problem = "the key of a tag is not empty and has no colon: in the log a tag is \
                       `key:value`";
        return Err(Error::new(key.span(), problem));
    }
    Ok(Some(TagSource::Value(key)))
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
