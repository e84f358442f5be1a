//! Tags that the fields of a struct give to the events that hold it.

// Iterators and `==` of text are not available in constants. Each index is below a length.
#![allow(clippy::indexing_slicing)]

use diptych_store::Tag;

/// A struct whose fields give tags to each event that holds it.
///
/// `#[derive(Tags)]` implements the trait. It takes the attribute `#[tag]` as `#[derive(Event)]`
/// does. An event takes the tags of a field by `#[tag(nested)]`:
///
/// ```
/// use diptych::{Event, Tag, event::Tags};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Tags, Serialize, Deserialize)]
/// struct Line {
///     #[tag("product")]
///     product: u32,
///     count: u32,
/// }
///
/// #[derive(Event, Serialize, Deserialize)]
/// #[event("order-placed")]
/// struct OrderPlaced {
///     #[tag]
///     order: u32,
///     #[tag(nested)]
///     lines: Vec<Line>,
/// }
///
/// let line = |product| Line { product, count: 1 };
/// let placed = OrderPlaced { order: 7, lines: vec![line(1), line(2)] };
/// let tags = placed.encode().unwrap().tags;
/// assert_eq!(tags, [Tag::new("order", 7), Tag::new("product", 1), Tag::new("product", 2)]);
/// assert_eq!(OrderPlaced::types()[0].tags, ["order", "product"]);
/// ```
#[diagnostic::on_unimplemented(
    message = "the fields of `{Self}` give no tags",
    label = "`#[tag(nested)]` needs a type that derives `diptych::event::Tags`"
)]
pub trait Tags {
    /// The keys of these tags, each once.
    const KEYS: &'static [&'static str];

    /// Adds the tags of this value.
    fn tags(&self, tags: &mut Vec<Tag>);
}

/// The number of keys in all parts. For code that a derive writes.
pub const fn total(parts: &[&[&str]]) -> usize {
    let (mut total, mut at) = (0, 0);
    while at < parts.len() {
        total += parts[at].len();
        at += 1;
    }
    total
}

/// The distinct keys in all parts, and their number: those after it are empty. For code that a
/// derive writes.
pub const fn distinct<const N: usize>(parts: &[&[&'static str]]) -> ([&'static str; N], usize) {
    let (mut keys, mut known, mut part) = ([""; N], 0, 0);
    while part < parts.len() {
        let mut at = 0;
        while at < parts[part].len() {
            let key = parts[part][at];
            if !contains(&keys, known, key) {
                keys[known] = key;
                known += 1;
            }
            at += 1;
        }
        part += 1;
    }
    (keys, known)
}

const fn contains(keys: &[&str], known: usize, key: &str) -> bool {
    let mut at = 0;
    while at < known {
        if is_equal(keys[at].as_bytes(), key.as_bytes()) {
            return true;
        }
        at += 1;
    }
    false
}

const fn is_equal(left: &[u8], right: &[u8]) -> bool {
    if left.len() != right.len() {
        return false;
    }
    let mut at = 0;
    while at < left.len() {
        if left[at] != right[at] {
            return false;
        }
        at += 1;
    }
    true
}
