//! Admission: the tokens of a running server, and the calls that they allow.

use std::{path::PathBuf, pin::Pin, sync::Arc};

use axum::http::{HeaderMap, header};
use tokio::sync::watch;

use crate::{
    door::{
        access::Denial,
        files::{self, FileStamps},
        problem::Problem,
        stop::Stop,
    },
    hinge::{
        token_file::{TokenFile, TokenFileError},
        tokens::{self, KnownToken, TokenHash, TokenScope},
    },
};

/// The right that a call needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// No token.
    Nothing,
    /// Any token.
    Token,
    /// A token with one of these scopes.
    AnyOf(&'static [TokenScope]),
    /// A token that may append, and may set the times of events.
    CommitsOfCopy,
    /// A token for some feed.
    SomeFeed,
    /// A token for this feed.
    Feed(String),
}

impl Need {
    pub(crate) const READ: Need = Need::AnyOf(&[TokenScope::Read]);
    pub(crate) const APPEND: Need = Need::AnyOf(&[TokenScope::Append]);
    pub(crate) const ADMIN: Need = Need::AnyOf(&[TokenScope::Admin]);
    /// The outcome of a commit.
    pub(crate) const OUTCOME: Need = Need::AnyOf(&[TokenScope::Read, TokenScope::Append]);

    /// The facts of the log that tell no event. A token of feeds does not suffice.
    pub(crate) const LOG: Need =
        Need::AnyOf(&[TokenScope::Read, TokenScope::Append, TokenScope::Admin]);

    /// The scopes for commits of a copy.
    const OF_COPY: [TokenScope; 2] = [TokenScope::Append, TokenScope::Admin];

    fn is_met_by(&self, scopes: &[TokenScope]) -> bool {
        match self {
            Need::Nothing | Need::Token => true,
            Need::AnyOf(any) => any.iter().any(|scope| scopes.contains(scope)),
            Need::CommitsOfCopy => Need::OF_COPY.iter().all(|scope| scopes.contains(scope)),
            Need::SomeFeed => scopes.iter().any(TokenScope::is_of_feed),
            Need::Feed(name) => scopes.iter().any(|scope| scope.has_feed(name)),
        }
    }

    /// The demand for scopes, as words.
    fn words(&self) -> String {
        let scopes = match self {
            Need::Nothing | Need::Token => String::new(),
            Need::AnyOf(any) => joined(any, " or "),
            Need::CommitsOfCopy => {
                let scopes = joined(&Need::OF_COPY, " and ");
                return format!(
                    "this server receives a copy: its commits need the scopes {scopes}"
                );
            }
            Need::SomeFeed => format!("{} or feed:NAME", TokenScope::Feeds),
            Need::Feed(name) => {
                joined(&[TokenScope::Feeds, TokenScope::Feed(name.clone())], " or ")
            }
        };
        format!("this needs the scope {scopes}")
    }
}

/// A token that was not accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TokenRefusal {
    /// Whether the token is known, and its scopes do not suffice.
    pub(crate) is_known: bool,
    pub(crate) reason: String,
}

impl TokenRefusal {
    fn unknown(reason: &str) -> TokenRefusal {
        TokenRefusal { is_known: false, reason: reason.to_owned() }
    }
}

impl From<TokenRefusal> for Problem {
    fn from(refusal: TokenRefusal) -> Problem {
        let TokenRefusal { is_known, reason } = refusal;
        match is_known {
            true => Denial::forbidden(reason).into(),
            false => Denial::unknown(reason, "Bearer").into(),
        }
    }
}

/// Waits until a token no longer allows what it did.
pub(crate) type Revocation = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The tokens of a server's configuration.
#[derive(Default)]
pub(crate) struct TokenSources {
    fixed: Vec<KnownToken>,
    file: Option<TokenFileSource>,
}

struct TokenFileSource {
    path: PathBuf,
    /// The state of the file before it was read.
    seen: FileStamps,
    tokens: Vec<KnownToken>,
}

impl TokenSources {
    pub(crate) fn add(&mut self, token: &str, scopes: impl IntoIterator<Item = TokenScope>) {
        let (name, scopes) = (String::new(), scopes.into_iter().collect());
        self.fixed.push(KnownToken { name, scopes, hash: TokenHash::of(token) });
    }

    pub(crate) fn file(&mut self, path: PathBuf) -> Result<(), TokenFileError> {
        let seen = FileStamps::of(&[&path]);
        let tokens = TokenFile::read(&path)?.into_tokens();
        self.file = Some(TokenFileSource { path, seen, tokens });
        Ok(())
    }

    /// Whether callers need a token.
    pub(crate) fn is_empty(&self) -> bool {
        self.fixed.is_empty() && self.file.is_none()
    }

    /// The gate of a server that runs until `stop` begins. It reads the file again after each
    /// change.
    pub(crate) fn into_gate(self, stop: Stop) -> std::io::Result<Gate> {
        if self.is_empty() {
            return Ok(Gate { known: None });
        }
        let TokenSources { fixed, file } = self;
        let in_file = file.iter().flat_map(|file| file.tokens.iter().cloned());
        let all: Vec<KnownToken> = fixed.iter().cloned().chain(in_file).collect();
        let known = Arc::new(watch::Sender::new(all));
        if let Some(TokenFileSource { path, seen, .. }) = file {
            let tokens = Arc::downgrade(&known);
            files::watch(vec![path.clone()], seen, stop, move || {
                let Some(known) = tokens.upgrade() else { return false };
                match TokenFile::read(&path) {
                    Ok(file) => {
                        let all = fixed.iter().cloned().chain(file.into_tokens());
                        known.send_replace(all.collect());
                        tracing::info!(?path, "the new tokens are in use");
                    }
                    Err(error) => tracing::warn!(
                        %error,
                        "the file of tokens changed, and cannot be used: the old tokens stay valid"
                    ),
                }
                true
            })?;
        }
        Ok(Gate { known: Some(known) })
    }
}

/// Checks the token of each call.
#[derive(Clone)]
pub(crate) struct Gate {
    /// `None` if every caller may do everything.
    known: Option<Arc<watch::Sender<Vec<KnownToken>>>>,
}

impl Gate {
    /// Whether callers need a token.
    pub(crate) fn asks_for_tokens(&self) -> bool {
        self.known.is_some()
    }

    /// Admits a call. The answer is how its stream learns that the token was revoked.
    pub(crate) fn admit(
        &self,
        headers: &HeaderMap,
        need: Need,
    ) -> Result<Option<Revocation>, TokenRefusal> {
        let Some(known) = self.known.as_ref().filter(|_| need != Need::Nothing) else {
            return Ok(None);
        };
        let hash = TokenHash::of(bearer(headers)?);
        {
            let known = known.borrow();
            let token = tokens::find(&known, hash).ok_or_else(|| {
                TokenRefusal::unknown("the server does not know this token: give one that it has")
            })?;
            if !need.is_met_by(&token.scopes) {
                return Err(lacking(token, &need));
            }
        }
        let mut list = known.subscribe();
        Ok(Some(Box::pin(async move {
            let is_revoked = |known: &Vec<KnownToken>| {
                tokens::find(known, hash).is_none_or(|token| !need.is_met_by(&token.scopes))
            };
            if list.wait_for(is_revoked).await.is_err() {
                // The server has ended, and its streams end by themselves.
                std::future::pending::<()>().await;
            }
        })))
    }
}

fn lacking(token: &KnownToken, need: &Need) -> TokenRefusal {
    let name = match token.name.as_str() {
        "" => String::new(),
        name => format!(" {name:?}"),
    };
    let (demand, given) = (need.words(), joined(&token.scopes, ", "));
    let reason = format!("{demand}, and the token{name} has {given}");
    TokenRefusal { is_known: true, reason }
}

fn joined(scopes: &[TokenScope], between: &str) -> String {
    scopes.iter().map(ToString::to_string).collect::<Vec<_>>().join(between)
}

/// The token in the header `authorization`.
fn bearer(headers: &HeaderMap) -> Result<&str, TokenRefusal> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok(),
        (None, _) => {
            return Err(TokenRefusal::unknown(
                "the server needs a token: send it as `authorization: Bearer <token>`",
            ));
        }
        (Some(_), Some(_)) => None,
    };
    let token = value
        .and_then(|value| value.split_once(' '))
        .and_then(|(scheme, token)| scheme.eq_ignore_ascii_case("bearer").then_some(token.trim()));
    token.filter(|token| !token.is_empty()).ok_or_else(|| {
        TokenRefusal::unknown("the header authorization has another form than `Bearer <token>`")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate() -> Gate {
        let mut sources = TokenSources::default();
        sources.add("secret", [TokenScope::Read]);
        sources.into_gate(Stop::default()).unwrap()
    }

    fn headers(values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::AUTHORIZATION, value.parse().unwrap());
        }
        headers
    }

    #[tokio::test]
    async fn only_one_header_with_a_known_token_is_accepted() {
        let is_admitted = |values: &[&str]| gate().admit(&headers(values), Need::READ).is_ok();
        assert!(is_admitted(&["Bearer secret"]) && is_admitted(&["bearer  secret "]));
        for wrong in [
            &[][..],
            &["secret"],
            &["Basic secret"],
            &["Bearer"],
            &["Bearer "],
            &["Bearer secreT"],
            &["Bearer secret2"],
            &["Bearer secret", "Bearer secret"],
        ] {
            let refusal = gate().admit(&headers(wrong), Need::Token).err().unwrap();
            assert!(!refusal.is_known, "{wrong:?}");
        }
    }

    #[test]
    fn a_scope_contains_no_other_scope() {
        let gate = gate();
        let admit = |need| gate.admit(&headers(&["Bearer secret"]), need);
        assert!(admit(Need::Token).is_ok() && admit(Need::OUTCOME).is_ok());
        for need in [Need::APPEND, Need::ADMIN, Need::SomeFeed, Need::Feed("a".to_owned())] {
            assert!(admit(need).err().unwrap().is_known);
        }
    }

    #[test]
    fn a_copy_needs_a_token_that_may_append_and_set_times() {
        let mut sources = TokenSources::default();
        sources.add("append", [TokenScope::Append]);
        sources.add("admin", [TokenScope::Admin]);
        sources.add("both", [TokenScope::Admin, TokenScope::Append]);
        let gate = sources.into_gate(Stop::default()).unwrap();
        let admit =
            |token: &str| gate.admit(&headers(&[&format!("Bearer {token}")]), Need::CommitsOfCopy);
        assert!(admit("both").is_ok());
        for (token, words) in [
            ("append", "need the scopes append and admin, and the token has append"),
            ("admin", "need the scopes append and admin, and the token has admin"),
        ] {
            let refusal = admit(token).err().unwrap();
            assert!(refusal.is_known && refusal.reason.ends_with(words), "{}", refusal.reason);
        }
    }

    #[test]
    fn a_token_of_feeds_has_nothing_of_the_log() {
        let mut sources = TokenSources::default();
        sources.add("all", [TokenScope::Feeds]);
        sources.add("one", [TokenScope::Feed("orders".to_owned())]);
        let gate = sources.into_gate(Stop::default()).unwrap();
        let admit = |token: &str, need| gate.admit(&headers(&[&format!("Bearer {token}")]), need);
        let feed = |name: &str| Need::Feed(name.to_owned());
        for token in ["all", "one"] {
            assert!(admit(token, Need::SomeFeed).is_ok() && admit(token, feed("orders")).is_ok());
            for need in [Need::LOG, Need::READ, Need::APPEND, Need::ADMIN, Need::OUTCOME] {
                assert!(admit(token, need).err().unwrap().is_known);
            }
        }
        assert!(admit("all", feed("seats")).is_ok());
        let refusal = admit("one", feed("seats")).err().unwrap();
        let words = "this needs the scope feed or feed:seats, and the token has feed:orders";
        assert_eq!(refusal.reason, words);
    }

    #[test]
    fn a_server_without_tokens_admits_everyone() {
        let gate = TokenSources::default().into_gate(Stop::default()).unwrap();
        assert!(matches!(gate.admit(&HeaderMap::new(), Need::ADMIN), Ok(None)));
    }
}
