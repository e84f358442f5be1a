//! One command for everything: it starts the members, drives orders through them, may kill members
//! meanwhile, and checks at the end what the logs say.

use std::{
    path::{Path, PathBuf},
    sync::atomic::Ordering::Relaxed,
    time::{Duration, Instant},
};

use clap::Parser;
use example_orders::{
    provider,
    source::{Orders, PlannedOrder},
};
use serde::de::DeserializeOwned;
use tokio::net::TcpListener;

use crate::{
    Failure,
    ask::{AskError, Asker},
    children::{Fleet, MemberInfo, accounts},
    member::ServiceState,
    ordering::{self, OrderCommand, OrderList},
    shipping::{self, ParcelCommand},
    verdict::{Evidence, ServiceEvidence},
    window::{self, Window},
};

/// After this time without kills each order is at its end, or in the work list.
const SETTLE: Duration = Duration::from_secs(120);
/// A member that starts alone answers within this time.
const START: Duration = Duration::from_secs(60);
/// How often a run asks for something that is to come.
const BEAT: Duration = Duration::from_millis(250);

/// A run of all members.
#[derive(Parser)]
pub(crate) struct RunArguments {
    /// The folder of the logs and of the provider's accounts; without it, a temporary one
    #[arg(long)]
    data: Option<PathBuf>,
    /// Number of orders
    #[arg(long, default_value_t = 200)]
    orders: u64,
    /// Number of orders that come in a second
    #[arg(long, default_value_t = 5.0)]
    rate: f64,
    /// The seed of the orders, of the provider's faults, and of the kills
    #[arg(long)]
    seed: Option<u64>,
    /// Kills members at random while the orders come
    #[arg(long)]
    kills: bool,
    /// The port of the page; 0 takes a free one
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// Keeps the members and the page until Ctrl-C, and tells the verdict then
    #[arg(long)]
    stay: bool,
}

/// The addresses of the services.
struct Urls {
    ordering: String,
    payment: String,
    shipping: String,
}

/// Runs everything, and prints the verdict.
///
/// # Errors
/// The faults that the verdict found, or the reason why the run did not work.
pub(crate) async fn run(arguments: &RunArguments) -> Result<(), Failure> {
    let seed = arguments.seed.unwrap_or_else(|| fastrand::u64(..1_000_000));
    println!("the seed is {seed}");
    if let Some(data) = &arguments.data {
        std::fs::create_dir_all(data)?;
        return run_in(data, seed, arguments).await;
    }
    let temporary = tempfile::tempdir()?;
    let ended = run_in(temporary.path(), seed, arguments).await;
    ended.map_err(|error| format!("{error}\nthe logs are in {}", temporary.keep().display()).into())
}

/// # Errors
/// As [`run`].
async fn run_in(data: &Path, seed: u64, arguments: &RunArguments) -> Result<(), Failure> {
    let mut fleet = Fleet::new(data, seed)?;
    let (asker, infos) = (Asker::new(), fleet.infos());
    let listener = TcpListener::bind(("127.0.0.1", arguments.port)).await?;
    println!("the page is at http://{}", listener.local_addr()?);
    let window = Window::new(asker.clone(), infos.clone())?;
    let page = tokio::spawn(window::serve(listener, window));

    let urls = Urls::of(&infos);
    let mut chance = fastrand::Rng::with_seed(seed);
    tokio::select! {
        driven = drive(&asker, &urls, seed, arguments) => driven?,
        ended = fleet.keep(arguments.kills.then_some(&mut chance)) => ended?,
    }
    let settled = tokio::select! {
        settled = settle(&asker, &urls, data) => settled,
        ended = fleet.keep(None) => ended.and_then(|()| Err("the members are gone".into())),
    }?;
    if arguments.stay {
        println!("all orders are settled; Ctrl-C ends the members and tells the verdict");
        tokio::select! {
            stopped = tokio::signal::ctrl_c() => stopped?,
            ended = fleet.keep(None) => ended?,
        }
    }
    let judged = judge(&asker, &urls, data, &mut fleet, &settled).await;
    fleet.kill_all().await;
    page.abort();

    if arguments.kills {
        println!("{}", kills(&infos));
    }
    for line in judged? {
        println!("{line}");
    }
    println!("verdict: passed");
    Ok(())
}

impl Urls {
    fn of(infos: &[MemberInfo]) -> Urls {
        let url = |name: &str| {
            let found = infos.iter().find(|info| info.name == name);
            found.map_or_else(String::new, |info| info.url.clone())
        };
        Urls { ordering: url("ordering"), payment: url("payment"), shipping: url("shipping") }
    }
}

fn kills(infos: &[MemberInfo]) -> String {
    let counts = infos.iter().map(|info| (info.name, info.kills.load(Relaxed)));
    let sum: u32 = counts.clone().map(|(_, count)| count).sum();
    let each: Vec<_> = counts.map(|(name, count)| format!("{name} {count}")).collect();
    format!("{sum} kills: {}", each.join(", "))
}

/// Places the orders and delivers goods, each at its time, whichever members are down.
///
/// # Errors
/// A rule rejects a command.
async fn drive(
    asker: &Asker,
    urls: &Urls,
    seed: u64,
    arguments: &RunArguments,
) -> Result<(), Failure> {
    let orders = Orders::new(seed)?;
    let known: OrderList =
        answer(asker, &format!("{}/queries/orders?limit=1", urls.ordering)).await?;
    let first = known.newest.first().map_or(1, |order| order.order + 1);
    let numbers = first..first.saturating_add(arguments.orders);
    let beat = Duration::from_secs_f64(1.0 / arguments.rate.clamp(0.01, 10_000.0));
    let place = async {
        let url = format!("{}/commands/{}", urls.ordering, ordering::COMMAND);
        let mut beat = tokio::time::interval(beat);
        for number in numbers.clone() {
            beat.tick().await;
            if let Some(planned) = orders.order(number) {
                let PlannedOrder { order, customer, product, pieces, cents, .. } = planned;
                let place = OrderCommand::Place { order, customer, product, pieces, cents };
                asker.command(&url, &format!("order-{number}"), &place).await?;
            }
        }
        Ok::<_, AskError>(())
    };
    let deliver = async {
        let url = format!("{}/commands/{}", urls.shipping, shipping::COMMAND);
        let mut beat = tokio::time::interval(beat);
        for number in numbers.clone() {
            beat.tick().await;
            if let Some(planned) = orders.order(number).filter(|planned| !planned.is_sold_out) {
                let goods = ParcelCommand::Deliver { product: planned.product, count: 1 };
                asker.command(&url, &format!("goods-{number}"), &goods).await?;
            }
        }
        Ok(())
    };
    tokio::try_join!(place, deliver)?;
    Ok(())
}

/// Waits until each order is at its end or in the work list.
///
/// # Errors
/// The faults that are left after a while.
async fn settle(asker: &Asker, urls: &Urls, data: &Path) -> Result<Evidence, Failure> {
    let until = Instant::now() + SETTLE;
    loop {
        let faults = match evidence(asker, urls, data).await {
            Ok(evidence) => match evidence.faults() {
                faults if faults.is_empty() => return Ok(evidence),
                faults => faults,
            },
            Err(error) => vec![error.to_string()],
        };
        if Instant::now() >= until {
            return Err(faults.join("\n").into());
        }
        tokio::time::sleep(BEAT).await;
    }
}

/// # Errors
/// A service does not answer.
async fn evidence(asker: &Asker, urls: &Urls, data: &Path) -> Result<Evidence, Failure> {
    Ok(Evidence {
        ordering: service(asker, &urls.ordering).await?,
        payment: service(asker, &urls.payment).await?,
        shipping: service(asker, &urls.shipping).await?,
        counts: provider::counts(&accounts(&data.join("provider")))?,
    })
}

async fn service<V: DeserializeOwned>(
    asker: &Asker,
    url: &str,
) -> Result<ServiceEvidence<V>, AskError> {
    let state: ServiceState<V> = asker.get(&format!("{url}/state")).await?;
    Ok(ServiceEvidence { state, work: asker.get(&format!("{url}/work")).await? })
}

/// Starts each service over its log while all other members are down, and checks what it says.
///
/// # Errors
/// The faults.
async fn judge(
    asker: &Asker,
    urls: &Urls,
    data: &Path,
    fleet: &mut Fleet,
    settled: &Evidence,
) -> Result<Vec<String>, Failure> {
    let ordering = alone(asker, fleet, "ordering", &urls.ordering, &settled.ordering).await?;
    let payment = alone(asker, fleet, "payment", &urls.payment, &settled.payment).await?;
    let shipping = alone(asker, fleet, "shipping", &urls.shipping, &settled.shipping).await?;
    let counts = provider::counts(&accounts(&data.join("provider")))?;
    let evidence = Evidence { ordering, payment, shipping, counts };
    let faults = evidence.faults();
    match faults.is_empty() {
        true => Ok(evidence.summary()),
        false => Err(faults.join("\n").into()),
    }
}

/// # Errors
/// The state that the service has alone differs from its state among the others.
async fn alone<V: DeserializeOwned>(
    asker: &Asker,
    fleet: &mut Fleet,
    name: &'static str,
    url: &str,
    before: &ServiceEvidence<V>,
) -> Result<ServiceEvidence<V>, Failure> {
    fleet.run_alone(name).await?;
    let at = before.state.position;
    let past: String = answer(asker, &format!("{url}/state/{at}")).await?;
    if past != before.state.view_digest {
        return Err(format!(
            "{name}: the fold of its log up to position {at} has the digest {past}, and the view \
             that was shown there had {}",
            before.state.view_digest
        )
        .into());
    }
    Ok(service(asker, url).await?)
}

/// The answer of a member that may be starting.
///
/// # Errors
/// It does not answer for a while.
async fn answer<T: DeserializeOwned>(asker: &Asker, url: &str) -> Result<T, AskError> {
    let until = Instant::now() + START;
    loop {
        match asker.get(url).await {
            Err(AskError::Away { .. }) if Instant::now() < until => {
                tokio::time::sleep(BEAT).await;
            }
            answer => return answer,
        }
    }
}
