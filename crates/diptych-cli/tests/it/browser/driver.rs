//! chromedriver, and Chromium through it. Both end with the test.

use std::{
    env,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use fantoccini::{Client, ClientBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use tempfile::TempDir;

/// The longest time of a script, for axe-core on a busy machine.
const SCRIPT: Duration = Duration::from_secs(300);

/// A controlled browser.
pub(crate) struct Driver {
    process: Child,
    port: u16,
    session: Option<String>,
    profile: TempDir,
}

/// Sizes of the window.
#[derive(Clone, Copy)]
pub(crate) enum Window {
    Desktop,
    /// The size of a desktop, with a reader who has nothing against movement.
    Moving,
    /// 820 pixels wide.
    Tablet,
    /// 360 pixels wide.
    Phone,
}

impl Driver {
    pub(crate) fn start() -> Driver {
        let mut process = Command::new(path_of("chromedriver", "chromium-driver"))
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut out = BufReader::new(process.stdout.take().unwrap());
        let mut said = String::new();
        let port = loop {
            let begin = said.len();
            if out.read_line(&mut said).unwrap() == 0 {
                let _ = process.wait();
                panic!("chromedriver does not start: {said}");
            }
            if let Some((_, port)) = said[begin..].split_once("started successfully on port ") {
                break port.trim().trim_end_matches('.').parse().unwrap();
            }
        };
        // Drains the pipe, so that chromedriver never blocks on it.
        thread::spawn(move || out.read_to_end(&mut Vec::new()));
        Driver { process, port, session: None, profile: TempDir::new().unwrap() }
    }

    pub(crate) async fn browser(&mut self, window: Window) -> Client {
        let address = format!("http://127.0.0.1:{}", self.port);
        let mut builder = ClientBuilder::new(HttpConnector::new());
        builder.capabilities(self.capabilities(window).as_object().unwrap().clone());
        let client = builder.connect(&address).await.unwrap_or_else(|error| {
            panic!("the browser does not start: {error}");
        });
        self.session = client.session_id().await.unwrap();
        client
    }

    fn capabilities(&self, window: Window) -> Value {
        let profile = format!("--user-data-dir={}", self.profile.path().display());
        let motion = match window {
            Window::Moving => "--force-prefers-no-reduced-motion",
            Window::Desktop | Window::Tablet | Window::Phone => "--force-prefers-reduced-motion",
        };
        let mut chromium = json!({
            "binary": path_of("chromium", "chromium"),
            "args": [
                "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
                "--disable-background-networking", "--disable-component-update",
                "--disable-sync", "--disable-dev-shm-usage", motion, "--window-size=1280,900",
                profile,
            ],
        });
        let emulated = match window {
            Window::Tablet => Some((820, 1180)),
            Window::Phone => Some((360, 740)),
            Window::Desktop | Window::Moving => None,
        };
        if let Some((width, height)) = emulated {
            chromium["mobileEmulation"] = json!({
                "deviceMetrics": { "width": width, "height": height, "pixelRatio": 1.0 }
            });
        }
        json!({
            "goog:chromeOptions": chromium,
            "goog:loggingPrefs": { "browser": "ALL" },
            "timeouts": { "script": SCRIPT.as_millis() as u64 },
        })
    }

    /// New messages of the browser's console, as level and text; `None` if the browser is gone.
    pub(crate) fn console(&self) -> Option<Vec<(String, String)>> {
        let log = self.request("POST", "/se/log", &json!({ "type": "browser" }).to_string());
        let log: Value = serde_json::from_str(&log?).ok()?;
        let text = |entry: &Value, of: &str| entry[of].as_str().unwrap_or_default().to_owned();
        let entries = log["value"].as_array()?.iter();
        Some(entries.map(|entry| (text(entry, "level"), text(entry, "message"))).collect())
    }

    /// Shows pages as for this medium, such as `print`.
    pub(crate) fn emulate_media(&self, media: &str) {
        self.devtools("Emulation.setEmulatedMedia", &json!({ "media": media }));
    }

    /// Shows pages in this width from now on, in a browser that has the size of a desktop.
    pub(crate) fn emulate_width(&self, width: u32) {
        let metrics = json!({
            "width": width, "height": 900, "screenWidth": width, "screenHeight": 900,
            "deviceScaleFactor": 1, "mobile": width < 1000,
        });
        self.devtools("Emulation.setDeviceMetricsOverride", &metrics);
    }

    /// Runs a script before the scripts of each page that is loaded from now on.
    pub(crate) fn run_before_pages(&self, script: &str) {
        self.devtools("Page.addScriptToEvaluateOnNewDocument", &json!({ "source": script }));
    }

    /// Scripts of pages that are loaded from now on do not run. Those of the test do.
    pub(crate) fn forbid_scripts(&self) {
        self.devtools("Emulation.setScriptExecutionDisabled", &json!({ "value": true }));
    }

    pub(crate) fn allow_scripts(&self) {
        self.devtools("Emulation.setScriptExecutionDisabled", &json!({ "value": false }));
    }

    fn devtools(&self, command: &str, params: &Value) {
        let body = json!({ "cmd": command, "params": params }).to_string();
        self.request("POST", "/goog/cdp/execute", &body).expect("the browser answers");
    }

    /// Uses a connection of its own, because the connection of the test may be what failed.
    fn request(&self, method: &str, path: &str, body: &str) -> Option<String> {
        let session = self.session.as_ref()?;
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
        let (port, length) = (self.port, body.len());
        let request = format!(
            "{method} /session/{session}{path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\n\
             connection: close\r\ncontent-type: application/json\r\n\
             content-length: {length}\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).ok()?;
        body_of(BufReader::new(stream))
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // Ends the browser. The end of chromedriver alone would not.
        self.request("DELETE", "", "");
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The body of an answer. The connection stays open, so the body ends at its stated length.
fn body_of(mut answer: impl BufRead) -> Option<String> {
    let mut length = None;
    loop {
        let mut line = String::new();
        answer.read_line(&mut line).ok()?;
        match line.trim().split_once(':') {
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                length = value.trim().parse().ok();
            }
            Some(_) => {}
            None if line.trim().is_empty() => break,
            None => {}
        }
    }
    let mut body = vec![0; length?];
    answer.read_exact(&mut body).ok()?;
    String::from_utf8(body).ok()
}

/// The path of a program. If there is none, the test says which package to install.
fn path_of(program: &str, package: &str) -> PathBuf {
    let path = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&path).map(|folder| folder.join(program)).find(|f| f.is_file());
    found.unwrap_or_else(|| {
        panic!(
            "this test needs {program}, which is not in the PATH: install it, on Debian by \
             apt-get install {package}"
        )
    })
}
