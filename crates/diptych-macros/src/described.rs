//! Fields as text, for tests that tell when a declaration has changed.

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use quote::ToTokens;
use syn::{Field, Member, Type};

use crate::{attributes::TagSource, serde_attributes};

/// Attributes that give a field another name, or its value another form.
const OF_FORM: [&str; 8] = [
    "deserialize_with",
    "flatten",
    "rename",
    "serialize_with",
    "skip",
    "skip_deserializing",
    "skip_serializing",
    "with",
];

/// The name of a field, and its type with everything that gives its value a form: `u64`, or
/// `String, tag account`.
pub(crate) fn field(member: &Member, field: &Field, tag: Option<&TagSource>) -> (String, String) {
    let name = member.to_token_stream().to_string();
    let mut text = of_type(&field.ty);
    match tag {
        Some(TagSource::Value(key)) => {
            text.push_str(", tag ");
            text.push_str(&key.value());
        }
        Some(TagSource::Nested) => text.push_str(", nested tags"),
        None => {}
    }
    // Serde itself reports attributes that cannot be read.
    for meta in serde_attributes::metas(&field.attrs).unwrap_or_default() {
        if OF_FORM.iter().any(|key| meta.path().is_ident(key)) {
            text.push_str(", serde ");
            write(meta.to_token_stream(), &mut text);
        }
    }
    (name.trim_start_matches("r#").to_owned(), text)
}

/// A type without the paths to its parts, so that another `use` changes nothing.
fn of_type(of: &Type) -> String {
    let mut text = String::new();
    write(of.to_token_stream(), &mut text);
    text
}

fn write(tokens: TokenStream, text: &mut String) {
    let mut tokens = tokens.into_iter().peekable();
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    while let Some(token) = tokens.next() {
        match token {
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Parenthesis => ("(", ")"),
                    Delimiter::Brace => ("{", "}"),
                    Delimiter::Bracket => ("[", "]"),
                    Delimiter::None => ("", ""),
                };
                text.push_str(open);
                write(group.stream(), text);
                text.push_str(close);
            }
            TokenTree::Punct(punct) if punct.as_char() == ':' => {
                let second = tokens.next_if(|next| is_punct(next, ':'));
                let is_path =
                    second.is_some() && !tokens.peek().is_some_and(|of| is_punct(of, '<'));
                if is_path {
                    text.truncate(text.trim_end_matches(is_word).len());
                }
            }
            TokenTree::Punct(punct) => match punct.as_char() {
                ',' => text.push_str(", "),
                ';' => text.push_str("; "),
                '=' => text.push_str(" = "),
                other => text.push(other),
            },
            TokenTree::Ident(_) | TokenTree::Literal(_) => {
                if text.ends_with(is_word) {
                    text.push(' ');
                }
                text.push_str(&token.to_string());
            }
        }
    }
}

fn is_punct(token: &TokenTree, of: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == of)
}

#[cfg(test)]
mod tests {
    use syn::parse_quote;

    use super::*;

    #[test]
    fn a_type_is_told_without_its_paths_and_spaces() {
        let told: [(Type, &str); 7] = [
            (parse_quote!(u64), "u64"),
            (parse_quote!(std::option::Option<std::string::String>), "Option<String>"),
            (parse_quote!(::std::vec::Vec<(u8, Money)>), "Vec<(u8, Money)>"),
            (parse_quote!([u8; 16]), "[u8; 16]"),
            (parse_quote!(Vec::<u8>), "Vec<u8>"),
            (parse_quote!(Box<dyn Any + Send>), "Box<dyn Any+Send>"),
            (parse_quote!(HashMap<String, Vec<Option<u8>>>), "HashMap<String, Vec<Option<u8>>>"),
        ];
        for (of, text) in told {
            assert_eq!(of_type(&of), text);
        }
    }

    #[test]
    fn a_field_tells_its_tag_and_the_attributes_that_give_it_a_form() {
        let with: Field = parse_quote! {
            #[serde(default, rename = "to", with = "crate::cents")]
            r#from: String
        };
        let member = Member::Named(parse_quote!(r#from));
        let key = TagSource::Value(parse_quote!("account"));
        let expected = "String, tag account, serde rename = \"to\", serde with = \"crate::cents\"";
        assert_eq!(field(&member, &with, Some(&key)), ("from".to_owned(), expected.to_owned()));
    }
}
