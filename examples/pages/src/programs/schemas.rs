use diptych::{Event, testing::SchemaLock};

#[derive(Event)]
enum Shop {
    #[event("voucher-issued")]
    Issued { #[tag] voucher: String },
}

fn main() {
    SchemaLock::new("schemas.json").events([Shop::Issued { voucher: "A1".to_owned() }]).check();
}
