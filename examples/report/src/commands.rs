//! The left panel: an article can be sold while it is in stock.

use std::convert::Infallible;

use diptych::{Command, DecisionContext, Filter, Fold, Recorded, Tag};

use crate::Trade;

/// The stock of one article, for the rule.
#[derive(Default)]
pub(crate) struct Stock {
    pieces: u64,
}

impl Fold for Stock {
    type Event = Trade;

    fn apply(&mut self, event: &Recorded<Trade>) {
        match &event.event {
            Trade::Delivered { pieces, .. } => self.pieces += u64::from(*pieces),
            Trade::Sold { pieces, .. } => self.pieces -= u64::from(*pieces),
        }
    }
}

#[derive(Debug, PartialEq, thiserror::Error)]
#[error("there are {left} left")]
pub(crate) struct TooFew {
    pub(crate) left: u64,
}

pub(crate) struct Deliver {
    pub(crate) article: String,
    pub(crate) pieces: u32,
}

/// Every delivery is accepted.
impl Command for Deliver {
    type State = ();
    type Event = Trade;
    type Rejection = Infallible;

    fn boundary(&self) {}

    fn decide(&self, (): (), _: &DecisionContext) -> Result<Vec<Trade>, Infallible> {
        Ok(vec![Trade::Delivered { article: self.article.clone(), pieces: self.pieces }])
    }
}

pub(crate) struct Sell {
    pub(crate) article: String,
    pub(crate) month: u32,
    pub(crate) pieces: u32,
    pub(crate) cents: u64,
}

impl Command for Sell {
    type State = Stock;
    type Event = Trade;
    type Rejection = TooFew;

    fn boundary(&self) -> Filter {
        Filter::tag(Tag::new("article", &self.article))
    }

    fn decide(&self, stock: &Stock, _: &DecisionContext) -> Result<Vec<Trade>, TooFew> {
        let &Sell { month, pieces, cents, .. } = self;
        if stock.pieces < u64::from(pieces) {
            return Err(TooFew { left: stock.pieces });
        }
        Ok(vec![Trade::Sold { article: self.article.clone(), month, pieces, cents }])
    }
}
