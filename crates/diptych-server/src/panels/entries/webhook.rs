//! Webhooks that come in: who may send them, and which command each becomes.

use std::{collections::BTreeMap, error::Error, fmt, future::Future, pin::Pin, sync::Arc};

use axum::body::Bytes;
use diptych::{App, Command, Timestamp};
use diptych_gateways::{WebhookHeaders, WebhookVerifier};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{
    door::{access::Caller, code::Code, notes::NoteBudget, problem::Problem, request::from_json},
    panels::entries::command::{CommandAnswer, CommandOptions, WEBHOOK_KEY, notes::execute_noted},
};

/// Maximum number of bytes of the name of a source. It stands in keys and in actors.
const NAME_BYTES: usize = 64;

/// An endpoint for the webhooks of another system, for
/// [`Server::webhook`](crate::Server::webhook).
///
/// The translation is the one place where words of the other system become a command of this one.
/// The command is executed under a key that is made of the name of the source and the id of the
/// webhook, so a repetition has no further effect, also after a restart.
pub struct WebhookRoute {
    name: String,
    verifier: WebhookVerifier,
    body_bytes: Option<usize>,
    clock: Clock,
    translate: Translate,
}

type Clock = Box<dyn Fn() -> Timestamp + Send + Sync>;
type Translate =
    Box<dyn Fn(WebhookHeaders, &Bytes) -> Result<WebhookReaction, Problem> + Send + Sync>;

/// A webhook whose signature is valid.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ReceivedWebhook<B> {
    /// The id, which is the same each time when the sender repeats it.
    pub id: String,
    /// When it was sent. A repetition has another time, so no command should contain it.
    pub sent_at: Timestamp,
    /// The body.
    pub body: B,
}

impl WebhookRoute {
    /// The webhooks of a source, such as `payments`, that this verifier accepts. `translate` makes
    /// a command of each, or [nothing](WebhookReaction::nothing). The name is a part of the keys
    /// of these commands: under another name, an old webhook would have its effect again.
    ///
    /// A body that is no `B`, and an error of the translation, are answered with 400. Senders then
    /// try again for days, so a release that understands the webhook still gets it.
    pub fn new<B, E, F>(
        name: impl Into<String>,
        verifier: WebhookVerifier,
        translate: F,
    ) -> WebhookRoute
    where
        F: Fn(ReceivedWebhook<B>) -> Result<WebhookReaction, E> + Send + Sync + 'static,
        B: DeserializeOwned,
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        let translate = move |headers: WebhookHeaders, bytes: &Bytes| {
            let body: B = from_json("the webhook", bytes)?;
            let (id, sent_at) = (headers.id().to_owned(), headers.sent_at());
            translate(ReceivedWebhook { id, sent_at, body }).map_err(|error| {
                let error: Box<dyn Error + Send + Sync> = error.into();
                let detail = format!("the webhook cannot be translated: {error}");
                Problem::bad(Code::Malformed, detail)
            })
        };
        WebhookRoute {
            name: name.into(),
            verifier,
            body_bytes: None,
            clock: Box::new(Timestamp::now),
            translate: Box::new(translate),
        }
    }

    /// Maximum bytes of a body, if it is less than the
    /// [limit of the server](crate::ServerLimits::body_bytes).
    pub fn body_bytes(self, bytes: usize) -> WebhookRoute {
        WebhookRoute { body_bytes: Some(bytes), ..self }
    }

    /// Sets the clock that times of webhooks are compared with, in place of the system clock.
    pub fn clock(self, now: impl Fn() -> Timestamp + Send + Sync + 'static) -> WebhookRoute {
        WebhookRoute { clock: Box::new(now), ..self }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Bytes that a body may have, with this limit of the server.
    pub(crate) fn limit(&self, limit: usize) -> usize {
        self.body_bytes.map_or(limit, |own| own.min(limit))
    }

    /// The mistake in the declaration of a route with this path, if there is one.
    pub(crate) fn mistake(&self, path: &str) -> Option<String> {
        let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "/-_.".contains(c);
        let has_name = !self.name.is_empty() && self.name.len() <= NAME_BYTES;
        let problem = if !path.starts_with('/') || path.len() < 2 || !path.chars().all(is_plain) {
            "its path has to be a slash and letters, digits and the signs `/-_.`"
        } else if !has_name || !self.name.chars().all(is_word) {
            "its name has to be at most 64 small letters, digits and dashes"
        } else if self.verifier.is_empty() {
            "it has no secret and no key, so it would accept nothing"
        } else {
            return None;
        };
        Some(format!("the webhook {path:?}: {problem}"))
    }

    /// Checks that the sender signed the webhook.
    pub(crate) fn verify(&self, headers: &WebhookHeaders, body: &Bytes) -> Result<(), Problem> {
        self.verifier.verify(headers, body, (self.clock)()).map_err(Problem::from)
    }

    /// The reaction to a webhook whose signature is valid.
    pub(crate) fn reaction(
        &self,
        headers: WebhookHeaders,
        body: &Bytes,
    ) -> Result<WebhookReaction, Problem> {
        (self.translate)(headers, body)
    }

    /// The options of the command of a webhook with this id.
    pub(crate) fn options(&self, id: &str) -> CommandOptions {
        let source = format!("{WEBHOOK_KEY}{}", self.name);
        // A name has no colon, so no two sources share a key.
        let key = format!("{source}:{id}");
        CommandOptions::under_key(key, Caller::named(source).claim("webhook-id", id))
    }
}

impl fmt::Debug for WebhookRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let WebhookRoute { name, verifier, body_bytes, .. } = self;
        let mut route = f.debug_struct("WebhookRoute");
        route.field("name", name).field("verifier", verifier).field("body_bytes", body_bytes);
        route.finish_non_exhaustive()
    }
}

/// The endpoints of a server by their paths.
pub(crate) type WebhookRoutes = BTreeMap<String, WebhookRoute>;

/// The effect of a webhook: one command, or nothing.
pub struct WebhookReaction(Option<RunWebhook>);

type WebhookFuture = Pin<Box<dyn Future<Output = Result<WebhookOutcome, Problem>> + Send>>;
type RunWebhook = Box<dyn FnOnce(App, CommandOptions, Arc<NoteBudget>) -> WebhookFuture + Send>;

/// The outcome of a webhook that need not come again.
#[derive(Debug)]
pub(crate) enum WebhookOutcome {
    /// The command was carried out, now or before.
    Done,
    /// There was nothing to do.
    Ignored,
    /// A rule rejected the command, for this reason.
    Rejected(String),
}

impl WebhookReaction {
    /// Nothing is to be done about the webhook, and it need not come again.
    pub fn nothing() -> WebhookReaction {
        WebhookReaction(None)
    }

    /// Executes this command. If a rule rejects it, the sender is told so with 200, because the
    /// same webhook would be rejected again. The rejection stands in the log of the program only:
    /// [`execute_noted`](WebhookReaction::execute_noted) keeps it.
    pub fn execute<C: Command + Serialize>(command: C) -> WebhookReaction {
        WebhookReaction::execute_until(command, |_| true)
    }

    /// Executes this command, and asks about a rejection whether it is final. One that is not is
    /// answered with 503, so that the sender tries again: a payment, for example, that comes
    /// before its order.
    pub fn execute_until<C: Command + Serialize>(
        command: C,
        is_final: impl FnOnce(&C::Rejection) -> bool + Send + 'static,
    ) -> WebhookReaction {
        let run: RunWebhook = Box::new(move |app, options, _| {
            Box::pin(async move {
                let mut is_last = true;
                // The sender gets the text of the reason alone.
                let reason = |rejection: &C::Rejection| {
                    is_last = is_final(rejection);
                    Value::Null
                };
                outcome(options.run(&app, command, reason).await, |_| is_last)
            })
        });
        WebhookReaction(Some(run))
    }

    /// Executes this command. If a rule rejects it, the server executes the command that `note`
    /// makes of it, and answers with 200 once the note is durable. If no note can be written, it
    /// answers with 503, and the sender tries again.
    pub fn execute_noted<C, N>(
        command: C,
        note: impl FnOnce(&C, &C::Rejection) -> N + Send + 'static,
    ) -> WebhookReaction
    where
        C: Command<Rejection: Serialize> + Clone + Serialize,
        N: Command + Serialize,
    {
        let run: RunWebhook = Box::new(move |app, options, notes| {
            Box::pin(async move {
                let result = execute_noted(command, app, options, &notes, note).await;
                outcome(result, |problem| problem.member("noted") == Some(&Value::Bool(true)))
            })
        });
        WebhookReaction(Some(run))
    }

    pub(crate) async fn run(
        self,
        app: App,
        options: CommandOptions,
        notes: Arc<NoteBudget>,
    ) -> Result<WebhookOutcome, Problem> {
        match self.0 {
            Some(run) => run(app, options, notes).await,
            None => Ok(WebhookOutcome::Ignored),
        }
    }
}

impl fmt::Debug for WebhookReaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let command = if self.0.is_some() { "execute" } else { "nothing" };
        f.debug_tuple("WebhookReaction").field(&command).finish()
    }
}

/// The outcome for the sender. A webhook that is answered with a problem comes again.
fn outcome(
    result: Result<CommandAnswer, Problem>,
    is_final: impl FnOnce(&Problem) -> bool,
) -> Result<WebhookOutcome, Problem> {
    let problem = match result {
        Ok(_) => return Ok(WebhookOutcome::Done),
        Err(problem) => problem,
    };
    if problem.is(Code::KeyReused) {
        // Another release of the program made another command of the same webhook.
        tracing::warn!("a webhook came again, and its command is another than the first time");
        return Ok(WebhookOutcome::Done);
    }
    if problem.is(Code::Rejected) {
        let reason = problem.detail().to_owned();
        return match is_final(&problem) {
            true => Ok(WebhookOutcome::Rejected(reason)),
            false => Err(Problem::later(Code::Rejected, format!("not now: {reason}"))),
        };
    }
    match problem.is(Code::Conflict) {
        true => Err(Problem::later(Code::Conflict, problem.detail())),
        false => Err(problem),
    }
}
