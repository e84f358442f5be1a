//! Recording calls while they happen.

use std::{
    fmt,
    fs::File,
    io::{self, Write},
    mem,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;

use super::answer::Answer;
use super::line::{CallName, Completion, HistoryLine, Invocation, Kill, Opening, Question};

/// The source of the times in a history. Clones read one clock.
///
/// A call that ended before another began must have the lower reading, whichever clients made the
/// calls. Clients of one process share a counter. Clients of several processes need a clock that
/// all of them can read, such as the monotonic clock of their machine.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> u64 + Send + Sync>);

impl Clock {
    /// A counter. Each reading is one higher than the reading before it.
    pub fn counter() -> Clock {
        let next = AtomicU64::new(1);
        Clock(Arc::new(move || next.fetch_add(1, Ordering::SeqCst)))
    }

    /// Reads the clock with this function.
    pub fn of(read: impl Fn() -> u64 + Send + Sync + 'static) -> Clock {
        Clock(Arc::new(read))
    }

    /// The reading.
    pub fn now(&self) -> u64 {
        (self.0)()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clock").finish_non_exhaustive()
    }
}

/// Takes the lines of all clients of a process. Clones write to one place.
#[derive(Clone, Debug)]
pub struct Recorder(Arc<RecorderState>);

#[derive(Debug)]
struct RecorderState {
    clock: Clock,
    sink: Mutex<Sink>,
    completions: AtomicU64,
}

#[derive(Debug)]
enum Sink {
    Memory(Vec<HistoryLine>),
    File(File),
}

impl Recorder {
    /// Keeps the lines in memory.
    pub fn in_memory(clock: Clock) -> Recorder {
        Recorder::new(clock, Sink::Memory(Vec::new()))
    }

    /// Writes the lines to the end of this file, each at once and by one call, so that the lines of
    /// a process that is killed are all there, save for one that may be cut off.
    ///
    /// # Errors
    /// The error of creating or opening the file.
    pub fn to_file(clock: Clock, path: &Path) -> io::Result<Recorder> {
        let file = File::options().create(true).append(true).open(path)?;
        Ok(Recorder::new(clock, Sink::File(file)))
    }

    fn new(clock: Clock, sink: Sink) -> Recorder {
        Recorder(Arc::new(RecorderState {
            clock,
            sink: Mutex::new(sink),
            completions: AtomicU64::new(0),
        }))
    }

    /// The clock.
    pub fn clock(&self) -> &Clock {
        &self.0.clock
    }

    /// The number of calls that ended.
    pub fn completions(&self) -> u64 {
        self.0.completions.load(Ordering::Relaxed)
    }

    /// Records the start of a store. It sets the time.
    pub fn opening(&self, mut opening: Opening) {
        opening.time = self.clock().now();
        self.push(HistoryLine::Opening(opening));
    }

    /// Records that a store is about to be killed.
    pub fn kill(&self, round: u64) {
        self.push(HistoryLine::Kill(Kill { round, time: self.clock().now() }));
    }

    /// Records any line.
    ///
    /// # Panics
    /// Panics if the line cannot be written.
    pub fn push(&self, line: HistoryLine) {
        match &mut *self.0.sink.lock() {
            Sink::Memory(lines) => lines.push(line),
            Sink::File(file) => {
                let mut text = serde_json::to_vec(&line).expect("a line is JSON");
                text.push(b'\n');
                file.write_all(&text).expect("the history can be written");
            }
        }
    }

    /// Takes the lines that are kept in memory.
    pub fn take(&self) -> Vec<HistoryLine> {
        match &mut *self.0.sink.lock() {
            Sink::Memory(lines) => mem::take(lines),
            Sink::File(_) => Vec::new(),
        }
    }

    /// The notes of one client.
    pub fn client(&self, round: u64, client: u64) -> Notes {
        Notes { recorder: self.clone(), next: CallName { round, client, number: 0 } }
    }
}

/// Records the calls of one client, one after another.
#[derive(Debug)]
pub struct Notes {
    recorder: Recorder,
    next: CallName,
}

impl Notes {
    /// The clock.
    pub fn clock(&self) -> &Clock {
        self.recorder.clock()
    }

    /// The name of the next call.
    pub fn next_call(&self) -> CallName {
        self.next
    }

    /// Records that a call begins. The call has to follow.
    pub fn invoke(&mut self, question: Question) -> CallName {
        let call = self.next;
        self.next.number += 1;
        let time = self.clock().now();
        self.recorder.push(HistoryLine::Invocation(Invocation { call, time, question }));
        call
    }

    /// Records that the call ended with this answer.
    pub fn complete(&self, call: CallName, answer: Answer) {
        let time = self.clock().now();
        self.recorder.push(HistoryLine::Completion(Completion { call, time, answer }));
        self.recorder.0.completions.fetch_add(1, Ordering::Relaxed);
    }
}
