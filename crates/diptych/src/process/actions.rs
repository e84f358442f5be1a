//! The actions of a reaction.

use diptych_store::Timestamp;
use serde::{Deserialize, Serialize};

use super::gateway::Gateway;
use crate::command::Command;

/// The answer of a process to a trigger: a list of actions, in order.
#[derive(Clone, Debug, Default, PartialEq)]
#[must_use = "a reaction does nothing unless `react` returns it"]
pub struct Reactions {
    actions: Vec<Action>,
    /// Why an action cannot be stored.
    fault: Option<String>,
}

/// One action. It is stored as data, in the event of its reaction.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Action {
    /// Sends a command of the [catalogue](crate::catalogue).
    Send {
        /// The name of the command in the catalogue.
        command: String,
        /// The command as JSON.
        #[serde(with = "json_text")]
        body: String,
    },
    /// Calls a [gateway](super::Gateway).
    Call {
        /// The name of the gateway in the app.
        gateway: String,
        /// The call as JSON.
        #[serde(with = "json_text")]
        body: String,
    },
    /// Sets a timer. A pending timer of this name is set anew.
    SetTimer {
        /// The name of the timer in its instance.
        timer: String,
        /// The instant from which it fires.
        due: Timestamp,
    },
    /// Makes a call once the timer of this name has fired, in place of triggering the process. The
    /// timer is set by the action before it. Setting or cancelling the timer anew drops the call.
    Hold {
        /// The name of the timer.
        timer: String,
        /// The name of the gateway in the app.
        gateway: String,
        /// The call as JSON.
        #[serde(with = "json_text")]
        body: String,
    },
    /// Cancels a timer. It is no error if the timer is not pending.
    CancelTimer {
        /// The name of the timer in its instance.
        timer: String,
    },
    /// Ends the instance: its timers are cancelled, and it reacts no more.
    End,
}

impl Reactions {
    /// No action. The log gets no event for such a reaction.
    pub fn none() -> Reactions {
        Reactions::default()
    }

    /// Sends this command, under its name in the [catalogue](crate::catalogue) of the app. If the
    /// rule rejects it, or has nothing to do, the process gets
    /// [`Trigger::Settled`](super::Trigger::Settled).
    pub fn send<C: Command + Serialize>(mut self, name: &str, command: &C) -> Reactions {
        match serde_json::to_string(command) {
            Ok(body) => self.actions.push(Action::Send { command: name.to_owned(), body }),
            Err(error) => {
                let fault = format!("the command {name} cannot be written as JSON: {error}");
                self.fault.get_or_insert(fault);
            }
        }
        self
    }

    /// Calls this gateway, by the name under which the app has it. The process gets the answer, or
    /// the refusal, as [`Trigger::Settled`](super::Trigger::Settled).
    pub fn call<G: Gateway>(mut self, name: &str, call: &G::Call) -> Reactions {
        match serde_json::to_string(call) {
            Ok(body) => self.actions.push(Action::Call { gateway: name.to_owned(), body }),
            Err(error) => {
                let fault = format!("the call of {name} cannot be written as JSON: {error}");
                self.fault.get_or_insert(fault);
            }
        }
        self
    }

    /// Calls this gateway once the clock has reached `release`. Until then the call is held under
    /// the name of a timer: [`cancel_timer`](Reactions::cancel_timer) takes it back, another call
    /// under that name replaces it, and the end of the instance takes it back as well.
    ///
    /// The timer does not trigger the process. The answer comes as for
    /// [`call`](Reactions::call).
    pub fn call_at<G: Gateway>(
        mut self,
        timer: &str,
        release: Timestamp,
        name: &str,
        call: &G::Call,
    ) -> Reactions {
        match serde_json::to_string(call) {
            Ok(body) => {
                let (timer, gateway) = (timer.to_owned(), name.to_owned());
                self.actions.push(Action::SetTimer { timer: timer.clone(), due: release });
                self.actions.push(Action::Hold { timer, gateway, body });
            }
            Err(error) => {
                let fault = format!("the call of {name} cannot be written as JSON: {error}");
                self.fault.get_or_insert(fault);
            }
        }
        self
    }

    /// Sets a timer of the instance. It fires once the clock has reached `due`, or as soon as the
    /// program runs again after that. If a timer of this name is pending, it is set anew.
    pub fn set_timer(mut self, name: &str, due: Timestamp) -> Reactions {
        self.actions.push(Action::SetTimer { timer: name.to_owned(), due });
        self
    }

    /// Cancels a timer of the instance.
    pub fn cancel_timer(mut self, name: &str) -> Reactions {
        self.actions.push(Action::CancelTimer { timer: name.to_owned() });
        self
    }

    /// Ends the instance: its timers are cancelled, and later triggers get no reaction.
    pub fn end(mut self) -> Reactions {
        self.actions.push(Action::End);
        self
    }

    /// Adds the actions of another reaction behind these.
    pub fn and(mut self, other: Reactions) -> Reactions {
        self.actions.extend(other.actions);
        self.fault = self.fault.or(other.fault);
        self
    }

    /// These actions, in this order.
    pub fn of(actions: impl IntoIterator<Item = Action>) -> Reactions {
        Reactions { actions: actions.into_iter().collect(), fault: None }
    }

    /// The actions.
    pub fn actions(&self) -> &[Action] {
        &self.actions
    }

    /// # Errors
    /// The reason why an action cannot be stored.
    pub(crate) fn into_actions(self) -> Result<Vec<Action>, String> {
        match self.fault {
            Some(fault) => Err(fault),
            None => Ok(self.actions),
        }
    }
}

impl Action {
    /// Whether it is carried out beside the process: a command or a call.
    pub(super) fn leaves(&self) -> bool {
        matches!(self, Action::Send { .. } | Action::Call { .. })
    }

    /// The call as JSON, if it is one.
    pub(super) fn call(&self) -> Option<&str> {
        match self {
            Action::Call { body, .. } => Some(body),
            _ => None,
        }
    }
}

/// JSON that stands in other JSON, and is text in memory.
mod json_text {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};
    use serde_json::value::RawValue;

    pub(super) fn serialize<S: Serializer>(text: &str, serializer: S) -> Result<S::Ok, S::Error> {
        let raw: &RawValue = serde_json::from_str(text).map_err(ser::Error::custom)?;
        raw.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<String, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer).map_err(de::Error::custom)?;
        Ok(Box::<str>::from(raw).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actions_keep_their_stored_form() {
        let actions = [
            Action::Send {
                command: "pay".into(),
                body: r#"{"cents":18446744073709551615}"#.into(),
            },
            Action::SetTimer { timer: "pay-by".into(), due: Timestamp::from_micros(1) },
            Action::Hold { timer: "pay-by".into(), gateway: "mail".into(), body: "7".into() },
            Action::CancelTimer { timer: "pay-by".into() },
            Action::End,
        ];
        let stored = concat!(
            r#"[{"send":{"command":"pay","body":{"cents":18446744073709551615}}},"#,
            r#"{"set-timer":{"timer":"pay-by","due":"1970-01-01T00:00:00.000001Z"}},"#,
            r#"{"hold":{"timer":"pay-by","gateway":"mail","body":7}},"#,
            r#"{"cancel-timer":{"timer":"pay-by"}},"end"]"#,
        );
        assert_eq!(serde_json::to_string(&actions).unwrap(), stored);
        assert_eq!(serde_json::from_str::<Vec<Action>>(stored).unwrap(), actions);
    }
}
