//! The commands that a page shows, with their output.

/// A command after `$ ` in a console block, and the lines below it.
pub(crate) struct Step {
    pub(crate) line: usize,
    pub(crate) command: String,
    pub(crate) output: String,
}

/// The steps of a page in their order.
pub(crate) fn steps(page: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let (mut in_console, mut continues) = (false, false);
    for (at, line) in page.lines().enumerate() {
        if let Some(language) = line.strip_prefix("```") {
            in_console = language == "console";
            continue;
        }
        if !in_console {
            continue;
        }
        let text = line.trim_end_matches('\\').trim();
        match (line.strip_prefix("$ "), steps.last_mut()) {
            (Some(command), _) => {
                let command = command.trim_end_matches('\\').trim().to_owned();
                steps.push(Step { line: at + 1, command, output: String::new() });
            }
            (None, Some(step)) if continues => step.command += &format!(" {text}"),
            (None, Some(step)) => step.output += &format!("{line}\n"),
            (None, None) => panic!("line {}: output before any command", at + 1),
        }
        continues = line.ends_with('\\');
    }
    steps
}

/// Whether a text is as a page shows it. `…` in the page stands for any text.
pub(crate) fn agrees(text: &str, shown: &str) -> bool {
    let mut pieces = shown.trim().split('…');
    let Some(mut rest) = pieces.next().and_then(|first| text.trim().strip_prefix(first)) else {
        return false;
    };
    let pieces: Vec<&str> = pieces.collect();
    for piece in &pieces {
        let Some(at) = rest.find(piece) else { return false };
        rest = &rest[at + piece.len()..];
    }
    rest.is_empty()
        || pieces.last().is_some_and(|last| last.is_empty() || text.trim().ends_with(last))
}

#[test]
fn a_step_is_a_command_with_its_output() {
    let page = "```console\n$ curl -d a \\\n    b\nx\ny\n$ ls\n```\n\n```sh\nls\n```\n";
    let steps = steps(page);
    assert_eq!(steps.len(), 2);
    assert_eq!((&*steps[0].command, &*steps[0].output), ("curl -d a b", "x\ny\n"));
    assert_eq!((steps[1].line, &*steps[1].command, &*steps[1].output), (6, "ls", ""));
}

#[test]
fn an_ellipsis_stands_for_any_text_and_nothing_else_does() {
    for (text, shown) in [("a1b", "a…b"), ("ab", "a…b"), ("a1b2c", "a…b…c"), ("ab\n", "ab")]
    {
        assert!(agrees(text, shown), "{text} {shown}");
    }
    for (text, shown) in [("a1c", "a…b"), ("abc", "ab"), ("xab", "a…b"), ("a1b2", "a…b")] {
        assert!(!agrees(text, shown), "{text} {shown}");
    }
}
