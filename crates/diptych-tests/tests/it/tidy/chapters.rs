//! Rules over the pages whose code stands in files: the blocks of a page and the files agree.

use std::collections::{BTreeMap, BTreeSet};

/// A block of Rust in a page, and the file that the page names before it (`src/main.rs`).
struct Block<'a> {
    line: usize,
    file: &'a str,
    text: String,
}

/// Where a page and the files of its program differ. Each block of the page stands in its file word
/// for word. Each line of a file stands in a block of the page, or in that file `before` the page.
pub(crate) fn differences(
    page: &str,
    files: &BTreeMap<String, String>,
    before: &BTreeMap<String, String>,
) -> Vec<String> {
    let blocks = blocks(page);
    let mut problems = Vec::new();
    for Block { line, file, text } in &blocks {
        match files.get(*file) {
            None => problems.push(format!("line {line}: there is no file {file}")),
            Some(code) if !has_lines(code, text) => {
                problems.push(format!("line {line}: the block differs from {file}"));
            }
            Some(_) => {}
        }
    }
    for (file, code) in files {
        let of_file = blocks.iter().filter(|block| block.file == file);
        let shown: String = of_file.map(|block| block.text.as_str()).collect();
        let known = |line: &str| {
            let in_before =
                before.get(file).is_some_and(|code| code.lines().any(|old| old == line));
            in_before || shown.lines().any(|shown| shown == line)
        };
        let missing = code.lines().enumerate().find(|(_, line)| !line.is_empty() && !known(line));
        if let Some((at, line)) = missing {
            problems.push(format!("{file}:{} is not on the page: {line}", at + 1));
        }
    }
    problems
}

/// Whether the code has these lines, one after another.
fn has_lines(code: &str, lines: &str) -> bool {
    format!("\n{code}").contains(&format!("\n{lines}"))
}

fn blocks(page: &str) -> Vec<Block<'_>> {
    let mut blocks: Vec<Block<'_>> = Vec::new();
    let (mut file, mut in_block, mut is_rust) = ("", false, false);
    for (at, line) in page.lines().enumerate() {
        if let Some(language) = line.strip_prefix("```") {
            in_block = !in_block;
            is_rust = in_block && language == "rust";
            if is_rust {
                blocks.push(Block { line: at + 1, file, text: String::new() });
            }
        } else if is_rust && let Some(block) = blocks.last_mut() {
            block.text.push_str(line);
            block.text.push('\n');
        } else if !in_block {
            let code = line.split('`').skip(1).step_by(2);
            let named = code.filter_map(|code| code.strip_prefix("src/"));
            file = named.filter(|name| name.ends_with(".rs")).last().unwrap_or(file);
        }
    }
    blocks
}

/// The first block of Rust in a page.
pub(crate) fn first_block(page: &str) -> Option<String> {
    let (_, from) = page.split_once("```rust")?;
    let (_, code) = from.split_once('\n')?;
    Some(code.split_once("```")?.0.to_owned())
}

/// Where a page differs from the programs, which have names: each block that is compiled only
/// (`no_run`) has to be one of them, word for word. Adds the names of those that are shown.
pub(crate) fn not_run<'a>(
    page: &str,
    programs: &'a BTreeMap<String, String>,
    shown: &mut BTreeSet<&'a str>,
) -> Vec<String> {
    let mut problems = Vec::new();
    for (at, block) in blocks_not_run(page) {
        match programs.iter().find(|(_, code)| **code == block) {
            Some((name, _)) => drop(shown.insert(name)),
            None => problems.push(format!("line {at}: no program has exactly this block")),
        }
    }
    problems
}

/// The blocks of Rust that are marked `no_run`, each with its line.
fn blocks_not_run(page: &str) -> Vec<(usize, String)> {
    let mut blocks: Vec<(usize, String)> = Vec::new();
    let (mut in_block, mut is_not_run) = (false, false);
    for (at, line) in page.lines().enumerate() {
        if let Some(language) = line.strip_prefix("```") {
            in_block = !in_block;
            let mut words = language.split(',');
            is_not_run = in_block && words.any(|word| word.trim() == "no_run");
            if is_not_run {
                blocks.push((at + 1, String::new()));
            }
        } else if is_not_run && let Some((_, block)) = blocks.last_mut() {
            block.push_str(line);
            block.push('\n');
        }
    }
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(code: &str) -> BTreeMap<String, String> {
        BTreeMap::from([("main.rs".to_owned(), code.to_owned())])
    }

    const PAGE: &str =
        "In `src/main.rs`:\n\n```rust\nfn a() {}\n```\n\nThen\n\n```rust\nfn b() {}\n```\n";

    #[test]
    fn a_file_whose_lines_are_all_shown_agrees() {
        let none = BTreeMap::new();
        assert_eq!(differences(PAGE, &files("fn a() {}\n\nfn b() {}\n"), &none), [""; 0]);
        assert_eq!(first_block(PAGE).as_deref(), Some("fn a() {}\n"));
    }

    #[test]
    fn a_block_that_is_not_in_its_file_is_found() {
        let found = differences(PAGE, &files("fn a() {}\n"), &BTreeMap::new());
        assert_eq!(found, ["line 9: the block differs from main.rs"]);
        let found = differences(&PAGE.replace("main", "lib"), &files(""), &BTreeMap::new());
        assert_eq!(found.len(), 2, "{found:?}");
    }

    #[test]
    fn a_block_that_is_not_run_and_differs_from_all_programs_is_found() {
        let page = "```rust\nfn a() {}\n```\n\n```rust,no_run\nfn b() {}\n```\n";
        let programs = files("fn b() {}\n");
        let mut shown = BTreeSet::new();
        assert_eq!(not_run(page, &programs, &mut shown), [""; 0]);
        assert_eq!(shown, BTreeSet::from(["main.rs"]));
        for other in ["fn b() {}", "fn b() {}\n\n", "fn a() {}\n"] {
            let programs = files(other);
            let mut shown = BTreeSet::new();
            let found = not_run(page, &programs, &mut shown);
            assert_eq!(found, ["line 5: no program has exactly this block"], "{other:?}");
            assert!(shown.is_empty());
        }
    }

    #[test]
    fn a_line_that_the_page_lacks_is_found_unless_it_was_there_before() {
        let code = files("fn a() {}\nfn b() {}\nfn c() {}\n");
        let found = differences(PAGE, &code, &BTreeMap::new());
        assert_eq!(found, ["main.rs:3 is not on the page: fn c() {}"]);
        assert_eq!(differences(PAGE, &code, &files("fn c() {}\n")), [""; 0]);
    }
}
