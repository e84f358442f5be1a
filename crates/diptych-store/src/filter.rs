use std::{borrow::Cow, fmt, iter, str::FromStr, sync::Arc};

use crate::{batch::EventRef, error::InvalidRequest, limits::Limits, tag::Tag};

/// Selects the events that match any of its items. Clones are cheap, because they share the items.
///
/// As text, an item is `type=a,b tag=k:v tag=k2:v2`: any of the types and all of the tags. Items
/// are separated by ` or `. A filter on every event is `*`, and the filter without items is
/// `nothing`. White space, a comma and a percent sign in a name are written `%20`, `%2C`, `%25` and
/// so on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Filter {
    // Shared, because one filter goes into many conditions and reads.
    items: Arc<Vec<FilterItem>>,
}

/// Selects the events that have one of its types and carry all of its tags.
///
/// An item without types matches every type. An item without tags matches any tags. So an item
/// without types and tags matches every event.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct FilterItem {
    /// The event must have one of these types. An empty list allows every type.
    pub types: Vec<Cow<'static, str>>,
    /// The event must carry all of these tags.
    pub tags: Vec<Tag>,
}

impl FilterItem {
    /// An item that matches every event, to be narrowed.
    pub fn everything() -> FilterItem {
        FilterItem::default()
    }

    /// Adds a type to the allowed types.
    #[must_use]
    pub fn or_type(mut self, name: impl Into<Cow<'static, str>>) -> FilterItem {
        self.types.push(name.into());
        self
    }

    /// Adds a tag to the required tags.
    #[must_use]
    pub fn and_tag(mut self, tag: Tag) -> FilterItem {
        self.tags.push(tag);
        self
    }

    /// Whether the item has no types and no tags, so that every event matches.
    pub fn is_everything(&self) -> bool {
        self.types.is_empty() && self.tags.is_empty()
    }

    /// Whether an event of this type with these tags matches.
    pub fn matches_parts<'t, I>(&self, event_type: &str, tags: impl Fn() -> I) -> bool
    where
        I: Iterator<Item = &'t str>,
    {
        (self.types.is_empty() || self.types.iter().any(|name| name == event_type))
            && self.tags.iter().all(|tag| tags().any(|has| has == tag.as_str()))
    }
}

impl Filter {
    /// Every event.
    pub fn everything() -> Filter {
        FilterItem::everything().into()
    }

    /// No event. It is the filter without items.
    pub fn nothing() -> Filter {
        Filter::default()
    }

    /// Events that carry this tag.
    pub fn tag(tag: Tag) -> Filter {
        FilterItem::everything().and_tag(tag).into()
    }

    /// Events of this type.
    pub fn event_type(name: impl Into<Cow<'static, str>>) -> Filter {
        FilterItem::everything().or_type(name).into()
    }

    /// Events of any of these types. Without types it matches no event.
    pub fn types<T: Into<Cow<'static, str>>>(names: impl IntoIterator<Item = T>) -> Filter {
        let types: Vec<_> = names.into_iter().map(Into::into).collect();
        if types.is_empty() {
            return Filter::nothing();
        }
        FilterItem { types, tags: Vec::new() }.into()
    }

    /// Adds a required tag to every item.
    #[must_use]
    pub fn and_tag(mut self, tag: &Tag) -> Filter {
        for item in Arc::make_mut(&mut self.items) {
            if !item.tags.contains(tag) {
                item.tags.push(tag.clone());
            }
        }
        self
    }

    /// Narrows every item to these types. An item that has none of them is removed.
    #[must_use]
    pub fn of_types<T>(mut self, names: &[T]) -> Filter
    where
        T: Clone + Into<Cow<'static, str>> + AsRef<str>,
    {
        let wanted = |name: &str| names.iter().any(|wanted| wanted.as_ref() == name);
        Arc::make_mut(&mut self.items).retain_mut(|item| {
            if item.types.is_empty() {
                item.types = names.iter().cloned().map(Into::into).collect();
            } else {
                item.types.retain(|name| wanted(name));
            }
            !item.types.is_empty()
        });
        self
    }

    /// Adds the items of another filter.
    #[must_use]
    pub fn or(mut self, other: impl Into<Filter>) -> Filter {
        let items = Arc::make_mut(&mut self.items);
        for item in Arc::unwrap_or_clone(other.into().items) {
            if !items.contains(&item) {
                items.push(item);
            }
        }
        self
    }

    /// The items. An event must match one.
    pub fn items(&self) -> &[FilterItem] {
        &self.items
    }

    /// Whether every event matches.
    pub fn is_everything(&self) -> bool {
        self.items.iter().any(FilterItem::is_everything)
    }

    /// Whether this event matches.
    pub fn matches(&self, event: &EventRef<'_>) -> bool {
        self.matches_parts(event.event_type(), || event.tags())
    }

    /// Whether an event of this type with these tags matches.
    pub fn matches_parts<'t, I>(&self, event_type: &str, tags: impl Fn() -> I) -> bool
    where
        I: Iterator<Item = &'t str>,
    {
        self.items.iter().any(|item| item.matches_parts(event_type, &tags))
    }

    /// Checks the filter against a store's limits.
    ///
    /// # Errors
    /// [`InvalidRequest`] with the limit that the filter exceeds.
    pub fn check(&self, limits: &Limits) -> Result<(), InvalidRequest> {
        Filter::check_all(iter::once(self), limits)
    }

    /// Checks filters that are looked up together. The limits apply to their sum.
    pub(crate) fn check_all<'f>(
        filters: impl Iterator<Item = &'f Filter>,
        limits: &Limits,
    ) -> Result<(), InvalidRequest> {
        let (mut items, mut terms) = (0, 0);
        for filter in filters {
            items += filter.items.len();
            let terms_of = |item: &FilterItem| item.types.len() + item.tags.len();
            terms += filter.items.iter().map(terms_of).sum::<usize>();
        }
        let allowed = limits.filter_items;
        if items > allowed {
            return Err(InvalidRequest::too_many(
                "items in filters",
                items,
                allowed,
                "filter_items",
            ));
        }
        let allowed = limits.filter_terms;
        if terms > allowed {
            return Err(InvalidRequest::too_many(
                "terms in filters",
                terms,
                allowed,
                "filter_terms",
            ));
        }
        Ok(())
    }
}

impl From<FilterItem> for Filter {
    fn from(item: FilterItem) -> Filter {
        Filter { items: Arc::new(vec![item]) }
    }
}

impl From<Tag> for Filter {
    fn from(tag: Tag) -> Filter {
        Filter::tag(tag)
    }
}

impl FromIterator<FilterItem> for Filter {
    fn from_iter<I: IntoIterator<Item = FilterItem>>(items: I) -> Filter {
        items.into_iter().fold(Filter::nothing(), |filter, item| filter.or(item))
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.items.is_empty() {
            return f.write_str("nothing");
        }
        for (at, item) in self.items.iter().enumerate() {
            if at > 0 {
                f.write_str(" or ")?;
            }
            item.fmt(f)?;
        }
        Ok(())
    }
}

impl fmt::Display for FilterItem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_everything() {
            return f.write_str("*");
        }
        let mut separator = "";
        if !self.types.is_empty() {
            let names: Vec<_> = self.types.iter().map(|name| escape(name)).collect();
            write!(f, "type={}", names.join(","))?;
            separator = " ";
        }
        for tag in &self.tags {
            write!(f, "{separator}tag={}", escape(tag.as_str()))?;
            separator = " ";
        }
        Ok(())
    }
}

/// The text is not a filter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{part:?} is not a filter: {problem}; write type=a,b tag=k:v tag=k2:v2, or *")]
pub struct FilterSyntaxError {
    part: String,
    problem: &'static str,
}

impl FromStr for Filter {
    type Err = FilterSyntaxError;

    fn from_str(text: &str) -> Result<Filter, FilterSyntaxError> {
        if text.trim() == "nothing" {
            return Ok(Filter::nothing());
        }
        text.split(" or ").map(str::parse::<FilterItem>).collect()
    }
}

impl FromStr for FilterItem {
    type Err = FilterSyntaxError;

    fn from_str(text: &str) -> Result<FilterItem, FilterSyntaxError> {
        let wrong = |part: &str, problem| FilterSyntaxError { part: part.to_owned(), problem };
        let mut item = FilterItem::everything();
        let mut terms = text.split_whitespace().peekable();
        if terms.peek().is_none() {
            return Err(wrong(text, "it is empty"));
        }
        if text.trim() == "*" {
            return Ok(item);
        }
        for term in terms {
            match term.split_once('=') {
                Some(("type", names)) => {
                    for name in names.split(',') {
                        let name = unescape(name).ok_or_else(|| wrong(term, "bad % escape"))?;
                        if name.is_empty() {
                            return Err(wrong(term, "a type has no name"));
                        }
                        item.types.push(name.into());
                    }
                }
                Some(("tag", tag)) => {
                    let tag = unescape(tag).ok_or_else(|| wrong(term, "bad % escape"))?;
                    let tag = Tag::parse(&tag).map_err(|_| wrong(term, "a tag is key:value"))?;
                    item.tags.push(tag);
                }
                _ => return Err(wrong(term, "a term starts with type= or tag=")),
            }
        }
        Ok(item)
    }
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for char in text.chars() {
        if char.is_whitespace() || char.is_control() || matches!(char, ',' | '%') {
            let mut utf8 = [0; 4];
            for byte in char.encode_utf8(&mut utf8).bytes() {
                escaped.push_str(&format!("%{byte:02X}"));
            }
        } else {
            escaped.push(char);
        }
    }
    escaped
}

fn unescape(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut parts = text.split('%');
    bytes.extend_from_slice(parts.next()?.as_bytes());
    for part in parts {
        let code = part.get(..2)?;
        bytes.push(u8::from_str_radix(code, 16).ok()?);
        bytes.extend_from_slice(part.get(2..)?.as_bytes());
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(filter: &str, event_type: &str, tags: &[&str]) -> bool {
        let filter: Filter = filter.parse().unwrap();
        filter.matches_parts(event_type, || tags.iter().copied())
    }

    #[test]
    fn a_filter_matches_any_item_with_any_type_and_all_tags() {
        assert!(matches("type=a,b", "b", &[]));
        assert!(!matches("type=a,b", "c", &[]));
        assert!(matches("tag=k:1 tag=l:2", "c", &["l:2", "k:1", "m:3"]));
        assert!(!matches("tag=k:1 tag=l:2", "c", &["k:1"]));
        assert!(matches("type=a tag=k:1 or type=c", "c", &[]));
        assert!(matches("*", "c", &[]));
        assert!(!Filter::nothing().matches_parts("c", std::iter::empty));
    }

    #[test]
    fn a_filter_with_unusual_names_survives_its_text() {
        let filter = Filter::event_type("a b,c%")
            .and_tag(&Tag::new("k", "x y\n% or z=ü"))
            .or(FilterItem::everything().and_tag(Tag::new("only", "tag")));
        assert_eq!(filter.to_string().parse::<Filter>().unwrap(), filter);
        for filter in [Filter::everything(), Filter::nothing()] {
            assert_eq!(filter.to_string().parse::<Filter>().unwrap(), filter);
        }
    }

    #[test]
    fn an_error_about_filter_text_names_the_wrong_part() {
        for (text, part) in
            [("type=", "type="), ("tag=k", "tag=k"), ("a=b", "a=b"), ("tag=%zz", "%")]
        {
            let error = text.parse::<Filter>().unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
        assert!("".parse::<Filter>().is_err());
    }

    #[test]
    fn narrowing_to_types_removes_items_without_them() {
        let filter = Filter::event_type("a").or(Filter::event_type("b")).or(Tag::new("k", 1));
        let narrowed = filter.of_types(&["b", "c"]);
        assert_eq!(narrowed.to_string(), "type=b or type=b,c tag=k:1");
    }

    #[test]
    fn clones_share_their_items_until_one_is_narrowed() {
        let filter = Filter::tag(Tag::new("k", 1));
        let clone = filter.clone();
        assert!(std::ptr::eq(filter.items(), clone.items()));
        let narrowed = clone.of_types(&["a"]);
        assert!(matches!(narrowed.items()[0].types[0], Cow::Borrowed("a")));
        assert_eq!(narrowed.to_string(), "type=a tag=k:1");
        assert_eq!(filter.to_string(), "tag=k:1");
    }
}
