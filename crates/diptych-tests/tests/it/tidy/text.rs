//! Rules over the lines of a file. The forbidden words are composed of parts here, so that this
//! file does not contain them.

const WIDTH: usize = 100;

/// Lines of more than 100 columns. In a page, tables and lines with a link are exempt, because they
/// cannot be broken.
pub(crate) fn wide_lines(path: &str, text: &str) -> Vec<String> {
    let is_page = path.ends_with(".md");
    let excused = |line: &str| {
        is_page
            && (line.trim_start().starts_with('|') || line.contains("://") || line.contains("]("))
    };
    numbered(text, |line| {
        let columns = line.chars().count();
        let wide = columns > WIDTH && !excused(line);
        wide.then(|| format!("{columns} columns, more than {WIDTH}: break the line"))
    })
}

/// Marks of unfinished work.
pub(crate) fn unfinished(text: &str) -> Vec<String> {
    let marks = [
        concat!("to", "do!"),
        concat!("unimplem", "ented!"),
        concat!("#[ig", "nore"),
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
    ];
    numbered(text, |line| {
        let mark = marks.iter().find(|mark| has_word(line, mark))?;
        Some(format!("{mark}: finish it, or open an issue and take the mark out"))
    })
}

/// Absolute paths that exist only on one machine.
pub(crate) fn machine_paths(text: &str) -> Vec<String> {
    let starts = ["home", "root", "work", "Users"].map(|name| format!("/{name}/"));
    numbered(text, |line| {
        let path = starts.iter().find(|start| begins_a_path(line, start))?;
        Some(format!("a path under {path} exists on one machine only: write it relative"))
    })
}

fn numbered(text: &str, rule: impl Fn(&str) -> Option<String>) -> Vec<String> {
    let lines = text.lines().enumerate();
    lines.filter_map(|(at, line)| Some(format!("line {}: {}", at + 1, rule(line)?))).collect()
}

/// Whether the line has this whole word.
fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let is_part = |char: Option<char>| char.is_some_and(|char| char.is_alphanumeric());
        let (before, after) = (line.get(..at), line.get(at + word.len()..));
        let (before, after) = (before.unwrap_or(""), after.unwrap_or(""));
        !is_part(before.chars().last()) && !is_part(after.chars().next())
    })
}

/// Whether a path in the line starts so. A folder of that name in the middle of a path does not
/// count.
fn begins_a_path(line: &str, start: &str) -> bool {
    line.match_indices(start).any(|(at, _)| {
        let before = line.get(..at).and_then(|before| before.chars().last());
        !before.is_some_and(|char| char.is_alphanumeric() || "._-~)}/".contains(char))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wide_line_is_reported_with_its_number() {
        let line = "ä".repeat(101);
        assert_eq!(wide_lines("a.rs", &format!("ok\n{line}\n")).len(), 1);
        assert!(wide_lines("a.rs", &format!("ok\n{line}\n"))[0].starts_with("line 2: 101"));
        assert!(wide_lines("a.rs", &"ä".repeat(100)).is_empty());
    }

    #[test]
    fn tables_and_links_of_pages_may_be_wide() {
        let words = "word ".repeat(30);
        for line in [format!("| {words}|"), format!("[x](y) {words}"), format!("http://{words}")] {
            assert!(wide_lines("a.md", &line).is_empty(), "{line}");
            assert_eq!(wide_lines("a.rs", &line).len(), 1, "{line}");
        }
        assert_eq!(wide_lines("a.md", &words).len(), 1);
    }

    #[test]
    fn every_mark_of_unfinished_work_is_found() {
        for bad in [
            concat!("// TO", "DO: later"),
            concat!("// FIX", "ME"),
            concat!("    to", "do!()"),
            concat!("unimplem", "ented!(\"x\")"),
            concat!("#[ig", "nore = \"slow\"]"),
        ] {
            assert_eq!(unfinished(&format!("fn a() {{}}\n{bad}")).len(), 1, "{bad}");
        }
        assert!(unfinished(concat!("let ignored = \"AUTO", "DOC TO", "DOS\";")).is_empty());
    }

    #[test]
    fn an_absolute_path_of_one_machine_is_found() {
        for bad in
            [concat!("open(\"/ho", "me/ann/x\")"), concat!("/ro", "ot/x"), concat!("=/wo", "rk/x")]
        {
            assert_eq!(machine_paths(bad).len(), 1, "{bad}");
        }
        assert!(machine_paths(concat!("src/wo", "rk/x ../ho", "me/x /usr/lib")).is_empty());
    }
}
