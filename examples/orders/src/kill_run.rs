//! The run that kills the application and the provider at random, and counts the money at the end.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use diptych::App;
use example_orders::{programs::Program, provider};

use crate::{
    Failure, application,
    children::ProviderProcess,
    shop::{AllOrders, Step},
    verdict,
};

/// After this time without kills each order is at its end, or in the work list.
const SETTLE: Duration = Duration::from_secs(120);

/// Kills for this time, and then checks each order.
///
/// # Errors
/// The faults of the orders, or the reason why the run did not work.
pub(crate) async fn run(
    folder: &Path,
    seed: u64,
    rate: f64,
    time: Duration,
) -> Result<String, Failure> {
    let (log, accounts) = (folder.join("log"), folder.join("accounts"));
    let mut provider = ProviderProcess::start(&accounts, seed)?;
    let mut chance = fastrand::Rng::with_seed(seed);
    let mut arguments = vec!["--part".to_owned(), "application".to_owned()];
    arguments.extend(["--folder".to_owned(), log.display().to_string()]);
    arguments.extend(["--provider".to_owned(), provider.address.clone()]);
    arguments.extend(["--seed".to_owned(), seed.to_string()]);
    arguments.extend(["--rate".to_owned(), rate.to_string()]);

    let (until, mut kills) = (Instant::now() + time, 0_u32);
    while Instant::now() < until {
        let mut application = Program::start(&arguments)?;
        let life = Duration::from_millis(chance.u64(100..3_000)).min(time / 2);
        tokio::select! {
            ended = application.child.wait() => {
                return Err(format!("the application ended by itself: {}", ended?).into());
            }
            ended = provider.keep() => ended?,
            () = tokio::time::sleep(life) => {}
        }
        application.child.kill().await?;
        kills += 1;
        if chance.u32(..3) == 0 {
            provider.kill().await?;
        }
    }

    let app = application::start(&log, &provider.address).await?;
    let settled = tokio::select! {
        settled = settle(&app, &accounts) => settled,
        ended = provider.keep() => match ended {
            Ok(()) => Err("the provider is gone".into()),
            Err(error) => Err(error),
        },
    };
    app.stop().await?;
    Ok(format!("{kills} kills; {}", settled?))
}

/// Waits until each order is at its end or in the work list, and tells the sums.
async fn settle(app: &App, accounts: &Path) -> Result<String, Failure> {
    let until = Instant::now() + SETTLE;
    loop {
        tokio::time::sleep(Duration::from_millis(250)).await;
        let listed = verdict::work_list(app).await?;
        let book = app.query(AllOrders).await?.value;
        let counts = provider::counts(accounts)?;
        let faults = verdict::faults(&book, &counts, &listed);
        let is_late = Instant::now() >= until;
        if !faults.is_empty() && is_late {
            return Err(faults.join("\n").into());
        }
        if !faults.is_empty() {
            continue;
        }
        if !verdict::view_is_fold(app).await? {
            return Err("the view differs from a fold of the log".into());
        }
        let is_at = |step| book.orders.values().filter(|order| order.step == step).count();
        let charged: u32 = counts.values().map(|count| count.charged).sum();
        return Ok(format!(
            "{} orders, {charged} charges, none twice; {} shipped, {} with the money back, \
             {} cancelled, {} in the work list; the view is the fold of the log",
            book.orders.len(),
            is_at(Step::Shipped),
            is_at(Step::Returned),
            is_at(Step::Cancelled),
            listed.len(),
        ));
    }
}
