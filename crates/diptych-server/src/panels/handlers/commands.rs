//! The left panel: `POST /commands/{name}`.

use std::{
    any::type_name,
    convert::Infallible,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
};

use axum::{
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, HeaderValue, Request, Response, header},
};
use diptych::{App, Command, Event, Execute, ExecuteError, Receipt, SessionToken, Timestamp, Uuid};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::{
    door::access::Operation,
    door::problem::Problem,
    door::request::{Name, SESSION, Said, Told, from_json, header_text, header_value, json_body},
    panels::handlers::catalogue::event_names,
    panels::site::Site,
};

/// A command of the application with its type erased.
pub(crate) struct CommandEntry {
    /// The Rust type.
    pub(crate) type_name: &'static str,
    /// Names of the events that it can write.
    pub(crate) events: Vec<&'static str>,
    pub(crate) body: Value,
    /// Schema of its rejection; `None` for a command that no rule rejects.
    pub(crate) rejection: Option<Value>,
    /// Whether its rejections are recorded as events.
    pub(crate) notes: bool,
    run: Run,
}

type Running = Pin<Box<dyn Future<Output = Result<Done, Problem>> + Send>>;
type Run = Box<dyn Fn(App, Bytes, Sent) -> Running + Send + Sync>;

/// The options of a command, from the headers of its request.
#[derive(Default)]
pub(crate) struct Sent {
    key: Option<String>,
    actor: Option<String>,
    occurred_at: Option<Timestamp>,
    correlation: Option<Uuid>,
    causation: Option<Uuid>,
    session: Option<diptych::Session>,
    told: Option<Told>,
    unchanged_since: Option<diptych::Position>,
}

pub(crate) struct Done {
    receipt: Receipt,
    session: Option<SessionToken>,
}

impl CommandEntry {
    pub(crate) fn new<C>(schemas: &mut SchemaGenerator) -> CommandEntry
    where
        C: Command<Rejection: Serialize + JsonSchema> + DeserializeOwned + Serialize + JsonSchema,
    {
        let rejection = schemas.subschema_for::<C::Rejection>();
        CommandEntry::with::<C>(schemas, Some(rejection), |command, app, sent| {
            Box::pin(async move { sent.executed(&app, command).await.done(as_json).await })
        })
    }

    /// A command that no rule rejects.
    pub(crate) fn certain<C>(schemas: &mut SchemaGenerator) -> CommandEntry
    where
        C: Command<Rejection = Infallible> + DeserializeOwned + Serialize + JsonSchema,
    {
        CommandEntry::with::<C>(schemas, None, |command, app, sent| {
            Box::pin(async move {
                sent.executed(&app, command).await.done(|rejection| match *rejection {}).await
            })
        })
    }

    /// A command whose rejections are recorded as events, by the command that `note` makes.
    pub(crate) fn noting<C, N>(
        schemas: &mut SchemaGenerator,
        note: fn(&C, &C::Rejection) -> N,
    ) -> CommandEntry
    where
        C: Command<Rejection: Serialize + JsonSchema>,
        C: Clone + DeserializeOwned + Serialize + JsonSchema,
        N: Command + Serialize,
    {
        let rejection = schemas.subschema_for::<C::Rejection>();
        let entry =
            CommandEntry::with::<C>(schemas, Some(rejection), move |command: C, app, sent| {
                Box::pin(async move {
                    let (copy, about) = (command.clone(), sent.about(&command));
                    let executed = sent.executed(&app, command).await;
                    let noted = match &executed.0 {
                        Err(ExecuteError::Rejected(rejection)) => {
                            Some(about.note(&app, &copy, rejection, note).await)
                        }
                        _ => None,
                    };
                    executed.done(as_json).await.map_err(|problem| match noted {
                        Some(noted) => noted.told_in(problem),
                        None => problem,
                    })
                })
            });
        CommandEntry { notes: true, ..entry }
    }

    fn with<C>(
        schemas: &mut SchemaGenerator,
        rejection: Option<Schema>,
        run: impl Fn(C, App, Sent) -> Running + Send + Sync + 'static,
    ) -> CommandEntry
    where
        C: Command + DeserializeOwned + JsonSchema,
    {
        CommandEntry {
            type_name: type_name::<C>(),
            events: event_names(C::Event::types()),
            body: schemas.subschema_for::<C>().into(),
            rejection: rejection.map(Value::from),
            notes: false,
            run: Box::new(move |app, body, sent| match from_json::<C>("the command", &body) {
                Ok(command) => run(command, app, sent),
                Err(problem) => Box::pin(async { Err(problem) }),
            }),
        }
    }
}

/// The outcome of a command, with its session.
struct Executed<R: std::error::Error + 'static>(
    Result<Receipt, ExecuteError<R>>,
    Option<diptych::Session>,
);

impl<R: std::error::Error + Send + Sync + 'static> Executed<R> {
    async fn done(self, rejection: impl FnOnce(&R) -> Value) -> Result<Done, Problem> {
        let Executed(outcome, session) = self;
        match outcome {
            Ok(receipt) => {
                let session = match session {
                    Some(session) => token(&session).await,
                    None => None,
                };
                Ok(Done { receipt, session })
            }
            Err(error) => Err(Problem::of_command(error, rejection)),
        }
    }
}

/// The session's token. If it cannot be made, the command is answered without it, because it was
/// carried out.
async fn token(session: &diptych::Session) -> Option<SessionToken> {
    let token = session.token().await;
    if let Err(error) = &token {
        tracing::warn!(%error, "a session cannot be given a token");
    }
    token.ok()
}

impl Sent {
    async fn read(app: &App, headers: &HeaderMap, actor: Option<String>) -> Result<Sent, Problem> {
        let said = Said::in_headers(headers);
        Ok(Sent {
            key: key(headers)?,
            actor,
            occurred_at: said.value("occurred-at")?,
            correlation: said.value("correlation")?,
            causation: said.value("causation")?,
            session: said.session(app).await?,
            told: said.after()?,
            unchanged_since: said.position("unchanged-since")?,
        })
    }

    /// The options of a note on this command. It has the command's key; the note's own key is
    /// derived from it.
    fn about(&self, command: &impl Command) -> Sent {
        Sent {
            key: self.key.clone(),
            actor: self.actor.clone(),
            // The note itself has no instant, but the rejected command may have one.
            occurred_at: self.occurred_at.or_else(|| command.occurred_at()),
            correlation: self.correlation,
            causation: self.causation,
            ..Sent::default()
        }
    }

    fn on<C: Command>(self, mut execute: Execute<C>) -> Execute<C> {
        if let Some(actor) = self.actor {
            execute = execute.actor(actor);
        }
        if let Some(instant) = self.occurred_at {
            execute = execute.occurred_at(instant);
        }
        if let Some(id) = self.correlation {
            execute = execute.correlation(id);
        }
        if let Some(id) = self.causation {
            execute = execute.causation(id);
        }
        if let Some(session) = &self.session {
            execute = execute.session(session);
        }
        match &self.told {
            Some(Told::Receipt(receipt)) => execute = execute.after(receipt),
            Some(Told::Session(token)) => execute = execute.token(token),
            None => {}
        }
        match self.unchanged_since {
            Some(position) => execute.unchanged_since(position),
            None => execute,
        }
    }

    async fn executed<C: Command + Serialize>(
        self,
        app: &App,
        command: C,
    ) -> Executed<C::Rejection> {
        let session = self.session.clone();
        let execute = app.execute(command);
        let execute = match &self.key {
            Some(key) => execute.key(key),
            None => execute,
        };
        Executed(self.on(execute).await, session)
    }

    /// Records that this command was rejected.
    async fn note<C, N>(
        self,
        app: &App,
        command: &C,
        rejection: &C::Rejection,
        note: fn(&C, &C::Rejection) -> N,
    ) -> Noted
    where
        C: Command<Rejection: Serialize> + Serialize,
        N: Command,
    {
        let made = catch_unwind(AssertUnwindSafe(|| note(command, rejection)));
        let Ok(note) = made else {
            tracing::error!(command = type_name::<C>(), "the note of a rejection panicked");
            return Noted::No { kind: "mistake" };
        };
        let execute = app.execute(note);
        let execute = match &self.key {
            Some(key) => execute.note_of(key, command, rejection),
            None => execute,
        };
        match self.on(execute).await {
            Ok(_) => Noted::Yes,
            Err(error) => {
                let command = type_name::<C>();
                tracing::error!(command, %error, "a rejection could not be noted");
                let is_unknown = matches!(error, ExecuteError::OutcomeUnknown(_));
                let kind = Problem::of_command(error, |_| Value::Null).kind();
                if is_unknown { Noted::Unknown { kind } } else { Noted::No { kind } }
            }
        }
    }
}

/// Whether a rejection was recorded.
enum Noted {
    Yes,
    No {
        /// The kind of the problem that stopped the note.
        kind: &'static str,
    },
    /// The note was accepted, but is not known to be durable.
    Unknown {
        kind: &'static str,
    },
}

impl Noted {
    /// Adds to the problem of the rejection whether it was noted.
    fn told_in(self, problem: Problem) -> Problem {
        let (noted, kind) = match self {
            Noted::Yes => return problem.and("noted", true),
            Noted::No { kind } => (Value::Bool(false), kind),
            Noted::Unknown { kind } => (Value::Null, kind),
        };
        problem.and("noted", noted).and("note_problem", format!("urn:diptych:{kind}"))
    }
}

fn as_json(rejection: &impl Serialize) -> Value {
    serde_json::to_value(rejection).unwrap_or(Value::Null)
}

fn key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let name = "idempotency-key";
    match header_text(headers, name)?.map(unquoted) {
        // All clients without a key would share the empty one.
        Some("") => {
            let detail = format!("the header {name} is empty: give each command its own key");
            Err(Problem::bad("header", detail).and("header", name))
        }
        key => Ok(key.map(str::to_owned)),
    }
}

/// The key of a quoted string, as in the draft of the header, or of a bare text, as most clients
/// send it.
fn unquoted(key: &str) -> &str {
    key.strip_prefix('"').and_then(|key| key.strip_suffix('"')).unwrap_or(key)
}

/// `POST /commands/{name}`
pub(crate) async fn execute(
    State(site): State<Arc<Site>>,
    Name(name): Name,
    request: Request<Body>,
) -> Response<Body> {
    site.answered(answer(&site, &name, request).await)
}

async fn answer(
    site: &Arc<Site>,
    name: &str,
    request: Request<Body>,
) -> Result<Response<Body>, Problem> {
    let (parts, body) = request.into_parts();
    let caller = site.admit(Operation::Command(name.to_owned()), &parts).await?;
    let entry = site.commands.get(name).ok_or_else(|| {
        let known: Vec<_> = site.commands.keys().collect();
        Problem::unknown(format!("there is no command {name:?} (known: {known:?})"))
    })?;
    if parts.uri.query().is_some_and(|query| !query.is_empty()) {
        let detail = "a command takes no parameters in its address: what is said about it is said \
                      in headers (Diptych-Unchanged-Since, for example)";
        return Err(Problem::bad("parameter", detail));
    }
    let body = json_body(&parts.headers, body, &site.limits).await?;
    let sent = Sent::read(&site.app, &parts.headers, caller.actor).await?;
    // The command runs in a separate task, so that it completes even if the client goes away.
    let (run, begun) = ((entry.run)(site.app.clone(), body, sent), site.begun.one());
    let running = tokio::spawn(async move {
        let done = run.await;
        drop(begun);
        done
    });
    match tokio::time::timeout(site.limits.answer_time, running).await {
        Ok(Ok(Ok(done))) => Ok(receipt(&done)),
        Ok(Ok(Err(problem))) if problem.has_events() => {
            let may_explain = site.may_explain(name, &parts).await;
            Err(if may_explain { problem.with_events() } else { problem })
        }
        Ok(Ok(Err(problem))) => Err(problem),
        Ok(Err(_)) => Err(Problem::later(
            "outcome-unknown",
            "the command ended without an answer: look, or send it again under the same key",
        )),
        Err(_) => Err(Problem::later(
            "outcome-unknown",
            "the command takes longer than this server waits, and may still be carried out: look, \
             or send it again under the same key",
        )),
    }
}

fn receipt(done: &Done) -> Response<Body> {
    let Done { receipt, session } = done;
    let token = receipt.to_string();
    let (first, last, events) = (receipt.first().get(), receipt.last().get(), receipt.events());
    let body = json!({ "receipt": &token, "first": first, "last": last, "events": events });
    let mut response = Response::new(Body::from(body.to_string()));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert("diptych-position", last.into());
    headers.extend(header_value(&token).map(|value| (RECEIPT, value)));
    let session = session.as_ref().and_then(header_value);
    headers.extend(session.map(|value| (header::HeaderName::from_static(SESSION), value)));
    response
}

const RECEIPT: header::HeaderName = header::HeaderName::from_static("diptych-receipt");
