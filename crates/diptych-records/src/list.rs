//! Lists of rows: filters on indexed fields, an order, and pages by key.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use diptych::{Invalid, Query};
use serde::{Deserialize, Serialize};

use crate::{
    record::{Record, field},
    row_json::{Fields, fields},
    value::IndexValue,
    view::{Entry, RecordView},
};

/// The number of rows of a page whose list names none.
pub const PAGE_ROWS: usize = 100;
/// The largest number of rows of a page.
pub const MAX_PAGE_ROWS: usize = 1_000;

/// A list of rows: which, in which order, and how many.
///
/// Filters and orders need an indexed field or the key, so that a list does not read every row.
/// A filter on equality looks up its rows. Otherwise the index of the order is walked, from the end
/// of a range of that field if there is one. A range of the key is tested on each row, because the
/// order of keys need not be the one of their values in JSON.
#[derive(Clone, Debug, PartialEq)]
#[must_use = "a list does nothing until it is asked"]
pub struct List<R: Record> {
    conditions: Vec<Condition>,
    /// The field of the order; the key if `None`.
    order: Option<String>,
    is_descending: bool,
    after: Option<Place<R::Key>>,
    limit: usize,
    /// A mistake of the caller.
    fault: Option<Invalid>,
}

#[derive(Clone, Debug, PartialEq)]
struct Condition {
    field: String,
    test: Test,
}

#[derive(Clone, Debug, PartialEq)]
enum Test {
    OneOf(Vec<IndexValue>),
    /// At most one value of each type. The value of a row is compared with the one of its type.
    From(Vec<IndexValue>),
    /// Like `From`.
    To(Vec<IndexValue>),
}

/// The lowest and the highest value of a part of an index.
type Range = (Option<IndexValue>, Option<IndexValue>);

/// The last row of a page: where the next one begins.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Place<K> {
    order: Option<String>,
    is_descending: bool,
    value: IndexValue,
    key: K,
}

/// Rows of a list.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Page<R> {
    /// The rows with their revisions.
    pub items: Vec<Entry<R>>,
    /// Continues the list, if there are more rows: see [`List::after`].
    pub next: Option<String>,
}

impl<R: Record> List<R> {
    /// All rows, in order of their keys.
    pub fn new() -> List<R> {
        List {
            conditions: Vec::new(),
            order: None,
            is_descending: false,
            after: None,
            limit: PAGE_ROWS,
            fault: None,
        }
    }

    /// Only rows whose field has this value.
    pub fn equal(self, field: &str, value: impl Into<IndexValue>) -> List<R> {
        self.one_of(field, [value.into()])
    }

    /// Only rows whose field has one of these values.
    pub fn one_of(self, field: &str, values: impl IntoIterator<Item = IndexValue>) -> List<R> {
        let values = values.into_iter().collect();
        self.with(field, Test::OneOf(values))
    }

    /// Only rows whose field has this value or a higher one of its type.
    pub fn from(self, field: &str, value: impl Into<IndexValue>) -> List<R> {
        self.at_least_any(field, vec![value.into()])
    }

    /// Only rows whose field has this value or a lower one of its type.
    pub fn to(self, field: &str, value: impl Into<IndexValue>) -> List<R> {
        self.at_most_any(field, vec![value.into()])
    }

    /// Only rows whose field has the value of its type among these or a higher one.
    pub(crate) fn at_least_any(self, field: &str, values: Vec<IndexValue>) -> List<R> {
        self.with(field, Test::From(values))
    }

    /// Only rows whose field has the value of its type among these or a lower one.
    pub(crate) fn at_most_any(self, field: &str, values: Vec<IndexValue>) -> List<R> {
        self.with(field, Test::To(values))
    }

    /// Puts the rows in order of this field. Rows with equal values are in order of their keys.
    pub fn order_by(mut self, field: &str) -> List<R> {
        self.check(field);
        self.order = (field != R::KEY_FIELD).then(|| field.to_owned());
        self
    }

    /// Turns the order around.
    pub fn descending(mut self) -> List<R> {
        self.is_descending = true;
        self
    }

    /// The number of rows of a page, at most [`MAX_PAGE_ROWS`].
    pub fn limit(mut self, rows: usize) -> List<R> {
        if rows == 0 || rows > MAX_PAGE_ROWS {
            let problem = format!("is {rows}: a page has between 1 and {MAX_PAGE_ROWS} rows");
            self.fault.get_or_insert(Invalid::new("limit", problem));
        }
        self.limit = rows;
        self
    }

    /// Continues after the page that had this as its [`next`](Page::next). The order has to be the
    /// same. Rows that came or went meanwhile are listed or not by where they are, and no other
    /// row is listed twice or left out.
    pub fn after(mut self, next: &str) -> List<R> {
        let place = URL_SAFE_NO_PAD.decode(next).ok();
        match place.and_then(|json| serde_json::from_slice(&json).ok()) {
            Some(place) => self.after = Some(place),
            None => {
                let problem = "is no continuation of a list: pass `next` of a page as it came";
                self.fault.get_or_insert(Invalid::new("after", problem));
            }
        }
        self
    }

    /// # Errors
    /// The first mistake of the list.
    pub(crate) fn checked(self) -> Result<List<R>, Invalid> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        let is_of_other = |place: &Place<R::Key>| {
            place.order != self.order || place.is_descending != self.is_descending
        };
        if self.after.as_ref().is_some_and(is_of_other) {
            let problem = "continues a list in another order: begin that list again";
            return Err(Invalid::new("after", problem));
        }
        Ok(self)
    }

    fn with(mut self, field: &str, test: Test) -> List<R> {
        self.check(field);
        self.conditions.push(Condition { field: field.to_owned(), test });
        self
    }

    fn check(&mut self, name: &str) {
        let is_listed = name == R::KEY_FIELD || field::<R>(name).is_some_and(|of| of.is_indexed);
        if !is_listed && self.fault.is_none() {
            let indexed = R::FIELDS.iter().filter(|of| of.is_indexed).map(|of| of.name);
            let known: Vec<_> = std::iter::once(R::KEY_FIELD).chain(indexed).collect();
            let problem = format!(
                "has no index: lists of {} use {}; mark the field with `#[index]`",
                R::NAME,
                known.join(", ")
            );
            self.fault = Some(Invalid::new(name, problem));
        }
    }

    fn is_listed(&self, fields: &Fields) -> bool {
        self.conditions.iter().all(|Condition { field, test }| {
            let value = fields.get(field).map_or(IndexValue::Null, IndexValue::of);
            match test {
                Test::OneOf(values) => values.contains(&value),
                Test::From(low) => low.iter().any(|low| value.is_like(low) && value >= *low),
                Test::To(high) => high.iter().any(|high| value.is_like(high) && value <= *high),
            }
        })
    }

    /// The value of the order in a row with these fields.
    fn value(&self, fields: &Fields) -> IndexValue {
        let value = self.order.as_ref().and_then(|order| fields.get(order));
        value.map_or(IndexValue::Null, IndexValue::of)
    }

    /// The parts of the index of the order that its ranges allow, in order: one for each type of
    /// values that every range has an end for.
    fn ranges(&self) -> Vec<Range> {
        let of_order = |condition: &&Condition| self.order.as_ref() == Some(&condition.field);
        let tests = self.conditions.iter().filter(of_order).map(|condition| &condition.test);
        let tests: Vec<_> = tests.filter(|test| !matches!(test, Test::OneOf(_))).collect();
        if tests.is_empty() {
            return vec![(None, None)];
        }
        let part = |(mut low, mut high): (IndexValue, Option<IndexValue>)| {
            for test in &tests {
                let (Test::OneOf(ends) | Test::From(ends) | Test::To(ends)) = test;
                let end = ends.iter().find(|end| end.is_like(&low))?.clone();
                match test {
                    Test::OneOf(_) => {}
                    Test::From(_) => low = low.max(end),
                    Test::To(_) => high = Some(high.map_or(end.clone(), |high| high.min(end))),
                }
            }
            Some((Some(low), high))
        };
        IndexValue::types().into_iter().filter_map(part).collect()
    }

    /// The keys that an equality finds, by the one with the fewest. `None` if no equality finds
    /// few.
    fn found<'v>(&self, view: &'v RecordView<R>) -> Option<Vec<&'v R::Key>> {
        let equal = self.conditions.iter().filter_map(|condition| match &condition.test {
            Test::OneOf(values) if condition.field == R::KEY_FIELD => {
                Some(values.iter().filter_map(|value| view.known_key(value)).collect::<Vec<_>>())
            }
            Test::OneOf(values) => {
                let sets = values.iter().filter_map(|one| view.with_value(&condition.field, one));
                Some(sets.flatten().collect())
            }
            _ => None,
        });
        // A page of rows that are this frequent is found sooner by walking the order.
        let is_rare = |found: &Vec<&R::Key>| {
            found.len().saturating_mul(found.len()) <= view.len().saturating_mul(self.limit)
        };
        equal.min_by_key(Vec::len).filter(is_rare)
    }

    /// The keys in the order of the list, from where it continues. Not all of them are listed.
    fn keys<'v>(&'v self, view: &'v RecordView<R>) -> Box<dyn Iterator<Item = &'v R::Key> + 'v> {
        let after = self.after.as_ref();
        let Some(found) = self.found(view) else {
            return match &self.order {
                None => view.by_key(after.map(|place| &place.key), self.is_descending),
                Some(order) => {
                    let place = after.map(|place| (&place.value, &place.key));
                    let mut ranges = self.ranges();
                    if self.is_descending {
                        ranges.reverse();
                    }
                    let keys = ranges.into_iter().flat_map(move |(low, high)| {
                        let bounds = (low.as_ref(), high.as_ref());
                        view.by_field(order, place, bounds, self.is_descending)
                    });
                    Box::new(keys)
                }
            };
        };
        let with_value = found.into_iter().filter_map(|key| {
            if self.order.is_none() {
                return Some((IndexValue::Null, key));
            }
            let fields = fields(&view.get(key)?.row).ok()?;
            Some((self.value(&fields), key))
        });
        let follows = |(value, key): &(IndexValue, &R::Key)| match after {
            None => true,
            Some(place) if self.is_descending => (value, *key) < (&place.value, &place.key),
            Some(place) => (value, *key) > (&place.value, &place.key),
        };
        let mut ordered: Vec<_> = with_value.filter(follows).collect();
        ordered.sort_unstable();
        ordered.dedup();
        if self.is_descending {
            ordered.reverse();
        }
        Box::new(ordered.into_iter().map(|(_, key)| key))
    }
}

impl<R: Record> Default for List<R> {
    fn default() -> List<R> {
        List::new()
    }
}

impl<R: Record> Query for List<R> {
    type View = RecordView<R>;
    type Answer = Page<R>;

    fn answer(&self, view: &RecordView<R>) -> Page<R> {
        let (mut items, mut last) = (Vec::new(), None);
        let has_tests = !self.conditions.is_empty() || self.order.is_some();
        for key in self.keys(view) {
            let Some(entry) = view.get(key) else { continue };
            let fields = match has_tests {
                true => fields(&entry.row).unwrap_or_default(),
                false => Fields::new(),
            };
            if !self.is_listed(&fields) {
                continue;
            }
            if items.len() == self.limit {
                return Page { items, next: last.and_then(|place| cursor(&place)) };
            }
            last = Some(Place {
                order: self.order.clone(),
                is_descending: self.is_descending,
                value: self.value(&fields),
                key: key.clone(),
            });
            items.push(entry.clone());
        }
        Page { items, next: None }
    }
}

fn cursor<K: Serialize>(place: &Place<K>) -> Option<String> {
    Some(URL_SAFE_NO_PAD.encode(serde_json::to_vec(place).ok()?))
}
