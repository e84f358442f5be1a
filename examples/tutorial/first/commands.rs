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
}

/// Lends a tool to a member.
#[derive(Serialize, Deserialize, JsonSchema)]
pub struct LendTool {
    pub tool: String,
    pub member: String,
}

impl Command for LendTool {
    type State = Tool;
    type Event = Shed;
    type Rejection = Refused;

    fn boundary(&self) -> Filter {
        Filter::tag(Tag::new("tool", &self.tool))
    }

    fn decide(&self, tool: &Tool, _: &DecisionContext) -> Result<Vec<Shed>, Refused> {
        if !tool.in_shed {
            return Err(Refused::NoSuchTool);
        }
        if let Some(borrower) = &tool.borrower {
            return Err(Refused::LentOut { borrower: borrower.clone() });
        }
        Ok(vec![Shed::Lent { tool: self.tool.clone(), member: self.member.clone() }])
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
    use diptych::testing::{given, nothing_given};

    use super::*;

    fn added(tool: &str) -> Shed {
        Shed::Added { tool: tool.to_owned() }
    }

    fn lent(tool: &str, member: &str) -> Shed {
        Shed::Lent { tool: tool.to_owned(), member: member.to_owned() }
    }

    fn lend(tool: &str, member: &str) -> LendTool {
        LendTool { tool: tool.to_owned(), member: member.to_owned() }
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
}
