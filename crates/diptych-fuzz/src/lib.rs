//! Fuzz targets: functions over bytes, which compare what they see with a model where there is
//! one. Two drivers share them.
//!
//! - `tests/it` runs the kept inputs and mutations of them on stable Rust. The gate runs it.
//! - `fuzz/`, a workspace of its own, runs them under libFuzzer, which is guided by coverage and
//!   needs a nightly Rust.
//!
//! A target fails by a panic. `fuzz/README.md` says how to run one and how to add one.

// `cargo test --lib` builds this crate as a test program, too. The files of the command line would
// then bring their own tests along.
#![cfg(not(test))]
// A target is a test: it fails by a panic.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::unwrap_used)]

mod csv_model;
mod domain;
pub mod driver;
mod fixture;
mod http;
mod import;
mod json;
mod log_files;
mod mutate;
mod observe;
mod oracle;
mod seal;
mod snapshots;
mod text;
mod wire;

// The command line is a program and no library, so what it does with its input is compiled here a
// second time.
#[allow(dead_code)] // The program uses the rest.
#[path = "../../diptych-cli/src/batches.rs"]
mod batches;
#[allow(dead_code)]
#[path = "../../diptych-cli/src/exit.rs"]
mod exit;
#[allow(dead_code)]
#[path = "../../diptych-cli/src/lines.rs"]
mod lines;
#[allow(dead_code)]
#[path = "../../diptych-cli/src/ndjson.rs"]
mod ndjson;

pub use fixture::write_fixtures;

/// A function over bytes of unknown origin.
#[derive(Debug)]
pub struct Target {
    /// Its name, which is also that of its corpus and of its test.
    pub name: &'static str,
    /// Runs one input. It panics if the input shows a fault.
    pub run: fn(&[u8]),
    /// Inputs that are made by the program. Others are kept in the corpus.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Pieces that inputs have.
    pub words: &'static [&'static str],
    /// Mutations in the gate.
    pub mutations: u64,
}

/// All targets.
pub const TARGETS: &[Target] = &[
    files("segment", log_files::segment, log_files::segment_seeds),
    files("tail", log_files::tail, log_files::tail_seeds),
    files("manifest", log_files::manifest, log_files::manifest_seeds),
    files("head", log_files::head, log_files::head_seeds),
    files("index", log_files::index, log_files::index_seeds),
    files("group", log_files::group, log_files::group_seeds),
    files("mark", log_files::mark, log_files::mark_seeds),
    files("archive", log_files::archive, log_files::archive_seeds),
    Target { mutations: 100, ..files("snapshot", snapshots::snapshot, snapshots::snapshot_seeds) },
    words("filter", text::filter, text::filter_seeds, FILTER_WORDS),
    words("tag", text::tag, text::tag_seeds, TAG_WORDS),
    words("token", text::token, text::token_seeds, &[]),
    words("json_object", json::json_object, json::json_seeds, JSON_WORDS),
    words("json_codec", json::json_codec, json::json_seeds, JSON_WORDS),
    words("packed_codec", json::packed_codec, json::packed_seeds, &[]),
    words("ndjson", import::ndjson, import::ndjson_seeds, LINE_WORDS),
    words(
        "flights",
        import::flights,
        import::flights_seeds,
        &["NA", ",", "\n", "-1", "2400", "\""],
    ),
    Target { mutations: 1_000, ..words("csv", import::csv, import::csv_seeds, CSV_WORDS) },
    Target { mutations: 200, ..words("http", http::http, http::http_seeds, HTTP_WORDS) },
    words("wire_server", wire::wire_server, wire::wire_server_seeds, &[]),
    words("log_http", wire::log_http, wire::log_http_seeds, LOG_HTTP_WORDS),
    Target {
        mutations: 100,
        ..words("wire_client", wire::wire_client, wire::wire_client_seeds, &[])
    },
];

const FILTER_WORDS: &[&str] =
    &["type=", "tag=", " or ", ",", "%", "%2C", "%25", "%C3%A4", "*", "nothing", ":", "account:1"];
const TAG_WORDS: &[&str] = &[":", "Z", "-", "+00:00", "T", ".5", "9999", "[UTC]", "\u{2003}", "ä"];
const JSON_WORDS: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    "null",
    "true",
    "1e400",
    "-0",
    "0.1",
    "\"",
    "\\u0061",
    "\\ud800",
    "\"maybe\":[null]",
    "\"nothing\":null",
    "\"value\":",
    "\"map\":{",
    "18446744073709551616",
    " ",
];
const CSV_WORDS: &[&str] = &[
    "id", "code", "text", ",", ";", "\t", "|", "\n", "\r\n", "\"", "\"\"", "NA", "true", "0", "-1",
    "1.50", "1e400", "007", "\u{feff}", "ä",
];
const LINE_WORDS: &[&str] = &[
    "\"type\":\"t\",",
    "\"data\":",
    "\"data_base64\":\"",
    "\"tags\":[\"a:b\"],",
    "\"version\":0,",
    "\"recorded_at\":\"",
    "\"metadata\":{",
    "\"actor\":\"",
    "\"recorded_at\":",
    "null",
    "\n",
    "\\n",
    "\r",
    "\\ud800",
    "{",
    "}",
    "\"",
    ",",
];
const LOG_HTTP_WORDS: &[&str] = &[
    "after=",
    "upto=",
    "limit=",
    "backwards=true",
    "types=",
    "tags=",
    "tag=n%3A1",
    "18446744073709551615",
    "-1",
    "1e9",
    "%00",
    "%C3",
    "\"items\":[",
    "\"failIfEventsMatch\":",
    "\"data_base64\":\"",
    "\"recordedAt\":",
    "\"tracking\":{\"source\":\"s\",\"position\":1}",
    "null",
    "{}",
    "diptych-history: ",
    "last-event-id: ",
    "accept: text/event-stream",
    "HEAD",
    "\n",
];
const HTTP_WORDS: &[&str] = &[
    "_after=",
    "&_within=",
    "_session=",
    "_at_most=",
    "_or_stale",
    "_as_of=",
    "_recorded_before=",
    "_occurred_before=",
    "_limit=",
    "_consistency=strong",
    "diptych-after: ",
    "diptych-session: ",
    "diptych-unchanged-since: ",
    "diptych-occurred-at: ",
    "diptych-causation: ",
    "%00",
    "%C3",
    "18446744073709551615",
    "-1",
    "1e9",
    "/explanation",
    "/live",
    "HEAD",
    "content-length: 1",
    "idempotency-key: ",
    "origin: http://x",
    "\n",
];

/// The target of this name.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

/// Runs one input of the target of this name, for fuzzers that bring inputs of their own.
///
/// # Panics
/// If the input shows a fault, or there is no such target.
pub fn run_one(name: &str, input: &[u8]) {
    let target = target(name).unwrap_or_else(|| panic!("there is no target {name}"));
    (target.run)(input);
}

/// The negative control of the targets over files of a log: puts a segment in place whose checksums
/// are forged, and still demands the content that the log had.
///
/// # Panics
/// If the segment has another content.
pub fn control(segment: &[u8]) {
    log_files::segment_without_mercy(segment);
}

const fn files(name: &'static str, run: fn(&[u8]), seeds: fn() -> Vec<Vec<u8>>) -> Target {
    Target { name, run, seeds, words: &[], mutations: 300 }
}

const fn words(
    name: &'static str,
    run: fn(&[u8]),
    seeds: fn() -> Vec<Vec<u8>>,
    words: &'static [&'static str],
) -> Target {
    Target { name, run, seeds, words, mutations: 2_000 }
}
