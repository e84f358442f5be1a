//! The arguments of a query, as the client wrote them.

use std::collections::BTreeMap;

use axum::body::Bytes;
use diptych::{
    catalogue::{AnyQuery, NamedQuery},
    store::Digest,
};
use serde::de::IgnoredAny;

use crate::{
    door::{
        code::Code,
        problem::Problem,
        request::{form_reader, from_json, malformed, pairs, wrong_argument},
    },
    panels::entries::schema::ArgumentNames,
};

/// The raw arguments of a query.
#[derive(Clone, Debug)]
pub(crate) enum Arguments {
    Form(String),
    Json(Bytes),
}

impl Arguments {
    /// Refuses unknown arguments, which would otherwise be ignored silently.
    pub(crate) fn check(self, names: &ArgumentNames) -> Result<Arguments, Problem> {
        let own: Vec<String> = match (&self, names) {
            (Arguments::Form(text), _) => pairs(text)?.into_iter().map(|(name, _)| name).collect(),
            (Arguments::Json(bytes), ArgumentNames::Unit) => {
                let object: Option<BTreeMap<String, IgnoredAny>> =
                    from_json("the arguments", bytes)?;
                object.unwrap_or_default().into_keys().collect()
            }
            // If the JSON is not an object, decoding the type reports it.
            (Arguments::Json(bytes), _) => serde_json::from_slice(bytes)
                .map(|object: BTreeMap<String, IgnoredAny>| object.into_keys().collect())
                .unwrap_or_default(),
        };
        match names.first_unknown(&own) {
            Some((name, fields)) => {
                let detail = format!("there is no argument {name:?} (known: {fields:?})");
                Err(Problem::bad(Code::Arguments, detail).and("argument", name))
            }
            None if matches!(names, ArgumentNames::Unit) => Ok(Arguments::Json("null".into())),
            None => Ok(self),
        }
    }

    /// Equal for equal arguments of this query, and different for others. The order of the names in
    /// an address makes no difference.
    pub(crate) fn digest(&self, query: &str) -> Digest {
        // The debug form quotes the name, so that it cannot run into the arguments.
        let mut text = format!("{query:?} ").into_bytes();
        match self {
            Arguments::Json(bytes) => text.extend_from_slice(bytes),
            Arguments::Form(form) => {
                let mut pairs = pairs(form).unwrap_or_default();
                // Values of one name stay in their order, because they are a list.
                pairs.sort_by(|(one, _), (other, _)| one.cmp(other));
                text.extend_from_slice(format!("{pairs:?}").as_bytes());
            }
        }
        Digest::of(&text)
    }

    /// Decodes them as those of this query.
    pub(super) fn read(&self, query: &NamedQuery) -> Result<AnyQuery, Problem> {
        match self {
            Arguments::Json(bytes) => {
                query.decode(bytes).map_err(|error| malformed("the arguments", &error))
            }
            Arguments::Form(form) => {
                let decoded = query.decode_from(form_reader(form));
                decoded.map_err(|error| wrong_argument(form, &error))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn digests_differ_by_query_and_arguments_and_not_by_the_order_of_names() {
        let form = |text: &str| Arguments::Form(text.to_owned());
        let json = |text: &'static str| Arguments::Json(text.into());
        assert_eq!(form("a=1&b=2").digest("q"), form("b=2&a=1").digest("q"));
        let all = [
            form("a=1&b=2").digest("q"),
            form("a=1&a=2").digest("q"),
            form("a=2&a=1").digest("q"),
            form("").digest("q"),
            form("").digest("other"),
            json("{}").digest("q"),
            json("null").digest("q"),
            json(r#"{"a":18446744073709551616}"#).digest("q"),
            json(r#"{"a":18446744073709551617}"#).digest("q"),
        ];
        assert_eq!(all.iter().collect::<HashSet<_>>().len(), all.len());
    }
}
