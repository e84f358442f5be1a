//! Parts of lists: pages of an answer, and sections of an explanation.

use diptych::Position;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::door::{
    problem::Problem,
    request::{LIMIT, OFFSET, RequestOptions, START_AFTER},
};

/// How the answers of a query are cut into pages.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pages {
    /// The number of items of the longest page.
    items: usize,
}

/// A page of an answer, ready to send.
pub(crate) struct Page {
    /// The items of the page as a JSON array.
    pub(crate) body: Vec<u8>,
    pub(crate) place: PagePlace,
}

/// The place of a page in its list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PagePlace {
    range: PageRange,
    /// The number of items of the list.
    pub(crate) total: usize,
}

/// The items that a page may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PageRange {
    offset: usize,
    limit: usize,
}

/// The options of a request for a part of a list.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ListOptions {
    limit: Option<usize>,
    offset: Option<usize>,
    start_after: Option<Position>,
}

impl Pages {
    /// Pages of at most this number of items, and of at least one.
    pub(crate) fn of(items: usize) -> Pages {
        Pages { items: items.max(1) }
    }

    pub(crate) fn items(self) -> usize {
        self.items
    }

    /// The page of an answer that is JSON already.
    pub(crate) fn cut_json(self, answer: &[u8], options: ListOptions) -> serde_json::Result<Page> {
        let items: Vec<&RawValue> = serde_json::from_slice(answer)?;
        self.cut(items, options)
    }

    /// The page that these options ask for.
    pub(crate) fn cut<A>(self, answer: A, options: ListOptions) -> serde_json::Result<Page>
    where
        A: IntoIterator<Item: Serialize>,
    {
        let limit = options.limit_upto(self.items);
        cut(answer, PageRange { offset: options.offset.unwrap_or(0), limit })
    }
}

/// Items outside the page are counted and not serialised.
fn cut<A>(answer: A, range: PageRange) -> serde_json::Result<Page>
where
    A: IntoIterator<Item: Serialize>,
{
    let (mut items, mut total) = (Vec::new(), 0);
    for item in answer {
        if total >= range.offset && items.len() < range.limit {
            items.push(item);
        }
        total += 1;
    }
    Ok(Page { body: serde_json::to_vec(&items)?, place: PagePlace { range, total } })
}

impl PagePlace {
    /// The options of the next page, if there is one.
    pub(crate) fn next(self) -> Option<[(&'static str, String); 2]> {
        let PageRange { offset, limit } = self.range;
        let next = offset.saturating_add(limit);
        let is_next = limit > 0 && next < self.total;
        is_next.then(|| [(LIMIT, limit.to_string()), (OFFSET, next.to_string())])
    }
}

impl ListOptions {
    pub(crate) fn read(options: &RequestOptions<'_>) -> Result<ListOptions, Problem> {
        Ok(ListOptions {
            limit: options.value("limit")?,
            offset: options.value("offset")?,
            start_after: options.position("start-after")?,
        })
    }

    pub(crate) fn limit_upto(self, most: usize) -> usize {
        self.limit.map_or(most, |limit| limit.min(most))
    }

    pub(crate) fn start_after(self) -> Option<Position> {
        self.start_after
    }

    pub(crate) fn is_empty(self) -> bool {
        let ListOptions { limit, offset, start_after } = self;
        limit.is_none() && offset.is_none() && start_after.is_none()
    }

    /// Refuses options that do not apply to an answer.
    pub(crate) fn check_answer(self, query: &str, is_paged: bool) -> Result<(), Problem> {
        if self.start_after.is_some() {
            let detail = format!(
                "{START_AFTER} is a place in an explanation, and this is an answer: use {OFFSET} \
                 for a query with pages"
            );
            return Err(Problem::parameter(START_AFTER, detail));
        }
        let name = match (self.limit, self.offset) {
            _ if is_paged => return Ok(()),
            (Some(_), _) => LIMIT,
            (None, Some(_)) => OFFSET,
            (None, None) => return Ok(()),
        };
        let detail = format!(
            "the query {query:?} has no pages, so {name} does not apply to its answer: leave it \
             out; its program allows pages with `QueryRoute::paged`"
        );
        Err(Problem::parameter(name, detail))
    }

    /// Refuses options that do not apply to an explanation.
    pub(crate) fn check_explanation(self) -> Result<(), Problem> {
        match self.offset {
            None => Ok(()),
            Some(_) => {
                let detail = format!(
                    "{OFFSET} is a place in an answer with pages, and this is an explanation: use \
                     {START_AFTER} with the position of the last event of the list before"
                );
                Err(Problem::parameter(OFFSET, detail))
            }
        }
    }
}
