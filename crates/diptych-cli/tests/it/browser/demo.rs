//! `diptych demo`, as the server of a page.

use std::{
    io::{BufRead, BufReader, Read, Write},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, Weak, mpsc},
    thread,
    time::Duration,
};

use crate::program::Program;

/// How long loading may take, of a program that is not optimised on a machine that is busy.
const LOADED: Duration = Duration::from_secs(60);
/// Two days and an evening: enough for every board, and for pictures.
const UNTIL: &str = "2013-01-02T23:00:00Z";

/// The program, serving; killed when it is dropped.
pub(crate) struct Demo {
    pub(crate) address: String,
    process: Serving,
    program: Program,
}

struct Serving(Child);

impl Demo {
    /// One whose flights are loaded, for a test of its own.
    pub(crate) fn loaded() -> Demo {
        Demo::loaded_with(Program::new(), &["--until", UNTIL])
    }

    /// One for all tests that only look; it ends with the last of them.
    pub(crate) fn shared() -> Arc<Demo> {
        static SHARED: Mutex<Weak<Demo>> = Mutex::new(Weak::new());
        // A test that failed in here has left nothing half done.
        let mut shared = SHARED.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(demo) = shared.upgrade() {
            return demo;
        }
        let demo = Arc::new(Demo::loaded());
        *shared = Arc::downgrade(&demo);
        demo
    }

    /// One that has loaded what the arguments say.
    pub(crate) fn loaded_with(program: Program, args: &[&str]) -> Demo {
        let mut demo = Demo::start(program, "127.0.0.1:0", args);
        demo.wait_until_loaded();
        demo
    }

    /// One that has only just begun.
    pub(crate) fn start(program: Program, listen: &str, args: &[&str]) -> Demo {
        let mut process = spawn(&program, listen, args);
        let mut said = BufReader::new(process.0.stderr.take().unwrap());
        let mut line = String::new();
        said.read_line(&mut line).unwrap();
        // What else it says has to go somewhere.
        thread::spawn(move || said.read_to_end(&mut Vec::new()));
        let address = line.trim().strip_prefix("the page is at http://");
        let address = address.unwrap_or_else(|| panic!("the demo says {line:?}"));
        Demo { address: address.trim_end_matches('/').to_owned(), program, process }
    }

    /// What came of loading is printed once all of it is durable.
    pub(crate) fn wait_until_loaded(&mut self) {
        let mut out = BufReader::new(self.process.0.stdout.take().unwrap());
        let (loaded, wait) = mpsc::channel();
        thread::spawn(move || {
            let mut line = String::new();
            let _ = out.read_line(&mut line);
            let _ = loaded.send(line);
            let _ = out.read_to_end(&mut Vec::new());
        });
        let line = wait.recv_timeout(LOADED).expect("the flights are not loaded");
        assert!(line.starts_with("commands"), "the demo says {line:?}");
    }

    /// Killed, as by a power cut.
    pub(crate) fn kill(&mut self) {
        self.process.0.kill().unwrap();
        self.process.0.wait().unwrap();
    }

    /// Ends it; its folder stays.
    pub(crate) fn end(self) -> Program {
        drop(self.process);
        self.program
    }

    /// Started again on the same folder, at the same address.
    pub(crate) fn start_again(&mut self) {
        self.process = spawn(&self.program, &self.address, &["--until", UNTIL]);
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn spawn(program: &Program, listen: &str, args: &[&str]) -> Serving {
    let mut command = Command::new(env!("CARGO_BIN_EXE_diptych"));
    command.args(["demo", "--listen", listen, "--data"]).arg(program.data()).args(args);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Serving(command.spawn().unwrap())
}

/// Two days of long flights from Newark, one every half an hour, and then nothing: the last of
/// them lands when no other is on the board.
pub(crate) fn two_quiet_days() -> Vec<u8> {
    let mut csv = Vec::new();
    csv.extend(
        b"year,month,day,dep_time,sched_dep_time,dep_delay,arr_time,sched_arr_time,arr_delay,\
          carrier,flight,tailnum,origin,dest,air_time,distance,hour,minute,time_hour\n",
    );
    for day in 1..=2 {
        for (hour, minute) in (6..=20).flat_map(|hour| [(hour, 0), (hour, 30)]) {
            let number = hour * 100 + minute;
            // New York is five hours behind.
            let (utc_day, utc_hour) = (day + (hour + 5) / 24, (hour + 5) % 24);
            writeln!(
                csv,
                "2013,1,{day},{number},{number},0,,,-3,UA,{number},N{number},EWR,LAX,330,2454,\
                 {hour},{minute},2013-01-{utc_day:02}T{utc_hour:02}:00:00Z",
            )
            .unwrap();
        }
    }
    csv
}
