//! The parts of a request that an error about its options names.

use diptych::QueryError;

use crate::door::{
    problem::Problem,
    request::{OptionSource, RequestOptions},
};

/// The parts of a request with the options that only the app can refuse.
#[derive(Clone, Debug)]
pub(crate) struct QuerySources {
    after: Option<OptionSource>,
    as_of: Option<OptionSource>,
    occurred_before: Option<OptionSource>,
    start_after: Option<OptionSource>,
}

impl QuerySources {
    pub(crate) fn of(options: &RequestOptions<'_>) -> Result<QuerySources, Problem> {
        let given = |name| {
            let value = options.text(name);
            value.map(|value| value.map(|_| options.source(name)))
        };
        Ok(QuerySources {
            after: given("after")?,
            as_of: given("as-of")?,
            occurred_before: given("occurred-before")?,
            start_after: given("start-after")?,
        })
    }

    /// The problem of an error. It names the option that is wrong, if it is one.
    pub(crate) fn problem(&self, error: QueryError) -> Problem {
        let source = match &error {
            // The token of the session was checked before.
            QueryError::Token(_) => &self.after,
            QueryError::AboveHead { .. } => &self.as_of,
            QueryError::OwnOrder { .. } => &self.occurred_before,
            QueryError::NotListed { .. } => &self.start_after,
            _ => &None,
        };
        let problem = Problem::from(error);
        source.iter().fold(problem, |problem, source| source.name_in(problem))
    }
}
