//! The flow of one order as one tree, from the parts that the services know.
//!
//! Each service traces the flow in its own log. An event that an intake made names the event of the
//! other service that it came from, so the parts join there.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The part of a flow that happened in one service, in the order of its tree.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(crate) struct Part {
    pub(crate) correlation: String,
    pub(crate) steps: Vec<PartStep>,
    pub(crate) remarks: Vec<String>,
}

/// A step of a part. The cause of a step is the last one before it whose depth is smaller by one.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(crate) struct PartStep {
    depth: u32,
    /// The id of the event of another service that it came from.
    came_from: Option<String>,
    #[serde(flatten)]
    fields: Map<String, Value>,
}

/// A step of the whole flow, with its effects.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Node {
    service: &'static str,
    /// The event came from another service.
    is_foreign: bool,
    step: Map<String, Value>,
    effects: Vec<Node>,
}

/// Joins the parts. The roots are the begin of the flow, and then whatever came from an event that
/// no part has, because its service is away.
pub(crate) fn join(parts: Vec<(&'static str, Part)>) -> Vec<Node> {
    let (mut begins, mut foreign) = (Vec::new(), HashMap::<String, Vec<Node>>::new());
    let mut order = Vec::new();
    for (service, part) in parts {
        for (came_from, node) in forest(service, part.steps) {
            match came_from {
                None => begins.push(node),
                Some(id) => {
                    order.push(id.clone());
                    foreign.entry(id).or_default().push(node);
                }
            }
        }
    }
    for begin in &mut begins {
        attach(begin, &mut foreign);
    }
    // An order of their own keeps the roots that are left in place from one answer to the next.
    for id in order {
        for mut node in foreign.remove(&id).unwrap_or_default() {
            attach(&mut node, &mut foreign);
            begins.push(node);
        }
    }
    begins
}

/// The trees of one service, each with the event that its root came from.
fn forest(service: &'static str, steps: Vec<PartStep>) -> Vec<(Option<String>, Node)> {
    let (mut roots, mut open) = (Vec::new(), Vec::<(Option<String>, Node)>::new());
    for step in steps {
        let depth = usize::try_from(step.depth).unwrap_or(usize::MAX);
        close(&mut open, depth, &mut roots);
        let is_foreign = step.came_from.is_some();
        let node = Node { service, is_foreign, step: step.fields, effects: Vec::new() };
        open.push((step.came_from, node));
    }
    close(&mut open, 0, &mut roots);
    roots
}

/// Gives the deepest open nodes to their causes, until this many are open.
fn close<R>(open: &mut Vec<(R, Node)>, depth: usize, roots: &mut Vec<(R, Node)>) {
    while open.len() > depth {
        let Some((root, node)) = open.pop() else { return };
        match open.last_mut() {
            Some((_, cause)) => cause.effects.push(node),
            None => roots.push((root, node)),
        }
    }
}

/// Adds what other services made of the events of a tree.
fn attach(node: &mut Node, foreign: &mut HashMap<String, Vec<Node>>) {
    let id = node.step.get("id").and_then(Value::as_str);
    let came = id.and_then(|id| foreign.remove(id)).unwrap_or_default();
    node.effects.extend(came);
    for effect in &mut node.effects {
        attach(effect, foreign);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn part(steps: &Value) -> Part {
        serde_json::from_value(json!({ "correlation": "c", "remarks": [], "steps": steps }))
            .unwrap()
    }

    fn ordering() -> Part {
        part(&json!([
            { "depth": 0, "step": "event", "id": "o1" },
            { "depth": 0, "came_from": "p2", "step": "event", "id": "o2" },
        ]))
    }

    fn payment() -> Part {
        part(&json!([
            { "depth": 0, "came_from": "o1", "step": "event", "id": "p1" },
            { "depth": 1, "step": "reaction" },
            { "depth": 2, "step": "call" },
            { "depth": 3, "step": "event", "id": "p2" },
            { "depth": 2, "step": "timer" },
        ]))
    }

    /// The tree as text: a line for each step, indented by its depth.
    fn drawn(nodes: &[Node], depth: usize) -> String {
        let line = |node: &Node| {
            let name = node.step.get("id").unwrap_or(&node.step["step"]).as_str().unwrap();
            let below = drawn(&node.effects, depth + 1);
            format!("{}{} {name}\n{below}", "  ".repeat(depth), node.service)
        };
        nodes.iter().map(line).collect()
    }

    #[test]
    fn an_event_stands_below_the_event_of_the_other_service_that_it_came_from() {
        let tree = join(vec![("payment", payment()), ("ordering", ordering())]);
        let expected = "\
ordering o1
  payment p1
    payment reaction
      payment call
        payment p2
          ordering o2
      payment timer
";
        assert_eq!(drawn(&tree, 0), expected);
    }

    #[test]
    fn the_parts_of_the_others_are_shown_while_a_service_is_away() {
        let without_payment = join(vec![("ordering", ordering())]);
        assert_eq!(drawn(&without_payment, 0), "ordering o1\nordering o2\n");
        let without_ordering = join(vec![("payment", payment())]);
        assert!(drawn(&without_ordering, 0).starts_with("payment p1\n  payment reaction\n"));
        assert!(without_ordering[0].is_foreign);
    }

    #[test]
    fn a_service_that_names_a_cause_in_a_circle_does_not_hang_the_page() {
        let circle = part(&json!([
            { "depth": 0, "came_from": "b", "step": "event", "id": "a" },
            { "depth": 0, "came_from": "a", "step": "event", "id": "b" },
        ]));
        assert_eq!(drawn(&join(vec![("ordering", circle)]), 0), "ordering a\n  ordering b\n");
    }
}
