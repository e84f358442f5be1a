//! `diptych stats`: what is in a log.

use std::io::{self, Write};

use diptych_log::Stats;
use indicatif::BinaryBytes;
use serde_json::json;

use crate::{
    args::StatsArgs,
    exit::Failure,
    folder,
    table::{count, counted, counts, facts},
};

pub(crate) fn run(args: &StatsArgs) -> Result<(), Failure> {
    let stats = folder::with_existing_log(&args.folder, |log| Ok(log.blocking().stats()?))?;
    let mut out = io::stdout().lock();
    if args.json {
        return Ok(writeln!(out, "{}", as_json(&stats))?);
    }
    Ok(as_text(&stats, args.top, &mut out)?)
}

fn as_text(stats: &Stats, top: usize, out: &mut impl Write) -> io::Result<()> {
    let in_segments = BinaryBytes(stats.segment_bytes);
    facts(
        out,
        &[
            ("log", stats.identity.to_string()),
            ("events", count(stats.head.get())),
            ("segments", format!("{in_segments} in {}", counted(stats.segments, "file"))),
            ("index", BinaryBytes(stats.index_bytes).to_string()),
            ("on disk", BinaryBytes(stats.allocated_bytes).to_string()),
            ("sources", count(stats.sources)),
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

fn as_json(stats: &Stats) -> serde_json::Value {
    let rows = |counts: &[(String, u64)], name: &str, number: &str| {
        let row = |(key, count): &(String, u64)| json!({ name: key, number: count });
        counts.iter().map(row).collect::<Vec<_>>()
    };
    json!({
        "log": stats.identity.id.to_string(),
        "epoch": stats.identity.epoch.to_string(),
        "events": stats.head.get(),
        "segments": stats.segments,
        "segment_bytes": stats.segment_bytes,
        "index_bytes": stats.index_bytes,
        "allocated_bytes": stats.allocated_bytes,
        "sources": stats.sources,
        "types": rows(&stats.types, "type", "events"),
        "tag_keys": rows(&stats.tag_keys, "key", "tags"),
    })
}
