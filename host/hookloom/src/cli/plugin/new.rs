//! `hookloom plugin new`: creates a folder with a working plugin, from templates in this program.

use super::super::terminal::{self, outln};
use super::source::BUILD_FILE;
use super::{Failure, WIT};
use crate::ids::PluginName;
use clap::{Args, ValueEnum};
use std::path::{Path, PathBuf};

/// Options of `plugin new`.
#[derive(Args)]
pub(in crate::cli) struct NewArgs {
    /// Name of the plugin: a-z, 0-9 and -.
    name: PluginName,
    /// Programming language.
    #[arg(long, value_enum)]
    lang: Language,
    /// Folder to create. Without it: the name.
    #[arg(long, value_name = "FOLDER")]
    dir: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Programming language of a plugin.
#[derive(Clone, Copy, PartialEq, ValueEnum)]
pub(super) enum Language {
    Rust,
    Js,
    Ts,
    Python,
    C,
}

/// File of the repository's templates.
macro_rules! template {
    ($path:literal) => {
        include_str!(concat!("../../../../../plugins/templates/", $path))
    };
}

pub(super) use template;

/// File of the Rust sdk, which is part of a Rust plugin.
macro_rules! sdk {
    ($($name:literal),*) => {
        [$((concat!("sdk/src/", $name), include_str!(concat!("../../../../../plugins/sdk/src/", $name)))),*]
    };
}

const SDK: [(&str, &str); 12] = sdk![
    "bindings.rs",
    "contact.rs",
    "deal.rs",
    "decimal.rs",
    "event.rs",
    "host.rs",
    "lib.rs",
    "manifest.rs",
    "testing.rs",
    "time.rs",
    "value.rs",
    "verdict.rs"
];

/// World of a plugin that reports its errors.
const ERRORS_WIT: &str = include_str!("../../../../../plugins/sdk/wit/errors.wit");

/// Globals of scripts, which JavaScript and TypeScript plugins have, too.
const PRELUDE: &str = include_str!("../../../../../plugins/script-engine/src/prelude.js");

/// Beginning of the function in [`PRELUDE`], which is an expression there and a module in a plugin.
const PRELUDE_FUNCTION: &str = "\n(native) => {";

/// Section that `wit-bindgen c` generates from the contract: an object file, and so not text.
const C_TYPE: &[u8] = include_bytes!("../../../../../plugins/templates/c/generated/plugin_component_type.o");

impl Language {
    fn files(self) -> Vec<(&'static str, &'static str)> {
        match self {
            Language::Rust => vec![
                ("Cargo.toml", template!("rust/Cargo.toml.txt")),
                (".cargo/config.toml", template!("rust/cargo-config.toml.txt")),
                ("sdk/Cargo.toml", template!("rust/sdk.toml.txt")),
                ("src/lib.rs", template!("rust/src/lib.rs.txt")),
                (BUILD_FILE, template!("rust/hookloom-plugin.toml")),
            ],
            Language::Js => vec![
                ("package.json", template!("js/package.json")),
                ("jsconfig.json", template!("js/jsconfig.json")),
                ("sdk/hookloom.js", template!("js/sdk/hookloom.js")),
                ("sdk/numbers.js", template!("js/sdk/numbers.js")),
                ("sdk/stack.js", template!("js/sdk/stack.js")),
                ("sdk/steady.sh", template!("js/sdk/steady.sh")),
                ("sdk/globals.d.ts", template!("js/sdk/globals.d.ts")),
                ("sdk/plugin.js", template!("js/sdk/plugin.js")),
                ("src/plugin.js", template!("js/src/plugin.js")),
                (BUILD_FILE, template!("js/hookloom-plugin.toml")),
            ],
            Language::Ts => vec![
                ("package.json", template!("ts/package.json")),
                ("tsconfig.json", template!("ts/tsconfig.json")),
                ("sdk/hookloom.js", template!("js/sdk/hookloom.js")),
                ("sdk/numbers.js", template!("js/sdk/numbers.js")),
                ("sdk/stack.js", template!("js/sdk/stack.js")),
                ("sdk/steady.sh", template!("js/sdk/steady.sh")),
                ("sdk/globals.d.ts", template!("js/sdk/globals.d.ts")),
                ("sdk/plugin.js", template!("ts/sdk/plugin.js")),
                ("sdk/build.mjs", template!("ts/sdk/build.mjs")),
                ("src/plugin.ts", template!("ts/src/plugin.ts")),
                (BUILD_FILE, template!("ts/hookloom-plugin.toml")),
            ],
            Language::Python => vec![
                ("requirements.txt", template!("python/requirements.txt")),
                ("sdk/hookloom.py", template!("python/sdk/hookloom.py")),
                ("sdk/entry.py", template!("python/sdk/entry.py")),
                ("src/plugin.py", template!("python/src/plugin.py")),
                (BUILD_FILE, template!("python/hookloom-plugin.toml")),
            ],
            Language::C => vec![
                ("Makefile", template!("c/Makefile")),
                ("src/plugin.c", template!("c/src/plugin.c")),
                ("sdk/hookloom.h", template!("c/sdk/hookloom.h")),
                ("sdk/hookloom.c", template!("c/sdk/hookloom.c")),
                ("generated/plugin.c", template!("c/generated/plugin.c")),
                ("generated/plugin.h", template!("c/generated/plugin.h")),
                (BUILD_FILE, template!("c/hookloom-plugin.toml")),
            ],
        }
    }

    fn words(self) -> (&'static str, &'static str) {
        match self {
            Language::Rust => ("Rust", "Rust by rustup"),
            Language::Js => ("JavaScript", "Node.js with npm"),
            Language::Ts => ("TypeScript", "Node.js with npm"),
            Language::Python => ("Python", "Python 3.10 or newer with venv"),
            Language::C => (
                "C",
                "clang for wasm32-wasi (Debian: clang-19 lld-19 wasi-libc libclang-rt-19-dev-wasm32), make, and Rust by rustup for its linker",
            ),
        }
    }
}

impl Language {
    /// Returns the text of a template, filled in for a plugin.
    pub(super) fn filled(self, text: &str, name: &PluginName) -> String {
        let (language, needs) = self.words();
        let text = text.replace("{{name_}}", &name.replace('-', "_")).replace("{{name}}", name);
        text.replace("{{language}}", language).replace("{{needs}}", needs)
    }
}

pub(super) fn new(args: &NewArgs) -> Result<(), Failure> {
    let name = &args.name;
    let folder = args.dir.clone().unwrap_or_else(|| PathBuf::from(name.as_str()));
    if folder.exists() {
        return Err(format!("{} already exists", folder.display()).into());
    }
    write_project(&folder, name, args.lang)?;
    let (language, needs) = args.lang.words();
    if args.json {
        let whole = serde_json::json!({"folder": folder, "language": language, "needs": needs});
        return Ok(terminal::json_pretty(&whole)?);
    }
    outln!("made {} ({}); next:\n", folder.display(), language);
    outln!("  cd {}\n  hookloom plugin build\n  hookloom plugin test", folder.display());
    outln!("  hookloom plugin run --event event.json\n\nIt needs {}. README.md there has the rest.", needs);
    Ok(())
}

/// Writes the files of a plugin's template.
pub(super) fn write_project(folder: &Path, name: &PluginName, lang: Language) -> Result<(), Failure> {
    let mut files = lang.files();
    files.extend([
        ("README.md", template!("README.md.txt")),
        (".gitignore", template!("gitignore.txt")),
        ("event.json", template!("event.json")),
        ("golden/contact.json", template!("golden/contact.json")),
        ("golden/digits.json", template!("golden/digits.json")),
        ("golden/unwanted.json", template!("golden/unwanted.json")),
        ("wit/errors.wit", ERRORS_WIT),
        ("wit/deps/plugin.wit", WIT),
    ]);
    for (path, text) in files {
        write(&folder.join(path), lang.filled(text, name).as_bytes())?;
    }
    match lang {
        // In the repository, the WIT files are in two folders; here they are in one.
        Language::Rust => {
            for (path, text) in SDK {
                write(&folder.join(path), text.replace("[\"../../wit\", \"wit\"]", "\"../wit\"").as_bytes())?;
            }
        }
        Language::C => {
            write(&folder.join("generated/plugin_component_type.o"), C_TYPE)?;
            // The generated files of the contract are part of a C plugin, because not everybody has `wit-bindgen c`.
            write(&folder.join(".gitignore"), b"/*.wasm\n")?;
        }
        Language::Js | Language::Ts => {
            write(&folder.join("sdk/prelude.js"), prelude().as_bytes())?;
        }
        Language::Python => {}
    }
    Ok(())
}

/// Returns the globals of scripts as a module, with messages about a plugin.
fn prelude() -> String {
    let module = PRELUDE.replace(PRELUDE_FUNCTION, &format!("\nexport default {}", &PRELUDE_FUNCTION[1..]));
    module.replace("the script threw", "the plugin threw").replace("by a script", "by a plugin")
}

/// Writes a file, and creates its folders.
pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let with_path = |error: std::io::Error| format!("{}: {error}", path.display());
    std::fs::create_dir_all(path.parent().unwrap_or(Path::new("."))).map_err(with_path)?;
    Ok(std::fs::write(path, bytes).map_err(with_path)?)
}
