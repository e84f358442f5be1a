//! `diptych demo` as the server of a page.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, Weak, mpsc},
    thread,
    time::Duration,
};

use crate::program::{Program, run};

/// The longest time for a load, for an unoptimised program on a busy machine.
const LOADED: Duration = Duration::from_secs(60);
/// Two days and an evening fill every board and every chart.
const UNTIL: &str = "2013-01-02T23:00:00Z";

/// The serving program. It is killed when dropped.
pub(crate) struct Demo {
    pub(crate) address: String,
    process: Serving,
    program: Program,
    /// Keeps the flights for the tests that run meanwhile.
    _flights: Option<Arc<LoadedFlights>>,
}

/// The folder of a demo that has loaded its flights, for copies. Loading takes seconds in an
/// unoptimised program.
struct LoadedFlights(Program);

struct Serving(Child);

/// The value of this place, which is made anew if no test has it any more.
fn shared<T>(place: &Mutex<Weak<T>>, make: impl FnOnce() -> T) -> Arc<T> {
    // A panic cannot leave this value half changed.
    let mut place = place.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    place.upgrade().unwrap_or_else(|| {
        let made = Arc::new(make());
        *place = Arc::downgrade(&made);
        made
    })
}

impl Demo {
    /// A demo with loaded flights for a single test.
    pub(crate) fn loaded() -> Demo {
        let flights = LoadedFlights::shared();
        let mut demo = Demo::loaded_with(flights.copy(), &["--until", UNTIL]);
        demo._flights = Some(flights);
        demo
    }

    /// A demo that all tests without writes share. It ends with the last of them.
    pub(crate) fn shared() -> Arc<Demo> {
        static SHARED: Mutex<Weak<Demo>> = Mutex::new(Weak::new());
        shared(&SHARED, Demo::loaded)
    }

    /// A demo with two quiet days, for a single test.
    pub(crate) fn quiet() -> Demo {
        let program = Program::new();
        let flights = program.dir.path().join("flights.csv");
        fs::write(&flights, two_quiet_days()).unwrap();
        Demo::loaded_with(program, &["--flights", flights.to_str().unwrap()])
    }

    /// A demo that has loaded its flights, with these arguments.
    pub(crate) fn loaded_with(program: Program, args: &[&str]) -> Demo {
        let mut demo = Demo::start(program, "127.0.0.1:0", args);
        demo.wait_until_loaded();
        demo
    }

    /// A demo that has just started.
    pub(crate) fn start(program: Program, listen: &str, args: &[&str]) -> Demo {
        let mut process = spawn(&program, listen, args);
        let mut said = BufReader::new(process.0.stderr.take().unwrap());
        let mut line = String::new();
        said.read_line(&mut line).unwrap();
        // Drains the pipe, so that the program never blocks on it.
        thread::spawn(move || said.read_to_end(&mut Vec::new()));
        let address = line.trim().strip_prefix("the page is at http://");
        let address = address.unwrap_or_else(|| panic!("the demo says {line:?}"));
        let address = address.trim_end_matches('/').to_owned();
        Demo { address, program, process, _flights: None }
    }

    /// Waits for the results, which are printed once all commands are durable.
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

    /// Kills the program, as a power cut would.
    pub(crate) fn kill(&mut self) {
        self.process.0.kill().unwrap();
        self.process.0.wait().unwrap();
    }

    /// Ends the program; its folder stays.
    pub(crate) fn end(self) -> Program {
        drop(self.process);
        self.program
    }

    /// Starts the program again on its folder, at its earlier address.
    pub(crate) fn start_again(&mut self) {
        self.process = spawn(&self.program, &self.address, &["--until", UNTIL]);
    }
}

impl LoadedFlights {
    /// All tests that run at a time share it. It is removed with the last of them.
    fn shared() -> Arc<LoadedFlights> {
        static SHARED: Mutex<Weak<LoadedFlights>> = Mutex::new(Weak::new());
        shared(&SHARED, || {
            let program = Program::new();
            let data = program.data();
            let args = ["demo", "--once", "--until", UNTIL, "--data", data.to_str().unwrap()];
            run(&args).ended(0, "");
            LoadedFlights(program)
        })
    }

    /// A folder of its own with the same log.
    fn copy(&self) -> Program {
        let program = Program::new();
        let copied = Command::new("cp").arg("-a").args([self.0.data(), program.data()]).status();
        assert!(copied.unwrap().success());
        let log = program.data().join("log");
        run(&["adopt", "--moved", "--data", log.to_str().unwrap()]).ended(0, "");
        program
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

/// Two days with a long flight from Newark every half hour. The last of them lands when no other
/// flight is on the board.
fn two_quiet_days() -> Vec<u8> {
    let mut csv = Vec::new();
    csv.extend(
        b"year,month,day,dep_time,sched_dep_time,dep_delay,arr_time,sched_arr_time,arr_delay,\
          carrier,flight,tailnum,origin,dest,air_time,distance,hour,minute,time_hour\n",
    );
    for day in 1..=2 {
        for (hour, minute) in (6..=20).flat_map(|hour| [(hour, 0), (hour, 30)]) {
            let number = hour * 100 + minute;
            // New York is five hours behind UTC.
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
