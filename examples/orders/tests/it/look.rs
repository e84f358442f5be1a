//! An example with its page, as a user starts it and looks at it in a real browser.

#[allow(dead_code)] // The page of the flights uses more.
#[path = "../../../../crates/diptych-cli/tests/it/browser/driver.rs"]
pub(crate) mod driver;
#[path = "../../../../crates/diptych-cli/tests/it/browser/findings.rs"]
mod findings;

use std::{
    io::{BufRead, BufReader},
    process::{Child, ChildStdin, Command, Stdio},
    time::Duration,
};

use fantoccini::Client;
use serde_json::Value;

use self::{driver::Driver, findings::Axe};

/// The running program.
pub(crate) struct Running {
    process: Child,
    /// The address of its page.
    pub(crate) address: String,
    _stdin: Option<ChildStdin>,
}

impl Running {
    pub(crate) fn start(program: &str, arguments: &[&str]) -> Running {
        let mut process = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut out = BufReader::new(process.stdout.take().unwrap()).lines().map(Result::unwrap);
        let line = out.find(|line| line.contains("http://")).unwrap();
        // A program that cannot print any more would end.
        std::thread::spawn(move || out.count());
        let address = line.split(' ').next_back().unwrap().to_owned();
        Running { _stdin: process.stdin.take(), process, address }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Waits until the script returns something.
pub(crate) async fn wait(page: &Client, what: &str, script: &str) -> Value {
    for _ in 0..1_200 {
        let found = page.execute(&format!("return {script}"), Vec::new()).await.unwrap();
        if !matches!(found, Value::Null | Value::Bool(false)) {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let text = page.execute("return document.body.innerText", Vec::new()).await.unwrap();
    panic!("waited in vain until {what}; the page shows {text}");
}

/// Looks over the page in both themes.
pub(crate) async fn assert_no_findings(page: &Client) {
    let Some(axe) = Axe::installed() else { return };
    for theme in ["light", "dark"] {
        let choose = format!("document.documentElement.style.colorScheme = '{theme}'");
        page.execute(&choose, Vec::new()).await.unwrap();
        axe.assert_no_findings(page, theme).await;
    }
}

pub(crate) fn assert_no_errors(driver: &Driver) {
    let console = driver.console().unwrap().into_iter();
    let errors: Vec<_> = console.filter(|(level, _)| level == "SEVERE").collect();
    assert!(errors.is_empty(), "{errors:?}");
}
