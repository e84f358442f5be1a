//! Queries with their types erased: about the present and the past, live, and explained.

use std::{fmt, future::Future, marker::PhantomData, pin::Pin, sync::Arc};

use axum::body::Bytes;
use diptych::{
    Answer, App, Position, Query, QueryError,
    catalogue::{
        AnyQuery, AnyWatch, CatalogueEntry, EntryDetail, Listing, NamedQuery, NamedQueryError,
        resolved,
    },
    follow::Standstill,
};
use futures_util::stream::{self, BoxStream};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::{
    door::{
        access::{Caller, Denial, Mask},
        problem::Problem,
    },
    panels::{
        answers::PastAnswers,
        entries::{
            arguments::Arguments,
            options::{EncodedAnswer, QueryOptions},
            other_type,
            page::Pages,
            schema::ArgumentNames,
        },
    },
};

/// A query with its name and the options of its route, for
/// [`Server::query`](crate::Server::query) and [`Server::live_query`](crate::Server::live_query).
///
/// A plain name is a route without options: the query has no explanations.
pub struct QueryRoute<Q: Query> {
    name: String,
    is_explained: bool,
    mask: Option<Mask>,
    admit: Option<AdmitQuery<Q>>,
    pages: Option<PageRules>,
    query: PhantomData<fn(Q)>,
}

/// A rule about the caller of a decoded query.
type AdmitQuery<Q> = Box<dyn Fn(&Caller, &Q) -> Result<(), Denial> + Send + Sync>;

impl<Q: Query> QueryRoute<Q> {
    /// A query without explanations.
    pub fn new(name: impl Into<String>) -> QueryRoute<Q> {
        let (is_explained, mask, admit, pages) = (false, None, None, None);
        QueryRoute { name: name.into(), is_explained, mask, admit, pages, query: PhantomData }
    }

    /// Answers with pages of at most this number of items. The answer is a list that serialises as
    /// an array, with the items of its iterator in a stable order. The parameters `_limit` and
    /// `_offset` ask for a part. The header `Diptych-Total` has the number of items of the whole
    /// list, and `Link` leads to the next page.
    ///
    /// The query still answers with the whole list, of which the server sends a page. Live answers
    /// are whole lists. The documentation of the [crate](crate#lists) says how pages fit together.
    pub fn paged(mut self, items: usize) -> QueryRoute<Q>
    where
        Q::Answer: IntoIterator<Item: Serialize>,
    {
        self.pages = Some(PageRules::of::<Q>(items));
        self
    }

    /// Answers explanations of the query: callers that the hook admits to
    /// [`Operation::Explain`](crate::Operation::Explain) read the events behind an answer, with
    /// their payloads and actors. Without a hook, every caller may do so.
    pub fn explained(mut self) -> QueryRoute<Q> {
        self.is_explained = true;
        self
    }

    /// Answers explanations of the query as [`explained`](QueryRoute::explained) does, and gives
    /// each event to `mask` before it is sent. The event is an object with the members of the
    /// explanation (`type`, `actor`, `data` and so on), and `mask` changes or removes what this
    /// caller may not read. An event that becomes `null` is left out. If `mask` panics, nothing is
    /// sent. The limit of the explanation and its positions count the events before the mask, so a
    /// caller can learn where there are events that it does not see.
    pub fn explained_by(
        self,
        mask: impl Fn(&Caller, &mut Value) + Send + Sync + 'static,
    ) -> QueryRoute<Q> {
        QueryRoute { mask: Some(Arc::new(mask)), ..self.explained() }
    }

    /// Admits a caller by the arguments of the query, for example by its tenant: each time that the
    /// query is asked, watched or explained. The [hook](crate::Server::admit) is asked first,
    /// before the arguments are decoded. If it is called twice, both rules have to admit the
    /// caller.
    pub fn admit(
        mut self,
        admit: impl Fn(&Caller, &Q) -> Result<(), Denial> + Send + Sync + 'static,
    ) -> QueryRoute<Q> {
        let former = self.admit.take();
        self.admit = Some(Box::new(move |caller, query| {
            former.as_ref().map_or(Ok(()), |former| former(caller, query))?;
            admit(caller, query)
        }));
        self
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The options of the route without their type.
    pub(crate) fn into_rules(self) -> (String, QueryRules) {
        let QueryRoute { name, is_explained, mask, admit, pages, .. } = self;
        let admit = admit.map(|admit| -> AdmitAnyQuery {
            Box::new(move |caller, query| match query.downcast_ref::<Q>() {
                Some(query) => Ok(admit(caller, query)?),
                None => Err(other_type::<Q>()),
            })
        });
        (name, QueryRules { is_explained, mask, admit, pages })
    }
}

impl<Q: Query> From<&str> for QueryRoute<Q> {
    fn from(name: &str) -> QueryRoute<Q> {
        QueryRoute::new(name)
    }
}

impl<Q: Query> fmt::Debug for QueryRoute<Q> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let QueryRoute { name, is_explained, pages, .. } = self;
        f.debug_struct("QueryRoute")
            .field("name", name)
            .field("is_explained", is_explained)
            .field("pages", pages)
            .finish_non_exhaustive()
    }
}

/// The options of a route without their type.
#[derive(Default)]
pub(crate) struct QueryRules {
    is_explained: bool,
    mask: Option<Mask>,
    admit: Option<AdmitAnyQuery>,
    pages: Option<PageRules>,
}

type AdmitAnyQuery = Box<dyn Fn(&Caller, &AnyQuery) -> Result<(), Problem> + Send + Sync>;

/// The pages of a query.
struct PageRules {
    pages: Pages,
    /// Asks for one page of the present answer, so that the other items are not encoded.
    ask: AskPage,
}

type AskPage = fn(AnyQuery, App, QueryOptions, Pages) -> QueryFuture<EncodedAnswer>;

impl PageRules {
    fn of<Q>(items: usize) -> PageRules
    where
        Q: Query<Answer: IntoIterator<Item: Serialize>>,
    {
        let ask: AskPage = |query, app, options, pages| {
            let Some(query) = query.downcast::<Q>() else {
                return Box::pin(async { Err(other_type::<Q>()) });
            };
            Box::pin(async move { options.ask_page(&app, query, pages).await })
        };
        PageRules { pages: Pages::of(items), ask }
    }
}

impl fmt::Debug for PageRules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.pages.fmt(f)
    }
}

/// A query of the app's catalogue with the options of its route.
pub(crate) struct QueryEntry {
    /// The Rust types of the query and of its view.
    pub(crate) type_name: &'static str,
    pub(crate) view: &'static str,
    /// Names of the events that the view applies.
    pub(crate) events: Vec<&'static str>,
    /// Schemas of the arguments and of the answer. They allow everything if the catalogue has none.
    pub(crate) arguments: Value,
    pub(crate) answer: Value,
    pub(crate) argument_names: ArgumentNames,
    named: NamedQuery,
    rules: QueryRules,
}

type QueryFuture<T> = Pin<Box<dyn Future<Output = Result<T, Problem>> + Send>>;

/// Begins a watch whose first answer has this position or a later one.
pub(crate) type BeginWatch = Box<dyn Fn(Position) -> Result<LiveAnswers, Problem> + Send + Sync>;

/// A stream of changed answers.
pub(crate) type LiveAnswers = BoxStream<'static, Result<LiveAnswer, QueryError>>;

/// One answer of a live query.
pub(crate) struct LiveAnswer {
    pub(crate) position: Position,
    /// The answer as JSON.
    pub(crate) json: String,
    pub(crate) standstill: Option<Box<Standstill>>,
}

/// An explanation ready to send.
pub(crate) struct EncodedExplanation {
    pub(crate) body: Bytes,
    pub(crate) upto: Position,
    /// The place at which the next list begins.
    pub(crate) next: Option<Position>,
}

impl QueryEntry {
    /// The query of this name with its listing and the options of its route.
    pub(crate) fn new(
        named: NamedQuery,
        listed: &CatalogueEntry,
        schemas: &Map<String, Value>,
        rules: QueryRules,
    ) -> QueryEntry {
        let type_name = named.type_name();
        let (view, events, arguments, answer) = match &listed.detail {
            EntryDetail::Query { view, events, arguments, answer, .. } => {
                (*view, events.clone(), arguments.clone(), answer.clone())
            }
            _ => ("", Vec::new(), None, None),
        };
        let (arguments, answer) =
            (arguments.unwrap_or(Value::Bool(true)), answer.unwrap_or(Value::Bool(true)));
        let argument_names = ArgumentNames::of(&arguments, schemas);
        QueryEntry { type_name, view, events, arguments, answer, argument_names, named, rules }
    }

    /// # Errors
    /// The mistake in the arguments of the query, which has this name, or in its pages.
    pub(crate) fn check(&self, name: &str, listing: &Listing) -> Result<(), String> {
        let is_reserved = |field: &&String| field.starts_with('_');
        if let Some(field) = self.argument_names.fields().find(is_reserved) {
            return Err(format!(
                "the query {name:?} has the argument {field:?}: rename it, because names that \
                 begin with `_` are for the parameters of every query"
            ));
        }
        let kind = resolved(&self.answer, &listing.components.schemas).get("type");
        let is_described = self.answer != Value::Bool(true);
        let is_list = !is_described || kind.and_then(Value::as_str) == Some("array");
        match self.page_items() {
            Some(_) if !is_list => Err(format!(
                "the query {name:?} has pages, and its answer is no array: leave `paged` out, or \
                 answer with a list"
            )),
            _ => Ok(()),
        }
    }

    pub(crate) fn is_live(&self) -> bool {
        self.named.is_live()
    }

    pub(crate) fn is_explained(&self) -> bool {
        self.rules.is_explained
    }

    /// The number of items of the longest page; `None` for a query without pages.
    pub(crate) fn page_items(&self) -> Option<usize> {
        self.rules.pages.as_ref().map(|rules| rules.pages.items())
    }

    pub(crate) async fn ask(
        &self,
        app: &App,
        arguments: Arguments,
        options: QueryOptions,
        answers: &Arc<PastAnswers>,
    ) -> Result<EncodedAnswer, Problem> {
        let query = self.read(&arguments, &options.caller)?;
        let pages = self.rules.pages.as_ref();
        match (options.point, pages) {
            (Some(point), _) => {
                let question = (self.named.name(), &arguments);
                let answer = options.ask_past(app, question, query, point, answers).await?;
                options.page_of(answer, pages.map(|rules| rules.pages))
            }
            (None, Some(PageRules { pages, ask })) => {
                ask(query, app.clone(), options, *pages).await
            }
            (None, None) => options.ask_any(app, query).await,
        }
    }

    /// The events behind an answer; `None` if the query has no explanations.
    ///
    /// # Errors
    /// [`Problem`] if the arguments cannot be read, or the route does not admit the caller.
    pub(crate) async fn explain(
        &self,
        arguments: &Arguments,
        options: QueryOptions,
        answers: &Arc<PastAnswers>,
    ) -> Result<EncodedExplanation, Problem> {
        let caller = options.caller.clone();
        let query = self.read(arguments, &caller)?;
        if options.has_tokens() {
            // They are compared with the log through a question of their own.
            options.check_tokens(arguments.read(&self.named)?).await?;
        }
        let question = (self.named.name(), arguments);
        let explanation = options.explain(question, query, answers).await?;
        let mut body = explanation.body.clone();
        if let Some(mask) = &self.rules.mask {
            let unread = |error| Problem::mistake("an explanation is no JSON", &error);
            let mut explained: Value = serde_json::from_slice(&body).map_err(unread)?;
            if let Some(Value::Array(events)) = explained.get_mut("events") {
                events.iter_mut().for_each(|event| mask(&caller, event));
                events.retain(|event| !event.is_null());
            }
            body = explained.to_string().into();
        }
        let (upto, next) = (explanation.position, explanation.next);
        Ok(EncodedExplanation { body, upto, next })
    }

    /// Begins watches of this query for this caller; `None` if the query has no live answers.
    ///
    /// # Errors
    /// [`Problem`] if the arguments cannot be read, or the route does not admit the caller.
    pub(crate) fn watch(
        &self,
        arguments: &Arguments,
        caller: &Caller,
    ) -> Option<Result<BeginWatch, Problem>> {
        if !self.is_live() {
            return None;
        }
        let (named, own) = (self.named.clone(), arguments.clone());
        let begin: BeginWatch = Box::new(move |from| match own.read(&named)?.watch(from) {
            Some(watch) => Ok(Box::pin(stream::unfold(watch, next_answer))),
            None => Ok(Box::pin(stream::empty())),
        });
        Some(self.read(arguments, caller).map(|_| begin))
    }

    /// Decodes the query, if the rule of its route admits the caller.
    fn read(&self, arguments: &Arguments, caller: &Caller) -> Result<AnyQuery, Problem> {
        let query = arguments.read(&self.named)?;
        match &self.rules.admit {
            Some(admit) => admit(caller, &query).map(|()| query),
            None => Ok(query),
        }
    }
}

async fn next_answer(mut watch: AnyWatch) -> Option<(Result<LiveAnswer, QueryError>, AnyWatch)> {
    let answer = match watch.next().await {
        Ok(Answer { value, position, standstill, .. }) => {
            let json = String::from(Box::<str>::from(value));
            Ok(LiveAnswer { position, json, standstill })
        }
        Err(NamedQueryError::Query(error)) => Err(error),
        // An answer that cannot be JSON also fails in a plain query, so tests find it.
        Err(NamedQueryError::NotJson { position, .. }) => {
            Ok(LiveAnswer { position, json: "null".to_owned(), standstill: None })
        }
        // The arguments were read before, and a watch has no other errors.
        Err(_) => return None,
    };
    Some((answer, watch))
}
