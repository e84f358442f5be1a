//! The rules of style that a program can check. Each rule is a pure function over text, with tests
//! that it finds violations. This file applies the rules to the files of the repository.

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

mod chapters;
mod docs;
mod lengths;
mod links;
mod manifests;
mod order;
mod packages;
mod prose;
mod reference;
mod reference_pages;
mod rooms;
mod text;

const OFFENDERS: &str = "crates/diptych-tests/tidy-offenders.txt";
const ROOMS: &str = "crates/diptych-tests/tidy-rooms.txt";
const PROSE: &str = "crates/diptych-tests/tidy-prose.txt";
const DOC_TESTS: &str = "crates/diptych-tests/src/lib.rs";
/// The chapters of the tutorial in their order, each with the folder of its program.
const CHAPTERS: [(&str, &str); 5] = [
    ("docs/start/records.md", "examples/tutorial/rows/"),
    ("docs/start/first-service.md", "examples/tutorial/first/"),
    ("docs/start/growing-it.md", "examples/tutorial/grown/"),
    ("docs/start/processes.md", "examples/tutorial/reminded/"),
    ("docs/start/services.md", "examples/tutorial/shared/"),
];
/// The first program of the README.
const SEATS: &str = "examples/tutorial/seats.rs";
/// Programs of other pages, each in a file.
const PROGRAMS: &str = "examples/pages/src/programs/";
/// The tests that run those programs.
const PROGRAM_TESTS: &str = "examples/pages/tests/it/";
/// Pages of the reference that rustdoc shows too, each with its copy in a package.
const PACKAGED_PAGES: &[(&str, &str)] = &[
    ("docs/reference/http.md", "crates/diptych-server/src/http.md"),
    ("docs/reference/sqlite.md", "crates/diptych-sqlite/src/sqlite.md"),
];

#[test]
fn lines_have_at_most_100_columns() {
    assert_none(each(&[".rs", ".md"], text::wide_lines));
}

#[test]
fn functions_and_files_are_short() {
    let mut found = BTreeMap::new();
    for (path, text) in files(&[".rs"]) {
        match lengths::over_length(&path, &text) {
            Ok(over) => found.extend(over),
            Err(error) => panic!("{path} does not parse: {error}"),
        }
    }
    hold(&found, OFFENDERS);
}

#[test]
fn rooms_have_no_circles_and_types_have_nouns_for_names() {
    let files = files(&[".rs"]);
    let orders = order::orders(&read("ARCHITECTURE.md"));
    let mut found = BTreeMap::new();
    for (name, src) in crates(&files) {
        let house = rooms::House::new(&name, &src, &files);
        let house = house.unwrap_or_else(|error| panic!("{src} does not parse: {error}"));
        found.extend(house.imports_through_the_root());
        found.extend(house.circles());
        if name.starts_with("examples/") {
            continue;
        }
        found.extend(house.names());
        let crate_name = last_folder(&name);
        let order = orders.get(crate_name).map_or(&[][..], Vec::as_slice);
        found.extend(order::crossings(crate_name, &house, order));
        let tests = rooms::House::new(&name, &format!("{name}/tests/"), &files);
        let tests = tests.unwrap_or_else(|error| panic!("tests of {name} do not parse: {error}"));
        found.extend(tests.participles());
    }
    hold(&found, ROOMS);
}

/// A room that the page does not order could use every other one.
#[test]
fn the_architecture_orders_the_rooms_of_each_crate() {
    let files = files(&[".rs"]);
    let orders = order::orders(&read("ARCHITECTURE.md"));
    let mut problems = Vec::new();
    for (path, src) in crates(&files) {
        let name = last_folder(&path);
        let is_of_users = path.starts_with("crates/") && !order::OF_TESTS.contains(&name);
        if !is_of_users {
            continue;
        }
        let house = rooms::House::new(&path, &src, &files).unwrap();
        problems.extend(order::stale(name, &house));
        match orders.get(name) {
            Some(order) => problems.extend(order::misplaced(name, &house, order)),
            None => problems.push(format!("the map of ARCHITECTURE.md has no rooms of {name}")),
        }
    }
    assert_none(problems);
}

/// The root has the words that most programs write. Everything else is reached by its topic.
#[test]
fn the_root_of_diptych_stays_small() {
    let house = rooms::House::new("diptych", "crates/diptych/src/", &files(&[".rs"])).unwrap();
    let names = house.names_at_the_root();
    assert!((20..=40).contains(&names), "{names} names at the root of diptych: 40 at most");
}

#[test]
fn comments_and_pages_are_in_plain_words() {
    let files = files(&[".rs", ".md"]);
    let mut areas: BTreeMap<String, prose::Prose> = BTreeMap::new();
    for (path, text) in &files {
        if !path.contains("/tests/") {
            areas.entry(area(path)).or_default().read(path, text);
        }
    }
    let mut found = BTreeMap::new();
    for (area, prose) in &areas {
        found.extend(prose.over(area));
    }
    if env::var_os("DIPTYCH_PROSE").is_some() {
        for (area, prose) in &areas {
            prose.over(area).keys().for_each(|key| {
                let habit = key.rsplit(' ').next().unwrap_or("");
                prose.sentences_of(habit).iter().for_each(|found| println!("{habit}: {found}"));
            });
        }
    }
    hold(&found, PROSE);
}

#[test]
fn sentences_of_pages_are_short() {
    assert_none(each(&[".md"], |_, text| prose::long_sentences(text)));
}

#[test]
fn no_file_has_a_mark_of_unfinished_work() {
    assert_none(each(&[".rs"], |_, text| text::unfinished(text)));
}

#[test]
fn no_file_has_a_path_of_one_machine() {
    assert_none(each(&[""], |_, text| text::machine_paths(text)));
}

#[test]
fn crates_depend_only_on_allowed_crates() {
    let metadata = cargo(&["metadata", "--no-deps", "--format-version", "1"]);
    let packages = manifests::packages(&metadata).unwrap();
    assert_none(manifests::crossings(&packages));
    assert_none(manifests::stale(&packages));
}

#[test]
fn no_layer_depends_on_the_network_or_runtime_above_it() {
    let metadata = cargo(&["metadata", "--no-deps", "--format-version", "1"]);
    let packages = manifests::offline_features(&metadata).unwrap();
    let mut problems = Vec::new();
    for (name, features) in &packages {
        let tree = ["tree", "--edges", "normal,build", "--features", features, "--prefix", "none"];
        let tree = cargo(&[&tree[..], &["--package", name]].concat());
        problems.extend(manifests::unwanted(name, &tree));
    }
    assert_none(problems);
}

#[test]
fn published_packages_are_complete_and_include_only_their_own_files() {
    let metadata = cargo(&["metadata", "--no-deps", "--format-version", "1"]);
    let packages = packages::published(&metadata).unwrap();
    let files = files(&[""]);
    let names = files.iter().map(|(path, _)| path.as_str()).collect();
    let whole = root().canonicalize().unwrap();
    let mut problems = packages::unresolvable(&packages);
    for package in &packages {
        let folder = package.folder(&whole.to_string_lossy()).unwrap();
        problems.extend(packages::incomplete(package, &folder, &names));
        for (path, text) in files.iter().filter(|(path, _)| path.ends_with(".rs")) {
            if path.starts_with(&format!("{folder}/")) {
                let found = packages::includes_outside(&folder, path, text);
                problems.extend(found.into_iter().map(|problem| format!("{path} {problem}")));
            }
        }
    }
    assert_none(problems);
}

#[test]
fn every_dependency_has_a_stated_reason() {
    for manifest in ["Cargo.toml", "benches/Cargo.toml", "benches/postgres/Cargo.toml"] {
        assert_none(manifests::without_reason(&read(manifest)));
    }
}

#[test]
fn cargo_deny_checks_licences_sources_and_advisories() {
    assert_none(manifests::incomplete_rules(&read("deny.toml")));
}

#[test]
fn the_examples_of_every_page_are_compiled() {
    // The files that a chapter shows are programs of their own.
    let chapters = CHAPTERS.map(|(page, _)| format!("/{page}\")"));
    let compiled = read(DOC_TESTS) + &chapters.concat();
    let is_copy = |path: &str| PACKAGED_PAGES.iter().any(|(_, copy)| *copy == path);
    assert_none(each(&[".md"], |path, text| match is_copy(path) {
        true => Vec::new(),
        false => docs::not_compiled(path, text, &compiled),
    }));
}

/// Rustdoc hides these lines, and a page shows them.
#[test]
fn examples_of_pages_are_copied_as_they_are_shown() {
    assert_none(each(&[".md"], |path, text| match is_page(path) {
        true => docs::hidden_lines(text),
        false => Vec::new(),
    }));
}

#[test]
fn examples_of_pages_name_the_features_that_they_need() {
    assert_none(each(&[".md"], |path, text| match is_page(path) {
        true => docs::unnamed_features(text),
        false => Vec::new(),
    }));
}

#[test]
fn every_link_leads_to_a_file_and_a_heading() {
    let files = files(&[""]);
    let mut site = links::Site::new(files.iter().map(|(path, text)| (&**path, &**text)));
    let pictures: Vec<String> = paths().into_iter().filter(|path| is_picture(path)).collect();
    pictures.iter().for_each(|path| site.add(path));
    let mut problems = Vec::new();
    for (path, text) in &files {
        let mut found = site.unknown_paths(text);
        if path.ends_with(".md") && is_page(path) {
            found.extend(site.broken(path, text));
        }
        // The tests of these rules name pages that do not exist.
        if !path.starts_with("crates/diptych-tests/tests/") {
            problems.extend(found.into_iter().map(|problem| format!("{path}: {problem}")));
        }
    }
    assert_none(problems);
}

#[test]
fn the_index_and_the_readme_have_every_page() {
    let files = files(&[".md"]);
    let site = links::Site::new(files.iter().map(|(path, text)| (&**path, &**text)));
    let pages = ["docs/README.md", "README.md"].map(|path| (path, read(path)));
    let found = pages.iter().flat_map(|(path, text)| site.unlinked("docs/", path, text));
    assert_none(found.collect());
}

#[test]
fn the_chapters_of_the_tutorial_show_its_files() {
    let sources = files(&[".rs"]);
    let mut before = BTreeMap::new();
    let mut problems = Vec::new();
    for (page, folder) in CHAPTERS {
        let inside = sources.iter().filter_map(|(path, text)| {
            let name = path.strip_prefix(folder)?;
            Some((name.to_owned(), text.clone()))
        });
        let inside: BTreeMap<String, String> = inside.collect();
        assert!(inside.contains_key("main.rs"), "{folder} has no program");
        let found = chapters::differences(&read(page), &inside, &before);
        problems.extend(found.into_iter().map(|problem| format!("{page}: {problem}")));
        before = inside;
    }
    assert_none(problems);
}

/// A block that is compiled only could do anything when a reader runs it.
#[test]
fn each_block_that_is_not_run_is_a_program_that_its_own_tests_run() {
    let mut programs = BTreeMap::from([(SEATS.to_owned(), read(SEATS))]);
    let sources = files(&[".rs"]);
    programs.extend(sources.iter().filter(|(path, _)| path.starts_with(PROGRAMS)).cloned());
    let mut shown = BTreeSet::new();
    let mut problems = Vec::new();
    for (page, text) in files(&[".md"]) {
        if page == "README.md" || page.starts_with("docs/") {
            let found = chapters::not_run(&text, &programs, &mut shown);
            problems.extend(found.into_iter().map(|problem| format!("{page}: {problem}")));
        }
    }
    let in_tests = sources.iter().filter(|(path, _)| path.starts_with(PROGRAM_TESTS));
    let tests: String = in_tests.map(|(_, text)| text.as_str()).collect();
    for path in programs.keys() {
        if !shown.contains(path.as_str()) {
            problems.push(format!("{path}: no page shows it as it is"));
        }
        let name = path.strip_prefix(PROGRAMS).and_then(|file| file.strip_suffix(".rs"));
        if name.is_some_and(|name| !tests.contains(&format!("program(\"{name}\")"))) {
            problems.push(format!("{path}: no test in {PROGRAM_TESTS} runs it"));
        }
    }
    assert_none(problems);
}

/// A newcomer gets rows and a view over them from a few lines.
#[test]
fn the_tutorial_begins_with_rows_and_a_view_in_40_lines() {
    let (page, folder) = CHAPTERS[0];
    let program = read(&format!("{folder}main.rs"));
    let lines = program.lines().filter(|line| !line.trim().is_empty()).count();
    assert!(lines <= 40, "{lines} lines in the first chapter");
    for part in
        ["#[derive(Clone, PartialEq", ", Record)]", "RowChanges<", ".records::<", ".query::<"]
    {
        assert!(program.contains(part), "the first chapter has no {part}");
    }
    assert!(read(page).contains("(../guides/records.md)"), "the first chapter leads to the guide");
    let index = read("docs/README.md");
    let first = index.find("](start/").map(|at| &index[at..]);
    assert!(
        first.is_some_and(|first| first.starts_with("](start/records.md)")),
        "the index begins"
    );
}

#[test]
fn the_readme_begins_with_a_short_program_and_measured_figures() {
    let readme = read("README.md");
    let program = chapters::first_block(&readme).expect("README.md has a block of Rust");
    let lines = program.lines().filter(|line| !line.is_empty()).count();
    assert!(lines <= 40, "{lines} lines in the first program");
    assert!(program == read(SEATS), "the first program is not seats.rs");
    for command in ["\ncargo run --release -- demo\n", "\ncargo xtask test\n"] {
        assert!(readme.contains(command), "README.md lacks the command {command}");
    }
    assert_none(docs::other_figures(&readme, &read("docs/reference/measured.md")));
}

#[test]
fn the_figures_of_when_to_use_it_are_those_of_the_page_of_figures() {
    let page = read("docs/explain/when-to-use.md");
    assert!(page.contains("| | measured |"), "the page has no table of figures");
    assert_none(docs::cells_not_measured(&page, &read("docs/reference/measured.md")));
}

#[test]
fn the_page_of_metrics_lists_exactly_the_metrics_of_the_code() {
    let is_source = |path: &str| path.starts_with("crates/") && path.contains("/src/");
    let sources = files(&[".rs"]).into_iter().filter(|(path, _)| is_source(path));
    let code: String =
        sources.flat_map(|(_, text)| docs::measured(&text)).collect::<Vec<_>>().join("\n");
    assert_none(docs::metrics_out_of_step(&code, &read("docs/reference/metrics.md")));
}

#[test]
fn the_page_of_errors_has_a_row_for_each_public_error() {
    let page = read("docs/reference/errors.md");
    assert_none(reference::errors_out_of_step(&library_sources(), &page));
}

#[test]
fn the_page_of_limits_has_the_name_and_default_of_each_option() {
    let page = read("docs/reference/limits.md");
    let mut sources = library_sources();
    let all = files(&[".rs"]).into_iter();
    sources.extend(all.filter(|(path, _)| path.starts_with("crates/diptych-cli/src/")));
    assert_none(reference::limits_out_of_step(&sources, &page));
}

#[test]
fn examples_of_the_reference_show_every_line() {
    assert_none(each(&[".md"], |path, text| match path.starts_with("docs/reference/") {
        true => reference_pages::hidden_lines(text),
        false => Vec::new(),
    }));
}

#[test]
fn every_figure_names_the_command_that_measures_it() {
    assert_none(reference_pages::without_command(&read("docs/reference/measured.md")));
}

/// Packages have only their own files, so a page that rustdoc shows too has a copy in its package.
/// The page is written once: with `DIPTYCH_TIDY_WRITE` set, this test writes the copies.
#[test]
fn pages_in_packages_equal_those_of_the_reference() {
    for (page, copy) in PACKAGED_PAGES {
        let (folder, _) = page.rsplit_once('/').unwrap();
        let expected = reference_pages::packaged(&read(page), folder, &repository());
        if env::var_os("DIPTYCH_TIDY_WRITE").is_some() {
            fs::write(root().join(copy), expected).unwrap();
        } else {
            assert!(read(copy) == expected, "{copy} differs: run with DIPTYCH_TIDY_WRITE=1");
        }
    }
}

#[test]
fn the_page_of_each_crate_leads_to_its_guide_and_to_pages_that_exist() {
    let (files, repository) = (files(&[".rs", ".md"]), repository());
    let in_packages = files.iter().filter(|(path, _)| path.starts_with("crates/"));
    let is_file = |path: &str| root().join(path).is_file();
    let mut problems = Vec::new();
    for (path, text) in in_packages.filter(|(path, _)| !path.contains("/tests/")) {
        let dead = reference_pages::dead_links(text, &repository, is_file);
        problems.extend(dead.into_iter().map(|problem| format!("{path}: {problem}")));
    }
    let metadata = cargo(&["metadata", "--no-deps", "--format-version", "1"]);
    for package in packages::published(&metadata).unwrap() {
        let library = read_if_any(&format!("crates/{}/src/lib.rs", package.name));
        if library.is_some_and(|text| !reference_pages::leads_to_a_guide(&text, &repository)) {
            problems.push(format!("{}: link to a guide in src/lib.rs", package.name));
        }
    }
    assert_none(problems);
}

/// The sources of the libraries that programs use, without their support for tests of stores.
fn library_sources() -> Vec<(String, String)> {
    let libraries = [
        "diptych",
        "diptych-store",
        "diptych-log",
        "diptych-remote",
        "diptych-server",
        "diptych-sqlite",
        "diptych-gateways",
        "diptych-nats",
        "diptych-postgres",
        "diptych-postgres-tables",
        "diptych-records",
    ];
    let folders = libraries.map(|library| format!("crates/{library}/src/"));
    let mut files = files(&[".rs"]);
    files.retain(|(path, _)| {
        folders.iter().any(|folder| path.starts_with(folder.as_str()))
            && !path.starts_with("crates/diptych-store/src/testing/")
    });
    files
}

/// Compares counts with the list of allowed counts. With `DIPTYCH_TIDY_WRITE` set it writes the
/// list anew, for counts that became smaller.
fn hold(found: &BTreeMap<String, usize>, list: &str) {
    let before = read(list);
    if env::var_os("DIPTYCH_TIDY_WRITE").is_some() {
        let head = before.lines().take_while(|line| line.starts_with('#'));
        let head: String = head.map(|line| format!("{line}\n")).collect();
        let counts: String =
            found.iter().map(|(what, count)| format!("{what} {count}\n")).collect();
        let text = if counts.is_empty() { head } else { format!("{head}\n{counts}") };
        fs::write(root().join(list), text).unwrap_or_else(|error| panic!("{list}: {error}"));
        return;
    }
    let listed = lengths::listed(&before).unwrap();
    assert_none(lengths::ratchet(found, &listed));
}

/// The crates whose structure is checked, each with the folder of its sources.
fn crates(files: &[(String, String)]) -> Vec<(String, String)> {
    let roots = files.iter().filter_map(|(path, _)| {
        let src = path.strip_suffix("lib.rs").or_else(|| path.strip_suffix("main.rs"))?;
        let name = src.strip_suffix("/src/")?;
        Some((name.to_owned(), src.to_owned()))
    });
    let roots: BTreeMap<String, String> = roots.collect();
    roots.into_iter().collect()
}

fn last_folder(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// Whether a page is read as it is. The others are parts of a crate's documentation.
fn is_page(path: &str) -> bool {
    !path.contains("/src/")
}

fn is_picture(path: &str) -> bool {
    [".png", ".svg"].iter().any(|ending| path.ends_with(ending))
}

/// The area of a file. Comments belong to their crate. Pages are areas of their own: those of one
/// kind in `docs/`, the readmes of crates and examples, and each page at the top.
fn area(path: &str) -> String {
    let folders: Vec<&str> = path.split('/').collect();
    match folders.as_slice() {
        ["docs", kind, _, ..] => format!("docs/{kind}"),
        [_, .., "README.md"] if !path.starts_with("docs/") => "readmes".to_owned(),
        ["crates" | "examples", name, ..] => format!("{}/{name}", folders[0]),
        [folder, _, ..] => (*folder).to_owned(),
        [file, ..] => (*file).to_owned(),
        [] => String::new(),
    }
}

/// The violations of a rule in all files with one of these endings, each after its path.
fn each(endings: &[&str], rule: impl Fn(&str, &str) -> Vec<String>) -> Vec<String> {
    let problems = |(path, text): (String, String)| {
        let found = rule(&path, &text);
        found.into_iter().map(move |problem| format!("{path}: {problem}"))
    };
    files(endings).into_iter().flat_map(problems).collect()
}

fn assert_none(problems: Vec<String>) {
    assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n"));
}

/// The text files of the repository with one of these endings, tracked or new, without the files
/// that git ignores.
fn files(endings: &[&str]) -> Vec<(String, String)> {
    let files: Vec<_> = paths()
        .into_iter()
        .filter(|path| endings.iter().any(|ending| path.ends_with(ending)))
        // The list also has removed files and files without text, which are skipped.
        .filter_map(|path| fs::read_to_string(root().join(&path)).ok().map(|text| (path, text)))
        .collect();
    assert!(!files.is_empty(), "no files end in {endings:?}: the list is wrong");
    files
}

/// The paths of all files of the repository, tracked or new, without those that git ignores.
fn paths() -> Vec<String> {
    let list = ["ls-files", "--cached", "--others", "--exclude-standard", "-z"];
    let output = Command::new("git").args(list).current_dir(root()).output();
    let output = output.expect("git lists the files of the repository: install it");
    assert!(output.status.success(), "git: {}", String::from_utf8_lossy(&output.stderr));
    let paths = String::from_utf8(output.stdout).expect("paths are UTF-8");
    paths.split_terminator('\0').map(str::to_owned).collect()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn read_if_any(path: &str) -> Option<String> {
    fs::read_to_string(root().join(path)).ok()
}

/// The address of the repository.
fn repository() -> String {
    let manifest: toml::Table = toml::from_str(&read("Cargo.toml")).unwrap();
    manifest["workspace"]["package"]["repository"].as_str().unwrap().to_owned()
}

fn cargo(args: &[&str]) -> String {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    // Offline, because all compiled crates were fetched before.
    command.args(args).args(["--offline", "--locked"]).current_dir(root());
    let output = command.output().expect("cargo runs");
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("cargo prints UTF-8")
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}
