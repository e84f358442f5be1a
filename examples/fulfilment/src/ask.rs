//! Requests of this program to its members.

use std::time::Duration;

use axum::{
    body::Bytes,
    http::{Method, Request, StatusCode, header::CONTENT_TYPE},
};
use http_body_util::{BodyExt, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde::{Serialize, de::DeserializeOwned};

/// A member that does not answer within this time counts as away.
const WITHIN: Duration = Duration::from_secs(5);
/// A member that is killed is back soon.
const BETWEEN: Duration = Duration::from_millis(100);

/// Why a member gives no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    /// It may answer later.
    #[error("{url} does not answer: {reason}")]
    Away { url: String, reason: String },
    /// It answers, and a repetition changes nothing.
    #[error("{url} answers {status}: {text}")]
    Refused { url: String, status: StatusCode, text: String },
}

/// A client of the members.
#[derive(Clone)]
pub(crate) struct Asker(Client<HttpConnector, Full<Bytes>>);

impl Asker {
    pub(crate) fn new() -> Asker {
        Asker(Client::builder(TokioExecutor::new()).build(HttpConnector::new()))
    }

    /// The answer of an address.
    ///
    /// # Errors
    /// [`AskError`] if there is none.
    pub(crate) async fn get<T: DeserializeOwned>(&self, url: &str) -> Result<T, AskError> {
        let body = self.send(Method::GET, url, None).await?;
        serde_json::from_slice(&body).map_err(|error| AskError::Refused {
            url: url.to_owned(),
            status: StatusCode::OK,
            text: format!("which is not what was asked for: {error}"),
        })
    }

    /// Carries out a command under a key, and tries again until it is done.
    ///
    /// # Errors
    /// [`AskError::Refused`] if a rule rejects it.
    pub(crate) async fn command(
        &self,
        url: &str,
        key: &str,
        command: &(impl Serialize + Sync),
    ) -> Result<(), AskError> {
        let refused = |error: serde_json::Error| AskError::Refused {
            url: url.to_owned(),
            status: StatusCode::BAD_REQUEST,
            text: error.to_string(),
        };
        let body = serde_json::to_vec(command).map_err(refused)?;
        loop {
            match self.send(Method::POST, url, Some((key, body.clone()))).await {
                Err(AskError::Away { .. }) => tokio::time::sleep(BETWEEN).await,
                Err(error) => return Err(error),
                Ok(_) => return Ok(()),
            }
        }
    }

    /// Whether something answers at this address.
    pub(crate) async fn is_up(&self, url: &str) -> bool {
        !matches!(self.send(Method::GET, url, None).await, Err(AskError::Away { .. }))
    }

    async fn send(
        &self,
        method: Method,
        url: &str,
        keyed: Option<(&str, Vec<u8>)>,
    ) -> Result<Bytes, AskError> {
        let away = |reason: String| AskError::Away { url: url.to_owned(), reason };
        let mut request = Request::builder().method(method).uri(url);
        let mut body = Vec::new();
        if let Some((key, given)) = keyed {
            request = request.header(CONTENT_TYPE, "application/json");
            request = request.header("idempotency-key", key);
            body = given;
        }
        let request = request.body(Full::new(body.into())).map_err(|error| AskError::Refused {
            url: url.to_owned(),
            status: StatusCode::BAD_REQUEST,
            text: error.to_string(),
        })?;
        let exchange = async {
            let answer = self.0.request(request).await.map_err(|error| away(error.to_string()))?;
            let status = answer.status();
            let body = answer.into_body().collect().await;
            let body = body.map_err(|error| away(error.to_string()))?.to_bytes();
            match status {
                status if status.is_success() => Ok(body),
                StatusCode::SERVICE_UNAVAILABLE => Err(away("it is not ready".to_owned())),
                status => {
                    let text = String::from_utf8_lossy(&body).into_owned();
                    Err(AskError::Refused { url: url.to_owned(), status, text })
                }
            }
        };
        let timed = tokio::time::timeout(WITHIN, exchange).await;
        timed.unwrap_or_else(|_| Err(away(format!("there was no answer in {WITHIN:?}"))))
    }
}
