//! The parts of a request: its body within limits, the name in its path, and the options in its
//! headers and parameters.

use std::{fmt::Display, str::FromStr};

use axum::{
    body::{Body, Bytes},
    extract::{FromRequestParts, Path},
    http::{HeaderMap, HeaderValue, Response, StatusCode, header, request::Parts},
    response::IntoResponse,
};
use diptych::{
    App, Position, Receipt, Session, SessionToken, Timestamp,
    catalogue::{DecodeError, decode, decode_json},
    command::Ordinal,
};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Body as _;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use crate::door::{code::Code, limits::ServerLimits, problem::Problem};

/// The parameters about freshness and the past, which every query has.
pub(crate) const PARAMETERS: [&str; 9] = [
    "_consistency",
    AFTER,
    SESSION_TOKEN,
    "_within",
    "_at_most",
    "_or_stale",
    "_as_of",
    "_recorded_before",
    "_occurred_before",
];

/// The parameters about a part of a list, for answers with pages and for explanations.
pub(crate) const LIST_PARAMETERS: [&str; 3] = [LIMIT, OFFSET, START_AFTER];

/// The parameters of a point in the past.
pub(crate) const POINTS: [&str; 3] = ["_as_of", "_recorded_before", "_occurred_before"];

pub(crate) const AFTER: &str = "_after";
pub(crate) const SESSION_TOKEN: &str = "_session";
pub(crate) const LIMIT: &str = "_limit";
pub(crate) const OFFSET: &str = "_offset";
pub(crate) const START_AFTER: &str = "_start_after";

/// The body, if it is JSON, within the limit, and arrives in time.
pub(crate) async fn json_body(
    headers: &HeaderMap,
    body: Body,
    limits: &ServerLimits,
) -> Result<Bytes, Problem> {
    check_content_type(headers)?;
    let limit = limits.body_bytes;
    let too_large = || {
        let detail = format!("the body is longer than {limit} bytes: nothing was done");
        let problem = Problem::new(StatusCode::PAYLOAD_TOO_LARGE, Code::TooLarge, detail);
        problem.and("limit_bytes", limit as u64)
    };
    // A body that announces its length is refused before its first byte is read.
    if body.size_hint().lower() > limit as u64 {
        return Err(too_large());
    }
    let whole = Limited::new(body, limits.body_bytes).collect();
    match timeout(limits.body_time, whole).await {
        Ok(Ok(whole)) => Ok(whole.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(error)) => Err(Problem::bad(Code::Body, format!("the body was cut off: {error}"))),
        Err(_) => {
            let detail = "the body did not arrive in time: nothing was done";
            Err(Problem::new(StatusCode::REQUEST_TIMEOUT, Code::Slow, detail))
        }
    }
}

/// Refuses bodies that are not plain JSON in UTF-8. A body in another charset, or a compressed
/// one, would otherwise be reported as malformed JSON.
fn check_content_type(headers: &HeaderMap) -> Result<(), Problem> {
    let refuse = |detail: String| {
        let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        Problem::new(status, Code::ContentType, detail).and("header", "content-type")
    };
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let mut parts = content_type.unwrap_or_default().split(';').map(str::trim);
    if !parts.next().unwrap_or_default().eq_ignore_ascii_case("application/json") {
        let detail = "the body has to be JSON: send it as content-type application/json";
        return Err(refuse(detail.to_owned()));
    }
    let charset = parts.filter_map(|parameter| parameter.split_once('=')).find_map(|pair| {
        let (name, value) = pair;
        name.trim().eq_ignore_ascii_case("charset").then(|| value.trim().trim_matches('"'))
    });
    if let Some(charset) = charset.filter(|charset| !is_utf8_name(charset)) {
        let detail = format!("JSON is UTF-8, and the body has the charset {charset:?}");
        return Err(refuse(detail));
    }
    let encodings = headers.get_all(header::CONTENT_ENCODING).iter();
    match encodings.map(HeaderValue::as_bytes).find(|name| !name.eq_ignore_ascii_case(b"identity"))
    {
        Some(encoding) => {
            let encoding = String::from_utf8_lossy(encoding);
            let detail = format!("the body has the encoding {encoding:?}: send it as it is");
            let problem = refuse(detail).and("header", "content-encoding");
            Err(problem.header(header::ACCEPT_ENCODING, HeaderValue::from_static("identity")))
        }
        None => Ok(()),
    }
}

fn is_utf8_name(charset: &str) -> bool {
    // ASCII is a part of UTF-8.
    ["utf-8", "utf8", "us-ascii"].iter().any(|name| charset.eq_ignore_ascii_case(name))
}

/// Decodes JSON. `what` names the decoded part of the request in the problem, and the member
/// `field` of the problem names the place in it.
pub(crate) fn from_json<T: DeserializeOwned>(what: &str, bytes: &[u8]) -> Result<T, Problem> {
    decode_json(bytes).map_err(|error| malformed(what, &error))
}

/// The problem of JSON that cannot be decoded.
pub(crate) fn malformed(what: &str, error: &DecodeError) -> Problem {
    let mut problem = Problem::bad(Code::Malformed, format!("{what} cannot be read: {error}"));
    if let Some((line, column)) = error.place {
        problem = problem.and("line", line as u64).and("column", column as u64);
    }
    match &error.field {
        Some(field) => problem.and("field", field.as_str()),
        None => problem,
    }
}

/// Reads the arguments in an address.
pub(crate) fn form_reader(form: &str) -> serde_html_form::Deserializer<'_> {
    serde_html_form::Deserializer::from_bytes(form.as_bytes())
}

/// Decodes the arguments in an address.
pub(crate) fn from_form<T: DeserializeOwned>(form: &str) -> Result<T, Problem> {
    decode(form_reader(form)).map_err(|error| wrong_argument(form, &error))
}

/// The problem of arguments in an address that cannot be decoded. Its member `argument` names the
/// wrong one.
pub(crate) fn wrong_argument(form: &str, error: &DecodeError) -> Problem {
    let Some(argument) = &error.field else {
        let detail = format!("the arguments cannot be read: {error}");
        return Problem::bad(Code::Arguments, detail);
    };
    let times = pairs(form).unwrap_or_default();
    let times = times.iter().filter(|(name, _)| name == argument).count();
    let wrong = match times {
        0 if error.is_missing => "is missing".to_owned(),
        0 | 1 => format!("cannot be read: {error}"),
        times => format!("is there {times} times: send it once"),
    };
    let detail = format!("the argument {argument:?} {wrong}");
    Problem::bad(Code::Arguments, detail).and("argument", argument.as_str())
}

/// The options of a request by name, such as `occurred-before`. Every request can send this option
/// as the header `Diptych-Occurred-Before`. A query can also send it as the parameter
/// `_occurred_before`. If both are given, the parameter wins.
pub(crate) struct RequestOptions<'a> {
    headers: &'a HeaderMap,
    parameters: Vec<(String, String)>,
}

impl<'a> RequestOptions<'a> {
    /// The options of a request that may send them in headers only.
    pub(crate) fn in_headers(headers: &'a HeaderMap) -> RequestOptions<'a> {
        RequestOptions { headers, parameters: Vec::new() }
    }

    /// Splits a query string into options and arguments. The arguments are returned as a query
    /// string again.
    pub(crate) fn split(
        headers: &'a HeaderMap,
        query: Option<&str>,
    ) -> Result<(RequestOptions<'a>, String), Problem> {
        let all = pairs(query.unwrap_or_default())?;
        let (parameters, arguments): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|(name, _)| name.starts_with('_'));
        for (at, (name, _)) in parameters.iter().enumerate() {
            if !all_parameters().any(|known| known == name) {
                let known: Vec<_> = all_parameters().collect();
                let detail = format!("there is no parameter {name:?} (known: {known:?})");
                return Err(Problem::parameter(name, detail));
            }
            if parameters.iter().take(at).any(|(other, _)| other == name) {
                let detail = format!("the parameter {name:?} is there twice: send it once");
                return Err(Problem::parameter(name, detail));
            }
        }
        let arguments = serde_html_form::to_string(&arguments)
            .map_err(|error| Problem::bad(Code::Malformed, error.to_string()))?;
        Ok((RequestOptions { headers, parameters }, arguments))
    }

    /// Whether no option of a query is in a header, so that the address has them all.
    pub(crate) fn are_in_address(&self) -> bool {
        let mut headers = all_parameters().map(|name| header_of(&option_of(name)));
        headers.all(|name| !self.headers.contains_key(name))
    }

    pub(crate) fn text(&self, name: &str) -> Result<Option<&str>, Problem> {
        if let Some(value) = self.parameter(&parameter_of(name)) {
            return Ok(Some(value));
        }
        header_text(self.headers, &header_of(name))
    }

    /// The value of a parameter in the address.
    fn parameter(&self, parameter: &str) -> Option<&str> {
        let found = self.parameters.iter().find(|(known, _)| known == parameter);
        found.map(|(_, value)| value.as_str())
    }

    /// Everything that a query can send as a parameter, under the name of the parameter. A session
    /// in a header is left out, because each answer has a newer one.
    pub(crate) fn all(&self) -> Result<Vec<(String, String)>, Problem> {
        let mut all = Vec::new();
        for parameter in all_parameters() {
            let value = match parameter {
                SESSION_TOKEN => self.parameter(parameter),
                _ => self.text(&option_of(parameter))?,
            };
            all.extend(value.map(|value| (parameter.to_owned(), value.to_owned())));
        }
        Ok(all)
    }

    /// A problem with the value of an option. It names the parameter or the header that the request
    /// sent.
    pub(crate) fn wrong(&self, name: &str, wrong: impl Display) -> Problem {
        let source = self.source(name);
        let (member, code) = source.member();
        let detail = format!("the {member} {} {wrong}", source.name());
        source.name_in(Problem::bad(code, detail))
    }

    /// The part of the request with this option; a header if there is none.
    pub(crate) fn source(&self, name: &str) -> OptionSource {
        let parameter = parameter_of(name);
        match self.parameter(&parameter) {
            Some(_) => OptionSource::Parameter(parameter),
            None => OptionSource::Header(header_of(name)),
        }
    }

    pub(crate) fn value<T>(&self, name: &str) -> Result<Option<T>, Problem>
    where
        T: FromStr<Err: Display>,
    {
        let Some(text) = self.text(name)? else { return Ok(None) };
        text.parse()
            .map(Some)
            .map_err(|error: T::Err| self.wrong(name, format!("cannot be read: {error}")))
    }

    /// An instant. The form is part of the problem, because there is much to get wrong: a zone is
    /// needed, and a plus in an address is a space.
    pub(crate) fn instant(&self, name: &str) -> Result<Option<Timestamp>, Problem> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        text.parse().map(Some).map_err(|_| {
            let hint = match text.contains(' ') {
                true => " (in an address, a plus is written as %2B)",
                false => "",
            };
            let form = "is an instant with a zone, such as 2013-01-01T10:15:00Z";
            self.wrong(name, format!("{form}, and not {text:?}{hint}"))
        })
    }

    /// Whether this flag is set: given without a value, or as `true`.
    pub(crate) fn flag(&self, name: &str) -> Result<bool, Problem> {
        match self.text(name)? {
            None | Some("false") => Ok(false),
            Some("" | "true") => Ok(true),
            Some(other) => Err(self.wrong(name, format!("is true or false, and not {other:?}"))),
        }
    }

    /// The session of the client, resumed from its token.
    pub(crate) async fn session(&self, app: &App) -> Result<Option<Session>, Problem> {
        let Some(token) = self.value::<SessionToken>("session")? else { return Ok(None) };
        let session = app.resume_session(&token).await;
        session.map(Some).map_err(|error| self.source("session").name_in_token(error.into()))
    }

    /// The place of a command among the commands of its client.
    pub(crate) fn ordinal(&self) -> Result<Option<Ordinal>, Problem> {
        let client = self.text("client")?;
        let (number, settled) = (self.value("ordinal")?, self.value("settled")?);
        let lacks = |name: &str, other: &str| {
            let detail = format!("is needed beside the header {}", header_of(other));
            Err(self.wrong(name, detail))
        };
        let (client, number) = match (client, number, settled) {
            (Some(client), Some(number), _) => (client, number),
            (None, None, None) => return Ok(None),
            (None, Some(_), _) => return lacks("client", "ordinal"),
            (Some(_), None, _) => return lacks("ordinal", "client"),
            (None, None, Some(_)) => return lacks("ordinal", "settled"),
        };
        let ordinal = Ordinal::new(client, number).settled(settled.unwrap_or(0));
        match ordinal.check() {
            Ok(()) => Ok(Some(ordinal)),
            Err(invalid) if ordinal.is_too_far_ahead() => {
                let status = StatusCode::CONFLICT;
                let problem = Problem::new(status, Code::OrdinalAhead, invalid.problem);
                Err(problem.and("ordinal", number).and("window", Ordinal::WINDOW))
            }
            Err(invalid) => Err(self.wrong("ordinal", format!("is refused: {}", invalid.problem))),
        }
    }

    pub(crate) fn position(&self, name: &str) -> Result<Option<Position>, Problem> {
        Ok(self.value::<u64>(name)?.map(Position::new))
    }

    /// The receipt or the token whose events the request needs.
    pub(crate) fn after(&self) -> Result<Option<SentToken>, Problem> {
        let token: Option<AnyToken> = self.value("after")?;
        Ok(token.map(|token| SentToken { token, source: self.source("after") }))
    }
}

fn all_parameters() -> impl Iterator<Item = &'static str> {
    PARAMETERS.into_iter().chain(LIST_PARAMETERS)
}

fn parameter_of(option: &str) -> String {
    format!("_{}", option.replace('-', "_"))
}

fn header_of(option: &str) -> String {
    format!("diptych-{option}")
}

/// The name of the option that a parameter sets.
pub(crate) fn option_of(parameter: &str) -> String {
    parameter.trim_start_matches('_').replace('_', "-")
}

/// Whether the request asks about the past. An address that cannot be read counts as such.
#[cfg(feature = "extract")]
pub(crate) fn names_point(headers: &HeaderMap, query: Option<&str>) -> bool {
    let Ok(all) = pairs(query.unwrap_or_default()) else { return true };
    POINTS.into_iter().any(|point| {
        let is_in_address = all.iter().any(|(name, _)| name == point);
        is_in_address || headers.contains_key(header_of(&option_of(point)))
    })
}

/// Names and values of a query string.
pub(crate) fn pairs(query: &str) -> Result<Vec<(String, String)>, Problem> {
    let malformed = |what: &str| {
        Problem::bad(Code::Malformed, format!("the query string cannot be read: {what}"))
    };
    if !is_utf8(query) {
        return Err(malformed("its percent-encoded bytes are not UTF-8"));
    }
    serde_html_form::from_str(query).map_err(|error| malformed(&error.to_string()))
}

/// Whether the decoded bytes are UTF-8. The decoder replaces invalid bytes, and would then accept a
/// text that the client did not send.
fn is_utf8(query: &str) -> bool {
    let mut bytes = Vec::with_capacity(query.len());
    let mut rest = query.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let digits = after.first_chunk::<2>().filter(|_| *first == b'%');
        let digits = digits.and_then(|digits| str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    str::from_utf8(&bytes).is_ok()
}

/// The name in the path.
pub(crate) struct Name(pub(crate) String);

impl<S: Send + Sync> FromRequestParts<S> for Name {
    type Rejection = Response<Body>;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Name, Response<Body>> {
        let malformed = |detail: String| Problem::bad(Code::Malformed, detail).into_response();
        // A program can nest the routes below a path with parameters of its own. The name is the
        // last one.
        let Path(all) = Path::<Vec<(String, String)>>::from_request_parts(parts, state)
            .await
            .map_err(|error| malformed(format!("the path cannot be read: {error}")))?;
        match all.into_iter().next_back() {
            Some((_, name)) => Ok(Name(name)),
            None => Err(malformed("the path has no name".to_owned())),
        }
    }
}

/// The part of a request that has an option.
#[derive(Clone, Debug)]
pub(crate) enum OptionSource {
    Parameter(String),
    Header(String),
}

impl OptionSource {
    fn member(&self) -> (&'static str, Code) {
        match self {
            OptionSource::Parameter(_) => ("parameter", Code::Parameter),
            OptionSource::Header(_) => ("header", Code::Header),
        }
    }

    fn name(&self) -> &str {
        let (OptionSource::Parameter(name) | OptionSource::Header(name)) = self;
        name
    }

    /// Names this part in the problem.
    pub(crate) fn name_in(&self, problem: Problem) -> Problem {
        problem.and(self.member().0, self.name())
    }

    /// Names this part in the problem, if the problem is about a token.
    pub(crate) fn name_in_token(&self, problem: Problem) -> Problem {
        match problem.is(Code::Token) {
            true => self.name_in(problem),
            false => problem,
        }
    }
}

/// A token of a request.
#[derive(Clone, Debug)]
pub(crate) struct SentToken {
    pub(crate) token: AnyToken,
    pub(crate) source: OptionSource,
}

/// A token of either kind.
#[derive(Clone, Debug)]
pub(crate) enum AnyToken {
    Receipt(Receipt),
    Session(SessionToken),
}

impl FromStr for AnyToken {
    type Err = <Receipt as FromStr>::Err;

    fn from_str(text: &str) -> Result<AnyToken, Self::Err> {
        match text.parse() {
            Ok(session) => Ok(AnyToken::Session(session)),
            Err(_) => text.parse().map(AnyToken::Receipt),
        }
    }
}

/// The text of a header that a request may have once.
pub(crate) fn header_text<'h>(
    headers: &'h HeaderMap,
    name: &str,
) -> Result<Option<&'h str>, Problem> {
    let mut values = headers.get_all(name).iter();
    let wrong = |what: &str| {
        Problem::bad(Code::Header, format!("the header {name} {what}")).and("header", name)
    };
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(_), Some(_)) => Err(wrong("is there twice")),
        (Some(value), None) => {
            value.to_str().map(Some).map_err(|_| wrong("has characters other than visible ASCII"))
        }
    }
}
