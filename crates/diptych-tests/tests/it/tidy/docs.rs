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

/// Metrics that only the code or only the page has.
pub(crate) fn metrics_out_of_step(code: &str, page: &str) -> Vec<String> {
    let (code, page) = (metrics(code, '"'), metrics(page, '`'));
    let unnamed = code.difference(&page).map(|name| format!("{name} is not on the page"));
    let gone = page.difference(&code).map(|name| format!("{name} is not in the code"));
    unnamed.chain(gone).collect()
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
