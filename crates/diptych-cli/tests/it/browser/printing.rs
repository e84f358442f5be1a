//! The page on paper.

use serde_json::json;

use super::{
    demo::Demo,
    driver::Window,
    page::{Page, open},
};

/// Controls that paper shows, although a reader cannot press them there. A link is text, too, and a
/// tab says what is shown.
const CONTROLS: &str = "
    return [...document.querySelectorAll(
        'button:not(.link, [role=tab]), input, select, textarea')]
        .filter((control) => control.checkVisibility() && control.offsetHeight > 0)
        .map((control) => control.id || control.outerHTML.slice(0, 80));";

/// Lists whose end is out of sight, because they scroll on the screen.
const CUT: &str = "
    return [...document.querySelectorAll('.rows, #feed-log, #refusals-newest')]
        .filter((list) => list.offsetHeight > 0 && list.scrollHeight > list.clientHeight + 1)
        .map((list) => list.id || list.className);";

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
    assert_eq!(page.run(CONTROLS, vec![]).await, json!([]), "controls on paper");
    assert_eq!(page.run(CUT, vec![]).await, json!([]), "rows that paper does not show");
    let colours = page.run(COLOURS, vec![]).await;
    let (text, ground) = (colours[0].as_f64().unwrap(), colours[1].as_f64().unwrap());
    assert!(text < 0.4 && ground > 0.9, "text {text} on {ground}");
    let width = "[document.documentElement.scrollWidth, document.documentElement.clientWidth]";
    let width = page.value(width).await;
    assert!(width[0].as_u64() <= width[1].as_u64(), "wider than the paper: {width}");
    let pdf = page.print().await;
    assert!(pdf.starts_with(b"%PDF-"));
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
