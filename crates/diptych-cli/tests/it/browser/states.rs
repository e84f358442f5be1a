//! States of the page that a reader seldom sees: no connection in the past, an empty log, a view
//! that stands still, a server that does not answer.

use serde_json::json;

use super::{
    demo::Demo,
    driver::Window,
    page::{open, open_unloaded},
};
use crate::program::Program;

#[test]
fn rows_of_another_time_are_marked_while_the_server_is_away() {
    let mut demo = Demo::loaded();
    let address = demo.address.clone();
    open(&address, Window::Desktop, async |page| {
        page.wait("the board is full", "document.querySelectorAll('#board tr').length > 20").await;
        page.wait_for_text("#pictures-state", "show the present").await;
        page.wait_for_text("#refusals-total", "refused").await;
        page.run("document.querySelector('#pictures').scrollIntoView();", vec![]).await;
        demo.kill();
        page.wait_for_text("#mode", "Not live").await;
        page.wait_for_text("#feed-order", "when the connection was lost").await;
        page.wait_for_text("#views-summary", "When the connection was lost").await;
        page.wait("so is the feed", "document.querySelector('#feed-log').dataset.stale").await;
        page.wait_for_text("#pictures-state", "may be of another time").await;
        page.wait_for_text("#stale", "These rows are of Wednesday 2 January, 17:59.").await;
        page.wait("they are marked", "document.querySelector('#board-panel').dataset.stale").await;

        page.set("#time-input", "2013-01-02T09:00").await;
        page.wait_for_text("#clock-time", "09:00").await;
        page.wait_for_text("#board-trouble", "The server cannot be reached").await;
        page.wait("they are marked", "document.querySelector('#board-panel').dataset.stale").await;
        page.wait("so is the feed", "document.querySelector('#feed-log').dataset.stale").await;

        page.wait_for_text("#refusals-total", "This could not be asked").await;
        page.wait("they are marked", "document.querySelector('#refusals').dataset.stale").await;
        page.wait("the charts are asked for", "document.querySelector('#hours .trouble')").await;
        page.wait_for_text("#pictures-state", "may be of another time").await;
        page.wait("they are marked", "document.querySelector('#gallery').dataset.stale").await;

        demo.start_again();
        page.wait_for_text("#connection[data-state=open]", "Connected").await;
        let stale = "document.querySelector('[data-stale]')";
        page.wait("the rows are of the clock", &format!("!{stale}")).await;
        page.wait_for_text("#answered", "before Wed 2 Jan, 09:00").await;
        page.wait_for_text("#pictures-state", "so before Wednesday 2 January, 09:00").await;
        page.wait_for_text("#refusals-total", "before Wednesday 2 January, 09:00").await;
    });
}

#[test]
fn an_empty_log_is_named_and_takes_the_first_command() {
    let demo = Demo::loaded_with(Program::new(), &["--until", "2012-12-31T00:00:01Z"]);
    open_unloaded(&demo.address, Window::Desktop, async |page| {
        page.load_empty().await;
        page.wait_for_text("#board-empty", "No flight of the data is in the log yet").await;
        page.wait_for_text("#mode", "Live").await;
        page.wait_for_text("#clock-day", "No time yet").await;
        page.wait_for_text("#pictures-state", "once a flight of the data is in the log").await;
        page.wait_for_text("#quick-words", "Schedule UA 9").await;
        page.click("#quick-send").await;
        page.wait_for_text("#outcome[data-state=accepted]", "is scheduled").await;
        page.wait_for_text("#trip li:nth-child(2)", "flight-scheduled at position").await;
        let newest = "document.querySelector('#feed li').dataset.type === 'flight-scheduled'";
        page.wait("the feed has it", newest).await;
        page.assert_no_errors_but(&[]);
    });
}

/// Makes the page hear from the server that the view of the board has stopped. A program whose
/// views have stopped at its start does not serve, so the test changes the events of the stream.
pub(crate) const STOPPED: &str = "
    const Real = window.EventSource;
    const change = {
        status(heard) {
            const board = heard.views.find((view) => view.name === 'Board');
            Object.assign(board, { state: 'stopped', trouble: 'an event cannot be read' });
        },
        answer(heard) {
            if (heard.query.startsWith('departure-board')) heard.view_state = 'stopped';
        },
    };
    window.EventSource = class extends Real {
        addEventListener(name, handle) {
            super.addEventListener(name, ({ data, lastEventId }) => {
                const heard = JSON.parse(data);
                change[name]?.(heard);
                handle({ data: JSON.stringify(heard), lastEventId });
            });
        }
    };
    document.querySelector('#tab-JFK').click();";

#[test]
fn a_stopped_view_is_named_with_its_reason() {
    let demo = Demo::shared();
    open(&demo.address, Window::Desktop, async |page| {
        page.run(STOPPED, vec![]).await;
        page.wait_for_text("#views-trouble", "Board is stopped at position").await;
        page.wait_for_text("#views-trouble", "an event cannot be read").await;
        page.wait_for_text("#board-trouble", "The view of the board is stopped, at position").await;
        page.wait_for_text("#views tr[data-view=Board] td.state", "stopped").await;
        // Its column is shown again, because the states differ.
        let shown = "!document.querySelector('#views-table').classList.contains('no-state')";
        page.wait("the states are shown", shown).await;
        page.assert_no_errors_but(&[]);
    });
}

#[test]
fn a_request_without_an_answer_ends_with_words() {
    let demo = Demo::shared();
    open(&demo.address, Window::Desktop, async |page| {
        page.wait("the form is filled", "document.querySelector('#field-flight')?.value").await;
        // The server accepts the request and never answers. The page's own limit is shortened.
        page.run(
            "const limit = AbortSignal.timeout.bind(AbortSignal);
             AbortSignal.timeout = () => limit(50);
             window.fetch = (address, { signal }) => new Promise((_, reject) =>
                 signal.addEventListener('abort', () => reject(signal.reason)));",
            vec![],
        )
        .await;
        page.click("#send-button").await;
        page.wait_for_text("#outcome", "The server did not answer within 40 seconds").await;
        page.wait_for_text("#outcome", "It may have been carried out").await;
        page.assert_no_errors_but(&[]);
    });
}

/// Columns of equal values say nothing, and on a phone one line stands for all views.
#[test]
fn views_that_are_alike_are_one_sentence() {
    let demo = Demo::shared();
    open(&demo.address, Window::Phone, async |page| {
        page.wait_for_text("#views-summary", "8 views and 1 projection: all live, all at position")
            .await;
        assert_eq!(page.value("document.querySelector('#views-more').open").await, false);
        let hidden = "['state', 'position', 'lag', 'rate'].filter((column) =>
            !document.querySelector('#views-table').classList.contains(`no-${column}`))";
        assert_eq!(page.value(hidden).await, json!([]));
        page.assert_no_errors_but(&[]);
    });
}

/// Axes have more than two ticks, numbers stand below each other, and signs are true ones.
#[test]
fn charts_have_ticks_units_counts_and_aligned_numbers() {
    let demo = Demo::shared();
    open(&demo.address, Window::Desktop, async |page| {
        page.load_at("?routes=latest").await;
        page.run("document.querySelector('#pictures').scrollIntoView();", vec![]).await;
        page.wait("they are drawn", "document.querySelector('#weather .chart rect')").await;
        let few = "['#punctuality', '#routes', '#hours', '#weather'].filter((chart) =>
            document.querySelectorAll(`${chart} .chart .axis`).length < 3)";
        page.wait("there are ticks", &format!("{few}.length === 0")).await;
        page.wait_for_text("#routes .chart", "min late").await;
        page.wait(
            "means have their counts",
            "document.querySelectorAll('#routes .count').length > 4",
        )
        .await;
        page.wait("so has the weather", "document.querySelectorAll('#weather .count').length > 9")
            .await;
        let hyphens = "[...document.querySelectorAll('#pictures :is(text, td)')]
            .filter((cell) => /^-[0-9]/.test(cell.textContent)).length";
        assert_eq!(page.value(hyphens).await, 0);
        page.wait(
            "there are minus signs",
            "document.querySelector('#pictures').textContent
            .includes('−')",
        )
        .await;
        let left = "[...document.querySelectorAll('#pictures td')].filter((cell) =>
            /^[−0-9][0-9.,]*$/.test(cell.textContent)
            && getComputedStyle(cell).textAlign !== 'right').map((cell) => cell.textContent)";
        assert_eq!(page.value(left).await, json!([]));
        page.assert_no_errors_but(&[]);
    });
}
