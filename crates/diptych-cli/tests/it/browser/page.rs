//! The page in the browser: actions of a reader, and questions of a test.

use std::{
    cell::RefCell,
    env, fs,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    thread,
    time::{Duration, Instant},
};

use fantoccini::{
    Client, Locator,
    elements::Element,
    key::Key,
    wd::{PrintConfiguration, WindowHandle},
};
use serde_json::{Value, json};
use tokio::{runtime::Builder, time::sleep};

use super::{
    driver::{Driver, Window},
    findings::Axe,
};

/// The longest wait for any condition, on a busy machine.
const DEADLINE: Duration = Duration::from_secs(30);
const BETWEEN_LOOKS: Duration = Duration::from_millis(20);

/// A report on the page's state, for a failed test.
const STATE: &str = "
    const text = (id) => document.getElementById(id)?.textContent.trim();
    return {
        address: location.href, page: { ...document.documentElement.dataset },
        connection: text('connection'), clock: `${text('clock-day')} ${text('clock-time')}`,
        mode: text('mode'), rest: text('rest-said'), board: text('board-summary'),
        rows: document.querySelectorAll('#board tr[data-flight]').length,
        answered: text('answered'), trouble: text('board-trouble'), outcome: text('outcome'),
        flight: document.getElementById('field-flight')?.value, head: text('head'),
        focus: document.activeElement?.outerHTML.slice(0, 200),
    };";

/// The open page.
pub(crate) struct Page {
    client: Client,
    driver: Driver,
    address: String,
    /// All messages of the console so far. The browser reports each only once.
    console: RefCell<Vec<(String, String)>>,
}

/// Opens the page in a new browser, and runs a test on it.
pub(crate) fn open(address: &str, window: Window, test: impl AsyncFnOnce(&Page)) {
    open_unloaded(address, window, async |page| {
        page.load().await;
        test(page).await;
    });
}

/// Opens a new browser, in which the test loads the page.
pub(crate) fn open_unloaded(address: &str, window: Window, test: impl AsyncFnOnce(&Page)) {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let mut driver = Driver::start();
    let client = runtime.block_on(driver.browser(window));
    let console = RefCell::default();
    let page = Page { client, driver, address: format!("http://{address}/"), console };
    let ran = catch_unwind(AssertUnwindSafe(|| {
        runtime.block_on(async {
            test(&page).await;
            page.assert_no_exception().await;
        });
    }));
    if let Err(panic) = ran {
        runtime.block_on(page.tell());
        resume_unwind(panic);
    }
}

impl Page {
    /// Loads the page, or loads it again, and waits until it has a board.
    pub(crate) async fn load(&self) {
        self.load_at("").await;
    }

    /// Loads the page at an address of its own, such as `?airport=JFK`.
    pub(crate) async fn load_at(&self, search: &str) {
        self.client.goto(&format!("{}{search}", self.address)).await.unwrap();
        self.ready().await;
        self.wait("the log is known", "!document.querySelector('#time').disabled").await;
    }

    /// Loads the page, and waits until it knows that its log has no flight.
    pub(crate) async fn load_empty(&self) {
        self.client.goto(&self.address).await.unwrap();
        self.wait("the log is empty", "document.documentElement.dataset.log === 'empty'").await;
        self.ready().await;
    }

    /// Loads the page, and waits for nothing that its scripts do.
    pub(crate) async fn begin_load(&self) {
        self.client.goto(&self.address).await.unwrap();
    }

    pub(crate) async fn reload(&self) {
        self.client.refresh().await.unwrap();
        self.ready().await;
    }

    pub(crate) async fn back(&self) {
        self.client.back().await.unwrap();
    }

    pub(crate) async fn forward(&self) {
        self.client.forward().await.unwrap();
    }

    async fn ready(&self) {
        self.wait("the page is ready", "document.documentElement.dataset.ready === 'true'").await;
    }

    /// Opens the page in another window of the same browser, and goes on there.
    pub(crate) async fn open_window(&self) -> WindowHandle {
        let opened = self.client.new_window(false).await.unwrap();
        self.switch_to(&opened.handle).await;
        self.load().await;
        opened.handle
    }

    /// The window of the page.
    pub(crate) async fn window(&self) -> WindowHandle {
        self.client.window().await.unwrap()
    }

    pub(crate) async fn switch_to(&self, window: &WindowHandle) {
        self.client.switch_to_window(window.clone()).await.unwrap();
    }

    /// Runs a script, and returns the value that it `return`s.
    pub(crate) async fn run(&self, script: &str, args: Vec<Value>) -> Value {
        let answer = self.client.execute(script, args).await;
        answer.unwrap_or_else(|error| panic!("{script} failed: {error}"))
    }

    /// The value of an expression.
    pub(crate) async fn value(&self, expression: &str) -> Value {
        self.run(&format!("return {expression};"), vec![]).await
    }

    /// Waits until an expression is true.
    pub(crate) async fn wait(&self, what: &str, expression: &str) {
        let begin = Instant::now();
        while self.value(&format!("Boolean({expression})")).await != Value::Bool(true) {
            assert!(begin.elapsed() < DEADLINE, "it never came about that {what}: {expression}");
            sleep(BETWEEN_LOOKS).await;
        }
    }

    pub(crate) async fn wait_for_text(&self, css: &str, text: &str) {
        let what = format!("{css} says {text:?}");
        let text = Value::from(text);
        self.wait(&what, &format!("document.querySelector('{css}')?.textContent.includes({text})"))
            .await;
    }

    pub(crate) async fn text(&self, css: &str) -> String {
        let text = self.value(&format!("document.querySelector('{css}').textContent")).await;
        text.as_str().unwrap().to_owned()
    }

    pub(crate) async fn count(&self, css: &str) -> u64 {
        self.value(&format!("document.querySelectorAll('{css}').length")).await.as_u64().unwrap()
    }

    pub(crate) async fn find(&self, css: &str) -> Element {
        let found = self.client.find(Locator::Css(css)).await;
        found.unwrap_or_else(|error| panic!("there is no {css}: {error}"))
    }

    /// Scrolls to an element and clicks it as a mouse does, so it must be visible and uncovered.
    pub(crate) async fn click(&self, css: &str) {
        self.run(
            "document.querySelector(arguments[0]).scrollIntoView({ block: 'center' });",
            vec![css.into()],
        )
        .await;
        let clicked = self.find(css).await.click().await;
        clicked.unwrap_or_else(|error| panic!("{css} cannot be clicked: {error}"));
    }

    /// Types a text in the place of the one that is there.
    pub(crate) async fn type_in(&self, css: &str, text: &str) {
        // The driver's own way to clear a field sends no `input` event, as a person's does. Then a
        // suggestion of the page could come between.
        self.set(css, "").await;
        self.find(css).await.send_keys(text).await.unwrap();
    }

    /// Sets a field at once. Typing into a time field depends on the browser's language.
    pub(crate) async fn set(&self, css: &str, value: &str) {
        let script = "
            const field = document.querySelector(arguments[0]);
            field.value = arguments[1];
            field.dispatchEvent(new Event('input', { bubbles: true }));
            field.dispatchEvent(new Event('change', { bubbles: true }));";
        self.run(script, vec![css.into(), value.into()]).await;
    }

    /// Presses a key on the focused element.
    pub(crate) async fn press(&self, key: Key) {
        let focused = self.client.active_element().await.unwrap();
        focused.send_keys(&key.to_string()).await.unwrap();
    }

    pub(crate) async fn focus(&self, css: &str) {
        self.run("document.querySelector(arguments[0]).focus();", vec![css.into()]).await;
    }

    /// Shows the page in this width from now on, in a window of a desktop.
    pub(crate) async fn show_at_width(&self, width: u32) {
        self.driver.emulate_width(width);
        self.wait("the page has the width", &format!("screen.width === {width}")).await;
    }

    /// Runs a script before those of each page that is loaded from now on.
    pub(crate) fn run_before_pages(&self, script: &str) {
        self.driver.run_before_pages(script);
    }

    /// Pages that are loaded from now on cannot run their scripts.
    pub(crate) fn forbid_scripts(&self) {
        self.driver.forbid_scripts();
    }

    pub(crate) fn allow_scripts(&self) {
        self.driver.allow_scripts();
    }

    /// Shows the page as it will be on paper.
    pub(crate) async fn show_as_print(&self) {
        self.driver.emulate_media("print");
        self.wait("the page is as on paper", "matchMedia('print').matches").await;
    }

    /// The page on paper, as PDF.
    pub(crate) async fn print(&self) -> Vec<u8> {
        self.client.print(PrintConfiguration::default()).await.unwrap()
    }

    /// All messages of the console so far; `None` if the browser is gone.
    fn console(&self) -> Option<Vec<(String, String)>> {
        let mut console = self.console.borrow_mut();
        console.extend(self.driver.console()?);
        Some(console.clone())
    }

    /// Asserts that no errors were reported, except answers with these statuses.
    pub(crate) fn assert_no_errors_but(&self, statuses: &[u16]) {
        let wanted = |message: &str| {
            let said = |status| message.contains(&format!("with a status of {status} "));
            statuses.iter().any(said)
        };
        let console = self.console().expect("the browser does not say what it reported");
        let unwanted: Vec<_> = console
            .iter()
            .filter(|(level, message)| {
                (level == "SEVERE" || level == "WARNING") && !wanted(message)
            })
            .collect();
        assert!(unwanted.is_empty(), "the browser reports {unwanted:#?}");
    }

    /// Looks over the page as it is now, for readers who do not see or do not point.
    pub(crate) async fn assert_no_findings(&self, axe: &Axe, place: &str) {
        axe.assert_no_findings(&self.client, place).await;
    }

    async fn assert_no_exception(&self) {
        assert_eq!(self.value("document.documentElement.dataset.errors").await, "0");
    }

    /// Prints the state of the page after a failure.
    #[allow(clippy::print_stderr)]
    async fn tell(&self) {
        eprintln!("the page: {:#}", self.client.execute(STATE, vec![]).await.unwrap_or(json!({})));
        eprintln!("the console of the browser: {:#?}", self.console());
        let name = thread::current().name().unwrap_or("browser").replace("::", "-");
        let path = env::temp_dir().join(format!("{name}.png"));
        match self.client.screenshot().await.map(|picture| fs::write(&path, picture)) {
            Ok(Ok(())) => eprintln!("a picture of it is at {}", path.display()),
            other => eprintln!("there is no picture of it: {other:?}"),
        }
    }
}
