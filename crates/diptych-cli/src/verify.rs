//! `diptych verify`: every checksum, the order, and the index against the log.

use std::io::{self, Write};

use diptych_log::{Damage, LogOptions, Verified, VerifyError, verify};
use diptych_store::Corruption;
use indicatif::BinaryBytes;
use serde_json::{Value, json};

use crate::{
    args::VerifyArgs,
    exit::{Exit, Failure},
    folder,
    progress::Progress,
    table::{count, counted, facts},
};

pub(crate) fn run(args: &VerifyArgs) -> Result<(), Failure> {
    folder::must_exist(&args.folder)?;
    let progress = Progress::new(None);
    let verified = folder::when_free(args.folder.wait.duration(), || {
        verify(&args.folder.dir, &LogOptions::default(), |done, total| {
            progress.bytes(done, Some(total));
        })
    });
    drop(progress);
    let mut out = io::stdout().lock();
    match verified {
        Ok(verified) if args.json => Ok(writeln!(out, "{}", in_order(&verified))?),
        Ok(verified) => Ok(as_text(&verified, &mut out)?),
        Err(VerifyError::Damaged(places)) => {
            if args.json {
                writeln!(out, "{}", damaged(&places))?;
            }
            Err(Failure::new(Exit::Damage, places_text(&places)))
        }
        Err(VerifyError::Open(error)) => Err(error.into()),
        Err(error) => Err(Failure::new(Exit::Failed, error.to_string())),
    }
}

fn as_text(verified: &Verified, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "everything is in order")?;
    facts(
        out,
        &[
            ("log", verified.identity.to_string()),
            ("events", count(verified.events)),
            ("commits", count(verified.commits)),
            ("segments", counted(verified.segments, "file")),
            ("index", counted(verified.index_files, "file")),
            ("read", BinaryBytes(verified.bytes).to_string()),
        ],
    )
}

fn in_order(verified: &Verified) -> Value {
    json!({
        "ok": true,
        "log": verified.identity.id.to_string(),
        "epoch": verified.identity.epoch.to_string(),
        "events": verified.events,
        "commits": verified.commits,
        "segments": verified.segments,
        "index_files": verified.index_files,
        "bytes": verified.bytes,
    })
}

fn damaged(places: &[Damage]) -> Value {
    let place = |damage: &Damage| {
        json!({
            "file": damage.file.display().to_string(),
            "offset": damage.offset,
            "what": damage.what,
            "advice": damage.advice,
        })
    };
    json!({ "ok": false, "damage": places.iter().map(place).collect::<Vec<_>>() })
}

fn places_text(places: &[Damage]) -> String {
    let mut text = counted(places.len() as u64, "damaged place");
    for Damage { file, offset, what, advice } in places {
        let place = format!("{} at byte {offset}", file.display());
        let (what, advice) = (what.clone(), advice.clone());
        text.push_str(&format!("\n  {}", Corruption { place, what, advice }));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places() -> [Damage; 1] {
        [Damage {
            file: "data/1.segment".into(),
            offset: 4096,
            what: "the checksum of a frame does not match".into(),
            advice: "restore the file from a backup".into(),
        }]
    }

    #[test]
    fn damage_is_told_with_place_and_advice() {
        assert_eq!(
            places_text(&places()),
            "1 damaged place\n  data/1.segment at byte 4096: the checksum of a frame does not \
             match; restore the file from a backup"
        );
        let json = damaged(&places());
        assert_eq!(json["ok"], false);
        assert_eq!(json["damage"][0]["offset"], 4096);
    }
}
