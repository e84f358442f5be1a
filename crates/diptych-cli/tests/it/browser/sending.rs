//! Commands sent by the form: accepted and refused ones, and their effect on the board without a
//! reload.

use super::{
    demo::Demo,
    driver::Window,
    page::{Page, open},
};

#[test]
fn the_board_shows_each_command_without_a_reload() {
    let demo = Demo::loaded();
    open(&demo.address, Window::Desktop, async |page| {
        page.run("window.sameAsBefore = true;", vec![]).await;
        page.wait("the form is filled", "document.querySelector('#field-flight').value").await;
        let flight = page.value("document.querySelector('#field-flight').value").await;
        let flight = flight.as_str().unwrap().to_owned();

        page.click("#send-button").await;
        accepted(page, &format!("{flight} is scheduled")).await;
        on_the_board(page, &flight, "scheduled").await;
        happened(page, "flight-scheduled").await;

        page.click("#outcome .actions button").await;
        filled(page, "depart-flight", &flight).await;
        page.click("#send-button").await;
        accepted(page, &format!("{flight} has departed")).await;
        on_the_board(page, &flight, "departed").await;
        happened(page, "flight-departed").await;
        page.wait_for_text("#outcome", "left 4 min late").await;

        // A command sent again under its key is carried out once.
        page.click("#outcome .actions button:last-child").await;
        page.wait_for_text("#outcome h3", "The same receipt").await;

        page.click("#outcome .actions button").await;
        filled(page, "land-flight", &flight).await;
        page.click("#send-button").await;
        accepted(page, &format!("{flight} has landed")).await;
        on_the_board(page, &flight, "landed").await;
        happened(page, "flight-landed").await;

        assert_eq!(page.value("window.sameAsBefore").await, true, "the page was loaded again");
        page.assert_no_errors_but(&[]);
    });
}

#[test]
fn a_refusal_is_shown_with_its_rule_and_recorded() {
    let demo = Demo::loaded();
    open(&demo.address, Window::Desktop, async |page| {
        page.wait("the form is filled", "document.querySelector('#field-flight').value").await;
        page.click("#try-twice").await;
        refused(page, "scheduled-once").await;
        page.click("#try-in-the-air").await;
        refused(page, "plane-in-the-air").await;

        // Typed by hand: a flight that has landed cannot be cancelled.
        let landed = "document.querySelector('#board tr[data-status=landed]')?.dataset.flight";
        page.wait("a flight has landed", landed).await;
        let landed = page.value(landed).await;
        page.click("#command-form label:has([value=cancel-flight])").await;
        page.wait("the form is for that", "document.querySelector('#field-at').value").await;
        page.type_in("#field-flight", landed.as_str().unwrap()).await;
        page.click("#send-button").await;
        refused(page, "not-scheduled").await;
        page.wait_for_text("#outcome", "it has landed").await;
        page.assert_no_errors_but(&[422]);
    });
}

#[test]
fn an_invalid_value_is_reported_at_its_field() {
    let demo = Demo::shared();
    open(&demo.address, Window::Desktop, async |page| {
        page.wait("the form is filled", "document.querySelector('#field-flight').value").await;
        page.type_in("#field-distance_miles", "-3").await;
        page.click("#send-button").await;
        page.wait_for_text("#error-distance_miles", "-3 is not").await;
        assert_eq!(page.count("[aria-invalid=true]").await, 1);
        page.wait("it has the focus", "document.activeElement.id === 'field-distance_miles'").await;

        // A day on which the flight cannot be.
        page.type_in("#field-distance_miles", "").await;
        page.set("#field-departs_at", "2013-05-01T10:00").await;
        page.click("#send-button").await;
        page.wait_for_text("#error-departs_at", "is not from").await;
        assert_eq!(page.count("[aria-invalid=true]").await, 1);
        page.assert_no_errors_but(&[400]);
    });
}

/// At the end of a finished log the board is empty, so the page opens at an earlier time with
/// flights. After a command it returns to the end.
#[test]
fn a_log_at_rest_opens_at_a_full_board_and_returns_to_the_end_for_a_command() {
    let program = crate::program::Program::new();
    let flights = program.dir.path().join("flights.csv");
    std::fs::write(&flights, super::demo::two_quiet_days()).unwrap();
    let demo = Demo::loaded_with(program, &["--flights", flights.to_str().unwrap()]);
    open(&demo.address, Window::Desktop, async |page| {
        page.wait("it is said", "!document.querySelector('#rest').hidden").await;
        page.wait_for_text("#rest", "The log is at rest").await;
        page.wait_for_text("#mode", "Past").await;
        page.wait_for_text("#clock-time", "17:00").await;
        assert!(page.count("#board tr[data-flight]").await >= 5);

        page.click("#rest-end").await;
        page.wait_for_text("#mode", "Live").await;
        page.wait("it is no longer said", "document.querySelector('#rest').hidden").await;
        page.wait("the end is shown", "!document.querySelector('#board-empty').hidden").await;

        page.load().await;
        page.wait("it is said again", "!document.querySelector('#rest').hidden").await;
        page.wait("the form is filled", "document.querySelector('#field-flight').value").await;
        let flight = page.value("document.querySelector('#field-flight').value").await;
        page.click("#send-button").await;
        on_the_board(page, flight.as_str().unwrap(), "scheduled").await;
        page.wait_for_text("#mode", "Live").await;
        page.assert_no_errors_but(&[]);
    });
}

async fn accepted(page: &Page, said: &str) {
    page.wait_for_text("#outcome[data-state=accepted]", said).await;
    page.wait_for_text("#outcome", "Read back after the receipt").await;
}

async fn refused(page: &Page, rule: &str) {
    let outcome = format!("#outcome[data-state=refused][data-rule={rule}]");
    page.wait_for_text(&outcome, "No event of it is in the log").await;
    page.wait_for_text("#feed li.refused", "was refused").await;
    page.wait_for_text("#refusals-rules", rule).await;
}

async fn on_the_board(page: &Page, flight: &str, status: &str) {
    let row = format!("#board tr[data-flight=\"{flight}\"][data-status={status}]");
    page.wait("it is on the board", &format!("document.querySelector('{row}')")).await;
}

/// Waits until the newest entry of the stream has this type.
async fn happened(page: &Page, event_type: &str) {
    let first = "document.querySelector('#feed li').dataset.type";
    page.wait("the stream has it", &format!("{first} === '{event_type}'")).await;
}

async fn filled(page: &Page, command: &str, flight: &str) {
    let filled = format!(
        "document.querySelector('[name=command]:checked').value === '{command}'
         && document.querySelector('#field-flight').value === '{flight}'
         && document.querySelector('#request').textContent.includes('{flight}')
         && document.querySelector('#field-at').value"
    );
    page.wait("the form is filled for what comes next", &filled).await;
}
