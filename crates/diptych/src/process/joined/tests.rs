//! Trees that contradict each other are joined, too: an answer of a service is data of others.

use diptych_store::{Position, Timestamp};

use super::*;

/// An event of a log, which came from an event of another log.
fn event(position: u64, depth: u32, from: Option<(u128, u128)>) -> TraceStep {
    let origin = from.map(|(log, cause)| {
        let json = serde_json::json!({
            "feed": "hits", "log": Uuid::from_u128(log), "position": 1, "place": "1",
            "cause": Uuid::from_u128(cause), "hops": 1, "via": "",
        });
        serde_json::from_value(json).unwrap()
    });
    let kind = StepKind::Event {
        position: Position::new(position),
        id: Uuid::from_u128(position.into()),
        event_type: "hit".to_owned(),
        tags: Vec::new(),
        at: Timestamp::from_micros(0),
        actor: None,
        origin,
        published: Vec::new(),
    };
    TraceStep { depth, kind }
}

fn tree(log: u128, steps: Vec<TraceStep>) -> ServicePart {
    let (correlation, log) = (Uuid::nil(), Uuid::from_u128(log));
    ServicePart::Tree(Trace { correlation, log, steps, remarks: Vec::new() })
}

fn joined(parts: Vec<ServicePart>, options: &TraceOptions) -> Vec<(u32, String, bool)> {
    let names = ["a", "b", "c"].map(str::to_owned);
    let joined = join(Uuid::nil(), names.into_iter().zip(parts).collect(), options);
    let is_cut = |kind: &StepKind| matches!(kind, StepKind::Cut { .. });
    joined.steps.iter().map(|step| (step.depth, step.service.clone(), is_cut(&step.kind))).collect()
}

#[test]
fn events_that_name_each_other_as_causes_are_cut_where_they_begin_again() {
    // Event 11 of log 1 came from event 22 of log 2, and the other way round.
    let parts = || {
        vec![tree(1, vec![event(11, 0, Some((2, 22)))]), tree(2, vec![event(22, 0, Some((1, 11)))])]
    };
    let of = |depth, name: &str, is_cut| (depth, name.to_owned(), is_cut);
    let expected = [of(0, "a", false), of(1, "b", false), of(2, "a", true)];
    assert_eq!(joined(parts(), &TraceOptions::default()), expected);
    let names = ["a", "b"].map(str::to_owned);
    let joined =
        join(Uuid::nil(), names.into_iter().zip(parts()).collect(), &TraceOptions::default());
    let StepKind::Cut { feeds: 2, via } = &joined.steps[2].kind else { panic!("{joined}") };
    let logs = [1, 2].map(|log| format!("hits@{}", Uuid::from_u128(log)));
    assert_eq!(*via, logs);
    // An event that is its own cause.
    let own = vec![tree(1, vec![event(11, 0, Some((1, 11)))])];
    assert_eq!(joined_depths(own), [0, 1]);
}

fn joined_depths(parts: Vec<ServicePart>) -> Vec<u32> {
    joined(parts, &TraceOptions::default()).into_iter().map(|(depth, ..)| depth).collect()
}

#[test]
fn depths_that_leap_and_trees_without_a_root_lose_no_step() {
    let leaping = tree(1, vec![event(1, 7, None), event(2, 9, None), event(3, 1, None)]);
    assert_eq!(joined_depths(vec![leaping]), [0, 1, 1]);
}

#[test]
fn a_branch_is_cut_behind_the_allowed_feeds_and_its_rest_is_no_tree_of_its_own() {
    let chain = || {
        vec![
            tree(1, vec![event(1, 0, None)]),
            tree(2, vec![event(2, 0, Some((1, 1))), event(3, 1, None)]),
            tree(3, vec![event(4, 0, Some((2, 3))), event(5, 1, None)]),
        ]
    };
    assert_eq!(joined_depths(chain()), [0, 1, 2, 3, 4]);
    let options = TraceOptions { feeds: 1, ..TraceOptions::default() };
    let of = |depth, name: &str, is_cut| (depth, name.to_owned(), is_cut);
    let expected = [of(0, "a", false), of(1, "b", false), of(2, "b", false), of(3, "c", true)];
    assert_eq!(joined(chain(), &options), expected);
}
