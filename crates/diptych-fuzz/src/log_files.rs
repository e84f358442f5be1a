//! Targets that put bytes in the place of one file of a log.
//!
//! An input begins with two bytes. Bit 0 of the first byte says that the checksums of the rest are
//! computed anew before the bytes are put in place. Such a file is forged, and the log may believe
//! it. The second byte says which file of the kind is replaced.

use std::sync::LazyLock;

use diptych_log::{
    bring_back_archive,
    disk::{Disk, simulated::SimulatedDisk},
    verify,
};
use diptych_store::RawEvent;

use crate::{
    fixture::{self, ARCHIVED, CLOSED, CONTENT, FOLDER, Fixture, IN_ARCHIVE, KILLED},
    observe::note,
    oracle::{Demands, examine, names_a_file},
    seal::{FileKind, seal},
};

/// Bytes of an input before those of the file.
const PREFIX: usize = 2;
const FORGED: u8 = 1;

static EVENTS: LazyLock<Vec<RawEvent>> = LazyLock::new(|| fixture::events(&CONTENT));

/// The parts of an input.
struct Input {
    is_forged: bool,
    which: u8,
    bytes: Vec<u8>,
}

impl Input {
    fn parse(data: &[u8], kind: FileKind) -> Option<Input> {
        let (prefix, bytes) = data.split_first_chunk::<PREFIX>()?;
        let [mode, which] = *prefix;
        let (is_forged, mut bytes) = (mode & FORGED != 0, bytes.to_vec());
        if is_forged {
            seal(kind, &mut bytes);
        }
        Some(Input { is_forged, which, bytes })
    }

    fn choose<'n>(&self, names: &[&'n str]) -> Option<&'n str> {
        names.get(usize::from(self.which).checked_rem(names.len())?).copied()
    }
}

fn seeds_of(fixture: &Fixture, names: &[&str]) -> Vec<Vec<u8>> {
    let all = (0..).zip(names).flat_map(|(which, name)| {
        [0, FORGED].map(|mode| [&[mode, which], fixture.bytes(name)].concat())
    });
    all.collect()
}

/// The bytes of the file are not forged: the log answers as before, or with an error.
fn as_before() -> Demands<'static> {
    Demands { acknowledged: Some(&EVENTS), exactly: true, opens: false }
}

fn nothing() -> Demands<'static> {
    Demands { acknowledged: None, exactly: false, opens: false }
}

/// A complete segment of either kind, or the last one of a closed log.
pub(crate) fn segment(data: &[u8]) {
    let Some(input) = Input::parse(data, FileKind::Segment) else { return };
    let Some(name) = input.choose(&CLOSED.names(".seg")) else { return };
    let demands = if input.is_forged { nothing() } else { as_before() };
    examine(&CLOSED.disk(name, &input.bytes, &[]), demands);
}

/// As [`segment`], but what a forged file says is held against the log. So a change of an event
/// must be noticed.
pub(crate) fn segment_without_mercy(data: &[u8]) {
    let Some(input) = Input::parse(data, FileKind::Segment) else { return };
    let Some(name) = input.choose(&CLOSED.names(".seg")) else { return };
    examine(&CLOSED.disk(name, &input.bytes, &[]), as_before());
}

pub(crate) fn segment_seeds() -> Vec<Vec<u8>> {
    seeds_of(&CLOSED, &CLOSED.names(".seg"))
}

/// Bytes behind the end of a log whose process was killed: each acknowledged commit is still there,
/// and the log opens. Bytes that are forged can be more commits, or records out of order.
pub(crate) fn tail(data: &[u8]) {
    let Some((mode, behind)) = data.split_first() else { return };
    let Some(last) = KILLED.names(".seg").last().copied() else { return };
    let mut bytes = KILLED.bytes(last).to_vec();
    // Behind the last commit are only zeros, written ahead of later commits.
    let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    bytes.truncate(end);
    bytes.extend_from_slice(behind);
    let is_forged = mode & FORGED != 0;
    if is_forged {
        seal(FileKind::Segment, &mut bytes);
    }
    let demands = Demands { acknowledged: Some(&EVENTS), exactly: !is_forged, opens: !is_forged };
    examine(&KILLED.disk(last, &bytes, &[]), demands);
}

pub(crate) fn tail_seeds() -> Vec<Vec<u8>> {
    // Frames of the last segment itself would be records out of order.
    let segments = KILLED.names(".seg").into_iter().rev().skip(1).take(3);
    let frames = segments.map(|name| KILLED.bytes(name).get(64..).unwrap_or(&[]));
    let mut seeds: Vec<_> =
        frames.flat_map(|frames| [0, FORGED].map(|mode| [&[mode], frames].concat())).collect();
    seeds.push(vec![0; 5_000]);
    seeds
}

/// The manifest of a closed log, or of one that was killed.
pub(crate) fn manifest(data: &[u8]) {
    small_file(data, FileKind::Manifest, "manifest");
}

/// The file `head` of a closed log, or of one that was killed.
pub(crate) fn head(data: &[u8]) {
    small_file(data, FileKind::Head, "head");
}

fn small_file(data: &[u8], kind: FileKind, name: &str) {
    let Some(input) = Input::parse(data, kind) else { return };
    let fixture = if input.which & 1 == 0 { &CLOSED } else { &KILLED };
    // The segments are as they were, so no forged end of the log adds an event.
    let mut demands = as_before();
    demands.exactly = !input.is_forged;
    examine(&fixture.disk(name, &input.bytes, &[]), demands);
}

pub(crate) fn manifest_seeds() -> Vec<Vec<u8>> {
    small_seeds("manifest")
}

pub(crate) fn head_seeds() -> Vec<Vec<u8>> {
    small_seeds("head")
}

fn small_seeds(name: &str) -> Vec<Vec<u8>> {
    let of = |which: u8, fixture: &Fixture| {
        [0, FORGED].map(|mode| [&[mode, which], fixture.bytes(name)].concat())
    };
    [of(0, &CLOSED), of(1, &KILLED)].concat()
}

/// An index file of a complete segment, or of the last one.
pub(crate) fn index(data: &[u8]) {
    derived(data, FileKind::Index, ".run");
}

pub(crate) fn index_seeds() -> Vec<Vec<u8>> {
    seeds_of(&CLOSED, &CLOSED.names(".run"))
}

/// The segment filters.
pub(crate) fn group(data: &[u8]) {
    derived(data, FileKind::Group, ".group");
}

pub(crate) fn group_seeds() -> Vec<Vec<u8>> {
    seeds_of(&CLOSED, &CLOSED.names(".group"))
}

fn derived(data: &[u8], kind: FileKind, ending: &str) {
    let Some(input) = Input::parse(data, kind) else { return };
    let Some(name) = input.choose(&CLOSED.names(ending)) else { return };
    let demands = if input.is_forged { nothing() } else { as_before() };
    examine(&CLOSED.disk(name, &input.bytes, &[]), demands);
}

/// The marks of a folder that is a backup, is being restored, or is a log of version 1, and the
/// name of the process that holds a folder.
pub(crate) fn mark(data: &[u8]) {
    let Some(input) = Input::parse(data, FileKind::Mark) else { return };
    let (name, without): (&str, &[&str]) = match input.which % 4 {
        0 => ("backup", &["manifest", "head"]),
        1 => ("restore", &["manifest", "head"]),
        2 => ("interval", &[]),
        _ => ("lock", &[]),
    };
    let disk = CLOSED.disk(name, &input.bytes, without);
    let model = Demands { acknowledged: Some(&EVENTS), exactly: false, opens: false };
    // A backup ends where its mark says, so a forged one may end early.
    let is_shorter = name == "backup" && input.is_forged;
    examine_backup(&disk, if is_shorter { nothing() } else { model });
}

fn examine_backup(disk: &SimulatedDisk, demands: Demands<'_>) {
    let is_backup = disk.open_read(format!("{FOLDER}/backup").as_ref(), 0).is_ok();
    if is_backup {
        crate::oracle::examine_backup(disk, demands);
    } else {
        examine(disk, demands);
    }
}

pub(crate) fn mark_seeds() -> Vec<Vec<u8>> {
    let head = CLOSED.bytes("head").get(..48).unwrap_or(&[]);
    let all = (0..4).flat_map(|which| [0, FORGED].map(|mode| [&[mode, which], head].concat()));
    all.collect()
}

/// The files of an archive: its mark, the segments there, and their stubs in the folder of the log.
/// The log is examined as it is, and with its segments brought back.
///
/// The running checksums bind an archived segment to its content. So verifying and bringing back
/// notice every other segment in its place, also one with checksums of its own.
pub(crate) fn archive(data: &[u8]) {
    let names = archive_names();
    let Some(name) = data.get(1).map(|which| names[usize::from(*which) % names.len()]) else {
        return;
    };
    let kind = if name.ends_with(".seg") { FileKind::Segment } else { FileKind::Archive };
    let Some(input) = Input::parse(data, kind) else { return };
    let archived = ARCHIVED.bytes(name);
    let is_other_segment = kind == FileKind::Segment && input.bytes != archived;
    // A stub has no event, and everything in it is in the segment, too.
    let demands = match kind {
        FileKind::Segment if input.is_forged => nothing(),
        _ => Demands { opens: name.ends_with(".arc") && !input.is_forged, ..as_before() },
    };
    let disk = || ARCHIVED.disk(name, &input.bytes, &[]);
    let verified = verify(FOLDER, &fixture::options(&disk()), |_, _| {});
    assert!(
        verified.is_err() || !is_other_segment,
        "{name}: another segment is taken for it: {verified:?}"
    );
    examine(&disk(), demands);
    let disk = disk();
    match bring_back_archive(FOLDER, &fixture::options(&disk), |_, _| {}) {
        Ok(report) => {
            note(&format!("{} came back", report.moved));
            assert!(!is_other_segment, "another segment came back");
        }
        Err(error) => {
            let text = error.to_string();
            note(&text);
            assert!(names_a_file(&text), "{text:?} names no file of the log");
            assert!(verified.is_err(), "what is in order does not come back: {text}");
        }
    }
    examine(&disk, demands);
}

fn archive_names() -> Vec<&'static str> {
    let is_of_archive = |name: &&str| name.ends_with(".arc") || name.starts_with(IN_ARCHIVE);
    ARCHIVED.names("").into_iter().filter(is_of_archive).collect()
}

/// Each file as it is, and each in the place of the one after it.
pub(crate) fn archive_seeds() -> Vec<Vec<u8>> {
    let names = archive_names();
    let exchanged =
        (1..).zip(&names).map(|(next, name)| [&[0, next], ARCHIVED.bytes(name)].concat());
    seeds_of(&ARCHIVED, &names).into_iter().chain(exchanged).collect()
}
