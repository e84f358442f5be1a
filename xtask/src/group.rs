//! A program with limits of time, in a process group of its own. The group ends as a whole: the
//! program, and the servers that its tests started.

use std::{
    io::{self, BufRead, BufReader, Read},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender},
    thread,
    time::{Duration, Instant},
};

/// How long a program may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TimeLimits {
    /// Until its first line of output. Cargo prints none while it compiles.
    pub(crate) first_line: Duration,
    /// From its first line until it has ended and its output is closed.
    pub(crate) rest: Duration,
}

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// By itself.
    Exit(ExitStatus),
    /// At this limit of time, with its whole group.
    TimeLimit(Duration),
}

/// How many lines wait for the caller at most.
const LINES: usize = 1_000;

/// How long to wait for the last lines of a group that was ended. A process that left the group
/// keeps the output open.
const LAST_LINES: Duration = Duration::from_secs(5);

/// Runs the program and gives each line of its output to this function. A line need not be UTF-8,
/// and the last one need not be complete.
pub(crate) fn run(
    command: &mut Command,
    limits: TimeLimits,
    mut take: impl FnMut(&str),
) -> io::Result<End> {
    let group = Group::new()?;
    group.join(command);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let lines = child.stdout.take().map(lines);
    let (mut limit, mut start) = (limits.first_line, Instant::now());
    let mut is_first = true;
    let is_late = loop {
        let Some(lines) = &lines else { break false };
        match lines.recv_timeout(limit.saturating_sub(start.elapsed())) {
            Ok(line) => take(&line),
            Err(RecvTimeoutError::Disconnected) => break false,
            Err(RecvTimeoutError::Timeout) => break true,
        }
        if is_first {
            (limit, start, is_first) = (limits.rest, Instant::now(), false);
        }
    };
    if !is_late {
        let status = child.wait()?;
        group.leave()?;
        return Ok(End::Exit(status));
    }
    group.kill(&mut child)?;
    if let Some(lines) = lines {
        let start = Instant::now();
        while let Ok(line) = lines.recv_timeout(LAST_LINES.saturating_sub(start.elapsed())) {
            take(&line);
        }
    }
    Ok(End::TimeLimit(limit))
}

/// The lines of an output, read by a thread.
fn lines(output: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver): (SyncSender<String>, _) = mpsc::sync_channel(LINES);
    thread::spawn(move || {
        for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
            if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                return;
            }
        }
    });
    receiver
}

/// A process group. Its first process is a shell that waits for the end of its input, and then
/// kills the group. So the group also ends if this program is interrupted or killed.
#[cfg(unix)]
struct Group {
    shell: Child,
}

#[cfg(unix)]
impl Group {
    const SHELL: &str = "read -r line; kill -s KILL 0";

    fn new() -> io::Result<Group> {
        use std::os::unix::process::CommandExt;

        let mut shell = Command::new("sh");
        shell.args(["-c", Group::SHELL]).process_group(0);
        shell.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(Group { shell: shell.spawn()? })
    }

    /// Lets the program start in this group.
    fn join(&self, command: &mut Command) {
        use std::os::unix::process::CommandExt;

        command.process_group(self.shell.id().cast_signed());
    }

    /// Ends every process of the group.
    fn kill(mut self, child: &mut Child) -> io::Result<()> {
        drop(self.shell.stdin.take());
        self.shell.wait()?;
        // Something else may have ended the shell before.
        child.kill()?;
        child.wait().map(drop)
    }

    /// Ends the shell alone.
    fn leave(mut self) -> io::Result<()> {
        self.shell.kill()?;
        self.shell.wait().map(drop)
    }
}

/// This system has no process groups, so only the program itself is ended.
#[cfg(not(unix))]
struct LoneProgram;

#[cfg(not(unix))]
use LoneProgram as Group;

#[cfg(not(unix))]
impl LoneProgram {
    fn new() -> io::Result<LoneProgram> {
        Ok(LoneProgram)
    }

    fn join(&self, _: &mut Command) {}

    fn kill(self, child: &mut Child) -> io::Result<()> {
        child.kill()?;
        child.wait().map(drop)
    }

    fn leave(self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    const NEVER: Duration = Duration::from_secs(600);
    const SOON: Duration = Duration::from_millis(200);

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    fn run_script(script: &str, limits: TimeLimits) -> io::Result<(End, Vec<String>)> {
        let mut lines = Vec::new();
        let end = run(&mut shell(script), limits, |line| lines.push(line.to_owned()))?;
        Ok((end, lines))
    }

    #[test]
    fn a_program_that_ends_in_time_has_its_own_status() {
        let limits = TimeLimits { first_line: NEVER, rest: NEVER };
        let (end, lines) = run_script("echo one; echo two; exit 3", limits).unwrap();
        assert!(matches!(end, End::Exit(status) if status.code() == Some(3)), "{end:?}");
        assert_eq!(lines, ["one", "two"]);
    }

    /// The pipe of its errors is closed once the last process that inherited it has ended.
    #[test]
    fn a_late_program_is_ended_with_the_processes_that_it_started() {
        let (mut open, errors) = io::pipe().unwrap();
        let start = Instant::now();
        let mut command = shell("sleep 60 & sh -c 'sleep 60; true' & echo begun; wait");
        command.stderr(errors);
        let limits = TimeLimits { first_line: NEVER, rest: SOON };
        let end = run(&mut command, limits, |line| assert_eq!(line, "begun")).unwrap();
        drop(command);
        open.read_to_end(&mut Vec::new()).unwrap();
        assert_eq!(end, End::TimeLimit(SOON));
        assert!(start.elapsed() < Duration::from_secs(30), "a process went on");
    }

    #[test]
    fn the_last_line_of_a_late_program_need_not_be_complete() {
        let limits = TimeLimits { first_line: NEVER, rest: SOON };
        let (end, lines) =
            run_script("echo begun; printf 'test one ... '; sleep 60", limits).unwrap();
        assert_eq!(end, End::TimeLimit(SOON));
        assert_eq!(lines, ["begun", "test one ... "]);
    }

    #[test]
    fn a_program_that_never_prints_is_ended() {
        let limits = TimeLimits { first_line: SOON, rest: NEVER };
        assert_eq!(run_script("sleep 60", limits).unwrap(), (End::TimeLimit(SOON), Vec::new()));
    }

    /// A server that a test left behind has inherited the output of that test.
    #[test]
    fn a_process_that_keeps_the_output_open_is_ended() {
        let limits = TimeLimits { first_line: NEVER, rest: SOON };
        let (end, lines) = run_script("echo begun; sleep 60 &", limits).unwrap();
        assert_eq!(end, End::TimeLimit(SOON));
        assert_eq!(lines, ["begun"]);
    }

    /// The system closes the pipes of a program that is killed or interrupted.
    #[test]
    fn a_group_ends_with_the_program_that_made_it() {
        let mut group = Group::new().unwrap();
        let mut command = shell("sleep 60");
        group.join(&mut command);
        let start = Instant::now();
        let mut child = command.spawn().unwrap();
        drop(group.shell.stdin.take());
        child.wait().unwrap();
        group.shell.wait().unwrap();
        assert!(start.elapsed() < Duration::from_secs(30), "the program went on");
    }
}
