//! The way of a command through the diptych, as the page shows it.

use super::{demo::Demo, driver::Window, page::open};

const SUGGESTED: &str = "!document.querySelector('#quick-send').disabled
    && document.querySelector('#quick-words').textContent.includes('Schedule UA 9')";

/// Number of the shown positions, from the text of the second step.
const POSITION: &str = "Number(/position ([0-9,]+)/
    .exec(document.querySelector('#trip li:nth-child(2)').textContent)[1].replaceAll(',', ''))";

#[test]
fn a_command_is_followed_to_its_event_and_to_three_views() {
    let demo = Demo::loaded();
    open(&demo.address, Window::Desktop, async |page| {
        page.wait("a command is suggested", SUGGESTED).await;
        // Before the first command, the steps say what each panel is for.
        page.wait_for_text("#trip", "It gets the next position in the log").await;
        let head = "(await (await fetch('status')).json()).log.head";
        let before = page.run(&format!("return {head};"), vec![]).await.as_u64().unwrap();

        page.click("#quick-send").await;
        let reached = "document.querySelectorAll('#trip [data-reached]').length === 3";
        page.wait("three views have it", reached).await;
        page.wait_for_text("#trip li:nth-child(1)", "schedule-flight for UA 9").await;
        page.wait_for_text("#trip li:nth-child(1)", "was accepted").await;
        page.wait_for_text("#trip li:nth-child(2)", "flight-scheduled at position").await;
        assert_eq!(page.value(POSITION).await, before + 1);
        for view in ["Board", "Punctuality", "Happenings"] {
            page.wait_for_text(&format!("#trip [data-reached={view}]"), " ms: ").await;
            let row = format!("document.querySelector('#views tr.reached[data-view={view}]')");
            page.wait("the table of views marks it", &row).await;
        }
        // The sender sees it beside the form, too.
        page.wait_for_text("#outcome-trip", "flight-scheduled at position").await;
        let newest = "document.querySelector('#feed li').dataset.position";
        page.wait("the feed has it", &format!("{newest} == {before} + 1")).await;

        // The way of the next command begins where the reader is.
        page.click("#quick-next").await;
        page.wait_for_text("#trip li:nth-child(2)", "flight-departed at position").await;
        page.assert_no_errors_but(&[]);
    });
}

#[test]
fn a_retry_leads_to_the_same_event() {
    let demo = Demo::loaded();
    open(&demo.address, Window::Desktop, async |page| {
        page.wait("a command is suggested", SUGGESTED).await;
        page.click("#send-button").await;
        page.wait_for_text("#outcome", "Read back after the receipt").await;
        page.wait_for_text("#trip li:nth-child(2)", "flight-scheduled at position").await;
        let position = page.value(POSITION).await;
        page.click("#outcome .actions button:last-child").await;
        page.wait_for_text("#trip li:nth-child(1)", "came with a known key").await;
        page.wait_for_text("#trip li:nth-child(2)", "The log has it once").await;
        assert_eq!(page.value(POSITION).await, position);
        page.assert_no_errors_but(&[]);
    });
}

#[test]
fn a_refused_command_leads_to_no_event_of_the_flight() {
    let demo = Demo::loaded();
    open(&demo.address, Window::Desktop, async |page| {
        page.wait("a command is suggested", SUGGESTED).await;
        page.click("#try-twice").await;
        page.wait_for_text("#trip[data-test] ol[data-state=refused]", "scheduled-once").await;
        page.wait_for_text("#trip li:nth-child(2)", "No event of the flight").await;
        page.wait_for_text("#trip li:nth-child(2)", "command-refused").await;
        page.wait_for_text("#trip li:nth-child(3)", "refusal").await;
        assert_eq!(page.count("#views tr.reached").await, 0);
        page.assert_no_errors_but(&[422]);
    });
}

/// A view that is late is no fault: the page says so, and asks again.
#[test]
fn a_late_view_is_named_and_can_be_asked_again() {
    let demo = Demo::loaded();
    open(&demo.address, Window::Desktop, async |page| {
        page.wait("a command is suggested", SUGGESTED).await;
        page.run(
            "const really = window.fetch;
             window.fetch = (address, options) => {
                 const isLate = String(address).startsWith('queries/punctuality?_after');
                 if (!isLate) return really(address, options);
                 window.fetch = really;
                 const body = { type: 'urn:diptych:not-yet', detail: 'the view is behind' };
                 return Promise.resolve(new Response(JSON.stringify(body), { status: 503 }));
             };",
            vec![],
        )
        .await;
        page.click("#quick-send").await;
        page.wait_for_text("#trip", "Punctuality: has not reached position").await;
        page.click("#trip ul button").await;
        let reached = "document.querySelectorAll('#trip [data-reached]').length === 3";
        page.wait("it has it now", reached).await;
        page.assert_no_errors_but(&[]);
    });
}
