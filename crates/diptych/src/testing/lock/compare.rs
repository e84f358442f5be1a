//! The rules of the schema lock: the entries that the file must have, and the changes that fail.

use std::collections::BTreeSet;

use diptych_store::RawEvent;

use super::{
    Current, Readers, SchemaLock, SchemaReport,
    file::{self, Contents, Entry, Sample},
    shape::{Change, Shape},
    tags_of,
    value::{Value, ValueDifference, differences},
};
use crate::testing::unified_difference;

/// A check in progress.
struct Check {
    readers: Readers,
    entries: Vec<Entry>,
    /// Whether the file has a format that knew less.
    is_older: bool,
    problems: Vec<String>,
    /// The entries to record.
    news: Vec<News>,
}

enum News {
    Added(Entry),
    /// The kind of a field became known, or what an older format did not have. The entry replaces
    /// the one of the same type and version.
    Refined(Entry),
    /// The program tells the Rust types of the fields, and no entry had them.
    Told(Entry),
    /// A field has another Rust type, which makes no difference to the samples.
    Retyped(Entry, String),
}

pub(super) fn check(mut lock: SchemaLock) -> Result<(), SchemaReport> {
    let record = lock.records();
    let SchemaLock { path, upcasters, families, current, mut problems, .. } = lock;
    let report = |problems| SchemaReport { path: path.clone(), problems };
    let Contents { entries, is_older } = match file::read(&path) {
        Ok(contents) => contents,
        Err(problem) => {
            problems.push(problem);
            return Err(report(problems));
        }
    };
    let readers = match Readers::new(upcasters, families) {
        Ok(readers) => readers,
        Err(error) => {
            problems.push(error.to_string());
            return Err(report(problems));
        }
    };
    let mut check = Check { readers, entries, is_older, problems, news: Vec::new() };
    check.samples_are_complete(current.values());
    for current in current.values().filter(|current| !current.samples.is_empty()) {
        check.current(current);
    }
    let names: Vec<_> = current.keys().copied().collect();
    check.older(&names, |entry| current.get(&*entry.event_type).map(|current| current.of.version));
    if record {
        check.record(|entries| file::write(&path, entries));
    } else {
        check.ask_to_record();
    }
    if check.problems.is_empty() { Ok(()) } else { Err(report(check.problems)) }
}

impl Check {
    fn samples_are_complete<'a>(&mut self, current: impl Iterator<Item = &'a Current>) {
        let without = current.filter(|current| current.samples.is_empty());
        let names: Vec<_> = without.map(|current| current.of.name).collect();
        if !names.is_empty() {
            let names = names.join(", ");
            self.problems.push(format!("there is no sample of {names}: give at least one of each"));
        }
    }

    /// Checks a type of the program: its samples can be read back, and it is as recorded.
    fn current(&mut self, current: &Current) {
        let of = current.of;
        let mut shown = match shape_of(of.codec, &current.samples) {
            Ok(shape) => shape,
            Err(reason) => {
                let (name, codec) = (of.name, of.codec);
                self.problems.push(format!("a sample of {name} is not {codec}: {reason}"));
                return;
            }
        };
        for Sample { payload, .. } in &current.samples {
            let event = RawEvent::new(of.name, payload.clone()).version(of.version);
            if let Err(error) = self.readers.read(&event) {
                self.problems.push(format!("a sample cannot be read back: {error}"));
                return;
            }
        }
        let field = |(name, of): &(&str, &str)| format!("{name}: {of}");
        let now = Entry {
            event_type: of.name.to_owned(),
            version: of.version,
            codec: of.codec.to_owned(),
            tags: of.tags.iter().map(|key| (*key).to_owned()).collect(),
            shape: None,
            fields: of.fields().map(|fields| fields.iter().map(field).collect()),
            samples: current.samples.clone(),
        };
        let Some(recorded) = self.entries.iter().find(|entry| entry.is_of(of.name, of.version))
        else {
            self.news.push(News::Added(Entry { shape: shown, ..now }));
            return;
        };
        let again = self.written_again(recorded, &mut shown);
        let now = Entry { shape: shown, ..now };
        let refined = match compare(recorded, &now) {
            Ok(refined) => refined.unwrap_or_else(|| recorded.clone()),
            Err(problem) => return self.problems.push(problem),
        };
        let mut problems: Vec<_> = again.unread.iter().cloned().collect();
        problems.extend(again.problems(recorded));
        if problems.is_empty() {
            if recorded.fields.is_none() && now.fields.is_some() && !self.is_older {
                self.news.push(News::Told(filled(refined, now.fields, &again.tags)));
                return;
            }
            let news = retyped(recorded, &now);
            let filled = filled(refined, now.fields, &again.tags);
            self.news.extend(match news {
                Some(text) => Some(News::Retyped(filled, text)),
                None => (filled != *recorded).then_some(News::Refined(filled)),
            });
        }
        self.problems.extend(problems);
    }

    /// Reads the recorded samples and writes them again, so that it does not matter whether the
    /// test still has them. Adds the fields that they show to the shape.
    fn written_again(&self, recorded: &Entry, shown: &mut Option<Shape>) -> Again {
        let mut again = Again::default();
        for (sample, event) in recorded.events() {
            let written = match self.own(recorded, &event) {
                Ok(written) => written,
                Err(error) => {
                    again.unread.get_or_insert(error);
                    again.tags.push(None);
                    continue;
                }
            };
            let today: Vec<_> = written.iter().map(tags_of).collect();
            if let Some(tags) = &sample.tags
                && let Some(first) = today.first()
                && !today.contains(tags)
            {
                again.other_tags.push((text(recorded, sample), tags.clone(), first.clone()));
            }
            again.tags.push(today.into_iter().next());
            let Some(shape) = shown else { continue };
            let values = values(recorded, &written);
            values.iter().for_each(|value| shape.add(value));
            // It was read before, so it is of its codec.
            let Ok(value) = Value::read(&recorded.codec, &sample.payload) else { continue };
            let mut found = differing(&value, &values);
            if !found.is_empty() && self.varies(recorded, &event, &values) {
                let loose: Vec<_> = values.into_iter().map(Value::without_order).collect();
                found = differing(&value, &loose);
            }
            if !found.is_empty() {
                again.other_values.push((text(recorded, sample), found));
            }
        }
        again
    }

    /// The events of the same type and version that the program writes for this one.
    fn own(&self, recorded: &Entry, event: &RawEvent) -> Result<Vec<RawEvent>, String> {
        let read = self.readers.read(event);
        let mut written =
            read.map_err(|error| format!("a recorded sample cannot be read: {error}"))?;
        written.retain(|event| recorded.is_of(&event.event_type, event.version));
        Ok(written)
    }

    /// Whether an event is written in another way each time. This is so for a hash set that goes
    /// around the codecs of this crate, which would mark it.
    fn varies(&self, recorded: &Entry, event: &RawEvent, written: &[Value]) -> bool {
        (0..ORDERS).any(|_| {
            let again = self.own(recorded, event).unwrap_or_default();
            values(recorded, &again) != written
        })
    }

    /// Checks versions that are not written any more, and types that are gone.
    fn older(&mut self, names: &[&str], current: impl Fn(&Entry) -> Option<u32>) {
        for entry in &self.entries {
            let (name, version) = (&entry.event_type, entry.version);
            let what = match current(entry) {
                Some(current) if version == current => continue,
                Some(current) if version > current => {
                    self.problems.push(format!(
                        "{name} version {version} is recorded, and the program writes version \
                         {current}: a version that was used cannot be taken back, give it a new \
                         one"
                    ));
                    continue;
                }
                Some(_) => "an older version",
                None => "a former type",
            };
            let failed = entry.events().find_map(|(_, event)| self.readers.read(&event).err());
            if let Some(error) = failed {
                let names = names.join(", ");
                self.problems.push(format!(
                    "a recorded sample of {name} version {version}, {what}, does not become any \
                     of the events that were given ({names}): {error}"
                ));
            }
        }
    }

    fn ask_to_record(&mut self) {
        if self.is_older && self.problems.is_empty() {
            self.problems.push(
                "the file is of an older format, which has no tags of the samples, so a change of \
                 a tag would not be noticed: run the test once with `DIPTYCH_SCHEMAS=record`, and \
                 commit the file"
                    .to_owned(),
            );
        }
        for news in &self.news {
            match news {
                News::Added(new) => {
                    let Entry { event_type, version, .. } = new;
                    let older = self.entries.iter().filter(|entry| entry.event_type == *event_type);
                    let caution = older.rev().find_map(|older| {
                        untagged(older, new).or_else(|| respelt(&self.readers, older, new))
                    });
                    self.problems.push(format!(
                        "{event_type} version {version} is not recorded: run the test once with \
                         `DIPTYCH_SCHEMAS=record`, and commit the file{}",
                        caution.unwrap_or_default()
                    ));
                }
                News::Retyped(_, text) => self.problems.push(text.clone()),
                News::Told(Entry { event_type, version, .. }) => self.problems.push(format!(
                    "the types of the fields of {event_type} version {version} are not recorded, \
                     so a change of one would not be noticed: run the test once with \
                     `DIPTYCH_SCHEMAS=record`, and commit the file"
                )),
                News::Refined(_) => {}
            }
        }
    }

    /// Records all entries, or none if there is a problem, which may affect them too.
    fn record(&mut self, write: impl FnOnce(&[Entry]) -> Result<(), String>) {
        if self.news.is_empty() && !self.is_older {
            return;
        }
        if !self.problems.is_empty() {
            self.problems.push("nothing was recorded: fix the problems above first".to_owned());
            return;
        }
        for news in self.news.drain(..) {
            let (News::Added(new) | News::Refined(new) | News::Told(new) | News::Retyped(new, _)) =
                news;
            self.entries.retain(|entry| !entry.is_of(&new.event_type, new.version));
            self.entries.push(new);
        }
        self.problems.extend(write(&self.entries).err());
    }
}

/// How often an event is written to see whether each time is different. Two parts have the same
/// order by chance in half of the times.
const ORDERS: usize = 24;

/// The recorded samples of an entry, as the program reads and writes them today.
#[derive(Default)]
struct Again {
    /// The first problem of a sample that cannot be read.
    unread: Option<String>,
    /// Samples that are read as other values.
    other_values: Vec<(String, Vec<ValueDifference>)>,
    /// Samples that get other tags: as recorded, and as today.
    other_tags: Vec<(String, BTreeSet<String>, BTreeSet<String>)>,
    /// The tags of each sample today.
    tags: Vec<Option<BTreeSet<String>>>,
}

impl Again {
    fn problems(&self, recorded: &Entry) -> Vec<String> {
        let (name, version) = (&recorded.event_type, recorded.version);
        let next = u64::from(version) + 1;
        let or_never = format!(
            "or, if version {version} was never in a log, remove its entry from the file and \
             record it again"
        );
        let mut problems = Vec::new();
        if !self.other_values.is_empty() {
            let mut text = format!("{name} version {version} is read as other values:\n");
            for (sample, found) in &self.other_values {
                text.push_str(&format!("\n  {sample}"));
                found.iter().for_each(|found| text.push_str(&format!("\n    {found}")));
            }
            problems.push(format!(
                "{text}\n\nevents in a log would be read so too: take the change back, or give it \
                 version {next} and an upcaster from version {version}; {or_never}"
            ));
        }
        if !self.other_tags.is_empty() {
            let mut text = format!("{name} version {version} gets other tags:\n");
            for (sample, tags, today) in &self.other_tags {
                text.push_str(&format!(
                    "\n  {sample}\n    recorded: {}\n    today: {}",
                    list(tags),
                    list(today)
                ));
            }
            problems.push(format!(
                "{text}\n\nevents in a log keep the tags that they were written with, so a rule \
                 that asks by the tags of today does not see them: take the change back, or give \
                 the new tag a key of its own, in version {next}; {or_never}"
            ));
        }
        problems
    }
}

fn list(tags: &BTreeSet<String>) -> String {
    match tags.is_empty() {
        true => "no tags".to_owned(),
        false => tags.iter().map(String::as_str).collect::<Vec<_>>().join(", "),
    }
}

/// A sample as text, for a report.
fn text(recorded: &Entry, sample: &Sample) -> String {
    match Value::read(&recorded.codec, &sample.payload) {
        Ok(value) if Value::is_known(&recorded.codec) => value.to_string(),
        _ => format!("a sample of {} bytes", sample.payload.len()),
    }
}

/// The payloads that a known codec has just written.
fn values(recorded: &Entry, written: &[RawEvent]) -> Vec<Value> {
    let read = |event: &RawEvent| Value::read(&recorded.codec, &event.payload).ok();
    written.iter().filter_map(read).collect()
}

/// How a recorded value differs from those that several Rust types write for it. One of them has to
/// write a field. Another may be a part for one fold, without that field.
fn differing(recorded: &Value, written: &[Value]) -> Vec<ValueDifference> {
    let all: Vec<_> = written.iter().map(|now| differences(recorded, now)).collect();
    let mut found = Vec::new();
    for difference in all.iter().flatten() {
        let is_kept = difference.is_gone() && !all.iter().all(|of| of.contains(difference));
        if !is_kept && !found.contains(difference) {
            found.push(difference.clone());
        }
    }
    found
}

/// The entry with everything that is known today and was not recorded by an older format.
fn filled(
    mut entry: Entry,
    fields: Option<Vec<String>>,
    tags: &[Option<BTreeSet<String>>],
) -> Entry {
    entry.fields = fields.or(entry.fields);
    for (sample, tags) in entry.samples.iter_mut().zip(tags) {
        if sample.tags.is_none() {
            sample.tags.clone_from(tags);
        }
    }
    entry
}

/// The problem, if fields have other Rust types than the recorded ones.
fn retyped(recorded: &Entry, now: &Entry) -> Option<String> {
    let lines =
        |fields: &[String]| fields.iter().map(|line| format!("{line}\n")).collect::<String>();
    let (old, new) = (recorded.fields.as_ref()?, now.fields.as_ref()?);
    let sorted = |fields: &[String]| fields.iter().cloned().collect::<BTreeSet<_>>();
    if sorted(old) == sorted(new) {
        return None;
    }
    let (name, version, next) = (&now.event_type, now.version, u64::from(now.version) + 1);
    let (old, new) = (lines(old), lines(new));
    let difference = unified_difference(("recorded", &old), ("in the program", &new));
    Some(format!(
        "{name} version {version} has fields of other Rust types than were recorded:\n\n\
         {difference}\nthe recorded samples are read as before, so this may be intended. If every \
         value in a log is also one of the new type, and means the same, run the test once with \
         `DIPTYCH_SCHEMAS=record`, and commit the file; otherwise take the change back, or give it \
         version {next} and an upcaster from version {version}"
    ))
}

/// The shape that payloads show, if the codec is known.
fn shape_of(codec: &str, samples: &[Sample]) -> Result<Option<Shape>, String> {
    if !Value::is_known(codec) {
        return Ok(None);
    }
    let mut shape = Shape::default();
    for sample in samples {
        shape.add(&Value::read(codec, &sample.payload)?);
    }
    Ok(Some(shape))
}

/// A caution, if events of the newer version have tags that those of the older one lack. The stored
/// events do not get them by an upcaster alone.
fn untagged(older: &Entry, newer: &Entry) -> Option<String> {
    let keys = newer.tags.iter().filter(|key| !older.tags.contains(*key));
    let keys = keys.map(|key| format!("{key:?}")).collect::<Vec<_>>().join(", ");
    let (name, version) = (&older.event_type, older.version);
    (!keys.is_empty()).then(|| {
        format!(
            "; beware: events of {name} version {version} that are in a log do not get the tag \
             {keys} by that, and a rule over it does not see them: give it to them with \
             `App::retag`, or let such rules ask by a tag that the older events carry"
        )
    })
}

/// A caution, if samples of the older version would get a tag with another value today.
fn respelt(readers: &Readers, older: &Entry, newer: &Entry) -> Option<String> {
    let key = |tag: &str| tag.split_once(':').map(|(key, _)| key.to_owned());
    older.events().find_map(|(sample, event)| {
        let tags = sample.tags.as_ref()?;
        let mut today = readers.read(&event).ok()?;
        today.retain(|event| newer.is_of(&event.event_type, event.version));
        let today: BTreeSet<_> = today.iter().flat_map(tags_of).collect();
        let other =
            today.difference(tags).find(|tag| tags.iter().any(|was| key(was) == key(tag)))?;
        let was = tags.iter().find(|was| key(was) == key(other))?;
        let (name, version) = (&older.event_type, older.version);
        Some(format!(
            "; beware: an event of {name} version {version} that is in a log keeps the tag \
             {was:?}, and would get {other:?} today: a rule that asks by the new one does not see \
             it, so give the new spelling a key of its own"
        ))
    })
}

/// The entry that should replace the recorded one, if the kind of a field became known.
///
/// # Errors
/// The difference, with advice.
fn compare(recorded: &Entry, now: &Entry) -> Result<Option<Entry>, String> {
    let declared = recorded.codec == now.codec && recorded.tags == now.tags;
    let change = match (&recorded.shape, &now.shape) {
        (Some(recorded), Some(now)) => recorded.compare(now),
        (None, None) => Change::None,
        _ => Change::Other,
    };
    match change {
        Change::None if declared => Ok(None),
        Change::Refined if declared => {
            let mut refined = recorded.clone();
            for sample in &now.samples {
                if refined.samples.iter().all(|known| known.payload != sample.payload) {
                    refined.samples.push(sample.clone());
                }
            }
            if let (Some(shape), Some(now)) = (&mut refined.shape, &now.shape) {
                shape.merge(now);
            }
            Ok(Some(refined))
        }
        _ => {
            let (name, version, next) = (&now.event_type, now.version, u64::from(now.version) + 1);
            let (old, new) = (recorded.text(), now.text());
            let difference = unified_difference(("recorded", &old), ("in the program", &new));
            Err(format!(
                "{name} version {version} is not what was recorded:\n\n{difference}\n\
                 give it version {next} and an upcaster from version {version}; or, if version \
                 {version} was never in a log, or only the samples show more than before, remove \
                 its entry from the file and record it again{}",
                untagged(recorded, now).unwrap_or_default()
            ))
        }
    }
}
