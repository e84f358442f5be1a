//! `#[derive(Record)]`: reads the struct, and writes the implementation as a person would.

use proc_macro2::{Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::{
    Attribute, Data, DeriveInput, Error, Expr, ExprLit, Fields, Ident, Lit, LitInt, LitStr, Meta,
    Path, Result, Token, Type, ext::IdentExt, parse::ParseStream, parse_quote, spanned::Spanned,
};

use crate::{declaration::Errors, described, serde_attributes::metas};

const NAMELESS: &str = "give the record a stable name: #[record(\"customer\")]; its events and \
                        tags have it for ever, so it is not taken from the Rust name";
const FIELDLESS: &str = "a record is a struct with named fields, so that one can be added: make it \
                         one";

/// `#[record("customer", validate = check, intents = Moves, version = 2, crate = path)]`.
struct RecordOptions {
    name: LitStr,
    validate: Option<Path>,
    intents: Option<Type>,
    version: Option<LitInt>,
    records: Path,
}

/// A field with its attributes.
struct RecordField {
    ident: Ident,
    of: Type,
    /// Its name in JSON.
    name: String,
    /// Its type as text.
    shape: String,
    key: Option<Span>,
    unique: Option<Span>,
    is_indexed: bool,
    retired: Option<LitStr>,
}

/// The implementation of the trait.
///
/// # Errors
/// The mistakes in the declaration.
pub(crate) fn write(input: DeriveInput) -> Result<TokenStream> {
    let DeriveInput { attrs, ident, generics, data, .. } = input;
    let mut errors = Errors::default();
    if !generics.params.is_empty() {
        let problem = "a generic type has no one name in the log: make it a plain struct";
        errors.take::<()>(Err(Error::new_spanned(generics, problem)));
    }
    let options = errors.take(options(&attrs, &ident));
    errors.take(check_container(&attrs));
    let fields = match data {
        Data::Struct(data) => match data.fields {
            Fields::Named(fields) => Some(fields.named),
            _ => errors.take(Err(Error::new(ident.span(), FIELDLESS))),
        },
        _ => errors.take(Err(Error::new(ident.span(), FIELDLESS))),
    };
    let fields = fields.into_iter().flatten().map(field);
    let fields: Vec<_> = fields.filter_map(|field| errors.take(field)).collect();
    let keys: Vec<_> = fields.iter().filter_map(|field| Some((field, field.key?))).collect();
    let key = match keys.as_slice() {
        [(key, _)] => Some(*key),
        [] => {
            let problem = "the record has no key: put #[key] before the field that names a row";
            errors.take(Err(Error::new(ident.span(), problem)))
        }
        [_, (_, twice), ..] => {
            let problem = "a record has one key: drop this, or make one field of both";
            errors.take(Err(Error::new(*twice, problem)))
        }
    };
    let written =
        options.zip(key).map(|(options, key)| implementation(&ident, &options, key, &fields));
    errors.finish(written)
}

fn implementation(
    ident: &Ident,
    options: &RecordOptions,
    key: &RecordField,
    fields: &[RecordField],
) -> TokenStream {
    let RecordOptions { name, validate, intents, version, records } = options;
    let unique_tag = |field: &RecordField| format!("{}-{}", name.value(), field.name);
    let unique = fields.iter().filter(|field| field.unique.is_some()).map(unique_tag);
    let described = fields.iter().map(|field| {
        let in_json = &field.name;
        let unique = field.unique.map(|_| unique_tag(field)).map(|tag| quote!(.unique(#tag)));
        let indexed = field.is_indexed.then(|| quote!(.indexed()));
        let retired = field.retired.as_ref().map(|command| quote!(.retired(#command)));
        quote!(#records::Field::new(#in_json) #unique #indexed #retired)
    });
    let shape = fields.iter().map(|RecordField { name, shape, .. }| quote!((#name, #shape)));
    let intents = match intents {
        Some(intents) => quote!(#intents),
        None => quote!(#records::NoIntents),
    };
    let version = version.as_ref().map(|version| quote!(const VERSION: u32 = #version;));
    let validate = validate.as_ref().map(|validate| {
        quote_spanned! {validate.span()=>
            fn validate(
                &self,
            ) -> ::std::result::Result<(), #records::private::Invalid> {
                #validate(self)
            }
        }
    });
    let RecordField { ident: key, of, name: key_field, .. } = key;
    quote! {
        #[automatically_derived]
        impl #records::Record for #ident {
            type Key = #of;
            type Intents = #intents;
            const NAME: &'static str = #name;
            const EVENTS: #records::EventNames = #records::event_names!(#name);
            const TAGS: &'static [&'static str] = &[#name, #(#unique),*];
            const KEY_FIELD: &'static str = #key_field;
            const FIELDS: &'static [#records::Field] = &[#(#described),*];
            const SHAPE: &'static [(&'static str, &'static str)] = &[#(#shape),*];
            #version

            fn key(&self) -> #of {
                ::std::clone::Clone::clone(&self.#key)
            }

            #validate
        }
    }
}

fn options(attributes: &[Attribute], ident: &Ident) -> Result<RecordOptions> {
    let mut own = attributes.iter().filter(|attribute| attribute.path().is_ident("record"));
    let Some(attribute) = own.next() else { return Err(Error::new(ident.span(), NAMELESS)) };
    if let Some(twice) = own.next() {
        return Err(Error::new_spanned(twice, "a record has one name: drop this"));
    }
    if !matches!(&attribute.meta, Meta::List(_)) {
        return Err(Error::new_spanned(attribute, NAMELESS));
    }
    attribute.parse_args_with(|input: ParseStream<'_>| {
        if !input.peek(LitStr) {
            return Err(Error::new_spanned(attribute, NAMELESS));
        }
        let name: LitStr = input.parse()?;
        let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let text = name.value();
        if !text.starts_with(|c: char| c.is_ascii_lowercase()) || !text.chars().all(is_plain) {
            let problem = "the name is part of tags, paths and tables: write it in lower case \
                           letters, digits and hyphens, as in \"order-line\"";
            return Err(Error::new(name.span(), problem));
        }
        let records = parse_quote!(::diptych_records);
        let mut options =
            RecordOptions { name, validate: None, intents: None, version: None, records };
        while !input.is_empty() {
            input.parse::<Token![,]>()?;
            if input.is_empty() {
                break;
            }
            let key = input.call(Ident::parse_any)?;
            input.parse::<Token![=]>()?;
            match key.to_string().as_str() {
                "validate" => options.validate = Some(input.parse()?),
                "intents" => options.intents = Some(input.parse()?),
                "version" => options.version = Some(input.parse()?),
                "crate" => options.records = input.call(Path::parse_mod_style)?,
                other => {
                    let problem = format!(
                        "unknown option `{other}`: the options are `validate`, `intents`, \
                         `version` and `crate`"
                    );
                    return Err(Error::new(key.span(), problem));
                }
            }
        }
        Ok(options)
    })
}

/// # Errors
/// An attribute of serde that gives the fields names which the macro does not know.
fn check_container(attributes: &[Attribute]) -> Result<()> {
    let others = ["rename_all", "transparent", "into", "from", "try_from", "tag"];
    let is_other = |meta: &Meta| others.iter().any(|name| meta.path().is_ident(name));
    match metas(attributes)?.into_iter().find(is_other) {
        None => Ok(()),
        Some(meta) => {
            let problem = "the names of the fields in JSON have to be seen: rename them one by \
                           one, with #[serde(rename = \"…\")]";
            Err(Error::new_spanned(meta, problem))
        }
    }
}

fn field(field: syn::Field) -> Result<RecordField> {
    let (_, shape) = described::field(&syn::Member::Named(parse_quote!(field)), &field, None);
    let serde = metas(&field.attrs)?;
    let syn::Field { attrs, ident, ty, .. } = field;
    let ident = ident.ok_or_else(|| Error::new(ty.span(), FIELDLESS))?;
    let plain = |name: &str| -> Result<Option<Span>> {
        let own = attrs.iter().find(|attribute| attribute.path().is_ident(name));
        let Some(own) = own else { return Ok(None) };
        own.meta.require_path_only()?;
        Ok(Some(own.span()))
    };
    let (key, unique) = (plain("key")?, plain("unique")?);
    let is_indexed = plain("index")?.is_some();
    let retired = attrs.iter().find(|attribute| attribute.path().is_ident("retired"));
    let retired = retired.map(|attribute| match &attribute.meta {
        Meta::List(list) => list.parse_args::<LitStr>(),
        other => Err(Error::new_spanned(other, "")),
    });
    let retired = retired.transpose().map_err(|error| {
        let problem = "name the command that changes the field: #[retired(\"move-house\")]";
        Error::new(error.span(), problem)
    })?;
    if key.is_some() && (unique.is_some() || is_indexed || retired.is_some()) {
        let problem = "the key is unique, indexed and never changed: drop the other attributes";
        return Err(Error::new(ident.span(), problem));
    }
    if let (Some(_), Some(command)) = (unique, &retired) {
        let problem = "a unique field keeps its plain changes, because their events have the tag \
                       of its value: drop #[retired] or #[unique]";
        return Err(Error::new(command.span(), problem));
    }
    let name = name_in_json(&ident, &serde)?;
    Ok(RecordField { ident, of: ty, name, shape, key, unique, is_indexed, retired })
}

fn name_in_json(ident: &Ident, serde: &[Meta]) -> Result<String> {
    let mut name = ident.unraw().to_string();
    for meta in serde {
        let refused = ["flatten", "skip", "skip_serializing", "skip_deserializing"];
        if refused.iter().any(|key| meta.path().is_ident(key)) {
            let problem = "each field of a record is in its JSON under its own name: drop this";
            return Err(Error::new_spanned(meta, problem));
        }
        if !meta.path().is_ident("rename") {
            continue;
        }
        match meta {
            Meta::NameValue(pair) => match &pair.value {
                Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => name = text.value(),
                other => return Err(Error::new_spanned(other, "a name is a text")),
            },
            other => {
                let problem = "a field has one name in JSON: #[serde(rename = \"…\")]";
                return Err(Error::new_spanned(other, problem));
            }
        }
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The error of this declaration.
    fn error(declaration: &str) -> String {
        let input = syn::parse_str(declaration).unwrap();
        write(input).err().map(|error| error.to_string()).unwrap_or_default()
    }

    /// A record with these fields.
    fn fields(fields: &str) -> String {
        error(&format!("#[record(\"a\")] struct A {{ {fields} }}"))
    }

    #[test]
    fn a_record_has_a_stable_plain_name() {
        assert!(error("struct A { #[key] id: u64 }").contains("stable name"));
        assert!(error("#[record] struct A { #[key] id: u64 }").contains("stable name"));
        for name in ["", "A", "a b", "1", "a:b", "-a"] {
            let found = error(&format!("#[record({name:?})] struct A {{ #[key] id: u64 }}"));
            assert!(found.contains("lower case"), "{name}: {found}");
        }
        let found = error("#[record(\"a\", nme = 1)] struct A { #[key] id: u64 }");
        assert!(found.contains("unknown option `nme`"), "{found}");
        assert_eq!(error("#[record(\"a-1\", version = 2,)] struct A { #[key] id: u64 }"), "");
    }

    #[test]
    fn a_record_is_a_plain_struct_with_one_key() {
        assert!(error("#[record(\"a\")] enum A { B }").contains("named fields"));
        assert!(error("#[record(\"a\")] struct A(u64);").contains("named fields"));
        assert!(error("#[record(\"a\")] struct A<T> { #[key] id: T }").contains("generic"));
        assert!(fields("id: u64").contains("no key"));
        assert!(fields("#[key] id: u64, #[key] other: u64").contains("one key"));
    }

    #[test]
    fn attributes_of_a_field_that_contradict_each_other_are_refused() {
        assert!(fields("#[key] #[unique] id: u64").contains("drop the other"));
        assert!(fields("#[key] #[retired(\"b\")] id: u64").contains("drop the other"));
        let found = fields("#[key] id: u64, #[unique] #[retired(\"b\")] x: u64");
        assert!(found.contains("keeps its plain changes"), "{found}");
        assert!(fields("#[key] id: u64, #[retired] x: u64").contains("name the command"));
        assert!(!fields("#[key(x)] id: u64").is_empty());
        assert_eq!(fields("#[key] id: u64, #[index] #[retired(\"b\")] x: u64"), "");
    }

    #[test]
    fn names_in_json_that_the_macro_cannot_see_are_refused() {
        for hidden in ["flatten", "skip", "skip_serializing"] {
            let found = fields(&format!("#[key] id: u64, #[serde({hidden})] x: u64"));
            assert!(found.contains("under its own name"), "{hidden}: {found}");
        }
        let found = error(
            "#[record(\"a\")] #[serde(rename_all = \"camelCase\")] struct A { #[key] id: u64 }",
        );
        assert!(found.contains("one by one"), "{found}");
        let renamed = "#[key] #[serde(rename = \"number\", default)] id: u64";
        assert_eq!(fields(renamed), "");
    }
}
