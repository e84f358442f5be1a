use std::{fs, io, time::Duration};

use diptych::process::{CallFailure, Gateway, Process, ReactionContext, Reactions, Trigger};
use serde::{Deserialize, Serialize};

use crate::events::Shed;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Reminds a member of a tool whose time is over.
#[derive(Default)]
pub struct Reminder {
    tool: String,
    borrower: Option<String>,
}

impl Process for Reminder {
    type Event = Shed;
    const NAME: &'static str = "reminder";
    const TAG: &'static str = "tool";

    fn apply(&mut self, trigger: &Trigger<Shed>) {
        match trigger.event() {
            Some(Shed::Lent { tool, member, .. }) => {
                self.tool = tool.clone();
                self.borrower = Some(member.clone());
            }
            Some(Shed::Returned { .. }) => self.borrower = None,
            _ => {}
        }
    }

    fn react(&self, trigger: &Trigger<Shed>, _: &ReactionContext<'_>) -> Reactions {
        match (trigger, &self.borrower) {
            (Trigger::Event(event), _) => match &event.event {
                Shed::Added { .. } => Reactions::none(),
                Shed::Lent { days, .. } => {
                    let due = event.recorded_at.saturating_add(DAY * *days);
                    Reactions::none().set_timer("due", due)
                }
                Shed::Returned { .. } => Reactions::none().cancel_timer("due"),
            },
            (Trigger::Timer(_), Some(member)) => {
                let letter = Letter { member: member.clone(), tool: self.tool.clone() };
                Reactions::none().call::<Letterbox>("letterbox", &letter)
            }
            _ => Reactions::none(),
        }
    }
}

/// A letter to a member.
#[derive(Serialize, Deserialize)]
pub struct Letter {
    pub member: String,
    pub tool: String,
}

/// Puts letters into the folder `letters`.
pub struct Letterbox;

impl Gateway for Letterbox {
    type Call = Letter;
    type Answer = ();

    async fn send(&self, letter: &Letter, _key: &str) -> Result<(), CallFailure> {
        let Letter { member, tool } = letter;
        write(
            &format!("letters/{member}-{tool}.txt"),
            &format!("{member}, bring the {tool} back.\n"),
        )
        .map_err(|error| CallFailure::NotSent { reason: error.to_string(), retry_after: None })
    }
}

fn write(path: &str, text: &str) -> io::Result<()> {
    fs::create_dir_all("letters")?;
    fs::write(path, text)
}

#[cfg(test)]
mod tests {
    use diptych::testing::given_process;

    use super::*;

    fn lent() -> Shed {
        Shed::Lent { tool: "drill".to_owned(), member: "ann".to_owned(), days: 3 }
    }

    #[test]
    fn a_member_gets_a_letter_when_the_time_is_over() {
        let letter = Letter { member: "ann".to_owned(), tool: "drill".to_owned() };
        given_process::<Reminder>()
            .and(lent())
            .when_time_passes(2 * DAY)
            .then_nothing()
            .when_time_passes(DAY)
            .then(Reactions::none().call::<Letterbox>("letterbox", &letter));
    }

    #[test]
    fn a_member_who_is_in_time_gets_no_letter() {
        let returned = Shed::Returned { tool: "drill".to_owned(), member: "ann".to_owned() };
        given_process::<Reminder>().and(lent()).and(returned).then_pending([]);
    }
}
