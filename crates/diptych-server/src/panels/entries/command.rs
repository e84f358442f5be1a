//! Commands with their types erased.

pub(crate) mod notes;

use std::{
    convert::Infallible,
    fmt,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
};

use axum::{body::Bytes, http::HeaderMap};
use diptych::{
    App, Command, Execute, Position, Receipt, Session, SessionToken,
    catalogue::{
        AnyCommand, Catalogue, CatalogueEntry, EntryDetail, JsonRejection, NamedCommand,
        WithSchemas,
    },
    command::ExecuteOptions,
};
use notes::recording;
use schemars::JsonSchema;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{
    door::{
        access::{Caller, Denial, Mask},
        code::Code,
        notes::NoteBudget,
        problem::Problem,
        request::{AnyToken, OptionSource, RequestOptions, SentToken, header_text, malformed},
    },
    panels::entries::other_type,
};

/// A command with its name and the options of its route, for
/// [`Server::command`](crate::Server::command).
///
/// A plain name is a route without options, for a command whose rejection is serialisable.
pub struct CommandRoute<C> {
    name: String,
    declare: DeclareCommand,
    admit: Option<AdmitCommand<C>>,
    record: Option<RunCommand>,
    is_explained: bool,
    mask: Option<Mask>,
}

/// Declares the command of a route, if the catalogue of the app does not have it.
type DeclareCommand = fn(Catalogue<WithSchemas>, String) -> Catalogue<WithSchemas>;

/// A rule about the caller of a decoded command.
type AdmitCommand<C> = Box<dyn Fn(&Caller, &C) -> Result<(), Denial> + Send + Sync>;

impl<C> CommandRoute<C>
where
    C: Command + DeserializeOwned + Serialize + JsonSchema,
{
    /// A command whose rejections clients get as JSON.
    pub fn new(name: impl Into<String>) -> CommandRoute<C>
    where
        C::Rejection: Serialize + JsonSchema,
    {
        CommandRoute::with(name, |catalogue, name| catalogue.command::<C>(name))
    }

    /// A command that no rule rejects.
    pub fn infallible(name: impl Into<String>) -> CommandRoute<C>
    where
        C: Command<Rejection = Infallible>,
    {
        CommandRoute::with(name, |catalogue, name| catalogue.infallible_command::<C>(name))
    }

    /// Records rejections: after a rejection the server executes the command that `note` makes,
    /// with the same metadata. Under one idempotency key, a rejection is recorded once
    /// ([`Execute::note_of`]).
    ///
    /// The answer always contains the rejection. Its member `noted` says whether the note was
    /// written: `false` if it could not be, `null` if that is not known. In both cases
    /// `note_problem` has the type of the problem.
    pub fn record_rejections<N>(self, note: fn(&C, &C::Rejection) -> N) -> CommandRoute<C>
    where
        C: Clone,
        C::Rejection: Serialize + JsonSchema,
        N: Command + Serialize,
    {
        CommandRoute { record: Some(recording(note)), ..self }
    }

    /// Lets callers read the payloads of the events that the command conflicts with, if the hook
    /// admits them to [`Operation::ExplainConflict`](crate::Operation::ExplainConflict). Without a
    /// hook, and for other callers, a conflict lists positions and types. The boundary of the
    /// command can contain events that no query shows.
    pub fn explained(mut self) -> CommandRoute<C> {
        self.is_explained = true;
        self
    }

    /// Lets callers read the events that the command conflicts with, as
    /// [`explained`](CommandRoute::explained) does, and gives each event to `mask` before it is
    /// sent. The event is an object with the members `position`, `type`, `recorded_at` and `data`,
    /// and `mask` changes or removes what this caller may not read. An event that becomes `null`
    /// keeps its position and type.
    pub fn explained_by(
        self,
        mask: impl Fn(&Caller, &mut Value) + Send + Sync + 'static,
    ) -> CommandRoute<C> {
        CommandRoute { mask: Some(Arc::new(mask)), ..self.explained() }
    }

    /// Admits a caller by the content of the command, for example by its tenant. The
    /// [hook](crate::Server::admit) is asked first, before the command is read. A command that is
    /// denied here is answered with 401 or 403, and nothing is recorded. If it is called twice,
    /// both rules have to admit the caller.
    pub fn admit(
        mut self,
        admit: impl Fn(&Caller, &C) -> Result<(), Denial> + Send + Sync + 'static,
    ) -> CommandRoute<C> {
        let former = self.admit.take();
        self.admit = Some(Box::new(move |caller, command| {
            former.as_ref().map_or(Ok(()), |former| former(caller, command))?;
            admit(caller, command)
        }));
        self
    }

    fn with(name: impl Into<String>, declare: DeclareCommand) -> CommandRoute<C> {
        let (admit, record, is_explained, mask) = (None, None, false, None);
        CommandRoute { name: name.into(), declare, admit, record, is_explained, mask }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Declares the command in this catalogue.
    pub(crate) fn declare(&self, catalogue: Catalogue<WithSchemas>) -> Catalogue<WithSchemas> {
        (self.declare)(catalogue, self.name.clone())
    }

    /// The options of the route without their type.
    pub(crate) fn into_rules(self) -> (String, CommandRules) {
        let CommandRoute { name, admit, record, is_explained, mask, .. } = self;
        let admit = admit.map(|admit| -> AdmitAnyCommand {
            Box::new(move |caller, command| match command.downcast_ref::<C>() {
                Some(command) => Ok(admit(caller, command)?),
                None => Err(other_type::<C>()),
            })
        });
        (name, CommandRules { admit, record, is_explained, mask })
    }
}

impl<C> From<&str> for CommandRoute<C>
where
    C: Command<Rejection: Serialize + JsonSchema> + DeserializeOwned + Serialize + JsonSchema,
{
    fn from(name: &str) -> CommandRoute<C> {
        CommandRoute::new(name)
    }
}

impl<C> fmt::Debug for CommandRoute<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let CommandRoute { name, .. } = self;
        f.debug_struct("CommandRoute").field("name", name).finish_non_exhaustive()
    }
}

/// The options of a route without their type.
#[derive(Default)]
pub(crate) struct CommandRules {
    admit: Option<AdmitAnyCommand>,
    /// Executes the command and records its rejection, if the route records rejections.
    record: Option<RunCommand>,
    is_explained: bool,
    mask: Option<Mask>,
}

type AdmitAnyCommand = Box<dyn Fn(&Caller, &AnyCommand) -> Result<(), Problem> + Send + Sync>;

/// A command of the app's catalogue with the options of its route.
pub(crate) struct CommandEntry {
    /// The Rust type.
    pub(crate) type_name: &'static str,
    /// Names of the events that it can write.
    pub(crate) events: Vec<&'static str>,
    /// Schema of the command; it allows everything if the catalogue has none.
    pub(crate) body: Value,
    /// Schema of its rejection; `None` for a command that no rule rejects.
    pub(crate) rejection: Option<Value>,
    named: NamedCommand,
    rules: CommandRules,
}

type CommandFuture = Pin<Box<dyn Future<Output = Result<CommandAnswer, Problem>> + Send>>;
type RunCommand =
    Box<dyn Fn(AnyCommand, App, CommandOptions, Notes) -> CommandFuture + Send + Sync>;
/// The budget of recorded rejections, for commands that record them.
type Notes = Arc<NoteBudget>;

/// The options of a command, from the headers of its request.
#[derive(Clone, Debug)]
pub(crate) struct CommandOptions {
    caller: Caller,
    execute: ExecuteOptions,
    /// The part of the request with the token that the command comes after.
    after: Option<OptionSource>,
}

/// The receipt of a command, and the token of its client's session.
#[derive(Clone, Debug)]
pub(crate) struct CommandAnswer {
    pub(crate) receipt: Receipt,
    pub(crate) session: Option<SessionToken>,
}

impl CommandEntry {
    /// The command of this name with its listing and the options of its route.
    pub(crate) fn new(
        named: NamedCommand,
        listed: &CatalogueEntry,
        rules: CommandRules,
    ) -> CommandEntry {
        let type_name = named.type_name();
        let (events, body, rejection) = match &listed.detail {
            EntryDetail::Command { events, rejection_type, body, rejection, .. } => {
                let any = rejection_type.map(|_| Value::Bool(true));
                let rejection = rejection.clone().or(any);
                (events.clone(), body.clone(), rejection)
            }
            _ => (Vec::new(), None, None),
        };
        let body = body.unwrap_or(Value::Bool(true));
        CommandEntry { type_name, events, body, rejection, named, rules }
    }

    /// Whether its rejections are recorded as events.
    pub(crate) fn records_rejections(&self) -> bool {
        self.rules.record.is_some()
    }

    /// Whether some callers may read the events of a conflict.
    pub(crate) fn is_explained(&self) -> bool {
        self.rules.is_explained
    }

    /// The problem of a conflict with the events that this caller may read. If the mask panics, it
    /// has none.
    pub(crate) fn explain(&self, caller: &Caller, problem: Problem) -> Problem {
        let masked = catch_unwind(AssertUnwindSafe(|| {
            problem.clone().with_masked_events(|event| {
                self.rules.mask.iter().for_each(|mask| mask(caller, event));
            })
        }));
        masked.unwrap_or_else(|_| {
            tracing::error!(command = self.type_name, "the mask of a conflict panicked");
            problem
        })
    }

    /// Decodes the command and executes it.
    pub(crate) fn run(
        &self,
        app: App,
        body: &Bytes,
        options: CommandOptions,
        notes: Notes,
    ) -> CommandFuture {
        let command = match self.decode(body, &options.caller) {
            Ok(command) => command,
            Err(problem) => return Box::pin(async { Err(problem) }),
        };
        match &self.rules.record {
            Some(record) => record(command, app, options, notes),
            None => Box::pin(async move {
                match command.execute(&options.execute).await {
                    Ok(receipt) => Ok(options.answer(receipt).await),
                    Err(error) => {
                        let rejection = |rejection: &JsonRejection| rejection.json.clone();
                        Err(options.problem(Problem::of_command(error, rejection)))
                    }
                }
            }),
        }
    }

    /// Decodes the command, if the rule of its route admits the caller.
    fn decode(&self, body: &Bytes, caller: &Caller) -> Result<AnyCommand, Problem> {
        let command = self.named.decode(body);
        let command = command.map_err(|error| malformed("the command", &error))?;
        match &self.rules.admit {
            Some(admit) => admit(caller, &command).map(|()| command),
            None => Ok(command),
        }
    }
}

/// The session's token. If it cannot be made, the command is answered without it, because its
/// events are durable.
async fn token(session: &Session) -> Option<SessionToken> {
    let token = session.token().await;
    if let Err(error) = &token {
        tracing::warn!(%error, "a session has no token");
    }
    token.ok()
}

impl CommandOptions {
    pub(crate) async fn read(
        app: &App,
        headers: &HeaderMap,
        caller: Caller,
    ) -> Result<CommandOptions, Problem> {
        let options = RequestOptions::in_headers(headers);
        let mut execute = ExecuteOptions {
            key: key(headers)?,
            ordinal: options.ordinal()?,
            occurred_at: options.instant("occurred-at")?,
            correlation: options.value("correlation")?,
            causation: options.value("causation")?,
            session: options.session(app).await?,
            ..ExecuteOptions::default()
        };
        let after = options.after()?.map(|SentToken { token, source }| {
            match token {
                AnyToken::Receipt(receipt) => execute.after = Some(receipt),
                AnyToken::Session(token) => execute.token = Some(token),
            }
            source
        });
        execute.unchanged_since = unchanged_since(&options, headers)?;
        let options = CommandOptions { caller: Caller::anonymous(), execute, after };
        Ok(options.with_caller(caller))
    }

    /// The options of a command that no client sent by its name: its key and its caller.
    #[cfg(feature = "webhooks")]
    pub(crate) fn under_key(key: String, caller: Caller) -> CommandOptions {
        let execute = ExecuteOptions { key: Some(key), ..ExecuteOptions::default() };
        let options = CommandOptions { caller: Caller::anonymous(), execute, after: None };
        options.with_caller(caller)
    }

    /// Names the caller. The events get its actor and its claims.
    pub(crate) fn with_caller(mut self, caller: Caller) -> CommandOptions {
        self.execute.actor.clone_from(&caller.actor);
        let claims = caller.claims.iter();
        self.execute.extra = claims.map(|(name, value)| (name.clone(), value.clone())).collect();
        CommandOptions { caller, ..self }
    }

    #[cfg(feature = "extract")]
    pub(crate) fn key(&self) -> Option<&str> {
        self.execute.key.as_deref()
    }

    #[cfg(feature = "extract")]
    pub(crate) fn caller(&self) -> &Caller {
        &self.caller
    }

    /// Sets all options.
    pub(crate) fn apply<C: Command + Serialize>(&self, execute: Execute<C>) -> Execute<C> {
        execute.options(&self.execute)
    }

    /// Executes a command. `rejection` serialises the reason of the rule.
    #[cfg(any(feature = "extract", feature = "webhooks"))]
    pub(crate) async fn run<C: Command + Serialize>(
        self,
        app: &App,
        command: C,
        rejection: impl FnOnce(&C::Rejection) -> Value,
    ) -> Result<CommandAnswer, Problem> {
        match self.apply(app.execute(command)).await {
            Ok(receipt) => Ok(self.answer(receipt).await),
            Err(error) => Err(self.problem(Problem::of_command(error, rejection))),
        }
    }

    /// Names the part of the request that the problem is about: the token that the command came
    /// after, or its ordinal.
    fn problem(&self, problem: Problem) -> Problem {
        let problem = match &self.execute.ordinal {
            Some(ordinal) if problem.is(Code::KeyReused) => problem
                .and("header", "diptych-ordinal")
                .and("ordinal", ordinal.number())
                .saying(format!(
                    "another command of this client had the number {}: give each command a number \
                     of its own",
                    ordinal.number()
                )),
            _ => problem,
        };
        let after = self.after.iter();
        after.fold(problem, |problem, after| after.name_in_token(problem))
    }

    /// The answer to a command that was executed with these options.
    pub(crate) async fn answer(&self, receipt: Receipt) -> CommandAnswer {
        let session = match &self.execute.session {
            Some(session) => token(session).await,
            None => None,
        };
        CommandAnswer { receipt, session }
    }
}

/// The position after which no relevant event may have come. `If-Match` is another name of the
/// option, for clients that send what they got as `ETag`.
fn unchanged_since(
    options: &RequestOptions<'_>,
    headers: &HeaderMap,
) -> Result<Option<Position>, Problem> {
    let own = options.position("unchanged-since")?;
    let Some(text) = header_text(headers, "if-match")? else { return Ok(own) };
    let wrong = |what: String| Problem::bad(Code::Header, what).and("header", "if-match");
    let tag = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    let position = tag.parse().map(Position::new).map_err(|_| {
        wrong(format!("if-match is one position in quotes, such as \"7\", and not {text:?}"))
    })?;
    match own {
        Some(own) if own != position => {
            Err(wrong("if-match and diptych-unchanged-since differ: send one of them".to_owned()))
        }
        _ => Ok(Some(position)),
    }
}

/// The keys of webhooks begin with this, and those of clients may not: a client that used the key
/// of a webhook would make the server take it for one that came before.
pub(crate) const WEBHOOK_KEY: &str = "webhook:";

fn key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let name = "idempotency-key";
    match header_text(headers, name)?.map(unquoted) {
        // All clients without a key would share the empty one.
        Some("") => {
            let detail = format!("the header {name} is empty: give each command its own key");
            Err(Problem::bad(Code::Header, detail).and("header", name))
        }
        Some(key) if key.starts_with(WEBHOOK_KEY) => {
            let detail = format!(
                "the header {name} begins with {WEBHOOK_KEY}, as the keys of webhooks do: begin \
                 your key with another word"
            );
            Err(Problem::bad(Code::Header, detail).and("header", name))
        }
        key => Ok(key.map(str::to_owned)),
    }
}

/// The key without its quotes. The draft of the header asks for a quoted string; most clients send
/// the bare text.
fn unquoted(key: &str) -> &str {
    key.strip_prefix('"').and_then(|key| key.strip_suffix('"')).unwrap_or(key)
}
