//! The page in a real browser, over the shop as a user starts it.
#![allow(clippy::print_stdout)] // A test without axe-core tells so.

#[allow(dead_code)] // The page of the flights uses more of it.
#[path = "../../../../crates/diptych-cli/tests/it/browser/driver.rs"]
mod driver;

use std::{
    env, fs,
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Child, ChildStdin, Command, Stdio},
    time::Duration,
};

use fantoccini::Client;
use serde_json::{Value, json};

use driver::{Driver, Window};

/// The running shop.
struct Shop {
    process: Child,
    address: String,
    _stdin: Option<ChildStdin>,
}

impl Shop {
    fn start() -> Shop {
        let mut process = Command::new(env!("CARGO_BIN_EXE_example-orders"))
            .args(["--port", "0", "--rate", "10", "--seed", "7"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let out = BufReader::new(process.stdout.take().unwrap());
        let line = out.lines().map(Result::unwrap).find(|line| line.contains("http://")).unwrap();
        let address = line.split(' ').next_back().unwrap().to_owned();
        Shop { _stdin: process.stdin.take(), process, address }
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Waits until the script returns something.
async fn wait(page: &Client, what: &str, script: &str) -> Value {
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

/// The findings of axe-core, each with its rule and its elements.
const FINDINGS: &str = "
    return axe.run(document, { resultTypes: ['violations'] }).then(({ violations }) =>
        violations.map(({ id, nodes }) => [id, ...nodes.map((node) => node.html.slice(0, 160))]));";

async fn assert_no_findings(page: &Client) {
    let Some(folder) = env::var_os("DIPTYCH_BROWSER").map(PathBuf::from) else {
        println!("DID NOT RUN: `cargo xtask test` installs axe-core");
        return;
    };
    let axe = fs::read_to_string(folder.join("npm/node_modules/axe-core/axe.min.js")).unwrap();
    page.execute(&axe, Vec::new()).await.unwrap();
    for theme in ["light", "dark"] {
        let choose = format!("document.documentElement.style.colorScheme = '{theme}'");
        page.execute(&choose, Vec::new()).await.unwrap();
        let found = page.execute(FINDINGS, Vec::new()).await.unwrap();
        assert_eq!(found, json!([]), "{theme}");
    }
}

async fn look_over(window: Window) {
    let shop = Shop::start();
    let mut driver = Driver::start();
    let page = driver.browser(window).await;
    page.goto(&shop.address).await.unwrap();
    wait(&page, "the page is live", "document.querySelector('#connection[data-is=live]') !== null")
        .await;
    wait(&page, "a flow is shown", "document.querySelectorAll('#flow li').length > 3").await;
    let letter = "document.querySelector('#work li[data-kind=letter]') !== null";
    wait(&page, "an order is parked", letter).await;
    let is_narrow = "document.documentElement.scrollWidth <= window.innerWidth";
    wait(&page, "the page is as wide as the window", is_narrow).await;
    assert_no_findings(&page).await;

    // A person leaves the event out, and the letter is gone.
    let skip = "
        const button = document.querySelectorAll('#work li[data-kind=letter] button')[1];
        button.click();";
    page.execute(skip, Vec::new()).await.unwrap();
    let said = "document.querySelector('#said').textContent.startsWith('Answered')";
    wait(&page, "the answer is taken", said).await;
    let errors: Vec<_> =
        driver.console().unwrap().into_iter().filter(|(level, _)| level == "SEVERE").collect();
    assert!(errors.is_empty(), "{errors:?}");
}

#[tokio::test]
async fn an_operator_answers_a_letter_on_the_page_of_a_desktop() {
    look_over(Window::Desktop).await;
}

#[tokio::test]
async fn an_operator_answers_a_letter_on_the_page_of_a_phone() {
    look_over(Window::Phone).await;
}
