//! The programs that the example starts: itself, in other parts.

use std::{env, path::Path, process::Stdio, time::Duration};

use tokio::process::{Child, ChildStdin, Command};

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
pub(crate) fn start(arguments: &[String]) -> std::io::Result<Program> {
    let mut child = Command::new(env::current_exe()?)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    // A wait closes the input of a child that still has it, and would so end the child.
    let input = child.stdin.take();
    Ok(Program { child, _input: input })
}

/// A running child.
pub(crate) struct Program {
    pub(crate) child: Child,
    /// The child ends when this is closed.
    _input: Option<ChildStdin>,
}

/// Ends this program once its parent has ended.
pub(crate) fn end_with_parent() {
    std::thread::spawn(|| {
        let _end = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        std::process::exit(0);
    });
}

/// The provider, which is started again each time that it dies.
pub(crate) struct ProviderProcess {
    arguments: Vec<String>,
    program: Program,
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
        let program = start(&arguments)?;
        Ok(ProviderProcess { arguments, program, address: format!("http://127.0.0.1:{port}") })
    }

    /// Waits until it ends, and starts it again, for ever.
    ///
    /// # Errors
    /// The error of the system.
    pub(crate) async fn keep(&mut self) -> Result<(), Failure> {
        loop {
            self.program.child.wait().await?;
            tokio::time::sleep(Duration::from_millis(200)).await;
            self.program = start(&self.arguments)?;
        }
    }

    /// Kills it, and starts it again.
    ///
    /// # Errors
    /// The error of the system.
    pub(crate) async fn kill(&mut self) -> Result<(), Failure> {
        // It may have died by itself.
        let _dead = self.program.child.kill().await;
        self.program = start(&self.arguments)?;
        Ok(())
    }
}
