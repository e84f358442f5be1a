//! The file: JSON with one entry for each version of each type, in order of type and version.
//!
//! Format 1 had payloads in place of samples with tags, and no types of fields.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, ErrorKind, Write},
    path::{Path, PathBuf},
    process,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use diptych_store::RawEvent;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{shape::Shape, value::Value};
use crate::event::{Codec, Json};

const FORMAT: u32 = 2;
/// The format without tags of samples.
const UNTAGGED: u32 = 1;

/// A file that was read.
#[derive(Default)]
pub(super) struct Contents {
    pub(super) entries: Vec<Entry>,
    /// Whether its format knew less than today's.
    pub(super) is_older: bool,
}

/// One version of one type, as it was when it was recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) event_type: String,
    pub(super) version: u32,
    pub(super) codec: String,
    pub(super) tags: BTreeSet<String>,
    /// None for a codec that only the program knows.
    pub(super) shape: Option<Shape>,
    /// Fields with their Rust types, like `amount: u64`. None if the program does not tell them.
    pub(super) fields: Option<Vec<String>>,
    pub(super) samples: Vec<Sample>,
}

/// An event as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sample {
    pub(super) payload: Vec<u8>,
    /// None if it was recorded by a format without tags.
    pub(super) tags: Option<BTreeSet<String>>,
}

impl Entry {
    pub(super) fn is_of(&self, event_type: &str, version: u32) -> bool {
        self.event_type == event_type && self.version == version
    }

    /// The samples, each also as an event.
    pub(super) fn events(&self) -> impl Iterator<Item = (&Sample, RawEvent)> {
        self.samples.iter().map(|sample| {
            let event = RawEvent::new(self.event_type.clone(), sample.payload.clone());
            (sample, event.version(self.version))
        })
    }

    /// The properties that must not change, as lines.
    pub(super) fn text(&self) -> String {
        let mut lines = vec![format!("codec {}", self.codec)];
        lines.extend(self.tags.iter().map(|key| format!("tag {key}")));
        lines.extend(self.shape.iter().flat_map(Shape::lines));
        lines.into_iter().map(|line| line + "\n").collect()
    }
}

/// The file as it is written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LockFile<S> {
    #[serde(rename = "diptych-schemas")]
    format: u32,
    events: Vec<LockEntry<S>>,
}

/// Only the samples, `S`, are another type in each format.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LockEntry<S> {
    r#type: String,
    version: u32,
    codec: String,
    tags: BTreeSet<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    shape: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fields: Option<Vec<String>>,
    samples: Vec<S>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LockSample {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tags: Option<BTreeSet<String>>,
    /// A JSON payload byte by byte, or a payload of another codec as base64.
    payload: Box<RawValue>,
}

/// The contents of the file, nothing if there is no file.
///
/// # Errors
/// The reason why the file cannot be used, and how to fix it.
pub(super) fn read(path: &Path) -> Result<Contents, String> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Contents::default()),
        Err(error) => return Err(format!("the file cannot be read: {error}")),
    };
    parse(&bytes).map_err(|reason| match conflict(&bytes) {
        Some(line) => format!(
            "the file has the marks of a merge conflict, from line {line}, and was left as it is: \
             keep the entries of both sides and remove the marks; if both sides recorded one \
             version of one type, keep the entry that is in a log, or take one side's file and run \
             the test with `DIPTYCH_SCHEMAS=record`, which adds the entries that it lacks"
        ),
        None => format!(
            "the file is damaged, and was left as it is: {reason}; bring it back from version \
             control"
        ),
    })
}

/// The number of the line with the first mark that git leaves in a file with a conflict.
fn conflict(bytes: &[u8]) -> Option<usize> {
    let marks: [&[u8]; 2] = [b"<<<<<<< ", b">>>>>>> "];
    let mut lines = bytes.split(|byte| *byte == b'\n');
    lines.position(|line| marks.iter().any(|mark| line.starts_with(mark))).map(|at| at + 1)
}

fn parse(bytes: &[u8]) -> Result<Contents, String> {
    let file: LockFile<Box<RawValue>> = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
    let LockFile { format, events } = file;
    if ![UNTAGGED, FORMAT].contains(&format) {
        return Err(format!("its format is {format}, and this version of diptych knows {FORMAT}"));
    }
    let mut seen = BTreeSet::new();
    let mut entries = Vec::new();
    for written in events {
        let (name, version) = (written.r#type.clone(), written.version);
        let entry = written.parse(format);
        entries.push(entry.map_err(|reason| format!("{name} version {version}: {reason}"))?);
        if !seen.insert((name.clone(), version)) {
            return Err(format!("{name} version {version} is there twice"));
        }
    }
    Ok(Contents { entries, is_older: format != FORMAT })
}

impl LockEntry<Box<RawValue>> {
    fn parse(self, format: u32) -> Result<Entry, String> {
        let LockEntry { r#type: event_type, version, codec, tags, shape, fields, samples } = self;
        let shape = shape.map(|lines| Shape::parse(&lines)).transpose()?;
        if shape.is_some() != Value::is_known(&codec) {
            return Err(format!(
                "an entry of the codec {codec} has a shape that it must not have, or lacks one"
            ));
        }
        if samples.is_empty() {
            return Err("it has no samples".to_owned());
        }
        let sample = |written: Box<RawValue>| {
            let LockSample { tags, payload } = match format {
                UNTAGGED => LockSample { tags: None, payload: written },
                _ => serde_json::from_str(written.get()).map_err(|e| format!("a sample: {e}"))?,
            };
            if codec == Json::NAME {
                return Ok(Sample { payload: payload.get().as_bytes().to_vec(), tags });
            }
            let text: String = serde_json::from_str(payload.get()).map_err(|e| e.to_string())?;
            let payload = BASE64_STANDARD.decode(text).map_err(|e| format!("a sample: {e}"))?;
            Ok(Sample { payload, tags })
        };
        let samples = samples.into_iter().map(sample).collect::<Result<_, String>>()?;
        Ok(Entry { event_type, version, codec, tags, shape, fields, samples })
    }
}

impl LockEntry<LockSample> {
    fn of(entry: &Entry) -> Result<Self, String> {
        let sample = |Sample { payload, tags }: &Sample| {
            let text = if entry.codec == Json::NAME {
                String::from_utf8_lossy(payload).into_owned()
            } else {
                format!("\"{}\"", BASE64_STANDARD.encode(payload))
            };
            let payload = RawValue::from_string(text).map_err(|error| error.to_string())?;
            Ok(LockSample { tags: tags.clone(), payload })
        };
        Ok(LockEntry {
            r#type: entry.event_type.clone(),
            version: entry.version,
            codec: entry.codec.clone(),
            tags: entry.tags.clone(),
            shape: entry.shape.as_ref().map(|shape| shape.lines().collect()),
            fields: entry.fields.clone(),
            samples: entry.samples.iter().map(sample).collect::<Result<_, String>>()?,
        })
    }
}

/// Replaces the file by one with these entries, completely or not at all.
///
/// # Errors
/// The reason why the file was not written.
pub(super) fn write(path: &Path, entries: &[Entry]) -> Result<(), String> {
    let mut events: Vec<_> = entries.iter().map(LockEntry::of).collect::<Result<_, _>>()?;
    events.sort_by(|one, other| (&one.r#type, one.version).cmp(&(&other.r#type, other.version)));
    let written = LockFile { format: FORMAT, events };
    let mut text = serde_json::to_string_pretty(&written).map_err(|error| error.to_string())?;
    text.push('\n');
    replace(path, text.as_bytes()).map_err(|error| format!("the file cannot be written: {error}"))
}

fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".{}.tmp", process::id()));
    let temporary = PathBuf::from(temporary);
    let written = File::create(&temporary).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    let replaced = written.and_then(|()| fs::rename(&temporary, path));
    if replaced.is_err() {
        // The caller reports the first error. A temporary file that is left behind does no harm.
        let _ = fs::remove_file(&temporary);
    }
    replaced
}
