//! The payment provider: a program of its own that keeps its accounts in a file, and is as
//! unreliable as a provider can be. It charges again for each request that reaches it, so a charge
//! that is sent twice shows in its count.

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io::{BufRead, BufReader, Write},
    path::Path,
    process,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::{
    Router,
    body::Bytes,
    extract::{Path as UrlPath, State},
    http::{HeaderMap, StatusCode, header::RETRY_AFTER},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

/// The calls of its clients end before the provider answers late.
const LATE: Duration = Duration::from_millis(1_500);

/// Asks the payment provider for money.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Charge {
    /// The number of the order.
    pub order: u64,
    /// The price of all pieces.
    pub cents: u64,
    /// The price of one piece.
    pub cents_a_piece: u64,
}

/// Asks the payment provider to give the money of an order back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Refund {
    /// The number of the order.
    pub order: u64,
    /// The amount.
    pub cents: u64,
}

/// The provider's answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Receipt {
    /// The number of the receipt.
    pub receipt: String,
}

/// A line in the file of accounts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Entry {
    Charged { key: String, order: u64 },
    Refused { key: String, order: u64 },
    Refunded { key: String, order: u64 },
}

/// The number of entries for one order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Each takes the money once.
    pub charged: u32,
    /// The card was refused.
    pub refused: u32,
    /// Each gives the money back once.
    pub refunded: u32,
}

/// The entries of each order, counted.
///
/// # Errors
/// The error of the file.
pub fn counts(accounts: &Path) -> std::io::Result<BTreeMap<u64, Count>> {
    let mut counts = BTreeMap::<u64, Count>::new();
    for entry in entries(accounts)? {
        match entry {
            Entry::Charged { order, .. } => counts.entry(order).or_default().charged += 1,
            Entry::Refused { order, .. } => counts.entry(order).or_default().refused += 1,
            Entry::Refunded { order, .. } => counts.entry(order).or_default().refunded += 1,
        }
    }
    Ok(counts)
}

fn entries(accounts: &Path) -> std::io::Result<Vec<Entry>> {
    let Ok(file) = File::open(accounts) else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for line in BufReader::new(file).lines() {
        // A line that a kill cut short was never answered.
        found.extend(serde_json::from_str::<Entry>(&line?).ok());
    }
    Ok(found)
}

struct Accounts {
    file: File,
    entries: BTreeMap<String, Entry>,
    /// Keys of charges that are carried out now.
    open: Vec<String>,
    chance: fastrand::Rng,
}

impl Accounts {
    fn note(&mut self, key: &str, entry: Entry) {
        let line = serde_json::to_string(&entry).unwrap_or_default();
        let written = self.file.write_all(format!("{line}\n").as_bytes());
        // A provider that cannot keep its accounts ends.
        if written.and_then(|()| self.file.sync_data()).is_err() {
            process::exit(1);
        }
        self.open.retain(|open| open != key);
        self.entries.insert(key.to_owned(), entry);
    }
}

#[derive(Clone)]
struct Provider(Arc<Mutex<Accounts>>);

impl Provider {
    fn accounts(&self) -> MutexGuard<'_, Accounts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn charge(&self, key: &str, order: u64) -> Response {
        self.accounts().note(key, Entry::Charged { key: key.to_owned(), order });
        receipt(key)
    }
}

/// Runs the provider until it is killed, or dies by its own.
///
/// # Errors
/// The error of the file, or of the connection.
pub async fn run(listener: TcpListener, accounts: &Path, seed: u64) -> std::io::Result<()> {
    let known =
        entries(accounts)?.into_iter().map(|entry| {
            let (Entry::Charged { key, .. }
            | Entry::Refused { key, .. }
            | Entry::Refunded { key, .. }) = &entry;
            (key.clone(), entry.clone())
        });
    let known: BTreeMap<String, Entry> = known.collect();
    let mut file = OpenOptions::new().create(true).append(true).open(accounts)?;
    // Ends a line that was cut short.
    file.write_all(b"\n")?;
    // Each start has other luck, or the provider would die at the same request for ever.
    let chance = fastrand::Rng::with_seed(seed.wrapping_add(known.len() as u64));
    let accounts = Accounts { file, entries: known, open: Vec::new(), chance };
    let routes = Router::new()
        .route("/charges", post(charge))
        .route("/charges/{key}", get(find))
        .route("/refunds", post(refund))
        .with_state(Provider(Arc::new(Mutex::new(accounts))));
    axum::serve(listener, routes).await
}

async fn charge(State(provider): State<Provider>, headers: HeaderMap, body: Bytes) -> Response {
    let Ok(Charge { order, .. }) = serde_json::from_slice(&body) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let key = key_of(&headers);
    let luck = provider.accounts().chance.u32(..100);
    if order % 19 == 0 {
        provider.accounts().note(&key, Entry::Refused { key: key.clone(), order });
        return (StatusCode::PAYMENT_REQUIRED, "the card was refused").into_response();
    }
    match luck {
        0..8 => (StatusCode::TOO_MANY_REQUESTS, [(RETRY_AFTER, "1")]).into_response(),
        8..12 => StatusCode::SERVICE_UNAVAILABLE.into_response(),
        // It charges, and its answer is lost.
        12..20 => {
            provider.charge(&key, order);
            tokio::time::sleep(4 * LATE).await;
            StatusCode::GATEWAY_TIMEOUT.into_response()
        }
        // It charges after the caller has gone.
        20..26 => {
            provider.accounts().open.push(key.clone());
            let late = async move {
                tokio::time::sleep(LATE).await;
                provider.charge(&key, order)
            };
            tokio::spawn(late).await.unwrap_or_else(|_| StatusCode::BAD_GATEWAY.into_response())
        }
        // It charges, and dies before it answers.
        26 => {
            provider.charge(&key, order);
            process::exit(3)
        }
        _ => provider.charge(&key, order),
    }
}

/// Tells about an earlier charge. It has lost some of its papers.
async fn find(State(provider): State<Provider>, UrlPath(key): UrlPath<String>) -> Response {
    let accounts = provider.accounts();
    match accounts.entries.get(&key) {
        Some(Entry::Charged { order, .. }) if order % 3 == 0 => {
            (StatusCode::FORBIDDEN, "ask by telephone").into_response()
        }
        Some(Entry::Charged { .. }) => receipt(&key),
        Some(_) => StatusCode::FORBIDDEN.into_response(),
        None if accounts.open.contains(&key) => StatusCode::ACCEPTED.into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

/// Gives money back, once for each key.
async fn refund(State(provider): State<Provider>, headers: HeaderMap, body: Bytes) -> Response {
    let Ok(Refund { order, .. }) = serde_json::from_slice(&body) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let key = key_of(&headers);
    let mut accounts = provider.accounts();
    if !accounts.entries.contains_key(&key) {
        accounts.note(&key, Entry::Refunded { key: key.clone(), order });
    }
    // Its answers are lost now and then.
    match accounts.chance.u32(..10) {
        0 => StatusCode::BAD_GATEWAY.into_response(),
        _ => receipt(&key),
    }
}

fn key_of(headers: &HeaderMap) -> String {
    let key = headers.get("idempotency-key").and_then(|key| key.to_str().ok());
    key.unwrap_or_default().to_owned()
}

fn receipt(key: &str) -> Response {
    let receipt = Receipt { receipt: key.chars().rev().take(12).collect() };
    match serde_json::to_vec(&receipt) {
        Ok(body) => body.into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
