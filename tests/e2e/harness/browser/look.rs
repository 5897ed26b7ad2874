//! Looks at a page: screenshots in light and dark, its room in windows of several widths, and axe-core.

use super::{Browser, FINISH_ANIMATIONS, root, save};
use fantoccini::wd::WebDriverCompatibleCommand;
use http::Method;
use serde_json::{Value, json};
use std::path::PathBuf;
use url::{ParseError, Url};

/// Runs axe-core, and returns its violations.
const RUN_AXE: &str = "const done = arguments[arguments.length - 1]; axe.run(document).then((found) => done(found.violations\
                       .map((one) => ({rule: one.id, impact: one.impact, help: one.help, at: one.nodes.map((node) => node.target.join(' ') + ' ' + (node.failureSummary ?? ''))}))))";

/// Returns the visible elements whose own text has four lines or more of at most a few letters each.
const SQUEEZED: &str = "
    const words = (one) => [...one.childNodes].filter((node) => node.nodeType === 3).map((node) => node.data.trim()).join(' ').trim();
    const squeezed = (one) => {
      const box = one.getBoundingClientRect(), line = parseFloat(getComputedStyle(one).fontSize);
      return words(one).length > 12 && box.width > 1 && box.width < 4 * line && box.height > 4 * line;
    };
    return [...document.querySelectorAll('body *')].filter(squeezed).map((one) => `${one.tagName}: ${words(one)}`)";

/// Returns how far the side bar of a desktop is from the top of the window.
const SIDEBAR_TOP: &str = "
    const bar = document.querySelector('.app > .sidebar');
    return bar && getComputedStyle(bar).position === 'sticky' ? Math.round(bar.getBoundingClientRect().top) : 0";

/// Command of Chromium's own protocol, by the endpoint of chromedriver for it, which WebDriver does not have.
#[derive(Debug)]
struct EmulateMedia {
    features: Value,
}

impl WebDriverCompatibleCommand for EmulateMedia {
    fn endpoint(&self, base_url: &Url, session_id: Option<&str>) -> Result<Url, ParseError> {
        base_url.join(&format!("session/{}/goog/cdp/execute", session_id.expect("a session")))
    }

    fn method_and_body(&self, _: &Url) -> (Method, Option<String>) {
        let command = json!({"cmd": "Emulation.setEmulatedMedia", "params": {"features": self.features}});
        (Method::POST, Some(command.to_string()))
    }
}

impl Browser {
    /// Takes a screenshot in light and one in dark mode. In both, the page must fit its window, and axe-core must find no serious
    /// fault. A desktop's page must also fit narrower windows.
    pub(crate) async fn look(&self, name: &str) {
        for scheme in ["light", "dark"] {
            self.emulate(json!([{"name": "prefers-color-scheme", "value": scheme}])).await;
            self.check(&format!("{}-{scheme}-{name}", self.kind)).await;
        }
        // Back to the mode of the window.
        self.emulate(json!([])).await;
        if self.kind.starts_with("desktop") {
            self.check_between(name).await;
        }
    }

    /// Does the same in the mode of the window only, on the way of a person who goes on.
    pub(crate) async fn look_on_the_way(&self, name: &str) {
        self.check(&format!("{}-{name}", self.kind)).await;
    }

    async fn check(&self, name: &str) {
        // Elements that fade in do not have their final colours yet.
        self.script(FINISH_ANIMATIONS).await;
        save("screenshots", name, &self.client.screenshot().await.unwrap());
        self.check_room(name).await;
        let axe = std::fs::read_to_string(axe()).expect("axe-core; `cargo xtask test` installs it");
        let found = self.client.execute_async(&format!("{axe};{RUN_AXE}"), Vec::new()).await.unwrap();
        let violations = found.as_array().unwrap().iter();
        let serious: Vec<&Value> =
            violations.filter(|one| one["impact"] == "serious" || one["impact"] == "critical").collect();
        assert!(serious.is_empty(), "{name}: {serious:#?}");
    }

    /// Checks that the page fits windows between a phone and a wide screen, such as a tablet.
    async fn check_between(&self, name: &str) {
        let (width, height) = self.client.get_window_size().await.unwrap();
        for between in [708, 768, 1_024] {
            self.client.set_window_size(between, u32::try_from(height).unwrap()).await.unwrap();
            self.check_room(&format!("{name} at {between} pixels")).await;
        }
        self.client.set_window_size(u32::try_from(width).unwrap(), u32::try_from(height).unwrap()).await.unwrap();
    }

    /// Checks that the page fits its window.
    async fn check_room(&self, name: &str) {
        let wide =
            self.script("return document.documentElement.scrollWidth - document.documentElement.clientWidth").await;
        assert_eq!(wide, json!(0), "{name} is wider than its window");
        assert_eq!(self.script(SQUEEZED).await, json!([]), "{name} has texts of a word or less in a line");
        assert_eq!(self.script(SIDEBAR_TOP).await, json!(0), "{name} has a side bar that does not stay");
    }

    /// Replaces media features that the page sees.
    async fn emulate(&self, features: Value) {
        self.client.issue_cmd(EmulateMedia { features }).await.unwrap();
    }
}

/// Returns the path to which `cargo xtask test` installs axe.
fn axe() -> PathBuf {
    root().join("target/tools/axe-core/node_modules/axe-core/axe.min.js")
}
