//! The task that follows the head of the log. Other processes send a notification after their
//! commits. That is only a hint: without any, the task asks by itself.

use std::{sync::Arc, time::Duration};

use diptych_store::{Position, ReadError, Unavailable};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep_until, timeout},
};

use crate::{
    failure::{Fault, Pauses, no_answer},
    history::History,
    link::Link,
    reads,
    schema::stored_position,
    session::Session,
};

/// The shortest and the longest time between two questions without a hint.
const POLL: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(2));
/// The shortest time between two notifications. The database sends them one after another, and more
/// would delay other commits.
const BETWEEN_HINTS: Duration = Duration::from_millis(10);
/// The time to the next question after one that found new events. More events often follow at once,
/// and the notification about them waits for [`BETWEEN_HINTS`].
const AFTER_NEWS: Duration = Duration::from_millis(3);

const NOTIFY: &str = "select pg_notify($1, $2)";

/// Follows the head until the store is closed or dropped. `own` has the heads of its own commits.
pub(crate) async fn follow(link: Arc<Link>, mut own: watch::Receiver<Position>) {
    let mut pauses = Pauses::new();
    while link.closed().is_none() {
        let began = Instant::now();
        match follow_once(&link, &mut own).await {
            Ok(()) => return,
            Err(fault) => {
                tracing::debug!(error = %fault.into_read_error(), "the watch connects again");
            }
        }
        if began.elapsed() > POLL.1 {
            pauses = Pauses::new();
        }
        pauses.wait().await;
    }
}

/// The shortest time between two questions to a replica, which sends no notifications.
const REPLICA_POLL: Duration = Duration::from_millis(20);
/// The longest time between two questions to a replica.
const LONGEST_REPLICA_POLL: Duration = Duration::from_millis(250);

/// Follows the head of a replica until the store is closed or dropped.
pub(crate) async fn follow_replica(link: Arc<Link>) {
    let mut pauses = Pauses::new();
    while link.closed().is_none() {
        let fault = match link.connect(None).await {
            Ok(session) => {
                pauses = Pauses::new();
                poll_replica(&link, &session).await
            }
            Err(fault) => fault,
        };
        tracing::debug!(error = %fault.into_read_error(), "the watch connects again");
        pauses.wait().await;
    }
}

/// Asks over one connection until it fails.
async fn poll_replica(link: &Link, session: &Session) -> Fault {
    let mut poll = REPLICA_POLL;
    loop {
        let history = link.history();
        let before = history.head().position();
        match ask(link, session, &history).await {
            Ok(head) if head > before => poll = REPLICA_POLL,
            Ok(_) => poll = (poll * 3 / 2).min(LONGEST_REPLICA_POLL),
            Err(fault) => return fault,
        }
        if link.closed().is_some() {
            return Unavailable::Closed.into();
        }
        tokio::time::sleep(poll).await;
    }
}

/// Follows the head over one connection. It ends without an error when the store is gone.
async fn follow_once(link: &Link, own: &mut watch::Receiver<Position>) -> Result<(), Fault> {
    let (hints, mut hinted) = mpsc::unbounded_channel();
    let session = link.connect(Some(hints)).await?;
    // A notification is no commit that has to last. First listen, then read: so none is missed.
    let channel = channel(&link.history());
    session.execute(&format!("set synchronous_commit = off; listen {channel}")).await?;
    let (mut poll, mut hint_at, mut last_hint) = (POLL.0, None, Instant::now() - BETWEEN_HINTS);
    loop {
        let history = link.history();
        let before = history.head().position();
        let head = ask(link, &session, &history).await?;
        poll = match head > before {
            true => AFTER_NEWS,
            false => (poll * 3 / 2).clamp(POLL.0, POLL.1),
        };
        let next = Instant::now() + poll;
        loop {
            let due = hint_at.unwrap_or(next);
            tokio::select! {
                hint = hinted.recv() => match hint {
                    Some(hint) if is_new(&hint, &history) => break,
                    Some(_) => {}
                    None => return Err(Fault::Connection(no_answer(poll))),
                },
                changed = own.changed() => match changed {
                    Ok(()) => {
                        own.mark_unchanged();
                        hint_at.get_or_insert(last_hint + BETWEEN_HINTS);
                    }
                    Err(_) => return Ok(()),
                },
                () = sleep_until(due), if hint_at.is_some() => {
                    (hint_at, last_hint) = (None, Instant::now());
                    let head = stored_position(*own.borrow()).to_string();
                    session.query(NOTIFY, &[&channel, &head]).await?;
                }
                () = sleep_until(next) => break,
            }
        }
    }
}

/// Asks for the head, and for the event there.
async fn ask(link: &Link, session: &Session, history: &History) -> Result<Position, Fault> {
    let question = async {
        let head = reads::head(session, history).await?;
        if head > history.mark().0 {
            // The read remembers the event.
            reads::checksum(session, history, head).await?;
        }
        Ok(head)
    };
    let answer_time = link.options().answer_time;
    let answer = match timeout(answer_time, question).await {
        Ok(answer) => answer,
        Err(_) => return Err(Fault::Connection(no_answer(answer_time))),
    };
    match answer {
        Err(Fault::Answer(ReadError::Unavailable(Unavailable::HistoryChanged(changed)))) => {
            link.changed(session, changed).await;
            Ok(link.history().head().position())
        }
        answer => answer,
    }
}

/// The channel of the log.
fn channel(history: &History) -> String {
    format!("diptych_{}", history.log)
}

/// Whether the hint names a later position than this handle has seen. One that names none is asked
/// about.
fn is_new(hint: &str, history: &History) -> bool {
    hint.parse::<u64>().map_or(true, |head| head > history.head().position().get())
}
