//! Name, logo and colours of the portal, as of the start of the host.
//!
//! # Guarantees
//! - A logo is served with the type that its first bytes have, and with a policy under which a browser runs nothing of it. Pages show
//!   it as an image.
//! - Whatever the accent colour is, text in it and on it can be read ([`AccentRole`]).

use crate::accent::{AccentRole, Colour, PageGrounds};
use crate::config::Config;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use hookloom_model::portal::PortalOrigin;
use http::{HeaderName, HeaderValue, StatusCode, header};
use std::fmt::Write as _;
use std::path::PathBuf;

/// Maximum size of a logo, in bytes.
const LOGO_BYTES_MAX: usize = 64 << 10;

/// Name of a platform that has none.
const NAME: &str = "Hookloom";

/// First bytes of a PNG file (PNG specification, §5.2).
const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";

/// Grounds of a light page: `--surface`, `--raised` and `--sunken` of `assets/css/tokens.css`.
const LIGHT: PageGrounds =
    PageGrounds { grounds: [Colour([0xff; 3]), Colour([0xff; 3]), Colour([0xf3, 0xf6, 0xf6])], is_dark: false };

/// Grounds of a dark page.
const DARK: PageGrounds = PageGrounds {
    grounds: [Colour([0x0f, 0x15, 0x16]), Colour([0x15, 0x1d, 0x1e]), Colour([0x0a, 0x0f, 0x10])],
    is_dark: true,
};

const CACHE: (HeaderName, HeaderValue) = (header::CACHE_CONTROL, HeaderValue::from_static("max-age=300"));

/// Policy of a logo: an SVG may have styles of its own, and nothing else.
const LOGO_POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; sandbox; frame-ancestors 'none'; base-uri 'none'";

/// Reason why the logo of the portal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PortalBrandError {
    /// The file cannot be read.
    #[error("portal_logo_file {} cannot be read", path.display())]
    Unreadable {
        /// Path of the file.
        path: PathBuf,
        /// Error of the system.
        source: std::io::Error,
    },
    /// The file is too large.
    #[error("portal_logo_file {} has {bytes} bytes; a logo has at most {LOGO_BYTES_MAX}", path.display())]
    TooLarge {
        /// Path of the file.
        path: PathBuf,
        /// Size of the file.
        bytes: usize,
    },
    /// The file is no image of a known kind.
    #[error("portal_logo_file {} is neither a PNG file nor an SVG file in UTF-8", path.display())]
    Unknown {
        /// Path of the file.
        path: PathBuf,
    },
}

/// Logo with its content type.
struct Logo {
    kind: &'static str,
    bytes: Bytes,
}

/// Name, logo and colours of the portal, and the origins whose pages may show it.
pub struct PortalBrand {
    name: String,
    logo: Option<Logo>,
    style: String,
    /// Sources of `frame-ancestors`. Empty: none.
    ancestors: String,
    /// True if browsers reach the host by TLS.
    is_behind_tls: bool,
}

impl PortalBrand {
    /// Reads the logo, and returns the brand of the settings.
    ///
    /// # Errors
    /// The logo cannot be read, is too large, or is no image.
    pub fn new(config: &Config) -> Result<Self, PortalBrandError> {
        let origins = config.portal_origins.iter().map(PortalOrigin::as_str);
        Ok(PortalBrand {
            name: if config.portal_name.is_empty() { NAME.to_owned() } else { config.portal_name.clone() },
            logo: logo(config)?,
            style: config.portal_colour.map(style).unwrap_or_default(),
            ancestors: origins.collect::<Vec<_>>().join(" "),
            is_behind_tls: config.is_behind_tls(),
        })
    }

    /// Returns the name of the platform.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Returns true if there is a logo.
    pub(super) fn has_logo(&self) -> bool {
        self.logo.is_some()
    }

    /// Returns the origins whose pages may show the portal in a frame, as a list of sources. None: no page may.
    pub(super) fn ancestors(&self) -> Option<&str> {
        Some(&*self.ancestors).filter(|sources| !sources.is_empty())
    }

    /// Returns true if browsers reach the host by TLS.
    pub(super) fn is_behind_tls(&self) -> bool {
        self.is_behind_tls
    }

    /// Returns the style sheet with the colours.
    pub(super) fn style_answer(&self) -> Response {
        ([(header::CONTENT_TYPE, HeaderValue::from_static("text/css; charset=utf-8")), CACHE], self.style.clone())
            .into_response()
    }

    /// Returns the logo.
    pub(super) fn logo_answer(&self) -> Response {
        let Some(logo) = &self.logo else { return StatusCode::NOT_FOUND.into_response() };
        let policy = (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(LOGO_POLICY));
        let kind = (header::CONTENT_TYPE, HeaderValue::from_static(logo.kind));
        ([kind, policy, CACHE], logo.bytes.clone()).into_response()
    }
}

fn logo(config: &Config) -> Result<Option<Logo>, PortalBrandError> {
    let path = config.portal_logo_file.clone();
    if path.as_os_str().is_empty() {
        return Ok(None);
    }
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(source) => return Err(PortalBrandError::Unreadable { path, source }),
    };
    if bytes.len() > LOGO_BYTES_MAX {
        return Err(PortalBrandError::TooLarge { path, bytes: bytes.len() });
    }
    match kind(&bytes) {
        Some(kind) => Ok(Some(Logo { kind, bytes: bytes.into() })),
        None => Err(PortalBrandError::Unknown { path }),
    }
}

/// Returns the content type of an image. None: it is of another kind.
fn kind(bytes: &[u8]) -> Option<&'static str> {
    if bytes.starts_with(PNG) {
        return Some("image/png");
    }
    let text = std::str::from_utf8(bytes).ok()?;
    is_svg(text).then_some("image/svg+xml")
}

/// Returns true if the first element of an XML text is `svg`.
fn is_svg(text: &str) -> bool {
    let mut rest = text.trim_start_matches('\u{feff}').trim_start();
    // A declaration, a document type and comments may come before it.
    loop {
        let end = match rest {
            _ if rest.starts_with("<!--") => "-->",
            _ if rest.starts_with("<?") => "?>",
            _ if rest.starts_with("<!") => ">",
            _ => break,
        };
        let Some((_, after)) = rest.split_once(end) else { return false };
        rest = after.trim_start();
    }
    let Some(name) = rest.strip_prefix("<svg") else { return false };
    name.starts_with(|next: char| next.is_ascii_whitespace() || next == '>' || next == '/')
}

/// Returns the style sheet of an accent colour.
fn style(colour: Colour) -> String {
    let [light, dark] = [LIGHT, DARK].map(|page| declarations(AccentRole::of(colour, page)));
    format!(":root {{{light}}}\n@media (prefers-color-scheme: dark) {{ :root {{{dark}}} }}\n")
}

fn declarations(role: AccentRole) -> String {
    let AccentRole { text, ground, line, solid } = role;
    let mut declarations = String::new();
    for (name, colour) in [("accent", text), ("accent-bg", ground), ("accent-line", line), ("accent-solid", solid)] {
        // Writing to a string cannot fail.
        let _ = write!(declarations, " --{name}: {colour};");
    }
    declarations.push(' ');
    declarations
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_logo_is_known_by_its_first_bytes() {
        #[track_caller]
        fn check(bytes: &[u8], expected: Option<&str>) {
            assert_eq!(kind(bytes), expected, "{}", String::from_utf8_lossy(bytes));
        }
        let svg = Some("image/svg+xml");
        check(b"\x89PNG\r\n\x1a\n\0\0", Some("image/png"));
        check(b"<svg xmlns=\"http://www.w3.org/2000/svg\"/>", svg);
        check(b"\xef\xbb\xbf<?xml version=\"1.0\"?>\n<!-- <html> -->\n<!DOCTYPE svg>\n<svg\n width='1'></svg>", svg);
        check(b"<html><svg></svg></html>", None);
        check(b"<svgx/>", None);
        check(b"<!-- <svg> ", None);
        check(b"GIF89a", None);
        check(b"\xff<svg/>", None);
        check(b"", None);
    }

    #[test]
    fn the_grounds_are_those_of_the_style_sheet() {
        let tokens = include_str!("../../../assets/css/tokens.css");
        let (light, dark) = tokens.split_once("prefers-color-scheme: dark").expect("a dark scheme");
        for (css, page) in [(light, LIGHT), (dark, DARK)] {
            for (name, colour) in ["surface", "raised", "sunken"].into_iter().zip(page.grounds) {
                assert!(css.contains(&format!("--{name}: {colour};")), "--{name}, dark {}", page.is_dark);
            }
        }
        assert!(tokens.matches("--on-solid: #ffffff;").count() == 2, "text on a solid ground is white");
    }

    #[test]
    fn a_colour_makes_a_light_and_a_dark_scheme() {
        let css = style(Colour([0x0b, 0x64, 0x70]));
        assert!(css.starts_with(":root { --accent: #0b6470; --accent-bg: "), "{css}");
        assert_eq!((css.matches("--accent-solid: ").count(), css.matches('{').count()), (2, 3), "{css}");
    }
}
