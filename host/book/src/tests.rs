//! The book as it was rendered: nothing in it needs a script, and each link leads somewhere.

use super::*;

/// Returns the text of every page, with its path.
fn pages() -> impl Iterator<Item = (&'static str, &'static str)> {
    FILES
        .iter()
        .filter(|file| file.kind.starts_with("text/html"))
        .map(|file| (file.path, std::str::from_utf8(file.body).expect(file.path)))
}

/// Returns the values of an attribute.
fn values<'a>(page: &'a str, attribute: &str) -> Vec<&'a str> {
    let start = format!(" {attribute}=\"");
    page.split(start.as_str()).skip(1).filter_map(|rest| rest.split('"').next()).collect()
}

/// Resolves a link of a page to a path below the host's root.
fn resolved(page: &str, link: &str) -> String {
    let mut folders: Vec<&str> = std::iter::once("docs").chain(page.split('/')).collect();
    folders.pop();
    for part in link.split('/') {
        match part {
            "." | "" => {}
            ".." => drop(folders.pop()),
            folder => folders.push(folder),
        }
    }
    folders.join("/") + if link.ends_with('/') { "/" } else { "" }
}

#[test]
fn pages_have_no_scripts_and_no_inline_styles() {
    assert!(POLICY.starts_with("default-src 'none'; style-src 'sha256-"), "{POLICY}");
    for (path, page) in pages() {
        assert_eq!(page.matches("<style>").count(), 1, "{path}");
        assert!(page.contains("aria-current=\"page\""), "{path} is not in its own contents");
        for refused in [
            "<script",
            " style=\"",
            "<link rel=\"stylesheet\"",
            " onclick=",
            "=\"javascript:",
            "<iframe",
            "checkbox-img",
        ] {
            assert!(!page.contains(refused), "{path} has {refused}");
        }
    }
}

#[test]
fn links_lead_to_a_page_and_to_a_heading_of_it() {
    for (path, page) in pages() {
        let images = values(page, "src");
        for link in values(page, "href").into_iter().chain(images) {
            if link.contains(':') {
                continue;
            }
            assert!(!link.starts_with('/'), "{path}: {link} would leave the prefix of a proxy");
            let (target, fragment) = link.split_once('#').unwrap_or((link, ""));
            let there = if target.is_empty() { format!("docs/{path}") } else { resolved(path, target) };
            if ["", "/", "api", "assets/icon.svg", "docs/reference/openapi.json"].contains(&there.as_str()) {
                continue;
            }
            let within = there.strip_prefix("docs/").unwrap_or_else(|| panic!("{path}: {link} leads to {there}"));
            let Some(Found::File(found)) = find(within) else { panic!("{path}: {link} leads nowhere") };
            if !fragment.is_empty() {
                let text = String::from_utf8_lossy(found.body);
                assert!(text.contains(&format!(" id=\"{fragment}\"")), "{path}: {link}: there is no such heading");
            }
        }
    }
}

#[test]
fn a_page_is_found_by_the_paths_that_people_type() {
    let Some(Found::File(index)) = find("") else { panic!("there is no first page") };
    assert_eq!(index.path, "index.html");
    assert_eq!(find("index.html"), Some(Found::File(index)));
    assert_eq!(find("index"), Some(Found::Elsewhere("index.html".to_owned())));
    assert_eq!(find("nothing"), None);
    assert_eq!(find("nothing/"), None);
    let within = pages().find_map(|(path, _)| path.rsplit_once('/')).expect("a page in a folder");
    assert_eq!(find(within.0), find(&format!("{}/", within.0)).map(|_| Found::Elsewhere(format!("{}/", within.0))));
}

#[test]
fn entity_tags_differ_where_the_bytes_do() {
    for (index, file) in FILES.iter().enumerate() {
        assert!(file.etag.len() == 18 && file.etag.starts_with('"') && file.etag.ends_with('"'), "{}", file.etag);
        assert!(index == 0 || FILES[index - 1].path < file.path, "{} is out of order", file.path);
        for other in &FILES[..index] {
            assert_eq!(file.etag == other.etag, file.body == other.body, "{} and {}", file.path, other.path);
        }
    }
}
