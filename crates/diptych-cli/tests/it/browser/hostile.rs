//! Markup in any text: the page shows it as text, and no script runs.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use serde_json::{Value, json};

use super::{
    demo::Demo,
    driver::Window,
    page::{Page, open},
};
use crate::program::{Program, finish};

const MARKUP: &str = "<img src=x onerror=\"window.hacked=1\"><script>window.hacked=1</script>";

/// Events of another program whose names, rules and actors are markup.
fn hostile_events() -> String {
    let flight = "UA7777-EWR-2013-01-01";
    let of_flight = ["flight:UA7777-EWR-2013-01-01", "board:EWR-2013-01-01"];
    let event = |event_type: &str, tags: &[&str], data: Value| {
        json!({
            "type": event_type, "tags": tags, "data": data, "occurred_at": "2012-12-31T20:00:00Z",
            "metadata": { "actor": MARKUP },
        })
    };
    let events = [
        event("airline-named", &["airline:UA"], json!({ "airline": "UA", "name": MARKUP })),
        event(
            "airport-named",
            &["airport:XSS"],
            json!({ "airport": "XSS", "name": MARKUP, "latitude": 0.0, "longitude": 0.0 }),
        ),
        event(
            "plane-registered",
            &["plane:N7777X"],
            json!({
                "plane": "N7777X", "manufacturer": MARKUP, "model": MARKUP, "built": 1999,
                "seats": 1,
            }),
        ),
        event(
            "flight-scheduled",
            &of_flight,
            json!({
                "flight": flight, "board": "EWR-2013-01-01", "destination": "XSS",
                "departs_at": "2013-01-01T22:30:00Z", "plane": "N7777X", "distance_miles": null,
            }),
        ),
        event(
            "command-refused",
            &of_flight,
            json!({
                "flight": flight, "board": "EWR-2013-01-01", "command": MARKUP, "rule": MARKUP,
                "reason": MARKUP,
            }),
        ),
    ];
    events.map(|event| format!("{event}\n")).concat()
}

fn append(log: &Path, events: &str) {
    let mut append = Command::new(env!("CARGO_BIN_EXE_diptych"));
    append.args(["append", "--data"]).arg(log).stdin(Stdio::piped());
    let append = append.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    finish(append, events).ended(0, "");
}

#[test]
fn markup_in_the_log_is_shown_as_text() {
    let program = Program::new();
    let until = "2013-01-01T20:00:00Z";
    // These names are appended after those of the demo, so the views keep them.
    let program = Demo::loaded_with(program, &["--until", until]).end();
    append(&program.data().join("log"), &hostile_events());
    let demo = Demo::loaded_with(program, &["--until", until]);
    open(&demo.address, Window::Desktop, async |page| {
        let row = "#board tr[data-flight=\"UA7777-EWR-2013-01-01\"]";
        page.wait("the flight is there", &format!("document.querySelector('{row}')")).await;
        assert_eq!(page.text(&format!("{row} .name")).await, MARKUP);
        page.wait_for_text("#feed", MARKUP).await;
        page.wait_for_text("#refusals-rules", MARKUP).await;
        page.wait_for_text("#latest", MARKUP).await;
        page.wait_for_text("#punctuality .as-table", MARKUP).await;

        page.run(&format!("document.querySelector('{row} [data-go=flight]').click();"), vec![])
            .await;
        page.wait_for_text("#card-title", MARKUP).await;
        page.wait_for_text("#card-facts", MARKUP).await;
        page.wait_for_text("#card-events", &format!("by {MARKUP}")).await;
        page.click("#card-plane").await;
        page.wait_for_text("#plane-result", MARKUP).await;
        assert_unharmed(page).await;
        page.assert_no_errors_but(&[]);
    });
}

#[test]
fn typed_markup_is_shown_as_text() {
    let demo = Demo::shared();
    open(&demo.address, Window::Desktop, async |page| {
        page.wait("the form is filled", "document.querySelector('#field-flight')?.value").await;
        for field in ["flight", "destination", "plane"] {
            page.click("#fresh").await;
            page.wait("nothing is wrong", "!document.querySelector('[aria-invalid]')").await;
            page.type_in(&format!("#field-{field}"), MARKUP).await;
            page.click("#send-button").await;
            page.wait_for_text("#outcome[data-state=failed]", "<img src=x").await;
            page.wait_for_text(&format!("#error-{field}"), "<img src=x").await;
            page.wait_for_text("#request", "window.hacked").await;
        }
        page.type_in("#find", MARKUP).await;
        page.wait_for_text("#board-empty", "No flight on this board is like that").await;
        page.type_in("#plane-tail", MARKUP).await;
        page.click("#plane-form [type=submit]").await;
        page.wait_for_text("#plane-result .trouble", "<img src=x").await;
        assert_unharmed(page).await;
        page.assert_no_errors_but(&[400]);
    });
}

/// Asserts that no script ran, and that no text became an element.
async fn assert_unharmed(page: &Page) {
    assert_eq!(page.value("typeof window.hacked").await, "undefined");
    assert_eq!(page.count("body :is(img, script, iframe)").await, 0);
}
