//! Rules over the links of pages: each relative link leads to a file, each fragment to a heading,
//! and the index has every page.

use std::collections::{BTreeMap, BTreeSet};

/// The pages of the repository with the anchors of their headings, and all other files.
pub(crate) struct Site<'a> {
    anchors: BTreeMap<&'a str, BTreeSet<String>>,
    files: BTreeSet<&'a str>,
}

impl<'a> Site<'a> {
    /// A site of these paths and texts.
    pub(crate) fn new(files: impl IntoIterator<Item = (&'a str, &'a str)>) -> Site<'a> {
        let mut site = Site { anchors: BTreeMap::new(), files: BTreeSet::new() };
        for (path, text) in files {
            site.files.insert(path);
            if path.ends_with(".md") {
                site.anchors.insert(path, anchors(text));
            }
        }
        site
    }

    /// A file that is not text, such as a picture.
    pub(crate) fn add(&mut self, path: &'a str) {
        self.files.insert(path);
    }

    /// The links of a page that lead nowhere.
    pub(crate) fn broken(&self, path: &str, text: &str) -> Vec<String> {
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let links = links(text);
        let problems = links.into_iter().filter_map(|(line, link)| {
            let (target, fragment) = link.split_once('#').unwrap_or((&link, ""));
            let target = match target {
                "" => Some(path.to_owned()),
                _ => joined(folder, target),
            };
            let problem = match &target {
                None => "leads out of the repository",
                Some(target) if !self.has(target) => "leads to no file",
                Some(target) if !fragment.is_empty() && !self.has_heading(target, fragment) => {
                    "leads to no heading"
                }
                Some(_) => return None,
            };
            Some(format!("line {line}: {link} {problem}"))
        });
        problems.collect()
    }

    /// The pages below a folder that a page does not link to.
    pub(crate) fn unlinked(&self, folder: &str, path: &str, text: &str) -> Vec<String> {
        let from = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let linked: BTreeSet<String> = links(text)
            .into_iter()
            .filter_map(|(_, link)| joined(from, link.split('#').next().unwrap_or("")))
            .collect();
        let pages = self.anchors.keys().filter(|page| page.starts_with(folder) && **page != path);
        let missing = pages.filter(|page| !linked.contains(**page));
        missing.map(|page| format!("{path} has no link to {page}")).collect()
    }

    /// Pages and pictures that a file names by their path from the root, and that do not exist.
    pub(crate) fn unknown_paths(&self, text: &str) -> Vec<String> {
        let is_part = |char: char| char.is_ascii_alphanumeric() || "/._-".contains(char);
        let mut problems = Vec::new();
        for (at, line) in text.lines().enumerate() {
            for word in line.split(|char| !is_part(char)) {
                let word = word.trim_end_matches('.');
                let is_page = word.starts_with("docs/") && word.ends_with(".md");
                if is_page && !self.has(word) {
                    problems.push(format!("line {}: there is no {word}", at + 1));
                }
            }
        }
        problems
    }

    /// Whether there is such a file, or a file in such a folder.
    fn has(&self, path: &str) -> bool {
        let folder = format!("{path}/");
        self.files.contains(path) || self.files.iter().any(|file| file.starts_with(&folder))
    }

    /// Whether a page has this heading. The lines of other files are not checked.
    fn has_heading(&self, path: &str, fragment: &str) -> bool {
        self.anchors.get(path).is_none_or(|anchors| anchors.contains(fragment))
    }
}

/// A relative path from a folder, with each `..` resolved; none if it leads above the root.
fn joined(folder: &str, path: &str) -> Option<String> {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in path.trim_end_matches('/').split('/') {
        match part {
            "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// The relative links of a page, outside of code, each with the number of its line.
fn links(text: &str) -> Vec<(usize, String)> {
    let mut links = Vec::new();
    for (line, text) in prose_lines(text) {
        let plain: String = text.split('`').step_by(2).collect();
        let inline = plain.split("](").skip(1).filter_map(|rest| rest.split([')', ' ']).next());
        let attributes = ["src=\"", "href=\""];
        let attributes = attributes.iter().flat_map(|name| plain.split(name).skip(1));
        let attributes = attributes.filter_map(|rest| rest.split('"').next());
        let named = plain.starts_with('[').then(|| plain.split_once("]: ")).flatten();
        let named = named.map(|(_, target)| target.trim());
        let found = inline.chain(attributes).chain(named);
        let relative = found.filter(|link| !link.contains("://") && !link.starts_with("mailto:"));
        links.extend(relative.map(|link| (line, link.to_owned())));
    }
    links
}

/// The anchors that GitHub gives to the headings of a page.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut anchors = BTreeSet::new();
    for (_, line) in prose_lines(text) {
        let heading = line.trim_start_matches('#');
        if heading.len() == line.len() || !heading.starts_with(' ') {
            continue;
        }
        let anchor = anchor(heading.trim());
        let again = (1..).map(|number| format!("{anchor}-{number}"));
        let free = [anchor.clone()].into_iter().chain(again).find(|name| !anchors.contains(name));
        anchors.extend(free);
    }
    anchors
}

fn anchor(heading: &str) -> String {
    let mut plain = String::new();
    let mut rest = heading;
    while let Some((before, from)) = rest.split_once("](") {
        plain.push_str(before);
        rest = from.split_once(')').map_or("", |(_, rest)| rest);
    }
    plain.push_str(rest);
    let kept = plain.chars().filter(|char| char.is_alphanumeric() || " -_".contains(*char));
    kept.flat_map(char::to_lowercase).map(|char| if char == ' ' { '-' } else { char }).collect()
}

/// The lines of a page outside of blocks of code, numbered from 1.
fn prose_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut in_code = false;
    text.lines().enumerate().filter_map(move |(at, line)| {
        let is_fence = line.trim_start().starts_with("```");
        in_code ^= is_fence;
        (!in_code && !is_fence).then_some((at + 1, line))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILES: &[(&str, &str)] = &[
        ("README.md", "# It\n"),
        ("docs/README.md", "[a](start/a.md)"),
        ("docs/start/a.md", "# A `b`, c\n\n## Twice\n\n## Twice\n\n```sh\n# no heading\n```\n"),
        ("docs/start/b.md", ""),
        ("src/lib.rs", ""),
    ];

    fn site() -> Site<'static> {
        let mut site = Site::new(FILES.iter().copied());
        site.add("docs/pictures/p.png");
        site
    }

    #[test]
    fn links_to_files_folders_and_headings_hold() {
        for link in [
            "a.md",
            "a.md#a-b-c",
            "#twice-1",
            "../../README.md",
            "../",
            "../../src/lib.rs#L7",
            "../pictures/p.png",
            "https://example.org/x",
        ] {
            let found = site().broken("docs/start/a.md", &format!("See [it]({link})."));
            assert_eq!(found, [""; 0], "{link}");
        }
    }

    #[test]
    fn a_link_to_no_file_or_heading_is_found() {
        for (link, problem) in [
            ("c.md", "no file"),
            ("a.md#b", "no heading"),
            ("#thrice", "no heading"),
            ("a.md#no-heading", "no heading"),
            ("../../../x", "out of the repository"),
        ] {
            for text in [format!("\n[it]({link})"), format!("\n<img src=\"{link}\">")] {
                let found = site().broken("docs/start/a.md", &text);
                assert!(found.len() == 1 && found[0].contains(problem), "{link}: {found:?}");
                assert!(found[0].starts_with("line 2"), "{found:?}");
            }
        }
    }

    #[test]
    fn links_in_code_are_not_links() {
        let text = "`[a](none.md)`\n\n```text\n[a](none.md)\n```\n";
        assert_eq!(site().broken("README.md", text), [""; 0]);
    }

    #[test]
    fn a_page_that_the_index_lacks_is_found() {
        let found = site().unlinked("docs/", "docs/README.md", FILES[1].1);
        assert_eq!(found, ["docs/README.md has no link to docs/start/b.md"]);
    }

    #[test]
    fn a_path_of_a_missing_page_is_found_in_any_file() {
        let text = "// See `docs/start/a.md`.\n// And docs/none.md.";
        assert_eq!(site().unknown_paths(text), ["line 2: there is no docs/none.md"]);
    }
}
