use diptych::{
    Recorded,
    collaboration::{Feed, PublicEvent},
};
use serde::{Deserialize, Serialize};

use crate::events::Shed;

/// The shed tells this to others. The time of a loan is its own business.
#[derive(PublicEvent, Serialize, Deserialize)]
pub enum LoanNews {
    #[event("loan-begun")]
    Begun {
        #[tag]
        tool: String,
        member: String,
    },
    #[event("loan-ended")]
    Ended {
        #[tag]
        tool: String,
    },
}

/// The loans of the shed.
pub struct Loans;

impl Feed for Loans {
    const NAME: &'static str = "loans";
    type Private = Shed;
    type Public = LoanNews;

    fn publish(event: &Recorded<Shed>) -> impl IntoIterator<Item = LoanNews> {
        match event.event.clone() {
            Shed::Added { .. } => None,
            Shed::Lent { tool, member, .. } => Some(LoanNews::Begun { tool, member }),
            Shed::Returned { tool, .. } => Some(LoanNews::Ended { tool }),
        }
    }
}
