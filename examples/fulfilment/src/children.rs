//! The members: this program again, in other parts, each as a process of the operating system.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use example_orders::programs::{Program, free_ports};

use crate::Failure;

/// How often the members are looked at.
const BEAT: Duration = Duration::from_millis(50);

/// A member, which runs or is about to run again.
struct Member {
    name: &'static str,
    arguments: Vec<String>,
    program: Option<Program>,
    /// When a member that is down starts again.
    due: Instant,
}

/// The name, the address and the kills of a member, for others.
#[derive(Clone)]
pub(crate) struct MemberInfo {
    pub(crate) name: &'static str,
    pub(crate) url: String,
    pub(crate) kills: Arc<AtomicU32>,
}

/// The names of the members, in the order of [`Fleet`].
pub(crate) const NAMES: [&str; 4] = ["ordering", "payment", "shipping", "provider"];

/// The file of accounts in the folder of the provider.
pub(crate) fn accounts(folder: &Path) -> PathBuf {
    folder.join("accounts")
}

/// The three services and the provider.
pub(crate) struct Fleet {
    members: Vec<Member>,
    infos: Vec<MemberInfo>,
}

impl Fleet {
    /// Plans the members: each has a folder below this one, and a free port of this machine.
    ///
    /// # Errors
    /// The error of the system.
    pub(crate) fn new(data: &Path, seed: u64) -> std::io::Result<Fleet> {
        let ports: [u16; NAMES.len()] = free_ports()?;
        let port = |of: &str| {
            let found = NAMES.iter().zip(ports).find(|(name, _)| **name == of);
            found.map_or(0, |(_, port)| port)
        };
        let url = |name: &str| format!("http://127.0.0.1:{}", port(name));
        let feed = |name: &str, feed: &str| format!("{}/feeds/{feed}", url(name));
        let options = |name: &str| match name {
            "ordering" => vec![
                ("--payments", feed("payment", "payments")),
                ("--parcels", feed("shipping", "parcels")),
            ],
            "payment" => {
                vec![("--orders", feed("ordering", "orders")), ("--provider", url("provider"))]
            }
            "shipping" => vec![
                ("--orders", feed("ordering", "orders")),
                ("--payments", feed("payment", "payments")),
            ],
            _ => vec![("--seed", seed.to_string())],
        };
        let mut fleet = Fleet { members: Vec::new(), infos: Vec::new() };
        for name in NAMES {
            let folder = data.join(name).display().to_string();
            let listen = format!("127.0.0.1:{}", port(name));
            let mut arguments = vec![name.to_owned(), "--with-parent".to_owned()];
            arguments.extend(["--data".to_owned(), folder, "--listen".to_owned(), listen]);
            for (option, value) in options(name) {
                arguments.extend([option.to_owned(), value]);
            }
            fleet.members.push(Member { name, arguments, program: None, due: Instant::now() });
            let kills = Arc::new(AtomicU32::new(0));
            fleet.infos.push(MemberInfo { name, url: url(name), kills });
        }
        Ok(fleet)
    }

    /// The members, as others see them.
    pub(crate) fn infos(&self) -> Vec<MemberInfo> {
        self.infos.clone()
    }

    /// Keeps all members running, until it is dropped. With `kills`, it kills one at random again
    /// and again, and lets it be down for a while.
    ///
    /// # Errors
    /// A service ended by itself.
    pub(crate) async fn keep(
        &mut self,
        mut kills: Option<&mut fastrand::Rng>,
    ) -> Result<(), Failure> {
        let mut next_kill = Instant::now() + Duration::from_secs(1);
        loop {
            let now = Instant::now();
            for member in &mut self.members {
                member.keep(now)?;
            }
            if let Some(chance) = kills.as_deref_mut()
                && now >= next_kill
            {
                let chosen = chance.usize(..self.members.len());
                let down = Duration::from_millis(chance.u64(..1_500));
                next_kill = now + Duration::from_millis(chance.u64(100..1_500));
                self.kill(chosen, down).await;
            }
            tokio::time::sleep(BEAT).await;
        }
    }

    async fn kill(&mut self, at: usize, down: Duration) {
        let (Some(member), Some(info)) = (self.members.get_mut(at), self.infos.get(at)) else {
            return;
        };
        if member.kill().await {
            info.kills.fetch_add(1, Relaxed);
        }
        member.due = Instant::now() + down;
    }

    /// Kills all members.
    pub(crate) async fn kill_all(&mut self) {
        for member in &mut self.members {
            member.kill().await;
        }
    }

    /// Runs one member while all others are down.
    ///
    /// # Errors
    /// The error of the system.
    pub(crate) async fn run_alone(&mut self, name: &str) -> std::io::Result<()> {
        self.kill_all().await;
        for member in self.members.iter_mut().filter(|member| member.name == name) {
            member.program = Some(Program::start(&member.arguments)?);
        }
        Ok(())
    }
}

impl Member {
    /// Starts it if it is down for long enough.
    ///
    /// # Errors
    /// It is a service, and ended by itself.
    fn keep(&mut self, now: Instant) -> Result<(), Failure> {
        if let Some(program) = &mut self.program
            && let Some(status) = program.child.try_wait()?
        {
            // The provider dies now and then, as it likes.
            if self.name != "provider" {
                return Err(format!("{} ended by itself: {status}", self.name).into());
            }
            self.program = None;
            self.due = now + Duration::from_millis(200);
        }
        if self.program.is_none() && now >= self.due {
            self.program = Some(Program::start(&self.arguments)?);
        }
        Ok(())
    }

    /// Returns whether it was running.
    async fn kill(&mut self) -> bool {
        match self.program.take() {
            // An error tells that it has ended.
            Some(mut program) => program.child.kill().await.is_ok(),
            None => false,
        }
    }
}
