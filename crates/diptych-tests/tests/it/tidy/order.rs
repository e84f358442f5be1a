//! The order of the rooms of each crate: a room uses only rooms below its own. `ARCHITECTURE.md`
//! has the order, so the page and the code cannot part. A room is a file or a folder at the top of
//! the sources.

use std::collections::{BTreeMap, BTreeSet};

use super::rooms::House;

/// The rooms of each crate, from the roof down.
pub(crate) type Orders = BTreeMap<String, Vec<String>>;

/// Crates whose rooms have no order, because they are tests.
pub(crate) const OF_TESTS: &[&str] = &[
    "diptych-compile-errors",
    "diptych-fuzz",
    "diptych-postgres-testing",
    "diptych-schedules",
    "diptych-tests",
];

/// Files of a crate, by the path of their module.
type Part = &'static str;

/// Parts of a crate that must not use each other directly, beside the order of its rooms: the
/// crate, the part that would use, and the part that it must not use.
const APART: &[(&str, Part, Part)] = &[
    // Neither panel knows the other.
    ("diptych", "command", "query"),
    ("diptych", "command", "view"),
    ("diptych", "command", "past"),
    ("diptych", "query", "command"),
    ("diptych", "view", "command"),
    ("diptych", "past", "command"),
    // The present does not know how questions about the past are answered.
    ("diptych", "query", "past"),
    // The panels of the server.
    ("diptych-server", "panels/entries/command", "panels/entries/query"),
    ("diptych-server", "panels/entries/query", "panels/entries/command"),
    ("diptych-server", "panels/handlers/commands", "panels/handlers/queries"),
    ("diptych-server", "panels/handlers/queries", "panels/handlers/commands"),
    // Entries are below all that answers or describes them.
    ("diptych-server", "panels/entries", "panels/handlers"),
    ("diptych-server", "panels/entries", "panels/documents"),
];

/// Rooms that work on bytes alone.
const BYTES: &[(&str, Part)] = &[("diptych-log", "format"), ("diptych-log", "index")];
/// The files, clock and threads that they must not use. `Duration` is a value.
const OUTSIDE: &[&str] =
    &["std/fs", "std/net", "std/thread", "std/time/Instant", "std/time/SystemTime"];
/// The same in other rooms of the crate.
const OUTSIDE_ROOMS: &[Part] = &["disk", "folder"];

/// Reads the map of the page. A paragraph that begins with the name of a crate in bold letters
/// begins its part, and the first column of the tables there has its rooms. A row with the name of
/// a crate in the first column has the rooms in the second one.
pub(crate) fn orders(page: &str) -> Orders {
    let map = page.split("\n## ").find_map(|part| part.strip_prefix("The map\n"));
    let mut orders = Orders::new();
    let mut current = None;
    for line in map.unwrap_or("").lines() {
        if let Some(bold) = line.strip_prefix("**`") {
            current = bold.split_once("`**").map(|(name, _)| name.to_owned());
        }
        let mut cells = line.strip_prefix('|').unwrap_or("").split('|').map(quoted);
        let (first, second) = (cells.next().unwrap_or_default(), cells.next().unwrap_or_default());
        match (first.as_slice(), &current) {
            ([], _) => {}
            ([name], _) if is_crate(name) => drop(orders.insert(name.clone(), second)),
            (_, Some(name)) => orders.entry(name.clone()).or_default().extend(first),
            (_, None) => {}
        }
    }
    orders
}

/// The names of crates and of rooms differ: each crate has the name of the project.
fn is_crate(name: &str) -> bool {
    name == "diptych" || name.starts_with("diptych-")
}

fn quoted(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Rooms without a place on the page, and places without a room.
pub(crate) fn misplaced(name: &str, house: &House, order: &[String]) -> Vec<String> {
    let uses = house.uses();
    let rooms: BTreeSet<&String> = uses.iter().filter_map(|file| file.at.first()).collect();
    let places: BTreeSet<&String> = order.iter().collect();
    let mut problems: Vec<String> = Vec::new();
    if places.len() < order.len() {
        problems.push(format!("{name}: ARCHITECTURE.md has a room twice"));
    }
    let new = rooms.difference(&places);
    problems.extend(new.map(|room| {
        format!("{name}: the room {room} has no place: write it into the map of ARCHITECTURE.md")
    }));
    let gone = places.difference(&rooms);
    problems.extend(gone.map(|room| {
        format!("{name}: ARCHITECTURE.md has the room {room}, and the crate does not")
    }));
    problems
}

/// Uses of rooms that are not below, uses between parts that stand apart, and uses of the outside
/// by rooms that work on bytes.
pub(crate) fn crossings(name: &str, house: &House, order: &[String]) -> BTreeMap<String, usize> {
    let place = |at: &[String]| order.iter().position(|room| Some(room) == at.first());
    let mut found = BTreeMap::new();
    for file in house.uses() {
        let at = file.at.join("/");
        let (is_of_bytes, path) =
            (BYTES.iter().any(|(of, part)| *of == name && within(&at, part)), file.path);
        for used in &file.modules {
            let is_above = match (place(file.at), place(used)) {
                (Some(own), Some(other)) => other < own,
                _ => false,
            };
            let used = used.join("/");
            if is_above {
                found.insert(format!("order {path} uses {used}"), 1);
            }
            let is_apart = APART
                .iter()
                .any(|(of, part, other)| *of == name && within(&at, part) && within(&used, other));
            if is_apart {
                found.insert(format!("apart {path} uses {used}"), 1);
            }
            if is_of_bytes && OUTSIDE_ROOMS.iter().any(|outside| within(&used, outside)) {
                found.insert(format!("bytes {path} uses {used}"), 1);
            }
        }
        for used in file.foreign.iter().filter(|_| is_of_bytes).map(|used| used.join("/")) {
            // The name of a module brings everything in it.
            if OUTSIDE.iter().any(|outside| within(&used, outside) || within(outside, &used)) {
                found.insert(format!("bytes {path} uses {used}"), 1);
            }
        }
    }
    found
}

/// The parts of the rules above that do not exist, so that no rule is about nothing.
pub(crate) fn stale(name: &str, house: &House) -> Vec<String> {
    let apart = APART.iter().flat_map(|(of, part, other)| [(of, part), (of, other)]);
    let bytes = BYTES.iter().map(|(of, part)| (of, part));
    let parts: BTreeSet<&str> =
        apart.chain(bytes).filter(|(of, _)| **of == name).map(|(_, part)| *part).collect();
    let uses = house.uses();
    let is_there = |part: &&str| uses.iter().any(|file| file.at.join("/") == **part);
    let gone = parts.into_iter().filter(|part| !is_there(part));
    gone.map(|part| format!("{name}: a tidy rule names {part}, which does not exist")).collect()
}

/// Whether a path of modules, separated by slashes, is this part or inside of it.
fn within(path: &str, part: &str) -> bool {
    path.strip_prefix(part).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "# Page\n\n## The map\n\n**`diptych`** is first.\n\n\
        | room | what it has |\n|---|---|\n| `app`, `query` | `roof` |\n| `command` | left |\n\n\
        | crate | rooms |\n|---|---|\n| `diptych-log` | `open`, `format`, `disk` |\n\n\
        ## Other\n\n| `x` | y |\n";

    fn house(files: &[(&str, &str)]) -> House {
        let owned = |(path, text): &(&str, &str)| (format!("x/src/{path}"), (*text).to_owned());
        let files: Vec<_> = files.iter().map(owned).collect();
        House::new("x", "x/src/", &files).unwrap()
    }

    fn found(name: &str, files: &[(&str, &str)]) -> Vec<String> {
        let order = orders(PAGE).remove(name).unwrap();
        crossings(name, &house(files), &order).into_keys().collect()
    }

    #[test]
    fn the_page_has_the_rooms_from_the_roof_down() {
        let orders = orders(PAGE);
        assert_eq!(orders["diptych"], ["app", "query", "command"]);
        assert_eq!(orders["diptych-log"], ["open", "format", "disk"]);
        assert_eq!(orders.len(), 2);
    }

    #[test]
    fn a_use_of_a_room_that_is_not_below_is_found() {
        let app = ("app.rs", "pub struct App;");
        for used in ["use crate::app::App;", "fn f() { crate::app::g(); }", "use crate::App;"] {
            let root = ("lib.rs", "mod app; mod query; pub use app::App;");
            let found = found("diptych", &[root, app, ("query/ask.rs", used)]);
            assert_eq!(found, ["order x/src/query/ask.rs uses app"], "{used}");
        }
        let root = ("lib.rs", "mod app; mod query;");
        for used in ["use super::ask;", "#[cfg(test)] mod tests { use crate::app::App; }"] {
            let files = [root, app, ("query.rs", "mod ask; mod b;"), ("query/b.rs", used)];
            assert_eq!(found("diptych", &files), [""; 0], "{used}");
        }
        let below = [root, ("app.rs", "use crate::query::Q;"), ("query.rs", "pub struct Q;")];
        assert_eq!(found("diptych", &below), [""; 0]);
        let tests = [
            root,
            app,
            ("query.rs", "#[cfg(test)] mod tests;"),
            ("query/tests.rs", "use crate::app::App;"),
        ];
        assert_eq!(found("diptych", &tests), [""; 0]);
    }

    #[test]
    fn a_use_between_the_panels_is_found_also_if_the_other_one_is_below() {
        let root = ("lib.rs", "mod query; mod command;");
        let query = ("query/ask.rs", "use crate::command::C;");
        let found = found("diptych", &[root, query, ("command.rs", "pub struct C;")]);
        assert_eq!(found, ["apart x/src/query/ask.rs uses command"]);
    }

    #[test]
    fn files_clocks_and_threads_are_found_in_a_room_of_bytes() {
        let rest = [("lib.rs", "mod format; mod disk;"), ("disk.rs", "pub struct Disk;")];
        for used in [
            "use std::fs::File;",
            "use std::{io, thread};",
            "use std::time::{Duration, Instant};",
            "use std::time;",
            "use std::time::*;",
            "fn f() { std::time::SystemTime::now(); }",
            "use crate::disk::Disk;",
        ] {
            let files = [rest[0], rest[1], ("format/frame.rs", used)];
            assert_eq!(found("diptych-log", &files).len(), 1, "{used}");
            let elsewhere = [rest[0], rest[1], ("open.rs", used)];
            assert_eq!(found("diptych-log", &elsewhere), [""; 0], "{used}");
        }
        for used in [
            "use std::{io, time::Duration};",
            "#[cfg(test)] mod tests { use std::thread; }",
            "use std::sync::Arc;",
        ] {
            let files = [rest[0], rest[1], ("format/frame.rs", used)];
            assert_eq!(found("diptych-log", &files), [""; 0], "{used}");
        }
    }

    #[test]
    fn a_room_without_a_place_and_a_place_without_a_room_are_found() {
        let house = house(&[
            ("lib.rs", ""),
            ("app/a.rs", ""),
            ("query.rs", ""),
            ("new.rs", ""),
            ("main.rs", ""),
        ]);
        let order = orders(PAGE).remove("diptych").unwrap();
        let problems = misplaced("diptych", &house, &order);
        assert_eq!(problems.len(), 3, "{problems:?}");
        let twice = ["app", "query", "new", "main", "app"].map(str::to_owned);
        assert_eq!(misplaced("diptych", &house, &twice).len(), 1);
    }

    #[test]
    fn a_rule_about_a_part_that_does_not_exist_is_found() {
        let house = house(&[("lib.rs", ""), ("format.rs", "")]);
        assert_eq!(stale("diptych-log", &house).len(), 1);
        assert_eq!(stale("other", &house), [""; 0]);
    }
}
