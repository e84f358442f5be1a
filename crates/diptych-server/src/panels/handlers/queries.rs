//! `GET` and `POST /queries/{name}`, and `GET /queries/{name}/explanation`.

use std::{future::Future, sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::State,
    http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header},
};
use diptych::follow::Standstill;
use tokio::time::timeout;

use crate::{
    door::{
        access::{Caller, Operation},
        code::Code,
        problem::Problem,
        request::{Name, RequestOptions, START_AFTER, json_body, pairs},
        response::{SESSION, TOKEN, header_value, json_response, response_of},
    },
    panels::{
        answers::entity_tag,
        entries::{
            arguments::Arguments,
            options::{EncodedAnswer, QueryOptions, Validity},
            query::{EncodedExplanation, QueryEntry},
            schema::refuse_lists,
        },
        handlers::{links::NextLink, source, status},
        site::Site,
    },
};

const TOTAL: HeaderName = HeaderName::from_static("diptych-total");
const VIEW_SINCE: HeaderName = HeaderName::from_static("diptych-view-since");

/// A request to a query, split into its parts.
pub(crate) struct QueryRequest<'s> {
    pub(crate) entry: &'s QueryEntry,
    pub(crate) arguments: Arguments,
    pub(crate) options: QueryOptions,
    pub(crate) next: NextLink,
    pub(crate) caller: Caller,
    pub(crate) headers: HeaderMap,
}

/// Reads a request, if the hook admits the caller to the query and to all of these operations on
/// it. A request about the past needs one more.
pub(crate) async fn read<'s>(
    site: &'s Site,
    name: &str,
    operations: &[fn(String) -> Operation],
    request: Request<Body>,
) -> Result<QueryRequest<'s>, Problem> {
    let (parts, body) = request.into_parts();
    let caller = site.door.admit(Operation::Query(name.to_owned()), &parts).await?;
    for operation in operations {
        site.door.admit(operation(name.to_owned()), &parts).await?;
    }
    let entry = site.entries.queries.get(name).ok_or_else(|| {
        let known: Vec<_> = site.entries.queries.keys().collect();
        Problem::unknown(format!("there is no query {name:?} (known: {known:?})"))
    })?;
    let limits = site.door.limits();
    let (options, form) = RequestOptions::split(&parts.headers, parts.uri.query())?;
    // An answer without pages has no next part.
    let has_parts = entry.page_items().is_some() || !operations.is_empty();
    let next = if has_parts { NextLink::of(&options, &form)? } else { NextLink::default() };
    let options = QueryOptions::read(&site.app, &options, limits, caller.clone()).await?;
    if options.is_about_past() {
        site.door.admit(Operation::Past(name.to_owned()), &parts).await?;
    }
    let arguments = match parts.method {
        Method::POST if !form.is_empty() => {
            let detail = "a query sent by POST has its arguments in the body, not in the address";
            let problem = Problem::bad(Code::Arguments, detail);
            let first = pairs(&form)?.into_iter().next();
            return Err(first.into_iter().fold(problem, |it, (name, _)| it.and("argument", name)));
        }
        Method::POST => {
            let body = json_body(&parts.headers, body, limits).await?;
            refuse_lists("the arguments", &entry.arguments, &site.definitions, &body)?;
            Arguments::Json(body)
        }
        _ => Arguments::Form(form),
    };
    let arguments = arguments.check(&entry.argument_names)?;
    Ok(QueryRequest { entry, arguments, options, next, caller, headers: parts.headers })
}

/// `GET` and `POST /queries/{name}`
pub(crate) async fn ask(
    State(site): State<Arc<Site>>,
    Name(name): Name,
    request: Request<Body>,
) -> Response<Body> {
    let answer = async {
        let is_post = request.method() == Method::POST;
        let request = read(&site, &name, &[], request).await?;
        let QueryRequest { entry, arguments, options, next, headers, .. } = request;
        options.list.check_answer(&name, entry.page_items().is_some())?;
        let answer = entry.ask(&site.app, arguments, options, &site.answers);
        let answer = in_time(site.door.limits().answer_time, answer).await;
        let answer = answer.map_err(|problem| source::with_absence(&site, problem))?;
        let list = list_headers(&answer, next);
        let (body, validity) = (answer.body.clone(), answer.validity);
        let mut response = response(answer);
        response.headers_mut().extend(list);
        Ok(if is_post { response } else { kept(&site, &headers, response, &body, validity) })
    };
    response_of(answer.await)
}

/// `GET /queries/{name}/explanation`
pub(crate) async fn explain(
    State(site): State<Arc<Site>>,
    Name(name): Name,
    request: Request<Body>,
) -> Response<Body> {
    let answer = async {
        let request = read(&site, &name, &[Operation::Explain], request).await?;
        let QueryRequest { entry, arguments, options, next: link, .. } = request;
        options.list.check_explanation()?;
        if !entry.is_explained() {
            let detail = format!(
                "the query {name:?} has no explanations: its program allows them with \
                 `QueryRoute::explained`"
            );
            return Err(Problem::unknown(detail));
        }
        let explanation = entry.explain(&arguments, options, &site.answers);
        let explanation = in_time(site.door.limits().answer_time, explanation).await?;
        let EncodedExplanation { body, upto, next } = explanation;
        let mut response = json_response(body.into());
        let headers = response.headers_mut();
        headers.insert("diptych-position", upto.get().into());
        let next = next.and_then(|next| link.set(START_AFTER, next).to_header());
        headers.extend(next.map(|next| (header::LINK, next)));
        Ok(response)
    };
    response_of(answer.await)
}

/// The answer, if it is there in time.
pub(crate) async fn in_time<T>(
    answer_time: Duration,
    answer: impl Future<Output = Result<T, Problem>>,
) -> Result<T, Problem> {
    match timeout(answer_time, answer).await {
        Ok(answer) => answer,
        Err(_) => Err(Problem::later(
            Code::Slow,
            "the answer takes longer than this server allows: ask for less, or give the query a \
             scope",
        )),
    }
}

/// The response to a request whose address has this answer, so that a client may keep it, or
/// nothing if the client has it already.
fn kept(
    site: &Site,
    request: &HeaderMap,
    mut response: Response<Body>,
    body: &[u8],
    validity: Validity,
) -> Response<Body> {
    let Some(tag) = entity_tag(body).filter(|_| validity != Validity::Now) else { return response };
    // The answer is for this caller. If a hook decides about callers, it is asked each time.
    let age = site.door.limits().past_answer_age.as_secs();
    let control = match validity {
        Validity::Final if !site.door.has_hook() => format!("private, max-age={age}, immutable"),
        _ => "private, no-cache".to_owned(),
    };
    if is_known(request, &tag) {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        *response.body_mut() = Body::empty();
        response.headers_mut().remove(header::CONTENT_TYPE);
    }
    let headers = response.headers_mut();
    if let Some(control) = header_value(control) {
        headers.insert(header::CACHE_CONTROL, control);
    }
    headers.insert(header::ETAG, tag);
    response
}

/// Whether the client has the answer with this tag: `If-None-Match`.
fn is_known(request: &HeaderMap, tag: &HeaderValue) -> bool {
    let strong = |tag: &[u8]| tag.strip_prefix(b"W/").unwrap_or(tag).to_vec();
    let mut lists = request.get_all(header::IF_NONE_MATCH).iter();
    lists.any(|list| {
        let mut tags = list.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
        tags.any(|known| known == b"*" || strong(known) == strong(tag.as_bytes()))
    })
}

/// The headers of a page: the number of items of its list, and the link to the next page. That page
/// is not older than this one, because the link names the token of this one.
fn list_headers(answer: &EncodedAnswer, next: NextLink) -> Vec<(HeaderName, HeaderValue)> {
    let Some(page) = answer.page else { return Vec::new() };
    let link = page.next().and_then(|options| {
        let link = match answer.stale {
            None => next.after(&answer.token),
            // The page lacks events that the request asks for, so its token is no promise.
            Some(_) => next,
        };
        let link = answer.session.iter().fold(link, NextLink::session);
        let link = options.into_iter().fold(link, |link, (name, value)| link.set(name, value));
        link.to_header()
    });
    [(TOTAL, page.total.into())].into_iter().chain(link.map(|link| (header::LINK, link))).collect()
}

/// The response with an answer.
pub(crate) fn response(answer: EncodedAnswer) -> Response<Body> {
    let EncodedAnswer { body, position, stale, standstill, events, token, session, .. } = answer;
    let poisoned_keys = answer.poisoned_keys;
    let mut response = json_response(body.into());
    let headers = response.headers_mut();
    headers.insert("diptych-position", position.get().into());
    headers.insert("diptych-cost-events", events.into());
    headers.extend(header_value(token).map(|value| (TOKEN, value)));
    if let Some(need) = stale {
        headers.insert("diptych-stale", need.get().into());
    }
    if poisoned_keys > 0 {
        headers.insert("diptych-poisoned-keys", poisoned_keys.into());
    }
    if let Some(Standstill { state, since, .. }) = standstill.as_deref() {
        headers.insert("diptych-view-state", HeaderValue::from_static(status::word(state)));
        headers.extend(header_value(since).map(|since| (VIEW_SINCE, since)));
    }
    let session = session.as_ref().and_then(header_value);
    headers.extend(session.map(|value| (SESSION, value)));
    response
}
