use std::{collections::BTreeMap, time::Duration};

use diptych::{Fold, Query, Recorded};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::events::Shed;

/// The board at the door: each tool, and its loan.
#[derive(Clone, Default)]
pub struct Board {
    tools: BTreeMap<String, Option<Loan>>,
}

#[derive(Clone)]
struct Loan {
    borrower: String,
    due: String,
}

impl Fold for Board {
    type Event = Shed;

    fn apply(&mut self, event: &Recorded<Shed>) {
        let (tool, loan) = match event.event.clone() {
            Shed::Added { tool } | Shed::Returned { tool, .. } => (tool, None),
            Shed::Lent { tool, member, days } => {
                let time = Duration::from_secs(u64::from(days) * 24 * 60 * 60);
                let due = event.occurred_at().saturating_add(time).to_string();
                (tool, Some(Loan { borrower: member, due }))
            }
        };
        self.tools.insert(tool, loan);
    }
}

/// A line of the board.
#[derive(Clone, PartialEq, Serialize, JsonSchema)]
pub struct Line {
    pub tool: String,
    pub borrower: Option<String>,
    pub due: Option<String>,
}

/// All tools, or those of one member.
#[derive(Deserialize, JsonSchema)]
pub struct Tools {
    pub member: Option<String>,
}

impl Query for Tools {
    type View = Board;
    type Answer = Vec<Line>;

    fn answer(&self, board: &Board) -> Vec<Line> {
        let lines = board.tools.iter().map(|(tool, loan)| Line {
            tool: tool.clone(),
            borrower: loan.as_ref().map(|loan| loan.borrower.clone()),
            due: loan.as_ref().map(|loan| loan.due.clone()),
        });
        lines.filter(|line| self.member.is_none() || self.member == line.borrower).collect()
    }
}
