//! The page while time goes by: events come, and the server goes and comes back.

use super::{demo::Demo, driver::Window, page::open};
use crate::program::Program;

#[test]
fn the_board_changes_while_it_is_looked_at() {
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
fn a_server_that_is_gone_is_said_and_one_that_is_back_is_heard() {
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
        // The same command under the same key; whether it was taken before was not known.
        page.click("#outcome .actions button").await;
        page.wait_for_text("#outcome[data-state=accepted]", "is scheduled").await;
        page.wait(
            "it is on the board",
            "document.querySelector('#board tr[data-flight*=\"UA9\"]')",
        )
        .await;
    });
}
