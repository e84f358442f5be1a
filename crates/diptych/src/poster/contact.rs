//! When the source of a poster was heard, and what it had then.

use std::{collections::VecDeque, time::Duration};

use diptych_store::{Position, ReadError, Store, Timestamp, Unavailable};
use parking_lot::Mutex;
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};

use super::PosterOptions;

/// The confirmed ends that are remembered. A view that is further behind than the oldest one has an
/// age of at least that one.
const REMEMBERED_ENDS: usize = 256;
/// The time after which a question without an answer is looked at: the connection may be lost.
const NOTICE: Duration = Duration::from_millis(500);

/// When a poster heard its source.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SourceContact {
    /// The time since the source last answered.
    pub silence: Duration,
    /// When the source last answered, by the clock of this machine.
    pub heard: Timestamp,
    /// Set while the source is away.
    pub absence: Option<SourceAbsence>,
}

/// A source that does not answer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SourceAbsence {
    /// When it was noticed, by the clock of this machine.
    pub since: Timestamp,
    /// The failure that was noticed first.
    pub reason: String,
}

/// The ends and the silences of the source, as far as they were noticed.
pub(crate) struct Contact {
    state: Mutex<ContactState>,
    is_away: watch::Sender<bool>,
}

struct ContactState {
    /// Ends of the source, each with the last time at which it was the end. Oldest first.
    ends: VecDeque<(Position, Instant)>,
    heard: (Timestamp, Instant),
    absence: Option<SourceAbsence>,
}

impl Contact {
    pub(crate) fn new() -> Contact {
        let state = ContactState {
            ends: VecDeque::new(),
            heard: (Timestamp::now(), Instant::now()),
            absence: None,
        };
        Contact { state: Mutex::new(state), is_away: watch::Sender::new(false) }
    }

    pub(crate) fn now(&self) -> SourceContact {
        let state = self.state.lock();
        let (heard, at) = state.heard;
        SourceContact { silence: at.elapsed(), heard, absence: state.absence.clone() }
    }

    pub(crate) fn age(&self, position: Position) -> Duration {
        let state = self.state.lock();
        let mut ends = state.ends.iter().rev();
        let known = ends.find(|(end, _)| *end <= position).or_else(|| state.ends.front());
        known.map_or(state.heard.1, |(_, at)| *at).elapsed()
    }

    /// Waits until the source is away or back.
    pub(crate) async fn changed(&self, is_away: bool) {
        let mut news = self.is_away.subscribe();
        // The sender lives as long as this value.
        let _ = news.wait_for(|now| *now != is_away).await;
    }

    /// The source had this end when it was asked.
    fn confirm(&self, end: Position, asked: (Timestamp, Instant)) {
        let mut state = self.state.lock();
        state.heard = asked;
        if let Some(absence) = state.absence.take() {
            tracing::info!(since = %absence.since, "the source of the poster is back");
        }
        match state.ends.back_mut() {
            Some((last, at)) if *last == end => *at = asked.1,
            _ => state.ends.push_back((end, asked.1)),
        }
        if state.ends.len() > REMEMBERED_ENDS {
            state.ends.pop_front();
        }
        drop(state);
        self.is_away.send_if_modified(|is_away| std::mem::replace(is_away, false));
    }

    /// The source has no answer. The first reason is kept, unless the log has another history
    /// now: no wait ends that.
    fn miss(&self, reason: &str, has_changed: bool) {
        let mut state = self.state.lock();
        if let Some(absence) = state.absence.as_mut().filter(|_| has_changed) {
            reason.clone_into(&mut absence.reason);
        }
        if state.absence.is_none() {
            tracing::warn!(reason, "the source of the poster is away");
            let (since, reason) = (Timestamp::now(), reason.to_owned());
            state.absence = Some(SourceAbsence { since, reason });
        }
        drop(state);
        self.is_away.send_if_modified(|is_away| !std::mem::replace(is_away, true));
    }
}

/// Asks the source for its end, again and again.
pub(crate) async fn listen(store: Store, contact: std::sync::Arc<Contact>, options: PosterOptions) {
    loop {
        // Ten posters of one source do not ask at the same time.
        let interval = options.ask_interval.mul_f64(0.75 + fastrand::f64() / 2.0);
        sleep(interval).await;
        // The failure is noted, and the next question follows.
        let _ = ask(&store, &contact, &options).await;
    }
}

/// Asks the source once.
pub(crate) async fn ask(
    store: &Store,
    contact: &Contact,
    options: &PosterOptions,
) -> Result<(), ReadError> {
    let asked = (Timestamp::now(), Instant::now());
    let mut answer = std::pin::pin!(store.known_head());
    let answer = match timeout(NOTICE.min(options.quiet_time), &mut answer).await {
        Ok(answer) => answer,
        Err(_) => {
            if let Some(Unavailable::Backend(cause)) = store.head().paused() {
                contact.miss(&cause.to_string(), false);
            }
            match timeout(options.quiet_time, answer).await {
                Ok(answer) => answer,
                Err(_) => {
                    let reason = format!("no answer for {} ms", options.quiet_time.as_millis());
                    contact.miss(&reason, false);
                    return Err(Unavailable::Server { what: reason.into() }.into());
                }
            }
        }
    };
    match answer {
        Ok(end) => {
            contact.confirm(end, asked);
            Ok(())
        }
        Err(error) => {
            let has_changed =
                matches!(error, ReadError::Unavailable(Unavailable::HistoryChanged(_)));
            contact.miss(&error.to_string(), has_changed);
            Err(error)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn confirmed(contact: &Contact, end: u64) {
        contact.confirm(Position::new(end), (Timestamp::now(), Instant::now()));
    }

    #[tokio::test(start_paused = true)]
    async fn the_age_of_an_answer_is_that_of_the_newest_end_that_it_has() {
        let contact = Contact::new();
        confirmed(&contact, 5);
        tokio::time::advance(Duration::from_secs(3)).await;
        confirmed(&contact, 5);
        tokio::time::advance(Duration::from_secs(1)).await;
        confirmed(&contact, 8);
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(contact.age(Position::new(9)), Duration::from_secs(2));
        assert_eq!(contact.age(Position::new(7)), Duration::from_secs(3));
        // From before all that is remembered: at least the oldest age.
        assert_eq!(contact.age(Position::new(4)), Duration::from_secs(3));
    }

    #[tokio::test(start_paused = true)]
    async fn an_absence_has_its_first_reason_and_ends_with_the_next_answer() {
        let contact = Contact::new();
        contact.miss("the first", false);
        contact.miss("the second", false);
        contact.changed(false).await;
        assert_eq!(contact.now().absence.unwrap().reason, "the first");
        contact.miss("another history", true);
        assert_eq!(contact.now().absence.unwrap().reason, "another history");
        confirmed(&contact, 1);
        contact.changed(true).await;
        assert_eq!(contact.now().absence, None);
    }
}
