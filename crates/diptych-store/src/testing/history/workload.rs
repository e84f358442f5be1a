//! The calls that clients make: random, over few names, so that clients meet.

use super::line::{CallName, Question};
use super::record::{
    AppendRecord, ConditionRecord, EventRecord, KeyRecord, ReadRecord, TrackingRecord,
};
use crate::{
    filter::{Filter, FilterItem},
    tag::Tag,
};

const ACCOUNTS: u64 = 4;
const SEATS: u64 = 24;
const TYPES: [&str; 4] = ["opened", "moved", "noted", "closed"];
/// The highest position of a read without an upper bound.
const OPEN_END: u64 = u64::MAX;
/// How far back most conditions and reads look.
const RECENT: u64 = 24;

/// How often clients make each kind of call: parts of their sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mix {
    /// Appends.
    pub appends: u64,
    /// Reads in both directions.
    pub reads: u64,
    /// Look-ups: the last match, counts, keys, tracking.
    pub look_ups: u64,
    /// Heads, fresh heads, and waits for the head.
    pub heads: u64,
    /// Reads of whole commits.
    pub commits: u64,
    /// Subscriptions and their deliveries.
    pub subscriptions: u64,
}

impl Default for Mix {
    fn default() -> Mix {
        Mix { appends: 40, reads: 20, look_ups: 12, heads: 10, commits: 4, subscriptions: 14 }
    }
}

impl Mix {
    /// Every call except appends.
    pub fn of_readers() -> Mix {
        Mix { appends: 0, ..Mix::default() }
    }
}

/// Random numbers that follow from a seed (SplitMix64).
#[derive(Clone, Debug)]
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which is not 0.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.number() % bound.max(1)
    }

    pub(super) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// Makes the questions of one client.
#[derive(Debug)]
pub(super) struct Questions {
    pub(super) dice: Dice,
    mix: Mix,
    /// The highest position of the source that the client knows of, for each source.
    tracked: [u64; 2],
    /// Where a commit ends, as a read of whole commits said.
    commit_end: u64,
    is_subscribed: bool,
}

impl Questions {
    pub(super) fn new(seed: u64, mix: Mix) -> Questions {
        let dice = Dice::new(seed);
        Questions { dice, mix, tracked: [0; 2], commit_end: 0, is_subscribed: false }
    }

    /// The next question of a client that knows the log up to `known`.
    pub(super) fn next(&mut self, call: CallName, known: u64) -> Question {
        let Mix { appends, reads, look_ups, heads, commits, subscriptions } = self.mix;
        let parts = [appends, reads, look_ups, heads, commits, subscriptions];
        let mut roll = self.dice.below(parts.iter().sum());
        let kind = parts.iter().position(|part| {
            let is_here = roll < *part;
            roll = roll.saturating_sub(*part);
            is_here
        });
        match kind {
            Some(0) => Question::Append(self.append(call, known)),
            Some(1) => Question::Read(self.read(known)),
            Some(2) => self.look_up(call, known),
            Some(3) => self.head(known),
            Some(4) => {
                // Any other position can be within a commit.
                let after = if self.dice.chance(10) { 0 } else { self.commit_end };
                Question::Commits { after, limit: 1 + self.dice.below(60) }
            }
            _ => self.subscription(known),
        }
    }

    /// Remembers a position of a source that an answer named.
    pub(super) fn learn_tracking(&mut self, source: &str, position: u64) {
        for (at, known) in self.tracked.iter_mut().enumerate() {
            if source == source_name(at) {
                *known = position.max(*known);
            }
        }
    }

    /// Remembers up to where whole commits were read.
    pub(super) fn learn_commit_end(&mut self, upto: u64) {
        self.commit_end = upto;
    }

    fn append(&mut self, call: CallName, known: u64) -> AppendRecord {
        let dice = &mut self.dice;
        let count = match dice.below(20) {
            0 => 0,
            1..=12 => 1,
            13..=18 => 2 + dice.below(3),
            _ => 10 + dice.below(20),
        };
        let events = (0..count).map(|index| self.event(call, index, count)).collect::<Vec<_>>();
        let conditions = match self.dice.below(10) {
            0..=3 => 0,
            4..=8 => 1,
            _ => 2 + self.dice.below(2),
        };
        let tracked = if events.is_empty() { 60 } else { 15 };
        let has_key = !events.is_empty() && self.dice.chance(35);
        AppendRecord {
            conditions: (0..conditions).map(|_| self.condition(known)).collect(),
            key: has_key.then(|| self.key(call)),
            tracking: self.dice.chance(tracked).then(|| self.tracking()),
            events,
        }
    }

    /// An event that names its call, so that its payload is unique.
    fn event(&mut self, call: CallName, index: u64, count: u64) -> EventRecord {
        let dice = &mut self.dice;
        let filler = match dice.below(40) {
            0 => 2_000 + dice.below(4_000),
            _ => dice.below(120),
        };
        let CallName { round, client, number } = call;
        let name = format!("{round}/{client}/{number}: {} of {count} ", index + 1);
        let mut tags = vec![account(dice)];
        if dice.chance(40) {
            tags.push(seat(dice));
        }
        if dice.chance(20) {
            tags.push(account(dice));
        }
        // A repeated tag would be stored once.
        let is_first = |at: usize, tags: &[String]| !tags[..at].contains(&tags[at]);
        let tags = (0..tags.len()).filter(|at| is_first(*at, &tags)).map(|at| tags[at].clone());
        EventRecord {
            event_type: event_type(dice).to_owned(),
            version: 1 + dice.below(3) as u32,
            tags: tags.collect(),
            payload: name + &"x".repeat(filler as usize),
            actor: dice.chance(50).then(|| format!("client-{client}")),
        }
    }

    fn condition(&mut self, known: u64) -> ConditionRecord {
        let dice = &mut self.dice;
        match dice.below(10) {
            // Unique for ever: a seat is taken once.
            0..=1 => ConditionRecord { fail_if: Filter::tag(parsed(&seat(dice))), after: 0 },
            2..=7 => ConditionRecord { fail_if: filter(dice), after: known },
            _ => {
                let after = known.saturating_sub(dice.below(RECENT));
                ConditionRecord { fail_if: filter(dice), after }
            }
        }
    }

    /// A key out of a few, so that keys are used again, in later rounds too. One of four requests
    /// under a key is another request.
    fn key(&mut self, call: CallName) -> KeyRecord {
        let request = if self.dice.chance(25) { "another request" } else { "the request" };
        KeyRecord::new(key_name(&mut self.dice, call), request)
    }

    fn tracking(&mut self) -> TrackingRecord {
        let at = self.dice.below(self.tracked.len() as u64) as usize;
        let step = self.dice.below(4);
        TrackingRecord {
            source: source_name(at),
            position: self.tracked[at].saturating_add(step).max(1),
        }
    }

    fn read(&mut self, known: u64) -> ReadRecord {
        let dice = &mut self.dice;
        let filter = if dice.chance(30) { Filter::everything() } else { filter(dice) };
        let after = match dice.below(12) {
            0 => 0,
            _ => known.saturating_sub(dice.below(RECENT)),
        };
        let upto = match dice.below(4) {
            0 => after.saturating_add(dice.below(RECENT)),
            1 => known,
            _ => OPEN_END,
        };
        let limit = 1 + dice.below(RECENT);
        ReadRecord { filter, after, upto, backwards: dice.chance(40), limit }
    }

    fn look_up(&mut self, call: CallName, known: u64) -> Question {
        let dice = &mut self.dice;
        let upto = if dice.chance(50) { OPEN_END } else { known };
        match dice.below(4) {
            0 => Question::Last { filter: filter(dice), upto },
            1 => Question::Count { tag: account(dice), upto },
            2 => Question::Keyed { key: key_name(dice, call) },
            _ => {
                let at = dice.below(self.tracked.len() as u64) as usize;
                Question::Tracked { source: source_name(at) }
            }
        }
    }

    fn head(&mut self, known: u64) -> Question {
        match self.dice.below(6) {
            0..=2 => Question::Head,
            3..=4 => Question::FreshHead,
            _ => Question::HeadAfter { after: known },
        }
    }

    fn subscription(&mut self, known: u64) -> Question {
        let dice = &mut self.dice;
        if self.is_subscribed && dice.chance(95) {
            return Question::Next;
        }
        self.is_subscribed = true;
        let filter = if dice.chance(40) { Filter::everything() } else { filter(dice) };
        Question::Subscribe { filter, after: known.saturating_sub(dice.below(2 * RECENT)) }
    }
}

pub(super) fn source_name(at: usize) -> String {
    format!("source-{at}")
}

/// The names that questions use, for the inspection at the end.
pub(super) fn all_sources() -> impl Iterator<Item = String> {
    (0..2).map(source_name)
}

pub(super) fn all_tags() -> impl Iterator<Item = String> {
    let accounts = (0..ACCOUNTS).map(|number| format!("account:{number}"));
    accounts.chain((0..SEATS).map(|number| format!("seat:{number}")))
}

fn key_name(dice: &mut Dice, call: CallName) -> String {
    // The numbers grow with the calls of a client, and clients of a round are about equally far.
    let number = call.round * 8 + call.number / 8 + dice.below(8);
    format!("key-{number}")
}

fn event_type(dice: &mut Dice) -> &'static str {
    TYPES[dice.below(TYPES.len() as u64) as usize]
}

fn account(dice: &mut Dice) -> String {
    format!("account:{}", dice.below(ACCOUNTS))
}

fn seat(dice: &mut Dice) -> String {
    format!("seat:{}", dice.below(SEATS))
}

fn parsed(tag: &str) -> Tag {
    Tag::parse(tag).expect("a generated tag is a tag")
}

fn filter(dice: &mut Dice) -> Filter {
    let item = |dice: &mut Dice| {
        let item = FilterItem::everything();
        match dice.below(6) {
            0 => item.or_type(event_type(dice)),
            1 => item.or_type(event_type(dice)).or_type(event_type(dice)),
            2..=3 => item.and_tag(parsed(&account(dice))),
            4 => item.and_tag(parsed(&account(dice))).or_type(event_type(dice)),
            _ => item.and_tag(parsed(&seat(dice))),
        }
    };
    let first = Filter::from(item(dice));
    if dice.chance(20) { first.or(item(dice)) } else { first }
}
