use std::collections::BTreeSet;

use diptych::{Command, DecisionContext, Filter, Fold, Recorded, Tag};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::events::Shed;

/// One tool, as far as the rules need to know it.
#[derive(Default)]
pub struct Tool {
    in_shed: bool,
    borrower: Option<String>,
}

impl Fold for Tool {
    type Event = Shed;

    fn apply(&mut self, event: &Recorded<Shed>) {
        match &event.event {
            Shed::Added { .. } => self.in_shed = true,
            Shed::Lent { member, .. } => self.borrower = Some(member.clone()),
            Shed::Returned { .. } => self.borrower = None,
        }
    }
}

/// The largest number of tools for one member.
const TOOLS_PER_MEMBER: usize = 2;

/// The tools that one member has.
#[derive(Default)]
pub struct Loans {
    tools: BTreeSet<String>,
}

impl Fold for Loans {
    type Event = Shed;

    fn apply(&mut self, event: &Recorded<Shed>) {
        match &event.event {
            Shed::Added { .. } => {}
            Shed::Lent { tool, .. } => drop(self.tools.insert(tool.clone())),
            Shed::Returned { tool, .. } => drop(self.tools.remove(tool)),
        }
    }
}

/// The reasons why a command is refused.
#[derive(Debug, PartialEq, thiserror::Error, Serialize, JsonSchema)]
#[serde(tag = "reason", rename_all = "kebab-case")]
pub enum Refused {
    #[error("the shed has this tool already")]
    AlreadyThere,
    #[error("the shed has no such tool")]
    NoSuchTool,
    #[error("{borrower} has the tool")]
    LentOut { borrower: String },
    #[error("the tool is in the shed")]
    NotLent,
    #[error("the member has {tools} tools, which is the most")]
    TooMany { tools: usize },
}

/// Lends a tool to a member.
#[derive(Serialize, Deserialize, JsonSchema)]
pub struct LendTool {
    pub tool: String,
    pub member: String,
    #[serde(default = "two_weeks")]
    pub days: u32,
}

/// The time of a loan whose client names none, as those of the first release do.
fn two_weeks() -> u32 {
    14
}

impl Command for LendTool {
    type State = (Tool, Loans);
    type Event = Shed;
    type Rejection = Refused;

    fn boundary(&self) -> (Filter, Filter) {
        let tool = Filter::tag(Tag::new("tool", &self.tool));
        let member = Filter::tag(Tag::new("member", &self.member));
        (tool, member)
    }

    fn decide(
        &self,
        (tool, loans): (&Tool, &Loans),
        _: &DecisionContext,
    ) -> Result<Vec<Shed>, Refused> {
        if !tool.in_shed {
            return Err(Refused::NoSuchTool);
        }
        if let Some(borrower) = &tool.borrower {
            return Err(Refused::LentOut { borrower: borrower.clone() });
        }
        if loans.tools.len() >= TOOLS_PER_MEMBER {
            return Err(Refused::TooMany { tools: loans.tools.len() });
        }
        let (tool, member) = (self.tool.clone(), self.member.clone());
        Ok(vec![Shed::Lent { tool, member, days: self.days }])
    }
}

/// Adds a tool to the shed.
#[derive(Serialize, Deserialize, JsonSchema)]
pub struct AddTool {
    pub tool: String,
}

impl Command for AddTool {
    type State = Tool;
    type Event = Shed;
    type Rejection = Refused;

    fn boundary(&self) -> Filter {
        Filter::tag(Tag::new("tool", &self.tool))
    }

    fn decide(&self, tool: &Tool, _: &DecisionContext) -> Result<Vec<Shed>, Refused> {
        if tool.in_shed {
            return Err(Refused::AlreadyThere);
        }
        Ok(vec![Shed::Added { tool: self.tool.clone() }])
    }
}

/// Takes a tool back.
#[derive(Serialize, Deserialize, JsonSchema)]
pub struct ReturnTool {
    pub tool: String,
}

impl Command for ReturnTool {
    type State = Tool;
    type Event = Shed;
    type Rejection = Refused;

    fn boundary(&self) -> Filter {
        Filter::tag(Tag::new("tool", &self.tool))
    }

    fn decide(&self, tool: &Tool, _: &DecisionContext) -> Result<Vec<Shed>, Refused> {
        let member = tool.borrower.clone().ok_or(Refused::NotLent)?;
        Ok(vec![Shed::Returned { tool: self.tool.clone(), member }])
    }
}

#[cfg(test)]
mod tests {
    use diptych::{
        store::RawEvent,
        testing::{given, nothing_given},
    };

    use super::*;
    use crate::events::upcasters;

    fn added(tool: &str) -> Shed {
        Shed::Added { tool: tool.to_owned() }
    }

    fn lent(tool: &str, member: &str) -> Shed {
        Shed::Lent { tool: tool.to_owned(), member: member.to_owned(), days: 14 }
    }

    fn lend(tool: &str, member: &str) -> LendTool {
        LendTool { tool: tool.to_owned(), member: member.to_owned(), days: 14 }
    }

    #[test]
    fn a_tool_in_the_shed_is_lent() {
        given([added("drill")]).when(lend("drill", "ann")).then([lent("drill", "ann")]);
    }

    #[test]
    fn a_tool_is_lent_to_one_member_at_a_time() {
        let refused = Refused::LentOut { borrower: "ann".to_owned() };
        given([added("drill"), lent("drill", "ann")])
            .when(lend("drill", "ben"))
            .then_rejected(refused);
    }

    #[test]
    fn a_returned_tool_is_lent_again() {
        given([added("drill"), lent("drill", "ann")])
            .when(ReturnTool { tool: "drill".to_owned() })
            .then([Shed::Returned { tool: "drill".to_owned(), member: "ann".to_owned() }])
            .when(lend("drill", "ben"))
            .then([lent("drill", "ben")]);
    }

    #[test]
    fn an_unknown_tool_is_not_lent() {
        nothing_given().when(lend("drill", "ann")).then_rejected(Refused::NoSuchTool);
    }

    #[test]
    fn a_member_has_at_most_two_tools() {
        given(["drill", "saw", "level"].map(added))
            .and([lent("drill", "ann"), lent("saw", "ann")])
            .when(lend("level", "ann"))
            .then_rejected(Refused::TooMany { tools: 2 })
            .when(lend("level", "ben"))
            .then([lent("level", "ben")]);
    }

    #[test]
    fn a_loan_of_the_first_release_counts() {
        let drill = RawEvent::new("tool-lent", *br#"{"tool":"drill","member":"ann"}"#);
        let drill = drill.tag(Tag::new("tool", "drill")).tag(Tag::new("member", "ann"));
        let refused = Refused::LentOut { borrower: "ann".to_owned() };
        given([added("drill")])
            .upcasters(upcasters())
            .and_stored(drill)
            .when(lend("drill", "ben"))
            .then_rejected(refused);
    }
}
