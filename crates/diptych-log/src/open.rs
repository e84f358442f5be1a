//! Opening a log: find the last segment, use its index files, scan the frames behind them, and cut
//! off a commit that a kill or a loss of power left unfinished. Older segments are not read.

use std::{path::Path, sync::Arc};

use diptych_store::{LogIdentity, Position, Timestamp};

use crate::{
    catalog::{
        Catalog, filter_file,
        maps::{self, FilesOwner, Maps},
        part::{self, IndexPart},
        rebuild::{LastCommit, UnusableFiles},
        segment::Segment,
    },
    disk::{Disk, DiskFile, DiskLock},
    error::{OpenError, corruption, io_error},
    folder::{
        Folders, derived, head_file,
        hold::{self, HeldFolder},
        manifest,
        mark::{self, FolderKind},
    },
    format::{
        frame,
        head::PublishedHead,
        manifest::{ArchivePlace, Manifest, Role, State},
        segment::{self, Head, Header, Order},
    },
    index::{Columns, IndexFile, Seed, index_file},
    options::LogOptions,
    shared::LogEnd,
};

mod backup;
mod check;
mod end;
pub(crate) mod evidence;
mod here;
pub(crate) mod reading;
mod tail;

pub(crate) use check::check;
use evidence::Evidence;
use here::Here;
pub(crate) use here::begin_arrival;
use tail::Tail;

/// The results of an open, from which the parts of an open log are made.
pub(crate) struct OpenLog {
    /// Their disk reaches the files through the folder that was opened.
    pub(crate) options: LogOptions,
    pub(crate) folders: Folders,
    /// The identity that the log has from now on.
    pub(crate) identity: LogIdentity,
    pub(crate) seed: Seed,
    pub(crate) maps: Arc<Maps>,
    pub(crate) catalog: Catalog,
    pub(crate) end: LogEnd,
    /// The file of the last segment.
    pub(crate) file: Arc<dyn DiskFile>,
    /// The log must continue in a new segment: something was cut off, or its epoch is new.
    pub(crate) begins_anew: bool,
    /// Its epoch is new. It counts only once it is in the log.
    pub(crate) new_epoch: bool,
    pub(crate) lock: Option<Box<dyn DiskLock>>,
    pub(crate) head_file: Option<Arc<dyn DiskFile>>,
    /// The manifest that the log has from now on. A backup has none.
    pub(crate) manifest: Option<Manifest>,
}

/// The source of the commits that an open log will take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CommitSource {
    /// Users of the log.
    Users,
    /// The move of the log from another folder to this one.
    Move,
}

/// Opens the log in a folder, creating both if missing.
pub(crate) fn open(
    root: &Path,
    options: LogOptions,
    source: CommitSource,
) -> Result<OpenLog, OpenError> {
    check_options(&options)?;
    let folders = Folders::new(root);
    let HeldFolder { disk, lock } = hold::create_and_hold(&*options.disk, &folders)?;
    let options = LogOptions { disk: disk.clone(), ..options };
    if let FolderKind::Backup(end) = mark::kind(&*disk, root)? {
        return backup::open(folders, options, lock, end);
    }
    let evidence = Evidence::left_in(&*disk, root)?;
    let here = Here::now(&*disk, &folders, &evidence, options.durability)?;
    evidence.must_take_appends(root, source)?;
    evidence.must_be_in_place(root, here.place, options.place)?;
    let cut_off = evidence.may_hide_loss(&*disk, root, (&here.run, here.place))?;
    let seed = newest_seed(&*disk, &folders.index)?;
    let maps = Maps::new(options.tuning.mapped_files, FilesOwner::Here);
    let (backup, is_live) = (None, false);
    let opening =
        Opening { disk: &*disk, folders: &folders, evidence, backup, seed, maps, is_live };
    let mut listed = opening.list_segments()?;
    let end = opening.find_end(&mut listed, &options, &here)?;
    let mut parts = opening.sealed_parts(&listed, &end.last.header)?;
    let manifest = opening.manifest_of(&end, &here)?;
    let found = end::end_in(&end.last, &end.tail);
    let lost_some = cut_off || opening.evidence.shows_loss(&found);
    let migrates = manifest.state == State::Migrating;
    let begins_anew = lost_some || end.begins_anew || migrates;
    let mut identity = end.last.header.identity;
    let head_file = match head_file::open_or_create(&*disk, &folders) {
        // It is created before the first commit.
        Err(error) if error.is_full() => None,
        file => Some(file?),
    };
    if lost_some {
        identity.epoch = identity.epoch.next();
        tracing::warn!(epoch = %identity.epoch, "acknowledged commits may be lost: new epoch");
    }
    parts.extend(end.tail.parts.iter().cloned());
    let maps = opening.maps;
    let log = assemble(options, folders, (identity, seed), (maps, parts), end)?;
    let (lock, manifest) = (Some(lock), Some(manifest));
    Ok(OpenLog { begins_anew, new_epoch: lost_some, lock, head_file, manifest, ..log })
}

/// Opens a log that continues in a new epoch. The caller holds the folder until it is that of a
/// log; `options.disk` reaches it through the held folder. `restored_from` goes to the manifest.
pub(crate) fn in_new_epoch(
    folders: &Folders,
    options: LogOptions,
    evidence: Evidence,
    restored_from: Option<(LogIdentity, Position)>,
) -> Result<OpenLog, OpenError> {
    let disk = options.disk.clone();
    let here = Here::now(&*disk, folders, &evidence, options.durability)?;
    let seed = newest_seed(&*disk, &folders.index)?;
    let maps = Maps::new(options.tuning.mapped_files, FilesOwner::Here);
    let (backup, is_live) = (None, false);
    let opening = Opening { disk: &*disk, folders, evidence, backup, seed, maps, is_live };
    let mut listed = opening.list_segments()?;
    let end = opening.find_end(&mut listed, &options, &here)?;
    let mut parts = opening.sealed_parts(&listed, &end.last.header)?;
    let manifest = opening.manifest_of(&end, &here)?;
    // The archive belongs to the log that this one was copied from.
    let archive = manifest.archive.map(|archive| ArchivePlace { only_reads: true, ..archive });
    let manifest = Manifest { role: Role::Primary, restored_from, archive, ..manifest };
    parts.extend(end.tail.parts.iter().cloned());
    let mut identity = end.last.header.identity;
    identity.epoch = identity.epoch.next();
    let maps = opening.maps;
    let log = assemble(options, folders.clone(), (identity, seed), (maps, parts), end)?;
    Ok(OpenLog { begins_anew: true, new_epoch: true, manifest: Some(manifest), ..log })
}

fn check_options(options: &LogOptions) -> Result<(), OpenError> {
    let limits = &options.limits;
    let sources = limits.tracking_sources.saturating_mul(limits.source_bytes.saturating_add(64));
    let section = limits.key_bytes.saturating_add(limits.source_bytes).saturating_add(256);
    let body = limits.event_bytes.saturating_add(section);
    let problem = if body > frame::MAX_BODY {
        format!("event_bytes, key_bytes and source_bytes together must be below {}", 16 << 20)
    } else if sources > frame::MAX_BODY - 256 {
        format!("tracking_sources times source_bytes (and 64 each) must be below {}", 16 << 20)
    } else if !(1024..=1 << 30).contains(&options.segment_bytes) {
        "segment_bytes must be from 1 KiB to 1 GiB".to_owned()
    } else if limits.commit_bytes > 1 << 30 || limits.commit_events > 1 << 23 {
        "commit_bytes must be at most 1 GiB, commit_events at most 8 million".to_owned()
    } else if options.queue_bytes == 0 || options.index_bytes == 0 {
        "queue_bytes and index_bytes must be above 0".to_owned()
    } else if options.tuning.waiting_parts == 0 {
        "tuning.waiting_parts must be above 0".to_owned()
    } else if options.tuning.mapped_files < maps::FEWEST {
        format!("tuning.mapped_files must be at least {}", maps::FEWEST)
    } else {
        return Ok(());
    };
    Err(OpenError::Options { problem })
}

/// A segment, as described by its file name.
#[derive(Clone, Copy, Debug)]
struct ListedSegment {
    sequence: u32,
    base: Position,
}

/// An index file, as described by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ListedIndexFile {
    segment: u32,
    first: Position,
    last: Position,
}

impl ListedIndexFile {
    fn file_name(&self) -> String {
        index_file::file_name(self.segment, self.first, self.last)
    }

    /// Whether this content is about the events that the name says. A loss of power can leave the
    /// content of another file under a name.
    fn names(&self, content: &IndexFile) -> bool {
        let next = content.first().plus(u64::from(content.len()));
        content.first() == self.first && next == self.last.plus(1)
    }
}

/// The segment that is written to.
struct Last {
    header: Header,
    file: Arc<dyn DiskFile>,
    segment: Arc<Segment>,
}

/// Where the log continues.
struct End {
    last: Last,
    tail: Tail,
    /// It continues in a new segment, because something was cut off.
    begins_anew: bool,
}

struct Opening<'a> {
    disk: &'a dyn Disk,
    folders: &'a Folders,
    evidence: Evidence,
    /// Where the backup ends; anything behind that in its folder is ignored.
    backup: Option<PublishedHead>,
    seed: Seed,
    /// Says also whether files may be changed.
    maps: Arc<Maps>,
    /// Another process writes the log, which may be behind the end that is read by now.
    is_live: bool,
}

impl Opening<'_> {
    /// Whether another process may be writing the log, so that nothing is changed or removed.
    fn reads_only(&self) -> bool {
        self.maps.files() == FilesOwner::Elsewhere
    }

    fn list_segments(&self) -> Result<Vec<ListedSegment>, OpenError> {
        let dir = &self.folders.segments;
        let names = self.disk.list(dir).map_err(io_error("list", dir))?;
        let parsed = names.iter().filter_map(|name| segment::parse_file_name(name));
        let mut listed: Vec<_> =
            parsed.map(|(sequence, base)| ListedSegment { sequence, base }).collect();
        listed.sort_by_key(|segment| segment.sequence);
        if let Some(end) = self.backup {
            listed.retain(|segment| segment.sequence <= end.segment);
        }
        for (expected, segment) in (1..).zip(&listed) {
            if segment.sequence != expected {
                let what = format!("segment {expected} is missing");
                return Err(corruption(dir, 0, what).into());
            }
        }
        Ok(listed)
    }

    fn create_first(&self, options: &LogOptions, here: &Here) -> Result<Last, OpenError> {
        // An interrupted creation has left its manifest: no caller has seen that log yet.
        let begun = self.evidence.manifest().map(|begun| begun.identity);
        let identity = begun.unwrap_or_else(LogIdentity::random);
        // Before its first segment, because such a segment is damaged without a manifest.
        let begun = Manifest { role: self.evidence.role(), ..here.begin(identity) };
        manifest::replace(self.disk, &self.folders.root, &begun)?;
        let header = Header {
            format: segment::FORMAT,
            order: Order::Arrival,
            sequence: 1,
            identity,
            base: Position::new(1),
            base_time: Timestamp::now(),
        };
        let segment = Arc::new(Segment::planned(&self.maps, &self.folders.segments, &header));
        let (folder, bytes) = (&self.folders.segments, options.segment_bytes);
        let file = segment.create(self.disk, folder, &header, bytes);
        let file = file.map_err(io_error("create", &segment.path))?;
        Ok(Last { header, file, segment })
    }

    /// The index files, ordered by segment and position.
    fn list_index(&self, last: u32) -> Result<Vec<ListedIndexFile>, OpenError> {
        let dir = &self.folders.index;
        let mut listed = Vec::new();
        for name in self.disk.list(dir).map_err(io_error("list", dir))? {
            let Some((segment, first, last_position)) = index_file::parse_file_name(&name) else {
                continue;
            };
            let found = ListedIndexFile { segment, first, last: last_position };
            if segment > last && self.load_run(&found)?.is_some_and(|run| run.is_about(segment)) {
                // An index file is written only once its records are durable.
                let what = format!("segment {segment} is missing: {name} is about it");
                return Err(corruption(&self.folders.segments, 0, what).into());
            }
            listed.push(found);
        }
        // If two begin at one position, the longer one is the merged one.
        listed.sort_by_key(|run| (run.segment, run.first, std::cmp::Reverse(run.last)));
        Ok(listed)
    }

    /// The parts of all segments but the last, not loaded yet.
    fn sealed_parts(
        &self,
        sealed: &[ListedSegment],
        last: &Header,
    ) -> Result<Vec<Arc<IndexPart>>, OpenError> {
        let index = self.list_index(u32::MAX)?;
        let mut parts = Vec::new();
        let unusable = Arc::new(UnusableFiles::new(part::INDEX_FILE));
        let nexts = sealed.iter().skip(1).map(|segment| segment.base).chain([last.base]);
        for (ListedSegment { sequence, base }, next) in sealed.iter().zip(nexts) {
            let path = self.folders.segments.join(segment::file_name(*sequence, *base));
            if next < *base {
                return Err(corruption(&path, 0, "segments are out of order").into());
            }
            let runs = of_segment(&index, *sequence);
            if next == *base {
                self.remove_runs(runs, &[]);
                continue;
            }
            let segment =
                Segment::sealed(&self.maps, path, *sequence, (*base, next), last.identity);
            let segment = Arc::new(segment);
            let mut chain = chain(runs, *base);
            let spans: Vec<_> = chain.iter().map(|run| (run.first, run.last)).collect();
            let is_listed = covers(&spans, *base, next.before());
            if !is_listed {
                // One part for the whole segment, which is built on first use.
                chain =
                    vec![ListedIndexFile { segment: *sequence, first: *base, last: next.before() }];
            }
            self.remove_runs(runs, &chain);
            parts.extend(chain.iter().map(|run| {
                Arc::new(IndexPart::file(
                    segment.clone(),
                    self.folders,
                    (run.first, run.last),
                    (self.seed, is_listed),
                    &unusable,
                ))
            }));
        }
        Ok(parts)
    }

    /// Removes the index files that are not needed, which is all of `runs` except `but`.
    fn remove_runs(&self, runs: &[ListedIndexFile], but: &[ListedIndexFile]) {
        if self.reads_only() {
            return;
        }
        for run in runs.iter().filter(|run| !but.contains(run)) {
            derived::remove_needless(self.disk, &self.folders.index.join(run.file_name()));
        }
    }
}

fn of_segment(index: &[ListedIndexFile], sequence: u32) -> &[ListedIndexFile] {
    let start = index.partition_point(|run| run.segment < sequence);
    let end = index.partition_point(|run| run.segment <= sequence);
    index.get(start..end).unwrap_or(&[])
}

/// The files that cover the events from `first` on without a gap.
fn chain(runs: &[ListedIndexFile], first: Position) -> Vec<ListedIndexFile> {
    let mut next = first;
    let mut chain = Vec::new();
    for run in runs {
        if run.first == next && run.last >= next {
            chain.push(*run);
            next = run.last.plus(1);
        }
    }
    chain
}

fn assemble(
    options: LogOptions,
    folders: Folders,
    (identity, seed): (LogIdentity, Seed),
    (maps, parts): (Arc<Maps>, Vec<Arc<IndexPart>>),
    End { last, tail, begins_anew }: End,
) -> Result<OpenLog, OpenError> {
    let (filters, needless) =
        filter_file::list((&*options.disk, &maps), &folders, last.header.sequence)?;
    if maps.files() == FilesOwner::Here {
        needless.iter().for_each(|path| derived::remove_needless(&*options.disk, path));
    }
    let Last { header, file, segment } = last;
    let position = header.base.plus(u64::from(tail.recovered.next)).before();
    let time = match tail.last_commit {
        None => Timestamp::NEVER,
        Some(LastCommit::Before(time)) => time,
        Some(LastCommit::Here(since)) => {
            let since = i64::try_from(since).unwrap_or(0);
            Timestamp::from_micros(header.base_time.as_micros().saturating_add(since))
        }
    };
    let newest = parts.last().cloned();
    let newest = newest.unwrap_or_else(|| {
        Arc::new(IndexPart::memory(segment.clone(), Columns::new(position.plus(1))))
    });
    let end = LogEnd {
        position,
        time,
        tracking: Arc::new(tail.tracking),
        segment,
        segment_head: Head::of(&header),
        offset: tail.recovered.end,
        chain: tail.chain,
        segment_from: match tail.last_commit {
            Some(LastCommit::Here(_)) => segment::HEADER as u64,
            _ => tail.recovered.end,
        },
        tail: newest,
        tail_from: tail.from,
        refuses: None,
    };
    let catalog = Catalog::new(parts, filters);
    let (lock, head_file, manifest) = (None, None, None);
    Ok(OpenLog {
        options,
        folders,
        identity,
        seed,
        maps,
        catalog,
        end,
        file,
        begins_anew,
        new_epoch: false,
        lock,
        head_file,
        manifest,
    })
}

/// The key of the newest index file in a folder, or a new one if there is no such file.
///
/// # Errors
/// If the folder or a file cannot be read now.
fn newest_seed(disk: &dyn Disk, dir: &Path) -> Result<Seed, OpenError> {
    let mut names = disk.list(dir).map_err(io_error("list", dir))?;
    names.retain(|name| index_file::parse_file_name(name).is_some());
    names.sort_unstable();
    for path in names.iter().rev().map(|name| dir.join(name)) {
        let file = disk.open_read(&path, 0).map_err(io_error("open", &path))?;
        let header = file.read_at(0, index_file::HEADER).map_err(io_error("read", &path))?;
        if let Some(seed) = index_file::seed_in(&header) {
            return Ok(seed);
        }
    }
    Ok(Seed::random())
}

/// Whether these parts, given by first and last position, cover `first..=last` without a gap.
fn covers(parts: &[(Position, Position)], first: Position, last: Position) -> bool {
    let end = parts
        .iter()
        .try_fold(first, |next, (from, to)| (*from == next && to >= from).then(|| to.plus(1)));
    end == Some(last.plus(1))
}
