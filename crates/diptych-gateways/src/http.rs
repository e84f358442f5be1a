//! Calls as requests over HTTP.

use std::{collections::BTreeMap, fmt, marker::PhantomData};

use diptych::process::{ActionRejection, CallFailure, Gateway, Reconciliation};
use reqwest::{
    Method, Request, Url,
    header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue},
};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    exchange::{Exchange, GatewaySetupError, HttpOptions, Response},
    status::StatusMeaning,
};

/// Sends calls as requests over HTTP, each with its key as `Idempotency-Key`.
///
/// A call is a request with a body of JSON, and the answer is read from the JSON of the response.
/// An empty body is read as `null`, so `()` is an answer as well. A refusal has the body as its
/// [JSON](ActionRejection::json).
///
/// Declare the gateway [idempotent](diptych::process::GatewayOptions::idempotent) only if the
/// system outside keeps the keys: then a call without an answer is sent again.
pub struct HttpGateway<C, A> {
    exchange: Exchange,
    request: Box<dyn Fn(&C) -> HttpRequest + Send + Sync>,
    found: Option<Question<C>>,
    statuses: BTreeMap<u16, StatusMeaning>,
    headers: HeaderMap,
    key_header: HeaderName,
    answer: PhantomData<fn() -> A>,
}

/// Makes the request that asks about an earlier call, from the call and its key.
type Question<C> = Box<dyn Fn(&C, &str) -> HttpRequest + Send + Sync>;

/// A request of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpRequest {
    method: Method,
    url: String,
    headers: Vec<(String, String)>,
    body: Result<Option<Vec<u8>>, String>,
}

impl HttpRequest {
    fn new(method: Method, url: impl Into<String>) -> HttpRequest {
        HttpRequest { method, url: url.into(), headers: Vec::new(), body: Ok(None) }
    }

    /// Asks for this address.
    pub fn get(url: impl Into<String>) -> HttpRequest {
        HttpRequest::new(Method::GET, url)
    }

    /// Posts to this address.
    pub fn post(url: impl Into<String>) -> HttpRequest {
        HttpRequest::new(Method::POST, url)
    }

    /// Puts to this address.
    pub fn put(url: impl Into<String>) -> HttpRequest {
        HttpRequest::new(Method::PUT, url)
    }

    /// Deletes what is at this address.
    pub fn delete(url: impl Into<String>) -> HttpRequest {
        HttpRequest::new(Method::DELETE, url)
    }

    /// Adds a header. Headers with secrets belong to the [gateway](HttpGateway::header).
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> HttpRequest {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// The body as JSON.
    #[must_use]
    pub fn json(mut self, body: &impl Serialize) -> HttpRequest {
        self.body = serde_json::to_vec(body).map(Some).map_err(|error| error.to_string());
        self
    }
}

impl<C, A> HttpGateway<C, A>
where
    C: Serialize + DeserializeOwned + Send + Sync + 'static,
    A: Serialize + DeserializeOwned + Send + 'static,
{
    /// Posts each call as JSON to this address. A user and a password in it are sent as
    /// `Authorization`, unless there is [another](HttpGateway::header).
    ///
    /// # Errors
    /// [`GatewaySetupError`] if the address is none, or the client cannot be made.
    pub fn post(url: &str, options: HttpOptions) -> Result<HttpGateway<C, A>, GatewaySetupError> {
        let url = checked(url)?.to_string();
        HttpGateway::new(move |call: &C| HttpRequest::post(&*url).json(call), options)
    }

    /// Makes the request of each call by a function. It gives the same request for the same call,
    /// because a call may be sent again.
    ///
    /// # Errors
    /// [`GatewaySetupError`] if the client cannot be made.
    pub fn new(
        request: impl Fn(&C) -> HttpRequest + Send + Sync + 'static,
        options: HttpOptions,
    ) -> Result<HttpGateway<C, A>, GatewaySetupError> {
        Ok(HttpGateway {
            exchange: Exchange::new(options)?,
            request: Box::new(request),
            found: None,
            statuses: BTreeMap::new(),
            headers: HeaderMap::new(),
            key_header: HeaderName::from_static("idempotency-key"),
            answer: PhantomData,
        })
    }

    /// Adds a header to each request, such as the secret of an account. It stands in no log and no
    /// output.
    ///
    /// # Errors
    /// [`GatewaySetupError::Header`] if HTTP does not allow it.
    pub fn header(
        mut self,
        name: &str,
        value: &str,
    ) -> Result<HttpGateway<C, A>, GatewaySetupError> {
        let wrong = || GatewaySetupError::Header { name: name.to_owned() };
        let mut value = HeaderValue::from_str(value).map_err(|_| wrong())?;
        value.set_sensitive(true);
        self.headers.insert(HeaderName::try_from(name).map_err(|_| wrong())?, value);
        Ok(self)
    }

    /// Sends the key of a call in this header, in place of `Idempotency-Key`.
    ///
    /// # Errors
    /// [`GatewaySetupError::Header`] if HTTP does not allow the name.
    pub fn key_header(mut self, name: &str) -> Result<HttpGateway<C, A>, GatewaySetupError> {
        let wrong = |_| GatewaySetupError::Header { name: name.to_owned() };
        self.key_header = HeaderName::try_from(name).map_err(wrong)?;
        Ok(self)
    }

    /// Reads this status in another way than [`StatusMeaning::of`].
    #[must_use]
    pub fn status(mut self, status: u16, meaning: StatusMeaning) -> HttpGateway<C, A> {
        self.statuses.insert(status, meaning);
        self
    }

    /// Where the answer of an earlier call is found: `{key}` stands for its key. See
    /// [`found_by`](HttpGateway::found_by).
    ///
    /// # Errors
    /// [`GatewaySetupError::Url`] if it is no URL, or does not have `{key}`.
    pub fn found_at(self, url: &str) -> Result<HttpGateway<C, A>, GatewaySetupError> {
        let url = url.to_owned();
        if !url.contains("{key}") || checked(&url.replace("{key}", "key")).is_err() {
            return Err(GatewaySetupError::Url { url });
        }
        Ok(self.found_by(move |_, key| HttpRequest::get(url.replace("{key}", key))))
    }

    /// Asks so for the answer of an earlier call: by the call, and its key. A call that may have
    /// been sent is then asked about instead of listed for an operator.
    ///
    /// The answer 2xx has the answer of the call. 202 says that it is still carried out. 404 and
    /// 410 say that the call did not arrive: it is sent again, so the system outside must not say
    /// so while the call may still be on its way. All other answers tell nothing.
    #[must_use]
    pub fn found_by(
        mut self,
        request: impl Fn(&C, &str) -> HttpRequest + Send + Sync + 'static,
    ) -> HttpGateway<C, A> {
        self.found = Some(Box::new(request));
        self
    }

    /// # Errors
    /// The reason why there is no such request.
    fn request(&self, of: HttpRequest, key: &str) -> Result<Request, String> {
        let url = checked(&of.url).map_err(|error| error.to_string())?;
        let mut request = self.exchange.request(of.method, url, &self.headers)?;
        let headers = request.headers_mut();
        for (name, value) in of.headers {
            let wrong = || GatewaySetupError::Header { name: name.clone() }.to_string();
            let name = HeaderName::try_from(&name).map_err(|_| wrong())?;
            headers.insert(name, HeaderValue::from_str(&value).map_err(|_| wrong())?);
        }
        let key = HeaderValue::from_str(key).map_err(|error| format!("{key:?}: {error}"))?;
        headers.insert(&self.key_header, key);
        if let Some(body) = of.body.map_err(|why| format!("the body is no JSON: {why}"))? {
            headers.entry(CONTENT_TYPE).or_insert(HeaderValue::from_static("application/json"));
            *request.body_mut() = Some(body.into());
        }
        Ok(request)
    }

    fn answer(received: &Response) -> Result<A, CallFailure> {
        // The call had its effect, so a repetition without a key would have a second one.
        let lost = |why: String| {
            let reason = format!("{}, and its body is not usable: {why}", received.text());
            CallFailure::Unknown { reason }
        };
        if let Some(why) = &received.cut {
            return Err(lost(why.clone()));
        }
        let body = match received.body.is_empty() {
            true => &b"null"[..],
            false => &received.body,
        };
        serde_json::from_slice(body).map_err(|error| lost(error.to_string()))
    }
}

impl<C, A> Gateway for HttpGateway<C, A>
where
    C: Serialize + DeserializeOwned + Send + Sync + 'static,
    A: Serialize + DeserializeOwned + Send + 'static,
{
    type Call = C;
    type Answer = A;

    async fn send(&self, call: &C, key: &str) -> Result<A, CallFailure> {
        let request = self
            .request((self.request)(call), key)
            .map_err(|reason| CallFailure::NotSent { reason, retry_after: None })?;
        let received = self.exchange.send(request).await?;
        let status = received.status.as_u16();
        match self.statuses.get(&status).copied().unwrap_or_else(|| StatusMeaning::of(status)) {
            StatusMeaning::Answered => HttpGateway::<C, A>::answer(&received),
            StatusMeaning::Refused => {
                Err(CallFailure::Refused(ActionRejection::new(received.text(), received.json())))
            }
            StatusMeaning::TryAgain => {
                let (reason, retry_after) = (received.text(), received.retry_after);
                Err(CallFailure::NotSent { reason, retry_after })
            }
            StatusMeaning::Unknown => Err(CallFailure::Unknown { reason: received.text() }),
        }
    }

    async fn reconcile(&self, call: &C, key: &str) -> Result<Reconciliation<A>, CallFailure> {
        let Some(found) = &self.found else { return Ok(Reconciliation::Unknown) };
        let again = |reason, retry_after| CallFailure::NotSent { reason, retry_after };
        let request = self.request(found(call, key), key).map_err(|why| again(why, None))?;
        let received = match self.exchange.send(request).await {
            Ok(received) => received,
            // The question has no effect, so it may be asked again.
            Err(CallFailure::Unknown { reason }) => return Err(again(reason, None)),
            // A refusal of the question is no refusal of the call.
            Err(CallFailure::Refused(_)) => return Ok(Reconciliation::Unknown),
            Err(other) => return Err(other),
        };
        match received.status.as_u16() {
            202 => Err(again("the call is still carried out".to_owned(), received.retry_after)),
            200..300 => match HttpGateway::<C, A>::answer(&received) {
                Ok(answer) => Ok(Reconciliation::Done(answer)),
                Err(_) if received.cut.is_none() => Ok(Reconciliation::Unknown),
                Err(_) => Err(again(received.text(), None)),
            },
            404 | 410 => Ok(Reconciliation::NotDone),
            408 | 425 | 429 | 500.. => Err(again(received.text(), received.retry_after)),
            _ => Ok(Reconciliation::Unknown),
        }
    }
}

impl<C, A> fmt::Debug for HttpGateway<C, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut gateway = f.debug_struct("HttpGateway");
        gateway.field("reach", &self.exchange.reach()).field("headers", &self.headers);
        gateway.field("can_ask", &self.found.is_some()).finish_non_exhaustive()
    }
}

/// The URL without its user and password, for output.
pub(crate) fn without_user(url: &Url) -> String {
    let mut url = url.clone();
    // Errors say that a URL can have no user, and then it has none.
    let _ = url.set_password(None).and_then(|()| url.set_username(""));
    url.to_string()
}

/// # Errors
/// [`GatewaySetupError::Url`] if it is no URL of HTTP.
pub(crate) fn checked(url: &str) -> Result<Url, GatewaySetupError> {
    let wrong = || GatewaySetupError::Url { url: url.to_owned() };
    let parsed: Url = url.parse().map_err(|_| wrong())?;
    match parsed.scheme() {
        "http" | "https" if parsed.has_host() => Ok(parsed),
        _ => Err(wrong()),
    }
}
