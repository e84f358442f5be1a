//! The programs that an example starts: itself, in other parts.

use std::{env, io, net::TcpListener, process::Stdio};

use tokio::process::{Child, ChildStdin, Command};

/// Ports that are free now, and differ.
///
/// # Errors
/// The error of the system.
pub fn free_ports<const N: usize>() -> io::Result<[u16; N]> {
    let listeners = (0..N).map(|_| TcpListener::bind("127.0.0.1:0"));
    let listeners = listeners.collect::<io::Result<Vec<_>>>()?;
    let mut ports = [0; N];
    for (port, listener) in ports.iter_mut().zip(&listeners) {
        *port = listener.local_addr()?.port();
    }
    Ok(ports)
}

/// A running child. It is killed when this is dropped.
pub struct Program {
    /// The process.
    pub child: Child,
    /// The child ends when this is closed.
    _input: Option<ChildStdin>,
}

impl Program {
    /// Starts this program with other arguments.
    ///
    /// # Errors
    /// The error of the system.
    pub fn start(arguments: &[String]) -> io::Result<Program> {
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
}

/// Ends this program once its parent has ended.
pub fn end_with_parent() {
    std::thread::spawn(|| {
        let _end = io::copy(&mut io::stdin(), &mut io::sink());
        std::process::exit(0);
    });
}
