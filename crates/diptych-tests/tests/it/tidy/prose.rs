//! Rules over prose: sentences of comments and pages, and habits that make them hard to read. Each
//! habit is counted per 10,000 words. The limit of an area is twice the count that tephra, an event
//! store with good comments, had when this was measured.

use std::collections::BTreeMap;

/// The largest number of words in a sentence of a page.
const SENTENCE_WORDS: usize = 35;

/// A name, the limit per 10,000 words, and a check whether a sentence has the habit.
type Habit = (&'static str, f64, fn(&str) -> bool);

/// The habits that are counted.
const HABITS: &[Habit] = &[
    ("headless", 3.2, is_headless),
    ("who-as-a-noun", 0.0, has_who_as_a_noun),
    ("somebody", 2.0, names_somebody),
    ("of-it", 5.2, ends_a_clause_with_of_it),
    ("the-same", 3.2, is_only_the_same),
    ("so-many", 0.6, has_so_many),
    ("evasion", 0.0, evades),
];

/// The number of words of an area, and its sentences with each habit.
#[derive(Default)]
pub(crate) struct Prose {
    words: usize,
    found: BTreeMap<&'static str, Vec<String>>,
}

impl Prose {
    /// Adds the comments of a Rust file, or the text of a page.
    pub(crate) fn read(&mut self, path: &str, text: &str) {
        let paragraphs = if path.ends_with(".md") { page(text) } else { comments(text) };
        for paragraph in paragraphs {
            self.words += paragraph.split_whitespace().count();
            for sentence in sentences(&paragraph) {
                let habits = HABITS.iter().filter(|(_, _, has)| has(&sentence));
                for (name, ..) in habits {
                    let found = self.found.entry(name).or_default();
                    found.push(format!("{path}: {sentence}"));
                }
            }
        }
    }

    /// The habits above their limit, with the number of their sentences.
    pub(crate) fn over(&self, area: &str) -> BTreeMap<String, usize> {
        let over = HABITS.iter().filter_map(|(name, per_10_000, _)| {
            let found = self.found.get(name).map_or(0, Vec::len);
            let allowed = (self.words as f64 * per_10_000 / 10_000.0).floor() as usize;
            (found > allowed).then(|| (format!("prose {area} {name}"), found))
        });
        over.collect()
    }

    /// The sentences behind the counts of an area.
    pub(crate) fn sentences_of(&self, habit: &str) -> &[String] {
        self.found.get(habit).map_or(&[], Vec::as_slice)
    }
}

/// The sentences of a page, tables included, that are too long.
pub(crate) fn long_sentences(page_text: &str) -> Vec<String> {
    let paragraphs = page(page_text).into_iter().chain(cells(page_text));
    let sentences = paragraphs.flat_map(|paragraph| sentences(&paragraph));
    let counted = sentences.map(|sentence| (sentence.split_whitespace().count(), sentence));
    let long = counted.filter(|(count, _)| *count > SENTENCE_WORDS);
    long.map(|(count, sentence)| {
        format!("{count} words, more than {SENTENCE_WORDS}: split the sentence: {sentence}")
    })
    .collect()
}

/// Paragraphs in the comments of a Rust file, without code.
fn comments(text: &str) -> Vec<String> {
    let mut paragraphs = Paragraphs::default();
    for line in text.lines() {
        let line = line.trim_start();
        let comment = line.strip_prefix("//").map(|rest| {
            let rest = rest.strip_prefix(['/', '!']).unwrap_or(rest);
            rest.strip_prefix(' ').unwrap_or(rest).trim()
        });
        match comment {
            Some(words) => paragraphs.line(words),
            None => paragraphs.end(),
        }
    }
    paragraphs.finish()
}

/// Paragraphs of a page, without code, headings and tables.
fn page(text: &str) -> Vec<String> {
    let mut paragraphs = Paragraphs::default();
    text.lines().for_each(|line| paragraphs.line(line.trim()));
    paragraphs.finish()
}

/// The cells of the tables of a page.
fn cells(text: &str) -> Vec<String> {
    let mut in_code = false;
    let rows = text.lines().map(str::trim).filter(|line| {
        in_code ^= line.starts_with("```");
        !in_code && line.starts_with('|')
    });
    // A bar in a cell is written as `\|`. A mark takes its place, so that only the bars between
    // cells divide the row.
    let rows = rows.map(|row| row.replace("\\|", "\u{1}"));
    rows.flat_map(|row| row.split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>())
        .filter(|cell| !cell.is_empty())
        .collect()
}

/// Lines that become paragraphs. An empty line, a heading, a table or an item of a list ends one.
#[derive(Default)]
struct Paragraphs {
    done: Vec<String>,
    words: Vec<String>,
    in_code: bool,
}

impl Paragraphs {
    fn line(&mut self, line: &str) {
        if line.starts_with("```") {
            self.in_code = !self.in_code;
            return;
        }
        if self.in_code {
            return;
        }
        let item = line.strip_prefix("- ").or_else(|| line.strip_prefix("* "));
        if item.is_some() || line.is_empty() || line.starts_with(['#', '|', '!', '<']) {
            self.end();
        }
        match item {
            Some(item) => self.words.push(item.trim().to_owned()),
            None if line.is_empty() || line.starts_with(['#', '|', '!', '<']) => {}
            None => self.words.push(line.to_owned()),
        }
    }

    fn end(&mut self) {
        if !self.words.is_empty() {
            self.done.push(std::mem::take(&mut self.words).join(" "));
        }
    }

    fn finish(mut self) -> Vec<String> {
        self.end();
        self.done
    }
}

/// Sentences in lower case, with a letter in place of each piece of code. A colon ends one too.
fn sentences(paragraph: &str) -> Vec<String> {
    let mut plain = String::new();
    for (at, piece) in paragraph.split('`').enumerate() {
        plain.push_str(if at % 2 == 0 { piece } else { "X" });
    }
    let plain = without_links(&plain).to_lowercase();
    let mut sentences = Vec::new();
    let mut start = 0;
    for (at, end) in plain.match_indices(['.', '!', '?', ':']) {
        let after = at + end.len();
        if plain.get(after..).is_some_and(|rest| rest.starts_with(char::is_whitespace)) {
            sentences.push(plain.get(start..after).unwrap_or(""));
            start = after;
        }
    }
    sentences.push(plain.get(start..).unwrap_or(""));
    let marks = |char: char| char.is_whitespace() || "*_-".contains(char);
    let trimmed = sentences.into_iter().map(|sentence| sentence.trim_matches(marks).to_owned());
    trimmed.filter(|sentence| !sentence.is_empty()).collect()
}

/// `[words](address)` and `[words]` become `words`.
fn without_links(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, from)) = rest.split_once('[') {
        plain.push_str(before);
        let Some((words, after)) = from.split_once(']') else {
            plain.push('[');
            rest = from;
            continue;
        };
        plain.push_str(words);
        let address = after.strip_prefix('(').and_then(|address| address.split_once(')'));
        rest = address.map_or(after, |(_, rest)| rest);
    }
    plain.push_str(rest);
    plain
}

fn words(sentence: &str) -> Vec<&str> {
    let parts = sentence.split(|char: char| !char.is_alphanumeric() && char != '\'');
    parts.filter(|word| !word.is_empty()).collect()
}

/// Whether a sentence begins with a word in place of a subject. Questions are excepted.
fn is_headless(sentence: &str) -> bool {
    let words = words(sentence);
    let openings = ["what", "who", "whoever", "whom", "whose", "of"];
    let opens = words.first().is_some_and(|first| openings.contains(first))
        || words.starts_with(&["that", "what"]);
    opens && !sentence.ends_with('?')
}

/// Whether a sentence has "whoever", or "who" with a verb but without a noun before it.
fn has_who_as_a_noun(sentence: &str) -> bool {
    const VERBS: &[&str] = &[
        "is", "are", "has", "have", "was", "needs", "asks", "wants", "looks", "reads", "writes",
        "waits", "comes", "knows", "sends", "says", "does",
    ];
    let words = words(sentence);
    if words.iter().any(|word| ["whoever", "whomever"].contains(word)) {
        return true;
    }
    let pairs = words.windows(2);
    let named = [["anyone", "who"], ["those", "who"], ["he", "who"]];
    if pairs.clone().any(|pair| named.iter().any(|named| pair == named)) {
        return true;
    }
    let bare = |before: &str| {
        let before = before.trim_end();
        before.is_empty()
            || before.ends_with([',', ';', ':'])
            || [" of", " for", " to"].iter().any(|word| format!(" {before}").ends_with(word))
    };
    occurrences(sentence, "who").any(|at| {
        let after = sentence.get(at + 3..).unwrap_or("");
        let verb = after.split_whitespace().next().unwrap_or("");
        VERBS.contains(&verb.trim_matches(|char: char| !char.is_alphanumeric()))
            && bare(sentence.get(..at).unwrap_or(""))
    })
}

fn names_somebody(sentence: &str) -> bool {
    let words = words(sentence);
    words.iter().any(|word| ["somebody", "nobody", "everybody", "someone"].contains(word))
        || words.windows(2).any(|pair| pair == ["no", "one"])
}

fn ends_a_clause_with_of_it(sentence: &str) -> bool {
    ["of it", "of them", "of these", "of those", "of that"].iter().any(|end| {
        occurrences(sentence, end).any(|at| {
            let after = sentence.get(at + end.len()..).unwrap_or("").trim_start();
            after.is_empty() || after.starts_with([',', ';', ':', '.'])
        })
    })
}

fn is_only_the_same(sentence: &str) -> bool {
    let body = sentence.strip_suffix('.').unwrap_or(sentence);
    words(sentence).starts_with(&["the", "same"]) && !body.contains('.')
}

fn has_so_many(sentence: &str) -> bool {
    let words = words(sentence);
    words.windows(2).enumerate().any(|(at, pair)| {
        let counts = pair[0] == "so" && ["many", "long", "much"].contains(&pair[1]);
        counts && !words.get(at + 2).is_some_and(|next| ["as", "that"].contains(next))
    })
}

fn evades(sentence: &str) -> bool {
    ["the thing that", "that which", "the one that"]
        .iter()
        .any(|evasion| occurrences(sentence, evasion).next().is_some())
}

/// The places of whole words in a sentence.
fn occurrences<'a>(sentence: &'a str, words: &'a str) -> impl Iterator<Item = usize> + 'a {
    let is_part = |char: Option<char>| char.is_some_and(char::is_alphanumeric);
    sentence.match_indices(words).map(|(at, _)| at).filter(move |at| {
        let before = sentence.get(..*at).and_then(|before| before.chars().next_back());
        let after = sentence.get(at + words.len()..).and_then(|after| after.chars().next());
        !is_part(before) && !is_part(after)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn habits(path: &str, text: &str) -> Vec<(&'static str, usize)> {
        let mut prose = Prose::default();
        prose.read(path, text);
        prose.found.iter().map(|(name, found)| (*name, found.len())).collect()
    }

    #[test]
    fn each_habit_is_found_and_plain_sentences_are_allowed() {
        for (sentence, habit) in [
            ("What is left is read. Readers go on.", "headless"),
            ("It is read: of two files the newer.", "headless"),
            ("The store tells whoever asks.", "who-as-a-noun"),
            ("It wakes, who waits is woken.", "who-as-a-noun"),
            ("A page that nobody reads.", "somebody"),
            ("The file is mapped, all of it.", "of-it"),
            ("The same with boxed futures.", "the-same"),
            ("It waits so long and no more.", "so-many"),
            ("It drops the one that came first.", "evasion"),
        ] {
            assert_eq!(habits("a.md", sentence), [(habit, 1)], "{sentence}");
            let comment = format!("/// {sentence}\nfn f() {{}}\n");
            assert_eq!(habits("a.rs", &comment), [(habit, 1)], "{sentence}");
        }
        for plain in [
            "What is a view?",
            "A client who is denied gets a problem.",
            "Callers read the part of it that they need.",
            "It is the same file, sealed.",
            "It waits so long that readers notice.",
            "`what` is code, and [of](x) is a link.",
        ] {
            assert_eq!(habits("a.md", plain), [], "{plain}");
        }
    }

    #[test]
    fn a_sentence_of_a_page_has_at_most_35_words() {
        let of = |words: usize| format!("One.\n\n- {}end.\n", "word\n  ".repeat(words - 1));
        assert_eq!(long_sentences(&of(35)), [""; 0]);
        assert_eq!(long_sentences(&of(36)).len(), 1);
    }

    #[test]
    fn sentences_in_tables_are_counted_for_each_cell() {
        let row = |words: usize| format!("| a | {} | b |", "word ".repeat(words).trim());
        assert_eq!(long_sentences(&row(35)), [""; 0]);
        assert_eq!(long_sentences(&row(36)).len(), 1);
        assert_eq!(long_sentences(&row(36).replace("d word |", "d \\| word |")).len(), 1);
        assert_eq!(long_sentences(&format!("```text\n{}\n```", row(36))), [""; 0]);
    }

    #[test]
    fn headings_tables_and_code_are_not_prose() {
        let page = "# What it is\n\n| of it |\n|---|\n\n```text\nWhat it says.\n```\n";
        assert_eq!(habits("a.md", page), []);
        assert_eq!(
            habits("a.rs", "/// # Of errors\n/// ```\n/// // What.\n/// ```\nfn f() {}"),
            []
        );
        assert_eq!(habits("a.rs", "let what = \"Of it.\";"), []);
    }

    #[test]
    fn a_sentence_over_several_lines_is_one_sentence() {
        let text = "/// A file that\n/// nobody reads,\n/// none of\n/// it.\nfn f() {}";
        assert_eq!(habits("a.rs", text), [("of-it", 1), ("somebody", 1)]);
    }

    #[test]
    fn the_limit_of_an_area_grows_with_its_words() {
        let mut prose = Prose::default();
        prose.read("a.md", &"one word more. ".repeat(400));
        prose.read("a.md", "A page that nobody reads.");
        assert_eq!(prose.over("docs"), BTreeMap::from([("prose docs somebody".to_owned(), 1)]));
        prose.read("a.md", &"one word more. ".repeat(2_000));
        assert!(prose.over("docs").is_empty());
        assert_eq!(prose.sentences_of("somebody"), ["a.md: a page that nobody reads."]);
    }
}
