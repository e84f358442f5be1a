//! The options of a query, and the answers that are given with them.

use std::{any::type_name, sync::Arc, time::Duration};

use axum::body::Bytes;
use diptych::{
    Answer, App, Point, Position, Query, QueryError, Recorded, Session, SessionToken,
    catalogue::{AnyQuery, ExplainOptions, JsonAnswer, NamedQueryError},
    follow::Standstill,
    past::Explanation,
    query::AskOptions,
    store::RawEvent,
};
use serde::Serialize;
use serde_json::{Value, json, value::RawValue};

use crate::{
    door::{
        access::Caller,
        code::Code,
        limits::ServerLimits,
        problem::Problem,
        request::{AnyToken, RequestOptions, SentToken},
    },
    json::payload,
    panels::{
        answers::{PastAnswer, PastAnswers, QuestionKey},
        entries::{
            arguments::Arguments,
            page::{ListOptions, Page, PagePlace, Pages},
            sources::QuerySources,
        },
    },
};

/// Wait of a query that says nothing about it: the default of [`Ask::within`].
const DEFAULT_WAIT: Duration = Duration::from_secs(5);

/// The options of a query.
#[derive(Clone, Debug)]
pub(crate) struct QueryOptions {
    pub(crate) caller: Caller,
    is_strong: bool,
    after: Option<SentToken>,
    session: Option<Session>,
    within: Option<Duration>,
    /// The server's limit for `within`, and for the wait of a request without it.
    wait_time: Duration,
    at_most: Option<Duration>,
    or_stale: bool,
    pub(super) point: Option<Point>,
    pub(crate) list: ListOptions,
    sources: QuerySources,
    /// The server's limit for the events of an explanation.
    explained_events: usize,
    /// The limit of events that are read for an answer about the past.
    past_reads: u64,
    /// Whether the address alone says which answer about the past the client wants.
    is_addressed: bool,
}

/// How long an answer about the past holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Validity {
    /// The request can have another answer at any time.
    Now,
    /// The address has this answer now. Later events change that.
    Open,
    /// The address has this answer whatever happens.
    Final,
}

/// An answer ready to send.
#[derive(Clone, Debug)]
pub(crate) struct EncodedAnswer {
    pub(crate) body: Bytes,
    pub(crate) validity: Validity,
    pub(crate) position: Position,
    pub(crate) stale: Option<Position>,
    pub(crate) standstill: Option<Box<Standstill>>,
    /// Number of keys whose events the answer lacks.
    pub(crate) poisoned_keys: usize,
    /// The number of events read for the answer.
    pub(crate) events: u64,
    pub(crate) token: String,
    pub(crate) session: Option<SessionToken>,
    /// The place of the answer in its list, if it is a page.
    pub(crate) page: Option<PagePlace>,
}

impl QueryOptions {
    pub(crate) async fn read(
        app: &App,
        options: &RequestOptions<'_>,
        limits: &ServerLimits,
        caller: Caller,
    ) -> Result<QueryOptions, Problem> {
        let is_strong = match options.text("consistency")? {
            None | Some("eventual") => false,
            Some("strong") => true,
            Some(other) => {
                let wrong = format!("is eventual or strong, and not {other:?}");
                return Err(options.wrong("consistency", wrong));
            }
        };
        let point = point(options)?;
        Ok(QueryOptions {
            caller,
            is_strong,
            after: options.after()?,
            session: options.session(app).await?,
            within: milliseconds(options, "within")?,
            wait_time: limits.wait_time,
            at_most: milliseconds(options, "at-most")?,
            or_stale: options.flag("or-stale")?,
            point,
            list: ListOptions::read(options)?,
            sources: QuerySources::of(options)?,
            explained_events: limits.explained_events,
            past_reads: limits.past_reads,
            is_addressed: point.is_some() && options.are_in_address(),
        })
    }

    pub(crate) fn is_about_past(&self) -> bool {
        self.point.is_some()
    }

    /// Whether the request names events that the answer must contain.
    pub(super) fn has_tokens(&self) -> bool {
        self.session.is_some() || self.after.is_some()
    }

    /// Asks a query about the present or the past, without the answers that others have asked for.
    #[cfg(feature = "extract")]
    pub(crate) async fn ask<Q>(&self, app: &App, query: Q) -> Result<EncodedAnswer, Problem>
    where
        Q: Query<Answer: Serialize>,
    {
        let answer = self.answer(app.query(query)).await;
        let answer = answer.map_err(|error| self.problem(error))?;
        self.encode(app, answer, type_name::<Q>()).await
    }

    /// Asks a query of the catalogue about the present.
    pub(super) async fn ask_any(
        &self,
        app: &App,
        query: AnyQuery,
    ) -> Result<EncodedAnswer, Problem> {
        let answer = query.ask(&self.asking()).await;
        let answer = answer.map_err(|error| match error {
            NamedQueryError::Query(error) => self.sources.problem(error),
            error => failed(error),
        })?;
        let answer = present(answer, |value| Ok((json_bytes(value), None)))?;
        self.with_tokens(app, answer).await
    }

    /// Asks for one page of an answer about the present. The items outside the page are not
    /// encoded.
    pub(super) async fn ask_page<Q>(
        &self,
        app: &App,
        query: Q,
        pages: Pages,
    ) -> Result<EncodedAnswer, Problem>
    where
        Q: Query<Answer: IntoIterator<Item: Serialize>>,
    {
        let answer = app.query(query).options(&self.asking()).await;
        let answer = answer.map_err(|error| self.sources.problem(error))?;
        let answer = present(answer, |value| {
            let page = pages.cut(value, self.list);
            let Page { body, place } = page.map_err(|error| not_json(type_name::<Q>(), &error))?;
            Ok((body.into(), Some(place)))
        })?;
        self.with_tokens(app, answer).await
    }

    /// The answer that these options ask for.
    #[cfg(feature = "extract")]
    pub(crate) async fn answer<Q: Query>(
        &self,
        ask: diptych::query::Ask<Q>,
    ) -> Result<Answer<Q::Answer>, QueryError> {
        let ask = ask.options(&self.asking());
        match self.point {
            Some(point) => ask.at(point).read_at_most(self.past_reads).await,
            None => ask.await,
        }
    }

    /// The problem of an error. It names the option that is wrong, if it is one.
    #[cfg(feature = "extract")]
    pub(crate) fn problem(&self, error: QueryError) -> Problem {
        self.sources.problem(error)
    }

    /// Encodes an answer that was given with these options. `query` names the query in the log.
    #[cfg(feature = "extract")]
    pub(crate) async fn encode<T: Serialize>(
        &self,
        app: &App,
        answer: Answer<T>,
        query: &str,
    ) -> Result<EncodedAnswer, Problem> {
        let answer = present(answer, |value| {
            let body = serde_json::to_vec(&value);
            Ok((body.map_err(|error| not_json(query, &error))?.into(), None))
        })?;
        self.with_tokens(app, answer).await
    }

    /// The answer with its token, and with that of the session.
    async fn with_tokens(
        &self,
        app: &App,
        answer: EncodedAnswer,
    ) -> Result<EncodedAnswer, Problem> {
        let token = app.token_at(answer.position).await?.to_string();
        let session = token_of(self.session.as_ref()).await?;
        Ok(EncodedAnswer { token, session, ..answer })
    }

    /// Answers a question about the past: by the kept answer to an equal one, or together with
    /// others.
    pub(super) async fn ask_past(
        &self,
        app: &App,
        (name, arguments): (&str, &Arguments),
        query: AnyQuery,
        point: Point,
        answers: &Arc<PastAnswers>,
    ) -> Result<EncodedAnswer, Problem> {
        let is_addressed = self.is_addressed && !self.has_tokens();
        let past = query.at(point, &self.asking()).read_at_most(self.past_reads);
        // The tokens of this caller are compared with the log, also if the answer is there.
        let resolved = past.resolve().await;
        let (past, part) = resolved.map_err(|error| self.sources.problem(error))?;
        let (upto, at) = (part.upto, part.occurred_before);
        let question = QuestionKey::new(None, arguments.digest(name), upto, at);
        let own = app.clone();
        let compute = async move {
            let answer: JsonAnswer = past.answer().await.map_err(failed)?;
            let Answer { value, position, cost, .. } = answer;
            let token = own.token_at(position).await?.to_string();
            let body = json_bytes(value);
            Ok(PastAnswer { body, position, token, events: cost.events, next: None })
        };
        let answer = answers.answer(question, compute).await?;
        Ok(EncodedAnswer {
            body: answer.body.clone(),
            validity: match (is_addressed, part.is_final) {
                (false, _) => Validity::Now,
                (true, false) => Validity::Open,
                (true, true) => Validity::Final,
            },
            position: answer.position,
            stale: None,
            standstill: None,
            poisoned_keys: 0,
            events: answer.events,
            token: answer.token.clone(),
            session: token_of(self.session.as_ref()).await?,
            page: None,
        })
    }

    /// The page of a whole answer that these options ask for, if the query has pages.
    pub(super) fn page_of(
        &self,
        answer: EncodedAnswer,
        pages: Option<Pages>,
    ) -> Result<EncodedAnswer, Problem> {
        let Some(pages) = pages else { return Ok(answer) };
        let cut = pages.cut_json(&answer.body, self.list);
        let no_list =
            |error| Problem::mistake("the answer of a query with pages is no list", &error);
        let Page { body, place } = cut.map_err(no_list)?;
        Ok(EncodedAnswer { body: body.into(), page: Some(place), ..answer })
    }

    /// The options about freshness.
    fn asking(&self) -> AskOptions {
        let (after, token) = match self.after.as_ref().map(|after| &after.token) {
            Some(AnyToken::Receipt(receipt)) => (Some(*receipt), None),
            Some(AnyToken::Session(token)) => (None, Some(token.clone())),
            None => (None, None),
        };
        AskOptions {
            strong: self.is_strong,
            after,
            token,
            session: self.session.clone(),
            at_most: self.at_most,
            within: Some(self.within.unwrap_or(DEFAULT_WAIT).min(self.wait_time)),
            or_stale: self.or_stale,
        }
    }

    /// The token of the session, if the request names one. A live query begins with the present
    /// answer, which must not be older than this token.
    pub(crate) async fn live(self) -> Result<Option<SessionToken>, Problem> {
        let QueryOptions {
            caller: _,
            is_strong,
            after,
            session,
            within,
            at_most,
            or_stale,
            point,
            list,
            wait_time: _,
            past_reads: _,
            is_addressed: _,
            explained_events: _,
            sources: _,
        } = self;
        let is_other = is_strong || or_stale || after.is_some() || point.is_some();
        let is_other = is_other || !list.is_empty();
        if is_other || within.is_some() || at_most.is_some() {
            let detail = "a live query sends the present answer and then each changed one: its \
                          only option is the session; use other options without /live";
            return Err(Problem::bad(Code::Parameter, detail));
        }
        token_of(session.as_ref()).await
    }

    /// Compares the tokens of the request with the log.
    pub(super) async fn check_tokens(&self, query: AnyQuery) -> Result<(), Problem> {
        let asked = query.at(self.point.unwrap_or_default(), &self.asking());
        let resolved = asked.resolve().await;
        resolved.map(drop).map_err(|error| self.sources.problem(error))
    }

    /// The events behind an answer, by the kept explanation or together with others.
    pub(super) async fn explain(
        self,
        (name, arguments): (&str, &Arguments),
        query: AnyQuery,
        answers: &Arc<PastAnswers>,
    ) -> Result<Arc<PastAnswer>, Problem> {
        let QueryOptions { list, sources, past_reads, point, explained_events, .. } = self;
        let (limit, start_after) = (list.limit_upto(explained_events), list.start_after());
        let explain = query.explain(ExplainOptions {
            point: point.unwrap_or_default(),
            limit: Some(limit),
            read_at_most: Some(past_reads),
            start_after,
        });
        let resolved = explain.resolve().await;
        let (explain, part) = resolved.map_err(|error| sources.problem(error))?;
        let (upto, at) = (part.upto, part.occurred_before);
        let listed = Some((limit, start_after));
        let question = QuestionKey::new(listed, arguments.digest(name), upto, at);
        let compute = async move {
            let explanation = explain.explanation().await;
            let explanation = explanation.map_err(|error| sources.problem(error))?;
            let Explanation { events, upto, is_whole, next, cost, .. } = explanation;
            let events: Vec<_> = events.iter().map(event_json).collect();
            let body = json!({
                "upto": upto.get(),
                "is_whole": is_whole,
                "next": next.map(Position::get),
                "events": events,
            });
            let (body, token) = (body.to_string().into(), String::new());
            Ok(PastAnswer { body, position: upto, token, events: cost.events, next })
        };
        answers.answer(question, compute).await
    }
}

/// An answer about the present, whose tokens are still missing.
fn present<T>(
    answer: Answer<T>,
    encode: impl FnOnce(T) -> Result<(Bytes, Option<PagePlace>), Problem>,
) -> Result<EncodedAnswer, Problem> {
    let Answer { value, position, stale, standstill, cost, poisoned, .. } = answer;
    let (body, page) = encode(value)?;
    Ok(EncodedAnswer {
        body,
        validity: Validity::Now,
        position,
        stale,
        standstill,
        poisoned_keys: poisoned.len(),
        events: cost.events,
        token: String::new(),
        session: None,
        page,
    })
}

fn json_bytes(json: Box<RawValue>) -> Bytes {
    String::from(Box::<str>::from(json)).into()
}

fn failed(error: NamedQueryError) -> Problem {
    match error {
        NamedQueryError::Query(error) => error.into(),
        NamedQueryError::NotJson { query, error, .. } => not_json(query, &error),
        error => Problem::mistake("the query could not be asked", &error),
    }
}

async fn token_of(session: Option<&Session>) -> Result<Option<SessionToken>, Problem> {
    match session {
        Some(session) => Ok(Some(session.token().await.map_err(QueryError::from)?)),
        None => Ok(None),
    }
}

/// An event in an explanation.
fn event_json(recorded: &Recorded<Option<RawEvent>>) -> Value {
    let raw = recorded.event.as_ref();
    let tags = |raw: &RawEvent| -> Vec<String> {
        raw.tags.iter().map(|tag| tag.as_str().to_owned()).collect()
    };
    json!({
        "position": recorded.position.get(),
        "id": recorded.id.to_string(),
        "type": raw.map(|raw| raw.event_type.to_string()),
        "version": raw.map(|raw| raw.version),
        "occurred_at": recorded.occurred_at().to_string(),
        "recorded_at": recorded.recorded_at.to_string(),
        "actor": recorded.metadata.actor.as_ref().map(|actor| actor.as_str()),
        "correlation": recorded.metadata.correlation.map(|id| id.to_string()),
        "causation": recorded.metadata.causation.map(|id| id.to_string()),
        "tags": raw.map(tags),
        "data": raw.map(|raw| payload(&raw.payload)),
    })
}

fn not_json(query: &str, error: &serde_json::Error) -> Problem {
    Problem::mistake(&format!("the answer of {query} cannot be written as JSON"), error)
}

fn milliseconds(options: &RequestOptions<'_>, name: &str) -> Result<Option<Duration>, Problem> {
    Ok(options.value::<u64>(name)?.map(Duration::from_millis))
}

/// The point in the past that the request names, if any.
fn point(options: &RequestOptions<'_>) -> Result<Option<Point>, Problem> {
    let as_of = options.position("as-of")?;
    let recorded_before = options.instant("recorded-before")?;
    let occurred_before = options.instant("occurred-before")?;
    if as_of.is_none() && recorded_before.is_none() && occurred_before.is_none() {
        return Ok(None);
    }
    let mut point = Point::now();
    if let Some(position) = as_of {
        point = point.as_of(position);
    }
    if let Some(instant) = recorded_before {
        point = point.recorded_before(instant);
    }
    if let Some(instant) = occurred_before {
        point = point.occurred_before(instant);
    }
    Ok(Some(point))
}
