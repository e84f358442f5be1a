//! One clock for the whole page, and its time in the address.

use serde_json::json;

use super::{
    demo::Demo,
    driver::Window,
    page::{Page, open, open_unloaded},
};

const NOON: &str = "2013-01-02T12:00";

/// The accepted commands before noon in New York, as the server counts them.
const ACCEPTED: &str = "
    const past = '_occurred_before=2013-01-02T17:00:00Z';
    const { accepted } = await (await fetch(`queries/happenings?${past}`)).json();
    return accepted.toLocaleString('en-GB');";

/// In how many of ten moments of the replay the feed or the board is grey.
const GREY_MOMENTS: &str = "
    let grey = 0;
    for (let moment = 0; moment < 10; moment += 1) {
        await new Promise((resolve) => setTimeout(resolve, 100));
        const parts = [...document.querySelectorAll('#feed-log, #board-panel')];
        if (parts.some((part) => part.dataset.stale)) grey += 1;
    }
    return grey;";

async fn wait_for_clock(page: &Page, time: &str) {
    page.wait_for_text("#clock-time", time).await;
    // The charts follow when they are in sight.
    page.run("document.querySelector('#pictures').scrollIntoView();", vec![]).await;
    page.wait("nothing is stale", "!document.querySelector('[data-stale]')").await;
}

#[test]
fn the_whole_page_follows_the_clock() {
    let demo = Demo::shared();
    open(&demo.address, Window::Desktop, async |page| {
        page.load_at(&format!("?at={NOON}")).await;
        page.wait_for_text("#mode", "Past").await;
        page.wait_for_text("#clock-words", "Showing Wednesday 2 January, 12:00.").await;
        page.wait_for_text("#clock-words", "The log ends on Wednesday 2 January, 17:59.").await;
        let accepted = page.run(ACCEPTED, vec![]).await;
        page.wait_for_text("#accepted", accepted.as_str().unwrap()).await;
        page.wait_for_text("#head-label", "events before this time").await;
        page.wait_for_text("#past-cost", "folded").await;
        page.wait_for_text("#feed-order", "The latest before Wednesday 2 January, 12:00").await;
        let late = "[...document.querySelectorAll('#feed .when')]
            .filter((when) => when.textContent > '2 Jan, 12:00').length";
        assert_eq!(page.value(late).await, 0);
        let suggested = "document.querySelector('#field-departs_at')?.value === '2013-01-02T13:00'
            && document.querySelector('#quick-words').textContent.includes('13:00')";
        page.wait("the form is of that time", suggested).await;
        page.run("document.querySelector('#pictures').scrollIntoView();", vec![]).await;
        page.wait_for_text("#pictures-state", "before Wednesday 2 January, 12:00").await;
        page.wait_for_text("#refusals-total", "before Wednesday 2 January, 12:00").await;
        assert_eq!(page.value("document.querySelector('#hours-day').value").await, "2013-01-02");
        // A frame around the window.
        let frame = "getComputedStyle(document.body, '::after').borderTopWidth";
        assert_eq!(page.value(frame).await, "4px");

        page.click("#now").await;
        page.wait_for_text("#mode", "Live").await;
        page.wait_for_text("#feed-order", "Newest in the log first").await;
        page.wait_for_text("#pictures-state", "show the present").await;
        assert_eq!(page.value(frame).await, "0px");
        page.assert_no_errors_but(&[]);
    });
}

#[test]
fn the_feed_names_flight_and_position() {
    let demo = Demo::shared();
    open(&demo.address, Window::Desktop, async |page| {
        page.wait("the feed is full", "document.querySelectorAll('#feed li').length > 20").await;
        let unnamed = "[...document.querySelectorAll('#feed li[data-flight]')].filter((item) => {
            const [, airline, number] = /^(..)([0-9]+)-/.exec(item.dataset.flight);
            const position = Number(item.dataset.position).toLocaleString('en-GB');
            return !item.textContent.includes(`${airline} ${number} from `)
                || !item.textContent.includes(`position ${position}`);
        }).map((item) => item.textContent)";
        assert_eq!(page.value(unnamed).await, json!([]));
        let positions = "[...document.querySelectorAll('#feed li')]
            .map((item) => Number(item.dataset.position))";
        let positions: Vec<u64> = serde_json::from_value(page.value(positions).await).unwrap();
        assert!(positions.is_sorted_by(|a, b| a > b), "{positions:?}");
        page.assert_no_errors_but(&[]);
    });
}

#[test]
fn an_address_opens_the_same_page_again() {
    let demo = Demo::shared();
    open(&demo.address, Window::Desktop, async |page| {
        page.load_at(&format!(
            "?at={NOON}&airport=JFK&find=los&routes=latest&order=on-time\
             &hours=2013-01-01&hourly=LGA&from=JFK"
        ))
        .await;
        for _ in 0..2 {
            page.wait_for_text("#mode", "Past").await;
            wait_for_clock(page, "12:00").await;
            let tab = "document.querySelector('#tab-JFK').getAttribute('aria-selected') === 'true'";
            page.wait("the airport is chosen", tab).await;
            page.wait_for_text("#board-summary", "John F Kennedy").await;
            let found = "[...document.querySelectorAll('#board tr[data-flight]')]
                .filter((row) => !row.hidden && /los/i.test(row.textContent)).length > 0
                && document.querySelector('#board tr[hidden]')";
            page.wait("the search is there", found).await;
            let orders = "[document.querySelector('#routes-order').value,
                document.querySelector('#punctuality-order').value]";
            assert_eq!(page.value(orders).await, json!(["latest", "on-time"]));
            let charts = "['airport', 'day'].map((of) =>
                document.querySelector(`#hours-${of}`).value)
                .concat(document.querySelector('#routes-origin').value)";
            assert_eq!(page.value(charts).await, json!(["LGA", "2013-01-01", "JFK"]));
            page.reload().await;
        }
        page.set("#hours-airport", "EWR").await;
        page.wait("it is in the address", "location.search.includes('hourly=EWR')").await;
        page.set("#hours-airport", "JFK").await;
        page.wait("it is that of the board", "!location.search.includes('hourly')").await;
        page.assert_no_errors_but(&[]);
    });
}

#[test]
fn back_and_forward_go_through_the_times_and_cards() {
    let demo = Demo::shared();
    open(&demo.address, Window::Desktop, async |page| {
        page.set("#time-input", NOON).await;
        page.wait("it is in the address", "location.search.includes('at=2013-01-02T12')").await;
        page.click("#tab-LGA").await;
        page.wait_for_text("#board-summary", "La Guardia").await;
        page.wait("a row", "document.querySelector('#board [data-go=flight]')").await;
        page.run("document.querySelector('#board [data-go=flight]').click();", vec![]).await;
        page.wait("the card is open", "document.querySelector('#card').open").await;
        page.wait("it is in the address", "location.search.includes('flight=')").await;

        page.back().await;
        page.wait("the card is closed", "!document.querySelector('#card').open").await;
        page.back().await;
        page.wait_for_text("#board-summary", "Newark").await;
        wait_for_clock(page, "12:00").await;
        page.back().await;
        page.wait_for_text("#mode", "Live").await;
        page.forward().await;
        page.wait_for_text("#mode", "Past").await;
        wait_for_clock(page, "12:00").await;
        page.assert_no_errors_but(&[]);
    });
}

/// The log was loaded before a reader came, and its end is empty. A replay shows it at work.
#[test]
fn a_log_at_rest_opens_with_a_replay_of_its_last_full_day() {
    let demo = Demo::quiet();
    open_unloaded(&demo.address, Window::Moving, async |page| {
        page.load().await;
        page.wait_for_text("#mode", "Replay").await;
        page.wait_for_text("#rest", "This is a replay of Wednesday 2 January").await;
        let at = "Number(document.querySelector('#time').value)";
        let first = page.value(at).await;
        page.wait("the time goes on", &format!("{at} > {first}")).await;
        page.wait("the figures go on", "document.querySelector('#accepted').textContent !== '–'")
            .await;
        // Both are a moment behind the clock all the time, which is no fault.
        page.wait_for_text("#past-cost", "folded").await;
        page.wait_for_text("#feed-order", "The latest before").await;
        page.wait_for_text("#answered", "Asked of the log").await;
        assert_eq!(page.run(GREY_MOMENTS, vec![]).await, 0);
        page.click("#play").await;
        page.wait_for_text("#mode", "Past").await;
        page.wait("it is in the address", "location.search.includes('at=2013-01-02')").await;
        page.assert_no_errors_but(&[]);
    });
}
