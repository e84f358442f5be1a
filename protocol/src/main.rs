//! Generates `crates/diptych-remote/src/generated.in` from the definition of the protocol.
//! `--check` only compares.

use std::{env, error::Error, fs, path::Path, process::ExitCode};

use prost_build::{Config, Service, ServiceGenerator};

/// The files of the definition.
const DEFINITIONS: [&str; 2] = ["diptych/v1/log.proto", "diptych/v1/feeds.proto"];
/// Calls whose answers the server encodes itself: one time for several clients, and without a copy
/// of each event in between.
const ENCODED: [&str; 2] = ["Read", "Subscribe"];
/// The type of such an answer.
const ENCODED_REPLY: &str = "crate::wire::EncodedReply";

/// Generates the client as the definition says, and a server with encoded replies.
struct Generator {
    client: Box<dyn ServiceGenerator>,
    server: Box<dyn ServiceGenerator>,
}

impl ServiceGenerator for Generator {
    fn generate(&mut self, mut service: Service, code: &mut String) {
        self.client.generate(service.clone(), code);
        for method in &mut service.methods {
            if ENCODED.contains(&method.proto_name.as_str()) {
                method.output_type = ENCODED_REPLY.to_owned();
            }
        }
        self.server.generate(service, code);
    }
}

fn builder() -> tonic_prost_build::Builder {
    tonic_prost_build::configure()
        .client_mod_attribute("diptych.v1", "#[cfg(feature = \"client\")]")
        .codec_path("crate::wire::CheckedCodec")
        .build_transport(false)
        .disable_comments(["."])
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/diptych-remote");
    let out = env::temp_dir().join(format!("diptych-protocol-{}", std::process::id()));
    fs::create_dir_all(&out)?;
    let definition = protox::compile(DEFINITIONS, [package.join("proto")])?;
    let mut config = Config::new();
    config.bytes([".diptych.v1.EncodedEvents.bytes"]).out_dir(&out);
    config.service_generator(Box::new(Generator {
        client: builder().build_server(false).service_generator(),
        server: builder().build_client(false).service_generator(),
    }));
    config.compile_fds(definition)?;
    let generated = fs::read_to_string(out.join("diptych.v1.rs"))?;
    fs::remove_dir_all(&out)?;
    let committed = package.join("src/generated.in");
    if !env::args().any(|argument| argument == "--check") {
        fs::write(&committed, generated)?;
        return Ok(ExitCode::SUCCESS);
    }
    if fs::read_to_string(&committed)? == generated {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!(
        "the generated code differs from the definition of the protocol: run \
         `cargo run --manifest-path protocol/Cargo.toml`"
    );
    Ok(ExitCode::FAILURE)
}
