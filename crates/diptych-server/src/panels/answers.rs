//! Answers about the past. Equal questions about an equal part of the log are computed once, and
//! the last answers are kept.

use std::{
    collections::HashMap,
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, Weak},
};

use axum::{body::Bytes, http::HeaderValue};
use diptych::{Position, Timestamp, store::Digest};
use futures_util::{
    FutureExt,
    future::{Shared, WeakShared},
};
use lru::LruCache;
use parking_lot::Mutex;

use crate::door::{metrics::record_past_answer, problem::Problem};

/// An answer about the past: a text, and its place in the log.
#[derive(Debug)]
pub(crate) struct PastAnswer {
    /// JSON.
    pub(crate) body: Bytes,
    pub(crate) position: Position,
    /// The token of the position.
    pub(crate) token: String,
    /// The number of events read for the answer.
    pub(crate) events: u64,
    /// The place at which the next part of an explanation begins.
    pub(crate) next: Option<Position>,
}

type PastResult = Result<Arc<PastAnswer>, Problem>;
type Computation = Shared<Pin<Box<dyn Future<Output = PastResult> + Send>>>;
type WeakComputation = WeakShared<Pin<Box<dyn Future<Output = PastResult> + Send>>>;

/// A question about a part of the log, as a key: equal for equal questions only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct QuestionKey(Digest);

impl QuestionKey {
    /// A question with this digest of its query and arguments, for an answer, or for an explanation
    /// of at most this many events after a position.
    pub(crate) fn new(
        explained: Option<(usize, Option<Position>)>,
        query: Digest,
        upto: Position,
        occurred_before: Option<Timestamp>,
    ) -> QuestionKey {
        let occurred_before = occurred_before.map(Timestamp::as_micros);
        let text = format!("{query} {explained:?} {upto} {occurred_before:?}");
        QuestionKey(Digest::of(text.as_bytes()))
    }
}

/// The answers that are being computed, and the last ones.
pub(crate) struct PastAnswers {
    /// Maximum total size of the kept answers.
    most_bytes: usize,
    state: Mutex<AnswerTable>,
}

struct AnswerTable {
    kept: LruCache<QuestionKey, Arc<PastAnswer>>,
    /// Total size of the kept answers.
    bytes: usize,
    /// They are dropped, and so cancelled, when their last caller goes away.
    computing: HashMap<QuestionKey, WeakComputation>,
}

/// An answer of this size with its entry in the table.
const fn cost_of(bytes: usize) -> usize {
    const ENTRY: usize = 256;
    bytes + ENTRY
}

impl PastAnswers {
    /// Keeps answers of at most this total size.
    pub(crate) fn new(most_bytes: usize) -> Arc<PastAnswers> {
        let kept = LruCache::unbounded();
        let state = Mutex::new(AnswerTable { kept, bytes: 0, computing: HashMap::new() });
        Arc::new(PastAnswers { most_bytes, state })
    }

    /// The answer to this question. If it is neither kept nor being computed, `compute` makes it.
    /// All callers of one computation get its problem if it fails; later callers compute again.
    pub(crate) async fn answer(
        self: &Arc<Self>,
        question: QuestionKey,
        compute: impl Future<Output = Result<PastAnswer, Problem>> + Send + 'static,
    ) -> PastResult {
        let computation = {
            let mut table = self.state.lock();
            if let Some(kept) = table.kept.get(&question) {
                record_past_answer("kept");
                return Ok(kept.clone());
            }
            match table.computing.get(&question).and_then(WeakShared::upgrade) {
                Some(other) => {
                    record_past_answer("shared");
                    other
                }
                None => {
                    record_past_answer("computed");
                    let own = computation(Arc::downgrade(self), question, compute);
                    table.computing.retain(|_, other| other.upgrade().is_some());
                    if let Some(weak) = own.downgrade() {
                        table.computing.insert(question, weak);
                    }
                    own
                }
            }
        };
        computation.await
    }

    fn ended(&self, question: QuestionKey, answer: &PastResult) {
        let mut table = self.state.lock();
        table.computing.remove(&question);
        let Ok(answer) = answer else { return };
        let cost = cost_of(answer.body.len());
        // One answer must not drive out all others.
        if cost > self.most_bytes / 4 {
            return;
        }
        if let Some((_, old)) = table.kept.push(question, answer.clone()) {
            table.bytes -= cost_of(old.body.len());
        }
        table.bytes += cost;
        while table.bytes > self.most_bytes {
            let Some((_, old)) = table.kept.pop_lru() else { return };
            table.bytes -= cost_of(old.body.len());
        }
    }
}

fn computation(
    answers: Weak<PastAnswers>,
    question: QuestionKey,
    compute: impl Future<Output = Result<PastAnswer, Problem>> + Send + 'static,
) -> Computation {
    let computed = async move {
        let answer = compute.await.map(Arc::new);
        if let Some(answers) = answers.upgrade() {
            answers.ended(question, &answer);
        }
        answer
    };
    computed.boxed().shared()
}

impl fmt::Debug for PastAnswers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PastAnswers").field("most_bytes", &self.most_bytes).finish_non_exhaustive()
    }
}

/// The value of the header `ETag` for this text. It is weak, because answers are compressed on
/// their way.
pub(crate) fn entity_tag(body: &[u8]) -> Option<HeaderValue> {
    HeaderValue::from_str(&format!("W/\"{}\"", Digest::of(body))).ok()
}

#[cfg(test)]
mod tests {
    use std::{
        future::pending,
        sync::atomic::{AtomicUsize, Ordering},
        task::{Context, Waker},
    };

    use futures_util::future::join;

    use super::*;
    use crate::door::code::Code;

    fn question(name: &str) -> QuestionKey {
        QuestionKey(Digest::of(name.as_bytes()))
    }

    fn answer(bytes: usize) -> PastAnswer {
        let body = vec![b'1'; bytes].into();
        PastAnswer { body, position: Position::START, token: String::new(), events: 0, next: None }
    }

    /// Answers a question, and counts how often it was computed.
    async fn asked(answers: &Arc<PastAnswers>, name: &str, bytes: usize) -> usize {
        let computed = Arc::new(AtomicUsize::new(0));
        let counter = computed.clone();
        let compute = async move {
            counter.fetch_add(1, Ordering::Relaxed);
            Ok(answer(bytes))
        };
        let answer = answers.answer(question(name), compute).await.unwrap();
        assert_eq!(answer.body.len(), bytes);
        computed.load(Ordering::Relaxed)
    }

    #[tokio::test]
    async fn an_answer_is_kept_until_others_need_its_place() {
        let answers = PastAnswers::new(4 * cost_of(100));
        assert_eq!(asked(&answers, "a", 100).await, 1);
        assert_eq!(asked(&answers, "a", 100).await, 0);
        for other in ["b", "c", "d"] {
            assert_eq!(asked(&answers, other, 100).await, 1);
        }
        assert_eq!(asked(&answers, "a", 100).await, 0, "it is the one used last");
        assert_eq!(asked(&answers, "e", 100).await, 1);
        assert_eq!(asked(&answers, "a", 100).await, 0);
        assert_eq!(asked(&answers, "b", 100).await, 1);
        assert!(answers.state.lock().bytes <= answers.most_bytes);
    }

    #[tokio::test]
    async fn a_large_answer_drives_out_no_others() {
        let answers = PastAnswers::new(4 * cost_of(100));
        assert_eq!(asked(&answers, "a", 100).await, 1);
        assert_eq!(asked(&answers, "large", 101).await, 1);
        assert_eq!(asked(&answers, "large", 101).await, 1);
        assert_eq!(asked(&answers, "a", 100).await, 0);
        let none = PastAnswers::new(0);
        assert_eq!(asked(&none, "a", 0).await, 1);
        assert_eq!(asked(&none, "a", 0).await, 1);
        assert_eq!(none.state.lock().bytes, 0);
    }

    #[tokio::test]
    async fn callers_share_a_computation_and_its_problem_is_not_kept() {
        let answers = PastAnswers::new(1_000_000);
        let (open, opened) = tokio::sync::oneshot::channel::<()>();
        let first = answers.answer(question("a"), async {
            opened.await.unwrap();
            Err(Problem::later(Code::Busy, "later"))
        });
        let second = answers.answer(question("a"), async { panic!("it is computed already") });
        let opening = async { open.send(()).unwrap() };
        let (both, ()) = join(join(first, second), opening).await;
        assert_eq!(both.0.unwrap_err(), both.1.unwrap_err());
        assert_eq!(asked(&answers, "a", 1).await, 1);
    }

    #[tokio::test]
    async fn a_computation_ends_with_its_last_caller() {
        let answers = PastAnswers::new(1_000_000);
        let alive = Arc::new(());
        let held = alive.clone();
        let endless = async move {
            let _held = held;
            pending::<()>().await;
            Ok(answer(0))
        };
        let mut context = Context::from_waker(Waker::noop());
        let mut first = Box::pin(answers.answer(question("a"), endless));
        assert!(first.as_mut().poll(&mut context).is_pending());
        let mut second = Box::pin(answers.answer(question("a"), pending()));
        assert!(second.as_mut().poll(&mut context).is_pending());
        drop(first);
        assert_eq!(Arc::strong_count(&alive), 2, "the second caller waits for it");
        drop(second);
        assert_eq!(Arc::strong_count(&alive), 1);
        assert_eq!(asked(&answers, "a", 1).await, 1);
    }

    #[test]
    fn questions_differ_in_each_part() {
        let key = |explained, query: &str, upto, occurred_before: Option<i64>| {
            let occurred_before = occurred_before.map(Timestamp::from_micros);
            let query = Digest::of(query.as_bytes());
            QuestionKey::new(explained, query, Position::new(upto), occurred_before)
        };
        let all = [
            key(None, "a", 1, None),
            key(None, "b", 1, None),
            key(None, "a", 2, None),
            key(None, "a", 1, Some(1)),
            key(Some((1, None)), "a", 1, None),
            key(Some((2, Some(Position::START))), "a", 1, None),
            key(Some((2, None)), "a", 1, None),
        ];
        let different: std::collections::HashSet<_> = all.iter().collect();
        assert_eq!(different.len(), all.len());
        assert_eq!(key(Some((2, None)), "a", 1, None), all[6]);
    }
}
