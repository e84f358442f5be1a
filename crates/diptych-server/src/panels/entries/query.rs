//! Queries with their types erased: about the present and the past, live, and explained.

use std::{any::type_name, fmt, future::Future, pin::Pin, sync::Arc};

use axum::body::Bytes;
use diptych::{Answer, App, Event, Fold, Position, Query, QueryError, follow::Standstill};
use futures_util::stream::{self, BoxStream};
use schemars::{JsonSchema, SchemaGenerator};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{
    door::{
        access::{Caller, Denial, Mask},
        problem::Problem,
    },
    panels::{
        answers::PastAnswers,
        entries::{
            arguments::{AdmitQuery, Arguments},
            event,
            options::{EncodedAnswer, QueryOptions},
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
    pages: Option<Pages<Q::Answer>>,
}

impl<Q: Query> QueryRoute<Q> {
    /// A query without explanations.
    pub fn new(name: impl Into<String>) -> QueryRoute<Q> {
        QueryRoute { name: name.into(), is_explained: false, mask: None, admit: None, pages: None }
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
        self.pages = Some(Pages::of(items));
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
        self.admit = Some(Arc::new(move |caller, query| {
            former.as_ref().map_or(Ok(()), |former| former(caller, query))?;
            admit(caller, query)
        }));
        self
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
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

/// A query of the application with its type erased.
pub(crate) struct QueryEntry {
    /// The Rust types of the query and of its view.
    pub(crate) type_name: &'static str,
    pub(crate) view: &'static str,
    /// Names of the events that the view applies.
    pub(crate) events: Vec<&'static str>,
    pub(crate) arguments: Value,
    pub(crate) answer: Value,
    pub(crate) argument_names: ArgumentNames,
    /// The number of items of the longest page; `None` for a query without pages.
    pub(crate) page_items: Option<usize>,
    ask: RunQuery<EncodedAnswer>,
    /// `None` for a query without explanations.
    explain: Option<RunQuery<EncodedExplanation>>,
    /// `None` for a query without live answers.
    live: Option<LiveEntry>,
}

pub(crate) type QueryFuture<T> = Pin<Box<dyn Future<Output = Result<T, Problem>> + Send>>;
type RunQuery<T> =
    Box<dyn Fn(App, Arguments, QueryOptions, Arc<PastAnswers>) -> QueryFuture<T> + Send + Sync>;
/// Watches a query from a position on.
type WatchQuery =
    Arc<dyn Fn(&App, &Arguments, Position) -> Result<LiveAnswers, Problem> + Send + Sync>;
type CheckCaller = Box<dyn Fn(&Arguments, &Caller) -> Result<(), Problem> + Send + Sync>;

/// A query that can be watched.
struct LiveEntry {
    watch: WatchQuery,
    /// Reads the arguments, and applies the rule of the route about the caller.
    check: CheckCaller,
}

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
    pub(crate) fn of<Q>(schemas: &mut SchemaGenerator, route: QueryRoute<Q>) -> QueryEntry
    where
        Q: Query<Answer: Serialize + JsonSchema> + DeserializeOwned + JsonSchema,
    {
        let arguments: Value = schemas.subschema_for::<Q>().into();
        let QueryRoute { name, is_explained, mask, admit, pages } = route;
        let explain = is_explained.then(|| explained::<Q>(name.clone(), mask, admit.clone()));
        QueryEntry {
            argument_names: ArgumentNames::of(&arguments, schemas.definitions()),
            type_name: type_name::<Q>(),
            view: type_name::<Q::View>(),
            events: event::names(<Q::View as Fold>::Event::types()),
            arguments,
            answer: schemas.subschema_for::<Q::Answer>().into(),
            page_items: pages.as_ref().map(Pages::items),
            ask: Box::new(move |app, arguments, options, answers| {
                let query = arguments.read::<Q>(&options.caller, admit.as_ref());
                let name = name.clone();
                Box::pin(async move {
                    match options.point {
                        Some(point) => {
                            let question = (&*name, &arguments);
                            let answered =
                                options.ask_past(&app, question, query?, point, &answers);
                            options.page_of(answered.await?, pages)
                        }
                        None => options.ask(&app, query?, pages).await,
                    }
                })
            }),
            explain,
            live: None,
        }
    }

    /// A query that can also be watched.
    pub(crate) fn live<Q>(schemas: &mut SchemaGenerator, route: QueryRoute<Q>) -> QueryEntry
    where
        Q: Query<Answer: Serialize + JsonSchema + Clone + PartialEq>,
        Q: DeserializeOwned + JsonSchema,
    {
        let admit = route.admit.clone();
        let check: CheckCaller = Box::new(move |arguments, caller| {
            arguments.read::<Q>(caller, admit.as_ref()).map(drop)
        });
        let watch: WatchQuery = Arc::new(|app, arguments, from| {
            let query = arguments.read::<Q>(&Caller::anonymous(), None)?;
            let answers = stream::unfold(app.watch(query).from(from), |mut watch| async {
                let next = watch.next().await.map(|answer| {
                    // An answer that cannot be JSON also fails in a plain query, so tests find it.
                    let json = serde_json::to_string(&answer.value);
                    let json = json.unwrap_or_else(|_| "null".to_owned());
                    let Answer { position, standstill, .. } = answer;
                    LiveAnswer { position, json, standstill }
                });
                Some((next, watch))
            });
            Ok(Box::pin(answers))
        });
        let live = Some(LiveEntry { watch, check });
        QueryEntry { live, ..QueryEntry::of::<Q>(schemas, route) }
    }

    pub(crate) fn is_live(&self) -> bool {
        self.live.is_some()
    }

    pub(crate) fn is_explained(&self) -> bool {
        self.explain.is_some()
    }

    pub(crate) fn ask(
        &self,
        app: App,
        arguments: Arguments,
        options: QueryOptions,
        answers: &Arc<PastAnswers>,
    ) -> QueryFuture<EncodedAnswer> {
        (self.ask)(app, arguments, options, answers.clone())
    }

    /// The events behind an answer; `None` if the query has no explanations.
    pub(crate) fn explain(
        &self,
        app: App,
        arguments: Arguments,
        options: QueryOptions,
        answers: &Arc<PastAnswers>,
    ) -> Option<QueryFuture<EncodedExplanation>> {
        let explain = self.explain.as_ref()?;
        Some(explain(app, arguments, options, answers.clone()))
    }

    /// Begins watches of this query for this caller; `None` if the query has no live answers.
    ///
    /// # Errors
    /// [`Problem`] if the arguments cannot be read, or the route does not admit the caller.
    pub(crate) fn watch(
        &self,
        app: &App,
        arguments: &Arguments,
        caller: &Caller,
    ) -> Option<Result<BeginWatch, Problem>> {
        let LiveEntry { watch, check } = self.live.as_ref()?;
        let (watch, app, own) = (watch.clone(), app.clone(), arguments.clone());
        let begin: BeginWatch = Box::new(move |from| watch(&app, &own, from));
        Some(check(arguments, caller).map(|()| begin))
    }
}

fn explained<Q>(
    name: String,
    mask: Option<Mask>,
    admit: Option<AdmitQuery<Q>>,
) -> RunQuery<EncodedExplanation>
where
    Q: Query + DeserializeOwned,
{
    Box::new(move |app, arguments, options, answers| {
        let query = arguments.read::<Q>(&options.caller, admit.as_ref());
        let (name, mask) = (name.clone(), mask.clone());
        Box::pin(async move {
            let caller = options.caller.clone();
            let query = query?;
            if options.has_tokens() {
                // They are compared with the log through a question of their own.
                let asked = arguments.read::<Q>(&caller, None)?;
                options.check_tokens(&app, asked).await?;
            }
            let explanation = options.explain(&app, (&name, &arguments), query, &answers).await?;
            let mut body = explanation.body.clone();
            if let Some(mask) = mask {
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
        })
    })
}
