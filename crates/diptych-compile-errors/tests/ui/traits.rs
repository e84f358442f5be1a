//! Types that lack the trait of their place.

use diptych::{App, Command, DecisionContext, Filter, Fold, Query, Recorded};

struct Plain;

#[derive(Default)]
struct NoEvents;

impl Fold for NoEvents {
    type Event = Plain;

    fn apply(&mut self, _: &Recorded<Plain>) {}
}

struct NoState;

impl Command for NoState {
    type State = Plain;
    type Event = Plain;
    type Rejection = std::convert::Infallible;

    fn boundary(&self) -> Filter {
        Filter::everything()
    }

    fn decide(&self, _: &Plain, _: &DecisionContext) -> Result<Vec<Plain>, Self::Rejection> {
        Ok(Vec::new())
    }
}

struct NoView;

impl Query for NoView {
    type View = Plain;
    type Answer = ();

    fn answer(&self, _: &Plain) {}
}

fn wrong(app: &App) {
    let _ = app.execute(Plain);
    let _ = app.query(Plain);
    let _ = App::over(Plain).view::<Plain>();
}

fn main() {}
