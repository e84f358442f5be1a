//! REST routes of a record, inside the door of a server.

mod answers;
mod document;
mod parameters;

use axum::{
    body::Body,
    extract::{FromRequest, FromRequestParts, Path, State},
    http::{HeaderValue, Method, Request, Response, StatusCode, header, request::Parts},
    response::IntoResponse,
    routing::get,
};
use diptych::{App, Command, CommandError, Invalid};
use diptych_server::{
    DeniedExtras, Mount, Operation, Problem, Server,
    extract::{CommandBody, CommandHeaders, QueryParameters, ReceiptResponse},
};
use schemars::JsonSchema;
use serde::Serialize;

use answers::{ShowRow, is_there, refused, revision_tag, with_own_status, written};
use parameters::{ListParameters, RevisionMatch, matches_none, only_if};

use crate::{
    beginning::{FirstEvent, FirstImport, first_import, imported_at},
    commands::{Create, Delete, Patch, Replace},
    journal::Changes,
    record::Record,
    records::Records,
    refusal::Refusal,
    row_json::{self, Fields, check_name},
    view::Get,
};

/// Serves records with one line.
pub trait ServeRecords: Sized {
    /// Serves the rows of a record below this path, such as `/customers`:
    ///
    /// | route | does |
    /// |---|---|
    /// | `GET /customers` | lists rows: `?city=Rome&age.from=18&_order=-age&_limit=20&_next=…` |
    /// | `POST /customers` | creates a row |
    /// | `GET /customers/{key}` | shows a row, with its revision as `ETag` |
    /// | `PUT /customers/{key}` | replaces a row; with `If-None-Match: *` creates it |
    /// | `PATCH /customers/{key}` | changes fields by a JSON merge patch |
    /// | `DELETE /customers/{key}` | deletes a row |
    /// | `GET /customers/{key}/history` | shows its events |
    ///
    /// A write with `If-Match` needs the row to have that revision. Every route takes the headers
    /// and parameters of commands and queries, such as `Idempotency-Key` and `_as_of`. The hook is
    /// asked about commands and queries named after the record, such as `create-customer`. A
    /// caller that may write a row and not get it receives the receipt alone.
    #[must_use]
    fn records<R: Record + JsonSchema>(self, path: &str) -> Self;
}

impl ServeRecords for Server {
    fn records<R: Record + JsonSchema>(self, path: &str) -> Server {
        self.mount(mount::<R>(path))
    }
}

/// The routes of a record below this path, for [`Server::mount`].
pub fn mount<R: Record + JsonSchema>(path: &str) -> Mount {
    let path = path.trim_end_matches('/');
    let (paths, schemas) = document::described::<R>(path);
    let below = path.matches('/').count();
    Mount::new(move |parts| operations::<R>(parts, below))
        .extras(|parts| extras::<R>(&parts.method))
        .route(path, get(list::<R>).post(create::<R>))
        .route(
            &format!("{path}/{{key}}"),
            get(show::<R>).put(replace::<R>).patch(patch::<R>).delete(delete::<R>),
        )
        .route(&format!("{path}/{{key}}/history"), get(history::<R>))
        .documented(paths, schemas)
}

/// The operations that a request asks for; `below` is the number of parts of the path of the
/// record.
fn operations<R: Record>(parts: &Parts, below: usize) -> Vec<Operation> {
    let named = |what: &str| format!("{what}-{}", R::NAME);
    let depth = parts.uri.path().trim_end_matches('/').matches('/').count().saturating_sub(below);
    let read = |what: &str| {
        let is_about_past = what == "history" || QueryParameters::are_about_past(parts);
        let past = is_about_past.then(|| Operation::Past(named(what)));
        std::iter::once(Operation::Query(named(what))).chain(past).collect()
    };
    let change = |what: &str| vec![Operation::Command(named(what))];
    match (&parts.method, depth) {
        (&Method::GET | &Method::HEAD, 0) => read("list"),
        (&Method::GET | &Method::HEAD, 1) => read("get"),
        (&Method::GET | &Method::HEAD, _) => read("history"),
        (&Method::POST, 0) => change("create"),
        (&Method::PUT, _) if parts.headers.contains_key(header::IF_NONE_MATCH) => change("create"),
        (&Method::PUT, _) => change("replace"),
        (&Method::PATCH, _) => change("patch"),
        (&Method::DELETE, _) => change("delete"),
        _ => Vec::new(),
    }
}

/// A write answers with the row, which is a read.
fn extras<R: Record>(method: &Method) -> Vec<Operation> {
    match *method {
        Method::POST | Method::PUT | Method::PATCH => {
            vec![Operation::Query(format!("get-{}", R::NAME))]
        }
        _ => Vec::new(),
    }
}

type Answer = Result<Response<Body>, Problem>;

async fn list<R: Record + JsonSchema>(State(app): State<App>, request: Request<Body>) -> Answer {
    let (mut parts, _) = request.into_parts();
    let ListParameters { list, link } = parameters::list::<R>(&mut parts)?;
    let options = QueryParameters::from_request_parts(&mut parts, &app).await?;
    let list = list.checked().map_err(|invalid| unfit(invalid, StatusCode::BAD_REQUEST))?;
    if options.is_about_past()
        && let Some(first) = options.in_time(first_import::<R>(&app)).await?
        && options.answer(app.query(FirstImport::<R>::default())).await?.is_none()
    {
        let imported_at = first.get();
        return Err(refused(Refusal::ListUnknownBeforeImport { record: R::NAME, imported_at }));
    }
    let answer = options.answer(app.query(list)).await?;
    let next = answer.next.as_deref().map(|next| link.to(next));
    let mut response = options.respond(&app, answer).await?.into_response();
    if let Some(link) = next.and_then(|link| HeaderValue::from_str(&link).ok()) {
        response.headers_mut().insert(header::LINK, link);
    }
    Ok(response)
}

async fn show<R: Record>(
    State(app): State<App>,
    Path(key): Path<String>,
    request: Request<Body>,
) -> Answer {
    let (mut parts, _) = request.into_parts();
    let options = QueryParameters::from_request_parts(&mut parts, &app).await?;
    let key = key_of::<R>(&key)?;
    let answer = options.answer(app.query(ShowRow::<R>(Get { key: key.clone() }))).await?;
    let Some(revision) = answer.value.as_ref().map(|row| row.0.position()) else {
        return Err(refused(not_there::<R>(&app, key, &options).await?));
    };
    let tag = revision_tag(&app, revision);
    if matches_none(&parts.headers, &tag) {
        let mut response = StatusCode::NOT_MODIFIED.into_response();
        response.headers_mut().insert(header::ETAG, tag);
        return Ok(response);
    }
    let mut response = options.respond(&app, answer).await?.into_response();
    response.headers_mut().insert(header::ETAG, tag);
    Ok(response)
}

/// The reason for which there is no row, now or in the past that the request asks about.
async fn not_there<R: Record>(
    app: &App,
    key: R::Key,
    options: &QueryParameters,
) -> Result<Refusal, Problem> {
    if options.is_about_past() {
        let first = FirstEvent::<R> { key: key.clone() };
        let is_later = options.answer(app.query(first)).await?.is_none();
        let records = Records::<R>::of(app);
        if is_later && let Some(at) = options.in_time(imported_at(&records, key.clone())).await? {
            return Ok(Refusal::UnknownBeforeImport {
                record: R::NAME,
                key: key.to_string(),
                imported_at: at.get(),
            });
        }
    }
    Ok(missing::<R>(&key))
}

async fn history<R: Record>(
    State(app): State<App>,
    Path(key): Path<String>,
    request: Request<Body>,
) -> Answer {
    let (mut parts, _) = request.into_parts();
    let options = QueryParameters::from_request_parts(&mut parts, &app).await?;
    let changes = Changes::<R> { key: key_of::<R>(&key)? };
    if options.is_about_past() {
        let answer = options.answer(app.query(changes)).await?;
        return Ok(options.respond(&app, answer).await?.into_response());
    }
    let past = app.query(changes).at(diptych::Point::now());
    let answer = options.in_time(past.read_at_most(crate::journal::HISTORY_EVENTS)).await?;
    Ok(options.respond(&app, answer).await?.into_response())
}

async fn create<R: Record>(State(app): State<App>, request: Request<Body>) -> Answer {
    let path = request.uri().path().trim_end_matches('/').to_owned();
    let Write { headers, fields, is_shown, .. } = Write::read(&app, request).await?;
    let row: R = row(fields)?;
    let key = row.key();
    let receipt = execute(headers, &app, Create { row }).await?;
    let shown = is_shown.then(|| key.clone());
    let mut response = written::<R>(&app, shown, receipt, StatusCode::CREATED).await;
    let place = format!("{path}/{}", parameters::escaped(&key.to_string()));
    if let Ok(place) = HeaderValue::from_str(&place) {
        response.headers_mut().insert(header::LOCATION, place);
    }
    Ok(response)
}

async fn replace<R: Record>(
    State(app): State<App>,
    Path(key): Path<String>,
    request: Request<Body>,
) -> Answer {
    let is_new = request.headers().contains_key(header::IF_NONE_MATCH);
    let Write { headers, expected, fields, is_shown } = Write::read(&app, request).await?;
    let key = key_of::<R>(&key)?;
    let row: R = row(fields)?;
    if row.key() != key {
        let problem = "is another key than that of the address: send the same";
        let invalid = Invalid::new(R::KEY_FIELD, problem);
        return Err(unfit(invalid, StatusCode::UNPROCESSABLE_ENTITY));
    }
    let (receipt, status) = match is_new {
        true => {
            let created = execute(headers, &app, Create { row }).await;
            // The condition of the request does not hold.
            let created = created.map_err(|problem| match problem.status() {
                StatusCode::CONFLICT if is_there(&problem) => {
                    problem.with_status(StatusCode::PRECONDITION_FAILED)
                }
                _ => problem,
            });
            (created?, StatusCode::CREATED)
        }
        false => {
            let expected = expected.of::<R>(&key).map_err(refused)?;
            (execute(headers, &app, Replace { row, expected }).await?, StatusCode::OK)
        }
    };
    Ok(written::<R>(&app, is_shown.then_some(key), receipt, status).await)
}

async fn patch<R: Record>(
    State(app): State<App>,
    Path(key): Path<String>,
    mut request: Request<Body>,
) -> Answer {
    parameters::allow_merge_patch(request.headers_mut());
    let write = Write::read(&app, request).await?;
    let Write { headers, expected, fields: patch, is_shown } = write;
    let key = key_of::<R>(&key)?;
    let expected = expected.of::<R>(&key).map_err(refused)?;
    let command = Patch::<R> { key: key.clone(), patch, expected };
    let receipt = execute(headers, &app, command).await?;
    Ok(written::<R>(&app, is_shown.then_some(key), receipt, StatusCode::OK).await)
}

async fn delete<R: Record>(
    State(app): State<App>,
    Path(key): Path<String>,
    request: Request<Body>,
) -> Answer {
    let (mut parts, _) = request.into_parts();
    let expected = only_if(&mut parts.headers, app.identity().epoch)?;
    let headers = CommandHeaders::from_request_parts(&mut parts, &app).await?;
    let key = key_of::<R>(&key)?;
    let expected = expected.of::<R>(&key).map_err(refused)?;
    let command = Delete::<R> { key, expected };
    let mut response = execute(headers, &app, command).await?.into_response();
    *response.status_mut() = StatusCode::NO_CONTENT;
    *response.body_mut() = Body::empty();
    response.headers_mut().remove(header::CONTENT_TYPE);
    Ok(response)
}

/// A request that writes a row.
struct Write {
    headers: CommandHeaders,
    expected: RevisionMatch,
    fields: Fields,
    /// Whether the caller may read the row.
    is_shown: bool,
}

impl Write {
    async fn read(app: &App, request: Request<Body>) -> Result<Write, Problem> {
        let (mut parts, body) = request.into_parts();
        let expected = only_if(&mut parts.headers, app.identity().epoch)?;
        let headers = CommandHeaders::from_request_parts(&mut parts, app).await?;
        let denied = parts.extensions.get::<DeniedExtras>();
        let is_shown = denied.is_none_or(|denied| denied.0.is_empty());
        let request = Request::from_parts(parts, body);
        let CommandBody(fields) = CommandBody::from_request(request, app).await?;
        Ok(Write { headers, expected, fields, is_shown })
    }
}

async fn execute<C>(
    headers: CommandHeaders,
    app: &App,
    command: C,
) -> Result<ReceiptResponse, Problem>
where
    C: Command<Rejection = Refusal> + Serialize,
{
    headers.execute(app, command).await.map_err(with_own_status)
}

/// The row in a body.
fn row<R: Record>(fields: Fields) -> Result<R, Problem> {
    let row = fields.keys().try_for_each(|name| check_name::<R>(name));
    let row = row.and_then(|()| row_json::row(fields));
    row.map_err(|invalid| unfit(invalid, StatusCode::UNPROCESSABLE_ENTITY))
}

/// The key in an address. A text that is no key names no row.
fn key_of<R: Record>(text: &str) -> Result<R::Key, Problem> {
    text.parse().map_err(|_| {
        refused(Refusal::Missing { record: R::NAME, key: text.chars().take(300).collect() })
    })
}

fn missing<R: Record>(key: &R::Key) -> Refusal {
    Refusal::Missing { record: R::NAME, key: key.to_string() }
}

fn unfit(invalid: Invalid, status: StatusCode) -> Problem {
    Problem::from(CommandError::Invalid(invalid)).with_status(status)
}
