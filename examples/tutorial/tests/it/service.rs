//! A running program, and requests to it as `curl` sends them.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// The addresses of a service on the pages: that of the shed is the first one.
const USUAL: [&str; 2] = ["127.0.0.1:8080", "localhost:8080"];
/// The address of the insurer on the pages.
pub(crate) const INSURER: &str = "127.0.0.1:8081";

/// A service that is killed at the end, as in a crash, unless it was asked to stop.
pub(crate) struct Service {
    process: Child,
    pub(crate) address: String,
    /// A service that prints more would fail if nobody could read it.
    _output: BufReader<ChildStdout>,
}

impl Service {
    /// Starts a program at a free port, and waits until it says its address.
    pub(crate) fn start(mut command: Command, folder: &Path) -> Service {
        command.current_dir(folder).env("ADDRESS", "127.0.0.1:0").stdout(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let mut output = BufReader::new(process.stdout.take().unwrap());
        let address = output.by_ref().lines().find_map(|line| address_in(&line.unwrap()));
        let address = address.unwrap_or_else(|| panic!("{command:?} said no address"));
        Service { process, address, _output: output }
    }

    /// Sends a signal (`INT` for Ctrl-C, `TERM`), after which the program ends in order.
    pub(crate) fn stop(mut self, signal: &str) {
        let number = match signal {
            "INT" => 2,
            "TERM" => 15,
            other => panic!("no program of a page waits for {other}"),
        };
        let pid = self.process.id().to_string();
        // A program can answer requests a moment before it listens to signals.
        let begun = Instant::now();
        while !listens(&pid, number) {
            assert!(begun.elapsed() < Duration::from_secs(60), "no handler of {signal}");
            assert!(self.process.try_wait().unwrap().is_none(), "it ended before {signal}");
            thread::yield_now();
        }
        assert!(Command::new("kill").args(["-s", signal, &pid]).status().unwrap().success());
        let status = self.process.wait().unwrap();
        assert!(status.success(), "after the signal {signal}: {status}");
    }
}

/// Whether a process has a handler for a signal, by its status in Linux. Other systems do not tell,
/// and there it is taken for granted.
fn listens(pid: &str, number: u32) -> bool {
    let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) else { return true };
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).expect("its signals");
    let caught = u64::from_str_radix(caught.trim(), 16).unwrap();
    caught & (1 << (number - 1)) != 0
}

impl Drop for Service {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// The address with a port in a line, in a URL or without.
fn address_in(line: &str) -> Option<String> {
    let is_address =
        |word: &&str| word.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    line.split([' ', '/']).rfind(is_address).map(str::to_owned)
}

/// Sends the request of a curl command to another address, and returns the body of the answer.
pub(crate) fn request(address: &str, curl: &str) -> String {
    exchange(address, curl).1
}

/// Sends the request of a curl command to another address, and returns the head and the body of the
/// answer. It knows `-d`, `--json`, `-H`, `-X`, and an address in quotes or without. `-i`, which
/// shows the head, changes nothing.
pub(crate) fn exchange(address: &str, curl: &str) -> (String, String) {
    let (mut method, mut body) = (None, None);
    let (mut head, mut path) = (String::new(), "/".to_owned());
    let mut words = words(curl).into_iter().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "-i" => {}
            "-d" => body = words.next(),
            "--json" => {
                body = words.next();
                head += "content-type: application/json\r\n";
            }
            "-X" => method = words.next(),
            "-H" => head += &format!("{}\r\n", words.next().expect("a header")),
            _ => {
                let place = word.strip_prefix("http://").unwrap_or(&word);
                let (host, rest) = place.split_once('/').expect("a path");
                let is_known = USUAL.contains(&host) || host == INSURER;
                assert!(is_known, "no service of a page is at {host}");
                path = format!("/{rest}");
            }
        }
    }
    let usual = if body.is_some() { "POST" } else { "GET" };
    let (method, body) = (method.as_deref().unwrap_or(usual), body.unwrap_or_default());
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\
         content-length: {length}\r\n{head}\r\n{body}"
    );
    let mut connection = TcpStream::connect(address).unwrap();
    connection.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    assert!(!head.to_lowercase().contains("transfer-encoding"), "a body in chunks: {head}");
    (head.to_owned(), body.to_owned())
}

/// The words of a command, as a shell separates them at blanks outside of single quotes.
fn words(command: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut is_quoted = false;
    for char in command.chars() {
        match (char, words.last_mut()) {
            ('\'', _) => is_quoted = !is_quoted,
            (' ', _) if !is_quoted => words.push(String::new()),
            (char, Some(word)) => word.push(char),
            (_, None) => {}
        }
    }
    words.retain(|word| !word.is_empty());
    words
}
