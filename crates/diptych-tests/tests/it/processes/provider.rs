//! A provider of payments, as a file that outlives the programs that call it. Each effect is a line
//! with the key and the order.

use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    io::{ErrorKind, Write as _},
    path::PathBuf,
};

use diptych::process::{ActionRejection, CallFailure, Gateway, Reconciliation};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::fuse::{Fuse, Step};

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Charge {
    pub(crate) order: u64,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ChargeReceipt {
    pub(crate) receipt: String,
}

/// How a provider treats keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keys {
    /// A second call with a key is a second charge.
    Ignored,
    /// As before, and the provider can be asked about a key.
    Listed,
    /// A second call with a key charges nothing.
    Once,
}

#[derive(Clone, Debug)]
pub(crate) struct Provider {
    file: PathBuf,
    keys: Keys,
    fuse: Fuse,
}

impl Provider {
    pub(crate) fn new(file: PathBuf, keys: Keys, fuse: Fuse) -> Provider {
        Provider { file, keys, fuse }
    }

    /// The number of effects of each key and order.
    pub(crate) fn effects(&self) -> BTreeMap<(String, u64), u32> {
        let text = match fs::read_to_string(&self.file) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
            Err(error) => panic!("{error}"),
        };
        let mut effects = BTreeMap::new();
        for line in text.lines() {
            let (key, order) = line.split_once(' ').unwrap();
            *effects.entry((key.to_owned(), order.parse().unwrap())).or_insert(0) += 1;
        }
        effects
    }

    pub(crate) fn has(&self, key: &str) -> bool {
        self.effects().keys().any(|(known, _)| known == key)
    }

    /// The answer to a charge of this order.
    pub(crate) fn answer(order: u64) -> Value {
        serde_json::to_value(ChargeReceipt { receipt: format!("r{order}") }).unwrap()
    }
}

impl Gateway for Provider {
    type Call = Charge;
    type Answer = ChargeReceipt;

    async fn send(&self, call: &Charge, key: &str) -> Result<ChargeReceipt, CallFailure> {
        let order = call.order;
        self.fuse.reach(Step::Effect, false).await;
        if order % 5 == 1 {
            let refusal = ActionRejection::new("no cover", Value::Null);
            return Err(CallFailure::Refused(refusal));
        }
        if self.keys != Keys::Once || !self.has(key) {
            // One write of few bytes: lines of several programs do not mix.
            let mut file = OpenOptions::new().append(true).create(true).open(&self.file).unwrap();
            file.write_all(format!("{key} {order}\n").as_bytes()).unwrap();
        }
        self.fuse.reach(Step::Effect, true).await;
        Ok(ChargeReceipt { receipt: format!("r{order}") })
    }

    async fn reconcile(
        &self,
        call: &Charge,
        key: &str,
    ) -> Result<Reconciliation<ChargeReceipt>, CallFailure> {
        Ok(match (self.keys, self.has(key)) {
            (Keys::Ignored, _) => Reconciliation::Unknown,
            (_, true) => {
                Reconciliation::Done(ChargeReceipt { receipt: format!("r{}", call.order) })
            }
            (_, false) => Reconciliation::NotDone,
        })
    }
}
