//! The header `Link` of a part of a list (RFC 8288), which leads to the next part.

use axum::http::HeaderValue;

use crate::door::{
    problem::Problem,
    request::{AFTER, POINTS, RequestOptions, SESSION_TOKEN, pairs},
    response::header_value,
};

/// The parameters of a request, from which the link to the next part is made.
#[derive(Default)]
pub(crate) struct NextLink(Vec<(String, String)>);

impl NextLink {
    /// The arguments in the address, and the options from the address and from headers. So a client
    /// can follow the link without these headers.
    pub(crate) fn of(options: &RequestOptions<'_>, arguments: &str) -> Result<NextLink, Problem> {
        let mut all = pairs(arguments)?;
        all.extend(options.all()?);
        Ok(NextLink(all))
    }

    /// Sets a parameter, in place of one of this name.
    pub(crate) fn set(mut self, name: &str, value: impl ToString) -> NextLink {
        self.0.retain(|(known, _)| known != name);
        self.0.push((name.to_owned(), value.to_string()));
        self
    }

    /// Asks for an answer that is not older than this token. Freshness does not apply to a question
    /// about the past.
    pub(crate) fn after(self, token: impl ToString) -> NextLink {
        match self.0.iter().any(|(name, _)| POINTS.contains(&name.as_str())) {
            true => self,
            false => self.set(AFTER, token),
        }
    }

    /// Continues the session, if the address names one. A header names the newest one.
    pub(crate) fn session(self, token: impl ToString) -> NextLink {
        match self.0.iter().any(|(name, _)| name == SESSION_TOKEN) {
            true => self.set(SESSION_TOKEN, token),
            false => self,
        }
    }

    /// The value of the header. Its address is relative to that of the request, so it is right
    /// below a prefix and behind a proxy.
    pub(crate) fn to_header(&self) -> Option<HeaderValue> {
        let query = serde_html_form::to_string(&self.0).ok()?;
        header_value(format!("<?{query}>; rel=\"next\""))
    }
}
