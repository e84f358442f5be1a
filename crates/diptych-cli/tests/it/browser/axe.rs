//! axe-core looks over the page.

use super::{
    demo::Demo,
    driver::Window,
    findings::Axe,
    page::{Page, open, open_unloaded},
    states::STOPPED,
};
use crate::program::Program;

/// Widths and themes that a state is looked over in. The tests of a full page have all of them.
const LOOKS: [(u32, &str); 3] = [(1280, "light"), (820, "dark"), (360, "light")];

/// Opens everything that can be opened, and sends a command.
async fn fill(page: &Page) {
    page.wait("the board is full", "document.querySelectorAll('#board tr').length > 20").await;
    page.wait("the charts are drawn", "document.querySelector('#weather .chart rect')").await;
    page.wait("the form is filled", "document.querySelector('#field-flight')?.value").await;
    page.run(
        "document.querySelectorAll('details').forEach((more) => (more.open = true));
         document.querySelector('#board tr[data-status=departed] [data-go=plane]').click();",
        vec![],
    )
    .await;
    page.wait("the plane is there", "document.querySelector('#plane-table tbody tr')").await;
    page.click("#send-button").await;
    page.wait_for_text("#outcome", "Read back after the receipt").await;
    page.click("#try-twice").await;
    page.wait_for_text("#outcome[data-state=refused]", "No event of it").await;
}

fn look_over(window: Window) {
    let Some(axe) = Axe::installed() else { return };
    let demo = Demo::loaded();
    open(&demo.address, window, async |page| {
        fill(page).await;
        for theme in ["light", "dark"] {
            page.click("#theme").await;
            page.wait_for_text("#theme", theme).await;
            page.assert_no_findings(&axe, theme).await;
        }
        page.load_at("?at=2013-01-02T12:00&flight=UA1545-EWR-2013-01-01").await;
        page.wait_for_text("#mode", "Past").await;
        page.wait("the card is filled", "document.querySelector('#card-events li')").await;
        page.assert_no_findings(&axe, "the card").await;
        page.run("document.querySelector('#card-close').click();", vec![]).await;
        page.wait_for_text("#feed-order", "The latest before").await;
        page.assert_no_findings(&axe, "the past").await;
        page.assert_no_errors_but(&[422]);
    });
}

#[test]
fn axe_has_no_findings_on_a_desktop_in_both_themes() {
    look_over(Window::Desktop);
}

#[test]
fn axe_has_no_findings_on_a_tablet_in_both_themes() {
    look_over(Window::Tablet);
}

#[test]
fn axe_has_no_findings_on_a_phone_in_both_themes() {
    look_over(Window::Phone);
}

/// Sets the theme. Chromium keeps the colours of an animation that runs meanwhile, so that ends.
const SET_THEME: &str = "
    document.documentElement.dataset.theme = arguments[0];
    for (const animation of document.getAnimations()) animation.cancel();";

/// Looks over a state that a reader seldom sees, in each width and in both themes.
async fn look_over_state(page: &Page, axe: &Axe, state: &str) {
    for (width, theme) in LOOKS {
        page.show_at_width(width).await;
        page.run(SET_THEME, vec![theme.into()]).await;
        page.assert_no_findings(axe, &format!("{state}, {width} pixels wide, {theme}")).await;
    }
}

#[test]
fn axe_has_no_findings_on_the_replay_and_without_a_connection() {
    let Some(axe) = Axe::installed() else { return };
    // Few flights, so that the rules have few elements to look over.
    let mut demo = Demo::quiet();
    let address = demo.address.clone();
    open_unloaded(&address, Window::Moving, async |page| {
        page.load().await;
        page.wait_for_text("#mode", "Replay").await;
        page.wait_for_text("#past-cost", "folded").await;
        look_over_state(page, &axe, "the replay").await;

        page.click("#play").await;
        page.wait_for_text("#mode", "Past").await;
        demo.kill();
        page.wait_for_text("#connection[data-state=lost]", "Connection lost").await;
        page.set("#time-input", "2013-01-02T09:00").await;
        page.wait_for_text("#board-trouble", "The server cannot be reached").await;
        page.wait_for_text("#refusals-total", "This could not be asked").await;
        for part in ["#diptych-panels", "#feed-log", "#board-panel"] {
            page.wait(part, &format!("document.querySelector('{part}').dataset.stale")).await;
        }
        look_over_state(page, &axe, "the lost connection in the past").await;
    });
}

#[test]
fn axe_has_no_findings_on_an_empty_log() {
    let Some(axe) = Axe::installed() else { return };
    let demo = Demo::loaded_with(Program::new(), &["--until", "2012-12-31T00:00:01Z"]);
    open_unloaded(&demo.address, Window::Desktop, async |page| {
        page.load_empty().await;
        page.wait_for_text("#clock-day", "No time yet").await;
        look_over_state(page, &axe, "the empty log").await;
        page.assert_no_errors_but(&[]);
    });
}

#[test]
fn axe_has_no_findings_on_a_stopped_view_and_a_lost_present() {
    let Some(axe) = Axe::installed() else { return };
    let mut demo = Demo::quiet();
    let address = demo.address.clone();
    open(&address, Window::Desktop, async |page| {
        page.run(STOPPED, vec![]).await;
        page.click("#rest-end").await;
        page.wait_for_text("#views-trouble", "Board is stopped at position").await;
        page.wait_for_text("#board-trouble", "The view of the board is stopped").await;
        look_over_state(page, &axe, "the stopped view").await;
        demo.kill();
        page.wait_for_text("#mode", "Not live").await;
        page.wait_for_text("#views-summary", "When the connection was lost").await;
        look_over_state(page, &axe, "the lost connection").await;
    });
}
