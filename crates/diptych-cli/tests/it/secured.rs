//! The commands on a server that other machines reach, with encryption and tokens.

use crate::{
    authority::{issue, swap},
    program::{Program, Ran, events, finish, run, spawn_with},
    served::{Running, ServeProcess},
};

/// The folder of a server with a certificate and a file of tokens.
struct SecuredFolder {
    program: Program,
}

impl SecuredFolder {
    fn new() -> SecuredFolder {
        let program = Program::new();
        issue(program.dir.path(), "authority");
        swap(program.dir.path());
        SecuredFolder { program }
    }

    fn path(&self, name: &str) -> String {
        self.program.dir.path().join(name).to_str().unwrap().to_owned()
    }

    /// Makes a token.
    fn token(&self, name: &str, scopes: &str) -> String {
        let tokens = self.path("tokens.toml");
        let made = run(&["token", "--file", &tokens, "--name", name, "--scope", scopes]);
        made.ended(0, "");
        made.stdout.trim().to_owned()
    }

    /// The options of a server at all addresses of this machine, with encryption.
    fn encrypted(&self) -> Vec<String> {
        let files = [self.path("certificate.pem"), self.path("key.pem")];
        let [certificate, key] = files;
        let options = ["--listen", "0.0.0.0:0", "--certificate", &certificate];
        options.iter().map(|&word| word.to_owned()).chain(["--private-key".into(), key]).collect()
    }

    fn serve(&self) -> ServeProcess {
        let mut options = self.encrypted();
        options.extend(["--tokens".to_owned(), self.path("tokens.toml")]);
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        ServeProcess::start_with(&self.program, &options)
    }
}

/// Runs a command on the log at an address, with these variables.
fn on(address: &str, variables: &[(&str, &str)], args: &[&str], input: &str) -> Ran {
    let place = [args[0], "--wait-seconds", "2", "--data", address];
    finish(spawn_with(&[&place[..], &args[1..]].concat(), variables), input)
}

fn port(server: &ServeProcess) -> &str {
    let listen = server.listen().strip_prefix("0.0.0.0:");
    listen.expect("it listens at all addresses")
}

#[test]
fn commands_append_read_and_tail_over_an_encrypted_connection_with_a_token() {
    let folder = SecuredFolder::new();
    let token = folder.token("shop", "read,append");
    let server = folder.serve();
    assert!(server.url.starts_with("diptychs://"), "{}", server.url);
    let authorities = folder.path("authority.pem");
    let variables = [("DIPTYCH_TOKEN", &*token), ("DIPTYCH_AUTHORITIES", &*authorities)];
    let port = port(&server);
    let addresses =
        [format!("diptychs://127.0.0.1:{port}/log"), format!("https://localhost:{port}/log")];
    let tail = ["tail", "--wait-seconds", "60", "--after", "0", "--data", &addresses[0]];
    let tail = Running::new(spawn_with(&tail, &variables));
    for (number, address) in (1_u64..).zip(&addresses) {
        let on = |args: &[&str], input: &str| on(address, &variables, args, input);
        on(&["append"], &events("t", 3)).ended(0, "");
        on(&["append", "--key", &format!("k-{number}")], &events("k", 1)).ended(0, "");
        let read = on(&["read"], "");
        read.ended(0, "");
        assert_eq!(read.positions(), (1..=4 * number).collect::<Vec<_>>());
        let last = on(&["tail", "--last", "2", "--until-head"], "");
        assert_eq!(last.positions(), [4 * number - 1, 4 * number]);
        on(&["stats"], "").ended(0, "");
    }
    tail.printed.wait_for_lines(8);
    assert_eq!(tail.interrupt(), 0);
    let copy = Program::new();
    let data = copy.data();
    let copied = spawn_with(&["copy", &addresses[0], data.to_str().unwrap()], &variables);
    finish(copied, "").ended(0, "");
    assert_eq!(copy.run(&["read"], "").lines().len(), 8);
    assert_eq!(server.end().0, 0);
}

#[test]
fn commands_without_the_token_or_the_authority_are_refused_and_say_what_is_missing() {
    let folder = SecuredFolder::new();
    let (reader, writer) = (folder.token("reader", "read"), folder.token("writer", "append"));
    let server = folder.serve();
    let authorities = folder.path("authority.pem");
    let address = format!("diptychs://127.0.0.1:{}/log", port(&server));
    let trusting = ("DIPTYCH_AUTHORITIES", &*authorities);
    for args in [["append"].as_slice(), &["read"], &["tail", "--until-head"]] {
        let on = |variables: &[(&str, &str)]| on(&address, variables, args, &events("t", 1));
        on(&[trusting]).ended(5, "needs a token");
        on(&[trusting, ("DIPTYCH_TOKEN", "diptych_guess")]).ended(5, "does not know");
        on(&[("DIPTYCH_TOKEN", &reader)]).ended(5, "not trusted");
        let missing = folder.path("missing.pem");
        let none = [("DIPTYCH_TOKEN", &*reader), ("DIPTYCH_AUTHORITIES", &*missing)];
        on(&none).ended(5, "missing.pem");
    }
    let with = |token: &str, args: &[&str]| {
        on(&address, &[trusting, ("DIPTYCH_TOKEN", token)], args, &events("t", 1))
    };
    with(&reader, &["append"]).ended(5, "needs the scope append");
    with(&writer, &["read"]).ended(5, "needs the scope read");
    with(&writer, &["tail"]).ended(5, "needs the scope read");
    // An address without encryption reaches no log.
    let plain = format!("diptych://127.0.0.1:{}/log", port(&server));
    let refused = on(&plain, &[("DIPTYCH_TOKEN", &reader)], &["read"], "");
    assert_eq!((refused.code, refused.stdout.as_str()), (5, ""), "{}", refused.stderr);
    with(&writer, &["append"]).ended(0, "");
    assert_eq!(with(&reader, &["read"]).positions(), [1]);
}

#[test]
fn a_server_off_loopback_is_refused_unless_it_has_encryption_and_tokens() {
    let folder = SecuredFolder::new();
    folder.token("shop", "read");
    let tokens = folder.path("tokens.toml");
    let encrypted = folder.encrypted();
    let encrypted: Vec<&str> = encrypted.iter().map(String::as_str).collect();
    let serve = |options: &[&str]| folder.program.run(&[&["serve"], options].concat(), "");
    let missing = "a way to ask who they are (--tokens)";
    serve(&["--listen", "0.0.0.0:0"]).ended(1, missing);
    serve(&encrypted).ended(1, missing);
    serve(&["--listen", "0.0.0.0:0", "--tokens", &tokens]).ended(1, missing);
    assert!(!folder.program.data().exists());
    // All three are given, and one of the files is missing.
    let nothing = folder.path("nothing.toml");
    serve(&[&encrypted[..], &["--tokens", &nothing]].concat()).ended(1, "nothing.toml");
}
