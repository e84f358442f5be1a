//! The file: JSON with one entry for each version of each type, in order of type and version.

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

use super::shape::Shape;
use crate::event::{Codec, Json};

const FORMAT: u32 = 1;

/// One version of one type, as it was when it was recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) event_type: String,
    pub(super) version: u32,
    pub(super) codec: String,
    pub(super) tags: BTreeSet<String>,
    /// None for a codec that only the program knows.
    pub(super) shape: Option<Shape>,
    /// Payloads.
    pub(super) samples: Vec<Vec<u8>>,
}

impl Entry {
    pub(super) fn is_of(&self, event_type: &str, version: u32) -> bool {
        self.event_type == event_type && self.version == version
    }

    /// The samples as events.
    pub(super) fn events(&self) -> impl Iterator<Item = RawEvent> {
        self.samples.iter().map(|payload| {
            RawEvent::new(self.event_type.clone(), payload.clone()).version(self.version)
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
struct LockFile {
    #[serde(rename = "diptych-schemas")]
    format: u32,
    events: Vec<LockEntry>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LockEntry {
    r#type: String,
    version: u32,
    codec: String,
    tags: BTreeSet<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    shape: Option<Vec<String>>,
    /// JSON payloads byte by byte; payloads of other codecs as base64.
    samples: Vec<Box<RawValue>>,
}

/// The entries of the file, none if there is no file.
///
/// # Errors
/// The reason why the file cannot be used, and how to fix it.
pub(super) fn read(path: &Path) -> Result<Vec<Entry>, String> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(format!("the file cannot be read: {error}")),
    };
    parse(&bytes).map_err(|reason| {
        format!(
            "the file is damaged, and was left as it is: {reason}; bring it back from version \
             control"
        )
    })
}

fn parse(bytes: &[u8]) -> Result<Vec<Entry>, String> {
    let LockFile { format, events } = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
    if format != FORMAT {
        return Err(format!("its format is {format}, and this version of diptych knows {FORMAT}"));
    }
    let mut seen = BTreeSet::new();
    let mut entries = Vec::new();
    for written in events {
        let (name, version) = (written.r#type.clone(), written.version);
        let entry = written.parse().map_err(|reason| format!("{name} version {version}: {reason}"));
        entries.push(entry?);
        if !seen.insert((name.clone(), version)) {
            return Err(format!("{name} version {version} is there twice"));
        }
    }
    Ok(entries)
}

impl LockEntry {
    fn parse(self) -> Result<Entry, String> {
        let LockEntry { r#type: event_type, version, codec, tags, shape, samples } = self;
        let shape = shape.map(|lines| Shape::parse(&lines)).transpose()?;
        if shape.is_some() != Shape::is_known(&codec) {
            return Err(format!(
                "an entry of the codec {codec} has a shape that it must not have, or lacks one"
            ));
        }
        if samples.is_empty() {
            return Err("it has no samples".to_owned());
        }
        let payload = |sample: Box<RawValue>| {
            if codec == Json::NAME {
                return Ok(sample.get().as_bytes().to_vec());
            }
            let text: String = serde_json::from_str(sample.get()).map_err(|e| e.to_string())?;
            BASE64_STANDARD.decode(text).map_err(|error| format!("a sample: {error}"))
        };
        let samples = samples.into_iter().map(payload).collect::<Result<_, _>>()?;
        Ok(Entry { event_type, version, codec, tags, shape, samples })
    }

    fn of(entry: &Entry) -> Result<LockEntry, String> {
        let sample = |payload: &Vec<u8>| {
            let text = if entry.codec == Json::NAME {
                String::from_utf8_lossy(payload).into_owned()
            } else {
                format!("\"{}\"", BASE64_STANDARD.encode(payload))
            };
            RawValue::from_string(text).map_err(|error| error.to_string())
        };
        Ok(LockEntry {
            r#type: entry.event_type.clone(),
            version: entry.version,
            codec: entry.codec.clone(),
            tags: entry.tags.clone(),
            shape: entry.shape.as_ref().map(|shape| shape.lines().collect()),
            samples: entry.samples.iter().map(sample).collect::<Result<_, _>>()?,
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
