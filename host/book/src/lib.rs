//! The documentation as a book: pages that mdBook renders from `docs/` when the program is built.
//!
//! # Guarantees
//! - The book is part of the program: nothing is read from disk.
//! - Pages have no scripts, and their links are relative, so they work below any path.
//! - A page's ETag changes with its bytes.
//!
//! It does not speak HTTP: the host's pages do.

/// Content Security Policy of every page: it allows the page's own style sheet, by its hash, and images of this origin.
pub const POLICY: &str = include_str!(concat!(env!("OUT_DIR"), "/policy.txt"));

/// A page or an image of the book.
#[derive(Debug, PartialEq, Eq)]
pub struct File {
    /// Path in the book, such as `how-to/back-up.html`.
    pub path: &'static str,
    /// Content type.
    pub kind: &'static str,
    /// Entity tag, with its quotes.
    pub etag: &'static str,
    /// The bytes.
    pub body: &'static [u8],
}

/// Every file of the book, ordered by path.
pub static FILES: &[File] = &include!(concat!(env!("OUT_DIR"), "/files.rs"));

/// Result of a look-up in the book.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// The file at this path.
    File(&'static File),
    /// Nothing is at this path, but the page that is meant is at this one, relative to the book.
    Elsewhere(String),
}

/// Finds the file at a path below the book. A path that ends with a slash is a folder, whose page is its `index.html`; a page is also
/// found without `.html`, and a folder without its slash.
pub fn find(path: &str) -> Option<Found> {
    if path.is_empty() || path.ends_with('/') {
        return file(&format!("{path}index.html")).map(Found::File);
    }
    file(path)
        .map(Found::File)
        .or_else(|| file(&format!("{path}.html")).map(|page| Found::Elsewhere(page.path.to_owned())))
        .or_else(|| file(&format!("{path}/index.html")).map(|_| Found::Elsewhere(format!("{path}/"))))
}

fn file(path: &str) -> Option<&'static File> {
    FILES.binary_search_by(|file| file.path.cmp(path)).ok().map(|index| &FILES[index])
}

#[cfg(test)]
mod tests;
