//! Two types of one program may have one path: types in blocks of one function, or types of two
//! versions of a crate. Each type has its own snapshots.
//!
//! Regression: of two views, one started from the snapshot of the other. It answered 38 instead of
//! 741,000.

use std::sync::Arc;

use diptych::{
    App, AppBuilder, Event, Filter, Fold, Memory, Query, Recorded, StartError, Store, View,
    snapshot::{MemorySnapshots, SnapshotOptions, Snapshots},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::support::{counted_store::write_event, probe::look};

#[derive(Clone, Debug, PartialEq, Event, Serialize, Deserialize)]
#[event("paid-in")]
struct PaidIn {
    amount: u64,
}

/// Declares a fold with the name `Figure`. Other blocks declare other folds with that name.
macro_rules! figure {
    ($name:expr, $version:expr, $of:expr) => {
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
        struct Figure(u64);

        impl Fold for Figure {
            type Event = PaidIn;

            const NAME: Option<&'static str> = $name;
            const VERSION: Option<u32> = $version;

            fn apply(&mut self, paid: &Recorded<PaidIn>) {
                let of: fn(u64) -> u64 = $of;
                self.0 += of(paid.event.amount);
            }
        }

        impl Number for Figure {
            fn number(&self) -> u64 {
                self.0
            }
        }
    };
}

trait Number: View {
    fn number(&self) -> u64;
}

struct Ask<V>(std::marker::PhantomData<fn() -> V>);

impl<V: Number> Query for Ask<V> {
    type View = V;
    type Answer = u64;

    fn answer(&self, view: &V) -> u64 {
        view.number()
    }
}

struct Place {
    store: Store,
    snapshots: Arc<MemorySnapshots>,
}

impl Place {
    fn new() -> Place {
        let store = Store::new(Memory::new());
        for amount in 1..=40 {
            write_event(&store, PaidIn { amount }.encode().unwrap());
        }
        Place { store, snapshots: Arc::default() }
    }

    fn app(&self) -> AppBuilder {
        App::over_store(self.store.clone()).snapshots_in(self.snapshots.clone())
    }

    /// Returns the answer of a view that starts from a snapshot if one exists.
    async fn of_view<V: Number + Serialize + DeserializeOwned>(&self) -> u64 {
        let app = self.app().view::<V>().snapshots::<V>(SnapshotOptions::default());
        let app = app.start().await.unwrap();
        let answer = *app.query(Ask::<V>(std::marker::PhantomData)).strong().await.unwrap();
        app.stop().await.unwrap();
        answer
    }

    /// Returns the number of a decision state that starts from a snapshot if one exists.
    async fn of_state<V>(&self) -> u64
    where
        V: Number + std::fmt::Debug + Serialize + DeserializeOwned,
    {
        let options = SnapshotOptions::every(1);
        let app = self.app().snapshots::<V>(options).start().await.unwrap();
        let state = look::<V>(&app, &Filter::everything()).await.unwrap();
        app.stop().await.unwrap();
        state.number()
    }

    async fn both<V>(&self) -> (u64, u64)
    where
        V: Number + std::fmt::Debug + Serialize + DeserializeOwned,
    {
        (self.of_view::<V>().await, self.of_state::<V>().await)
    }
}

#[tokio::test]
async fn two_types_of_one_path_do_not_use_each_others_snapshots() {
    let place = Place::new();
    for _ in 0..2 {
        let sum = {
            figure!(None, None, |amount| amount);
            assert_eq!(place.both::<Figure>().await, (820, 820));
            std::any::type_name::<Figure>()
        };
        let count = {
            figure!(None, None, |_| 1);
            assert_eq!(place.both::<Figure>().await, (40, 40));
            std::any::type_name::<Figure>()
        };
        assert_eq!(sum, count, "the test needs two types of one path");
    }
}

/// With a version, snapshots are used across builds. Then only the path distinguishes types, unless
/// they have names.
#[tokio::test]
async fn types_of_one_path_with_different_names_have_their_own_snapshots() {
    let place = Place::new();
    for _ in 0..2 {
        {
            figure!(Some("sum"), Some(1), |amount| amount);
            assert_eq!(place.both::<Figure>().await, (820, 820));
        }
        figure!(Some("count"), Some(1), |_| 1);
        assert_eq!(place.both::<Figure>().await, (40, 40));
    }
    assert_eq!(place.snapshots.names("").unwrap().len(), 4);
}

#[tokio::test]
async fn two_types_of_one_name_in_one_app_are_an_error_at_start() {
    fn with<V: Number + Serialize + DeserializeOwned>(app: AppBuilder, view: bool) -> AppBuilder {
        match view {
            true => app.view::<V>().snapshots::<V>(SnapshotOptions::default()),
            false => app.snapshots::<V>(SnapshotOptions::default()),
        }
    }
    for view in [true, false] {
        for twice in [true, false] {
            let app = {
                figure!(None, Some(1), |amount| amount);
                let app = with::<Figure>(Place::new().app(), view);
                // Declaring one type twice is allowed for decision states.
                if view { app } else { with::<Figure>(app, view) }
            };
            let app = if twice {
                figure!(None, Some(1), |_| 1);
                with::<Figure>(app, view)
            } else {
                figure!(Some("count"), Some(1), |_| 1);
                with::<Figure>(app, view)
            };
            match app.start().await {
                Ok(_) => assert!(!twice),
                Err(error) => {
                    assert!(twice, "{error}");
                    assert!(matches!(error, StartError::SnapshotsAlike { .. }), "{error}");
                    let text = error.to_string();
                    assert!(text.contains("Figure") && text.contains("Fold::NAME"), "{text}");
                }
            }
        }
    }
}
