//! Rules over the packages that are published: each has what a registry and its readers need, and
//! compiles from its own files alone.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

/// A package as `cargo metadata` describes it.
#[derive(Deserialize)]
pub(crate) struct Package {
    pub(crate) name: String,
    manifest_path: String,
    publish: Option<Vec<String>>,
    description: Option<String>,
    license: Option<String>,
    repository: Option<String>,
    readme: Option<String>,
    rust_version: Option<String>,
    keywords: Vec<String>,
    categories: Vec<String>,
    metadata: Option<serde_json::Value>,
    targets: Vec<Target>,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Target {
    kind: Vec<String>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    req: String,
    kind: Option<String>,
    path: Option<String>,
}

impl Package {
    fn is_published(&self) -> bool {
        // `publish = false` is an empty list of registries.
        self.publish.as_ref().is_none_or(|registries| !registries.is_empty())
    }

    fn has_library(&self) -> bool {
        let is_library = |kind: &String| ["lib", "proc-macro"].contains(&kind.as_str());
        self.targets.iter().any(|target| target.kind.iter().any(is_library))
    }

    /// The folder of the package, relative to `root`.
    pub(crate) fn folder(&self, root: &str) -> Option<String> {
        let path = self.manifest_path.replace('\\', "/");
        let folder = path.strip_prefix(root)?.strip_suffix("/Cargo.toml")?;
        Some(folder.trim_start_matches('/').to_owned())
    }
}

/// The published packages of the workspace.
pub(crate) fn published(metadata: &str) -> serde_json::Result<Vec<Package>> {
    let metadata: Metadata = serde_json::from_str(metadata)?;
    Ok(metadata.packages.into_iter().filter(Package::is_published).collect())
}

/// Fields that a package lacks, and files of `files` that its folder lacks.
pub(crate) fn incomplete(package: &Package, folder: &str, files: &BTreeSet<&str>) -> Vec<String> {
    let docs_rs = package.metadata.as_ref().and_then(|metadata| metadata.get("docs")?.get("rs"));
    let fields = [
        ("description", package.description.is_some()),
        ("license", package.license.is_some()),
        ("repository", package.repository.is_some()),
        ("readme", package.readme.as_deref() == Some("README.md")),
        ("rust-version", package.rust_version.is_some()),
        ("keywords", !package.keywords.is_empty()),
        ("categories", !package.categories.is_empty()),
        ("package.metadata.docs.rs", docs_rs.is_some() || !package.has_library()),
    ];
    let fields = fields.into_iter().filter(|(_, is_there)| !is_there);
    let missing = fields.map(|(field, _)| format!("{}: add the field {field}", package.name));
    let needed = ["README.md", "LICENSE-MIT", "LICENSE-APACHE"];
    let needed = needed.into_iter().map(|file| format!("{folder}/{file}"));
    let absent = needed.filter(|file| !files.contains(file.as_str()));
    missing.chain(absent.map(|file| format!("add the file {file}"))).collect()
}

/// Dependencies within the workspace that a registry cannot resolve.
///
/// A test dependency by path alone is left out of the published manifest. With a version it must be
/// in the registry first, so it must not depend on its dependent.
pub(crate) fn unresolvable(packages: &[Package]) -> Vec<String> {
    let by_name: BTreeMap<&str, &Package> =
        packages.iter().map(|package| (package.name.as_str(), package)).collect();
    let mut problems = Vec::new();
    for package in packages {
        for used in package.dependencies.iter().filter(|used| used.path.is_some()) {
            let (name, has_version) = (&used.name, used.req != "*");
            match by_name.get(name.as_str()) {
                _ if !has_version && used.kind.as_deref() == Some("dev") => {}
                Some(_) if !has_version => {
                    problems.push(format!("{} needs a version of {name}", package.name));
                }
                Some(other) if reaches(other, &package.name, &by_name) => {
                    problems.push(format!("{} and {name} need each other first", package.name));
                }
                Some(_) => {}
                None => problems.push(format!("{} uses {name}: publish it too", package.name)),
            }
        }
    }
    problems
}

fn reaches(from: &Package, name: &str, by_name: &BTreeMap<&str, &Package>) -> bool {
    let used = from.dependencies.iter();
    let used = used.filter(|used| used.path.is_some() && used.kind.as_deref() != Some("dev"));
    used.into_iter().any(|used| {
        let next = by_name.get(used.name.as_str());
        used.name == name || next.is_some_and(|next| reaches(next, name, by_name))
    })
}

/// Files from outside of `folder` that the code in `path` includes when it compiles.
pub(crate) fn includes_outside(folder: &str, path: &str, text: &str) -> Vec<String> {
    let begins = ["include_str!(", "include_bytes!(", "include!(", "#[path ="];
    let found = begins.iter().flat_map(|begin| text.match_indices(begin).map(|(at, _)| at));
    let included = found.filter_map(|at| {
        let call = text.get(at..)?;
        let call = call.get(..call.find([';', ']', '\n'])?).unwrap_or(call);
        let from = match call.contains("CARGO_MANIFEST_DIR") {
            true => folder.to_owned(),
            false => path.rsplit_once('/')?.0.to_owned(),
        };
        // Every second piece between quotes is text; the name of the variable is none of a path.
        let pieces = call.split('"').skip(1).step_by(2);
        let name: String = pieces.filter(|piece| *piece != "CARGO_MANIFEST_DIR").collect();
        let whole = normal(&format!("{from}/{name}"));
        let is_inside = whole.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'));
        (!name.is_empty() && !is_inside)
            .then(|| format!("includes {name} from outside its package"))
    });
    included.collect()
}

/// The path without `..`.
fn normal(path: &str) -> String {
    let mut names: Vec<&str> = Vec::new();
    for name in path.split('/') {
        match name {
            ".." => drop(names.pop()),
            "." | "" => {}
            name => names.push(name),
        }
    }
    names.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    const METADATA: &str = r#"{"packages": [
        {"name": "a", "manifest_path": "/r/crates/a/Cargo.toml", "publish": null, "license": "MIT",
         "description": "a", "repository": "https://example.com", "readme": "README.md",
         "rust_version": "1.90", "keywords": ["k"], "categories": ["c"], "targets":
         [{"kind": ["lib"]}], "metadata": {"docs": {"rs": {}}}, "dependencies": [
            {"name": "b", "req": "^1", "kind": null, "path": "/r/crates/b"},
            {"name": "serde", "req": "^1", "kind": null, "path": null}]},
        {"name": "b", "manifest_path": "/r/crates/b/Cargo.toml", "publish": null, "license": null,
         "description": null, "repository": null, "readme": null, "rust_version": null,
         "keywords": [], "categories": [], "targets": [{"kind": ["bin"]}], "metadata": null,
         "dependencies": [
            {"name": "c", "req": "^1", "kind": null, "path": "/r/crates/c"},
            {"name": "a", "req": "^1", "kind": "dev", "path": "/r/crates/a"},
            {"name": "d", "req": "*", "kind": "dev", "path": "/r/crates/d"}]},
        {"name": "c", "manifest_path": "/r/crates/c/Cargo.toml", "publish": [], "license": null,
         "description": null, "repository": null, "readme": null, "rust_version": null,
         "keywords": [], "categories": [], "targets": [], "metadata": null, "dependencies": []}]}"#;

    #[test]
    fn missing_fields_and_files_are_found() {
        let packages = published(METADATA).unwrap();
        let names: Vec<_> = packages.iter().map(|package| &package.name).collect();
        assert_eq!(names, ["a", "b"]);
        assert_eq!(packages[0].folder("/r").unwrap(), "crates/a");
        let files =
            ["README.md", "LICENSE-MIT", "LICENSE-APACHE"].map(|of| format!("crates/a/{of}"));
        let files = files.iter().map(String::as_str).collect();
        assert_eq!(incomplete(&packages[0], "crates/a", &files), [""; 0]);
        let missing = incomplete(&packages[1], "crates/b", &files);
        assert_eq!(missing.len(), 10, "{missing:#?}");
        assert!(missing.contains(&"add the file crates/b/README.md".to_owned()));
    }

    #[test]
    fn a_dependency_that_is_not_published_first_is_found() {
        let packages = published(METADATA).unwrap();
        let problems = ["b uses c: publish it too", "b and a need each other first"];
        assert_eq!(unresolvable(&packages), problems);
    }

    #[test]
    fn an_include_from_outside_the_package_is_found() {
        let check = |text: &str| includes_outside("crates/a", "crates/a/src/m/f.rs", text).len();
        for outside in [
            "const A: &str = include_str!(\"../../../b/data.txt\");",
            "include_bytes!(concat!(env!(\"CARGO_MANIFEST_DIR\"), \"/../data\"));",
            "#[doc = include_str!(\"../../../../README.md\")]",
            "#[path = \"../../../other.rs\"]\nmod other;",
        ] {
            assert_eq!(check(outside), 1, "{outside}");
        }
        for inside in [
            "include_str!(\"../../data.txt\");",
            "include_bytes!(concat!(env!(\"CARGO_MANIFEST_DIR\"), \"/data\"));",
            "include_bytes!(concat!(\"../../page/\", $file))",
            "include!(concat!(env!(\"OUT_DIR\"), \"/made.rs\"));",
        ] {
            assert_eq!(check(inside), 0, "{inside}");
        }
    }
}
