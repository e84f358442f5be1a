//! A running program, and requests to it as `curl` sends them.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::Path,
    process::{Child, Command, Stdio},
};

/// The address of the shed on the pages.
const SHED: &str = "127.0.0.1:8080";
/// The address of the insurer on the pages.
pub(crate) const INSURER: &str = "127.0.0.1:8081";

/// A service that is killed at the end, as in a crash.
pub(crate) struct Service {
    process: Child,
    pub(crate) address: String,
}

impl Service {
    /// Starts a program at a free port, and waits until it says its address.
    pub(crate) fn start(program: &str, folder: &Path, settings: &[(&str, String)]) -> Service {
        let mut command = Command::new(program);
        command.envs(settings.iter().map(|(name, value)| (name, value)));
        command.current_dir(folder).env("ADDRESS", "127.0.0.1:0").stdout(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().split_once("http://").map(|(_, address)| address.to_owned());
        let address = address.unwrap_or_else(|| panic!("{program} said {line:?}"));
        Service { process, address }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// Sends the request of a curl command to another address, and returns the body of the answer. It
/// knows `-d`, `-H`, `-X`, and an address in quotes or without.
pub(crate) fn request(address: &str, curl: &str) -> String {
    let (mut method, mut body) = (None, None);
    let (mut head, mut path) = (String::new(), "/".to_owned());
    let mut words = words(curl).into_iter().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "-d" => body = words.next(),
            "-X" => method = words.next(),
            "-H" => head += &format!("{}\r\n", words.next().expect("a header")),
            _ => {
                let place = word.strip_prefix("http://").unwrap_or(&word);
                let (host, rest) = place.split_once('/').expect("a path");
                assert!([SHED, INSURER].contains(&host), "no service of a page is at {host}");
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
    body.to_owned()
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
