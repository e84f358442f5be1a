use std::fmt::{self, Display, Write};

use compact_str::CompactString;

/// `key:value` that an event is about, such as `account:ann`.
///
/// The key ends at the first colon; the value may hold anything, colons included. Tags of one
/// event are a set. Their length is bounded by [`Limits::tag_bytes`](crate::Limits::tag_bytes).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(CompactString);

/// The text is not a tag.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a tag: write key:value with a key, such as account:ann")]
pub struct TagError {
    text: String,
}

impl Tag {
    /// A tag of a key that the program knows and a value from anywhere.
    ///
    /// # Panics
    /// If `key` is empty or has a colon: keys are constants of a program, not input. For text
    /// from outside there is [`Tag::parse`].
    pub fn new(key: &str, value: impl Display) -> Tag {
        assert!(!key.is_empty() && !key.contains(':'), "a tag key is non-empty, without colon");
        let mut text = CompactString::new(key);
        text.push(':');
        // Writing to a string fails only if `value`'s own `Display` does.
        let _ = write!(text, "{value}");
        Tag(text)
    }

    /// Reads `key:value`; the value may be empty.
    ///
    /// # Errors
    /// If there is no colon, or nothing before it.
    pub fn parse(text: &str) -> Result<Tag, TagError> {
        match text.split_once(':') {
            Some((key, _)) if !key.is_empty() => Ok(Tag(CompactString::new(text))),
            _ => Err(TagError { text: text.chars().take(300).collect() }),
        }
    }

    /// The tag that was encoded as this text: it was one then, and is taken as it is.
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

    /// `key:value`.
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
    fn a_key_with_a_colon_is_a_mistake_of_the_program() {
        Tag::new("a:b", 1);
    }
}
