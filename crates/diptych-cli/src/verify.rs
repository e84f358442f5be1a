//! `diptych verify`: checks every checksum, the order of the events, and the index against the log.

use std::io::{self, Write};

use diptych_log::{
    Damage, LogOptions, OpenError, VerifyError, VerifyReport, scrub, verify, verify_without_archive,
};
use diptych_store::{Corruption, Timestamp};
use indicatif::BinaryBytes;
use serde::Serialize;

use crate::{
    args::VerifyArgs,
    exit::{Exit, Failure},
    folder::{self, MaybeHeld},
    ndjson::write_json,
    progress::Progress,
    table::{ahead_seconds, count, counted, facts, recorded},
};

pub(crate) fn run(args: &VerifyArgs) -> Result<(), Failure> {
    let progress = Progress::new(Some(0));
    let (dir, options) = (&args.folder.dir, LogOptions::default());
    let show = |done, total| progress.bytes(done, Some(total));
    let verified = folder::when_free(args.folder.wait.duration(), || match args.without_archive {
        true => verify_without_archive(dir, &options, show),
        false => verify(dir, &options, show),
    });
    let is_open = verified.as_ref().is_err_and(MaybeHeld::is_held);
    let verified = match is_open {
        true => scrub(dir, &options, args.rate, show),
        false => verified,
    };
    drop(progress);
    let mut out = io::stdout().lock();
    let places: Vec<Corruption> = match verified {
        Ok(verified) if args.json => {
            return Ok(write_json(&IntactOutput::of(&verified, is_open), &mut out)?);
        }
        Ok(verified) => return Ok(as_text(&verified, is_open, &mut out)?),
        Err(VerifyError::Damaged(places)) => places.into_iter().map(corruption).collect(),
        Err(VerifyError::Open(OpenError::Corrupt(corruption))) => vec![corruption],
        Err(VerifyError::Open(error)) => {
            // A missing log is reported as such, and not as damage.
            folder::must_exist(&args.folder)?;
            return Err(error.into());
        }
        Err(error) => return Err(Failure::new(Exit::Failed, error.to_string())),
    };
    if args.json {
        write_json(&DamageOutput::of(&places), &mut out)?;
    }
    Err(Failure::new(Exit::Damage, as_lines(&places)))
}

fn as_text(verified: &VerifyReport, is_open: bool, out: &mut impl Write) -> io::Result<()> {
    match is_open {
        true => writeln!(
            out,
            "everything is in order up to position {}; another process has the log open",
            verified.events
        )?,
        false => writeln!(out, "everything is in order")?,
    }
    facts(
        out,
        &[
            ("log", verified.identity.to_string()),
            ("events", count(verified.events)),
            ("commits", count(verified.commits)),
            ("segments", segments(verified)),
            ("index", counted(verified.index_files, "file")),
            ("recorded", recorded(verified.last_recorded_at, Timestamp::now())),
            ("read", BinaryBytes(verified.bytes).to_string()),
        ],
    )
}

fn segments(verified: &VerifyReport) -> String {
    let read = counted(verified.segments, "file");
    match verified.skipped_segments {
        0 => read,
        skipped => format!("{read}; archived and not read: {}", count(skipped)),
    }
}

/// The JSON output if everything is in order.
#[derive(Serialize)]
struct IntactOutput {
    ok: bool,
    /// Whether another process had the log open. Then it was verified up to `events`.
    open: bool,
    log: String,
    epoch: String,
    events: u64,
    commits: u64,
    segments: u64,
    /// Archived segments that were not read.
    skipped_segments: u64,
    index_files: u64,
    bytes: u64,
    last_recorded_at: Option<String>,
    /// By how much that is after the clock.
    ahead_seconds: u64,
}

impl IntactOutput {
    fn of(verified: &VerifyReport, open: bool) -> IntactOutput {
        IntactOutput {
            ok: true,
            open,
            log: verified.identity.id.to_string(),
            epoch: verified.identity.epoch.to_string(),
            events: verified.events,
            commits: verified.commits,
            segments: verified.segments,
            skipped_segments: verified.skipped_segments,
            index_files: verified.index_files,
            bytes: verified.bytes,
            last_recorded_at: verified.last_recorded_at.map(|at| at.to_string()),
            ahead_seconds: ahead_seconds(verified.last_recorded_at, Timestamp::now()),
        }
    }
}

/// The JSON output if there is damage.
#[derive(Serialize)]
struct DamageOutput {
    ok: bool,
    damage: Vec<Place>,
}

#[derive(Serialize)]
struct Place {
    /// File and offset, or another description of the place.
    place: String,
    what: String,
    advice: String,
}

impl DamageOutput {
    fn of(places: &[Corruption]) -> DamageOutput {
        let place = |Corruption { place, what, advice }: &Corruption| Place {
            place: place.clone(),
            what: what.clone(),
            advice: advice.clone(),
        };
        DamageOutput { ok: false, damage: places.iter().map(place).collect() }
    }
}

/// Damage from a verification, in the form of damage from an open, so that both are printed alike.
fn corruption(damage: Damage) -> Corruption {
    let Damage { file, offset, what, advice } = damage;
    Corruption { place: format!("{} at byte {offset}", file.display()), what, advice }
}

fn as_lines(places: &[Corruption]) -> String {
    let count = counted(places.len() as u64, "damaged place");
    places.iter().fold(count, |text, place| format!("{text}\n  {place}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_is_reported_with_place_and_advice() {
        let damage = Damage {
            file: "data/1.segment".into(),
            offset: 4096,
            what: "the checksum of a frame does not match".into(),
            advice: "restore the file from a backup".into(),
        };
        let places = [corruption(damage)];
        assert_eq!(
            as_lines(&places),
            "1 damaged place\n  data/1.segment at byte 4096: the checksum of a frame does not \
             match; restore the file from a backup"
        );
        let mut json = Vec::new();
        write_json(&DamageOutput::of(&places), &mut json).unwrap();
        let start = r#"{"ok":false,"damage":[{"place":"data/1.segment at byte 4096","what":"#;
        assert!(json.starts_with(start.as_bytes()));
    }
}
