//! Functions and files of bounded length, with a ratchet: a list has the longer ones with their
//! sizes, which may only shrink.

use std::collections::BTreeMap;

use syn::{Attribute, Block, ImplItemFn, ItemFn, ItemMod, Signature, TraitItemFn};
use syn::{spanned::Spanned, visit::Visit};

const FUNCTION_LINES: usize = 70;
const FILE_LINES: usize = 600;

/// Entries for the list: a file and its functions that are too long, with their sizes.
pub(crate) fn over_length(path: &str, text: &str) -> syn::Result<BTreeMap<String, usize>> {
    let file = syn::parse_file(text)?;
    let mut lengths = Lengths::default();
    lengths.visit_file(&file);
    let mut over = BTreeMap::new();
    for (name, lines) in lengths.functions {
        if lines > FUNCTION_LINES {
            let longest = over.entry(format!("function {path} {name}")).or_insert(0);
            *longest = lines.max(*longest);
        }
    }
    let lines = text.lines().count() - lengths.test_lines;
    if lines > FILE_LINES && !is_test_file(path) {
        over.insert(format!("file {path}"), lines);
    }
    Ok(over)
}

/// Parses a list.
pub(crate) fn listed(text: &str) -> Result<BTreeMap<String, usize>, String> {
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let parts = line.rsplit_once(' ');
            let entry = parts.and_then(|(what, lines)| Some((what.into(), lines.parse().ok()?)));
            entry.ok_or_else(|| format!("{line:?} is no entry: it ends with a number of lines"))
        })
        .collect()
}

/// Differences between the counts and the list.
pub(crate) fn ratchet(
    found: &BTreeMap<String, usize>,
    listed: &BTreeMap<String, usize>,
) -> Vec<String> {
    let mut problems = Vec::new();
    for (what, lines) in found {
        match listed.get(what) {
            None => problems.push(format!("{what} is new in the list with {lines}: change it")),
            Some(listed) if lines > listed => {
                problems.push(format!("{what} grew from {listed} to {lines}: change it"));
            }
            Some(_) => {}
        }
    }
    for (what, listed) in listed {
        match found.get(what) {
            None => problems.push(format!("{what} is right now: take it off the list")),
            Some(lines) if lines < listed => {
                problems.push(format!("{what} shrank to {lines}: write that in the list"));
            }
            Some(_) => {}
        }
    }
    problems
}

fn is_test_file(path: &str) -> bool {
    path.contains("/tests/") || path.ends_with("/tests.rs")
}

#[derive(Default)]
struct Lengths {
    functions: Vec<(String, usize)>,
    test_lines: usize,
}

impl Lengths {
    fn function(&mut self, signature: &Signature, block: &Block) {
        let first = signature.span().start().line;
        let last = block.brace_token.span.close().end().line;
        self.functions.push((signature.ident.to_string(), last + 1 - first));
    }
}

impl<'ast> Visit<'ast> for Lengths {
    fn visit_item_fn(&mut self, item: &'ast ItemFn) {
        self.function(&item.sig, &item.block);
        syn::visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast ImplItemFn) {
        self.function(&item.sig, &item.block);
        syn::visit::visit_impl_item_fn(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &'ast TraitItemFn) {
        if let Some(block) = &item.default {
            self.function(&item.sig, block);
        }
        syn::visit::visit_trait_item_fn(self, item);
    }

    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        if item.attrs.iter().any(is_cfg_test) {
            let span = item.span();
            self.test_lines += span.end().line + 1 - span.start().line;
        }
        syn::visit::visit_item_mod(self, item);
    }
}

fn is_cfg_test(attribute: &Attribute) -> bool {
    let is_test = |list: &syn::MetaList| list.tokens.to_string() == "test";
    attribute.path().is_ident("cfg") && attribute.meta.require_list().is_ok_and(is_test)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn function(name: &str, lines: usize) -> String {
        format!("fn {name}() {{\n{}}}\n", "    call();\n".repeat(lines - 2))
    }

    fn over(text: &str) -> Vec<(String, usize)> {
        over_length("src/a.rs", text).unwrap().into_iter().collect()
    }

    #[test]
    fn a_function_of_more_than_70_lines_is_found_in_any_place() {
        let long = function("long", 71);
        let expected = [("function src/a.rs long".to_owned(), 71)];
        assert_eq!(over(&long), expected);
        assert_eq!(over(&format!("impl A {{\n{long}}}")), expected);
        assert_eq!(over(&format!("trait A {{\n{long}}}")), expected);
        assert_eq!(over(&format!("mod a {{ fn short() {{\n{long}}}\n}}"))[0], expected[0]);
        assert!(over(&function("short", 70)).is_empty());
    }

    #[test]
    fn attributes_and_docs_do_not_count_as_lines_of_a_function() {
        assert!(over(&format!("/// Docs.\n#[test]\n{}", function("short", 70))).is_empty());
    }

    #[test]
    fn a_file_of_more_than_600_lines_without_tests_is_found() {
        let tests = format!("#[cfg(test)]\nmod tests {{\n{}}}\n", "// line\n".repeat(50));
        let code = "// line\n".repeat(600);
        assert!(over(&format!("{code}{tests}")).is_empty());
        let over = over(&format!("{code}// line\n{tests}"));
        assert_eq!(over, [("file src/a.rs".to_owned(), 601)]);
        assert!(over_length("tests/it/tests/a.rs", &"\n".repeat(700)).unwrap().is_empty());
    }

    #[test]
    fn a_new_or_larger_entry_and_a_stale_one_are_problems() {
        let sizes = |text| listed(text).unwrap();
        let list = sizes("# why\n\nfunction a.rs f 80\nfile a.rs 700\n");
        assert!(ratchet(&list, &list).is_empty());
        for (found, said) in [
            ("function a.rs f 81\nfile a.rs 700", "grew from 80 to 81"),
            ("function a.rs f 79\nfile a.rs 700", "shrank to 79"),
            ("file a.rs 700", "take it off the list"),
            (
                "function a.rs f 80\nfunction a.rs g 71\nfile a.rs 700",
                "g is new in the list with 71",
            ),
        ] {
            let problems = ratchet(&sizes(found), &list);
            assert!(problems.len() == 1 && problems[0].contains(said), "{problems:?}");
        }
        assert!(listed("file a.rs many").is_err());
    }
}
