//! Check of the project's rules: dependencies between modules, homes of outside packages ([`borders`] for whole crates), circles
//! of imports ([`circles`]), lengths of files and functions, headers of files, and links in documents. Counts idioms and summaries of
//! doc comments against limits ([`counts`]).

mod borders;
mod circles;
mod counts;
mod idioms;
mod modules;
mod summaries;

use crate::{Failure, root, say};
use std::path::{Path, PathBuf};

/// Modules of the crate `hookloom` from the top down. A module uses those after it, never those before it. The crates below it are
/// kept apart by their dependencies.
const ORDER: [&str; 8] = ["cli", "app", "api", "operations", "intake", "config", "cpu_pool", "request_id"];

/// Outside packages that only some parts of the host may use.
const HOMES: [(&str, &str); 11] = [
    ("axum", "host/hookloom/src/api"),
    ("axum", "host/hookloom/src/cli/receive.rs"),
    ("anstream", "host/hookloom/src/cli/terminal.rs"),
    ("anstyle", "host/hookloom/src/cli/terminal.rs"),
    ("wasmtime", "host/plugin/src"),
    ("wasmtime_wasi", "host/plugin/src"),
    ("notify", "host/plugin/src/watch.rs"),
    ("opentelemetry", "host/deliver/src/traces.rs"),
    ("opentelemetry_otlp", "host/deliver/src/traces.rs"),
    ("opentelemetry_sdk", "host/deliver/src/traces.rs"),
    ("rusqlite", "host/store/src/sqlite"),
];

/// Names without meaning.
const EMPTY_NAMES: [&str; 5] = ["util", "utils", "common", "helpers", "manager"];

/// Place of one finding: file, line, and the text or name found there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    path: PathBuf,
    line: usize,
    text: String,
}

const FILE_LINES_MAX: usize = 400;
const FUNCTION_LINES_MAX: usize = 60;

/// Checks every rule and prints the counts; `--list NAME` prints the places of one count too.
pub(crate) fn run(arguments: &[String]) -> Result<(), Failure> {
    let list = match arguments {
        [] => None,
        [option, name] if option == "--list" => Some(name.as_str()),
        _ => return Err("expected nothing or --list NAME".to_owned()),
    };
    let mut faults = Vec::new();
    let mut longest = (0, String::new());
    let mut lines = 0;
    let mut sources = Vec::new();
    for path in tracked("rs")? {
        let text = read(&path)?;
        lines += text.lines().count();
        faults.extend(shape(&path, &text).into_iter().map(|fault| format!("{}: {fault}", path.display())));
        for (length, name) in functions(&text) {
            if length > FUNCTION_LINES_MAX {
                faults
                    .push(format!("{}: {name} has {length} lines; {FUNCTION_LINES_MAX} are the most", path.display()));
            }
            if length > longest.0 {
                longest = (length, format!("{} in {}", name, path.display()));
            }
        }
        sources.push((path, text));
    }
    for path in tracked("html")? {
        let found = bare_links(&read(&path)?);
        faults.extend(found.into_iter().map(|fault| format!("{}: {fault}", path.display())));
    }
    for path in tracked("md")? {
        faults.extend(dead_links(&path, &read(&path)?).into_iter().map(|fault| format!("{}: {fault}", path.display())));
    }
    faults.extend(circles::faults(&sources)?);
    faults.extend(borders::faults(&read(Path::new("Cargo.lock"))?));
    faults.iter().for_each(|fault| say(fault));
    say(&format!(
        "tidy: {} Rust files, {lines} lines; the longest function has {} lines: {}",
        sources.len(),
        longest.0,
        longest.1
    ));
    counts::check(&sources, list)?;
    if faults.is_empty() { Ok(()) } else { Err(format!("{} faults", faults.len())) }
}

/// Returns files that git knows or would add.
fn tracked(extension: &str) -> Result<Vec<PathBuf>, Failure> {
    let pattern = format!("*.{extension}");
    let mut git = std::process::Command::new("git");
    git.current_dir(root()).args(["ls-files", "--cached", "--others", "--exclude-standard", "--", &pattern]);
    let listed = git.output().map_err(|error| format!("git could not be asked: {error}"))?;
    let text = String::from_utf8_lossy(&listed.stdout).into_owned();
    Ok(text.lines().map(PathBuf::from).filter(|path| root().join(path).is_file()).collect())
}

fn read(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(root().join(path)).map_err(|error| format!("{}: {error}", path.display()))
}

fn shape(path: &Path, text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if !text.starts_with("//!") {
        faults.push("does not open with //!".to_owned());
    }
    let count = text.lines().count();
    if count > FILE_LINES_MAX {
        faults.push(format!("has {count} lines; {FILE_LINES_MAX} are the most"));
    }
    let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    if EMPTY_NAMES.contains(&stem) {
        faults.push(format!("{stem:?} is a name that says nothing"));
    }
    let Ok(host) = path.strip_prefix("host") else { return faults };
    let inside: PathBuf = host.iter().skip_while(|part| *part != "src").skip(1).collect();
    if inside.as_os_str().is_empty() {
        return faults;
    }
    faults.extend(bare_paths(&inside, text));
    faults.extend(odd_messages(&inside, text));
    faults.extend(homes(path, text));
    if !host.starts_with("hookloom/src") {
        return faults;
    }
    let first = inside.iter().next().and_then(|part| part.to_str()).unwrap_or_default().trim_end_matches(".rs");
    faults.extend(upward_uses(first, text));
    faults
}

fn homes(path: &Path, text: &str) -> Vec<String> {
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    let code: Vec<&str> = code.collect();
    let is_home = |home: &str| path.starts_with(home) || path == Path::new(home).with_extension("rs");
    let strays = HOMES.iter().filter(|(package, _)| {
        let mut homes = HOMES.iter().filter(|(other, _)| other == package);
        !homes.any(|(_, home)| is_home(home))
    });
    let used = strays.filter(|(package, _)| code.iter().any(|line| line.contains(&format!("{package}::"))));
    used.map(|(package, home)| format!("uses {package}, whose home is {home}")).collect()
}

/// Beginnings of paths of the host that contain names.
const PATHS: [&str; 4] = ["/v1/", "/t/", "/bins/", "/sign-in?"];

/// Returns paths of the host that are composed as text instead of by `url_path.rs`.
fn bare_paths(inside: &Path, text: &str) -> Vec<String> {
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    let bare = code.filter(|line| PATHS.iter().any(|path| line.contains(&format!("format!(\"{path}"))));
    let tests = inside.file_stem().is_some_and(|stem| stem == "tests");
    bare.filter(|_| !tests).map(|line| format!("puts a path together without UrlPath: {}", line.trim())).collect()
}

/// Phrases that are not plain English, which messages must not have.
const ODD_PHRASES: [&str; 10] = [
    " is no ",
    " are no ",
    "anew",
    " vain",
    " shall ",
    "as a rule",
    " of ours",
    "whoever",
    "at the most",
    "brought back",
];

/// Plain phrases that contain one of them.
const PLAIN_PHRASES: [&str; 3] = ["there is no ", "There is no ", "is no longer"];

/// Returns messages (texts in quotes, outside comments and tests) that are not in plain English.
fn odd_messages(inside: &Path, text: &str) -> Vec<String> {
    if inside.file_stem().is_some_and(|stem| stem == "tests") {
        return Vec::new();
    }
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
    let quoted = lines.flat_map(|line| line.split('"').skip(1).step_by(2));
    let plain = quoted.map(|text| PLAIN_PHRASES.iter().fold(text.to_owned(), |text, plain| text.replace(plain, "")));
    let odd =
        plain.filter_map(|text| ODD_PHRASES.iter().find(|odd| text.contains(**odd)).map(|odd| (text.clone(), *odd)));
    odd.map(|(text, odd)| format!("says {odd:?} in a message: {text}")).collect()
}

/// Returns values in the paths of a template's links that are not encoded as one segment.
fn bare_links(text: &str) -> Vec<String> {
    let links = ["href=\"/", "action=\"/", "data-upload=\"/"].iter().flat_map(|start| text.split(start).skip(1));
    let values = links.filter_map(|rest| rest.split('"').next()).flat_map(|link| link.split("{{").skip(1));
    let bare = values.filter_map(|rest| rest.split("}}").next()).filter(|value| !value.contains("|urlencode_strict"));
    bare.map(|value| format!("{{{{{value}}}}} stands in a link without |urlencode_strict")).collect()
}

/// Returns uses of modules above the module itself.
fn upward_uses(own: &str, text: &str) -> Vec<String> {
    let Some(rank) = ORDER.iter().position(|name| *name == own) else { return Vec::new() };
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    let mut faults: Vec<String> = code
        .flat_map(|line| line.split("crate::").skip(1))
        .filter_map(|rest| rest.split(|letter: char| !letter.is_alphanumeric() && letter != '_').next())
        .filter(|used| ORDER.iter().position(|name| name == used).is_some_and(|other| other < rank))
        .map(|used| format!("{own} uses {used}, which stands above it"))
        .collect();
    faults.dedup();
    faults
}

/// Returns length and name of each function, by the layout of rustfmt: from the line with `fn` to its closing brace.
fn functions(text: &str) -> Vec<(usize, String)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let trimmed = line.trim_start();
        let words =
            trimmed.trim_start_matches("pub(crate) ").trim_start_matches("pub(super) ").trim_start_matches("pub ");
        let Some(rest) = words.trim_start_matches("async ").strip_prefix("fn ") else { continue };
        let indent = &line[..line.len() - trimmed.len()];
        // A declaration in a trait ends with a semicolon.
        let is_end = |line: &&str| {
            line.strip_prefix(indent).is_some_and(|rest| rest == "}" || (!rest.starts_with(' ') && rest.ends_with(';')))
        };
        let length = lines[start..].iter().position(is_end).map_or(1, |length| length + 1);
        found.push((length, rest.split(['(', '<']).next().unwrap_or_default().to_owned()));
    }
    found
}

/// Returns relative links of a document whose target does not exist.
fn dead_links(path: &Path, text: &str) -> Vec<String> {
    let folder = root().join(path.parent().unwrap_or(Path::new("")));
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let relative = targets.filter(|target| !target.contains("://") && !target.starts_with('#') && !target.is_empty());
    let dead = relative.filter(|target| !folder.join(target.split('#').next().unwrap_or_default()).exists());
    dead.map(|target| format!("the link {target} leads nowhere")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_use_of_a_higher_module_is_found() {
        assert_eq!(upward_uses("store", "use crate::config;\nuse crate::event::Event;"), Vec::<String>::new());
        assert_eq!(upward_uses("intake", "let x = crate::api::router();"), ["intake uses api, which stands above it"]);
        assert_eq!(upward_uses("intake", "// see crate::api"), Vec::<String>::new());
    }

    #[test]
    fn a_package_outside_its_home_is_found() {
        fn stray(path: &str, text: &str) -> usize {
            homes(Path::new(path), text).len()
        }
        assert_eq!(stray("host/plugin/src/cache.rs", "use wasmtime::Engine;"), 0);
        assert_eq!(stray("host/plugin/src/lib.rs", "use wasmtime::Engine;"), 0);
        assert_eq!(stray("host/hookloom/src/app.rs", "use wasmtime::Engine;"), 1);
        assert_eq!(stray("host/deliver/src/lane.rs", "rusqlite::Connection"), 1);
        assert_eq!(stray("host/hookloom/src/app.rs", "//! wasmtime::Engine"), 0);
        assert_eq!(stray("host/hookloom/src/api.rs", "use axum::Json;"), 0);
        assert_eq!(stray("host/hookloom/src/cli/receive.rs", "use axum::Json;"), 0);
        assert!(stray("host/hookloom/src/operations.rs", "use axum::Json;") > 0);
    }

    #[test]
    fn a_path_that_is_put_together_as_text_is_found() {
        fn paths(text: &str) -> usize {
            bare_paths(Path::new("cli/send.rs"), text).len()
        }
        assert_eq!(paths("let path = format!(\"/v1/tenants/{t}/events\");"), 1);
        assert_eq!(paths("go_to(&format!(\"/t/{t}\"), flash)"), 1);
        assert_eq!(paths("#[utoipa::path(get, path = \"/v1/tenants/{t}\")]\nformat!(\"/headers/{name}\")"), 0);
        assert_eq!(bare_links("<a href=\"/t/{{ t|urlencode_strict }}/x/{{ id }}\"><a href=\"{{ next }}\">").len(), 1);
        assert_eq!(bare_links("<form action=\"/t/{{ t|urlencode_strict }}\">{{ text }}").len(), 0);
    }

    #[test]
    fn messages_in_odd_english_are_found() {
        fn messages(text: &str) -> usize {
            odd_messages(Path::new("api/x.rs"), text).len()
        }
        assert_eq!(messages("let x = \"this is no event\";\nformat!(\"tried in vain\")"), 2);
        assert_eq!(messages("// what is no event\n\"there is no event\"\n\"it is no longer pending\""), 0);
        assert_eq!(messages("#[cfg(test)]\n\"this is no event\""), 0);
    }

    #[test]
    fn functions_are_measured() {
        let text = "impl X {\n    pub(crate) async fn long(&self) {\n        a();\n    }\n}\nfn short() {}\n";
        assert_eq!(functions(text), [(3, "long".to_owned()), (1, "short".to_owned())]);
        let declared = "trait X {\n    fn one(\n        a: u8,\n    ) -> u8;\n\n    fn two();\n}\n";
        assert_eq!(functions(declared), [(3, "one".to_owned()), (1, "two".to_owned())]);
    }

    #[test]
    fn shapeless_files_are_found() {
        assert_eq!(shape(Path::new("a/b.rs"), "//! Fine.\n"), Vec::<String>::new());
        assert_eq!(shape(Path::new("a/util.rs"), "fn x() {}\n").len(), 2);
        assert_eq!(shape(Path::new("a/b.rs"), &"//!\n".repeat(401)).len(), 1);
    }
}
