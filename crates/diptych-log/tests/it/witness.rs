//! The events and the witness file of the tests that kill processes. Each event describes its
//! commit, and each line of the witness file describes an acknowledged commit.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    fs,
    path::Path,
};

use diptych_log::{Log, disk::simulated::Random};
use diptych_store::{
    Append, AppendError, Digest, Key, KeyedCommit, Position, RawEvent, Refusal, Tag, Tracking,
};

use crate::check::ScannedEvent;

/// A line of the witness file. It describes a commit that was acknowledged.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct WitnessLine {
    pub(crate) round: u64,
    pub(crate) writer: u64,
    pub(crate) number: u64,
    pub(crate) positions: (u64, u64),
}

impl WitnessLine {
    pub(crate) fn to_line(&self) -> String {
        let (first, last) = self.positions;
        format!("{} {} {} {first} {last}\n", self.round, self.writer, self.number)
    }
}

pub(crate) fn read(path: &Path) -> Vec<WitnessLine> {
    let text = fs::read_to_string(path).unwrap_or_default();
    // A last line without a line end is unfinished.
    let finished = text.rsplit_once('\n').map_or("", |(finished, _)| finished);
    let parse = |line: &str| {
        let numbers: Vec<u64> = line.split(' ').map(|part| part.parse().unwrap()).collect();
        let [round, writer, number, first, last] = numbers[..] else {
            panic!("the witness says {line:?}")
        };
        let positions = (first, last);
        WitnessLine { round, writer, number, positions }
    };
    finished.lines().map(parse).collect()
}

/// Removes an unfinished last line, which a killed process may have left. A kill between two pages
/// of a file cuts a write short. If the next process continued that line, the line would describe a
/// commit that no process made.
pub(crate) fn cut_off_unfinished(path: &Path) {
    let text = fs::read_to_string(path).unwrap_or_default();
    let finished = text.rfind('\n').map_or(0, |end| end + 1);
    if finished < text.len() {
        let file = fs::OpenOptions::new().write(true).open(path).unwrap();
        file.set_len(finished as u64).unwrap();
    }
}

#[test]
fn an_unfinished_line_is_removed_before_the_next_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("witness");
    cut_off_unfinished(&path);
    let whole = WitnessLine { round: 7, writer: 0, number: 177, positions: (2_480, 2_489) };
    fs::write(&path, whole.to_line() + "7 0 178 2490").unwrap();
    cut_off_unfinished(&path);
    assert_eq!(fs::read_to_string(&path).unwrap(), whole.to_line());
    cut_off_unfinished(&path);
    assert_eq!(read(&path), [whole]);
}

pub(crate) fn key(round: u64, number: u64) -> String {
    format!("round-{round}-key-{number}")
}

pub(crate) fn source(writer: u64) -> String {
    format!("source-{writer}")
}

/// The description of a commit that each of its events contains.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct CommitWords {
    pub(crate) round: u64,
    pub(crate) writer: u64,
    pub(crate) number: u64,
    /// A counter and its value.
    pub(crate) counted: Option<(u64, u64)>,
    pub(crate) key: Option<String>,
    /// The source of a writer, and a position in that source.
    pub(crate) tracked: Option<(u64, u64)>,
}

impl CommitWords {
    /// The event with this index, of `of` events. Only the first event of a commit has the tag of
    /// the counter.
    pub(crate) fn event(&self, index: u64, of: u64) -> RawEvent {
        let mut event = RawEvent::new(format!("kind-{}", self.number % 5), self.payload(index, of))
            .tag(Tag::new("writer", self.writer))
            .tag(Tag::new("commit", format!("{}-{}", self.round, self.number)));
        if let Some((counter, _)) = self.counted
            && index == 0
        {
            event = event.tag(Tag::new("counter", counter));
        }
        event
    }

    /// A line with the whole description, and pseudo-random bytes that follow from it.
    fn payload(&self, index: u64, of: u64) -> Vec<u8> {
        let CommitWords { round, writer, number, counted, key, tracked } = self;
        let (counter, value) = counted.unwrap_or_default();
        let (source, position) = tracked.unwrap_or_default();
        let key = key.as_deref().unwrap_or("-");
        let mut payload = format!(
            "{round} {writer} {number} {index} {of} {counter} {value} {source} {position} {key}\n"
        )
        .into_bytes();
        let mut random = Random::new(round << 40 ^ writer << 32 ^ number << 8 ^ index);
        let length = if random.chance(5) { 2_000 } else { 80 };
        let length = random.index(length);
        payload.extend(random.bytes(length));
        payload
    }

    /// The description in an event, the index of the event and the number of events of the commit.
    fn of(event: &RawEvent) -> (CommitWords, u64, u64) {
        let line = event.payload.split(|byte| *byte == b'\n').next().unwrap();
        let parts: Vec<&str> = str::from_utf8(line).unwrap().split(' ').collect();
        let number = |at: usize| parts[at].parse::<u64>().unwrap();
        let some = |at: usize| Some((number(at), number(at + 1))).filter(|(_, second)| *second > 0);
        let told = CommitWords {
            round: number(0),
            writer: number(1),
            number: number(2),
            counted: some(5),
            key: Some(parts[9].to_owned()).filter(|key| key != "-"),
            tracked: some(7),
        };
        (told, number(3), number(4))
    }
}

/// Every commit in a log, by its writer. The log itself proves that each commit is whole and occurs
/// once, and that no condition, key or tracking was violated.
#[derive(Debug, Default)]
pub(crate) struct WriterCommits {
    commits: BTreeMap<(u64, u64, u64), (u64, u64)>,
    counters: BTreeMap<u64, u64>,
    keys: BTreeMap<String, (u64, u64)>,
    sources: BTreeMap<u64, u64>,
    /// The last commit of each writer. The commits of a writer are accepted in order.
    numbers: BTreeMap<(u64, u64), u64>,
}

impl WriterCommits {
    pub(crate) fn of(scan: &[ScannedEvent]) -> WriterCommits {
        let mut found = WriterCommits::default();
        let mut at = 0;
        while at < scan.len() {
            let (told, _, of) = CommitWords::of(&scan[at].event);
            for index in 0..of {
                let position = at + usize::try_from(index).unwrap();
                let event = scan.get(position).map(|scanned| &scanned.event);
                let expected = told.event(index, of);
                assert_eq!(event, Some(&expected), "a commit is not whole at {}", at + 1);
            }
            let first = at as u64 + 1;
            at += usize::try_from(of).unwrap();
            found.add(told, (first, at as u64));
        }
        found
    }

    fn add(&mut self, told: CommitWords, positions: (u64, u64)) {
        let CommitWords { round, writer, number, counted, key, tracked } = told;
        let twice = self.commits.insert((round, writer, number), positions);
        assert_eq!(
            twice, None,
            "commit {number} of writer {writer} in round {round} is there twice"
        );
        let before = self.numbers.insert((round, writer), number);
        assert!(before < Some(number), "the commits of writer {writer} are out of order");
        if let Some((counter, value)) = counted {
            let last = self.counters.entry(counter).or_default();
            *last += 1;
            assert_eq!(value, *last, "a condition was violated: counter {counter}");
        }
        if let Some(key) = key {
            match self.keys.entry(key) {
                Entry::Occupied(taken) => panic!("two commits have the key {}", taken.key()),
                Entry::Vacant(free) => free.insert(positions),
            };
        }
        if let Some((source, position)) = tracked {
            let before = self.sources.insert(source, position);
            assert!(before < Some(position), "source {source} was taken in twice");
        }
    }

    /// Checks that every acknowledged commit has the positions that its writer got.
    pub(crate) fn has_all(&self, witnessed: &[WitnessLine]) {
        for commit in witnessed {
            let found = self.commits.get(&(commit.round, commit.writer, commit.number));
            assert_eq!(found, Some(&commit.positions), "acknowledged: {commit:?}");
        }
    }

    /// Checks that the keys of this round, and some of the other rounds, lead to their commits, and
    /// that unused keys lead to no commit.
    pub(crate) fn answers_for_keys(&self, log: &Log, round: u64, random: &mut Random) {
        let of_round = key(round, 0);
        let of_round = of_round.trim_end_matches('0');
        for (name, (first, last)) in &self.keys {
            if !name.starts_with(of_round) && !random.chance(20) {
                continue;
            }
            let digest = Digest::of(name.as_bytes());
            let (first, last) = (Position::new(*first), Position::new(*last));
            let found = log.blocking().keyed(name).unwrap();
            assert_eq!(found, Some(KeyedCommit { first, last, digest }), "{name}");
            if random.chance(10) {
                let again = Append::event(RawEvent::new("again", "")).key(Key::new(name, digest));
                let refused = log.blocking().commit(again);
                let expected = Refusal::KeyTaken { first, last };
                let is_expected =
                    matches!(&refused, Err(AppendError::Refused(found)) if *found == expected);
                assert!(is_expected, "{name} is used again: {refused:?}");
            }
        }
        for number in 0..self.numbers.values().max().map_or(0, |most| most / 2) {
            let name = key(round, number);
            let found = log.blocking().keyed(&name).unwrap().is_some();
            assert_eq!(found, self.keys.contains_key(&name), "{name}");
        }
    }

    pub(crate) fn answers_for_sources(&self, log: &Log) {
        for (writer, position) in &self.sources {
            let source = source(*writer);
            let expected = Tracking::new(&source, *position);
            let found = log.blocking().tracked(&source).unwrap();
            assert_eq!(found, Some(expected), "{source}");
        }
    }
}
