//! Commands that the rules refused. They show where the real data contradicts itself.

use std::collections::{BTreeMap, VecDeque};

use compact_str::CompactString;
use diptych::{Fold, Query, Recorded, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{events::Happening, ids::FlightId};

/// Number of refusals by rule and command, and the newest refusals.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Refusals {
    by_rule: BTreeMap<(CompactString, CompactString), u64>,
    /// The newest refusals, in order, at most [`Refusals::KEPT`].
    newest: VecDeque<RefusedCommand>,
}

impl Refusals {
    /// The number of refusals that the view keeps. The log has all refusals.
    pub const KEPT: usize = 1_000;

    /// The number of all refusals.
    pub fn total(&self) -> u64 {
        self.by_rule.values().sum()
    }
}

impl Fold for Refusals {
    type Event = Happening;

    fn apply(&mut self, event: &Recorded<Happening>) {
        let Happening::Refused(refused) = &event.event else { return };
        let rule = (refused.rule.clone(), refused.command.clone());
        *self.by_rule.entry(rule).or_default() += 1;
        if self.newest.len() == Refusals::KEPT {
            self.newest.pop_front();
        }
        self.newest.push_back(RefusedCommand {
            at: event.occurred_at(),
            flight: refused.flight,
            command: refused.command.clone(),
            rule: refused.rule.clone(),
            reason: refused.reason.clone(),
        });
    }

    fn heap_bytes(&self) -> Option<usize> {
        let reasons: usize = self.newest.iter().map(|refused| refused.reason.capacity()).sum();
        Some(self.newest.capacity() * size_of::<RefusedCommand>() + reasons)
    }
}

/// Number of refusals by rule and command, and the newest refusals.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RefusalsByRule {
    /// Number of newest refusals in the answer; 50 if absent.
    pub top: Option<u32>,
}

/// Number of refusals by rule and command, and the newest refusals.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct RefusalsAnswer {
    /// Number of all refusals.
    pub total: u64,
    /// Number of refusals by rule and command, the most frequent first.
    pub by_rule: Vec<CountOfRule>,
    /// The newest refusals, newest first.
    pub newest: Vec<RefusedCommand>,
}

/// The number of refusals of a command by a rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct CountOfRule {
    /// Name of the rule.
    #[schemars(with = "String")]
    pub rule: CompactString,
    /// Name of the command.
    #[schemars(with = "String")]
    pub command: CompactString,
    /// Number of refusals.
    pub count: u64,
}

/// A refused command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RefusedCommand {
    /// The time of the fact that the command reported.
    #[schemars(with = "String")]
    pub at: Timestamp,
    /// The flight of the command.
    pub flight: FlightId,
    /// Name of the command.
    #[schemars(with = "String")]
    pub command: CompactString,
    /// Name of the rule.
    #[schemars(with = "String")]
    pub rule: CompactString,
    /// The reason, for people.
    pub reason: String,
}

impl RefusalsByRule {
    const TOP: u32 = 50;
}

impl Query for RefusalsByRule {
    type View = Refusals;
    type Answer = RefusalsAnswer;

    fn answer(&self, view: &Refusals) -> RefusalsAnswer {
        let top = self.top.unwrap_or(RefusalsByRule::TOP) as usize;
        let counts = view.by_rule.iter().map(|((rule, command), count)| CountOfRule {
            rule: rule.clone(),
            command: command.clone(),
            count: *count,
        });
        let mut by_rule: Vec<_> = counts.collect();
        // The sort is stable, so equal counts stay in the order of their names.
        by_rule.sort_by_key(|of| std::cmp::Reverse(of.count));
        let newest = view.newest.iter().rev().take(top).cloned().collect();
        RefusalsAnswer { total: view.total(), by_rule, newest }
    }
}
