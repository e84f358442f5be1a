//! `diptych stats`: prints counts and sizes of a log's contents.

use std::io::{self, Write};

use diptych_log::Stats;
use diptych_store::{Filter, Read, Store, Timestamp};
use indicatif::BinaryBytes;
use serde::Serialize;

use crate::{
    address::LogAddress,
    args::{Folder, StatsArgs},
    exit::Failure,
    folder,
    ndjson::write_json,
    remote,
    table::{ahead_seconds, count, counted, counts, facts, recorded},
};

pub(crate) fn run(args: &StatsArgs) -> Result<(), Failure> {
    let dir = match &args.place.address {
        LogAddress::Folder(dir) => dir,
        LogAddress::Remote(address) => {
            return of_server(&remote::connect_to_read(address, args.place.wait)?, args);
        }
    };
    let folder = Folder { dir: dir.clone(), wait: args.place.wait };
    let stats = folder::open_to_read(&folder)?.blocking().stats()?;
    let mut out = io::stdout().lock();
    if args.json {
        return Ok(write_json(&StatsOutput::from(stats), &mut out)?);
    }
    Ok(as_text(&stats, args.top, &mut out)?)
}

/// Prints what a server tells about its log.
fn of_server(log: &Store, args: &StatsArgs) -> Result<(), Failure> {
    let head = pollster::block_on(log.known_head())?;
    let last = pollster::block_on(log.read(&Filter::everything(), Read::backwards().limit(1)))?;
    let last_recorded_at = last.get(0).map(|event| event.recorded_at());
    let types = pollster::block_on(log.types())?;
    let mut out = io::stdout().lock();
    if args.json {
        let output = ServerOutput {
            log: log.identity().id.to_string(),
            epoch: log.identity().epoch.to_string(),
            events: head.get(),
            last_recorded_at: last_recorded_at.map(|at| at.to_string()),
            ahead_seconds: ahead_seconds(last_recorded_at, Timestamp::now()),
            types: types.into_iter().map(|r#type| TypeName { r#type }).collect(),
        };
        return Ok(write_json(&output, &mut out)?);
    }
    facts(
        &mut out,
        &[
            ("log", log.identity().to_string()),
            ("events", count(head.get())),
            ("recorded", recorded(last_recorded_at, Timestamp::now())),
            ("types", count(types.len() as u64)),
        ],
    )?;
    if !types.is_empty() {
        writeln!(out, "\ntype")?;
    }
    for name in types.iter().take(args.top) {
        writeln!(out, "{name}")?;
    }
    match types.len().saturating_sub(args.top) {
        0 => Ok(()),
        more => Ok(writeln!(out, "… and {} more", count(more as u64))?),
    }
}

/// The statistics of a server's log as the JSON output has them.
#[derive(Serialize)]
struct ServerOutput {
    log: String,
    epoch: String,
    events: u64,
    last_recorded_at: Option<String>,
    /// The seconds by which `last_recorded_at` is ahead of the clock, or 0.
    ahead_seconds: u64,
    types: Vec<TypeName>,
}

#[derive(Serialize)]
struct TypeName {
    r#type: String,
}

fn as_text(stats: &Stats, top: usize, out: &mut impl Write) -> io::Result<()> {
    let in_segments = BinaryBytes(stats.segment_bytes);
    facts(
        out,
        &[
            ("log", stats.identity.to_string()),
            ("events", count(stats.head.get())),
            ("segments", format!("{in_segments} in {}", counted(stats.segments, "file"))),
            ("archived", archived(stats)),
            ("index", BinaryBytes(stats.index_bytes).to_string()),
            ("on disk", BinaryBytes(stats.allocated_bytes).to_string()),
            ("sources", count(stats.sources)),
            ("recorded", recorded(stats.last_recorded_at, Timestamp::now())),
            (
                "mapped",
                format!("{} of at most {}", counted(stats.maps, "file"), count(stats.maps_limit)),
            ),
            ("open", counted(stats.open_files, "file")),
        ],
    )?;
    if !stats.types.is_empty() {
        writeln!(out)?;
        counts(out, ("type", "events"), &stats.types, top)?;
    }
    if !stats.tag_keys.is_empty() {
        writeln!(out)?;
        counts(out, ("tag key", "tags"), &stats.tag_keys, top)?;
    }
    Ok(())
}

fn archived(stats: &Stats) -> String {
    let Some(archive) = &stats.archive else { return "none".to_owned() };
    let bytes = BinaryBytes(stats.archived_bytes);
    format!("{bytes} in {}, in {}", counted(stats.archived_segments, "file"), archive.display())
}

/// The statistics as the JSON output has them.
#[derive(Serialize)]
struct StatsOutput {
    log: String,
    epoch: String,
    events: u64,
    segments: u64,
    segment_bytes: u64,
    archived_segments: u64,
    archived_bytes: u64,
    archive: Option<String>,
    index_bytes: u64,
    allocated_bytes: u64,
    sources: u64,
    last_recorded_at: Option<String>,
    /// The seconds by which `last_recorded_at` is ahead of the clock, or 0.
    ahead_seconds: u64,
    maps: u64,
    maps_limit: u64,
    open_files: u64,
    types: Vec<TypeCount>,
    tag_keys: Vec<KeyCount>,
}

#[derive(Serialize)]
struct TypeCount {
    r#type: String,
    events: u64,
}

#[derive(Serialize)]
struct KeyCount {
    key: String,
    tags: u64,
}

impl From<Stats> for StatsOutput {
    fn from(stats: Stats) -> StatsOutput {
        let types = stats.types.into_iter();
        let keys = stats.tag_keys.into_iter();
        StatsOutput {
            log: stats.identity.id.to_string(),
            epoch: stats.identity.epoch.to_string(),
            events: stats.head.get(),
            segments: stats.segments,
            segment_bytes: stats.segment_bytes,
            archived_segments: stats.archived_segments,
            archived_bytes: stats.archived_bytes,
            archive: stats.archive.map(|archive| archive.display().to_string()),
            index_bytes: stats.index_bytes,
            allocated_bytes: stats.allocated_bytes,
            sources: stats.sources,
            last_recorded_at: stats.last_recorded_at.map(|at| at.to_string()),
            ahead_seconds: ahead_seconds(stats.last_recorded_at, Timestamp::now()),
            maps: stats.maps,
            maps_limit: stats.maps_limit,
            open_files: stats.open_files,
            types: types.map(|(r#type, events)| TypeCount { r#type, events }).collect(),
            tag_keys: keys.map(|(key, tags)| KeyCount { key, tags }).collect(),
        }
    }
}
