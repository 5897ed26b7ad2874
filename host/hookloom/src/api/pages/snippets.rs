//! Code that verifies signatures, in six languages: the files of `assets/snippets`, which the documentation shows too and a test runs.

/// Code of one language.
#[derive(Debug)]
pub(super) struct Snippet {
    /// Value of the parameter `lang`.
    pub(super) name: &'static str,
    pub(super) label: &'static str,
    /// Name of the file.
    pub(super) file: &'static str,
    pub(super) source: &'static str,
}

macro_rules! snippet {
    ($name:literal, $label:literal, $file:literal) => {
        Snippet {
            name: $name,
            label: $label,
            file: $file,
            source: include_str!(concat!("../../../assets/snippets/", $file)),
        }
    };
}

/// Code of every language.
pub(super) static SNIPPETS: [Snippet; 6] = [
    snippet!("node", "Node.js", "verify.mjs"),
    snippet!("python", "Python", "verify.py"),
    snippet!("go", "Go", "verify.go"),
    snippet!("ruby", "Ruby", "verify.rb"),
    snippet!("php", "PHP", "verify.php"),
    snippet!("rust", "Rust", "verify.rs"),
];

impl Snippet {
    /// Returns the code of a language. The first one, if there is none of this name.
    pub(super) fn of(name: &str) -> &'static Snippet {
        SNIPPETS.iter().find(|one| one.name == name).unwrap_or(&SNIPPETS[0])
    }
}
