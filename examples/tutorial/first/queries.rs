use std::collections::BTreeMap;

use diptych::{Fold, Query, Recorded};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::events::Shed;

/// The board at the door: each tool, and the member who has it.
#[derive(Clone, Default)]
pub struct Board {
    tools: BTreeMap<String, Option<String>>,
}

impl Fold for Board {
    type Event = Shed;

    fn apply(&mut self, event: &Recorded<Shed>) {
        let (tool, borrower) = match event.event.clone() {
            Shed::Added { tool } | Shed::Returned { tool, .. } => (tool, None),
            Shed::Lent { tool, member } => (tool, Some(member)),
        };
        self.tools.insert(tool, borrower);
    }
}

/// A line of the board.
#[derive(Clone, PartialEq, Serialize, JsonSchema)]
pub struct Line {
    pub tool: String,
    pub borrower: Option<String>,
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
        let lines = board
            .tools
            .iter()
            .map(|(tool, borrower)| Line { tool: tool.clone(), borrower: borrower.clone() });
        lines.filter(|line| self.member.is_none() || self.member == line.borrower).collect()
    }
}
