//! Rules over pages: their blocks of code, and the metrics that they list.

use std::collections::BTreeSet;

/// Blocks without a language, which rustdoc would take for Rust, and Rust in a page that is not
/// compiled.
pub(crate) fn not_compiled(path: &str, text: &str, compiled: &str) -> Vec<String> {
    let mut problems = Vec::new();
    let mut open = false;
    for (at, line) in text.lines().enumerate() {
        let Some(language) = line.trim_start().strip_prefix("```") else {
            continue;
        };
        open = !open;
        if !open {
            continue;
        }
        let line = at + 1;
        let language = language.split(',').next().unwrap_or("").trim();
        if language.is_empty() {
            problems.push(format!("line {line}: a block without a language: say text, sh, rust"));
        }
        if language == "rust" && !compiled.contains(&format!("/{path}\")")) {
            problems.push(format!(
                "line {line}: this is not compiled: include the page in the doc tests"
            ));
        }
    }
    problems
}

/// Lines that rustdoc hides and a page shows: a reader who copies the example copies them too.
pub(crate) fn hidden_lines(text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    let mut language = None;
    for (at, line) in text.lines().enumerate() {
        let line = line.trim_start();
        language = match (line.strip_prefix("```"), language) {
            (Some(opened), None) => Some(opened),
            (Some(_), Some(_)) => None,
            (None, language) => language,
        };
        let is_rust = language.is_some_and(|language| language.starts_with("rust"));
        if is_rust && (line == "#" || line.starts_with("# ")) {
            problems.push(format!(
                "line {}: a hidden line, which a page shows: write it out, or leave it out",
                at + 1
            ));
        }
    }
    problems
}

/// Features of this project's crates that an example uses and its page does not name.
pub(crate) fn unnamed_features(text: &str) -> Vec<String> {
    let mut is_rust = false;
    let rust = text.lines().filter(|line| {
        if line.starts_with("```") {
            is_rust = !is_rust && line.starts_with("```rust");
        }
        is_rust
    });
    let rust = rust.collect::<Vec<_>>().join("\n");
    let used = [("testing", "testing::"), ("extract", "QueryParameters")];
    let used = used.into_iter().filter(|(_, word)| rust.contains(word));
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let missing = used.filter(|(feature, _)| !words.contains(&format!("feature `{feature}`")));
    missing.map(|(feature, _)| format!("an example uses the feature `{feature}`: say so")).collect()
}

/// Numbers in a table of one page that the rows of another page do not have, side by side.
pub(crate) fn other_figures(page: &str, measured: &str) -> Vec<String> {
    let rows = page.lines().filter_map(|line| line.strip_prefix('|'));
    let figures = rows.filter_map(|row| Some(row.split_once('|')?.1.trim()));
    let figures = figures.filter(|figures| figures.starts_with(|char: char| char.is_ascii_digit()));
    let missing = figures.filter(|figures| !measured.contains(&format!("| {figures}")));
    missing.map(|figures| format!("the page of figures has no row with | {figures}")).collect()
}

/// Cells under `measured` whose numbers do not stand together in one row of the page of figures.
pub(crate) fn cells_not_measured(page: &str, figures: &str) -> Vec<String> {
    let rows: Vec<Vec<&str>> =
        figures.lines().filter(|line| line.starts_with('|')).map(numbers).collect();
    let table = page.lines().skip_while(|line| !line.starts_with("| | measured |")).skip(2);
    let cells = table.map_while(|line| line.strip_prefix('|')?.split('|').nth(1));
    let is_measured = |cell: &&str| {
        let numbers = numbers(cell);
        !numbers.is_empty() && rows.iter().any(|row| numbers.iter().all(|n| row.contains(n)))
    };
    let missing = cells.filter(|cell| !is_measured(cell));
    missing.map(|cell| format!("no row of the page of figures has: {}", cell.trim())).collect()
}

/// The numbers in a text, with their commas and points.
fn numbers(text: &str) -> Vec<&str> {
    let is_part = |c: char| c.is_ascii_digit() || c == ',' || c == '.';
    let parts = text.split(|c: char| !is_part(c)).map(|part| part.trim_matches([',', '.']));
    parts.filter(|part| !part.is_empty()).collect()
}

/// Metrics that only the code or only the page has.
pub(crate) fn metrics_out_of_step(code: &str, page: &str) -> Vec<String> {
    let (code, page) = (metrics(code, '"'), metrics(page, '`'));
    let unnamed = code.difference(&page).map(|name| format!("{name} is not on the page"));
    let gone = page.difference(&code).map(|name| format!("{name} is not in the code"));
    unnamed.chain(gone).collect()
}

/// The metrics that a source records, each between quotation marks.
pub(crate) fn measured(source: &str) -> Vec<String> {
    let kinds = ["counter!(", "gauge!(", "histogram!("];
    let calls = kinds.iter().flat_map(|kind| source.split(kind).skip(1));
    let names = calls.filter_map(|call| call.trim_start().strip_prefix('"')?.split_once('"'));
    names.map(|(name, _)| format!("\"{name}\"")).collect()
}

/// The names of metrics between two of these characters.
fn metrics(text: &str, quote: char) -> BTreeSet<&str> {
    text.split(quote).filter(|name| name.starts_with("diptych_")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_of_only_the_code_or_only_the_page_is_found() {
        let (code, page) = ("counter!(\"diptych_a\")", "| `diptych_a` | counter |");
        assert!(metrics_out_of_step(code, page).is_empty());
        assert_eq!(metrics_out_of_step(code, "`other`").len(), 1);
        assert_eq!(metrics_out_of_step("", page).len(), 1);
    }

    #[test]
    fn metrics_of_every_kind_are_found_in_a_source() {
        let source = "counter!(\"diptych_a\"); metrics::gauge!(\n\"diptych_b\", x); \
                      histogram!(\"diptych_c\").record(\"diptych_table\"); gauge!(name);";
        assert_eq!(measured(source), ["\"diptych_a\"", "\"diptych_b\"", "\"diptych_c\""]);
    }

    #[test]
    fn a_hidden_line_in_a_block_of_rust_is_found() {
        for (block, found) in [
            ("```rust\n# fn f() {}\n```\n", 1),
            ("```rust,no_run\n#\n```\n", 1),
            ("```rust\n#[test]\nfn f() {}\n```\n# Heading\n", 0),
            ("```sh\n# a comment\n```\n", 0),
        ] {
            assert_eq!(hidden_lines(block).len(), found, "{block}");
        }
    }

    #[test]
    fn a_feature_that_a_page_does_not_name_is_found() {
        let block = "```rust\nuse diptych::testing::given;\n```\n";
        assert_eq!(unnamed_features(block).len(), 1);
        assert_eq!(unnamed_features(&format!("With the feature `testing`:\n\n{block}")), [""; 0]);
        assert_eq!(unnamed_features("`testing::given`\n\n```sh\ntesting::\n```\n"), [""; 0]);
    }

    #[test]
    fn figures_that_the_other_page_does_not_have_are_found() {
        let measured = "| 64 threads | 412,000 | 150,000 | 56,700 |\n";
        let page = "| | Diptych | tephra |\n|---|--:|--:|\n| 64 threads | 150,000 | 56,700 |\n";
        assert_eq!(other_figures(page, measured), [""; 0]);
        assert_eq!(other_figures(&page.replace("56,7", "56,8"), measured).len(), 1);
    }

    #[test]
    fn a_cell_whose_numbers_were_not_measured_together_is_found() {
        let figures = "| 1 thread | 143 | 142 | 148 |\n| 256 tasks | 540,000 |\n";
        let page = "a\n| | measured | command |\n|---|---|---|\n\
                    | append | 142 us, the disk 143 | `a` |\n\
                    | tasks | 540,000 a second | `b` |\n\n| other | 7 |\n";
        assert_eq!(cells_not_measured(page, figures), [""; 0]);
        let apart = page.replace("143", "540,000");
        assert_eq!(
            cells_not_measured(&apart, figures),
            ["no row of the page of figures has: 142 us, the disk 540,000"]
        );
        assert_eq!(cells_not_measured(&page.replace("540,000", "540,001"), figures).len(), 1);
        assert_eq!(cells_not_measured(&page.replace("540,000", "many"), figures).len(), 1);
    }

    const COMPILED: &str = "#[doc = include_str!(\"../../../README.md\")]";

    #[test]
    fn a_block_without_language_is_found() {
        assert_eq!(not_compiled("README.md", "a\n```\nls\n```\n", COMPILED).len(), 1);
        assert!(not_compiled("README.md", "```sh\nls\n```\n", COMPILED).is_empty());
    }

    #[test]
    fn rust_in_a_page_that_is_not_compiled_is_found() {
        for block in ["```rust\nfn f() {}\n```\n", "```rust,no_run\nfn f() {}\n```\n"] {
            assert!(not_compiled("README.md", block, COMPILED).is_empty());
            assert_eq!(not_compiled("docs/guide.md", block, COMPILED).len(), 1);
        }
    }
}
