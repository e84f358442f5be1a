//! The page on paper.

use serde_json::json;

use super::{
    demo::Demo,
    driver::Window,
    page::{Page, open, open_unloaded},
};

/// The width of a page of A4 without its margins.
const PAPER: u32 = 718;

/// Controls that paper shows, although a reader cannot press them there. A link is text, too, so is
/// a position of the log, and a tab says what is shown.
const CONTROLS: &str = "
    return [...document.querySelectorAll(
        'button:not(.link, [role=tab], [aria-pressed]), input, select, textarea, \
            details:not([open], #views-more) > summary')]
        .filter((control) => control.checkVisibility() && control.offsetHeight > 0)
        .map((control) => control.id || control.outerHTML.slice(0, 80));";

/// Elements that scroll on the screen, so that a part of them is out of sight, and elements that
/// are wider than the paper. The hidden words for screen readers do not count.
const CUT: &str = "
    const width = document.documentElement.clientWidth;
    return [...document.querySelectorAll('body *')]
        .filter((element) => element.checkVisibility() && element.offsetHeight > 1
            && !element.closest('.sr, .skip, svg'))
        .filter((element) => element.getBoundingClientRect().right > width + 1
            || (getComputedStyle(element).overflow !== 'visible'
                && (element.scrollHeight > element.clientHeight + 1
                    || element.scrollWidth > element.clientWidth + 1)))
        .map((element) => element.outerHTML.slice(0, 120));";

/// Lightness of the text and of what lies behind it, from 0 to 1.
const COLOURS: &str = "
    const light = (colour) => {
        const parts = colour.match(/[0-9.]+/g).map(Number);
        return parts.length > 3 && parts[3] === 0 ? 1 : Math.max(...parts.slice(0, 3)) / 255;
    };
    const style = getComputedStyle(document.body);
    return [light(style.color), light(style.backgroundColor)];";

async fn assert_prints(page: &Page) {
    page.show_as_print().await;
    assert_is_whole(page).await;
    let colours = page.run(COLOURS, vec![]).await;
    let (text, ground) = (colours[0].as_f64().unwrap(), colours[1].as_f64().unwrap());
    assert!(text < 0.4 && ground > 0.9, "text {text} on {ground}");
    let pdf = page.print().await;
    assert!(pdf.starts_with(b"%PDF-"));
}

async fn assert_is_whole(page: &Page) {
    assert_eq!(page.run(CONTROLS, vec![]).await, json!([]), "controls on paper");
    assert_eq!(page.run(CUT, vec![]).await, json!([]), "parts that paper does not show");
}

#[test]
fn a_print_shows_every_row_and_no_controls_on_light_paper() {
    let demo = Demo::shared();
    open(&demo.address, Window::Desktop, async |page| {
        page.wait("the board is full", "document.querySelectorAll('#board tr').length > 20").await;
        page.wait("the charts are drawn", "document.querySelector('#weather .chart rect')").await;
        page.click("#theme").await;
        page.click("#theme").await;
        page.wait_for_text("#theme", "dark").await;
        assert_prints(page).await;
        page.assert_no_errors_but(&[]);
    });
}

/// A phone keeps its narrow page, or gives the paper's width to what was opened in the narrow one.
#[test]
fn a_print_from_a_phone_shows_what_is_open_with_its_tables() {
    let demo = Demo::shared();
    open_unloaded(&demo.address, Window::Desktop, async |page| {
        page.show_at_width(360).await;
        page.load_at("?at=2013-01-02T12:00").await;
        page.wait("the board is full", "document.querySelectorAll('#board tr').length > 20").await;
        page.wait("the views are there", "document.querySelectorAll('#views tr').length > 8").await;
        assert_eq!(page.value("document.querySelector('#views-more').open").await, false);
        page.run("document.querySelector('#pictures').scrollIntoView();", vec![]).await;
        page.wait("the charts are drawn", "document.querySelector('#weather .chart rect')").await;
        page.run("document.querySelector('#punctuality details').open = true;", vec![]).await;
        assert_prints(page).await;
        let shown = "['#views tr:last-child', '#punctuality tr:last-child',
            '#board tr:last-child', '#feed li:last-child'].filter((css) => {
                const row = document.querySelector(css);
                return row.checkVisibility({ contentVisibilityAuto: true }) && row.offsetHeight > 9;
            }).length";
        assert_eq!(page.value(shown).await, 4);
        page.show_at_width(PAPER).await;
        assert_is_whole(page).await;

        page.run("document.querySelector('#board [data-go=flight]').click();", vec![]).await;
        page.wait("the card is filled", "document.querySelector('#card-events li')").await;
        assert_is_whole(page).await;
        let rest = "document.querySelector('main').checkVisibility()";
        assert_eq!(page.value(rest).await, false, "the page behind the card");
        let bottom = "document.querySelector('#card-events li:last-child')
            .getBoundingClientRect().bottom <= document.querySelector('#card').scrollHeight + 1";
        page.wait("the last event is in the card", bottom).await;
        page.assert_no_errors_but(&[]);
    });
}
