//! Texts in the form that PostgreSQL takes, and the hashes of tags.

use std::borrow::Cow;

use diptych_store::{Filter, FilterItem, LogId, Tag};
use twox_hash::XxHash3_64;

/// The text without a NUL, which PostgreSQL has not.
pub(crate) fn escape(text: &str) -> Cow<'_, str> {
    match text.contains(['\0', '\\']) {
        true => Cow::Owned(text.replace('\\', "\\\\").replace('\0', "\\0")),
        false => Cow::Borrowed(text),
    }
}

/// The text that [`escape`] was given.
pub(crate) fn unescape(text: &str) -> Cow<'_, str> {
    if !text.contains('\\') {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(char) = chars.next() {
        match char {
            '\\' if chars.next() == Some('0') => plain.push('\0'),
            char => plain.push(char),
        }
    }
    Cow::Owned(plain)
}

/// An array of texts as one text, which the server casts.
pub(crate) fn array<'t>(texts: impl Iterator<Item = &'t str>) -> String {
    let mut array = String::from("{");
    for text in texts {
        if array.len() > 1 {
            array.push(',');
        }
        array.push('"');
        for char in escape(text).chars() {
            if matches!(char, '"' | '\\') {
                array.push('\\');
            }
            array.push(char);
        }
        array.push('"');
    }
    array.push('}');
    array
}

/// The hash of a tag in this log. The id of the log is its key, so that tags that collide in one
/// log do not collide in another. Clients know the id, so a user can choose tags that collide.
/// Look-ups compare the tags as well: such tags make them slower, and not wrong.
pub(crate) fn tag_hash(log: LogId, tag: &str) -> i64 {
    let [a, b, c, d, e, f, g, h, ..] = log.to_bytes();
    let seed = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
    XxHash3_64::oneshot_with_seed(seed, tag.as_bytes()).cast_signed()
}

/// Items of filters as the columns that a statement takes.
#[derive(Debug, Default)]
pub(crate) struct FilterColumns {
    /// All tags of the item.
    pub(crate) tags: Vec<Option<String>>,
    /// The hash of the first tag.
    pub(crate) hash: Vec<Option<i64>>,
    /// The hashes of all tags, if there are several.
    pub(crate) hashes: Vec<Option<String>>,
    pub(crate) types: Vec<Option<String>>,
}

impl FilterColumns {
    pub(crate) fn of(log: LogId, filter: &Filter) -> FilterColumns {
        let mut columns = FilterColumns::default();
        filter.items().iter().for_each(|item| columns.push(log, item));
        columns
    }

    pub(crate) fn push(&mut self, log: LogId, item: &FilterItem) {
        let FilterItem { tags, types } = item;
        let hash = |tag: &Tag| tag_hash(log, tag.as_str());
        self.tags.push((!tags.is_empty()).then(|| array(tags.iter().map(Tag::as_str))));
        self.hash.push(tags.first().map(hash));
        self.hashes.push((tags.len() > 1).then(|| {
            let hashes: Vec<_> = tags.iter().map(|tag| hash(tag).to_string()).collect();
            format!("{{{}}}", hashes.join(","))
        }));
        self.types.push((!types.is_empty()).then(|| array(types.iter().map(AsRef::as_ref))));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_with_any_character_survives() {
        for text in ["", "plain", "a\0b", "\\", "\\0", "\\\\0\0", "ü\0\\"] {
            let escaped = escape(text);
            assert!(!escaped.contains('\0'), "{text:?}");
            assert_eq!(unescape(&escaped), text);
        }
    }

    #[test]
    fn an_array_quotes_what_would_end_a_text() {
        assert_eq!(array(["a:1", "b\"c", "d\\e", ""].into_iter()), r#"{"a:1","b\"c","d\\\\e",""}"#);
        assert_eq!(array([].into_iter()), "{}");
    }
}
