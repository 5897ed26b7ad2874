//! Build of the editor for scripts: CodeMirror and the page's own part as one file, compressed and committed.
//!
//! # Guarantees
//! - The same sources give the same file: `package-lock.json` pins every package with its hash. `--check` builds it again and compares.
//! - The licences of the packages stand at the beginning of the file.
//!
//! # Limits
//! Needs npm, and its registry. Nothing is built in the folder of the sources.

use crate::script_engine::{read, sha256, write};
use crate::{Failure, output, root, run, say, toolchains};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Folder of the sources.
const SOURCES: &str = "host/hookloom/editor";

/// Sources: the packages, their pinned versions, and the page's own part.
const FILES: [&str; 3] = ["package.json", "package-lock.json", "editor.js"];

/// Built file, and the sha256 of its content before compression, because gzip programs differ.
const BUNDLE: &str = "host/hookloom/assets/editor.js.gz";
const SHA256: &str = "host/hookloom/assets/editor.js.sha256";

/// Packages that build and are not part of the file.
const TOOLS: [&str; 3] = [".bin", "esbuild", "@esbuild"];

/// Builds the editor, and writes it or compares it with the committed one.
pub(crate) fn build(arguments: &[String]) -> Result<(), Failure> {
    let is_check = match arguments {
        [] => false,
        [option] if option == "--check" => true,
        _ => return Err("editor takes nothing, or `--check`".into()),
    };
    let bundle = bundle()?;
    let sha256 = sha256(&bundle)?;
    let root = root();
    if is_check {
        let committed = read(&root.join(SHA256))?;
        if committed.trim() != sha256 {
            let built = bundle.display();
            return Err(format!("the sources give {sha256}, not the committed {}: see {built}", committed.trim()));
        }
        return Ok(());
    }
    let compressed = Command::new("gzip").args(["-9", "-n", "-c"]).arg(&bundle).output();
    let compressed = compressed.map_err(|error| format!("gzip: {error}"))?.stdout;
    write(&root.join(BUNDLE), &compressed)?;
    write(&root.join(SHA256), format!("{sha256}\n").as_bytes())?;
    say(&format!("{BUNDLE}: {} bytes, sha256 {sha256} before compression", compressed.len()));
    Ok(())
}

/// Builds the file in the target folder. Returns its path.
fn bundle() -> Result<PathBuf, Failure> {
    say("building the editor for scripts");
    let folder = root().join("target/editor");
    std::fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    for file in FILES {
        write(&folder.join(file), read(&root().join(SOURCES).join(file))?.as_bytes())?;
    }
    run(Command::new("npm").current_dir(&folder).envs(toolchains::REGISTRY_RETRIES).args([
        "ci",
        "--ignore-scripts",
        "--no-audit",
        "--no-fund",
        "--silent",
    ]))?;
    let packed = output(Command::new(folder.join("node_modules/.bin/esbuild")).current_dir(&folder).args([
        "editor.js",
        "--bundle",
        "--minify",
        "--format=esm",
        "--target=es2022",
        "--charset=utf8",
        "--legal-comments=none",
    ]))?;
    let bundle = folder.join("bundle.js");
    write(&bundle, format!("{}{packed}", licences(&folder.join("node_modules"))?).as_bytes())?;
    Ok(bundle)
}

/// Returns a comment with the licences of the packages, each text once.
fn licences(packages: &Path) -> Result<String, Failure> {
    let mut by_text: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, folder) in packages_in(packages)? {
        by_text.entry(read(&folder.join("LICENSE"))?).or_default().push(name);
    }
    let texts = by_text.iter().map(|(text, names)| format!("{}:\n{}", names.join(", "), text.trim().replace("*/", "")));
    Ok(format!("/*!\n{}\n*/\n", texts.collect::<Vec<_>>().join("\n\n")))
}

/// Returns the packages of the file by name, with their folders.
fn packages_in(packages: &Path) -> Result<BTreeMap<String, PathBuf>, Failure> {
    let mut found = BTreeMap::new();
    for (name, folder) in folders(packages)? {
        if TOOLS.contains(&name.as_str()) {
            continue;
        }
        if name.starts_with('@') {
            found.extend(folders(&folder)?.into_iter().map(|(inner, folder)| (format!("{name}/{inner}"), folder)));
        } else {
            found.insert(name, folder);
        }
    }
    Ok(found)
}

fn folders(parent: &Path) -> Result<Vec<(String, PathBuf)>, Failure> {
    let entries = std::fs::read_dir(parent).map_err(|error| format!("{}: {error}", parent.display()))?;
    let paths = entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir());
    Ok(paths.filter_map(|path| Some((path.file_name()?.to_str()?.to_owned(), path))).collect())
}
