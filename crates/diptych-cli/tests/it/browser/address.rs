//! The address of the page: which state it opens, and which steps it makes in the history.

use serde_json::json;

use super::{
    demo::Demo,
    driver::Window,
    page::{Page, open},
};

const NOON: &str = "2013-01-02T12:00";

/// A flight that has landed before noon, with the positions of its events.
const LANDED: &str = "
    const at = '2013-01-02T17:00:00Z';
    const board = `queries/departure-board?airport=EWR&at=${at}&_occurred_before=${at}`;
    const { rows } = await (await fetch(board)).json();
    const { flight } = rows.find((row) => row.status === 'landed' && row.plane);
    const explained = await fetch(`queries/flight-card/explanation?flight=${flight}`);
    return [flight, ...(await explained.json()).events.map((event) => event.position)];";

/// A plane that left Newark on the first day.
const PLANE: &str = "
    const at = '2013-01-01T17:00:00Z';
    const board = `queries/departure-board?airport=EWR&at=${at}&_occurred_before=${at}`;
    const { rows } = await (await fetch(board)).json();
    return rows.find((row) => row.status === 'landed' && row.plane).plane;";

async fn wait_for_address(page: &Page, part: &str) {
    let has = format!("decodeURIComponent(location.search).includes('{part}')");
    page.wait(&format!("{part} is in the address"), &has).await;
}

#[test]
fn an_address_opens_a_card_at_a_position() {
    let demo = Demo::shared();
    open(&demo.address, Window::Desktop, async |page| {
        let found = page.run(LANDED, vec![]).await;
        let flight = found[0].as_str().unwrap();
        let [first, second] = [found[1].as_u64().unwrap(), found[2].as_u64().unwrap()];
        // The positions are shown with separators of thousands.
        let said = |position: u64| format!("position {},{:03}", position / 1000, position % 1000);
        let card_at = async |position: u64| {
            page.wait("the card is open", "document.querySelector('#card').open").await;
            page.wait_for_text("#card-said", &format!("As of {}", said(position))).await;
            page.wait_for_text("#card-events [aria-pressed=true]", &said(position)).await;
        };
        page.load_at(&format!("?at={NOON}&flight={flight}&position={first}")).await;
        card_at(first).await;
        // Only its first event is of that position.
        page.wait_for_text("#card-facts", "Scheduled").await;
        let later = "document.querySelectorAll('#card-events .later').length === 2";
        page.wait("two events are not yet there", later).await;
        page.reload().await;
        card_at(first).await;

        page.click("#card-events li:nth-child(2) button").await;
        wait_for_address(page, &format!("position={second}")).await;
        card_at(second).await;
        page.back().await;
        card_at(first).await;
        page.forward().await;
        card_at(second).await;
        page.click("#card-whole").await;
        page.wait_for_text("#card-said", "What was so before Wed 2 Jan, 12:00").await;
        page.wait("it is in the address", "!location.search.includes('position')").await;
        page.reload().await;
        page.wait_for_text("#card-said", "What was so before Wed 2 Jan, 12:00").await;

        // One step over several pages of the history shows the card of its own time.
        page.click("#card-close").await;
        page.wait("the card is closed", "!document.querySelector('#card').open").await;
        page.set("#time-input", "2013-01-02T11:00").await;
        wait_for_address(page, "at=2013-01-02T11:00").await;
        let opener = format!("#board tr[data-flight={flight}] [data-go=flight]");
        page.wait("it is on the board", &format!("document.querySelector('{opener}')")).await;
        page.run("document.querySelector(arguments[0]).click();", vec![opener.into()]).await;
        page.wait_for_text("#card-said", "What was so before Wed 2 Jan, 11:00").await;
        page.run("history.go(-3);", vec![]).await;
        page.wait_for_text("#clock-time", "12:00").await;
        page.wait_for_text("#card-said", "What was so before Wed 2 Jan, 12:00").await;
        page.assert_no_errors_but(&[]);
    });
}

#[test]
fn an_address_opens_a_planes_day() {
    let demo = Demo::shared();
    open(&demo.address, Window::Desktop, async |page| {
        let plane = page.run(PLANE, vec![]).await;
        let plane = plane.as_str().unwrap();
        let shows = async |day: &str, words: &str| {
            page.wait_for_text("#plane-result h3", plane).await;
            page.wait_for_text("#plane-result .hint", words).await;
            page.wait_for_text("#plane-result .hint", "as known at Wednesday 2 January, 12:00")
                .await;
            let fields = "['tail', 'day'].map((of) =>
                document.querySelector(`#plane-${of}`).value)";
            assert_eq!(page.value(fields).await, json!([plane, day]));
        };
        page.load_at(&format!("?at={NOON}&plane={}&day=2013-01-01", plane.to_lowercase())).await;
        shows("2013-01-01", "of Tue 1 Jan").await;
        page.wait("it has a leg", "document.querySelector('#plane-table tbody tr')").await;
        page.reload().await;
        shows("2013-01-01", "of Tue 1 Jan").await;

        page.load_at(&format!("?at={NOON}")).await;
        page.wait_for_text("#clock-time", "12:00").await;
        page.set("#plane-tail", plane).await;
        page.set("#plane-day", "2013-01-01").await;
        page.click("#plane-form [type=submit]").await;
        wait_for_address(page, &format!("plane={plane}&day=2013-01-01")).await;
        shows("2013-01-01", "of Tue 1 Jan").await;
        page.set("#plane-day", "2013-01-02").await;
        page.click("#plane-form [type=submit]").await;
        shows("2013-01-02", "of Wed 2 Jan").await;
        page.back().await;
        shows("2013-01-01", "of Tue 1 Jan").await;
        page.back().await;
        page.wait_for_text("#plane-result", "No plane is chosen").await;
        page.wait("its list is gone", "!document.querySelector('#plane-table tr')").await;
        page.forward().await;
        shows("2013-01-01", "of Tue 1 Jan").await;

        // Without a day it is the day of the clock.
        page.load_at(&format!("?at={NOON}&plane={plane}")).await;
        shows("2013-01-02", "of Wed 2 Jan").await;
        wait_for_address(page, "day=2013-01-02").await;
        page.assert_no_errors_but(&[]);
    });
}

#[test]
fn what_an_address_cannot_mean_counts_as_absent() {
    let demo = Demo::shared();
    open(&demo.address, Window::Desktop, async |page| {
        page.load_at(
            "?at=soon&airport=ZZZ&routes=best&order=worst&from=ZZZ&hours=tomorrow&hourly=ZZZ\
             &position=first",
        )
        .await;
        let length = page.value("history.length").await;
        page.wait_for_text("#mode", "Live").await;
        page.wait_for_text("#board-summary", "Newark").await;
        let lists = "['routes-order', 'routes-origin', 'punctuality-order', 'hours-airport']
            .map((list) => document.getElementById(list).value)";
        assert_eq!(page.value(lists).await, json!(["busiest", "", "flights", "EWR"]));
        assert_eq!(page.value("document.querySelector('#hours-follow').checked").await, true);
        page.wait("the charts are drawn", "document.querySelector('#routes .chart rect')").await;
        page.wait("so are the hours", "document.querySelector('#hours .chart rect')").await;
        // The page corrects the time without a step, so that back still leads to where it did.
        wait_for_address(page, "at=now").await;
        assert_eq!(page.value("history.length").await, length);
        page.assert_no_errors_but(&[]);
    });
}

/// A log at rest opens with a replay, unless its reader asked for the end.
#[test]
fn a_chosen_present_is_kept_by_a_reload() {
    let demo = Demo::quiet();
    open(&demo.address, Window::Desktop, async |page| {
        page.wait_for_text("#mode", "Past").await;
        page.click("#rest-end").await;
        page.wait_for_text("#mode", "Live").await;
        wait_for_address(page, "at=now").await;
        page.reload().await;
        page.wait_for_text("#board-empty", "No flight leaves").await;
        // The page would choose a replay by the time of the second status.
        page.wait("the rate is measured", "document.querySelector('#event-rate').textContent")
            .await;
        assert_eq!(page.text("#mode").await, "Live");
        page.assert_no_errors_but(&[]);
    });
}
