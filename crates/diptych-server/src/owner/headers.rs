//! The headers that pass a poster.

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use uuid::Uuid;

/// The key of a command.
pub(crate) const KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// The posters that a command has passed.
pub(crate) const FORWARDED: HeaderName = HeaderName::from_static("diptych-forwarded");
pub(crate) const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

/// Headers of requests that are passed on, beside those of Diptych.
const OF_REQUESTS: [HeaderName; 5] = [
    header::AUTHORIZATION,
    header::CONTENT_TYPE,
    KEY,
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("tracestate"),
];

/// Headers of answers that are passed back, beside those of Diptych.
const OF_ANSWERS: [HeaderName; 6] = [
    header::ALLOW,
    header::CACHE_CONTROL,
    header::CONTENT_TYPE,
    header::RETRY_AFTER,
    header::WWW_AUTHENTICATE,
    KEY,
];

/// The number of a command in the sequence of its client. Such a command is carried out once
/// without a key.
const ORDINAL: &str = "diptych-ordinal";

/// The headers of a request that the owner gets.
pub(crate) fn of_request(headers: &HeaderMap, more: &[HeaderName]) -> HeaderMap {
    let is_passed = |name: &HeaderName| OF_REQUESTS.contains(name) || more.contains(name);
    passed(headers, is_passed)
}

/// The headers of an answer that the sender gets.
pub(crate) fn of_answer(headers: &HeaderMap) -> HeaderMap {
    passed(headers, |name| OF_ANSWERS.contains(name))
}

fn passed(headers: &HeaderMap, is_passed: impl Fn(&HeaderName) -> bool) -> HeaderMap {
    let lists = headers.get_all(header::CONNECTION).iter();
    // A name that this header lists is for one connection only.
    let of_connection: Vec<String> = lists
        .filter_map(|list| list.to_str().ok())
        .flat_map(|list| list.split(','))
        .map(|name| name.trim().to_ascii_lowercase())
        .collect();
    let mut all = HeaderMap::new();
    for (name, value) in headers {
        let is_own = name.as_str().starts_with("diptych-") || is_passed(name);
        if is_own && !of_connection.iter().any(|listed| listed == name.as_str()) {
            all.append(name.clone(), value.clone());
        }
    }
    all
}

/// The headers with a key, which is made if there is none, so that the command can be sent twice.
pub(crate) fn with_key(mut headers: HeaderMap) -> (HeaderMap, Option<HeaderValue>) {
    if let Some(key) = headers.get(KEY) {
        let key = key.clone();
        return (headers, Some(key));
    }
    if headers.contains_key(ORDINAL) {
        return (headers, None);
    }
    let key = HeaderValue::from_str(&Uuid::new_v4().to_string()).ok();
    if let Some(key) = &key {
        headers.insert(KEY, key.clone());
    }
    (headers, key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(all: &[(&'static str, &'static str)]) -> HeaderMap {
        let parse = |text: &'static str| HeaderName::from_static(text);
        all.iter().map(|(name, value)| (parse(name), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn credentials_and_options_are_passed_on_and_nothing_of_the_connection() {
        let sent = headers(&[
            ("authorization", "Bearer user"),
            ("content-type", "application/json"),
            ("cookie", "session=1"),
            ("connection", "close, Diptych-Hop"),
            ("diptych-hop", "1"),
            ("diptych-unchanged-since", "7"),
            ("host", "poster"),
            ("transfer-encoding", "chunked"),
            ("x-tenant", "a"),
            ("x-other", "b"),
        ]);
        let passed = of_request(&sent, &[HeaderName::from_static("x-tenant")]);
        let expected = headers(&[
            ("authorization", "Bearer user"),
            ("content-type", "application/json"),
            ("diptych-unchanged-since", "7"),
            ("x-tenant", "a"),
        ]);
        assert_eq!(passed, expected);
    }

    #[test]
    fn a_key_is_made_only_if_the_command_has_neither_key_nor_number() {
        let (sent, key) = with_key(headers(&[("idempotency-key", "mine")]));
        assert_eq!(sent.len(), 1);
        assert_eq!(key.unwrap(), "mine");
        let (sent, key) = with_key(headers(&[("diptych-ordinal", "4")]));
        assert_eq!((sent.len(), key), (1, None));
        let (sent, key) = with_key(HeaderMap::new());
        assert_eq!(sent.get(KEY), key.as_ref());
        assert!(key.is_some());
    }
}
