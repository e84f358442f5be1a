//! Rules over the blocks of code in pages.

/// Blocks without a language, which would be taken for Rust, and Rust in a page that is not
/// among those that are compiled.
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
                "line {line}: nobody compiles this: include the page in the doc tests"
            ));
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMPILED: &str = "#[doc = include_str!(\"../../../README.md\")]";

    #[test]
    fn a_block_without_language_is_found() {
        assert_eq!(not_compiled("README.md", "a\n```\nls\n```\n", COMPILED).len(), 1);
        assert!(not_compiled("README.md", "```sh\nls\n```\n", COMPILED).is_empty());
    }

    #[test]
    fn rust_that_nobody_compiles_is_found() {
        for block in ["```rust\nfn f() {}\n```\n", "```rust,no_run\nfn f() {}\n```\n"] {
            assert!(not_compiled("README.md", block, COMPILED).is_empty());
            assert_eq!(not_compiled("docs/guide.md", block, COMPILED).len(), 1);
        }
    }
}
