//! Questions with one short answer.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::State,
    http::{Request, Response, request::Parts},
};
use diptych::store::{Filter, Position, Tag};
use serde::Serialize;
use serde_json::json;

use crate::{
    door::{
        code::Code,
        problem::Problem,
        request::from_form,
        response::{json_response, response_of},
        store_problems::of_read,
    },
    hinge::{
        admission::Need,
        http::{
            bodies::{
                CountAnswer, CountParameters, KeyAnswer, LastAnswer, LastParameters, LimitsAnswer,
                LogAnswer, TrackingAnswer, TypesAnswer,
            },
            reads::filter_in_address,
            site::HttpLog,
        },
    },
};

fn json_of(answer: &impl Serialize) -> Response<Body> {
    json_response(json!(answer).to_string().into())
}

fn upto(upto: Option<u64>) -> Position {
    upto.map_or(Position::MAX, Position::new)
}

impl HttpLog {
    /// Admits a request, and returns the names in its path below the log.
    async fn enter(
        self: &Arc<Self>,
        request: Request<Body>,
        need: Need,
    ) -> Result<(Parts, Vec<String>), Problem> {
        let (mut parts, _) = request.into_parts();
        self.admit(&parts, need)?;
        let names = self.names(&mut parts).await?;
        Ok((parts, names))
    }

    fn position(&self) -> u64 {
        self.store.head().position().get()
    }
}

fn parameters(parts: &Parts) -> &str {
    parts.uri.query().unwrap_or_default()
}

/// `GET /v1/logs/{log}`
pub(crate) async fn describe(
    State(log): State<Arc<HttpLog>>,
    request: Request<Body>,
) -> Response<Body> {
    let answer = log.enter(request, Need::LOG).await;
    response_of(answer.map(|_| {
        let (identity, head) = (log.store.identity(), log.store.head());
        let why = head.ended().or_else(|| head.paused());
        json_of(&LogAnswer {
            name: log.name.clone(),
            id: identity.id.to_string(),
            epoch: identity.epoch.to_u64().to_string(),
            head: head.position().get(),
            paused: why.map(|why| why.to_string()),
            limits: LimitsAnswer::new(&log.store.limits(), log.door.limits().body_bytes),
            version: env!("CARGO_PKG_VERSION"),
        })
    }))
}

/// `GET /v1/logs/{log}/last`
pub(crate) async fn last(
    State(log): State<Arc<HttpLog>>,
    request: Request<Body>,
) -> Response<Body> {
    let answer = async {
        let (parts, _) = log.enter(request, Need::READ).await?;
        let asked: LastParameters = from_form(parameters(&parts))?;
        let filter: Filter = filter_in_address(
            asked.types,
            asked.tags,
            asked.items.as_deref(),
            &log.store.limits(),
        )?;
        let found = log.store.last(&filter, upto(asked.upto)).await.map_err(of_read)?;
        Ok(json_of(&LastAnswer { position: found.map(Position::get), head: log.position() }))
    };
    log.in_time(answer).await
}

/// `GET /v1/logs/{log}/count`
pub(crate) async fn count(
    State(log): State<Arc<HttpLog>>,
    request: Request<Body>,
) -> Response<Body> {
    let answer = async {
        let (parts, _) = log.enter(request, Need::READ).await?;
        let asked: CountParameters = from_form(parameters(&parts))?;
        let tag = Tag::parse(&asked.tag).map_err(|error| {
            let detail = format!("the argument \"tag\" is no tag: {error}");
            Problem::bad(Code::Arguments, detail).and("argument", "tag")
        })?;
        let count = log.store.count(&tag, upto(asked.upto)).await.map_err(of_read)?;
        Ok(json_of(&CountAnswer { count, head: log.position() }))
    };
    log.in_time(answer).await
}

/// `GET /v1/logs/{log}/types`
pub(crate) async fn types(
    State(log): State<Arc<HttpLog>>,
    request: Request<Body>,
) -> Response<Body> {
    let answer = async {
        log.enter(request, Need::READ).await?;
        let types = log.store.types().await.map_err(of_read)?;
        Ok(json_of(&TypesAnswer { types, head: log.position() }))
    };
    log.in_time(answer).await
}

/// `GET /v1/logs/{log}/keys/{key}`
pub(crate) async fn key(State(log): State<Arc<HttpLog>>, request: Request<Body>) -> Response<Body> {
    let answer = async {
        let (_, names) = log.enter(request, Need::OUTCOME).await?;
        let key = names.first().map(String::as_str).unwrap_or_default();
        let commit = log.store.keyed(key).await.map_err(of_read)?;
        let commit = commit
            .ok_or_else(|| Problem::unknown(format!("no commit was made with the key {key:?}")))?;
        Ok(json_of(&KeyAnswer { first: commit.first.get(), last: commit.last.get() }))
    };
    log.in_time(answer).await
}

/// `GET /v1/logs/{log}/tracking/{source}`
pub(crate) async fn tracking(
    State(log): State<Arc<HttpLog>>,
    request: Request<Body>,
) -> Response<Body> {
    let answer = async {
        let (_, names) = log.enter(request, Need::OUTCOME).await?;
        let source = names.first().map(String::as_str).unwrap_or_default();
        let tracking = log.store.tracked(source).await.map_err(of_read)?;
        let tracking = tracking.ok_or_else(|| {
            Problem::unknown(format!("nothing was imported from the source {source:?}"))
        })?;
        Ok(json_of(&TrackingAnswer {
            source: tracking.source.to_string(),
            position: tracking.position.get(),
            log: tracking.origin.map(|origin| origin.id.to_string()),
            epoch: tracking.origin.map(|origin| origin.epoch.to_u64().to_string()),
        }))
    };
    log.in_time(answer).await
}
