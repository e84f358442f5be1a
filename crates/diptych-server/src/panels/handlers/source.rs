//! How old the answers of a poster are, and whether its source is away: in headers, in problems and
//! in live streams.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::State,
    http::{HeaderName, Request, Response},
    middleware::Next,
};
use diptych::{
    Position,
    poster::{Poster, SourceContact},
};
use futures_util::{
    StreamExt,
    stream::{self, BoxStream},
};
use serde_json::{Value, json};

use crate::{
    door::{problem::Problem, response::header_value},
    panels::site::Site,
};

/// The age of the answer in seconds.
const AGE: HeaderName = HeaderName::from_static("diptych-source-age");
/// When the source went away.
const AWAY_SINCE: HeaderName = HeaderName::from_static("diptych-source-away-since");

/// Adds the age to each answer of a poster that has a position, and the absence of the source to
/// every response.
pub(crate) async fn with_age(
    State(site): State<Arc<Site>>,
    request: Request<Body>,
    next: Next,
) -> Response<Body> {
    let is_query = request.uri().path().starts_with("/queries/");
    let mut response = next.run(request).await;
    let Some(poster) = &site.poster else { return response };
    let headers = response.headers_mut();
    let position = headers.get("diptych-position").and_then(|value| value.to_str().ok());
    let position = position.and_then(|text| text.parse().ok()).map(Position::new);
    // The position of a receipt is that of a commit, which the poster may not have seen.
    if let Some(position) = position.filter(|_| is_query) {
        let age = poster.age(position);
        headers.extend(header_value(format!("{:.3}", age.as_secs_f64())).map(|age| (AGE, age)));
    }
    let since = poster.source().absence.and_then(|absence| header_value(absence.since));
    headers.extend(since.map(|since| (AWAY_SINCE, since)));
    response
}

/// The problem, which says if the source is away.
pub(crate) fn with_absence(site: &Site, problem: Problem) -> Problem {
    match site.poster.as_ref().and_then(|poster| poster.source().absence) {
        Some(absence) => problem.and("source_away_since", absence.since.to_string()),
        None => problem,
    }
}

/// The contact with the source, as status and streams show it.
pub(crate) fn described(contact: &SourceContact) -> Value {
    let SourceContact { silence, heard, absence, .. } = contact;
    json!({
        "heard": heard.to_string(),
        "silent_seconds": silence.as_secs_f64(),
        "away_since": absence.as_ref().map(|absence| absence.since.to_string()),
    })
}

/// The contact at the beginning, if the source is away, and at each change. Without a poster
/// nothing.
pub(crate) fn changes(poster: Option<&Poster>) -> BoxStream<'static, Value> {
    let Some(poster) = poster.cloned() else { return stream::pending().boxed() };
    let known = (poster, false);
    stream::unfold(known, |(poster, was_away)| async move {
        poster.source_changed(was_away).await;
        let contact = poster.source();
        let is_away = contact.absence.is_some();
        Some((described(&contact), (poster, is_away)))
    })
    .boxed()
}
