//! The feed of another service, read over HTTP.

use std::{fmt, time::Duration};

use diptych::{
    Position,
    collaboration::{CloudEvent, FeedCursor, FeedError, FeedName, FeedPage, FeedRead, FeedSource},
    process::CallFailure,
};
use reqwest::{
    Method, Request, StatusCode, Url,
    header::{ACCEPT, HeaderMap, HeaderName, HeaderValue},
};
use serde_json::Value;

use crate::{
    exchange::{Exchange, GatewaySetupError, HttpOptions, Response, reason_of},
    http::{checked, without_user},
};

/// The content type of a page.
const BATCH: &str = "application/cloudevents-batch+json";
/// The headers of a page.
const FEED: &str = "diptych-feed";
const UPTO: &str = "diptych-upto";
const HEAD: &str = "diptych-head";

/// The feed of another service, such as `https://ordering.example/feeds/orders`: a source for an
/// [intake](diptych::AppBuilder::intake).
pub struct HttpFeed {
    exchange: Exchange,
    url: Url,
    headers: HeaderMap,
    answer_within: Duration,
}

impl HttpFeed {
    /// Default for the number of bytes of a page.
    pub const PAGE_BYTES: usize = 32 << 20;

    /// The feed at this address. A user and a password in it are sent as `Authorization`, unless
    /// there is [another](HttpFeed::header). `answer_within` of the options counts from the end of
    /// the wait that an intake asks for.
    ///
    /// # Errors
    /// [`GatewaySetupError`] if the address is none, or the client cannot be made.
    pub fn new(url: &str, options: HttpOptions) -> Result<HttpFeed, GatewaySetupError> {
        let url = checked(url)?;
        let answer_within = options.answer_within;
        let exchange = Exchange::new(options)?;
        Ok(HttpFeed { exchange, url, headers: HeaderMap::new(), answer_within })
    }

    /// Options with the defaults for feeds: a page is larger than the answer of a call.
    pub fn options() -> HttpOptions {
        HttpOptions { answer_bytes: HttpFeed::PAGE_BYTES, ..HttpOptions::default() }
    }

    /// Adds a header to each request, such as a token. It stands in no log and no output.
    ///
    /// # Errors
    /// [`GatewaySetupError::Header`] if HTTP does not allow it.
    pub fn header(mut self, name: &str, value: &str) -> Result<HttpFeed, GatewaySetupError> {
        let wrong = || GatewaySetupError::Header { name: name.to_owned() };
        let mut value = HeaderValue::from_str(value).map_err(|_| wrong())?;
        value.set_sensitive(true);
        self.headers.insert(HeaderName::try_from(name).map_err(|_| wrong())?, value);
        Ok(self)
    }

    /// # Errors
    /// The reason why there is no such request.
    fn request(&self, read: FeedRead) -> Result<Request, String> {
        let mut url = self.url.clone();
        {
            let mut query = url.query_pairs_mut();
            match read.after {
                FeedCursor::Event(place) => query.append_pair("lastEventId", &place.to_string()),
                FeedCursor::End => query.append_pair("after", "end"),
                FeedCursor::Position(after) => query.append_pair("after", &after.get().to_string()),
            };
            query.append_pair("limit", &read.limit.to_string());
            query.append_pair("timeout", &read.wait.as_millis().to_string());
        }
        let mut request = self.exchange.request(Method::GET, url, &self.headers)?;
        request.headers_mut().insert(ACCEPT, HeaderValue::from_static(BATCH));
        *request.timeout_mut() = Some(read.wait + self.answer_within);
        Ok(request)
    }
}

impl FeedSource for HttpFeed {
    fn name(&self) -> String {
        without_user(&self.url)
    }

    async fn read(&self, read: FeedRead) -> Result<FeedPage, FeedError> {
        let request = self.request(read).map_err(|reason| FeedError::Unreachable { reason })?;
        let received = self.exchange.send(request).await.map_err(unreachable)?;
        match received.status {
            StatusCode::OK => page(&received),
            StatusCode::BAD_REQUEST
            | StatusCode::UNAUTHORIZED
            | StatusCode::FORBIDDEN
            | StatusCode::GONE => Err(refused(&received)),
            _ => Err(FeedError::Unreachable { reason: received.said() }),
        }
    }
}

fn unreachable(failure: CallFailure) -> FeedError {
    match failure {
        CallFailure::Refused(rejection) => FeedError::Refused { reason: rejection.text },
        failure => FeedError::Unreachable { reason: reason_of(failure) },
    }
}

/// The page in an answer.
fn page(received: &Response) -> Result<FeedPage, FeedError> {
    if let Some(cut) = &received.cut {
        return Err(FeedError::Unreachable { reason: cut.clone() });
    }
    let header = |name| received.headers.get(name).and_then(|value| value.to_str().ok());
    let number = |name| header(name).and_then(|text| text.parse().ok()).map(Position::new);
    let feed = header(FEED).and_then(FeedName::parse);
    let (Some(feed), Some(upto), Some(head)) = (feed, number(UPTO), number(HEAD)) else {
        let reason = format!(
            "the answer lacks one of the headers {FEED}, {UPTO} and {HEAD}: is this the address of \
             a feed of Diptych, and does no proxy remove them?"
        );
        return Err(FeedError::Unreachable { reason });
    };
    let events: Vec<CloudEvent> = serde_json::from_slice(&received.body).map_err(|error| {
        FeedError::Unreachable { reason: format!("the page cannot be read: {error}") }
    })?;
    Ok(FeedPage::new(feed.log, events, upto, head))
}

fn refused(received: &Response) -> FeedError {
    let problem = received.json();
    let number = |name| problem.get(name).and_then(Value::as_u64).map(Position::new);
    match (problem.get("type").and_then(Value::as_str), number("after"), number("head")) {
        (Some("urn:diptych:above-head"), Some(after), Some(head)) => {
            FeedError::AboveHead { after, head }
        }
        _ => FeedError::Refused { reason: received.said() },
    }
}

impl fmt::Debug for HttpFeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpFeed").field("url", &without_user(&self.url)).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_has_no_user_and_no_password() {
        let url = "https://ada:secret@shipping.example/a";
        let source = HttpFeed::new(url, HttpOptions::default()).unwrap();
        let shown = format!("{source:?}");
        assert!(shown.contains("https://shipping.example/a"), "{shown}");
        assert!(!shown.contains("ada") && !shown.contains("secret"), "{shown}");
    }
}
