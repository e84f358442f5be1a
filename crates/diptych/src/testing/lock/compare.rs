//! The rules of the schema lock: the entries that the file must have, and the changes that fail.

use diptych_store::RawEvent;

use super::{
    Current, Readers, SchemaLock, SchemaReport,
    file::{self, Entry},
    shape::{Change, Shape},
};
use crate::testing::unified_difference;

/// A check in progress.
struct Check {
    readers: Readers,
    entries: Vec<Entry>,
    problems: Vec<String>,
    /// The entries to record.
    news: Vec<News>,
}

enum News {
    Added(Entry),
    /// The kind of a field became known. The entry replaces the one of the same type and version.
    Refined(Entry),
}

pub(super) fn check(mut lock: SchemaLock) -> Result<(), SchemaReport> {
    let record = lock.records();
    let SchemaLock { path, upcasters, families, current, mut problems, .. } = lock;
    let report = |problems| SchemaReport { path: path.clone(), problems };
    let entries = match file::read(&path) {
        Ok(entries) => entries,
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
    let mut check = Check { readers, entries, problems, news: Vec::new() };
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
        for sample in &current.samples {
            let event = RawEvent::new(of.name, sample.clone()).version(of.version);
            if let Err(error) = self.readers.read(&event) {
                self.problems.push(format!("a sample cannot be read back: {error}"));
                return;
            }
        }
        let now = Entry {
            event_type: of.name.to_owned(),
            version: of.version,
            codec: of.codec.to_owned(),
            tags: of.tags.iter().map(|key| (*key).to_owned()).collect(),
            shape: None,
            samples: current.samples.clone(),
        };
        let Some(recorded) = self.entries.iter().find(|entry| entry.is_of(of.name, of.version))
        else {
            self.news.push(News::Added(Entry { shape: shown, ..now }));
            return;
        };
        let unread = self.written_again(recorded, &mut shown);
        match compare(recorded, Entry { shape: shown, ..now }) {
            Err(problem) => self.problems.push(problem),
            Ok(refined) => {
                self.problems.extend(unread);
                self.news.extend(refined.map(News::Refined));
            }
        }
    }

    /// Adds to the shape the fields that the recorded samples show after they are read and written
    /// again. So it does not matter whether the test still has these samples. Returns the first
    /// problem of a sample that cannot be read.
    fn written_again(&self, recorded: &Entry, shown: &mut Option<Shape>) -> Option<String> {
        let mut problem = None;
        for sample in recorded.events() {
            let written = self.readers.read(&sample).unwrap_or_else(|error| {
                problem.get_or_insert(format!("a recorded sample cannot be read: {error}"));
                Vec::new()
            });
            let same = |event: &&RawEvent| recorded.is_of(&event.event_type, event.version);
            for event in written.iter().filter(same) {
                if let Some(shape) = shown {
                    // Infallible: this codec has just written the payload.
                    let _ = shape.add(&recorded.codec, &event.payload);
                }
            }
        }
        problem
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
            let failed = entry.events().find_map(|sample| self.readers.read(&sample).err());
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
        for news in &self.news {
            if let News::Added(new) = news {
                let Entry { event_type, version, .. } = new;
                let older = self.entries.iter().filter(|entry| entry.event_type == *event_type);
                let caution = older.rev().find_map(|older| untagged(older, new));
                self.problems.push(format!(
                    "{event_type} version {version} is not recorded: run the test once with \
                     `DIPTYCH_SCHEMAS=record`, and commit the file{}",
                    caution.unwrap_or_default()
                ));
            }
        }
    }

    /// Records all entries, or none if there is a problem, which may affect them too.
    fn record(&mut self, write: impl FnOnce(&[Entry]) -> Result<(), String>) {
        if self.news.is_empty() {
            return;
        }
        if !self.problems.is_empty() {
            self.problems.push("nothing was recorded: fix the problems above first".to_owned());
            return;
        }
        for news in self.news.drain(..) {
            let (News::Added(new) | News::Refined(new)) = news;
            self.entries.retain(|entry| !entry.is_of(&new.event_type, new.version));
            self.entries.push(new);
        }
        self.problems.extend(write(&self.entries).err());
    }
}

/// The shape that payloads show, if the codec is known.
fn shape_of(codec: &str, payloads: &[Vec<u8>]) -> Result<Option<Shape>, String> {
    if !Shape::is_known(codec) {
        return Ok(None);
    }
    let mut shape = Shape::default();
    for payload in payloads {
        shape.add(codec, payload)?;
    }
    Ok(Some(shape))
}

/// A caution, if events of the newer version have tags that those of the older one lack, because an
/// upcaster gives no tag.
fn untagged(older: &Entry, newer: &Entry) -> Option<String> {
    let keys = newer.tags.iter().filter(|key| !older.tags.contains(*key));
    let keys = keys.map(|key| format!("{key:?}")).collect::<Vec<_>>().join(", ");
    let (name, version) = (&older.event_type, older.version);
    (!keys.is_empty()).then(|| {
        format!(
            "; beware: events of {name} version {version} that are in a log do not get the tag \
             {keys} by that, and a rule over it does not see them: let such rules ask by a tag \
             that the older events carry, or give the fact a new event type"
        )
    })
}

/// The entry that should replace the recorded one, if the kind of a field became known.
///
/// # Errors
/// The difference, with advice.
fn compare(recorded: &Entry, now: Entry) -> Result<Option<Entry>, String> {
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
            for sample in now.samples {
                if !refined.samples.contains(&sample) {
                    refined.samples.push(sample);
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
                untagged(recorded, &now).unwrap_or_default()
            ))
        }
    }
}
