//! Tests of the schema lock. Each module in `programs` holds the events of one state of a program.

mod changes;
mod programs;

use std::{env, fs, path::PathBuf, process::Command};

use diptych::{Upcasters, event::Upcast, testing::SchemaLock};
use programs::*;
use serde_json::json;
use tempfile::TempDir;

/// A lock file in a folder of its own.
struct Repository {
    folder: TempDir,
}

impl Repository {
    fn new() -> Repository {
        Repository { folder: tempfile::tempdir().unwrap() }
    }

    /// Returns a repository with this lock recorded.
    fn with(lock: impl FnOnce(SchemaLock) -> SchemaLock) -> Repository {
        let repository = Repository::new();
        repository.record(lock).unwrap();
        repository
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("schemas.json")
    }

    fn text(&self) -> String {
        fs::read_to_string(self.path()).unwrap()
    }

    fn try_check(
        &self,
        record: bool,
        lock: impl FnOnce(SchemaLock) -> SchemaLock,
    ) -> Result<(), String> {
        let lock = lock(SchemaLock::new(self.path()).record(record));
        let checked = lock.try_check().map_err(|report| report.to_string());
        let files = fs::read_dir(self.folder.path()).unwrap().count();
        assert!(files <= 1, "the check left another file in the folder");
        checked
    }

    fn record(&self, lock: impl FnOnce(SchemaLock) -> SchemaLock) -> Result<(), String> {
        self.try_check(true, lock)
    }

    fn check(&self, lock: impl FnOnce(SchemaLock) -> SchemaLock) -> Result<(), String> {
        self.try_check(false, lock)
    }

    /// Asserts that check and recording both refuse the lock and leave the file unchanged.
    fn refuses(&self, lock: impl Fn(SchemaLock) -> SchemaLock, expected: &[&str]) {
        let before = fs::read(self.path()).ok();
        for record in [false, true] {
            let report = self.try_check(record, &lock).expect_err("the check reports no problem");
            for part in expected {
                assert!(report.contains(part), "{part:?} is not in:\n{report}");
            }
            assert_eq!(fs::read(self.path()).ok(), before);
        }
    }
}

fn first(lock: SchemaLock) -> SchemaLock {
    lock.events([first::deposited(20), first::deposited(5)])
}

#[test]
fn an_unrecorded_type_is_reported_and_can_be_recorded() {
    let repository = Repository::new();
    let report = repository.check(first).unwrap_err();
    assert!(report.contains("money-deposited version 1 is not recorded"), "{report}");
    assert!(report.contains("`DIPTYCH_SCHEMAS=record`, and commit the file"), "{report}");
    assert!(!repository.path().exists());

    repository.record(first).unwrap();
    repository.check(first).unwrap();
    let text = repository.text();
    let expected = r#"{
  "diptych-schemas": 2,
  "events": [
    {
      "type": "money-deposited",
      "version": 1,
      "codec": "json",
      "tags": [
        "account"
      ],
      "shape": [
        "account: string",
        "amount: number"
      ],
      "samples": [
        {
          "tags": [
            "account:x"
          ],
          "payload": {"account":"ann","amount":20}
        },
        {
          "tags": [
            "account:x"
          ],
          "payload": {"account":"ann","amount":5}
        }
      ]
    }
  ]
}
"#;
    assert_eq!(text, expected);

    repository.record(|lock| lock.events([first::deposited(7)])).unwrap();
    assert_eq!(repository.text(), text, "the recorded entry must not change");
}

#[test]
#[should_panic = "money-deposited version 1 is not recorded"]
fn a_check_panics_with_the_report() {
    first(SchemaLock::new(Repository::new().path()).record(false)).check();
}

#[test]
fn one_more_optional_field_is_a_change() {
    let repository = Repository::with(first);
    repository.refuses(
        |lock| lock.events([noted::deposited(Some("thanks"))]),
        &[
            "money-deposited version 1 is not what was recorded",
            "--- recorded\n+++ in the program\n",
            " amount: number\n+note: null|string\n",
            "give it version 2 and an upcaster from version 1",
        ],
    );
    // `None` is left out of the JSON, so neither this sample nor the recorded ones show the field.
    repository.check(|lock| lock.events([left_out::deposited(None)])).unwrap();
    repository
        .refuses(|lock| lock.events([left_out::deposited(Some("x"))]), &["\n+note: string\n"]);
}

#[test]
fn a_missing_field_or_another_kind_of_field_is_a_change() {
    let repository = Repository::with(first);
    let gone = |lock: SchemaLock| lock.events([without_amount::deposited()]);
    repository.refuses(gone, &["\n-amount: number\n"]);
    let text = |lock: SchemaLock| lock.events([amount_as_text::deposited("20")]);
    repository.refuses(text, &["\n-amount: number\n+amount: string\n"]);
}

#[test]
fn other_tags_and_another_codec_are_changes() {
    let repository = Repository::with(first);
    let tags = |lock: SchemaLock| lock.events([other_tags::deposited()]);
    repository.refuses(tags, &[" tag account\n+tag branch\n", CAUTION]);
    let packed = |lock: SchemaLock| lock.events([packed::deposited(20)]);
    repository.refuses(packed, &["-codec json\n+codec messagepack\n"]);
}

#[test]
fn every_type_needs_a_sample() {
    let repository = Repository::new();
    repository.refuses(
        |lock| first(lock).events([Account::Closed]).events::<packed::Deposited>([]),
        &["money-deposited of", "is not declared like an event of the same type"],
    );
    repository.refuses(
        |lock| first(lock).events([Account::Closed]),
        &["there is no sample of account-opened: give at least one of each"],
    );
    let all = |lock: SchemaLock| {
        lock.events([Account::Closed, Account::Opened { owner: "ann".to_owned() }])
    };
    repository.record(all).unwrap();
    repository.check(all).unwrap();
    let names: Vec<_> = repository.text().matches("account-").map(str::to_owned).collect();
    assert_eq!(names.len(), 2);
}

/// Two Rust types may share an event type, such as an enum of all events and a part for one fold.
#[test]
fn a_type_that_two_rust_types_share_needs_samples_of_one() {
    let repository = Repository::new();
    let both = |lock: SchemaLock| first(lock).events::<first_again::Deposited>([]);
    repository.record(both).unwrap();
    repository.check(both).unwrap();
    assert_eq!(repository.text().matches("money-deposited").count(), 1);
}

#[test]
fn a_new_version_needs_an_upcaster_and_is_recorded_beside_the_old_one() {
    let repository = Repository::with(first);
    let second = |lock: SchemaLock| lock.events([second::deposited()]);
    repository.refuses(
        second,
        &[
            "money-deposited version 1, an older version, does not become any of the events",
            "money-deposited version 1 is not known, the program writes version 2",
        ],
    );
    let upcast = |lock: SchemaLock| second(lock).upcasters(with_currency());
    assert!(repository.check(upcast).unwrap_err().contains("version 2 is not recorded"));
    let before = repository.text();
    repository.record(upcast).unwrap();
    repository.check(upcast).unwrap();
    let old_entry = before.rsplit_once("\n  ]").unwrap().0;
    assert!(repository.text().starts_with(old_entry), "{}", repository.text());

    // The old samples detect an upcaster that a later change broke.
    let broken = |lock: SchemaLock| {
        let nothing = Upcasters::new().object("money-deposited", 1, |_| Ok(()));
        second(lock).upcasters(nothing)
    };
    repository.refuses(broken, &["money-deposited version 1", "missing field `currency`"]);
}

const CAUTION: &str = "beware: events of money-deposited version 1 that are in a log do not get \
                       the tag \"branch\" by that";

/// Regression: for a later tag, the report advised a new version and an upcaster. This advice
/// leaves the older events without the tag.
#[test]
fn a_version_with_a_new_tag_is_recorded_with_a_caution() {
    let repository = Repository::with(first);
    let second = |lock: SchemaLock| lock.events([second_by_branch::deposited()]);
    let upcast = |lock: SchemaLock| second(lock).upcasters(with_currency());
    let report = repository.check(upcast).unwrap_err();
    assert!(report.contains("version 2 is not recorded") && report.contains(CAUTION), "{report}");
    repository.record(upcast).unwrap();
    repository.check(upcast).unwrap();
}

fn with_currency() -> Upcasters {
    Upcasters::new().object("money-deposited", 1, |payload| payload.insert("currency", "EUR"))
}

#[test]
fn a_version_cannot_be_taken_back() {
    let repository = Repository::with(|lock| lock.events([second::deposited()]));
    let back = |lock: SchemaLock| lock.events([first::deposited(1)]);
    repository.refuses(
        back,
        &["money-deposited version 2 is recorded, and the program writes version 1"],
    );
}

#[test]
fn a_former_type_becomes_another_or_is_dropped() {
    let repository = Repository::with(first);
    let closed = |lock: SchemaLock| {
        lock.events([Account::Closed, Account::Opened { owner: "ann".to_owned() }])
    };
    repository.refuses(
        closed,
        &["money-deposited version 1, a former type", "account-closed, account-opened"],
    );
    let dropped = |lock| closed(lock).upcasters(Upcasters::new().drop("money-deposited", 1));
    repository.record(dropped).unwrap();
    repository.check(dropped).unwrap();
    let became = |lock| {
        let split = |_: &diptych::event::EncodedEvent<'_>| {
            let opened = Upcast::json("account-opened", 1, &json!({ "owner": "x" }))?;
            Ok(vec![opened, Upcast::json("account-closed", 1, &json!(null))?])
        };
        let into = &["account-opened", "account-closed"];
        closed(lock).upcasters(Upcasters::new().split("money-deposited", 1, into, split))
    };
    repository.check(became).unwrap();
    let renamed =
        |lock| closed(lock).upcasters(Upcasters::new().rename("money-deposited", "account-opened"));
    repository.refuses(renamed, &["money-deposited version 1", "missing field `owner`"]);
}

#[test]
fn contradictory_upcasters_are_reported() {
    let twice = |lock: SchemaLock| {
        let upcasters = Upcasters::new().drop("old", 1).drop("old", 1);
        first(lock).upcasters(upcasters)
    };
    Repository::new().refuses(twice, &["old version 1 has two upcasters"]);
}

#[test]
fn a_recorded_sample_of_the_current_version_is_still_read() {
    let repository = Repository::with(|lock| lock.events([kinds::paid("cash")]));
    repository.check(|lock| lock.events([kinds::paid("card")])).unwrap();
    let fewer = |lock: SchemaLock| lock.events([fewer_kinds::paid()]);
    repository.refuses(fewer, &["a recorded sample cannot be read", "unknown variant `cash`"]);
}

#[test]
fn a_field_that_was_always_null_may_get_a_kind_that_stays_recorded() {
    let none = |lock: SchemaLock| lock.events([noted::deposited(None)]);
    let some = |lock: SchemaLock| lock.events([noted::deposited(Some("thanks"))]);
    let repository = Repository::with(none);
    let before = repository.text();
    assert!(before.contains("\"note: null\""), "{before}");
    repository.check(some).unwrap();
    assert_eq!(repository.text(), before);

    repository.record(some).unwrap();
    assert!(repository.text().contains("\"note: null|string\""), "{}", repository.text());
    assert!(repository.text().contains(r#"{"account":"ann","amount":1,"note":null}"#));
    assert!(repository.text().contains(r#"{"account":"ann","amount":1,"note":"thanks"}"#));
    // Samples with fewer kinds are accepted, because the recorded samples still show the others.
    repository.check(some).unwrap();
    repository.check(none).unwrap();
    let other = |lock: SchemaLock| lock.events([note_as_number::deposited(None)]);
    repository.refuses(other, &["money-deposited version 1", "note: null"]);
}

#[test]
fn a_sample_that_cannot_be_read_back_is_not_recorded() {
    let one_way = |lock: SchemaLock| lock.events([one_way::deposited()]);
    Repository::new().refuses(one_way, &["a sample cannot be read back", "missing field `sum`"]);
}

#[test]
fn messagepack_has_a_shape_too() {
    let packed = |lock: SchemaLock| lock.events([packed::deposited(300)]);
    let repository = Repository::with(packed);
    repository.check(packed).unwrap();
    let text = repository.text();
    assert!(text.contains("\"amount: number\""), "{text}");
    assert!(text.contains("\"gqdhY2NvdW50o2FubqZhbW91bnTNASw=\""), "{text}");
}

#[test]
fn samples_of_an_unknown_codec_are_only_read_back() {
    let repository = Repository::with(|lock| lock.events([opaque::deposited(7)]));
    assert!(!repository.text().contains("shape"), "{}", repository.text());
    repository.check(|lock| lock.events([opaque::deposited(8)])).unwrap();
    let stricter = |lock: SchemaLock| lock.events([opaque_even::deposited(8)]);
    repository.refuses(stricter, &["a recorded sample cannot be read", "7 is odd"]);
}

#[test]
fn a_damaged_file_is_reported_and_not_changed() {
    let repository = Repository::with(first);
    let whole = repository.text();
    let damaged = [
        String::new(),
        whole[..whole.len() / 2].to_owned(),
        whole.replace("\"diptych-schemas\": 2", "\"diptych-schemas\": 3"),
        whole.replace("\"version\"", "\"varsion\""),
        whole.replace("amount: number", "amount"),
        whole.replace("\"codec\": \"json\"", "\"codec\": \"messagepack\""),
        whole.replace("\"codec\": \"json\"", "\"codec\": \"else\""),
        whole.replace("\"samples\": [", "\"samples\": [], \"more\": ["),
    ];
    for damaged in damaged {
        fs::write(repository.path(), damaged).unwrap();
        repository.refuses(first, &["the file is damaged, and was left as it is"]);
    }
    let (before, entry) = whole.split_once("    {").unwrap();
    let entry = entry.rsplit_once("\n  ]").unwrap().0;
    let twice = format!("{before}    {{{entry},\n    {{{entry}\n  ]\n}}\n");
    fs::write(repository.path(), twice).unwrap();
    repository.refuses(first, &["money-deposited version 1 is there twice"]);
}

#[test]
fn conflict_marks_of_a_merge_are_named_with_their_line() {
    let repository = Repository::with(first);
    let whole = repository.text();
    let line = "      \"version\": 1,\n";
    let both = format!("<<<<<<< ours\n{line}=======\n{line}>>>>>>> theirs\n");
    fs::write(repository.path(), whole.replacen(line, &both, 1)).unwrap();
    repository.refuses(
        first,
        &["the marks of a merge conflict, from line 6", "keep the entries of both sides"],
    );
}

/// The file as the first format had it: without tags of the samples.
const FIRST_FORMAT: &str = r#"{
  "diptych-schemas": 1,
  "events": [
    {
      "type": "money-deposited",
      "version": 1,
      "codec": "json",
      "tags": ["account"],
      "shape": ["account: string", "amount: number"],
      "samples": [{"account":"ann","amount":20}]
    }
  ]
}
"#;

#[test]
fn a_file_of_the_first_format_is_still_checked_and_recording_updates_it() {
    let repository = Repository::new();
    fs::write(repository.path(), FIRST_FORMAT).unwrap();
    let gone = |lock: SchemaLock| lock.events([without_amount::deposited()]);
    repository.refuses(gone, &["\n-amount: number\n"]);
    let report = repository.check(first).unwrap_err();
    assert!(report.contains("the file is of an older format"), "{report}");
    assert!(report.contains("`DIPTYCH_SCHEMAS=record`, and commit the file"), "{report}");
    assert_eq!(repository.text(), FIRST_FORMAT);

    repository.record(first).unwrap();
    repository.check(first).unwrap();
    let text = repository.text();
    assert!(text.contains("\"diptych-schemas\": 2") && text.contains("\"account:x\""), "{text}");
    assert!(text.contains(r#"{"account":"ann","amount":20}"#), "{text}");
}

/// The tags of an older version are not known any more, and are left out.
#[test]
fn an_older_version_of_the_first_format_keeps_its_samples() {
    let repository = Repository::new();
    fs::write(repository.path(), FIRST_FORMAT).unwrap();
    let second = |lock: SchemaLock| lock.events([second::deposited()]).upcasters(with_currency());
    repository.record(second).unwrap();
    repository.check(second).unwrap();
    let text = repository.text();
    let older = text.split_once("\"version\": 2").unwrap().0;
    assert!(older.contains(r#""payload": {"account":"ann","amount":20}"#), "{text}");
    assert!(!older.contains("account:x"), "{text}");
}

#[test]
fn a_file_that_cannot_be_read_or_written_is_reported() {
    let repository = Repository::new();
    let folder = SchemaLock::new(repository.folder.path()).record(true);
    let report = first(folder).try_check().unwrap_err();
    assert!(report.to_string().contains("the file cannot be read"), "{report}");
    let nowhere = SchemaLock::new(repository.path().join("nowhere/schemas.json")).record(true);
    let report = first(nowhere).try_check().unwrap_err();
    assert_eq!(report.problems().len(), 1, "{report}");
    assert!(report.to_string().contains("the file cannot be written"), "{report}");
}

/// The variable with the path of the file, for the test below in a process of its own.
const FILE: &str = "DIPTYCH_TEST_SCHEMA_FILE";

/// All tests share the environment of this process, so the test starts other processes.
#[test]
fn the_variable_says_whether_to_record() {
    if let Some(path) = env::var_os(FILE) {
        return first(SchemaLock::new(path)).check();
    }
    let repository = Repository::new();
    let run = |word: Option<&str>| {
        let mut test = Command::new(env::current_exe().unwrap());
        test.args(["--exact", "schema_lock::the_variable_says_whether_to_record"]);
        test.env(FILE, repository.path()).env_remove("DIPTYCH_SCHEMAS");
        test.envs(word.map(|word| ("DIPTYCH_SCHEMAS", word)));
        let output = test.output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    assert!(!run(None).0);
    let (passed, output) = run(Some("recrod"));
    assert!(!passed && output.contains("set it to `record` or to nothing"), "{output}");
    assert!(!repository.path().exists());
    let (passed, output) = run(Some("record"));
    assert!(passed, "{output}");
    assert!(repository.path().exists());
    assert!(run(None).0);
}
