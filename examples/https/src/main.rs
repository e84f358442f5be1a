//! The panels in a program with a server of its own: the routes of Diptych below `/api`
//! (`routes.rs`), behind layers of the program, over TLS with HTTP/2 and HTTP/1.1 (`serve.rs`).
//! `cargo run -p example-https -- chain.pem key.pem`, with the certificate of the host `localhost`
#![allow(clippy::print_stdout)] // The example prints its address.

mod commands;
mod queries;
mod routes;
mod serve;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, env, error::Error, sync::Arc};

use diptych::{App, Memory};
use tokio::net::TcpListener;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

use crate::serve::{ConnectionLimits, HttpsServer, acceptor};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let (Some(chain), Some(key)) = (arguments.next(), arguments.next()) else {
        return Err("give the files of the certificate chain and of its key, both in PEM".into());
    };
    let chain = CertificateDer::pem_file_iter(chain)?.collect::<Result<_, _>>()?;
    let tls = acceptor(chain, PrivateKeyDer::from_pem_file(key)?)?;
    let users = BTreeMap::from([("secret".to_owned(), "ada".to_owned())]);

    let app = routes::start(App::over(Memory::new())).await?;
    let (routes, handle) = routes::routes(app.clone(), "localhost", Arc::new(users))?;
    let server = HttpsServer { tls, routes, handle, limits: ConnectionLimits::default() };
    let listener = TcpListener::bind("127.0.0.1:8443").await?;
    println!("https://localhost:8443/api/queries/how-many");
    server.serve(listener, async { drop(tokio::signal::ctrl_c().await) }).await;
    app.stop().await?;
    Ok(())
}
