//! The page over time: new events arrive, and the server goes away and returns.

use super::{demo::Demo, driver::Window, page::open};
use crate::program::Program;

#[test]
fn an_open_board_follows_new_events() {
    let demo = Demo::start(Program::new(), "127.0.0.1:0", &["--speed", "1800"]);
    open(&demo.address, Window::Desktop, async |page| {
        page.wait("flights leave", "document.querySelector('#board tr[data-status=departed]')")
            .await;
        let count = "document.querySelectorAll('#board tr[data-status=departed]').length";
        let departed = page.value(count).await;
        page.wait("more flights leave", &format!("{count} > {departed}")).await;
        page.wait("a change is pointed at", "document.querySelector('#board .changed')").await;
        page.wait(
            "the rate is measured",
            "Number(document.querySelector('#event-rate').textContent) > 0",
        )
        .await;
        let newest = "Number(document.querySelector('#feed li').dataset.number)";
        let number = page.value(newest).await;
        page.wait("the stream flows", &format!("{newest} > {number}")).await;
        page.wait_for_text("#mode", "Live").await;
        page.wait(
            "the pulse is drawn",
            "document.querySelector('#pulse polyline').getAttribute('points').includes(' ')",
        )
        .await;
        page.assert_no_errors_but(&[]);
    });
}

#[test]
fn the_page_reports_a_lost_server_and_reconnects() {
    let mut demo = Demo::loaded();
    let address = demo.address.clone();
    open(&address, Window::Desktop, async |page| {
        page.wait_for_text("#connection", "Connected").await;
        demo.kill();
        page.wait_for_text("#connection[data-state=lost]", "Connection lost").await;
        page.wait_for_text("#mode", "Not live").await;
        page.click("#send-button").await;
        page.wait_for_text("#outcome", "The server cannot be reached").await;

        demo.start_again();
        page.wait_for_text("#connection[data-state=open]", "Connected").await;
        page.wait_for_text("#mode", "Live").await;
        // Sends the command again under its key, because its first outcome is unknown.
        page.click("#outcome .actions button").await;
        page.wait_for_text("#outcome[data-state=accepted]", "is scheduled").await;
        page.wait(
            "it is on the board",
            "document.querySelector('#board tr[data-flight*=\"UA9\"]')",
        )
        .await;
    });
}

/// Browsers open six connections to one server, for all windows together. Each window held three of
/// them for its streams, so that the requests of the third window waited for ever.
#[test]
fn many_windows_of_the_page_leave_room_for_requests() {
    let demo = Demo::shared();
    open(&demo.address, Window::Desktop, async |page| {
        let mut windows = vec![page.window().await];
        for _ in 0..3 {
            windows.push(page.open_window().await);
        }
        for window in &windows {
            page.switch_to(window).await;
            page.wait("the window is in sight", "!document.hidden").await;
            page.wait_for_text("#connection", "Connected").await;
            page.wait_for_text("#mode", "Live").await;
            let status = page.run("return (await fetch('queries/names')).status;", vec![]).await;
            assert_eq!(status, 200);
        }
        page.assert_no_errors_but(&[]);
    });
}
