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
        page.wait("the form is filled", "document.querySelector('#field-flight')?.value").await;
        let flight = page.value("document.querySelector('#field-flight')?.value").await;
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
        page.wait("the form is filled", "document.querySelector('#field-flight')?.value").await;
        page.click("#try-twice").await;
        refused(page, "scheduled-once").await;
        page.click("#try-in-the-air").await;
        refused(page, "plane-in-the-air").await;

        // Typed by hand: a flight that has landed cannot be cancelled.
        let landed = "document.querySelector('#board tr[data-status=landed]')?.dataset.flight";
        page.wait("a flight has landed", landed).await;
        let landed = page.value(landed).await;
        page.click("#command-form label:has([value=cancel-flight])").await;
        page.wait("the form is for that", "document.querySelector('#field-at')?.value").await;
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
        page.wait("the form is filled", "document.querySelector('#field-flight')?.value").await;
        page.type_in("#field-distance_miles", "-3").await;
        page.click("#send-button").await;
        page.wait_for_text("#error-distance_miles", "-3 is not").await;
        assert_eq!(page.count("[aria-invalid=true]").await, 1);
        page.wait("it has the focus", "document.activeElement.id === 'field-distance_miles'").await;

        // A day on which the flight cannot be.
        page.type_in("#field-distance_miles", "").await;
        page.set("#field-departs_at", "2013-05-01T10:00").await;
        page.click("#send-button").await;
        // The server says it in UTC, and the page in New York time.
        for place in ["#error-departs_at", "#outcome", "#trip"] {
            page.wait_for_text(place, "May, 10:00 EDT is not from").await;
        }
        assert_eq!(page.count("[aria-invalid=true]").await, 1);
        page.assert_no_errors_but(&[400]);
    });
}

/// At the end of a finished log the board is empty, so the page opens at an earlier time with
/// flights. A command belongs to that time, and its flight is on the board of that time.
#[test]
fn a_log_at_rest_opens_at_a_full_board_which_shows_the_flight_of_a_command() {
    let demo = Demo::quiet();
    open(&demo.address, Window::Desktop, async |page| {
        page.wait("it is said", "!document.querySelector('#rest').hidden").await;
        page.wait_for_text("#rest", "at its end the board is nearly empty").await;
        page.wait_for_text("#mode", "Past").await;
        page.wait_for_text("#clock-time", "17:00").await;
        page.wait_for_text("#clock-words", "Showing Wednesday 2 January, 17:00.").await;
        page.wait_for_text("#clock-words", "The log ends on").await;
        page.wait("rows", "document.querySelectorAll('#board tr[data-flight]').length >= 5").await;

        page.click("#rest-end").await;
        page.wait_for_text("#mode", "Live").await;
        page.wait("it is no longer said", "document.querySelector('#rest').hidden").await;
        page.wait("the end is shown", "!document.querySelector('#board-empty').hidden").await;

        page.load().await;
        page.wait("it is said again", "!document.querySelector('#rest').hidden").await;
        let suggested = "document.querySelector('#field-departs_at')?.value === '2013-01-02T18:00'";
        page.wait("the form is filled for the page's time", suggested).await;
        let flight = page.value("document.querySelector('#field-flight')?.value").await;
        page.click("#send-button").await;
        on_the_board(page, flight.as_str().unwrap(), "scheduled").await;
        page.wait_for_text("#mode", "Past").await;
        page.wait_for_text("#clock-time", "17:00").await;

        // The next command is of a later time, to which the page goes.
        page.click("#outcome .actions button").await;
        page.wait("it is the next one", "document.querySelector('#field-at')?.value").await;
        page.click("#send-button").await;
        on_the_board(page, flight.as_str().unwrap(), "departed").await;
        page.wait_for_text("#clock-time", "18:14").await;
        page.assert_no_errors_but(&[]);
    });
}

/// The fields of each command are those of the server's document, whatever the page knows.
#[test]
fn the_form_is_made_from_the_document_of_the_server() {
    let demo = Demo::shared();
    open(&demo.address, Window::Desktop, async |page| {
        page.wait("the form is there", "document.querySelector('#commands input')").await;
        let declared = "
            const { paths, components } = await (await fetch('openapi.json')).json();
            const fields = {};
            for (const [path, { post }] of Object.entries(paths)) {
                const [, command] = /^.commands.([a-z-]+)$/.exec(path) ?? [];
                if (!command) continue;
                const { $ref } = post.requestBody.content['application/json'].schema;
                fields[command] = Object.keys(components.schemas[$ref.split('/').at(-1)].properties)
                    .sort();
            }
            return fields;";
        let shown = "
            const fields = {};
            for (const radio of document.querySelectorAll('#commands input')) {
                radio.click();
                fields[radio.value] = [...document.querySelectorAll('#fields input')]
                    .map((input) => input.name).sort();
            }
            return fields;";
        let declared = page.run(declared, vec![]).await;
        assert!(declared.as_object().unwrap().len() >= 5, "{declared}");
        assert_eq!(page.run(shown, vec![]).await, declared);
        page.assert_no_errors_but(&[]);
    });
}

#[test]
fn tail_numbers_are_taken_in_lower_case() {
    let demo = Demo::loaded();
    open(&demo.address, Window::Desktop, async |page| {
        page.wait("the form is filled", "document.querySelector('#field-flight')?.value").await;
        page.type_in("#field-plane", "n777xy").await;
        page.wait_for_text("#request", "N777XY").await;
        page.click("#send-button").await;
        page.wait_for_text("#outcome[data-state=accepted]", "is scheduled").await;

        let plane = "#board tr[data-status=departed] [data-go=plane]";
        page.wait("a plane is in the air", &format!("document.querySelector('{plane}')")).await;
        let tail = page.text(plane).await;
        page.type_in("#plane-tail", &tail.to_lowercase()).await;
        page.set("#plane-day", "2013-01-02").await;
        page.click("#plane-form button").await;
        page.wait_for_text("#plane-result h3", &tail).await;
        page.wait("it has a leg", "document.querySelector('#plane-table tbody tr')").await;
        page.assert_no_errors_but(&[]);
    });
}

#[test]
fn the_answer_to_a_command_is_in_sight_on_a_phone() {
    let demo = Demo::loaded();
    open(&demo.address, Window::Phone, async |page| {
        page.wait("the form is filled", "document.querySelector('#field-flight')?.value").await;
        page.click("#send-button").await;
        page.wait_for_text("#outcome[data-state=accepted]", "is scheduled").await;
        let in_sight = "
            (() => {
                const { top, bottom } = document.querySelector('#outcome h3')
                    .getBoundingClientRect();
                const bar = document.querySelector('#bar').getBoundingClientRect().bottom;
                return top >= bar && bottom <= innerHeight;
            })()";
        page.wait("the answer is in sight", in_sight).await;
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
         && document.querySelector('#field-flight')?.value === '{flight}'
         && document.querySelector('#request').textContent.includes('{flight}')
         && document.querySelector('#field-at')?.value"
    );
    page.wait("the form is filled for what comes next", &filled).await;
}
