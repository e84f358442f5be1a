//! Contents of the page: boards of the present and of the past, charts and cards, in both themes,
//! and on a phone.

use fantoccini::key::Key;
use serde_json::{Value, json};

use super::{
    demo::Demo,
    driver::Window,
    page::{Page, open},
};

/// Flight and status of each row, as the page shows them.
const ROWS: &str = "[...document.querySelectorAll('#board tr[data-flight]')]
    .map((row) => [row.dataset.flight, row.dataset.status])";

/// Flight and status of each row, as the server answers for the time of the slider.
const ROWS_OF_THE_SERVER: &str = "
    const { dataset, value } = document.querySelector('#time');
    const at = new Date(Date.parse(dataset.first) + Number(value) * 600000);
    const then = at.toISOString().replace('.000Z', 'Z');
    const past = `at=${then}&_occurred_before=${then}`;
    return fetch(`queries/departure-board?airport=EWR&${past}`)
        .then((response) => response.json())
        .then((board) => board.rows.map((row) => [row.flight, row.status]));";

#[test]
fn every_part_of_the_page_has_content_from_this_server() {
    let demo = Demo::shared();
    open(&demo.address, Window::Desktop, async |page| {
        page.wait("the board is full", "document.querySelectorAll('#board tr').length > 20").await;
        assert_eq!(page.text("#mode").await, "Live");
        page.wait_for_text("#connection", "Connected").await;
        page.wait(
            "every view is live",
            "document.querySelectorAll('#views tr[data-state=live]').length >= 9
             && document.querySelectorAll('#views tr:not([data-state=live])').length === 0",
        )
        .await;
        page.wait(
            "the log has a head",
            "/^[0-9]+,[0-9]{3}$/.test(document.querySelector('#head').textContent)",
        )
        .await;
        assert!(page.count("#feed li[data-type]").await >= 20);
        for chart in ["#punctuality", "#routes", "#hours", "#weather"] {
            let marks = format!("document.querySelectorAll('{chart} .chart rect').length > 10");
            page.wait(&format!("{chart} is drawn"), &marks).await;
        }
        let origins = page
            .value(
                "[...new Set(performance.getEntriesByType('resource')
                    .map((entry) => new URL(entry.name).origin === location.origin))]",
            )
            .await;
        assert_eq!(origins, json!([true]), "something was asked for elsewhere");
        page.assert_no_errors_but(&[]);
    });
}

#[test]
fn the_slider_moves_the_boards_through_time() {
    let demo = Demo::shared();
    open(&demo.address, Window::Desktop, async |page| {
        page.wait("the board is full", "document.querySelectorAll('#board tr').length > 20").await;
        let now = page.value(ROWS).await;

        page.run(
            "const slider = document.querySelector('#time');
             slider.value = Math.round(slider.max * 0.6);
             slider.dispatchEvent(new Event('input', { bubbles: true }));",
            vec![],
        )
        .await;
        let dragged = assert_board_of_the_past(page).await;
        assert_ne!(dragged, now);
        assert!(dragged.as_array().unwrap().len() > 20, "{dragged}");

        page.focus("#time").await;
        let before = page.value("Number(document.querySelector('#time').value)").await;
        page.press(Key::Left).await;
        let after = format!("document.querySelector('#time').value == {before} - 1");
        page.wait("an arrow moves by ten minutes", &after).await;
        page.press(Key::PageDown).await;
        let after = format!("document.querySelector('#time').value == {before} - 1 - 144");
        page.wait("page down moves by a day", &after).await;
        let a_day_before = assert_board_of_the_past(page).await;
        assert_ne!(a_day_before, dragged);

        page.click("#now").await;
        page.wait_for_text("#mode", "Live").await;
        page.wait("the board is that of now", &format!("JSON.stringify({ROWS}) === '{now}'")).await;
        page.assert_no_errors_but(&[]);
    });
}

/// Asserts that the board equals the server's answer for its time, and returns it.
async fn assert_board_of_the_past(page: &Page) -> Value {
    page.wait_for_text("#mode", "Past").await;
    let rows = page.run(ROWS_OF_THE_SERVER, vec![]).await;
    let wanted = format!("JSON.stringify({ROWS}) === '{rows}'");
    page.wait("the board is what the server answers", &wanted).await;
    page.wait_for_text("#answered", "Asked of the log").await;
    rows
}

#[test]
fn play_moves_the_slider() {
    let demo = Demo::shared();
    open(&demo.address, Window::Desktop, async |page| {
        page.click("#play").await;
        page.wait_for_text("#mode", "Replay").await;
        page.wait_for_text("#play", "Pause").await;
        let at = page.value("Number(document.querySelector('#time').value)").await;
        let on = format!("Number(document.querySelector('#time').value) > {at} + 3");
        page.wait("time goes on", &on).await;
        page.click("#play").await;
        page.wait_for_text("#play", "Play").await;
        page.wait_for_text("#mode", "Past").await;
        page.assert_no_errors_but(&[]);
    });
}

#[test]
fn the_card_of_a_flight_shows_its_events_and_returns_the_focus() {
    let demo = Demo::shared();
    open(&demo.address, Window::Desktop, async |page| {
        page.wait(
            "a flight has landed",
            "document.querySelector('#board tr[data-status=landed] [data-go=flight]')",
        )
        .await;
        page.run(
            "const row = document.querySelector('#board tr[data-status=landed]');
             row.querySelector('[data-go=flight]').id = 'opener';",
            vec![],
        )
        .await;
        let flight = page.value("document.querySelector('#opener').closest('tr').dataset.flight");
        let flight = flight.await.as_str().unwrap().to_owned();
        page.focus("#opener").await;
        page.press(Key::Enter).await;
        page.wait("the card is open", "document.querySelector('#card').open").await;
        page.wait_for_text("#card-facts", &flight).await;
        for event in ["flight-scheduled", "flight-departed", "flight-landed"] {
            let one = format!("#card-events li[data-type={event}]");
            page.wait(event, &format!("document.querySelector('{one}')")).await;
        }
        page.press(Key::Escape).await;
        page.wait("the card is closed", "!document.querySelector('#card').open").await;
        page.wait("the focus is back", "document.activeElement.id === 'opener'").await;
        page.assert_no_errors_but(&[]);
    });
}

#[test]
fn a_click_on_the_board_shows_the_planes_day() {
    let demo = Demo::shared();
    open(&demo.address, Window::Desktop, async |page| {
        let plane = "#board tr[data-status=departed] [data-go=plane]";
        page.wait("a plane is in the air", &format!("document.querySelector('{plane}')")).await;
        let tail = page.text(plane).await;
        page.run("document.querySelector(arguments[0]).click();", vec![plane.into()]).await;
        page.wait_for_text("#plane-result h3", &tail).await;
        page.wait("it has a leg", "document.querySelector('#plane-table tbody tr')").await;
        page.wait("it is drawn", "document.querySelector('#plane-legs .leg')").await;
        page.assert_no_errors_but(&[]);
    });
}

#[test]
fn the_chosen_theme_is_kept() {
    let demo = Demo::shared();
    open(&demo.address, Window::Desktop, async |page| {
        let background = "getComputedStyle(document.body).backgroundColor";
        page.click("#theme").await;
        page.wait_for_text("#theme", "light").await;
        let light = page.value(background).await;
        page.click("#theme").await;
        page.wait_for_text("#theme", "dark").await;
        let dark = page.value(background).await;
        assert_ne!(light, dark);
        page.load().await;
        assert_eq!(page.value(background).await, dark);
        page.assert_no_errors_but(&[]);
    });
}

#[test]
fn the_page_fits_a_phone() {
    assert_fits(Window::Phone, 360);
}

#[test]
fn the_page_fits_a_tablet() {
    assert_fits(Window::Tablet, 820);
}

fn assert_fits(window: Window, width: u32) {
    let demo = Demo::shared();
    open(&demo.address, window, async |page| {
        page.wait("the board is full", "document.querySelectorAll('#board tr').length > 20").await;
        page.run(
            "document.querySelectorAll('details').forEach((more) => (more.open = true));
             document.querySelector('#pictures').scrollIntoView();",
            vec![],
        )
        .await;
        page.wait("a picture is drawn", "document.querySelector('#routes .chart rect')").await;
        for theme in ["light", "dark"] {
            page.click("#theme").await;
            page.wait_for_text("#theme", theme).await;
            let wide = "[document.documentElement.scrollWidth, innerWidth]";
            let wide = page.value(wide).await;
            assert_eq!(wide, json!([width, width]), "{theme}");
        }
        // The contents of each row are visible, too.
        let cut = page
            .value(
                "[...document.querySelectorAll('#board tr[data-flight] :is(time, b, .name)')]
                    .filter((part) => part.getBoundingClientRect().right > innerWidth).length",
            )
            .await;
        assert_eq!(cut, 0);
        page.wait("the clock has words", "document.querySelector('#clock-words').offsetHeight > 0")
            .await;
        // The values of an axis do not overlap.
        let overlaps = "
            const boxes = [...document.querySelectorAll('#hours .axis.end')]
                .map((value) => value.getBoundingClientRect());
            return boxes.filter((box, index) => index > 0 && box.height > 0
                && Math.abs(box.top - boxes[index - 1].top) < 11).length;";
        page.wait("hours are drawn", "document.querySelector('#hours .axis.end')").await;
        assert_eq!(page.run(overlaps, vec![]).await, 0);
        page.assert_no_errors_but(&[]);
    });
}

#[test]
fn the_page_works_with_keys_and_a_screen_reader() {
    let demo = Demo::shared();
    open(&demo.address, Window::Desktop, async |page| {
        assert_eq!(page.value("document.documentElement.lang").await, "en");
        assert_eq!(page.count("h1").await, 1);
        let unnamed = "
            const named = (element) => element.getAttribute('aria-label')
                || element.labels?.length > 0
                || document.getElementById(element.getAttribute('aria-labelledby'))?.textContent;
            const all = (css) => [...document.querySelectorAll(css)];
            return [
                ...all('input, select').filter((field) => !named(field)),
                ...all('button, a').filter((element) => !named(element)
                    && !element.textContent.trim() && !element.hidden),
                ...all('[role=img], img, section, dialog, [role=region], [role=log]')
                    .filter((element) => !named(element) && !element.alt),
                ...all('svg:not([role=img])').filter((drawing) =>
                    drawing.getAttribute('aria-hidden') !== 'true'),
                ...all('table').filter((table) => !table.caption),
            ].filter((element) => element.checkVisibility())
                .map((element) => element.outerHTML.slice(0, 120));";
        page.wait("a picture is drawn", "document.querySelector('#routes .chart rect')").await;
        assert_eq!(page.run(unnamed, vec![]).await, json!([]));
        let levels = "[...document.querySelectorAll('main :is(h1, h2, h3, h4)')]
            .map((heading) => Number(heading.tagName[1]))";
        let levels = page.value(levels).await;
        let levels: Vec<u64> = serde_json::from_value(levels).unwrap();
        assert!(levels.windows(2).all(|pair| pair[1] <= pair[0] + 1), "{levels:?}");
        // The first stop of the Tab key leads to the departures.
        page.press(Key::Tab).await;
        page.wait("the skip link", "document.activeElement.className === 'skip'").await;
        page.press(Key::Enter).await;
        page.wait("skipped", "document.activeElement.id === 'departures'").await;
        page.assert_no_errors_but(&[]);
    });
}
