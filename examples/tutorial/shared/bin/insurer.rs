use std::{collections::BTreeMap, env, error::Error};

use diptych::{
    App, Event, Fold, Query, Recorded,
    collaboration::{ForeignEvent, Intake, IntakeStart, PublicEvent},
};
use diptych_gateways::HttpFeed;
use diptych_server::Server;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

/// The words of the shed, as far as the insurer needs them.
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

/// Everything that happens at the insurer.
#[derive(Clone, Event)]
pub enum Policy {
    #[event("cover-begun")]
    Begun {
        #[tag]
        tool: String,
        holder: String,
    },
    #[event("cover-ended")]
    Ended {
        #[tag]
        tool: String,
    },
}

/// Makes policies from the loans of the shed.
pub struct PoliciesOfLoans;

impl Intake for PoliciesOfLoans {
    const NAME: &'static str = "policies-of-loans";
    type Public = LoanNews;
    type Event = Policy;

    fn translate(
        news: &ForeignEvent<LoanNews>,
    ) -> Result<Vec<Policy>, Box<dyn Error + Send + Sync>> {
        Ok(vec![match &news.event {
            LoanNews::Begun { tool, member } => {
                Policy::Begun { tool: tool.clone(), holder: member.clone() }
            }
            LoanNews::Ended { tool } => Policy::Ended { tool: tool.clone() },
        }])
    }
}

/// Each tool that is covered now, with the holder.
#[derive(Clone, Default)]
pub struct Cover {
    tools: BTreeMap<String, String>,
}

impl Fold for Cover {
    type Event = Policy;

    fn apply(&mut self, event: &Recorded<Policy>) {
        match event.event.clone() {
            Policy::Begun { tool, holder } => drop(self.tools.insert(tool, holder)),
            Policy::Ended { tool } => drop(self.tools.remove(&tool)),
        }
    }
}

/// The tools that are covered now.
#[derive(Deserialize, JsonSchema)]
pub struct Covered {}

impl Query for Covered {
    type View = Cover;
    type Answer = BTreeMap<String, String>;

    fn answer(&self, cover: &Cover) -> BTreeMap<String, String> {
        cover.tools.clone()
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let shed = env::var("SHED").unwrap_or("http://127.0.0.1:8080".to_owned());
    let loans = HttpFeed::new(&format!("{shed}/feeds/loans"), HttpFeed::options())?;
    let app = App::open("insured")?
        .view::<Cover>()
        .intake::<PoliciesOfLoans>(loans, IntakeStart::Beginning)
        .start()
        .await?;
    let address = env::var("ADDRESS").unwrap_or("127.0.0.1:8081".to_owned());
    let listener = TcpListener::bind(&address).await?;
    println!("the insurer is open at http://{}", listener.local_addr()?);

    let until_ctrl_c = async { drop(tokio::signal::ctrl_c().await) };
    Server::new(app.clone()).query::<Covered>("covered").serve(listener, until_ctrl_c).await?;
    Ok(app.stop().await?)
}
