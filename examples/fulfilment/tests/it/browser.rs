//! The page in a real browser, over the members as a user starts them.

use fantoccini::Client;

use crate::look::{
    Running, assert_no_errors, assert_no_findings,
    driver::{Driver, Window},
    wait,
};

/// All members, and the page.
fn run() -> Running {
    let program = env!("CARGO_BIN_EXE_example-fulfilment");
    let load = ["--orders", "120", "--rate", "10", "--seed", "7"];
    Running::start(program, &[["run", "--stay", "--port", "0"].as_slice(), &load].concat())
}

/// Whether steps of the services are in the tree in each of these ways, from the root to a leaf.
/// The news of payment and of shipping reach ordering by two feeds, in any order.
const HAS_ALL_WAYS: &str = "(() => {
    const ways = [...document.querySelectorAll('#flow li')].map((step) => {
        const way = [];
        for (let at = step; at && at.id !== 'flow'; at = at.parentElement) {
            if (at.classList.contains('service')) way.unshift(at.dataset.service);
        }
        return way.join(' ');
    });
    return [
        'ordering',
        'ordering payment',
        'ordering payment ordering',
        'ordering payment shipping',
        'ordering shipping',
    ].every((way) => ways.includes(way));
})()";

/// The flow of an order to which nothing happens is asked for again after ten seconds.
async fn assert_asks_seldom(page: &Client) {
    let begin = "performance.clearResourceTimings(); window.begin = performance.now();";
    page.execute(begin, Vec::new()).await.unwrap();
    let asked = |path: &str| {
        format!(
            "performance.getEntriesByType('resource').filter(({{ name }}) =>
                name.includes('api/{path}')).length"
        )
    };
    let looks = format!("{} >= 6", asked("overview"));
    wait(page, "the page has looked six times", &looks).await;
    // The first look may find a change that the flow had already.
    let most = "2 + (performance.now() - window.begin) / 10_000";
    let counts = format!("return [{}, {most}]", asked("flow"));
    let counts = page.execute(&counts, Vec::new()).await.unwrap();
    assert!(counts[0].as_f64() <= counts[1].as_f64(), "asked more often than {counts}");
}

async fn look_over(window: Window) {
    let run = run();
    let mut driver = Driver::start();
    let page = driver.browser(window).await;
    page.goto(&run.address).await.unwrap();
    wait(&page, "the page is live", "document.querySelector('#connection[data-is=live]') !== null")
        .await;
    // The page chooses the first order that is sent.
    let is_sent = "[...document.querySelectorAll('#flow .title')]
        .some((title) => title.textContent === 'Noted: the order is sent')";
    wait(&page, "a flow is shown to its end", is_sent).await;
    wait(&page, "the flow goes through all services", HAS_ALL_WAYS).await;
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

    assert_asks_seldom(&page).await;

    // An order without a piece waits for a person, and its flow ends where payment parked it.
    let ask = "(() => {
        const parked = [...document.querySelectorAll('#work li')]
            .find((item) => item.textContent.includes('has no piece'));
        const button = parked?.querySelector('button');
        button?.click();
        window.asked = button?.textContent.replace('Show the flow', 'The flow');
        return button !== undefined;
    })()";
    wait(&page, "an order waits for a person", ask).await;
    let is_shown = "document.querySelector('#flow-title').textContent === window.asked";
    wait(&page, "the flow of that order is shown", is_shown).await;
    let is_below = "(() => {
        const parked = document.querySelector('#flow [data-step=foreign-parked]');
        const cause = parked?.closest('li').parentElement.closest('li')?.firstChild;
        return cause?.textContent.includes('Order placed')
            && parked.textContent.includes('has no piece');
    })()";
    wait(&page, "the parked event is below its cause", is_below).await;
    assert_no_findings(&page).await;
    assert_no_errors(&driver);
}

#[tokio::test]
async fn the_page_of_a_desktop_shows_one_flow_across_all_services() {
    look_over(Window::Desktop).await;
}

#[tokio::test]
async fn the_page_of_a_phone_shows_one_flow_across_all_services() {
    look_over(Window::Phone).await;
}
