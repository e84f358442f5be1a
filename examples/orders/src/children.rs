//! The programs that the example starts: itself, in other parts.

use std::{env, path::Path, process::Stdio, time::Duration};

use tokio::process::{Child, Command};

use crate::Failure;

/// A port that is free now.
///
/// # Errors
/// The error of the system.
pub(crate) fn free_port() -> std::io::Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Starts this program with other arguments. It is killed when the handle is dropped.
///
/// # Errors
/// The error of the system.
pub(crate) fn start(arguments: &[String]) -> std::io::Result<Child> {
    Command::new(env::current_exe()?)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
}

/// Ends this program once the one that started it has ended.
pub(crate) fn end_with_parent() {
    std::thread::spawn(|| {
        let _end = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        std::process::exit(0);
    });
}

/// The provider, which is started again each time that it dies.
pub(crate) struct ProviderProcess {
    arguments: Vec<String>,
    child: Child,
    pub(crate) address: String,
}

impl ProviderProcess {
    /// # Errors
    /// The error of the system.
    pub(crate) fn start(accounts: &Path, seed: u64) -> std::io::Result<ProviderProcess> {
        let port = free_port()?;
        let accounts = accounts.display().to_string();
        let arguments =
            ["--part", "provider", "--port", &port.to_string(), "--folder", &accounts, "--seed"];
        let mut arguments: Vec<_> = arguments.iter().map(ToString::to_string).collect();
        arguments.push(seed.to_string());
        let child = start(&arguments)?;
        Ok(ProviderProcess { arguments, child, address: format!("http://127.0.0.1:{port}") })
    }

    /// Waits until it ends, and starts it again, for ever.
    ///
    /// # Errors
    /// The error of the system.
    pub(crate) async fn keep(&mut self) -> Result<(), Failure> {
        loop {
            self.child.wait().await?;
            tokio::time::sleep(Duration::from_millis(200)).await;
            self.child = start(&self.arguments)?;
        }
    }

    /// Kills it, and starts it again.
    ///
    /// # Errors
    /// The error of the system.
    pub(crate) async fn kill(&mut self) -> Result<(), Failure> {
        self.child.kill().await?;
        self.child = start(&self.arguments)?;
        Ok(())
    }
}
