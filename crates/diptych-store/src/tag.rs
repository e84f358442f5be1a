use std::fmt::{self, Display, Write};

use compact_str::CompactString;

/// A `key:value` that an event is about, such as `account:ann`.
///
/// The key ends at the first colon. The value may contain any characters, even colons. The tags of
/// one event are a set. [`Limits::tag_bytes`](crate::Limits::tag_bytes) bounds the length of a tag.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(CompactString);

/// The text is not a tag.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a tag: write key:value with a key, such as account:ann")]
pub struct TagError {
    text: String,
}

impl Tag {
    /// A tag from a key that is a constant of the program, and any value.
    ///
    /// # Panics
    /// Panics if `key` is empty or has a colon. For a key from outside use [`Tag::parse`].
    pub fn new(key: &str, value: impl Display) -> Tag {
        assert!(!key.is_empty() && !key.contains(':'), "a tag key is non-empty, without colon");
        let mut text = CompactString::new(key);
        text.push(':');
        // Writing to a string fails only if the `Display` of `value` fails.
        let _ = write!(text, "{value}");
        Tag(text)
    }

    /// Parses `key:value`. The value may be empty.
    ///
    /// # Errors
    /// [`TagError`] if the text has no colon, or no key before it.
    pub fn parse(text: &str) -> Result<Tag, TagError> {
        match text.split_once(':') {
            Some((key, _)) if !key.is_empty() => Ok(Tag(CompactString::new(text))),
            _ => Err(TagError { text: text.chars().take(300).collect() }),
        }
    }

    /// A tag that a store returned. It was checked before it was stored.
    pub(crate) fn stored(text: &str) -> Tag {
        Tag(CompactString::new(text))
    }

    /// The part before the first colon.
    pub fn key(&self) -> &str {
        self.0.split_once(':').map_or("", |(key, _)| key)
    }

    /// The part after the first colon.
    pub fn value(&self) -> &str {
        self.0.split_once(':').map_or("", |(_, value)| value)
    }

    /// The tag as `key:value`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_ends_at_the_first_colon() {
        let tag = Tag::parse("url:http://x").unwrap();
        assert_eq!((tag.key(), tag.value()), ("url", "http://x"));
        assert_eq!(tag, Tag::new("url", "http://x"));
    }

    #[test]
    fn text_without_a_key_is_refused() {
        for text in ["", "account", ":ann", ":"] {
            assert!(Tag::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    #[should_panic(expected = "without colon")]
    fn a_constant_key_with_a_colon_panics() {
        Tag::new("a:b", 1);
    }
}
