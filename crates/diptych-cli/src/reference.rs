//! The page of the command line has the commands, options, defaults and exit codes of the program.

use std::{collections::BTreeSet, fs};

use clap::{Arg, ArgAction, Command, CommandFactory};

use crate::{
    args::Cli,
    exit::EXIT_CODES,
    ndjson::{self, RecordedTime},
};

fn page() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference/command-line.md");
    fs::read_to_string(path).unwrap()
}

/// The part of the page under a heading.
fn section<'a>(page: &'a str, heading: &str) -> &'a str {
    let heading = format!("\n## {heading}\n");
    let Some((_, section)) = page.split_once(&heading) else { panic!("add the heading {heading}") };
    section.split("\n## ").next().unwrap()
}

/// The commands but `help`, which clap adds, with their names. A group is the commands in it.
fn commands() -> Vec<(String, Command)> {
    let mut cli = Cli::command();
    cli.build();
    let mut commands = Vec::new();
    for command in own(&cli) {
        let name = command.get_name().to_owned();
        match own(command).count() {
            0 => commands.push((name, command.clone())),
            _ => {
                let named = |of: &Command| (format!("{name} {}", of.get_name()), of.clone());
                commands.extend(own(command).map(named));
            }
        }
    }
    commands
}

fn own(command: &Command) -> impl Iterator<Item = &Command> {
    command.get_subcommands().filter(|command| command.get_name() != "help")
}

/// The table of the options of a command, as the page has it.
fn table(command: &Command) -> String {
    let head = "| option | default | meaning |\n|---|---|---|\n".to_owned();
    let options = command.get_arguments();
    let options = options.filter(|option| !["help", "version"].contains(&option.get_id().as_str()));
    std::iter::once(head).chain(options.map(|option| row(command, option))).collect()
}

fn row(command: &Command, option: &Arg) -> String {
    let takes_value = !matches!(option.get_action(), ArgAction::SetTrue);
    let value = option.get_value_names().map_or("VALUE", |names| names[0].as_str());
    let name = match option.get_long() {
        Some(long) if takes_value => format!("--{long} {value}"),
        Some(long) => format!("--{long}"),
        None => value.to_owned(),
    };
    let defaults = option.get_default_values();
    let default = match defaults.first() {
        Some(default) if takes_value => format!("`{}`", default.to_str().unwrap()),
        _ if option.is_required_set() => "required".to_owned(),
        _ if takes_value => "none".to_owned(),
        _ => "off".to_owned(),
    };
    let mut meaning = option.get_help().map_or(String::new(), ToString::to_string);
    if !meaning.ends_with('.') {
        meaning.push('.');
    }
    // A conflict is declared at one of two options and holds for both.
    let excludes = |one: &Arg, other: &Arg| command.get_arg_conflicts_with(one).contains(&other);
    let others = command.get_arguments();
    let others = others.filter(|other| excludes(option, other) || excludes(other, option));
    let conflicts: BTreeSet<_> = others.filter_map(Arg::get_long).collect();
    if !conflicts.is_empty() {
        let names: Vec<_> = conflicts.iter().map(|name| format!("`--{name}`")).collect();
        meaning.push_str(&format!(" Not with {}.", names.join(" or ")));
    }
    format!("| `{name}` | {default} | {} |\n", meaning.replace('|', "\\|"))
}

#[test]
fn the_page_has_each_command_with_its_options_and_defaults() {
    let page = page();
    for (name, command) in commands() {
        let section = section(&page, &format!("`diptych {name}`"));
        let table = table(&command);
        assert!(section.contains(&table), "diptych {name}: the table should be\n{table}");
        let rows = section.lines().filter(|line| line.starts_with("| `--")).count();
        let expected = table.lines().filter(|line| line.starts_with("| `--")).count();
        assert_eq!(rows, expected, "diptych {name}: the page has an option that is gone");
    }
    let headings = page.lines().filter(|line| line.starts_with("## `diptych ")).count();
    assert_eq!(headings, commands().len(), "the page has a command that is gone");
}

#[test]
fn the_page_has_the_exit_codes_of_every_help() {
    let section = section(&page(), "Exit codes").replace("\\|", "|");
    let codes: Vec<_> = EXIT_CODES.lines().skip(1).collect();
    assert_eq!(codes.len(), 6);
    for code in codes {
        let (number, meaning) = code.trim().split_once("  ").unwrap();
        assert!(section.contains(&format!("| {number} | {meaning} |")), "{code}");
    }
}

#[test]
fn the_page_has_the_fields_of_an_event() {
    // The reader lists its fields when it meets one that it does not know.
    let error = ndjson::parse(b"{\"none of these\": 1}", RecordedTime::AsOccurred).unwrap_err();
    let error = error.to_string();
    let (_, expected) = error.split_once("expected one of").unwrap();
    let expected: BTreeSet<&str> = expected.split('`').skip(1).step_by(2).collect();
    let page = page();
    let rows = section(&page, "An event as a line of JSON").lines();
    let names = rows.filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    assert_eq!(names.collect::<BTreeSet<_>>(), expected);
}
