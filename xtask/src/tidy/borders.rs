//! Packages that crates of the host must not depend on, directly or through others.
//!
//! Read from `Cargo.lock`, which includes the packages of optional features and of tests: a crate that is kept apart by its
//! dependencies is kept apart in its tests as well, so that they build quickly.

use std::collections::{BTreeMap, BTreeSet};

/// Crates, and the packages that they must not depend on, directly or not.
const BORDERS: [(&str, &[&str]); 6] = [
    ("hookloom-model", &["axum", "hyper", "metrics", "reqwest", "rusqlite", "rustls", "tokio", "wasmtime"]),
    ("hookloom-telemetry", &["axum", "hyper", "reqwest", "rusqlite", "rustls", "wasmtime"]),
    ("hookloom-egress", &["axum", "metrics", "reqwest", "rusqlite", "wasmtime"]),
    ("hookloom-store", &["axum", "hookloom-egress", "hyper", "reqwest", "wasmtime"]),
    ("hookloom-plugin", &["axum", "hookloom-egress", "reqwest"]),
    ("hookloom-deliver", &["axum", "reqwest"]),
];

/// Returns a sentence for each package on the wrong side of a border. `lock` is the text of `Cargo.lock`.
pub(super) fn faults(lock: &str) -> Vec<String> {
    let dependencies = dependencies(lock);
    BORDERS.iter().flat_map(|(owner, refused)| crossings(&dependencies, owner, refused)).collect()
}

/// Names of each package's dependencies; several versions of a package count as one.
fn dependencies(lock: &str) -> BTreeMap<&str, BTreeSet<&str>> {
    let mut packages: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for package in lock.split("[[package]]").skip(1) {
        let name = package.split('"').nth(1).unwrap_or_default();
        let listed = package.split_once("dependencies = [").map_or("", |(_, listed)| listed);
        let names = listed.split('"').skip(1).step_by(2).filter_map(|entry| entry.split(' ').next());
        packages.entry(name).or_default().extend(names);
    }
    packages
}

fn crossings(dependencies: &BTreeMap<&str, BTreeSet<&str>>, owner: &str, refused: &[&str]) -> Vec<String> {
    let Some(direct) = dependencies.get(owner) else { return vec![format!("there is no package {owner}")] };
    // Each package that was reached, with the direct dependency that brings it.
    let mut reached: BTreeMap<&str, &str> = direct.iter().map(|name| (*name, *name)).collect();
    let mut open: Vec<&str> = direct.iter().copied().collect();
    while let Some(package) = open.pop() {
        let bringer = reached[package];
        for name in dependencies.get(package).into_iter().flatten() {
            if !reached.contains_key(name) {
                reached.insert(name, bringer);
                open.push(name);
            }
        }
    }
    let crossed = refused.iter().filter_map(|name| Some((name, reached.get(name)?)));
    crossed.map(|(name, bringer)| format!("{owner} depends on {name} (by {bringer}), which it must not")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCK: &str = r#"
version = 4

[[package]]
name = "model"
version = "0.1.0"
dependencies = [
 "light",
 "heavy 2.0.0",
]

[[package]]
name = "light"
version = "1.0.0"

[[package]]
name = "heavy"
version = "1.0.0"

[[package]]
name = "heavy"
version = "2.0.0"
source = "registry"
dependencies = [
 "model",
 "tokio",
]
"#;

    #[test]
    fn a_package_is_found_through_others() {
        #[track_caller]
        fn check(owner: &str, refused: &[&str], expected: &[&str]) {
            assert_eq!(crossings(&dependencies(LOCK), owner, refused), expected);
        }
        check("model", &["tokio", "axum"], &["model depends on tokio (by heavy), which it must not"]);
        check("light", &["tokio"], &[]);
        check("none", &["tokio"], &["there is no package none"]);
    }
}
