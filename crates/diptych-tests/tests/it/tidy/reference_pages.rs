//! Rules over the form of the pages of reference: examples that can be copied, figures with their
//! commands, and pages that a package has a copy of.

/// Lines of Rust examples that rustdoc hides, and that readers of a page would copy in vain.
pub(crate) fn hidden_lines(text: &str) -> Vec<String> {
    let mut in_rust = false;
    let mut problems = Vec::new();
    for (at, line) in text.lines().enumerate() {
        if let Some(language) = line.trim_start().strip_prefix("```") {
            in_rust = !in_rust && language.starts_with("rust");
        } else if in_rust && (line.trim() == "#" || line.trim_start().starts_with("# ")) {
            problems.push(format!("line {}: a hidden line: show it or leave it out", at + 1));
        }
    }
    problems
}

/// Sections of a page of figures without the command that measures them. A section that sums up the
/// others has a link to one of them in each item of its list.
pub(crate) fn without_command(page: &str) -> Vec<String> {
    let mut problems = Vec::new();
    for section in page.split("\n## ").skip(1) {
        let title = section.lines().next().unwrap_or("");
        let items: Vec<_> = section.split("\n- ").skip(1).collect();
        let has_command =
            ["\ncargo run ", "cargo test --release "].iter().any(|of| section.contains(of));
        let has_links = !items.is_empty() && items.iter().all(|item| item.contains("](#"));
        if !has_command && !has_links {
            problems.push(format!("{title}: name the command that measures this"));
        }
    }
    problems
}

/// Links into the repository, as packages have them, that lead to no file.
pub(crate) fn dead_links(
    text: &str,
    repository: &str,
    exists: impl Fn(&str) -> bool,
) -> Vec<String> {
    let start = format!("{repository}/blob/main/");
    let links = text.split(&start).skip(1).map(|link| {
        let ends = |char: char| char.is_whitespace() || [')', '#', '`', '"'].contains(&char);
        link.split(ends).next().unwrap_or("")
    });
    let dead = links.filter(|path| !exists(path));
    dead.map(|path| format!("{path} is no file of the repository")).collect()
}

/// Whether the documentation of a crate has a link to a guide.
pub(crate) fn leads_to_a_guide(library: &str, repository: &str) -> bool {
    let header = library.lines().filter(|line| line.starts_with("//!"));
    header.into_iter().any(|line| line.contains(&format!("{repository}/blob/main/docs/guides/")))
}

/// A page as its package has it. Links to other pages are those of the repository, because a
/// package has only its own files.
pub(crate) fn packaged(page: &str, folder: &str, repository: &str) -> String {
    let mut packaged = String::new();
    let mut rest = page;
    while let Some((before, after)) = rest.split_once("](") {
        packaged.push_str(before);
        packaged.push_str("](");
        let end = after.find(')').unwrap_or(after.len());
        let (address, tail) = after.split_at(end);
        packaged.push_str(&absolute(address, folder, repository));
        rest = tail;
    }
    packaged.push_str(rest);
    packaged
}

fn absolute(address: &str, folder: &str, repository: &str) -> String {
    if address.contains("://") || address.starts_with('#') {
        return address.to_owned();
    }
    let mut path: Vec<&str> = folder.split('/').collect();
    for part in address.split('/') {
        match part {
            ".." => drop(path.pop()),
            part => path.push(part),
        }
    }
    format!("{repository}/blob/main/{}", path.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hidden_line_of_an_example_is_found() {
        let page =
            "```rust\n# fn f() {\n#[derive(A)]\n#\n```\n# A heading\n```sh\n# a comment\n```";
        assert_eq!(hidden_lines(page).len(), 2);
    }

    #[test]
    fn a_section_of_figures_without_its_command_is_found() {
        let page =
            "# Figures\n\n## Sum\n\n- 2 ([one](#one))\n\n## One\n\n```sh\ncargo run x\n```\n";
        assert_eq!(without_command(page), [""; 0]);
        let lacks = page.replace("cargo run x", "").replace("([one](#one))", "");
        assert_eq!(without_command(&lacks).len(), 2);
    }

    #[test]
    fn links_to_files_that_are_gone_and_crates_without_a_guide_are_found() {
        let library = "//! [a]: https://h/blob/main/docs/guides/a.md#b\nmod c;\n";
        assert_eq!(dead_links(library, "https://h", |path| path == "docs/guides/a.md"), [""; 0]);
        let gone = dead_links(library, "https://h", |_| false);
        assert_eq!(gone, ["docs/guides/a.md is no file of the repository"]);
        assert!(leads_to_a_guide(library, "https://h"));
        assert!(!leads_to_a_guide("//! Words.\n", "https://h"));
    }

    #[test]
    fn a_packaged_page_has_links_into_the_repository() {
        let page = "[a](../explain/time.md#x) [b](measured.md) [c](#d) [e](https://f.g)";
        let packaged = packaged(page, "docs/reference", "https://h");
        let expected = "[a](https://h/blob/main/docs/explain/time.md#x) \
                        [b](https://h/blob/main/docs/reference/measured.md) [c](#d) \
                        [e](https://f.g)";
        assert_eq!(packaged, expected);
    }
}
