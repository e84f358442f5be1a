//! A new release comes while instances of the old one wait for timers, calls and operators, and
//! while actions of the old one are not carried out. An instance has no code that is replayed: its
//! actions are data.

use std::{collections::BTreeMap, time::Duration};

use diptych::{
    App, AppBuilder, Memory, Store, Upcasters,
    catalogue::Catalogue,
    process::{CallsFrom, LetterAnswer, ProcessStart},
    testing::{Clock, StubGateway},
};
use serde::{Deserialize, Serialize};

use super::{
    fuse::{Death, Fuse, Step, mortal_store},
    shop::{events, idle, policy, quick, until},
};

#[derive(Debug, Serialize, Deserialize)]
struct Weigh {
    parcel: u64,
}

type Scales = StubGateway<Weigh, u64>;

const PARCELS: u64 = 40;
const HOUR: Duration = Duration::from_secs(3_600);

/// The first release. The number of a parcel, modulo 4, says for what it waits: a timer, a call, an
/// operator, or a program that carries out its command.
mod first {
    use diptych::{
        Command, DecisionContext, Event, Filter, Fold, Recorded, Tag,
        process::{Process, ReactionContext, Reactions, Trigger},
    };
    use serde::{Deserialize, Serialize};

    use super::{HOUR, Scales, Weigh};

    #[derive(Clone, Debug, PartialEq, Event)]
    pub(super) enum Parcel {
        #[event("parcel-sent")]
        Sent {
            #[tag]
            parcel: u64,
        },
        #[event("parcel-done")]
        Done {
            #[tag]
            parcel: u64,
            by: String,
        },
    }

    #[derive(Serialize, Deserialize)]
    pub(super) struct Send {
        pub(super) parcel: u64,
    }

    #[derive(Serialize, Deserialize)]
    pub(super) struct Finish {
        pub(super) parcel: u64,
        pub(super) by: String,
    }

    #[derive(Default)]
    pub(super) struct NoParcel;

    impl Fold for NoParcel {
        type Event = Parcel;

        fn apply(&mut self, _: &Recorded<Parcel>) {}
    }

    impl Command for Send {
        type State = NoParcel;
        type Event = Parcel;
        type Rejection = std::convert::Infallible;

        fn boundary(&self) -> Filter {
            Filter::tag(Tag::new("parcel", self.parcel))
        }

        fn decide(
            &self,
            _: &NoParcel,
            _: &DecisionContext,
        ) -> Result<Vec<Parcel>, Self::Rejection> {
            Ok(vec![Parcel::Sent { parcel: self.parcel }])
        }
    }

    impl Command for Finish {
        type State = NoParcel;
        type Event = Parcel;
        type Rejection = std::convert::Infallible;

        fn boundary(&self) -> Filter {
            Filter::tag(Tag::new("parcel", self.parcel))
        }

        fn decide(
            &self,
            _: &NoParcel,
            _: &DecisionContext,
        ) -> Result<Vec<Parcel>, Self::Rejection> {
            Ok(vec![Parcel::Done { parcel: self.parcel, by: self.by.clone() }])
        }
    }

    #[derive(Default)]
    pub(super) struct Courier {
        parcel: u64,
    }

    impl Process for Courier {
        type Event = Parcel;
        const NAME: &'static str = "courier";
        const TAG: &'static str = "parcel";

        fn apply(&mut self, trigger: &Trigger<Parcel>) {
            if let Some(Parcel::Sent { parcel }) = trigger.event() {
                self.parcel = *parcel;
            }
        }

        fn react(&self, trigger: &Trigger<Parcel>, cx: &ReactionContext<'_>) -> Reactions {
            let parcel = self.parcel;
            let finish = |by: &str| Finish { parcel, by: by.to_owned() };
            match trigger {
                Trigger::Event(event) => match (&event.event, parcel % 4) {
                    (Parcel::Done { .. }, _) => Reactions::none().end(),
                    (_, 0) => Reactions::none().set_timer("late", cx.now().saturating_add(HOUR)),
                    (_, 1) => Reactions::none().call::<Scales>("scales", &Weigh { parcel }),
                    (_, 2) => panic!("the first release has a mistake"),
                    _ => Reactions::none().send("finish", &finish("the first release")),
                },
                Trigger::Timer(_) => Reactions::none().send("finish", &finish("a first timer")),
                _ => Reactions::none().send("finish", &finish("a first answer")),
            }
        }
    }
}

/// The second release: `parcel-sent` is called `parcel-handed-over`, a command has a field more,
/// and the process reacts otherwise. It has a gateway that the first one did not know.
mod second {
    use diptych::{
        Command, DecisionContext, Event, Filter, Fold, Recorded, Tag,
        process::{Process, ReactionContext, Reactions, Trigger},
    };
    use serde::{Deserialize, Serialize};

    use super::{Scales, Weigh};

    #[derive(Clone, Debug, PartialEq, Event)]
    pub(super) enum Parcel {
        #[event("parcel-handed-over")]
        HandedOver {
            #[tag]
            parcel: u64,
        },
        #[event("parcel-done")]
        Done {
            #[tag]
            parcel: u64,
            by: String,
        },
    }

    #[derive(Serialize, Deserialize)]
    pub(super) struct Finish {
        parcel: u64,
        by: String,
        #[serde(default)]
        is_urgent: bool,
    }

    #[derive(Default)]
    pub(super) struct Ends(u32);

    impl Fold for Ends {
        type Event = Parcel;

        fn apply(&mut self, event: &Recorded<Parcel>) {
            self.0 += u32::from(matches!(event.event, Parcel::Done { .. }));
        }
    }

    impl Command for Finish {
        type State = Ends;
        type Event = Parcel;
        type Rejection = std::convert::Infallible;

        fn boundary(&self) -> Filter {
            Filter::tag(Tag::new("parcel", self.parcel))
        }

        fn decide(&self, ends: &Ends, _: &DecisionContext) -> Result<Vec<Parcel>, Self::Rejection> {
            let urgently = if self.is_urgent { ", urgently" } else { "" };
            let by = format!("{}{urgently}, end {}", self.by, ends.0 + 1);
            Ok(vec![Parcel::Done { parcel: self.parcel, by }])
        }
    }

    #[derive(Default)]
    pub(super) struct Courier {
        number: u64,
        answers: u32,
    }

    impl Process for Courier {
        type Event = Parcel;
        const NAME: &'static str = "courier";
        const TAG: &'static str = "parcel";

        fn apply(&mut self, trigger: &Trigger<Parcel>) {
            match trigger {
                Trigger::Settled(_) => self.answers += 1,
                other => {
                    if let Some(Parcel::HandedOver { parcel }) = other.event() {
                        self.number = *parcel;
                    }
                }
            }
        }

        fn react(&self, trigger: &Trigger<Parcel>, _: &ReactionContext<'_>) -> Reactions {
            let finish = |by: String| Finish { parcel: self.number, by, is_urgent: true };
            match trigger {
                Trigger::Event(event) => match &event.event {
                    Parcel::Done { .. } => Reactions::none().end(),
                    Parcel::HandedOver { parcel } => {
                        Reactions::none().call::<Scales>("labels", &Weigh { parcel: *parcel })
                    }
                },
                Trigger::Timer(_) => {
                    Reactions::none().send("finish", &finish("a second timer".to_owned()))
                }
                Trigger::Settled(settled) => {
                    let by = format!("answer {} of {}", self.answers, settled.name);
                    Reactions::none().send("finish", &finish(by))
                }
                _ => Reactions::none(),
            }
        }
    }
}

fn scales() -> Scales {
    StubGateway::answering(|call: &Weigh| call.parcel * 10).once_for_each_key()
}

fn over(store: Store, clock: &Clock, scales: &Scales) -> AppBuilder {
    let clock = clock.clone();
    App::over_store(store).clock(move || clock.now()).gateway(
        "scales",
        scales.clone(),
        CallsFrom::Beginning,
        policy().idempotent(),
    )
}

/// The ends of each parcel.
async fn ends(store: &Store) -> BTreeMap<u64, Vec<String>> {
    let mut ends: BTreeMap<u64, Vec<String>> = BTreeMap::new();
    for (_, event) in events(store, &["parcel-done"]).await {
        let payload: serde_json::Value = serde_json::from_slice(&event.payload).unwrap();
        let by = payload["by"].as_str().unwrap().to_owned();
        ends.entry(payload["parcel"].as_u64().unwrap()).or_default().push(by);
    }
    ends
}

async fn reacted(store: &Store) -> usize {
    events(store, &["diptych:process-reacted"]).await.len()
}

/// The first release. It dies when its first command is to be committed.
async fn first_release(store: &Store, clock: &Clock, scales: &Scales) -> (App, Fuse) {
    let fuse = Fuse::new(Some(((Step::Command, false), 1)), Death::Stands);
    let mortal = Store::new(mortal_store(store.clone(), fuse.clone()));
    let catalogue = Catalogue::new().infallible_command::<first::Finish>("finish");
    let mut options = quick();
    options.reactions_per_commit = 1;
    let app = over(mortal, clock, scales).catalogue(catalogue);
    let app = app.process_with::<first::Courier>(ProcessStart::Beginning, options);
    (app.start().await.unwrap(), fuse)
}

#[tokio::test]
async fn every_instance_in_flight_ends_by_the_next_release_and_old_actions_stay_as_stored() {
    let (store, clock, scales) = (Store::new(Memory::new()), Clock::new(), scales());
    let waiting = PARCELS as usize / 4;
    (0..waiting).for_each(|_| scales.die_after_effect());
    let (app, fuse) = first_release(&store, &clock, &scales).await;
    let client = App::over_store(store.clone()).start().await.unwrap();
    for parcel in (0..PARCELS).filter(|parcel| parcel % 4 != 3) {
        client.execute(first::Send { parcel }).await.unwrap();
    }
    let control = app.process("courier").unwrap();
    until("all calls have left, and letters wait", || async {
        let letters = events(&store, &["diptych:process-parked"]).await.len();
        scales.calls() as usize == waiting
            && letters == waiting
            && reacted(&store).await == waiting * 2
    })
    .await;
    for parcel in (0..PARCELS).filter(|parcel| parcel % 4 == 3) {
        client.execute(first::Send { parcel }).await.unwrap();
    }
    fuse.died().await;
    drop((control, app));
    let by_first = reacted(&store).await - waiting * 2;
    assert!(by_first > 0 && ends(&store).await.is_empty(), "{by_first}");

    // The second release.
    let labels = self::scales();
    let upcasters = Upcasters::new().rename("parcel-sent", "parcel-handed-over");
    let catalogue = Catalogue::new().infallible_command::<second::Finish>("finish");
    let app = over(store.clone(), &clock, &scales).upcasters(upcasters).catalogue(catalogue);
    let app = app.gateway("labels", labels.clone(), CallsFrom::Beginning, policy().idempotent());
    let app = app.process_with::<second::Courier>(ProcessStart::Beginning, quick());
    let app = app.start().await.unwrap();
    idle(&app).await;
    clock.advance(HOUR);
    let control = app.process("courier").unwrap();
    let letters = control.letters().await.unwrap();
    assert_eq!(letters.len(), waiting, "the letters of the first release");
    for letter in &letters {
        assert!(letter.reason.contains("the first release has a mistake"), "{}", letter.reason);
        control.answer(letter, LetterAnswer::Retry, "ann", "corrected").await.unwrap();
    }
    until("every parcel is done", || async { ends(&store).await.len() as u64 == PARCELS }).await;
    idle(&app).await;

    let mut stored = 0;
    for (parcel, by) in ends(&store).await {
        let expected = match parcel % 4 {
            0 => "a second timer, urgently, end 1",
            1 => "answer 1 of scales, urgently, end 1",
            3 if by == ["the first release, end 1"] => {
                stored += 1;
                continue;
            }
            _ => "answer 1 of labels, urgently, end 1",
        };
        assert_eq!(by, [expected], "parcel {parcel}");
    }
    assert_eq!(stored, by_first, "stored commands are those of the first release");
    let effects = scales.effects();
    assert_eq!((effects.len(), scales.calls() as usize), (waiting, waiting * 2));
    assert!(effects.values().all(|effects| *effects == 1), "the keys stay: {effects:?}");
    assert_eq!(labels.effects().len(), waiting * 2 - by_first);
    app.stop().await.unwrap();
    client.stop().await.unwrap();
}
