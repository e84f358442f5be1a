//! The options of a query as one value.

use std::time::Duration;

use super::{Ask, Query};
use crate::token::{Receipt, Session, SessionToken};

/// The options of a query as one value, for a program that reads them from elsewhere, such as the
/// parameters of a request: see [`Ask::options`]. Each field is the option of the method with its
/// name.
#[derive(Clone, Debug, Default)]
pub struct AskOptions {
    /// [`Ask::strong`].
    pub strong: bool,
    /// [`Ask::after`].
    pub after: Option<Receipt>,
    /// [`Ask::token`].
    pub token: Option<SessionToken>,
    /// [`Ask::session`].
    pub session: Option<Session>,
    /// [`Ask::at_most`].
    pub at_most: Option<Duration>,
    /// [`Ask::within`].
    pub within: Option<Duration>,
    /// [`Ask::or_stale`].
    pub or_stale: bool,
}

impl<Q: Query> Ask<Q> {
    /// Sets all of these options that are given.
    pub fn options(self, options: &AskOptions) -> Ask<Q> {
        let AskOptions { strong, after, token, session, at_most, within, or_stale } = options;
        let mut ask = if *strong { self.strong() } else { self };
        if let Some(receipt) = after {
            ask = ask.after(receipt);
        }
        if let Some(token) = token {
            ask = ask.token(token);
        }
        if let Some(session) = session {
            ask = ask.session(session);
        }
        if let Some(age) = *at_most {
            ask = ask.at_most(age);
        }
        if let Some(longest) = *within {
            ask = ask.within(longest);
        }
        if *or_stale { ask.or_stale() } else { ask }
    }
}
