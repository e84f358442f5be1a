//! The state of the routes, and the way in to each.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::{FromRequestParts, Path},
    http::{Response, request::Parts},
};
use diptych::store::{HistoryChanged, LogIdentity, Store, Unavailable};
use diptych_remote::wire;
use tokio::time::timeout;

use crate::{
    door::{
        code::Code,
        entrance::{Door, peer_of},
        metrics::Metrics,
        problem::Problem,
        request::header_text,
        response::response_of,
        store_problems::of_unavailable,
    },
    hinge::{
        admission::{Gate, Need, Revocation},
        append_times::AppendTimes,
        http::bodies::RequestForms,
    },
};

/// A log and how it is offered.
pub(crate) struct HttpLog {
    pub(crate) store: Store,
    pub(crate) name: String,
    pub(crate) door: Arc<Door>,
    pub(crate) gate: Gate,
    pub(crate) times: AppendTimes,
    pub(crate) metrics: Option<Metrics>,
    pub(crate) forms: RequestForms,
}

impl HttpLog {
    /// Admits a request about the log: its token, the name of the log, and the history that the
    /// client works with.
    pub(crate) fn admit(&self, parts: &Parts, need: Need) -> Result<Option<Revocation>, Problem> {
        let revocation = self.gate.admit(&parts.headers, need).inspect_err(|refusal| {
            self.door.refused(peer_of(&parts.extensions), &refusal.reason);
        })?;
        if let Some(history) = header_text(&parts.headers, wire::HISTORY_HEADER)? {
            let known = wire::history_of_header(history).ok_or_else(|| {
                let detail = "the history of a log is its id, a slash, and its epoch as a number";
                Problem::bad(Code::Header, detail).and("header", wire::HISTORY_HEADER)
            })?;
            self.check_history(known)?;
        }
        Ok(revocation)
    }

    /// The answer of a request that only reads, if it is there in time.
    pub(crate) async fn in_time(
        &self,
        answer: impl Future<Output = Result<Response<Body>, Problem>>,
    ) -> Response<Body> {
        let answer = timeout(self.door.limits().answer_time, answer).await;
        response_of(answer.unwrap_or_else(|_| {
            let detail = "the log did not answer in time: ask for less, or retry later";
            Err(Problem::later(Code::Slow, detail))
        }))
    }

    fn check_history(&self, was: LogIdentity) -> Result<(), Problem> {
        let is = self.store.identity();
        match is == was {
            true => Ok(()),
            false => {
                let changed = Unavailable::HistoryChanged(HistoryChanged { was, is });
                Err(of_unavailable(&changed))
            }
        }
    }

    /// The names in the path, if the first is that of this log.
    pub(crate) async fn names(self: &Arc<Self>, parts: &mut Parts) -> Result<Vec<String>, Problem> {
        let Path(names) =
            Path::<Vec<(String, String)>>::from_request_parts(parts, self).await.map_err(
                |error| Problem::bad(Code::Malformed, format!("the path cannot be read: {error}")),
            )?;
        let names = names.into_iter().skip_while(|(name, _)| name != "log");
        let mut names = names.map(|(_, value)| value);
        match names.next() {
            Some(log) if log == self.name => Ok(names.collect()),
            _ => {
                let detail = format!("the log of this server is {:?}", self.name);
                Err(Problem::unknown(detail))
            }
        }
    }
}
