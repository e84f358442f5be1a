//! Execute: fold, decide, append; what the answers are.

use diptych::{App, ExecuteError, LogOptions, Memory};

use crate::bank::{No, deposit, open, withdraw};

#[tokio::test]
async fn a_command_writes_what_it_decides_and_a_rule_can_say_no() {
    let app = App::over(Memory::new()).start().await.unwrap();
    let receipt = app.execute(open("a")).await.unwrap();
    assert_eq!((receipt.first().get(), receipt.last().get()), (1, 1));
    app.execute(deposit("a", 100)).await.unwrap();
    app.execute(withdraw("a", 30)).await.unwrap();
    let refused = app.execute(withdraw("a", 71)).await.unwrap_err();
    let ExecuteError::Rejected(reason) = refused else { panic!("{refused}") };
    assert_eq!(reason, No::Overdrawn { balance: 70, amount: 71 });
    assert!(app.execute(deposit("a", 0)).await.unwrap().is_empty());
    let invalid = app.execute(deposit("a", 2_000_000)).await.unwrap_err();
    assert!(matches!(invalid, ExecuteError::Invalid(_)), "{invalid}");
    assert_eq!(app.store().head().position().get(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn quick() {
    let app = App::over(Memory::new()).start().await.unwrap();
    for i in 0..1000 { app.execute(open(&format!("x{i}"))).await.unwrap(); }
    let n = 200_000u32;
    let t = std::time::Instant::now();
    for i in 0..n { app.execute(deposit(&format!("x{}", i % 1000), 1)).await.unwrap(); }
    eprintln!("memory warm: {:?} per command", t.elapsed() / n);
    let t = std::time::Instant::now();
    for i in 0..n { app.execute(open(&format!("y{i}"))).await.unwrap(); }
    eprintln!("memory fresh: {:?} per command", t.elapsed() / n);
    eprintln!("{:?}", app.figures());

    let dir = tempfile::tempdir().unwrap();
    let app = App::open_with(dir.path(), LogOptions::default()).unwrap().start().await.unwrap();
    app.execute(open("hot")).await.unwrap();
    for tasks in [256] {
        let t = std::time::Instant::now();
        let each = 400;
        let handles: Vec<_> = (0..tasks).map(|_| { let app = app.clone(); tokio::spawn(async move {
            for _ in 0..each { app.execute(deposit("hot", 1)).await.unwrap(); } }) }).collect();
        for h in handles { h.await.unwrap(); }
        eprintln!("hot: {:.0}/s", (tasks * each) as f64 / t.elapsed().as_secs_f64());
        let t = std::time::Instant::now();
        let handles: Vec<_> = (0..tasks).map(|k| { let app = app.clone(); tokio::spawn(async move {
            for _ in 0..each { app.execute(open(&format!("z{k}-{}", fastrand_like()))).await.unwrap(); } }) }).collect();
        for h in handles { h.await.unwrap(); }
        eprintln!("spread fresh: {:.0}/s", (tasks * each) as f64 / t.elapsed().as_secs_f64());
    }
    let lane = app.lane();
    let n = 200_000;
    let t = std::time::Instant::now();
    let mut pending = std::collections::VecDeque::new();
    for _ in 0..n {
        pending.push_back(lane.execute(deposit("hot", 1)).submit().await);
        if pending.len() > 1024 { pending.pop_front().unwrap().await.unwrap(); }
    }
    for p in pending { p.await.unwrap(); }
    eprintln!("lane: {:.0}/s", n as f64 / t.elapsed().as_secs_f64());
    eprintln!("{:?}", app.figures());
    app.stop().await.unwrap();
}
fn fastrand_like() -> u64 { use std::sync::atomic::*; static N: AtomicU64 = AtomicU64::new(0); N.fetch_add(1, Ordering::Relaxed) }
