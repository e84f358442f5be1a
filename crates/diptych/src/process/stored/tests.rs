//! The stored forms.

use super::*;
use crate::process::ActionRejection;

#[test]
fn a_reaction_keeps_its_stored_form() {
    let record = ReactionRecord {
        process: "checkout".into(),
        instance: "order:7".into(),
        trigger: TriggerPlace { position: Position::new(12), part: 0 },
        at: Timestamp::from_micros(0),
        actions: vec![
            Action::SetTimer {
                timer: "pay-by".into(),
                due: Timestamp::from_micros(1),
                civil: None,
            },
            Action::CancelTimer { timer: "pay-by".into() },
            Action::End,
        ],
    };
    let event = record.to_event(Metadata::default()).unwrap();
    assert_eq!(event.event_type, "diptych:process-reacted");
    let stored = concat!(
        r#"{"process":"checkout","instance":"order:7","trigger":{"position":12},"#,
        r#""at":"1970-01-01T00:00:00Z","actions":[{"set-timer":{"timer":"pay-by","#,
        r#""due":"1970-01-01T00:00:00.000001Z"}},{"cancel-timer":{"timer":"pay-by"}},"end"]}"#,
    );
    assert_eq!(std::str::from_utf8(&event.payload).unwrap(), stored);
    let tags: Vec<_> = event.tags.iter().map(Tag::as_str).collect();
    let expected = [
        "diptych:process:checkout",
        "diptych:process-instance:fd9d26155bd4f125f7c2a8b8e3cbd80a",
        "diptych:process-timers:checkout",
        "diptych:process-timer:e24ecf68d11cc20b096232c14e61a15f",
    ];
    assert_eq!(tags, expected);
}

/// Checks that a record has this form, and is read from it.
#[track_caller]
fn assert_stored<R>(record: &R, stored: &str)
where
    R: Serialize + DeserializeOwned + PartialEq + fmt::Debug,
{
    assert_eq!(serde_json::to_string(record).unwrap(), stored);
    assert_eq!(serde_json::from_str::<R>(stored).unwrap(), *record);
}

/// The names of a process and of an instance.
fn names() -> (Arc<str>, Arc<str>) {
    ("p".into(), "order:7".into())
}

/// Begins the stored form of an event about an action.
const OF_ACTION: &str = r#"{"process":"p","instance":"order:7","reaction":9,"action":1,"#;

#[test]
fn starts_renamings_and_timers_keep_their_stored_form() {
    assert_stored(
        &StartRecord {
            process: "p".into(),
            after: Position::new(4),
            shards: 1,
            tag: "order".into(),
            types: vec!["order-placed".into()],
        },
        r#"{"process":"p","after":4,"shards":1,"tag":"order","types":["order-placed"]}"#,
    );
    let rename = Rename { process: "p".into(), name: "q".into() };
    assert_stored(&rename, r#"{"process":"p","name":"q"}"#);
    let (process, instance) = names();
    let (due, fired_at) = (Timestamp::from_micros(0), Timestamp::from_micros(1));
    let (timer, set_at) = ("pay-by".to_owned(), Position::new(9));
    assert_stored(
        &FiringRecord { process, instance, timer, set_at, due, civil: None, fired_at },
        concat!(
            r#"{"process":"p","instance":"order:7","timer":"pay-by","set_at":9,"#,
            r#""due":"1970-01-01T00:00:00Z","fired_at":"1970-01-01T00:00:00.000001Z"}"#,
        ),
    );
    let ((process, instance), timer) = (names(), "open".to_owned());
    let civil = Some(CivilTime::new("Europe/London", "1970-01-01T01:00:00"));
    assert_stored(
        &FiringRecord { process, instance, timer, set_at, due, civil, fired_at },
        concat!(
            r#"{"process":"p","instance":"order:7","timer":"open","set_at":9,"#,
            r#""due":"1970-01-01T00:00:00Z","#,
            r#""civil":{"zone":"Europe/London","time":"1970-01-01T01:00:00"},"#,
            r#""fired_at":"1970-01-01T00:00:00.000001Z"}"#,
        ),
    );
}

#[test]
fn notes_of_timers_keep_their_stored_form() {
    let timer = NotedTimer {
        timer: Digest([0x0a; 16]),
        due: Timestamp::from_micros(0),
        set_at: Position::new(9),
        action: 1,
    };
    let (upto, after) = (Position::new(20), Position::new(12));
    let note = TimersNote { process: "p".into(), shard: 3, upto, after, timers: vec![timer] };
    assert_stored(
        &note,
        concat!(
            r#"{"process":"p","shard":3,"upto":20,"after":12,"timers":[{"#,
            r#""timer":"0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a","due":"1970-01-01T00:00:00Z","#,
            r#""set_at":9,"action":1}]}"#,
        ),
    );
    let tags: Vec<_> = note.to_event().unwrap().tags;
    let tags: Vec<_> = tags.iter().map(Tag::as_str).collect();
    assert_eq!(tags, ["diptych:process:p", "diptych:process-timers-noted:p:3"]);
}

#[test]
fn an_instance_keeps_its_shard() {
    let shards = |of| {
        let id =
            |number| InstanceId { process: "p".into(), instance: format!("order:{number}").into() };
        (1..=8).map(|number| id(number).shard(of)).collect::<Vec<_>>()
    };
    assert_eq!(shards(1), [0; 8]);
    assert_eq!(shards(4), [2, 3, 0, 2, 0, 3, 0, 2]);
}

#[test]
fn settled_actions_keep_their_stored_form() {
    let (reaction, action) = (Position::new(9), 1);
    let outcomes = [
        (ActionOutcome::NothingToDo, r#""nothing-to-do""#),
        (ActionOutcome::Withheld, r#""withheld""#),
        (ActionOutcome::Answered(1.into()), r#"{"answered":1}"#),
        (
            ActionOutcome::Rejected(ActionRejection::new("no", 2.into())),
            r#"{"rejected":{"text":"no","json":2}}"#,
        ),
    ];
    for (outcome, stored) in outcomes {
        let ((process, instance), name) = (names(), "pay".to_owned());
        assert_stored(
            &SettlementRecord { process, instance, reaction, action, name, outcome },
            &format!(r#"{OF_ACTION}"name":"pay","outcome":{stored}}}"#),
        );
    }
}

#[test]
fn calls_keep_their_stored_form() {
    let (reaction, action, claim, gateway) = (Position::new(9), 1, 2, "bank".to_owned());
    let (process, instance) = names();
    assert_stored(
        &StartedCall { process, instance, reaction, action, gateway: gateway.clone(), claim },
        &format!(r#"{OF_ACTION}"gateway":"bank","claim":2}}"#),
    );
    let ((process, instance), reason) = (names(), "lost".to_owned());
    assert_stored(
        &UnknownCall { process, instance, reaction, action, gateway, claim, reason },
        &format!(r#"{OF_ACTION}"gateway":"bank","claim":2,"reason":"lost"}}"#),
    );
    let (process, instance) = names();
    assert_stored(
        &ResentCall { process, instance, reaction, action, claim },
        &format!(r#"{OF_ACTION}"claim":2}}"#),
    );
}

#[test]
fn letters_keep_their_stored_form() {
    let trigger = TriggerPlace { position: Position::new(12), part: 3 };
    let ((process, instance), reason) = (names(), "broken".to_owned());
    assert_stored(
        &ParkingRecord { process, instance, trigger, reason },
        concat!(
            r#"{"process":"p","instance":"order:7","trigger":{"position":12,"part":3},"#,
            r#""reason":"broken"}"#,
        ),
    );
    let parked = concat!(
        r#"{"process":"p","instance":"order:7","parked_at":20,"#,
        r#""trigger":{"position":12,"part":3},"#,
    );
    let answers = [
        (StoredAnswer::Retry, r#""retry""#),
        (StoredAnswer::Skip, r#""skip""#),
        (StoredAnswer::Replace(vec![Action::End]), r#"{"replace":["end"]}"#),
    ];
    for (answer, stored) in answers {
        let ((process, instance), parked_at) = (names(), Position::new(20));
        let (who, why) = ("ada".to_owned(), "fixed".to_owned());
        assert_stored(
            &ReleaseRecord { process, instance, parked_at, trigger, answer, who, why },
            &format!(r#"{parked}"answer":{stored},"who":"ada","why":"fixed"}}"#),
        );
    }
}

#[test]
fn a_call_keeps_its_stored_form() {
    let call = Action::Call { gateway: "bank".into(), body: r#"{"cents":1}"#.into() };
    assert_stored(&call, r#"{"call":{"gateway":"bank","body":{"cents":1}}}"#);
}

#[test]
fn instances_and_timers_with_like_texts_are_told_apart() {
    let id = |instance: &str| InstanceId { process: "p".into(), instance: instance.into() };
    assert_ne!(id("a:1").timer("2"), id("a:12").timer(""));
    assert_ne!(id("a:1").timer_tag("2"), id("a:12").tag());
}
