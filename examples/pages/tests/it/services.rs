//! Services over HTTP.

use std::{
    io::{BufRead, BufReader, Write},
    net::TcpStream,
};

use crate::{
    page::{Step, agrees, steps},
    programs::{fail, part_of, program},
    service::{Service, exchange, request},
};

#[test]
fn the_requests_that_begin_the_page_of_http_are_answered_as_shown() {
    let folder = tempfile::tempdir().unwrap();
    let depot = Service::start(program("http"), folder.path());
    let shown = steps(&part_of("reference/http.md", "# HTTP", "\n## Routes\n"));
    assert_eq!(shown.len(), 4, "the page shows other requests");
    compare(&depot, &shown);
    depot.stop("INT");

    let depot = Service::start(program("http"), folder.path());
    let again = request(&depot.address, &shown[0].command.replace("key: 7", "key: 8"));
    assert!(again.contains("the parcel is here"), "{again}");
    depot.stop("INT");
}

#[test]
fn a_query_with_the_receipt_of_a_command_has_its_effect_as_shown() {
    let folder = tempfile::tempdir().unwrap();
    let depot = Service::start(program("http"), folder.path());
    let page = part_of("guides/read-your-writes.md", "\n## With curl\n", "\n## ");
    let shown = steps(&page);
    assert_eq!(shown.len(), 3, "the page shows other requests");
    compare(&depot, &shown);
    depot.stop("INT");
}

/// Sends requests of a page one after another. A receipt in one of them, shown as `A…`, is that of
/// the last command.
fn compare(service: &Service, shown: &[Step]) {
    let mut receipt = String::new();
    for Step { command, output, .. } in shown {
        let answer = match command.contains(" -N ") {
            true => first_event(&service.address, command),
            false => request(&service.address, &command.replace("A…", &receipt)),
        };
        assert!(agrees(&answer, output), "{command}\nis answered with {answer}");
        if let Some((_, text)) = answer.split_once(r#""receipt":""#) {
            receipt = text.split('"').next().unwrap().to_owned();
        }
    }
}

/// The first event of a stream, whose lines stand in one piece of the answer.
fn first_event(address: &str, curl: &str) -> String {
    let (_, path) = curl.split_once("localhost:8080").unwrap();
    let mut connection = TcpStream::connect(address).unwrap();
    write!(connection, "GET {path} HTTP/1.1\r\nhost: {address}\r\n\r\n").unwrap();
    let lines = BufReader::new(connection).lines().map(Result::unwrap);
    let event = lines.skip_while(|line| !line.starts_with("event:"));
    let event: Vec<String> = event.take_while(|line| !line.is_empty()).collect();
    event.join("\n")
}

#[test]
fn mounted_routes_are_below_their_prefix_beside_a_page() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(program("mounted"), folder.path());
    let get = |path: &str| request(&service.address, &format!("curl localhost:8080{path}"));
    assert_eq!(get("/"), "my own page");
    assert!(get("/api/status").contains(r#""head":0"#), "{}", get("/api/status"));
    let described = get("/api/openapi.json");
    assert!(described.contains(r#""servers":[{"url":"/api""#), "{described}");
    service.stop("INT");
}

#[test]
fn rows_are_written_and_read_by_the_requests_of_the_page() {
    let folder = tempfile::tempdir().unwrap();
    let customers = Service::start(program("customers"), folder.path());
    let page = part_of("guides/records.md", "## Over HTTP", "\n| request |");
    let requests: Vec<&str> = page.lines().filter(|line| line.starts_with("curl ")).collect();
    assert_eq!(requests.len(), 6, "the page shows other requests");
    let (mut tag, mut bodies) = (None, Vec::new());
    for request in requests {
        let (curl, comment) = request.split_once('#').unwrap_or((request, "200"));
        let known = tag.as_deref().unwrap_or_default();
        // A shell knows `tag` within double quotes.
        let curl = curl.replace("\"If-Match: $tag\"", &format!("'If-Match: {known}'"));
        let (head, body) = exchange(&customers.address, &curl);
        let status = comment.trim().split(',').next().unwrap();
        assert!(has_status(&head, status), "{request}\n{head}\n{body}");
        tag = tag.or_else(|| header(&head, "etag"));
        bodies.push(body);
    }
    let tag = tag.unwrap();
    assert!(agrees(&tag, r#""1-…-1""#), "{tag}");
    assert!(bodies[3].contains(r#""city":"Oslo""#), "{}", bodies[3]);
    assert!(bodies[4].contains("Rome") && bodies[4].contains("Oslo"), "{}", bodies[4]);
    assert!(bodies[5].contains(r#""city":"Rome""#), "{}", bodies[5]);
    customers.stop("INT");
}

fn has_status(head: &str, status: &str) -> bool {
    head.starts_with(&format!("HTTP/1.1 {status} "))
}

fn header(head: &str, name: &str) -> Option<String> {
    let lines = head.lines().filter_map(|line| line.split_once(": "));
    let mut values = lines.filter(|(of, _)| of.eq_ignore_ascii_case(name));
    values.next().map(|(_, value)| value.to_owned())
}

#[test]
fn a_service_in_production_asks_who_comes_and_stops_at_a_termination_signal() {
    let folder = tempfile::tempdir().unwrap();
    let words = fail(program("depot").env_remove("DATA"), folder.path());
    assert!(words.contains("set DATA to the folder of the log"), "{words}");

    let start = || {
        let mut depot = program("depot");
        depot.env("DATA", "depot");
        Service::start(depot, folder.path())
    };
    let depot = start();
    let bring = |depot: &Service, user: &str| {
        let command = r#"curl localhost:8080/commands/bring-parcel --json {"parcel":"p1"}"#;
        exchange(&depot.address, &format!("{command} {user}"))
    };
    let get =
        |path: &str, user| exchange(&depot.address, &format!("curl localhost:8080{path} {user}"));
    let (ann, operator) = ("-H 'x-user: ann'", "-H 'x-user: operator'");
    for ((head, body), status) in [
        (bring(&depot, ""), "401"),
        (bring(&depot, ann), "200"),
        (bring(&depot, ann), "422"),
        (get("/health", ""), "200"),
        (get("/ready", ""), "200"),
        (get("/status", ann), "403"),
        (get("/status", operator), "200"),
        (get("/queries/how-many?_as_of=0", ann), "403"),
    ] {
        assert!(has_status(&head, status), "{status}: {head}\n{body}");
    }
    assert_eq!(get("/queries/how-many?_consistency=strong", ann).1, "1");
    let metrics = get("/metrics", operator).1;
    for alarm in ["diptych_stopped{", "diptych_lag_seconds{"] {
        assert!(metrics.contains(alarm), "{alarm} is not in\n{metrics}");
    }
    depot.stop("TERM");

    let depot = start();
    let (_, again) = bring(&depot, ann);
    assert!(again.contains("the parcel is there"), "{again}");
    depot.stop("TERM");
}
