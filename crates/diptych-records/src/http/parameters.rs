//! The parameters and conditions of requests about rows.

use std::fmt::Write;

use axum::http::{HeaderMap, HeaderValue, Uri, header, request::Parts};
use diptych::{CommandError, Invalid, Position, store::Epoch};
use diptych_server::Problem;

use crate::{list::List, record::Record, refusal::Refusal, value::IndexValue};

/// The list that an address names.
pub(super) struct ListParameters<R: Record> {
    pub(super) list: List<R>,
    pub(super) link: NextLink,
}

/// The address of a list, without the place where it begins.
pub(super) struct NextLink {
    path: String,
    pairs: Vec<(String, String)>,
}

impl NextLink {
    /// The header `Link` to the next page.
    pub(super) fn to(&self, next: &str) -> String {
        let mut link = format!("<{}?", self.path);
        for (name, value) in &self.pairs {
            let _ = write!(link, "{}={}&", escaped(name), escaped(value));
        }
        let _ = write!(link, "_next={next}>; rel=\"next\"");
        link
    }
}

/// Takes the parameters of a list out of the address. Those of every query stay.
pub(super) fn list<R: Record>(parts: &mut Parts) -> Result<ListParameters<R>, Problem> {
    let query = parts.uri.query().unwrap_or_default();
    let all: Vec<(String, String)> = serde_html_form::from_str(query).map_err(|error| {
        wrong("the address", format!("has parameters that cannot be read: {error}"))
    })?;
    let (mut list, mut others) = (List::<R>::new(), Vec::new());
    let mut equal: Vec<(String, Vec<IndexValue>)> = Vec::new();
    for (name, value) in &all {
        list = match name.as_str() {
            "_order" => match value.strip_prefix('-') {
                Some(field) => list.order_by(field).descending(),
                None => list.order_by(value),
            },
            "_limit" => match value.parse() {
                Ok(rows) => list.limit(rows),
                Err(_) => return Err(wrong("_limit", format!("is {value:?}, and no number"))),
            },
            "_next" => list.after(value),
            option if option.starts_with('_') => {
                others.push((name, value));
                list
            }
            field => match field.rsplit_once('.') {
                Some((field, "from")) => list.at_least_any(field, IndexValue::ends(value)),
                Some((field, "to")) => list.at_most_any(field, IndexValue::ends(value)),
                _ => {
                    let values =
                        IndexValue::parsed(value).into_iter().chain([value.as_str().into()]);
                    match equal.iter_mut().find(|(known, _)| known == field) {
                        Some((_, known)) => known.extend(values),
                        None => equal.push((field.to_owned(), values.collect())),
                    }
                    list
                }
            },
        };
    }
    let list = equal.into_iter().fold(list, |list, (field, values)| list.one_of(&field, values));
    let link = NextLink {
        path: parts.uri.path().to_owned(),
        pairs: all.iter().filter(|(name, _)| name != "_next").cloned().collect(),
    };
    let rest = serde_html_form::to_string(&others)
        .map_err(|error| wrong("the address", format!("cannot be read: {error}")))?;
    let address = format!("{}?{rest}", parts.uri.path());
    if let Ok(uri) = address.parse::<Uri>() {
        parts.uri = uri;
    }
    Ok(ListParameters { list, link })
}

/// The revision that a row has to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RevisionMatch {
    Any,
    Revision(Position),
    /// One of another epoch, which no row has.
    OtherEpoch,
}

impl RevisionMatch {
    /// The condition of a command on the row with this key.
    ///
    /// # Errors
    /// The refusal of a revision that no row has.
    pub(super) fn of<R: Record>(self, key: &R::Key) -> Result<Option<Position>, Refusal> {
        match self {
            RevisionMatch::Any => Ok(None),
            RevisionMatch::Revision(revision) => Ok(Some(revision)),
            RevisionMatch::OtherEpoch => {
                Err(Refusal::OtherEpoch { record: R::NAME, key: key.to_string() })
            }
        }
    }
}

/// Takes the revision of `If-Match` out of the headers. Any revision is `*`.
pub(super) fn only_if(headers: &mut HeaderMap, epoch: Epoch) -> Result<RevisionMatch, Problem> {
    let sent: Vec<_> = headers.get_all(header::IF_MATCH).iter().cloned().collect();
    headers.remove(header::IF_MATCH);
    let text = match sent.as_slice() {
        [] => return Ok(RevisionMatch::Any),
        [one] => one.to_str().unwrap_or_default(),
        _ => return Err(wrong("if-match", "is there several times: send one revision")),
    };
    if text == "*" {
        return Ok(RevisionMatch::Any);
    }
    let tag = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    let Some(tag) = tag.filter(|tag| !tag.contains('"')) else {
        let problem = format!("is one ETag of this row with its quotes, and not {text:?}");
        return Err(wrong("if-match", problem));
    };
    let revision = tag.strip_prefix(&format!("{epoch}-"));
    let revision = revision.and_then(|revision| revision.parse().ok());
    Ok(revision.map_or(RevisionMatch::OtherEpoch, |position| {
        RevisionMatch::Revision(Position::new(position))
    }))
}

/// Whether the client has this revision already.
pub(super) fn matches_none(headers: &HeaderMap, tag: &HeaderValue) -> bool {
    let sent = headers.get_all(header::IF_NONE_MATCH).iter();
    let texts = sent.filter_map(|value| value.to_str().ok());
    let mut tags = texts.flat_map(|text| text.split(','));
    tags.any(|text| {
        let text = text.trim();
        text == "*" || text.strip_prefix("W/").unwrap_or(text).as_bytes() == tag.as_bytes()
    })
}

/// The type of a merge patch counts as JSON.
pub(super) fn allow_merge_patch(headers: &mut HeaderMap) {
    const MERGE_PATCH: &str = "application/merge-patch+json";
    let sent = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let of_json = sent.and_then(|sent| {
        let (of, parameters) = sent.split_once(';').unwrap_or((sent, ""));
        let is_patch = of.trim().eq_ignore_ascii_case(MERGE_PATCH);
        is_patch.then(|| format!("application/json;{parameters}"))
    });
    if let Some(value) = of_json.and_then(|text| HeaderValue::from_str(&text).ok()) {
        headers.insert(header::CONTENT_TYPE, value);
    }
}

/// The text as one part of an address.
pub(super) fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                escaped.push(byte.into());
            }
            _ => {
                let _ = write!(escaped, "%{byte:02X}");
            }
        }
    }
    escaped
}

fn wrong(field: &str, problem: impl Into<String>) -> Problem {
    CommandError::Invalid(Invalid::new(field, problem)).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_an_address_is_escaped() {
        assert_eq!(escaped("a b/ü?#%"), "a%20b%2F%C3%BC%3F%23%25");
    }

    #[test]
    fn a_condition_is_one_strong_revision_or_any() {
        let epoch = Epoch::first();
        let condition = |sent: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in sent {
                headers.append(header::IF_MATCH, value.parse().unwrap());
            }
            let read = only_if(&mut headers, epoch);
            assert!(headers.is_empty());
            read.map_err(|problem| problem.word())
        };
        assert_eq!(condition(&[]), Ok(RevisionMatch::Any));
        assert_eq!(condition(&["*"]), Ok(RevisionMatch::Any));
        let own = format!("\"{epoch}-7\"");
        assert_eq!(condition(&[&own]), Ok(RevisionMatch::Revision(Position::new(7))));
        let next = format!("\"{}-7\"", epoch.next());
        for other in ["\"7\"", "\"\"", "\"x-7\"", next.as_str()] {
            assert_eq!(condition(&[other]), Ok(RevisionMatch::OtherEpoch), "{other}");
        }
        for wrong in [["7"].as_slice(), &["W/\"7\""], &["\"7\", \"8\""], &["\"7\"", "\"8\""]] {
            assert_eq!(condition(wrong), Err("invalid"), "{wrong:?}");
        }
    }
}
