//! Renders `docs/` with mdBook, and writes what the library includes: the pages, their images, and the policy that lets a browser
//! apply their style and nothing else.
//!
//! # Guarantees
//! - No page has a script or an inline style. Its one style sheet is named in the policy by its hash.
//! - Links are relative, so the book works under any path. A link to a file of the source that is not in the book becomes its text.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use mdbook_driver::MDBook;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeSet;
use std::error::Error;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Content types of the files that the book takes along, by extension.
const KINDS: [(&str, &str); 4] =
    [("html", "text/html; charset=utf-8"), ("jpg", "image/jpeg"), ("png", "image/png"), ("svg", "image/svg+xml")];

/// File of the reference that the host serves from its own routes instead.
const OPENAPI: &str = "reference/openapi.json";

fn main() -> Result<(), Box<dyn Error>> {
    let own = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?);
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    let docs = own.join("../../docs").canonicalize()?;
    for watched in [docs.clone(), own.join("theme"), own.join("build.rs")] {
        println!("cargo::rerun-if-changed={}", watched.display());
    }
    let rendered = out.join("book");
    let mut book = MDBook::load(&docs).map_err(|error| format!("{}: {error:#}", docs.display()))?;
    book.config.build.build_dir = rendered.clone();
    book.build().map_err(|error| format!("{error:#}"))?;

    let style = std::fs::read_to_string(own.join("theme/book.css"))?;
    let files = book_files(&book, &rendered)?;
    let mut list = String::from("[\n");
    for name in &files {
        let from = rendered.join(name);
        let extension = name.rsplit('.').next().unwrap_or_default();
        if extension == "html" {
            let page = Adjusted { name, files: &files, style: &style }.page(&std::fs::read_to_string(&from)?);
            std::fs::write(&from, page)?;
        }
        let kind = KINDS.iter().find(|(own, _)| *own == extension).map_or("", |(_, kind)| kind);
        let etag = format!("\"{}\"", BASE64.encode(&Sha256::digest(std::fs::read(&from)?)[..12]));
        let file = from.display().to_string();
        writeln!(list, "File {{ path: {name:?}, kind: {kind:?}, etag: {etag:?}, body: include_bytes!({file:?}) }},")?;
    }
    list.push(']');
    std::fs::write(out.join("files.rs"), list)?;
    let hash = BASE64.encode(Sha256::digest(&style));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{hash}'; img-src 'self'; form-action 'none'; frame-ancestors 'none'; base-uri 'none'"
    );
    std::fs::write(out.join("policy.txt"), policy)?;
    Ok(())
}

/// The chapters' pages and the images of `docs/`, as paths with slashes, in order. mdBook's own scripts, styles and fonts are not
/// among them.
fn book_files(book: &MDBook, rendered: &Path) -> Result<BTreeSet<String>, Box<dyn Error>> {
    let chapters = book.iter().filter_map(|item| match item {
        mdbook_driver::book::BookItem::Chapter(chapter) => chapter.path.clone(),
        _ => None,
    });
    let pages = chapters.map(|path| match path.file_stem() {
        Some(stem) if stem == "README" => path.with_file_name("index.html"),
        _ => path.with_extension("html"),
    });
    let mut found: BTreeSet<PathBuf> = pages.collect();
    found.insert("index.html".into());
    let mut folders = vec![book.root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if KINDS.iter().any(|(kind, _)| *kind != "html" && path.extension().is_some_and(|own| own == *kind))
            {
                found.insert(path.strip_prefix(&book.root)?.to_owned());
            }
        }
    }
    let missing = found.iter().find(|path| !rendered.join(path).is_file());
    if let Some(missing) = missing {
        return Err(format!("mdBook made no {}", missing.display()).into());
    }
    Ok(found.iter().map(|path| path.to_string_lossy().replace('\\', "/")).collect())
}

/// One page of mdBook on its way to the page that is served.
struct Adjusted<'a> {
    /// Its path in the book.
    name: &'a str,
    files: &'a BTreeSet<String>,
    style: &'a str,
}

impl Adjusted<'_> {
    fn page(&self, html: &str) -> String {
        let html = html.replacen("<style></style>", &format!("<style>{}</style>", self.style), 1);
        // The policy refuses style attributes; these are the alignments of Markdown's tables.
        let html = html
            .replace(" style=\"text-align: right\"", " class=\"number\"")
            .replace(" style=\"text-align: center\"", " class=\"middle\"")
            .replace(" style=\"text-align: left\"", "")
            // What scrolls can be reached by the keyboard.
            .replace("<div class=\"table-wrapper\">", "<div class=\"table-wrapper\" tabindex=\"0\">")
            .replace("<pre>", "<pre tabindex=\"0\">");
        // A folder's README.md is its index.html, in the contents and where a page links to it.
        self.links(&self.contents(&plain_images(&html)))
            .replace("README.html\"", "index.html\"")
            .replace("README.html#", "index.html#")
    }

    /// Makes the links of the contents relative to the page, and marks the page itself.
    fn contents(&self, html: &str) -> String {
        let Some((before, contents)) = html.split_once("<nav id=\"contents\"") else { return html.to_owned() };
        let up = "../".repeat(self.name.matches('/').count());
        let own = format!("href=\"{}\"", self.name);
        // The first page of the book is a copy of the first chapter, which may have another name.
        let own = if contents.contains(&own) { own.as_str() } else { "href=\"" };
        let marked = contents.replacen(own, &format!("aria-current=\"page\" {own}"), 1);
        format!("{before}<nav id=\"contents\"{}", marked.replace("href=\"", &format!("href=\"{up}")))
    }

    /// Turns links to files of the source that the book has not into their text.
    fn links(&self, html: &str) -> String {
        const LINK: &str = "<a href=\"";
        let mut parts = html.split(LINK);
        let mut page = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let parsed = part.split_once('"').and_then(|(target, rest)| Some((target, rest.split_once('>')?.1)));
            match parsed.and_then(|(target, rest)| Some((self.source_file(target)?, rest.split_once("</a>")?))) {
                Some((file, (text, after))) => {
                    page.push_str(&format!(
                        "<span class=\"source\" title=\"{file} in the source\">{text}</span>{after}"
                    ));
                }
                None => {
                    page.push_str(LINK);
                    page.push_str(part);
                }
            }
        }
        page
    }

    /// The file of the source that a link leads to. `None`: it leads to a page of the book or of the host, or elsewhere.
    fn source_file(&self, target: &str) -> Option<String> {
        let path = target.split('#').next().unwrap_or_default();
        if path.is_empty() || target.contains(':') || target.starts_with('/') {
            return None;
        }
        let mut folders: Vec<&str> = self.name.split('/').collect();
        folders.pop();
        let mut is_outside = false;
        for part in path.split('/').filter(|part| !part.is_empty() && *part != ".") {
            if part != ".." {
                folders.push(part);
            } else if folders.pop().is_none() {
                is_outside = true;
            }
        }
        let resolved = folders.join("/");
        // A page that is missing stays a link: the library's test finds it.
        let in_book = self.files.contains(&resolved) || resolved == OPENAPI || resolved.ends_with(".html");
        let is_host = is_outside && matches!(resolved.as_str(), "" | "api" | "assets/icon.svg");
        if is_host || (!is_outside && (in_book || path.ends_with('/'))) {
            return None;
        }
        let folder = if is_outside { "" } else { "docs/" };
        Some(format!(
            "{folder}{}",
            resolved.strip_suffix(".html").map_or(resolved.clone(), |page| format!("{page}.md"))
        ))
    }
}

/// Takes away the checkbox and the second copy by which mdBook enlarges an image.
fn plain_images(html: &str) -> String {
    let mut parts = html.split("<label class=\"checkbox-label\"><input class=\"checkbox-img\" type=\"checkbox\">");
    let mut page = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (image, rest) = part.split_once("<span class=\"img-wrapper\">").unwrap_or((part, ""));
        page.push_str(image);
        page.push_str(rest.split_once("</span></label>").map_or(rest, |(_, after)| after));
    }
    page
}
