//! Looks at a log through all its public doors, and compares the answers with each other and with
//! the model: the content that the log had before a file was put into it.

use diptych_log::{
    Follower, Log, OpenError, ReadOnlyLog, VerifyError, disk::simulated::SimulatedDisk, restore,
    verify,
};
use diptych_store::{
    Append, EventStore, Filter, Key, KeyedCommit, Position, RawEvent, Read, ReadCommits, ReadError,
    Tag, Tracking,
};
use pollster::block_on;

use crate::{
    fixture::{self, ARCHIVE, FOLDER},
    observe::note,
};

/// The demands on a log, besides that its answers agree with each other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Demands<'m> {
    /// The events that were acknowledged. Each answer has them, or is an error.
    pub(crate) acknowledged: Option<&'m [RawEvent]>,
    /// The log has no events but those.
    pub(crate) exactly: bool,
    /// The log opens.
    pub(crate) opens: bool,
}

/// Verifies the log, reads it beside a writer, follows it, opens it, appends to it, and opens it
/// again.
pub(crate) fn examine(disk: &SimulatedDisk, demands: Demands<'_>) {
    let verified = verify(FOLDER, &fixture::options(disk), |_, _| {});
    match &verified {
        Ok(report) => note(&format!("verified {}", report.segments)),
        Err(VerifyError::Damaged(damage)) => {
            for place in damage {
                assert!(place.file.starts_with(FOLDER), "{place:?} names no file of the log");
                note(&place.what);
            }
        }
        Err(error) => note(&error.to_string()),
    }
    let in_order = verified.is_ok();
    match ReadOnlyLog::open(FOLDER, fixture::options(disk)) {
        Ok(log) => {
            let seen = Answers::of(&log, in_order);
            seen.check(demands, in_order);
        }
        Err(error) => refused(&error, in_order || demands.opens),
    }
    follow(disk, demands);
    match Log::open(FOLDER, fixture::options(disk)) {
        Ok(log) => {
            let seen = Answers::of(&log, in_order);
            seen.check(demands, in_order);
            go_on(disk, log, in_order);
        }
        Err(error) => refused(&error, in_order || demands.opens),
    }
}

/// An open said no: with the name of a file or folder, and not of a log that is in order.
fn refused(error: &OpenError, must_open: bool) {
    let text = error.to_string();
    note(&text);
    assert!(names_a_file(&text), "{text:?} names no file of the log");
    // Nothing is wrong with such a log; it is only not to be written to here.
    let may_not_be_written = matches!(error, OpenError::Replica { .. } | OpenError::Moved { .. });
    assert!(!must_open || may_not_be_written, "it does not open: {text}");
}

/// Whether the text names a file of the log or of its archive, or one of the folders.
pub(crate) fn names_a_file(text: &str) -> bool {
    text.contains(FOLDER) || text.contains(ARCHIVE)
}

/// Appends an event, closes the log, and opens it again.
fn go_on(disk: &SimulatedDisk, log: Log, in_order: bool) {
    let head = log.head().position();
    let mut append = Append::event(RawEvent::new("appended", "1").tag(Tag::new("account", 3)));
    append.recorded_at = fixture::CONTENT.last().and_then(|append| append.recorded_at);
    match log.blocking().commit(append.clone()) {
        Ok(committed) => {
            assert_eq!(committed.last, head.plus(1), "the position of an appended event");
            let newest = log.blocking().read(&Filter::everything(), Read::after(head));
            let newest = newest.unwrap_or_else(|error| panic!("an appended event: {error}"));
            let newest: Vec<RawEvent> = newest.iter().map(|event| event.to_raw()).collect();
            assert_eq!(newest, append.events, "an appended event");
        }
        Err(error) => {
            note(&error.to_string());
            assert!(!in_order, "a log in order takes no commit: {error}");
            return;
        }
    }
    if let Err(error) = log.close() {
        note(&error.to_string());
        assert!(!in_order, "a log in order is not closed: {error}");
        return;
    }
    let again = Log::open(FOLDER, fixture::options(disk));
    let again = again.unwrap_or_else(|error| panic!("it opened once, and then: {error}"));
    assert_eq!(again.head().position(), head.plus(1), "the end of a log that was opened again");
    drop(again);
    if in_order && let Err(error) = verify(FOLDER, &fixture::options(disk), |_, _| {}) {
        panic!("it was in order, and is not after an append: {error:?}");
    }
}

/// Verifies and reads a backup, and restores it.
pub(crate) fn examine_backup(disk: &SimulatedDisk, demands: Demands<'_>) {
    let options = fixture::options(disk);
    let verified = verify(FOLDER, &options, |_, _| {});
    if let Err(error) = &verified {
        note(&error.to_string());
    }
    let in_order = verified.is_ok();
    match ReadOnlyLog::open(FOLDER, options.clone()) {
        Ok(log) => Answers::of(&log, in_order).check(demands, in_order),
        Err(error) => refused(&error, in_order || demands.opens),
    }
    match Log::open(FOLDER, options.clone()) {
        Ok(log) => {
            Answers::of(&log, in_order).check(demands, in_order);
            let append = Append::event(RawEvent::new("appended", "1"));
            assert!(log.blocking().commit(append).is_err(), "a backup takes commits");
        }
        Err(error) => refused(&error, in_order || demands.opens),
    }
    let to = format!("{FOLDER}-restored");
    match restore(FOLDER, &to, &options, |_, _| {}) {
        Ok(_) => {
            let log = Log::open(&to, options.clone());
            let log = log.unwrap_or_else(|error| panic!("a restored log: {error}"));
            Answers::of(&log, true).check(demands, true);
        }
        Err(error) => {
            note(&error.to_string());
            assert!(!in_order, "a backup in order cannot be restored: {error}");
        }
    }
}

fn follow(disk: &SimulatedDisk, demands: Demands<'_>) {
    let mut follower = match Follower::open(FOLDER, Position::START, fixture::options(disk)) {
        Ok(follower) => follower,
        Err(error) => return note(&error.to_string()),
    };
    let mut events = Vec::new();
    loop {
        let before = follower.upto();
        match follower.next(&Filter::everything(), 100) {
            Ok(batch) => events.extend(batch.iter().map(|event| event.to_raw())),
            Err(error) => return note(&error.to_string()),
        }
        if follower.upto() == before {
            break;
        }
    }
    if let Some(model) = demands.acknowledged {
        let both = events.len().min(model.len());
        assert_eq!(events.get(..both), model.get(..both), "what a follower read");
    }
}

/// One kind of answer, or the text of the error.
type Answer<T> = Result<T, String>;

/// The answers of a log.
struct Answers {
    head: Position,
    forwards: Answer<Vec<RawEvent>>,
    backwards: Answer<Vec<RawEvent>>,
    commits: Answer<Vec<ReadCommit>>,
    /// By tag: its events, how many there are, and the last.
    tagged: Vec<(Tag, [Answer<Vec<Position>>; 3])>,
    typed: Vec<(String, Answer<Vec<Position>>)>,
    keyed: Vec<(String, Answer<Option<KeyedCommit>>)>,
    tracked: Vec<(String, Answer<Option<Tracking>>)>,
    types: Answer<Vec<String>>,
}

struct ReadCommit {
    last: Position,
    first: Position,
    key: Option<Key>,
    tracking: Option<Tracking>,
    events: Vec<RawEvent>,
}

impl Answers {
    fn of(store: &impl EventStore, in_order: bool) -> Answers {
        let head = store.head().position();
        let positions = |filter: &Filter| found(store, filter);
        let tagged = ["account:3", "tenant:0", "account:99"].map(|tag| {
            let tag = Tag::parse(tag).unwrap_or_else(|error| panic!("{error}"));
            let filter = Filter::tag(tag.clone());
            let count = named(block_on(store.count(&tag, head)), in_order);
            let last = named(block_on(store.last(&filter, head)), in_order);
            let count = count.map(|count| vec![Position::new(count)]);
            (tag, [named(positions(&filter), in_order), count, last.map(Vec::from_iter)])
        });
        let typed = ["paid", "noted", "unknown"]
            .map(|name| (name.to_owned(), named(positions(&Filter::event_type(name)), in_order)));
        let keyed = ["key 2", "key 104", "none"]
            .map(|key| (key.to_owned(), named(block_on(store.keyed(key)), in_order)));
        let tracked = ["stock", "billing", "none"]
            .map(|source| (source.to_owned(), named(block_on(store.tracked(source)), in_order)));
        Answers {
            head,
            forwards: named(forwards(store), in_order),
            backwards: named(backwards(store), in_order),
            commits: named(commits(store), in_order),
            tagged: tagged.into(),
            typed: typed.into(),
            keyed: keyed.into(),
            tracked: tracked.into(),
            types: named(block_on(store.types()), in_order),
        }
    }

    fn check(&self, demands: Demands<'_>, in_order: bool) {
        let all = match (&self.forwards, &self.backwards) {
            (Ok(forwards), backwards) => {
                if let Ok(backwards) = backwards {
                    assert!(backwards.iter().rev().eq(forwards), "backwards it is another log");
                }
                forwards
            }
            (Err(_), _) => return self.check_parts(demands),
        };
        assert_eq!(all.len() as u64, self.head.get(), "a read to the head has every event");
        if let Some(model) = demands.acknowledged {
            assert_eq!(all.get(..model.len()), Some(model), "what was acknowledged");
            assert!(!demands.exactly || all.len() == model.len(), "events that nobody appended");
        }
        if in_order || demands.acknowledged.is_some() {
            self.check_look_ups(all);
        }
        if let Ok(commits) = &self.commits
            && (in_order || demands.acknowledged.is_some())
        {
            let events = commits.iter().flat_map(|commit| &commit.events);
            assert!(events.eq(all), "the events of the commits are those of the log");
            self.check_sections(commits);
        }
    }

    /// Not everything can be read: look-ups answer as the model says, or are errors.
    fn check_parts(&self, demands: Demands<'_>) {
        if let Some(model) = demands.acknowledged.filter(|_| demands.exactly) {
            assert_eq!(model.len() as u64, self.head.get(), "the head of a log");
            self.check_look_ups(model);
        }
    }

    fn check_look_ups(&self, all: &[RawEvent]) {
        let position = |at: usize| Position::new(at as u64 + 1);
        for (tag, answers) in &self.tagged {
            let has =
                |(at, event): (usize, &RawEvent)| event.tags.contains(tag).then(|| position(at));
            let expected: Vec<_> = all.iter().enumerate().filter_map(has).collect();
            let count = vec![Position::new(expected.len() as u64)];
            let last = expected.last().copied().into_iter().collect();
            for (answer, expected) in answers.iter().zip([expected, count, last]) {
                if let Ok(answer) = answer {
                    assert_eq!(*answer, expected, "a look-up of {tag}");
                }
            }
        }
        for (name, answer) in &self.typed {
            let has =
                |(at, event): (usize, &RawEvent)| (event.event_type == *name).then(|| position(at));
            let expected: Vec<_> = all.iter().enumerate().filter_map(has).collect();
            if let Ok(answer) = answer {
                assert_eq!(*answer, expected, "a look-up of {name}");
            }
        }
        if let Ok(types) = &self.types {
            let mut expected: Vec<_> = all.iter().map(|event| event.event_type.clone()).collect();
            expected.sort_unstable();
            expected.dedup();
            assert!(expected.iter().eq(types), "the types {types:?} are not {expected:?}");
        }
    }

    fn check_sections(&self, commits: &[ReadCommit]) {
        for (key, answer) in &self.keyed {
            let commit = commits
                .iter()
                .rev()
                .find(|commit| commit.key.as_ref().is_some_and(|known| known.name == *key));
            let digest = commit.and_then(|commit| commit.key.as_ref()).map(|key| key.digest);
            let expected =
                commit.zip(digest).map(|(commit, digest)| (commit.first, commit.last, digest));
            if let Ok(answer) = answer {
                let answer = answer.map(|found| (found.first, found.last, found.digest));
                assert_eq!(answer, expected, "the commit of {key}");
            }
        }
        for (source, answer) in &self.tracked {
            let mut tracking = commits.iter().rev().filter_map(|commit| commit.tracking.as_ref());
            let expected = tracking.find(|tracking| tracking.source == *source);
            if let Ok(answer) = answer {
                assert_eq!(answer.as_ref(), expected, "the tracking of {source}");
            }
        }
    }
}

/// An answer, or the text of an error that names a file. A log in order has no such error.
fn named<T>(answer: Result<T, ReadError>, in_order: bool) -> Answer<T> {
    answer.map_err(|error| {
        let text = error.to_string();
        note(&text);
        assert!(!in_order, "a log in order cannot be read: {text}");
        assert!(names_a_file(&text), "{text:?} names no file of the log");
        text
    })
}

fn forwards(store: &impl EventStore) -> Result<Vec<RawEvent>, ReadError> {
    let (head, mut after, mut events) = (store.head().position(), Position::START, Vec::new());
    while after < head {
        let batch = block_on(store.read(&Filter::everything(), Read::after(after)))?;
        for event in batch.iter() {
            events.push(event.to_raw());
            assert_eq!(event.position().get(), events.len() as u64, "positions have no gap");
        }
        after = progressed(after, batch.upto());
    }
    Ok(events)
}

fn backwards(store: &impl EventStore) -> Result<Vec<RawEvent>, ReadError> {
    let (mut upto, mut events) = (store.head().position(), Vec::new());
    while upto > Position::START {
        let batch = block_on(store.read(&Filter::everything(), Read::backwards().upto(upto)))?;
        events.extend(batch.iter().map(|event| event.to_raw()));
        let first = batch.iter().map(|event| event.position()).min();
        let before = first.unwrap_or(Position::START).before();
        assert!(before < upto, "a read that gets nowhere");
        upto = before;
    }
    Ok(events)
}

fn found(store: &impl EventStore, filter: &Filter) -> Result<Vec<Position>, ReadError> {
    let (head, mut after, mut found) = (store.head().position(), Position::START, Vec::new());
    while after < head {
        let batch = block_on(store.read(filter, Read::after(after)))?;
        found.extend(batch.iter().map(|event| event.position()));
        after = progressed(after, batch.upto());
    }
    Ok(found)
}

fn commits(store: &impl EventStore) -> Result<Vec<ReadCommit>, ReadError> {
    let (head, mut after, mut commits) = (store.head().position(), Position::START, Vec::new());
    loop {
        let batch = block_on(store.commits(ReadCommits::after(after)))?;
        commits.extend(batch.iter().map(|commit| ReadCommit {
            first: commit.first(),
            last: commit.last(),
            key: commit.key().cloned(),
            tracking: commit.tracking().cloned(),
            events: commit.events().map(|event| event.to_raw()).collect(),
        }));
        if batch.upto() >= head {
            return Ok(commits);
        }
        after = progressed(after, batch.upto());
    }
}

fn progressed(before: Position, after: Position) -> Position {
    assert!(after > before, "a read that gets nowhere");
    after
}
