//! Live answers. Clients that watch equal queries share one watch, so each answer is computed and
//! written as JSON once for all clients.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
    time::Duration,
};

use diptych::{App, Position, QueryError, store::Digest};
use futures_util::StreamExt;
use parking_lot::Mutex;
use tokio::{
    sync::watch,
    task::AbortHandle,
    time::{Instant, sleep_until, timeout},
};

use crate::{
    door::problem::Problem,
    panels::entries::query::{BeginWatch, LiveAnswer, LiveAnswers},
};

/// Time before a watch with a problem tries again.
const TROUBLE_INTERVAL: Duration = Duration::from_secs(1);

/// The running watches of a server.
#[derive(Default)]
pub(crate) struct LiveQueries(Mutex<HashMap<Digest, Weak<SharedWatch>>>);

/// A watch that several clients share. It ends with the last client.
struct SharedWatch {
    latest: watch::Receiver<Option<LiveNews>>,
    wanted: watch::Sender<WatchDemand>,
    task: AbortHandle,
}

/// The needs of the clients.
#[derive(Clone, Copy, Debug, Default)]
struct WatchDemand {
    /// The number of clients that came. Each gets an answer that was made after it came.
    clients: u64,
    /// The highest position that one of them has seen.
    position: Position,
}

/// The latest outcome of a watch.
#[derive(Clone)]
pub(crate) enum LiveNews {
    Answer(Arc<SentAnswer>),
    Trouble(Arc<SentTrouble>),
}

/// A live answer with its texts.
pub(crate) struct SentAnswer {
    pub(crate) answer: LiveAnswer,
    /// The token of the position; `None` if the log could not be read.
    pub(crate) token: Option<String>,
    /// The number of clients that had come.
    clients: u64,
}

/// The reason why there is no answer.
pub(crate) struct SentTrouble {
    pub(crate) error: QueryError,
    clients: u64,
}

/// The changed answers of a query for one client.
pub(crate) struct LiveFeed {
    _shared: Arc<SharedWatch>,
    latest: watch::Receiver<Option<LiveNews>>,
    /// The number of this client.
    client: u64,
    /// The highest position that the client has seen.
    seen: Position,
    sent: Option<LiveNews>,
}

impl LiveQueries {
    /// The answers to the query and arguments with this digest, from this position on. If no other
    /// client watches them, `begin` begins the watch. Between two changed answers is at least
    /// `interval`.
    pub(crate) fn feed(
        &self,
        app: &App,
        query: Digest,
        seen: Position,
        interval: Duration,
        begin: BeginWatch,
    ) -> LiveFeed {
        let mut watches = self.0.lock();
        let shared = watches.get(&query).and_then(Weak::upgrade).unwrap_or_else(|| {
            watches.retain(|_, watch| watch.strong_count() > 0);
            let shared = Arc::new(SharedWatch::new(app.clone(), interval, begin));
            watches.insert(query, Arc::downgrade(&shared));
            shared
        });
        drop(watches);
        let mut client = 0;
        shared.wanted.send_modify(|wanted| {
            wanted.clients += 1;
            wanted.position = wanted.position.max(seen);
            client = wanted.clients;
        });
        LiveFeed { latest: shared.latest.clone(), _shared: shared, client, seen, sent: None }
    }
}

impl SharedWatch {
    fn new(app: App, interval: Duration, begin: BeginWatch) -> SharedWatch {
        let (publish, latest) = watch::channel(None);
        let (wanted, asked) = watch::channel(WatchDemand::default());
        let last = Position::START;
        let running = RunningWatch { app, begin, interval, asked, last, publish };
        let task = tokio::spawn(running.run()).abort_handle();
        SharedWatch { latest, wanted, task }
    }
}

impl Drop for SharedWatch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The task of a shared watch.
struct RunningWatch {
    app: App,
    begin: BeginWatch,
    interval: Duration,
    asked: watch::Receiver<WatchDemand>,
    /// The highest position of an answer so far.
    last: Position,
    publish: watch::Sender<Option<LiveNews>>,
}

impl RunningWatch {
    async fn run(mut self) {
        loop {
            match self.round().await {
                Ok(true) => {}
                Ok(false) => return,
                Err(problem) => {
                    tracing::error!(?problem, "a live query that was read before is refused");
                    return;
                }
            }
        }
    }

    /// Watches until another client comes, or until there was trouble. Returns whether the watch
    /// goes on.
    async fn round(&mut self) -> Result<bool, Problem> {
        let WatchDemand { clients, position } = *self.asked.borrow_and_update();
        // A view that is built again is behind the clients, who never go back. The changed answers
        // begin where they are. Meanwhile a new client has the present answer.
        let mut changed = (self.begin)(self.last)?;
        let (mut present, mut is_new) = ((self.begin)(Position::START)?, true);
        // A client that was ahead gets an answer once the view is there, also if nothing changed.
        let (mut caught_up, mut is_behind) = ((self.begin)(position)?, position > self.last);
        let mut due = None;
        loop {
            let next = tokio::select! {
                biased;
                asked = self.asked.changed() => return Ok(asked.is_ok()),
                next = later(due, &mut changed) => next,
                next = present.next(), if is_new => next,
                next = caught_up.next(), if is_behind => next,
            };
            is_new = false;
            let news = match next {
                Some(Ok(answer)) => {
                    self.last = self.last.max(answer.position);
                    is_behind &= answer.position < position;
                    let token = self.token(answer.position).await;
                    LiveNews::Answer(Arc::new(SentAnswer { answer, token, clients }))
                }
                Some(Err(error)) => LiveNews::Trouble(Arc::new(SentTrouble { error, clients })),
                None => return Ok(false),
            };
            let is_trouble = matches!(news, LiveNews::Trouble(_));
            self.publish.send_replace(Some(news));
            if is_trouble {
                // The next round sends the answer as soon as the trouble is over.
                let _ = timeout(TROUBLE_INTERVAL, self.asked.changed()).await;
                self.asked.mark_changed();
                return Ok(self.asked.has_changed().is_ok());
            }
            due = Some(Instant::now() + self.interval);
        }
    }

    async fn token(&self, position: Position) -> Option<String> {
        match self.app.token_at(position).await {
            Ok(token) => Some(token.to_string()),
            Err(error) => {
                tracing::warn!(%error, "a live answer has no token");
                None
            }
        }
    }
}

/// The next answer, not before this instant.
async fn later(
    due: Option<Instant>,
    answers: &mut LiveAnswers,
) -> Option<Result<LiveAnswer, QueryError>> {
    if let Some(due) = due {
        sleep_until(due).await;
    }
    answers.next().await
}

impl LiveFeed {
    /// The next answer that differs from the one before, or the next trouble. `None` after the end
    /// of the watch.
    pub(crate) async fn next(&mut self) -> Option<LiveNews> {
        loop {
            let news = self.latest.borrow_and_update().clone();
            if let Some(news) = news.filter(|news| self.is_new(news)) {
                if let LiveNews::Answer(sent) = &news {
                    self.seen = sent.answer.position;
                }
                self.sent = Some(news.clone());
                return Some(news);
            }
            self.latest.changed().await.ok()?;
        }
    }

    fn is_new(&self, news: &LiveNews) -> bool {
        match (news, &self.sent) {
            (LiveNews::Answer(next), Some(LiveNews::Answer(sent))) => {
                next.answer.position > self.seen && next.answer.json != sent.answer.json
            }
            (LiveNews::Answer(next), _) => {
                next.clients >= self.client && next.answer.position >= self.seen
            }
            (LiveNews::Trouble(next), Some(LiveNews::Trouble(sent))) => next.error != sent.error,
            (LiveNews::Trouble(next), _) => next.clients >= self.client,
        }
    }
}

#[cfg(test)]
mod tests {
    use diptych::Memory;
    use futures_util::stream;

    use super::*;

    /// A view at a position, with the answer that it gives.
    type View = watch::Sender<(u64, &'static str)>;

    /// Watches the view as the app does: waits for a position, and then for changed answers.
    fn begin(view: &View) -> BeginWatch {
        let view = view.clone();
        Box::new(move |from| {
            let begun = (view.subscribe(), from.get(), None);
            let answers = stream::unfold(begun, |(mut view, need, last)| async move {
                let is_next = |now: &(u64, &'static str)| now.0 >= need && Some(now.1) != last;
                let (at, json) = *view.wait_for(is_next).await.ok()?;
                let position = Position::new(at);
                let answer = LiveAnswer { position, json: json.to_owned(), standstill: None };
                Some((Ok(answer), (view, at + 1, Some(json))))
            });
            Ok(answers.boxed())
        })
    }

    async fn next(feed: &mut LiveFeed) -> (u64, String) {
        let next = timeout(Duration::from_secs(30), feed.next()).await.unwrap().unwrap();
        let LiveNews::Answer(sent) = next else { panic!("there is no trouble") };
        (sent.answer.position.get(), sent.answer.json.clone())
    }

    /// A view that is built again begins at the start, and may jump over the last position. Clients
    /// do not go back, and must not miss the answer behind that.
    #[tokio::test]
    async fn a_client_gets_the_answer_of_a_view_that_was_built_again() {
        let app = App::over(Memory::new()).start().await.unwrap();
        let (live, view) = (LiveQueries::default(), View::new((5, "old")));
        let feed = |seen| {
            let query = Digest::default();
            live.feed(&app, query, Position::new(seen), Duration::ZERO, begin(&view))
        };
        let mut first = feed(0);
        assert_eq!(next(&mut first).await, (5, "old".to_owned()));
        view.send_replace((2, "early"));
        let mut second = feed(0);
        assert_eq!(next(&mut second).await, (2, "early".to_owned()));
        view.send_replace((4, "new"));
        let mut third = feed(0);
        assert_eq!(next(&mut third).await, (4, "new".to_owned()));
        view.send_replace((6, "new"));
        assert_eq!(next(&mut first).await, (6, "new".to_owned()));
        // A client that was ahead gets an answer that others have already.
        let mut ahead = feed(8);
        view.send_replace((9, "new"));
        assert_eq!(next(&mut ahead).await, (9, "new".to_owned()));
    }
}
