//! The page before its first answers, and without its scripts.

use serde_json::{Value, json};

use super::{demo::Demo, driver::Window, page::open_unloaded};

/// Holds all answers back, until the test asks for those of one kind.
const HELD: &str = "
    const held = { status: [], answer: [], problem: [], request: [] };
    const isFree = {};
    const when = (kind, act) => (isFree[kind] ? act() : held[kind].push(act));
    window.release = (...kinds) => {
        for (const kind of kinds) {
            isFree[kind] = true;
            for (const act of held[kind].splice(0)) act();
        }
    };
    const ask = window.fetch;
    window.fetch = (...asked) => new Promise((resolve) =>
        when('request', () => resolve(ask(...asked))));
    window.EventSource = class extends EventSource {
        addEventListener(name, handle) {
            super.addEventListener(name, (event) => when(name, () => handle(event)));
        }
    };";

/// Visible texts that are dashes or zeros, as a page shows them that has no values yet.
const EMPTY_WORDS: &str = "
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    const found = [];
    while (texts.nextNode()) {
        const text = texts.currentNode.textContent.trim();
        if (/^[-–—:0.]+$/.test(text) && texts.currentNode.parentElement.checkVisibility()) {
            found.push(texts.currentNode.parentElement.outerHTML);
        }
    }
    return found;";

/// Places of values that stand empty, as grey bars with a size.
const BARS: &str = "
    return ['#clock-time', '#accepted', '#refused', '#head', '#event-rate',
        '#latest .skeleton span', '#views .skeleton span', '#board .skeleton span',
        '#feed .skeleton span', '#commands .skeleton span'].filter((css) => {
            const bar = document.querySelector(css);
            if (!bar || bar.textContent !== '') return false;
            const { width, height } = bar.getBoundingClientRect();
            const colour = getComputedStyle(bar).backgroundColor;
            return width > 20 && height > 8 && !colour.includes('0, 0, 0, 0');
        });";

#[test]
fn skeletons_stand_until_the_first_answers() {
    let demo = Demo::shared();
    open_unloaded(&demo.address, Window::Desktop, async |page| {
        page.run_before_pages(HELD);
        page.begin_load().await;
        page.wait_for_text("#connection", "Connected").await;
        let bars = page.run(BARS, vec![]).await;
        assert_eq!(bars.as_array().unwrap().len(), 10, "{bars}");
        assert_eq!(page.run(EMPTY_WORDS, vec![]).await, json!([]));
        // An empty field of a time shows dashes.
        let field = "getComputedStyle(document.querySelector('#time-input')).color";
        assert_eq!(page.value(field).await, "rgba(0, 0, 0, 0)");
        assert_eq!(page.value("document.querySelector('#time-input').disabled").await, true);
        let waiting = page.count("figure.waiting").await;
        assert_eq!(waiting, 4, "the charts are not drawn");

        // The status says nothing on what was accepted.
        page.run("release('status');", vec![]).await;
        page.wait("the head is known", "document.querySelector('#head').textContent").await;
        let bars = page.run(BARS, vec![]).await;
        let left = bars.as_array().unwrap();
        assert!(left.contains(&Value::from("#accepted")), "{bars}");
        assert!(!left.contains(&Value::from("#head")), "{bars}");

        page.run("release('answer', 'problem', 'request');", vec![]).await;
        page.wait("the board is full", "document.querySelectorAll('#board tr').length > 20").await;
        page.wait("the form is filled", "document.querySelector('#field-flight')?.value").await;
        page.wait("the charts are drawn", "!document.querySelector('figure.waiting')").await;
        page.wait("no skeleton is left", "!document.querySelector('.skeleton')").await;
        assert_eq!(page.run(BARS, vec![]).await, json!([]));
        assert_eq!(page.value("document.querySelector('#time-input').disabled").await, false);
        assert_eq!(
            page.value("document.querySelector('#time-input').value").await,
            "2013-01-02T17:59"
        );
        page.assert_no_errors_but(&[]);
    });
}

/// All that a reader sees, and where the links lead.
const SHOWN: &str = "
    return {
        words: document.body.innerText,
        links: [...document.querySelectorAll('noscript a')]
            .map((link) => link.getAttribute('href')),
        dead: [...document.querySelectorAll('button, input, select, dialog, .bar, main, .skip')]
            .filter((element) => element.checkVisibility()).map((element) => element.outerHTML),
    };";

#[test]
fn the_page_says_what_it_needs_without_scripts() {
    let demo = Demo::shared();
    open_unloaded(&demo.address, Window::Phone, async |page| {
        page.forbid_scripts();
        page.begin_load().await;
        let shown = page.run(SHOWN, vec![]).await;
        let words = shown["words"].as_str().unwrap();
        assert!(words.contains("This page needs JavaScript"), "{words}");
        assert!(words.contains("as JSON over HTTP"), "{words}");
        assert!(!words.contains("Connecting") && !words.contains("Asking"), "{words}");
        assert_eq!(shown["dead"], json!([]), "controls that do nothing");
        let wide = "[document.documentElement.scrollWidth, innerWidth]";
        assert_eq!(page.value(wide).await, json!([360, 360]));

        page.allow_scripts();
        page.load().await;
        let ask = "
            return Promise.all(arguments[0].map((link) => fetch(link).then(async (response) =>
                [response.status, Object.keys(await response.json()).length > 0])));";
        let links = shown["links"].as_array().unwrap();
        assert!(links.len() > 8, "{links:?}");
        let answers = page.run(ask, vec![shown["links"].clone()]).await;
        assert_eq!(answers, json!(vec![json!([200, true]); links.len()]), "{links:?}");
        page.assert_no_errors_but(&[]);
    });
}
