use diptych_store::{LogIdentity, Position};
/// .
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Receipt {
    log: LogIdentity,
    first: Position,
    last: Position,
}
/// .
#[derive(Debug)]
pub struct ReceiptError;
impl Receipt {
    pub(crate) fn new(log: LogIdentity, first: Position, last: Position) -> Receipt {
        Receipt { log, first, last }
    }
    /// .
    pub fn first(&self) -> Position {
        self.first
    }
    /// .
    pub fn last(&self) -> Position {
        self.last
    }
    /// .
    pub fn is_empty(&self) -> bool {
        self.first > self.last
    }
    /// .
    pub fn log(&self) -> LogIdentity {
        self.log
    }
}
