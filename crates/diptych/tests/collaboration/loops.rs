//! Two services that answer each other without end.

use std::error::Error;

use diptych::{
    App, Command, DecisionContext, Event, Memory, Recorded,
    catalogue::Catalogue,
    collaboration::{
        Feed, FeedError, FeedPage, FeedRead, FeedSource, ForeignEvent, Intake, IntakeStart,
        PublicEvent,
    },
    process::{Process, ProcessStart, ReactionContext, Reactions, Trigger},
};
use serde::{Deserialize, Serialize};

use super::services::{quick, until, write};

/// The language of both services.
#[derive(PublicEvent, Serialize, Deserialize)]
#[event("ball-hit")]
struct BallHit {
    #[tag]
    ball: u64,
}

#[derive(Clone, Debug, Event)]
pub(crate) enum Playing {
    #[event("own-hit")]
    Hit {
        #[tag]
        ball: u64,
    },
    #[event("their-hit")]
    TheirHit {
        #[tag]
        ball: u64,
    },
}

struct Hits;

impl Feed for Hits {
    const NAME: &'static str = "hits";
    type Private = Playing;
    type Public = BallHit;

    fn publish(event: &Recorded<Playing>) -> impl IntoIterator<Item = BallHit> {
        match event.event {
            Playing::Hit { ball } => Some(BallHit { ball }),
            Playing::TheirHit { .. } => None,
        }
    }
}

struct TheirHits;

impl Intake for TheirHits {
    const NAME: &'static str = "their-hits";
    type Public = BallHit;
    type Event = Playing;

    fn translate(
        event: &ForeignEvent<BallHit>,
    ) -> Result<Vec<Playing>, Box<dyn Error + Send + Sync>> {
        Ok(vec![Playing::TheirHit { ball: event.event.ball }])
    }
}

#[derive(Serialize, Deserialize)]
struct HitBack {
    ball: u64,
}

impl Command for HitBack {
    type State = ();
    type Event = Playing;
    type Rejection = std::convert::Infallible;

    fn boundary(&self) {}

    fn decide(&self, (): (), _: &DecisionContext) -> Result<Vec<Playing>, Self::Rejection> {
        Ok(vec![Playing::Hit { ball: self.ball }])
    }
}

/// Answers each hit of the other with one of its own.
#[derive(Default)]
struct Player;

impl Process for Player {
    type Event = Playing;
    const NAME: &'static str = "player";
    const TAG: &'static str = "ball";

    fn apply(&mut self, _: &Trigger<Playing>) {}

    fn react(&self, trigger: &Trigger<Playing>, _: &ReactionContext<'_>) -> Reactions {
        match trigger.event() {
            Some(Playing::TheirHit { ball }) => {
                Reactions::none().send("hit-back", &HitBack { ball: *ball })
            }
            _ => Reactions::none(),
        }
    }
}

/// The feed of an app that is started later.
#[derive(Clone, Default)]
pub(crate) struct Later(std::sync::Arc<std::sync::OnceLock<App>>);

impl Later {
    pub(crate) fn set(&self, app: &App) {
        self.0.set(app.clone()).unwrap();
    }
}

impl FeedSource for Later {
    fn name(&self) -> String {
        "hits of the other".to_owned()
    }

    async fn read(&self, read: FeedRead) -> Result<FeedPage, FeedError> {
        let away = FeedError::Unreachable { reason: "not started".to_owned() };
        let feed = self.0.get().and_then(|app| app.feed("hits"));
        feed.ok_or(away)?.page(read).await
    }
}

pub(crate) async fn player(other: Later) -> App {
    let commands = Catalogue::new().infallible_command::<HitBack>("hit-back");
    App::over(Memory::new())
        .catalogue(commands)
        .feed::<Hits>()
        .process::<Player>(ProcessStart::Beginning)
        .intake_with::<TheirHits>(other, IntakeStart::Beginning, quick())
        .start()
        .await
        .unwrap()
}

#[tokio::test]
async fn a_ping_pong_of_two_services_is_cut_and_both_are_named() {
    let (one, two) = (Later::default(), Later::default());
    let (first, second) = (player(two.clone()).await, player(one.clone()).await);
    one.set(&first);
    two.set(&second);
    write(&first, Playing::Hit { ball: 1 }).await;

    // The first event that came through more than 16 feeds arrives at the second service.
    until(&second, "their-hits", |status| status.waiting == 1).await;
    let letters = second.intake("their-hits").unwrap().letters().await.unwrap();
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].event.as_ref().unwrap().hops, 16);
    let reason = &letters[0].reason;
    for app in [&first, &second] {
        let name = format!("hits@{}", app.identity().id);
        assert!(reason.contains(&name), "{reason}");
    }
    assert!(first.intake("their-hits").unwrap().letters().await.unwrap().is_empty());
}
