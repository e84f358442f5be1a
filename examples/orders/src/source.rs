//! Orders from flights: each flight of the file orders one thing.

use std::io::Read;

use flate2::read::GzDecoder;

const FLIGHTS: &[u8] = include_bytes!("../../flights/data/flights-2013-01.csv.gz");

/// One order of this many is for a product that is never delivered.
const SOLD_OUT: u64 = 12;

/// Index of a column of the file.
mod column {
    pub(super) const CARRIER: usize = 9;
    pub(super) const FLIGHT: usize = 10;
    pub(super) const DESTINATION: usize = 13;
    pub(super) const AIR_TIME: usize = 14;
    pub(super) const DISTANCE: usize = 15;
}

struct Row {
    customer: String,
    destination: String,
    pieces: u64,
    cents: u64,
}

/// An order of a customer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedOrder {
    /// The number of the order.
    pub order: u64,
    /// The carrier and the flight.
    pub customer: String,
    /// The name of the product.
    pub product: String,
    /// The number of pieces. A cancelled flight orders none.
    pub pieces: u64,
    /// The price of all pieces.
    pub cents: u64,
    /// The product is never delivered.
    pub is_sold_out: bool,
}

/// The orders that a seed makes of the flights.
pub struct Orders {
    rows: Vec<Row>,
    seed: u64,
}

impl Orders {
    /// Reads the flights.
    ///
    /// # Errors
    /// The first fault of the file.
    pub fn new(seed: u64) -> Result<Orders, csv::Error> {
        let mut text = String::new();
        GzDecoder::new(FLIGHTS).read_to_string(&mut text)?;
        let mut rows = Vec::new();
        for record in csv::Reader::from_reader(text.as_bytes()).records() {
            let record = record?;
            let field = |at| record.get(at).unwrap_or_default();
            let number = |at| field(at).parse::<u64>().ok();
            rows.push(Row {
                customer: format!("{} {}", field(column::CARRIER), field(column::FLIGHT)),
                destination: field(column::DESTINATION).to_owned(),
                // A cancelled flight has no time in the air, so its order has no piece.
                pieces: number(column::AIR_TIME).map_or(0, |minutes| 1 + minutes / 60),
                cents: number(column::DISTANCE).unwrap_or(1).saturating_mul(10),
            });
        }
        fastrand::Rng::with_seed(seed).shuffle(&mut rows);
        Ok(Orders { rows, seed })
    }

    /// The order with this number, which is counted from 1.
    pub fn order(&self, order: u64) -> Option<PlannedOrder> {
        let count = self.rows.len().max(1);
        let at = usize::try_from(order).unwrap_or(usize::MAX) % count;
        let Row { customer, destination, pieces, cents } = self.rows.get(at)?;
        let chance = fastrand::Rng::with_seed(self.seed.wrapping_add(order)).u64(..SOLD_OUT);
        let is_sold_out = chance == 0;
        let product = match is_sold_out {
            true => format!("old map of {destination}"),
            false => format!("map of {destination}"),
        };
        let (customer, pieces, cents) = (customer.clone(), *pieces, *cents);
        Some(PlannedOrder { order, customer, product, pieces, cents, is_sold_out })
    }
}
