//! A server of a log as a process, and programs that use it.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    process::{Child, Command},
    sync::{Arc, Condvar, Mutex},
    thread,
    time::{Duration, Instant},
};

use crate::program::{Program, Ran, finish, spawn};

/// Far longer than anything takes that a test waits for.
pub(crate) const LONG: Duration = Duration::from_secs(120);

/// `diptych serve` on the folder of a program. It is killed when dropped.
pub(crate) struct ServeProcess {
    process: Child,
    /// The address of its log.
    pub(crate) url: String,
    messages: Lines,
}

impl ServeProcess {
    /// Serves at a free port.
    pub(crate) fn start(program: &Program) -> ServeProcess {
        ServeProcess::start_at(program, "127.0.0.1:0")
    }

    pub(crate) fn start_at(program: &Program, listen: &str) -> ServeProcess {
        ServeProcess::start_with(program, &["--listen", listen])
    }

    /// Serves with these options.
    pub(crate) fn start_with(program: &Program, options: &[&str]) -> ServeProcess {
        let mut process = program.start(&[&["serve"], options].concat());
        let messages = Lines::of(process.stderr.take().unwrap());
        let mut url = String::new();
        let mut output = BufReader::new(process.stdout.take().unwrap());
        output.read_line(&mut url).unwrap();
        let has_host = ["://127.0.0.1:", "://0.0.0.0:"].iter().any(|host| url.contains(host));
        let has_form = url.starts_with("diptych") && has_host;
        assert!(has_form, "{url:?}, {:?}", messages.all());
        ServeProcess { process, url: url.trim().to_owned(), messages }
    }

    /// Kills the server, and starts another one at the same address.
    pub(crate) fn kill_and_start(mut self, program: &Program) -> ServeProcess {
        self.kill();
        ServeProcess::start_at(program, self.listen())
    }

    pub(crate) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// The address that it listens at.
    pub(crate) fn listen(&self) -> &str {
        self.url.split_once("://").unwrap().1.strip_suffix("/log").unwrap()
    }

    /// The status and the body of an answer over HTTP.
    pub(crate) fn get(&self, path: &str) -> (u16, String) {
        self.ask("GET", path, "")
    }

    /// The status and the body of the answer to this JSON over HTTP.
    pub(crate) fn post(&self, path: &str, body: &str) -> (u16, String) {
        self.ask("POST", path, body)
    }

    fn ask(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.listen()).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, body.to_owned())
    }

    /// The standard error of the server.
    pub(crate) fn messages(&self) -> &Lines {
        &self.messages
    }

    /// Ends the server by a termination signal. Returns its exit code and its messages.
    pub(crate) fn end(mut self) -> (i32, String) {
        let pid = self.process.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        let code = self.process.wait().unwrap().code().expect("it was not killed");
        self.messages.wait_for("stopped");
        (code, self.messages.all())
    }

    /// Starts a command on the served log.
    pub(crate) fn spawn(&self, args: &[&str]) -> Child {
        let (command, options) = args.split_first().unwrap();
        let place = ["--wait-seconds", "60", "--data", &self.url];
        spawn(&[&[*command], &place[..], options].concat())
    }

    /// Runs a command on the served log.
    pub(crate) fn run(&self, args: &[&str], input: impl AsRef<[u8]>) -> Ran {
        finish(self.spawn(args), input)
    }
}

impl Drop for ServeProcess {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The lines that a program prints, as they come.
#[derive(Clone)]
pub(crate) struct Lines(Arc<(Mutex<Vec<String>>, Condvar)>);

impl Lines {
    pub(crate) fn of(output: impl Read + Send + 'static) -> Lines {
        let lines = Lines(Arc::default());
        let to = lines.0.clone();
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                to.0.lock().unwrap().push(line);
                to.1.notify_all();
            }
        });
        lines
    }

    /// Waits until the program has closed its output, and every line is here.
    pub(crate) fn wait_for_end(&self) {
        let begin = Instant::now();
        // The thread that reads holds the other reference.
        while Arc::strong_count(&self.0) > 1 {
            assert!(begin.elapsed() < LONG, "the output does not end");
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// All lines so far, as one text.
    pub(crate) fn all(&self) -> String {
        self.0.0.lock().unwrap().join("\n")
    }

    pub(crate) fn to_vec(&self) -> Vec<String> {
        self.0.0.lock().unwrap().clone()
    }

    /// Waits until there is this number of lines.
    pub(crate) fn wait_for_lines(&self, count: usize) {
        self.wait_until(|lines| lines.len() >= count, &format!("{count} lines"));
    }

    /// Waits until a line contains this text.
    pub(crate) fn wait_for(&self, text: &str) {
        self.wait_until(|lines| lines.iter().any(|line| line.contains(text)), text);
    }

    fn wait_until(&self, is_there: impl Fn(&[String]) -> bool, wanted: &str) {
        let (lines, changed) = &*self.0;
        let lines = lines.lock().unwrap();
        let (lines, timed_out) =
            changed.wait_timeout_while(lines, LONG, |lines| !is_there(lines)).unwrap();
        assert!(!timed_out.timed_out(), "{wanted:?} did not come: {lines:?}");
    }
}

/// A program that runs until it is told to end, with its output as it comes.
pub(crate) struct Running {
    process: Child,
    pub(crate) printed: Lines,
    pub(crate) said: Lines,
}

impl Running {
    pub(crate) fn new(mut process: Child) -> Running {
        let printed = Lines::of(process.stdout.take().unwrap());
        let said = Lines::of(process.stderr.take().unwrap());
        Running { process, printed, said }
    }

    /// Ends the program as Ctrl-C does. Returns its exit code.
    pub(crate) fn interrupt(mut self) -> i32 {
        let pid = self.process.id().to_string();
        assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
        self.process.wait().unwrap().code().expect("it was not killed")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
