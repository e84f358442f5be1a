use diptych::{App, Command, DecisionContext, Event, Filter, Fold, Recorded, Tag};

#[derive(Event, serde::Serialize, serde::Deserialize)]
#[event("seat-taken")]
struct Taken {
    #[tag]
    seat: String,
}

#[derive(Default)]
struct Seat(bool); // whether it is taken

impl Fold for Seat {
    type Event = Taken;
    fn apply(&mut self, _: &Recorded<Taken>) {
        self.0 = true;
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the seat is taken")]
struct IsTaken;

struct Take(String);

impl Command for Take {
    type State = Seat;
    type Event = Taken;
    type Rejection = IsTaken;
    fn boundary(&self) -> Filter {
        Filter::tag(Tag::new("seat", &self.0)) // the rule depends on the events of this seat
    }
    fn decide(&self, seat: &Seat, _: &DecisionContext) -> Result<Vec<Taken>, IsTaken> {
        if seat.0 { Err(IsTaken) } else { Ok(vec![Taken { seat: self.0.clone() }]) }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let app = App::open("data")?.start().await?; // the log is a folder
    let seat = std::env::args().nth(1).unwrap_or("12A".to_owned());
    match app.execute(Take(seat)).await {
        Ok(receipt) => println!("the seat is yours, by event {}", receipt.last()),
        Err(refused) => println!("{refused}"),
    }
    Ok(app.stop().await?)
}
