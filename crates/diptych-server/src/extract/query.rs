//! Queries in a handler of the program.

use std::{any::type_name, future::IntoFuture, time::Duration};

use axum::{
    body::Body,
    extract::{FromRef, FromRequestParts},
    http::{Response, request::Parts},
    response::IntoResponse,
};
use diptych::{Answer, App, Query, QueryError, catalogue::decode, query::Ask};
use serde::{Serialize, de::DeserializeOwned};

use super::{caller_of, limits_of};
use crate::{
    door::{
        problem::Problem,
        request::{RequestOptions, form_reader, names_point, wrong_argument},
    },
    panels::{
        entries::options::{EncodedAnswer, QueryOptions},
        handlers::queries,
    },
};

/// The options of a query, from the parameters or headers of its request: how fresh the answer has
/// to be, or its point in the past (`_consistency`, `_after`, `_session`, `_at_most`, `_within`,
/// `_or_stale`, `_as_of`, `_recorded_before`, `_occurred_before`).
///
/// A parameter that begins with `_` and is none of these is refused.
#[derive(Clone, Debug)]
pub struct QueryParameters {
    options: QueryOptions,
    answer_time: Duration,
}

impl QueryParameters {
    /// Whether the request asks about the past. Not every caller may need to.
    pub fn is_about_past(&self) -> bool {
        self.options.is_about_past()
    }

    /// Whether a request with this head asks about the past, as for the decision about its caller.
    /// An address that cannot be read counts as such.
    pub fn are_about_past(parts: &Parts) -> bool {
        names_point(&parts.headers, parts.uri.query())
    }

    /// Applies the options to a question, and waits for the answer, within the limits of the
    /// request: `parameters.answer(app.query(query)).await`.
    ///
    /// # Errors
    /// The [`Problem`] that the route of a server would answer.
    pub async fn answer<Q: Query>(&self, ask: Ask<Q>) -> Result<Answer<Q::Answer>, Problem> {
        self.in_time(self.options.answer(ask)).await
    }

    /// Waits for an answer to which the options were not applied, for as long as the server allows.
    ///
    /// # Errors
    /// The [`Problem`] that the route of a server would answer.
    pub async fn in_time<T>(
        &self,
        answer: impl IntoFuture<Output = Result<T, QueryError>>,
    ) -> Result<T, Problem> {
        let answer = async { answer.await.map_err(|error| self.options.problem(error)) };
        queries::in_time(self.answer_time, answer).await
    }

    /// The response with an answer that was given with these options. It has the next token of the
    /// session, if the request named one.
    ///
    /// # Errors
    /// A problem if the value cannot be written as JSON, or the log cannot be read.
    pub async fn respond<T>(&self, app: &App, answer: Answer<T>) -> Result<AnswerResponse, Problem>
    where
        T: Serialize + Send,
    {
        self.options.encode(app, answer, type_name::<T>()).await.map(AnswerResponse)
    }

    /// Asks a query with these options.
    ///
    /// # Errors
    /// The [`Problem`] that the route of a server would answer.
    pub async fn ask<Q>(&self, app: &App, query: Q) -> Result<AnswerResponse, Problem>
    where
        Q: Query<Answer: Serialize>,
    {
        queries::in_time(self.answer_time, self.options.ask(app, query)).await.map(AnswerResponse)
    }
}

impl<S> FromRequestParts<S> for QueryParameters
where
    S: Send + Sync,
    App: FromRef<S>,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<QueryParameters, Problem> {
        let (limits, caller) = (limits_of(&parts.extensions), caller_of(&parts.extensions));
        let (options, _) = RequestOptions::split(&parts.headers, parts.uri.query())?;
        let app = App::from_ref(state);
        let options = QueryOptions::read(&app, &options, &limits, caller).await?;
        Ok(QueryParameters { options, answer_time: limits.answer_time })
    }
}

/// The arguments of a query, from the address of its request without the
/// [parameters](QueryParameters) that begin with `_`.
///
/// The type decides whether other names are refused (`#[serde(deny_unknown_fields)]`).
#[derive(Clone, Copy, Debug)]
pub struct QueryArguments<Q>(pub Q);

impl<S, Q> FromRequestParts<S> for QueryArguments<Q>
where
    S: Send + Sync,
    Q: DeserializeOwned,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<QueryArguments<Q>, Problem> {
        let (_, arguments) = RequestOptions::split(&parts.headers, parts.uri.query())?;
        let decoded = decode(form_reader(&arguments));
        decoded.map(QueryArguments).map_err(|error| wrong_argument(&arguments, &error))
    }
}

/// The response to a query: the answer as JSON, and its position, token and cost in headers.
#[derive(Clone, Debug)]
pub struct AnswerResponse(EncodedAnswer);

impl IntoResponse for AnswerResponse {
    fn into_response(self) -> Response<Body> {
        queries::response(self.0)
    }
}
