//! Commands in a handler of the program.

use std::{convert::Infallible, fmt, time::Duration};

use axum::{
    body::Body,
    extract::{FromRef, FromRequest, FromRequestParts},
    http::{Request, Response, request::Parts},
    response::IntoResponse,
};
use diptych::{App, Command, Execute, Receipt};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::{caller_of, limits_of};
use crate::{
    door::{
        access::Caller,
        entrance::CommandHold,
        problem::Problem,
        request::{from_json, json_body},
    },
    json,
    panels::{
        entries::command::{CommandAnswer, CommandOptions},
        handlers::commands,
    },
};

/// The options of a command, from the headers of its request: `Idempotency-Key`,
/// `Diptych-Client`, `Diptych-Ordinal`, `Diptych-Settled`, `Diptych-Occurred-At`,
/// `Diptych-Correlation`, `Diptych-Causation`, `Diptych-Session`, `Diptych-After`,
/// `Diptych-Unchanged-Since` and `If-Match`.
#[derive(Clone)]
pub struct CommandHeaders {
    options: CommandOptions,
    answer_time: Duration,
    /// Present in routes that a server mounts.
    hold: Option<CommandHold>,
}

impl CommandHeaders {
    /// The idempotency key, if the request has one.
    pub fn key(&self) -> Option<&str> {
        self.options.key()
    }

    /// The caller that a layer named by an extension of the request; otherwise an anonymous one.
    pub fn caller(&self) -> &Caller {
        self.options.caller()
    }

    /// Names the caller. The events of the command get its actor and claims.
    pub fn with_caller(mut self, caller: Caller) -> CommandHeaders {
        self.options = self.options.with_caller(caller);
        self
    }

    /// Applies the options to a command: `headers.apply(app.execute(command)).await`. A handler
    /// that is dropped, because its client goes away, then drops the command too.
    pub fn apply<C: Command + Serialize>(&self, execute: Execute<C>) -> Execute<C> {
        self.options.apply(execute)
    }

    /// The response to a command that was executed with these options. It has the next token of the
    /// session, if the request named one.
    pub async fn respond(&self, receipt: Receipt) -> ReceiptResponse {
        ReceiptResponse(self.options.answer(receipt).await)
    }

    /// Executes a command with these options. It runs in a separate task, so that it completes even
    /// if the client goes away; [`App::stop`] waits for it.
    ///
    /// # Errors
    /// The [`Problem`] that the route of a server would answer. The payloads of the events that a
    /// conflict missed are in [`Problem::with_events`] only.
    pub async fn execute<C>(self, app: &App, command: C) -> Result<ReceiptResponse, Problem>
    where
        C: Command<Rejection: Serialize> + Serialize,
    {
        self.run(app, command, json::rejection).await
    }

    /// Like [`execute`](CommandHeaders::execute), for a command that no rule rejects.
    ///
    /// # Errors
    /// The [`Problem`] that the route of a server would answer.
    pub async fn execute_infallible<C>(
        self,
        app: &App,
        command: C,
    ) -> Result<ReceiptResponse, Problem>
    where
        C: Command<Rejection = Infallible> + Serialize,
    {
        self.run(app, command, |never| match *never {}).await
    }

    async fn run<C: Command + Serialize>(
        self,
        app: &App,
        command: C,
        rejection: fn(&C::Rejection) -> Value,
    ) -> Result<ReceiptResponse, Problem> {
        let CommandHeaders { options, answer_time, hold } = self;
        let app = app.clone();
        let run = async move { options.run(&app, command, rejection).await };
        let answer = match hold {
            Some(hold) => commands::completed(hold.around(run), answer_time).await,
            None => commands::completed(run, answer_time).await,
        };
        answer.map(ReceiptResponse)
    }
}

impl fmt::Debug for CommandHeaders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let CommandHeaders { options, answer_time, .. } = self;
        let mut headers = f.debug_struct("CommandHeaders");
        headers.field("options", options).field("answer_time", answer_time);
        headers.finish_non_exhaustive()
    }
}

impl<S> FromRequestParts<S> for CommandHeaders
where
    S: Send + Sync,
    App: FromRef<S>,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<CommandHeaders, Problem> {
        let caller = caller_of(&parts.extensions);
        let options = CommandOptions::read(&App::from_ref(state), &parts.headers, caller).await?;
        let hold = parts.extensions.get::<CommandHold>().cloned();
        let answer_time = limits_of(&parts.extensions).answer_time;
        Ok(CommandHeaders { options, answer_time, hold })
    }
}

/// The command in the body of a request, as JSON.
///
/// It is refused as a route of a server refuses it: by its content type, above
/// [`body_bytes`](crate::ServerLimits::body_bytes), and as `malformed` with the place of the error.
#[derive(Clone, Copy, Debug)]
pub struct CommandBody<C>(pub C);

impl<S, C> FromRequest<S> for CommandBody<C>
where
    S: Send + Sync,
    C: DeserializeOwned,
{
    type Rejection = Problem;

    async fn from_request(request: Request<Body>, _: &S) -> Result<CommandBody<C>, Problem> {
        let (parts, body) = request.into_parts();
        let body = json_body(&parts.headers, body, &limits_of(&parts.extensions)).await?;
        from_json("the command", &body).map(CommandBody)
    }
}

/// The response to a command: its receipt, in the body and in the header `Diptych-Receipt`, and its
/// position in `Diptych-Position`.
///
/// [`CommandHeaders::respond`] also adds the token of the session, `Diptych-Session`.
#[derive(Clone, Debug)]
pub struct ReceiptResponse(CommandAnswer);

impl ReceiptResponse {
    /// The receipt.
    pub fn receipt(&self) -> &Receipt {
        &self.0.receipt
    }
}

impl From<Receipt> for ReceiptResponse {
    fn from(receipt: Receipt) -> ReceiptResponse {
        ReceiptResponse(CommandAnswer { receipt, session: None })
    }
}

impl IntoResponse for ReceiptResponse {
    fn into_response(self) -> Response<Body> {
        commands::response(&self.0)
    }
}
