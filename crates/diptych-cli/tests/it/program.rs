//! Runs the program on a folder that is removed afterwards.

use std::{
    io::Write,
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
};

use serde_json::Value;
use tempfile::TempDir;

/// The program, and a folder for its log.
pub(crate) struct Program {
    pub(crate) dir: TempDir,
}

/// The result of a run.
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Program {
    pub(crate) fn new() -> Program {
        Program { dir: TempDir::new().unwrap() }
    }

    /// The folder of the log, which does not exist at first.
    pub(crate) fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Runs a command on the folder. It does not wait for other holders.
    pub(crate) fn run(&self, args: &[&str], input: impl AsRef<[u8]>) -> Ran {
        finish(self.spawn(args, "0"), input)
    }

    /// Starts a command on the folder. It waits for other holders.
    pub(crate) fn start(&self, args: &[&str]) -> Child {
        self.spawn(args, "60")
    }

    fn spawn(&self, args: &[&str], wait_seconds: &str) -> Child {
        let (command, options) = args.split_first().unwrap();
        let data = self.data();
        let folder = ["--wait-seconds", wait_seconds, "--data", data.to_str().unwrap()];
        spawn(&[&[*command], &folder[..], options].concat())
    }

    /// Appends events, and asserts success.
    pub(crate) fn load(&self, input: impl AsRef<[u8]>) {
        let ran = self.run(&["append"], input);
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    }
}

impl Ran {
    /// Standard output as NDJSON.
    pub(crate) fn lines(&self) -> Vec<Value> {
        self.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The positions of the events that were printed.
    pub(crate) fn positions(&self) -> Vec<u64> {
        self.lines().iter().map(|line| line["position"].as_u64().unwrap()).collect()
    }

    /// Asserts the exit code, and a part of standard error.
    pub(crate) fn ended(&self, code: i32, said: &str) {
        assert_eq!(self.code, code, "{}", self.stderr);
        assert!(self.stderr.contains(said), "{said:?} is not in: {}", self.stderr);
    }
}

/// Runs the program with exactly these arguments.
pub(crate) fn run(args: &[&str]) -> Ran {
    finish(spawn(args), "")
}

/// Writes the input of a started program and waits for its end.
pub(crate) fn finish(mut child: Child, input: impl AsRef<[u8]>) -> Ran {
    // Ignored: a program that ends early does not read its input.
    let _ = child.stdin.take().unwrap().write_all(input.as_ref());
    let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
    Ran {
        code: status.code().expect("it was not killed"),
        stdout: String::from_utf8(stdout).unwrap(),
        stderr: String::from_utf8(stderr).unwrap(),
    }
}

/// Starts the program with exactly these arguments.
pub(crate) fn spawn(args: &[&str]) -> Child {
    spawn_with(args, &[])
}

/// Starts the program with exactly these arguments, and these variables in its environment.
pub(crate) fn spawn_with(args: &[&str], variables: &[(&str, &str)]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_diptych"));
    command.envs(variables.iter().copied());
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

/// Lines of `count` events of one type.
pub(crate) fn events(event_type: &str, count: usize) -> String {
    let event = |n| format!("{{\"type\":\"{event_type}\",\"tags\":[\"n:{n}\"],\"data\":{n}}}\n");
    (1..=count).map(event).collect()
}
