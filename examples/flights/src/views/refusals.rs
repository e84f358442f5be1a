//! What the rules refused. Real data is dirty; here is where.

use std::collections::{BTreeMap, VecDeque};

use compact_str::CompactString;
use diptych::{Fold, Query, Recorded, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{events::Happening, ids::FlightId};

/// How often which rule refused which command, and the newest of those.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Refusals {
    by_rule: BTreeMap<(CompactString, CompactString), u64>,
    /// The newest last, [`Refusals::KEPT`] at most.
    newest: VecDeque<RefusedCommand>,
}

impl Refusals {
    /// How many are shown at most: the log has them all.
    pub const KEPT: usize = 1_000;

    /// How many there were.
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

/// What was refused, by rule and command.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RefusalsByRule {
    /// How many of the newest are listed; 50 if nothing is said.
    pub top: Option<u32>,
}

/// What was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct RefusalsAnswer {
    /// How many commands.
    pub total: u64,
    /// The same by rule and command, the most frequent first.
    pub by_rule: Vec<CountOfRule>,
    /// The newest first.
    pub newest: Vec<RefusedCommand>,
}

/// How often a rule refused a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct CountOfRule {
    /// The rule.
    #[schemars(with = "String")]
    pub rule: CompactString,
    /// The command.
    #[schemars(with = "String")]
    pub command: CompactString,
    /// How often.
    pub count: u64,
}

/// A command that was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RefusedCommand {
    /// When what it says would have been so.
    #[schemars(with = "String")]
    pub at: Timestamp,
    /// The flight that it was about.
    pub flight: FlightId,
    /// The command.
    #[schemars(with = "String")]
    pub command: CompactString,
    /// The rule.
    #[schemars(with = "String")]
    pub rule: CompactString,
    /// Why, for people.
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
        // Those of one count stay in order of their names.
        by_rule.sort_by_key(|of| std::cmp::Reverse(of.count));
        let newest = view.newest.iter().rev().take(top).cloned().collect();
        RefusalsAnswer { total: view.total(), by_rule, newest }
    }
}
