//! A client: it asks its store one question after another, and records each with its answer.

use std::{
    future::Future,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
    thread,
    time::{Duration, Instant},
};

use super::{
    answer::{Answer, CommitRecord, KeyedRecord, Receipt, RefusalRecord, Sighting},
    line::Question,
    record::{AppendRecord, ReadRecord},
    recorder::{Clock, Notes, Recorder},
    workload::{Mix, Questions},
};
use crate::{
    append::AcceptedCommit,
    batch::{Batch, Direction, Read},
    commits::ReadCommits,
    error::{AppendError, ReadError, SubscribeError},
    position::Position,
    store::Store,
    subscribe::{Delivery, SubscribeOptions, Subscription},
    tag::Tag,
    testing::probe::Unpark,
};

/// How long a client waits for something that need not happen: the next event, or a later head.
const SHORT: Duration = Duration::from_millis(3);
/// How long a client waits for an answer after the store was killed.
const AFTER_KILL: Duration = Duration::from_secs(5);
/// How often a waiting client looks whether the store was killed.
const LOOK: Duration = Duration::from_millis(20);

/// The settings of the clients of a round. Clones belong to one round.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// The calls of each client follow from the seed.
    pub seed: u64,
    /// How often clients make each kind of call.
    pub mix: Mix,
    /// The longest wait for an answer. A store that needs longer is a failure.
    pub patience: Duration,
    /// Set once the store was killed. Clients then stop.
    pub killed: Arc<AtomicBool>,
}

impl ClientOptions {
    /// The default settings with this seed.
    pub fn new(seed: u64) -> ClientOptions {
        ClientOptions {
            seed,
            mix: Mix::default(),
            patience: Duration::from_secs(60),
            killed: Arc::default(),
        }
    }
}

/// A client with its handle.
#[derive(Debug)]
pub struct Client {
    store: Store,
    notes: Notes,
    options: ClientOptions,
    questions: Questions,
    subscription: Option<Subscription>,
    /// The highest position that an answer showed.
    known: u64,
}

impl Client {
    /// The client with this number in this round. It records its first call, which shows the
    /// identity and the head of its handle.
    pub fn new(
        store: Store,
        recorder: &Recorder,
        (round, number): (u64, u64),
        options: &ClientOptions,
    ) -> Client {
        let seed = options.seed ^ (round << 32) ^ (number << 48);
        let mut client = Client {
            store,
            notes: recorder.client(round, number),
            options: options.clone(),
            questions: Questions::new(seed, options.mix),
            subscription: None,
            known: 0,
        };
        client.ask(Question::Connect);
        client
    }

    /// Asks this number of random questions, or fewer if the store is killed or gone.
    ///
    /// # Panics
    /// Panics if there is no answer in the longest time.
    pub fn run(&mut self, questions: u64) {
        for _ in 0..questions {
            let call = self.notes.next_call();
            let question = self.questions.next(call, self.known);
            let answer = self.ask(question);
            let is_gone =
                matches!(answer, None | Some(Answer::Unavailable { .. } | Answer::Unknown { .. }));
            if is_gone || self.options.killed.load(Ordering::Relaxed) {
                return;
            }
        }
    }

    /// Asks this question, and records it with its answer. There is none if the store was killed.
    ///
    /// # Panics
    /// Panics if there is no answer in the longest time.
    pub fn ask(&mut self, question: Question) -> Option<Answer> {
        let call = self.notes.invoke(question.clone());
        let clock = self.notes.clock().clone();
        let waits = Waits { killed: &self.options.killed, patience: self.options.patience };
        let (store, subscription) = (&self.store, &mut self.subscription);
        let answer = waits.bounded(&question, answer(store, subscription, &clock, &question))?;
        self.learn(&question, &answer);
        self.notes.complete(call, answer.clone());
        Some(answer)
    }

    fn learn(&mut self, question: &Question, answer: &Answer) {
        let is_backwards = matches!(question, Question::Read(ReadRecord { backwards: true, .. }));
        let seen = match answer {
            Answer::Connected { head, .. } => *head,
            Answer::Committed(receipt) => receipt.last,
            Answer::CaughtUp { upto } => *upto,
            // The end of a backward read says nothing about the head.
            Answer::Events { upto, .. } if !is_backwards => *upto,
            Answer::Position(position) => position.unwrap_or_default(),
            Answer::Refused(RefusalRecord::Conflict { at, .. }) => *at,
            _ => 0,
        };
        self.known = self.known.max(seen);
        match (question, answer) {
            (_, Answer::Commits { upto, .. }) => self.questions.learn_commit_end(*upto),
            (Question::Tracked { source }, Answer::Tracked(Some(position))) => {
                self.questions.learn_tracking(source, *position);
            }
            (
                Question::Append(AppendRecord { tracking: Some(given), .. }),
                Answer::Refused(RefusalRecord::AlreadyTracked { tracked, .. }),
            ) => self.questions.learn_tracking(&given.source, *tracked),
            (
                Question::Append(AppendRecord { tracking: Some(given), .. }),
                Answer::Committed(_),
            ) => self.questions.learn_tracking(&given.source, given.position),
            _ => {}
        }
    }
}

async fn answer(
    store: &Store,
    subscription: &mut Option<Subscription>,
    clock: &Clock,
    question: &Question,
) -> Answer {
    let position = |found: Option<Position>| Answer::Position(found.map(Position::get));
    let reply = match question {
        Question::Connect => return connected(store),
        Question::Append(append) => return append_and_sync(store, clock, append).await,
        Question::Read(read) => read_one(store, read).await.map(|batch| events(&batch)),
        Question::Commits { after, limit } => {
            let read = ReadCommits::after((*after).into()).limit_events(*limit as usize);
            store.commits(read).await.map(|batch| Answer::Commits {
                commits: batch.iter().map(|commit| CommitRecord::of(&commit)).collect(),
                upto: batch.upto().get(),
            })
        }
        Question::Head => return position(Some(store.head().position())),
        Question::HeadAfter { after } => {
            let wait = store.head().after((*after).into());
            match or_nothing(wait).await {
                None => return Answer::Nothing,
                Some(reached) => reached.map(|at| position(Some(at))).map_err(ReadError::from),
            }
        }
        Question::FreshHead => store.fresh_head().await.map(|at| position(Some(at))),
        Question::Last { filter, upto } => store.last(filter, (*upto).into()).await.map(position),
        Question::Count { tag, upto } => {
            store.count(&Tag::stored(tag), (*upto).into()).await.map(Answer::Count)
        }
        Question::Keyed { key } => store.keyed(key).await.map(|found| {
            Answer::Keyed(found.map(|commit| KeyedRecord {
                first: commit.first.get(),
                last: commit.last.get(),
                digest: commit.digest.to_string(),
            }))
        }),
        Question::Tracked { source } => {
            let tracked = store.tracked(source).await;
            tracked.map(|found| Answer::Tracked(found.map(|stored| stored.position.get())))
        }
        Question::Subscribe { filter, after } => {
            let options = SubscribeOptions { batch_events: 5, behind_events: 40 };
            *subscription = Some(store.subscribe(filter.clone(), (*after).into(), options));
            return Answer::Noted;
        }
        Question::Next => match subscription {
            Some(subscription) => deliver(subscription).await,
            None => return Answer::Nothing,
        },
    };
    reply.unwrap_or_else(failed)
}

fn connected(store: &Store) -> Answer {
    let identity = store.identity();
    Answer::Connected {
        log: identity.id.to_string(),
        epoch: identity.epoch.to_u64(),
        head: store.head().position().get(),
        other_writers: store.has_other_writers(),
    }
}

async fn append_and_sync(store: &Store, clock: &Clock, append: &AppendRecord) -> Answer {
    let accepted = match store.append(append.to_append()).await {
        Ok(accepted) => accepted,
        Err(AppendError::Refused(refusal)) => return Answer::Refused(RefusalRecord::of(&refusal)),
        Err(AppendError::Unavailable(error)) => {
            return Answer::Unavailable { error: error.to_string() };
        }
        Err(AppendError::OutcomeUnknown(error)) => {
            return Answer::Unknown { accepted: None, error: error.to_string() };
        }
        Err(error) => return Answer::Failed { error: error.to_string() },
    };
    let AcceptedCommit { first, last, recorded_at, .. } = &accepted;
    let receipt = Receipt {
        first: first.get(),
        last: last.get(),
        recorded_at: recorded_at.as_micros(),
        accepted: clock.now(),
    };
    match accepted.synced().await {
        Ok(_) => Answer::Committed(receipt),
        Err(error) => Answer::Unknown { accepted: Some(receipt), error: error.to_string() },
    }
}

async fn read_one(store: &Store, read: &ReadRecord) -> Result<Batch, ReadError> {
    let ReadRecord { filter, after, upto, backwards, limit } = read;
    let request = Read {
        after: (*after).into(),
        upto: (*upto).into(),
        direction: if *backwards { Direction::Backwards } else { Direction::Forwards },
        limit: *limit as usize,
        takes_replica: false,
    };
    store.read(filter, request).await
}

fn events(batch: &Batch) -> Answer {
    let events = batch.iter().map(|event| Sighting::of(&event)).collect();
    Answer::Events { events, upto: batch.upto().get() }
}

async fn deliver(subscription: &mut Subscription) -> Result<Answer, ReadError> {
    match or_nothing(pin!(subscription.next())).await {
        None => Ok(Answer::Nothing),
        Some(Ok(Delivery::Batch(batch))) => Ok(events(&batch)),
        Some(Ok(Delivery::CaughtUp { upto })) => Ok(Answer::CaughtUp { upto: upto.get() }),
        Some(Ok(Delivery::FellBehind { .. })) => Ok(Answer::Noted),
        Some(Err(SubscribeError::Read { cause, .. })) => Err(cause),
        Some(Err(SubscribeError::Ended { cause, .. })) => Err(cause.into()),
    }
}

fn failed(error: ReadError) -> Answer {
    match error {
        ReadError::Unavailable(error) => Answer::Unavailable { error: error.to_string() },
        error => Answer::Failed { error: error.to_string() },
    }
}

/// Waits a short time for the future, and drops it then.
async fn or_nothing<F: Future + Unpin>(mut future: F) -> Option<F::Output> {
    let deadline = Instant::now() + SHORT;
    std::future::poll_fn(move |context| match pin!(&mut future).poll(context) {
        Poll::Ready(answer) => Poll::Ready(Some(answer)),
        Poll::Pending if Instant::now() >= deadline => Poll::Ready(None),
        // The client polls again by itself, every few milliseconds.
        Poll::Pending => Poll::Pending,
    })
    .await
}

/// The limits of the waits of a client.
struct Waits<'a> {
    killed: &'a AtomicBool,
    patience: Duration,
}

impl Waits<'_> {
    /// Polls the future until it is ready, or the store was killed and answers no more.
    fn bounded<F: Future>(&self, question: &Question, future: F) -> Option<F::Output> {
        let mut future = pin!(future);
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        let mut context = Context::from_waker(&waker);
        let begun = Instant::now();
        let mut killed = None;
        loop {
            if let Poll::Ready(answer) = future.as_mut().poll(&mut context) {
                return Some(answer);
            }
            if self.killed.load(Ordering::Relaxed) {
                let since = killed.get_or_insert_with(Instant::now);
                if since.elapsed() > AFTER_KILL {
                    return None;
                }
            }
            let patience = self.patience;
            assert!(begun.elapsed() < patience, "no answer in {patience:?} to {question}");
            let is_short = matches!(question, Question::Next | Question::HeadAfter { .. });
            thread::park_timeout(if is_short { SHORT } else { LOOK });
        }
    }
}
