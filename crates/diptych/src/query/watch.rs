//! Live queries: the answer, and each changed answer.

use std::{any::type_name, fmt, sync::Arc};

use diptych_store::Position;

use super::{
    Answer, Ask, Query, QueryError, RightPanel,
    ask::{answer, poisoned},
};
use crate::token::{ClaimError, Claims, SessionToken, settled};

/// The answers to one query as they change: see [`App::watch`](crate::App::watch).
///
/// Only the last answer is kept for a reader, so a slow reader misses answers in between, but never
/// the latest.
pub struct Watch<Q: Query> {
    panel: Arc<RightPanel>,
    query: Q,
    /// The position of the view at the last check.
    seen: Option<Position>,
    /// The lowest position of the first answer.
    from: Position,
    last: Option<Q::Answer>,
    /// The tokens from which the watch was resumed.
    claims: Claims,
}

impl<Q: Query> Watch<Q>
where
    Q::Answer: Clone + PartialEq,
{
    pub(crate) fn new(panel: Arc<RightPanel>, query: Q) -> Watch<Q> {
        Watch {
            panel,
            query,
            seen: None,
            from: Position::START,
            last: None,
            claims: Claims::default(),
        }
    }

    /// Resumes at the position of the last received answer: the first answer has this position or a
    /// later one.
    #[must_use = "this returns the resumed watch"]
    pub fn from(mut self, position: Position) -> Watch<Q> {
        self.from = position;
        self
    }

    /// Resumes at the answer for which this token [was made](crate::App::token_at), even in another
    /// process or after the log was restored. If the token is of another log or history, the next
    /// answer is an error.
    #[must_use = "this returns the resumed watch"]
    pub fn token(self, token: &SessionToken) -> Watch<Q> {
        token.logs().fold(self, |mut watch, (point, _)| {
            let position = watch.claims.point(&watch.panel.lineage, point);
            watch.from = watch.from.max(position);
            watch
        })
    }

    /// Waits for the next answer: first the present one, then each that differs from the one
    /// before. Dropping the future loses nothing.
    ///
    /// # Errors
    /// [`QueryError`] if the view stopped, or the log or the app ended. Further calls return it at
    /// once, until the view continues.
    pub async fn next(&mut self) -> Result<Answer<Q::Answer>, QueryError> {
        if let Some(error) = self.claims.failed() {
            return Err(error.into());
        }
        if !self.claims.are_settled() {
            let (claims, lineage) = (self.claims.clone(), self.panel.lineage.clone());
            match settled(claims, lineage, Ask::<Q>::WITHIN).await {
                Ok(()) => self.claims = Claims::default(),
                Err(error) => {
                    if let ClaimError::Token(error) = error {
                        self.claims.fail(error);
                    }
                    return Err(error.into());
                }
            }
        }
        loop {
            let live = self.panel.views.served::<Q::View>()?;
            let need = match self.seen {
                Some(seen) => seen.plus(1),
                None => self.from,
            };
            if live.progress().position() < need {
                let arrivals = live.progress().arrivals();
                let arrivals = arrivals
                    .map_err(|halted| QueryError::halted(halted, type_name::<Q::View>()))?;
                // If this wait ends early, the view may have started over, or a candidate may have
                // taken its place.
                let _ = arrivals.after(need.before()).await;
                continue;
            }
            let now = live.now();
            let position = now.position();
            let poisoned = poisoned(&self.query, &now, false)?;
            let value = answer(&self.query, now.state())?;
            drop(now);
            let standstill = live.progress().standstill();
            self.seen = Some(position);
            if self.last.as_ref() != Some(&value) {
                self.last = Some(value.clone());
                return Ok(Answer { poisoned, ..Answer::live(value, position, standstill) });
            }
        }
    }
}

impl<Q: Query> fmt::Debug for Watch<Q> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("seen", &self.seen).finish_non_exhaustive()
    }
}
