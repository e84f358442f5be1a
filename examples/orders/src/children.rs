//! The provider as a child of this program.

use std::{path::Path, time::Duration};

use example_orders::programs::{Program, free_ports};

use crate::Failure;

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
        let [port] = free_ports()?;
        let accounts = accounts.display().to_string();
        let arguments =
            ["--part", "provider", "--port", &port.to_string(), "--folder", &accounts, "--seed"];
        let mut arguments: Vec<_> = arguments.iter().map(ToString::to_string).collect();
        arguments.push(seed.to_string());
        let program = Program::start(&arguments)?;
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
            self.program = Program::start(&self.arguments)?;
        }
    }

    /// Kills it, and starts it again.
    ///
    /// # Errors
    /// The error of the system.
    pub(crate) async fn kill(&mut self) -> Result<(), Failure> {
        // It may have died by itself.
        let _dead = self.program.child.kill().await;
        self.program = Program::start(&self.arguments)?;
        Ok(())
    }
}
