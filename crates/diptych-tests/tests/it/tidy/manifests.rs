//! Rules over the dependencies of crates.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

/// The crates of the workspace that each crate may depend on. Dependencies of tests alone do not
/// count. Crates of tests and chores may use every crate, and are not in this table.
const MAY_USE: &[(&str, &[&str])] = &[
    ("diptych-store", &[]),
    ("diptych-macros", &[]),
    ("diptych-log", &["diptych-store"]),
    ("diptych-remote", &["diptych-store"]),
    ("diptych-postgres", &["diptych-store"]),
    (
        "diptych",
        &["diptych-store", "diptych-log", "diptych-macros", "diptych-remote", "diptych-postgres"],
    ),
    ("diptych-sqlite", &["diptych", "diptych-store"]),
    ("diptych-postgres-tables", &["diptych", "diptych-postgres"]),
    ("diptych-gateways", &["diptych"]),
    ("diptych-nats", &["diptych"]),
    (
        "diptych-records",
        &["diptych", "diptych-macros", "diptych-postgres", "diptych-server", "diptych-sqlite"],
    ),
    // The server verifies webhooks that come in by the signatures of those that go out.
    ("diptych-server", &["diptych", "diptych-store", "diptych-remote", "diptych-gateways"]),
    (
        "diptych-cli",
        &[
            "diptych",
            "diptych-store",
            "diptych-log",
            "diptych-postgres",
            "diptych-records",
            "diptych-remote",
            "diptych-server",
            "diptych-demo",
            "diptych-gateways",
        ],
    ),
    // An example depends on the crates that a user adds: one, or a second one for a database.
    ("example-bank", &["diptych"]),
    ("example-courses", &["diptych"]),
    ("example-family", &["diptych"]),
    // Three services call a provider and each other over HTTP, and have a page. The provider is
    // that of the shop.
    ("example-fulfilment", &["diptych", "diptych-gateways", "diptych-server", "example-orders"]),
    // The demo is a complete program: a domain with a report and pages.
    ("diptych-demo", &["diptych", "diptych-server", "diptych-sqlite"]),
    ("example-https", &["diptych", "diptych-server"]),
    ("example-members", &["diptych"]),
    // The programs of pages use every crate that these pages are about.
    (
        "example-pages",
        &[
            "diptych",
            "diptych-postgres",
            "diptych-postgres-tables",
            "diptych-records",
            "diptych-server",
        ],
    ),
    // The shop calls a provider over HTTP, and has a page.
    ("example-orders", &["diptych", "diptych-gateways", "diptych-server"]),
    // Customers grow from plain changes over HTTP to a command.
    ("example-records", &["diptych", "diptych-records", "diptych-server"]),
    ("example-report", &["diptych", "diptych-sqlite"]),
    // The tutorial begins with records. Its service has both panels over HTTP, a report, and the
    // feed of another one.
    (
        "example-tutorial",
        &["diptych", "diptych-gateways", "diptych-records", "diptych-server", "diptych-sqlite"],
    ),
];
const MAY_USE_ALL: &[&str] = &[
    "diptych-compile-errors",
    "diptych-fuzz",
    "diptych-postgres-testing",
    "diptych-schedules",
    "diptych-tests",
    "xtask",
];

/// Crates that may depend on HTTP and gRPC.
const NETWORKED: &[&str] = &[
    "diptych-server",
    "diptych-remote",
    "diptych-gateways",
    "diptych-nats",
    "diptych-cli",
    "diptych-demo",
    "diptych-fuzz",
    "diptych-tests",
    "example-fulfilment",
    "example-https",
    "example-orders",
    "example-pages",
    "example-records",
    "example-tutorial",
    "xtask",
];
/// Features that bring the network into a crate which has none without them.
const NETWORK_FEATURES: &[(&str, &str)] =
    &[("diptych", "remote"), ("diptych", "postgres"), ("diptych-records", "http")];
const NETWORK: &[&str] = &[
    "actix-web",
    "axum",
    "h2",
    "http",
    "hyper",
    "prost",
    "reqwest",
    "tiny_http",
    "tonic",
    "tower-http",
    "ureq",
    "warp",
];

/// Crates that run on plain threads, under any async runtime or none.
const BLOCKING: &[&str] = &["diptych-store", "diptych-log"];
const RUNTIMES: &[&str] =
    &["async-executor", "async-std", "embassy-executor", "glommio", "smol", "tokio"];

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    #[serde(default)]
    features: BTreeMap<String, Vec<String>>,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    kind: Option<String>,
    path: Option<String>,
}

/// The crates of the workspace, each with the crates of the workspace that it uses outside of
/// tests, from the output of `cargo metadata`.
pub(crate) fn packages(metadata: &str) -> serde_json::Result<BTreeMap<String, BTreeSet<String>>> {
    let metadata: Metadata = serde_json::from_str(metadata)?;
    let used = |package: Package| {
        let used = package.dependencies.into_iter().filter(|used| used.path.is_some());
        let outside_tests = used.filter(|used| used.kind.as_deref() != Some("dev"));
        (package.name, outside_tests.map(|used| used.name).collect())
    };
    Ok(metadata.packages.into_iter().map(used).collect())
}

/// The features of each crate, without those that bring the network along, in the form of `cargo
/// tree --features`.
pub(crate) fn offline_features(metadata: &str) -> serde_json::Result<BTreeMap<String, String>> {
    let metadata: Metadata = serde_json::from_str(metadata)?;
    let offline = |package: Package| {
        let is_offline = |feature: &String| {
            !NETWORK_FEATURES.contains(&(package.name.as_str(), feature.as_str()))
        };
        let features: Vec<String> =
            package.features.keys().filter(|feature| is_offline(feature)).cloned().collect();
        (package.name, features.join(","))
    };
    Ok(metadata.packages.into_iter().map(offline).collect())
}

/// Dependencies that the table does not allow, and crates that are not in the table.
pub(crate) fn crossings(packages: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    let mut problems = Vec::new();
    for (name, used) in packages {
        if MAY_USE_ALL.contains(&name.as_str()) {
            continue;
        }
        let Some((_, allowed)) = MAY_USE.iter().find(|(on_map, _)| on_map == name) else {
            problems.push(format!("{name} is new: list its allowed dependencies in the tidy test"));
            continue;
        };
        let crossing = used.iter().filter(|used| !allowed.contains(&used.as_str()));
        problems.extend(crossing.map(|used| format!("{name} must not depend on {used}")));
    }
    problems
}

/// Rows of the lists above about crates that do not exist, and allowed dependencies that do not.
pub(crate) fn stale(packages: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    let rows = MAY_USE.iter().flat_map(|(name, used)| [name].into_iter().chain(*used));
    let lists = [MAY_USE_ALL, NETWORKED, BLOCKING].into_iter().flatten();
    let features = NETWORK_FEATURES.iter().map(|(name, _)| name);
    let names: BTreeSet<&str> = rows.chain(lists).chain(features).copied().collect();
    let gone = names.into_iter().filter(|name| !packages.contains_key(*name));
    gone.map(|name| format!("{name} does not exist: take it off the lists of the tidy test"))
        .collect()
}

/// Forbidden dependencies of a crate, from the output of `cargo tree --prefix none`
/// with its [offline features](offline_features).
pub(crate) fn unwanted(name: &str, tree: &str) -> Vec<String> {
    let mut unwanted: Vec<&str> = Vec::new();
    if !NETWORKED.contains(&name) {
        unwanted.extend(NETWORK);
    }
    if BLOCKING.contains(&name) {
        unwanted.extend(RUNTIMES);
    }
    let used: BTreeSet<_> =
        tree.lines().filter_map(|line| line.split_whitespace().next()).collect();
    let found = unwanted.into_iter().filter(|unwanted| used.contains(unwanted));
    found
        .map(|found| format!("{name} depends on {found}, which belongs to a layer above it"))
        .collect()
}

/// Dependencies of the workspace without a comment that gives the reason.
pub(crate) fn without_reason(manifest: &str) -> Vec<String> {
    let lines = manifest.lines().skip_while(|line| *line != "[workspace.dependencies]").skip(1);
    let lines = lines.take_while(|line| !line.starts_with('['));
    let unexplained = lines.filter(|line| {
        let is_dependency = line.contains('=') && !line.starts_with('#');
        let is_own = line.contains("path = ");
        let reason = line.rsplit_once(" # ").map_or("", |(_, reason)| reason.trim());
        is_dependency && !is_own && reason.is_empty()
    });
    unexplained.map(|line| format!("{line:?} has no reason: add a comment after it")).collect()
}

/// Missing keys in the configuration of cargo-deny.
pub(crate) fn incomplete_rules(deny: &str) -> Vec<String> {
    let rules = match deny.parse::<toml::Table>() {
        Ok(rules) => rules,
        Err(error) => return vec![format!("deny.toml does not parse: {error}")],
    };
    let wanted = [
        ("licenses", "allow"),
        ("bans", "wildcards"),
        ("sources", "unknown-registry"),
        ("sources", "unknown-git"),
        ("advisories", "yanked"),
    ];
    let is_there = |(section, key): &(&str, &str)| {
        rules
            .get(*section)
            .and_then(toml::Value::as_table)
            .is_some_and(|in_it| in_it.contains_key(*key))
    };
    let missing = wanted.iter().filter(|wanted| !is_there(wanted));
    missing.map(|(section, key)| format!("deny.toml has no {key} in [{section}]")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uses(name: &str, used: &str, kind: &str) -> Vec<String> {
        let metadata = format!(
            r#"{{"packages":[{{"name":"{name}","dependencies":[
                {{"name":"{used}","kind":{kind},"path":"/x"}},
                {{"name":"bytes","kind":null,"path":null}}]}}]}}"#
        );
        crossings(&packages(&metadata).unwrap())
    }

    #[test]
    fn a_dependency_outside_the_table_is_found() {
        assert_eq!(uses("diptych-store", "diptych-log", "null").len(), 1);
        assert_eq!(uses("diptych-log", "diptych", "null").len(), 1);
        assert_eq!(uses("diptych-log", "diptych", "\"build\"").len(), 1);
        assert!(uses("diptych-log", "diptych-store", "null").is_empty());
        assert!(uses("diptych-log", "diptych", "\"dev\"").is_empty());
        assert!(uses("diptych-tests", "diptych-log", "null").is_empty());
    }

    #[test]
    fn a_crate_that_is_not_in_the_table_is_found() {
        assert!(uses("diptych-new", "diptych-store", "null")[0].contains("is new"));
    }

    #[test]
    fn a_row_about_a_crate_that_does_not_exist_is_found() {
        let rows = MAY_USE.iter().flat_map(|(name, used)| [name].into_iter().chain(*used));
        let all = [MAY_USE_ALL, NETWORKED].into_iter().flatten().chain(rows);
        let mut packages: BTreeMap<String, BTreeSet<String>> =
            all.map(|name| ((*name).to_owned(), BTreeSet::new())).collect();
        assert_eq!(stale(&packages), [""; 0]);
        for name in ["diptych-macros", "xtask", "diptych-log"] {
            let row = packages.remove(name).unwrap();
            assert!(matches!(&stale(&packages)[..], [one] if one.starts_with(name)), "{name}");
            packages.insert(name.to_owned(), row);
        }
    }

    #[test]
    fn a_forbidden_dependency_is_found_in_a_tree() {
        let tree = "diptych-log v0.1.0 (/x)\ntokio v1.0.0\nhyper v1.0.0 (*)\nbytes v1.0.0\n";
        assert_eq!(unwanted("diptych-log", tree).len(), 2);
        assert_eq!(unwanted("diptych", tree).len(), 1);
        assert!(unwanted("diptych-server", tree).is_empty());
        assert!(unwanted("diptych-log", "tokio-like v1.0.0").is_empty());
    }

    #[test]
    fn a_dependency_without_a_reason_is_found() {
        let manifest = "[workspace.dependencies]\nown = { path = \"x\" }\n\na = \"1\" # for b\n\
                        c = \"2\"\nd = { version = \"1\" } # \n[profile.release]\ndebug = 1\n";
        let found = without_reason(manifest);
        assert_eq!(found.len(), 2, "{found:?}");
    }

    #[test]
    fn a_missing_key_of_cargo_deny_is_found() {
        assert!(incomplete_rules("[licenses")[0].contains("does not parse"));
        assert_eq!(incomplete_rules("[licenses]\nallow = []\n").len(), 4);
    }
}
