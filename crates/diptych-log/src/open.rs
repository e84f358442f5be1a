//! Opening a log: find the last segment, take what the index files say of it, read the rest of
//! it, cut off what a kill or a loss of power left unfinished. Older segments are not read.

use std::{
    io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64},
    },
};

use diptych_store::{HeadPublisher, LogIdentity, Position, Timestamp};
use parking_lot::{Condvar, Mutex, RwLock};

use crate::{
    LogOptions, OpenError,
    backup::mark::{self, Kind},
    batches::Batches,
    catalog::{Catalog, Folders, LastCommit, Part, Rebuilt},
    cold,
    disk::{Disk, DiskFile, DiskLock},
    engine::Engine,
    error::{corruption, io_error},
    evidence::Evidence,
    folders::{self, HeldFolder},
    follower::{HEAD_FILE, PublishedHead},
    frame, groups,
    index::{Columns, Coverage, Run, run},
    indexer::{Indexer, covers},
    interval,
    recovery::{self, From, Recovered},
    segment::{self, Head, Header, Segment},
    sequencer::{Queue, State},
    writer::Writer,
};

mod backup;
mod check;
mod end;

pub(crate) use check::check;

pub(crate) fn open(root: &Path, options: LogOptions) -> Result<Engine, OpenError> {
    check_options(&options)?;
    let folders = Folders::new(root);
    let HeldFolder { disk, lock } = folders::create_and_hold(&*options.disk, &folders)?;
    let options = LogOptions { disk: disk.clone(), ..options };
    if let Kind::Backup(end) = mark::kind(&*disk, root)? {
        return backup::open(folders, options, lock, end);
    }
    let evidence = Evidence::left_in(&*disk, root)?;
    let opening = Opening { disk: &*disk, folders: &folders, evidence, backup: None };
    let cut_off = interval::was_cut_off(&*disk, root)?;
    let mut listed = opening.list_segments()?;
    let found = opening.find_end(&mut listed, &options)?;
    let End { last, tail, begins_anew } = found;
    let mut parts = opening.sealed_parts(&listed, last.header.base)?;
    let mut identity = last.header.identity;
    let lost_some = cut_off || evidence.shows_loss(&end::end_in(&last, &tail));
    let head_file = opening.head_file()?;
    if lost_some {
        identity.epoch = identity.epoch.next();
        tracing::warn!(epoch = %identity.epoch, "acknowledged commits may be lost: new epoch");
    }
    parts.extend(tail.parts.iter().cloned());
    let held = Held { lock: Some(lock), head_file: Some(head_file) };
    let engine = assemble(options, folders, held, identity, parts, last, tail);
    if lost_some || begins_anew {
        // A new segment: its checksum makes sure that what was cut off, wherever a disk may
        // still have it, is never taken for a record again.
        engine.begin_anew()?;
    }
    engine.remember_interval()?;
    engine.leave_head(engine.head().position(), &engine.writer.lock().segment);
    Ok(engine)
}

/// Goes on in a new epoch, in a folder that the caller holds until it is one of a log; through
/// the held folder, which is the disk of the options.
pub(crate) fn in_new_epoch(folders: &Folders, options: LogOptions) -> Result<Engine, OpenError> {
    let disk = options.disk.clone();
    let evidence = Evidence::default();
    let opening = Opening { disk: &*disk, folders, evidence, backup: None };
    let mut listed = opening.list_segments()?;
    let End { last, tail, .. } = opening.find_end(&mut listed, &options)?;
    let mut parts = opening.sealed_parts(&listed, last.header.base)?;
    parts.extend(tail.parts.iter().cloned());
    let mut identity = last.header.identity;
    identity.epoch = identity.epoch.next();
    let engine = assemble(options, folders.clone(), Held::default(), identity, parts, last, tail);
    engine.begin_anew()?;
    Ok(engine)
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
    } else {
        return Ok(());
    };
    Err(OpenError::Options { problem })
}

/// A segment as its file name tells.
#[derive(Clone, Copy, Debug)]
struct Listed {
    sequence: u32,
    base: Position,
}

/// An index file as its name tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ListedRun {
    segment: u32,
    first: Position,
    last: Position,
}

/// The segment that is written to.
struct Last {
    header: Header,
    file: Arc<dyn DiskFile>,
    segment: Arc<Segment>,
}

/// What the last segment holds.
struct Tail {
    /// Parts in files, then the one in memory.
    parts: Vec<Arc<Part>>,
    recovered: Recovered,
    tracking: frame::TrackingTable,
    last_commit: Option<LastCommit>,
    /// Where the frames of the part in memory begin.
    from: u64,
}

/// Where the log goes on.
struct End {
    last: Last,
    tail: Tail,
    /// In a new segment, because something was cut off.
    begins_anew: bool,
}

/// What is held as long as the log is open.
#[derive(Default)]
struct Held {
    lock: Option<Box<dyn DiskLock>>,
    head_file: Option<Arc<dyn DiskFile>>,
}

struct Opening<'a> {
    disk: &'a dyn Disk,
    folders: &'a Folders,
    evidence: Evidence,
    /// Where a backup ends, whatever else is in its folder.
    backup: Option<PublishedHead>,
}

impl Opening<'_> {
    fn list_segments(&self) -> Result<Vec<Listed>, OpenError> {
        let dir = &self.folders.segments;
        let names = self.disk.list(dir).map_err(io_error("list", dir))?;
        let parsed = names.iter().filter_map(|name| segment::parse_file_name(name));
        let mut listed: Vec<_> = parsed.map(|(sequence, base)| Listed { sequence, base }).collect();
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

    fn create_first(&self, options: &LogOptions) -> Result<Last, OpenError> {
        let header = Header::first();
        let segment = Arc::new(Segment::planned(&self.folders.segments, &header));
        let file = crate::writer::create_segment(
            self.disk,
            self.folders,
            &segment,
            &header,
            options.segment_bytes,
        );
        let file = file.map_err(io_error("create", &segment.path))?;
        Ok(Last { header, file, segment })
    }

    /// The index files, those of one segment next to each other and in order.
    fn list_index(&self, last: u32) -> Result<Vec<ListedRun>, OpenError> {
        let dir = &self.folders.index;
        let mut listed = Vec::new();
        for name in self.disk.list(dir).map_err(io_error("list", dir))? {
            let Some((segment, first, last_position)) = run::parse_file_name(&name) else {
                continue;
            };
            if segment > last && self.load_run(&name).is_some() {
                // It was written after its segment was durable.
                let what = format!("segment {segment} is missing: {name} is about it");
                return Err(corruption(&self.folders.segments, 0, what).into());
            }
            listed.push(ListedRun { segment, first, last: last_position });
        }
        // Of two that begin alike, the longer one is the merged one.
        listed.sort_by_key(|run| (run.segment, run.first, std::cmp::Reverse(run.last)));
        Ok(listed)
    }

    fn load_run(&self, name: &str) -> Option<(Run, Coverage)> {
        let bytes = self.disk.map(&self.folders.index.join(name)).ok();
        bytes.map(cold::ask_for_file).and_then(Run::parse)
    }

    /// The parts of all segments but the last, unread.
    fn sealed_parts(&self, sealed: &[Listed], end: Position) -> Result<Vec<Arc<Part>>, OpenError> {
        let index = self.list_index(u32::MAX)?;
        let mut parts = Vec::new();
        let nexts = sealed.iter().skip(1).map(|segment| segment.base).chain([end]);
        for (Listed { sequence, base }, next) in sealed.iter().zip(nexts) {
            let path = self.folders.segments.join(segment::file_name(*sequence, *base));
            if next < *base {
                return Err(corruption(&path, 0, "segments are out of order").into());
            }
            let runs = of_segment(&index, *sequence);
            if next == *base {
                self.remove_runs(runs, &[]);
                continue;
            }
            let segment = Arc::new(Segment::sealed(path, *sequence, *base));
            let mut chain = chain(runs, *base);
            let spans: Vec<_> = chain.iter().map(|run| (run.first, run.last)).collect();
            if !covers(&spans, *base, next.before()) {
                // One part for all of it, which will be built when it is asked for.
                chain = vec![ListedRun { segment: *sequence, first: *base, last: next.before() }];
            }
            self.remove_runs(runs, &chain);
            parts.extend(chain.iter().map(|run| {
                Arc::new(Part::file(segment.clone(), self.folders, run.first, run.last))
            }));
        }
        Ok(parts)
    }

    /// Removes index files that others have made needless.
    fn remove_runs(&self, runs: &[ListedRun], but: &[ListedRun]) {
        for run in runs.iter().filter(|run| !but.contains(run)) {
            let name = run::file_name(run.segment, run.first, run.last);
            let _ = self.disk.remove(&self.folders.index.join(name));
        }
    }

    fn read_tail(&self, last: &Last, index: &[ListedRun]) -> Result<Unread, OpenError> {
        let Last { header, file, segment } = last;
        let failed = |what| io_error(what, &segment.path);
        let size = file.size().map_err(failed("look at"))?;
        let size = self.backup.map_or(size, |end| size.min(end.end));
        let runs = self.runs_of(last, size, index)?;
        let covered = runs.chain.last().map(|(_, coverage)| coverage.clone());
        let covered =
            covered.unwrap_or(Coverage { end: segment::HEADER as u64, ..Coverage::default() });
        let next: u32 = runs.chain.iter().map(|(part, _)| part.events()).sum();
        let from =
            From { offset: covered.end, next, time: covered.time, checksum: header.checksum() };
        let unread = usize::try_from(size.saturating_sub(covered.end)).unwrap_or(usize::MAX);
        let bytes = file.read_at(covered.end, unread).map_err(failed("read"))?;
        let first = header.base.plus(u64::from(next));
        let mut built = Rebuilt::new(header.base, first, Position::MAX);
        built.tracking = covered.tracking;
        built.last_commit = (next > 0).then_some(LastCommit::Here(covered.time));
        let recovered = recovery::recover(&bytes, from, |commit| built.add(commit))
            .map_err(|error| corruption(&segment.path, error.offset, error.what))?;
        if recovered.end < runs.proven {
            let what = format!("records up to byte {} were durable and are gone", runs.proven);
            return Err(corruption(&segment.path, recovered.end, what).into());
        }
        let mut parts: Vec<_> = runs.chain.into_iter().map(|(part, _)| part).collect();
        let tracking = built.tracking;
        parts.push(Arc::new(Part::memory(segment.clone(), built.columns)));
        let last_commit = built.last_commit;
        let tail = Tail { parts, recovered, tracking, last_commit, from: covered.end };
        Ok(Unread { tail, size, start: covered.end, bytes, needless: runs.needless })
    }

    /// The index files of the last segment that can be used, and how far they prove it durable.
    fn runs_of(&self, last: &Last, size: u64, listed: &[ListedRun]) -> Result<LastRuns, OpenError> {
        let Last { header, segment, .. } = last;
        let mut found =
            LastRuns { chain: Vec::new(), proven: segment::HEADER as u64, needless: Vec::new() };
        let mut next = header.base;
        let mut used = Vec::new();
        for run in listed {
            let name = run::file_name(run.segment, run.first, run.last);
            let Some((loaded, coverage)) = self.load_run(&name) else { continue };
            if coverage.checksum != header.checksum() {
                continue;
            }
            if coverage.end > size {
                let what = format!("{name} proves it durable up to byte {}", coverage.end);
                return Err(corruption(&segment.path, size, what).into());
            }
            found.proven = found.proven.max(coverage.end);
            if loaded.first() == next && loaded.len() > 0 {
                next = next.plus(u64::from(loaded.len()));
                let path = self.folders.index.join(name);
                let part = Part::loaded(segment.clone(), path, loaded);
                found.chain.push((Arc::new(part), coverage));
                used.push(*run);
            }
        }
        found.needless = listed.iter().filter(|run| !used.contains(run)).copied().collect();
        Ok(found)
    }

    /// Cuts off what is not whole, and makes the rest durable. What was written and not proven
    /// to be synced is written again: after a failed sync a system may show bytes that it will
    /// never bring to the disk, and take them for clean. Where nothing is proven, that goes for
    /// the header and for the name of the file too.
    fn settle(&self, last: &Last, unread: &Unread) -> io::Result<()> {
        let Last { header, file, .. } = last;
        let Unread { tail: Tail { recovered, .. }, size, start, bytes, .. } = unread;
        if recovered.torn {
            let cut = size - recovered.end;
            tracing::warn!(bytes = cut, "cut off an unfinished commit at the end of the log");
        }
        if *size > recovered.end {
            file.set_size(recovered.end)?;
        }
        let all = recovered.unproven == segment::HEADER as u64;
        if all {
            file.write_at(0, &header.encode())?;
        }
        let range = |offset: u64| usize::try_from(offset - start).unwrap_or(usize::MAX);
        let unproven = bytes.get(range(recovered.unproven)..range(recovered.end)).unwrap_or(&[]);
        if !unproven.is_empty() {
            file.write_at(recovered.unproven, unproven)?;
        }
        if all || *size > recovered.end || !unproven.is_empty() {
            file.sync()?;
        }
        if all {
            self.disk.sync_dir(&self.folders.segments)?;
        }
        Ok(())
    }

    fn head_file(&self) -> Result<Arc<dyn DiskFile>, OpenError> {
        if let Some(file) = head_file_in(self.disk, self.folders)? {
            return Ok(file);
        }
        let path = self.folders.root.join(HEAD_FILE);
        self.disk.create(&path, 64).map_err(io_error("create", &path))
    }
}

/// The file with the published head, if there is one.
fn head_file_in(
    disk: &dyn Disk,
    folders: &Folders,
) -> Result<Option<Arc<dyn DiskFile>>, OpenError> {
    let root = &folders.root;
    let names = disk.list(root).map_err(io_error("list", root))?;
    if !names.iter().any(|name| name == HEAD_FILE) {
        return Ok(None);
    }
    let path = root.join(HEAD_FILE);
    disk.open(&path, 64).map(Some).map_err(io_error("open", &path))
}

/// The end of the log as it was found, before anything is cut off.
struct Unread {
    tail: Tail,
    /// Of the file.
    size: u64,
    /// Where `bytes` begin in it.
    start: u64,
    bytes: Vec<u8>,
    /// Index files that are not used.
    needless: Vec<ListedRun>,
}

struct LastRuns {
    chain: Vec<(Arc<Part>, Coverage)>,
    proven: u64,
    /// Files that others have made needless, or that are no good.
    needless: Vec<ListedRun>,
}

fn of_segment(index: &[ListedRun], sequence: u32) -> &[ListedRun] {
    let start = index.partition_point(|run| run.segment < sequence);
    let end = index.partition_point(|run| run.segment <= sequence);
    index.get(start..end).unwrap_or(&[])
}

/// Files that follow each other from `first` on.
fn chain(runs: &[ListedRun], first: Position) -> Vec<ListedRun> {
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
    Held { lock, head_file }: Held,
    identity: LogIdentity,
    parts: Vec<Arc<Part>>,
    last: Last,
    tail: Tail,
) -> Engine {
    let Last { header, file, segment } = last;
    let accepted = header.base.plus(u64::from(tail.recovered.next)).before();
    let time = match tail.last_commit {
        None => Timestamp::NEVER,
        Some(LastCommit::Before(time)) => time,
        Some(LastCommit::Here(since)) => {
            let since = i64::try_from(since).unwrap_or(0);
            Timestamp::from_micros(header.base_time.as_micros().saturating_add(since))
        }
    };
    let tracking = Arc::new(tail.tracking);
    let groups = groups::list(&*options.disk, &folders, header.sequence);
    let newest = parts.last().cloned();
    let newest = newest
        .unwrap_or_else(|| Arc::new(Part::memory(segment.clone(), Columns::new(accepted.plus(1)))));
    let state = State {
        ended: None,
        accepted,
        commits: 0,
        time,
        clock_went_back: false,
        tracking: tracking.clone(),
        segment: segment.clone(),
        segment_head: Head::of(&header),
        offset: tail.recovered.end,
        segment_from: match tail.last_commit {
            Some(LastCommit::Here(_)) => segment::HEADER as u64,
            _ => tail.recovered.end,
        },
        tail: newest,
        tail_from: tail.from,
        queue: Queue::default(),
        batch: 1,
        writing: false,
        handed_over: false,
        unsynced_since: None,
        stop: false,
        waiting_parts: 0,
        room: Vec::new(),
    };
    Engine {
        options,
        folders,
        identity,
        state: Mutex::new(state),
        work: Condvar::new(),
        accepted: AtomicU64::new(accepted.get()),
        closed: AtomicBool::new(false),
        writer: Mutex::new(Writer::new(segment, file, tail.recovered.end)),
        indexer: Indexer::default(),
        catalog: RwLock::new(Arc::new(Catalog::new(parts, groups))),
        publisher: HeadPublisher::new(accepted),
        batches: Batches::default(),
        head_file,
        tracking: RwLock::new(tracking),
        lock: Mutex::new(lock),
    }
}

impl Engine {
    /// Goes on in a new segment.
    fn begin_anew(&self) -> Result<(), OpenError> {
        {
            let mut state = self.state.lock();
            let base_time = match state.time {
                Timestamp::NEVER => state.segment_head.base_time,
                time => time,
            };
            self.begin_segment(&mut state, base_time);
        }
        self.write_all();
        // Whatever the durability: a new epoch that was shown must not be forgotten again.
        self.sync_all();
        match &self.state.lock().ended {
            None => Ok(()),
            Some(why) => {
                let what = "cannot begin a new segment".to_owned();
                Err(OpenError::Io { what, cause: io::Error::other(why.to_string()) })
            }
        }
    }
}
