//! axe-core looks over the page.

use super::{
    demo::Demo,
    driver::Window,
    findings::Axe,
    page::{Page, open},
};

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
