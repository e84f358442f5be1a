//! Random commits for a log: plain ones, and ones that the log should refuse.

use diptych_log::disk::simulated::Random;
use diptych_store::{
    Append, AppendCondition, Digest, EventStore, Filter, Key, Position, RawEvent, Tag, Timestamp,
    Tracking,
};

use crate::model::Model;

/// Makes commits; no two events are the same.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    events: u64,
    keys: u64,
    micros: i64,
}

const TYPES: [&str; 5] = ["opened", "paid", "shipped", "returned", "closed"];
const SOURCES: [&str; 5] = ["billing", "mail", "stock", "web", "one too many"];

impl Requests {
    /// A commit that the log has no reason to refuse.
    pub(crate) fn plain(&mut self, random: &mut Random) -> Append {
        let events = 1 + random.below(5);
        let mut append = Append::events((0..events).map(|_| self.event(random)));
        append.recorded_at = Some(self.time(random));
        append
    }

    /// Any commit, with or without conditions, key, tracking and events.
    pub(crate) fn any(&mut self, random: &mut Random, model: &Model) -> Append {
        let mut append = self.plain(random);
        if random.chance(25) {
            // A commit can have several conditions with different `after` positions.
            for _ in 0..=random.below(3) {
                append = append.condition(condition(random, model));
            }
        }
        if random.chance(25) {
            append = append.key(self.key(random));
        }
        if random.chance(20) {
            append = append.tracking(tracking(random, model));
        }
        if append.key.is_none() && random.chance(10) {
            append.events.clear();
        }
        if random.chance(5)
            && let Some(again) = model.some_append(random)
        {
            append = again.clone();
        }
        append
    }

    fn event(&mut self, random: &mut Random) -> RawEvent {
        self.events += 1;
        let length = match random.below(20) {
            0 => random.index(3_000),
            1..=3 => random.index(700),
            _ => random.index(60),
        };
        let mut payload = self.events.to_le_bytes().to_vec();
        payload.extend(random.bytes(length));
        let name = *random.pick(&TYPES).unwrap();
        let mut event = RawEvent::new(name, payload);
        if random.chance(80) {
            event = event.tag(Tag::new("account", random.below(12)));
        }
        if random.chance(30) {
            event = event.tag(Tag::new("order", self.events / 4));
        }
        event
    }

    fn time(&mut self, random: &mut Random) -> Timestamp {
        self.micros += random.index(1_000) as i64;
        let back = if random.chance(5) { 5_000 } else { 0 };
        Timestamp::from_micros(self.micros - back)
    }

    /// A new key in most cases. Otherwise a key that was used before, by the same request or by
    /// another.
    fn key(&mut self, random: &mut Random) -> Key {
        let new = random.chance(75) || self.keys == 0;
        let number = if new { self.keys } else { random.below(self.keys) };
        self.keys += u64::from(new);
        let digest = number + u64::from(random.chance(20));
        Key::new(format!("key {number}"), Digest::of(&digest.to_le_bytes()))
    }
}

/// A condition with a random filter. Its `after` is the position that the decision knew, which is
/// high enough in most cases.
fn condition(random: &mut Random, model: &Model) -> AppendCondition {
    let tag = Tag::new("account", random.below(14));
    let fail_if = match random.below(4) {
        0 => Filter::event_type(*random.pick(&TYPES).unwrap()),
        1 => Filter::event_type(*random.pick(&TYPES).unwrap()).and_tag(&tag),
        2 => Filter::tag(tag).or(Filter::event_type("never")),
        _ => Filter::tag(tag),
    };
    let last = pollster::block_on(model.memory().last(&fail_if, Position::MAX)).unwrap();
    let last = last.unwrap_or_default();
    let after = match random.below(5) {
        0 => last.before(),
        1 => Position::new(random.below(model.accepted().get() + 1)),
        2 => model.accepted(),
        _ => last,
    };
    AppendCondition { fail_if, after }
}

fn tracking(random: &mut Random, model: &Model) -> Tracking {
    let source = *random.pick(&SOURCES).unwrap();
    let stored = pollster::block_on(model.memory().tracked(source)).unwrap();
    let stored = stored.map_or(0, |tracking| tracking.position.get());
    Tracking::new(source, stored + random.below(4))
}
