//! The page in a real browser, over the members as a user starts them.
#![allow(clippy::print_stdout)] // A test without axe-core tells so.

#[allow(dead_code)] // The page of the flights uses more.
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

/// All members, and the page.
struct Run {
    process: Child,
    address: String,
    _stdin: Option<ChildStdin>,
}

impl Run {
    fn start() -> Run {
        let mut process = Command::new(env!("CARGO_BIN_EXE_example-fulfilment"))
            .args([
                "run", "--stay", "--port", "0", "--orders", "120", "--rate", "10", "--seed", "7",
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut out = BufReader::new(process.stdout.take().unwrap()).lines().map(Result::unwrap);
        let line = out.find(|line| line.contains("http://")).unwrap();
        // A program that cannot print any more would end.
        std::thread::spawn(move || out.count());
        let address = line.split(' ').next_back().unwrap().to_owned();
        Run { _stdin: process.stdin.take(), process, address }
    }
}

impl Drop for Run {
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

/// The services whose steps are in the tree, from the root to the leaves.
const WAYS: &str = "
    const ways = [...document.querySelectorAll('#flow li')].map((step) => {
        const way = [];
        for (let at = step; at && at.id !== 'flow'; at = at.parentElement) {
            if (at.classList.contains('service')) way.unshift(at.dataset.service);
        }
        return way.join(' ');
    });
    return [...new Set(ways)];";

async fn look_over(window: Window) {
    let run = Run::start();
    let mut driver = Driver::start();
    let page = driver.browser(window).await;
    page.goto(&run.address).await.unwrap();
    wait(&page, "the page is live", "document.querySelector('#connection[data-is=live]') !== null")
        .await;
    // The page chooses the first order that is sent.
    let is_sent = "[...document.querySelectorAll('#flow .title')]
        .some((title) => title.textContent === 'Noted: the order is sent')";
    wait(&page, "a flow is shown to its end", is_sent).await;
    let ways = page.execute(WAYS, Vec::new()).await.unwrap();
    let ways: Vec<_> = ways.as_array().unwrap().iter().filter_map(Value::as_str).collect();
    for way in [
        "ordering",
        "ordering payment",
        "ordering payment ordering",
        "ordering payment shipping",
        "ordering shipping",
    ] {
        assert!(ways.contains(&way), "{way:?} is not in {ways:?}");
    }
    let is_narrow = "document.documentElement.scrollWidth <= window.innerWidth";
    wait(&page, "the page is as wide as the window", is_narrow).await;
    let all_up = "document.querySelectorAll('#members .badge[data-is=live]').length === 4";
    wait(&page, "all members are up", all_up).await;
    assert_no_findings(&page).await;

    // Another order, whose goods are missing: its money goes back.
    let choose = "(() => {
        const row = document.querySelector('#orders .step[data-is=refunded]')?.closest('button');
        row?.click();
        return row !== undefined && row !== null;
    })()";
    wait(&page, "an order without goods is chosen", choose).await;
    let is_back = "[...document.querySelectorAll('#flow .title')]
        .some((title) => title.textContent === 'Noted: the money is back')";
    wait(&page, "the way of the money is shown", is_back).await;

    // An order that waits for a person, however old it is.
    let ask = "(() => {
        const button = document.querySelector('#work button');
        button?.click();
        window.asked = button?.textContent.replace('Show the flow', 'The flow');
        return button !== null;
    })()";
    wait(&page, "an order waits for a person", ask).await;
    let is_shown = "document.querySelector('#flow-title').textContent === window.asked";
    wait(&page, "the flow of that order is shown", is_shown).await;
    let errors: Vec<_> =
        driver.console().unwrap().into_iter().filter(|(level, _)| level == "SEVERE").collect();
    assert!(errors.is_empty(), "{errors:?}");
}

#[tokio::test]
async fn the_page_of_a_desktop_shows_one_flow_across_all_services() {
    look_over(Window::Desktop).await;
}

#[tokio::test]
async fn the_page_of_a_phone_shows_one_flow_across_all_services() {
    look_over(Window::Phone).await;
}
