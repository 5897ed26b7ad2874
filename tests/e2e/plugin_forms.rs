//! Forms of the plugins of the library, as a person sees them.
//!
//! Pictures of them are taken into `target/plugin-forms`. The words of each form are compared with those on the committed picture
//! (`tests/fixtures/plugin-forms`), as for the tutorial.

use crate::harness::{Browser, Host, check_pictures, fault_of_picture, root, text};
use reqwest::Method;
use serde_json::json;

/// Expression of the browser for the texts of the plugin's fields, with what empty fields show.
const TEXTS: &str = "return [...document.querySelectorAll('fieldset.config :is(legend, p, option, textarea, input)')]
    .map((one) => one.placeholder ?? one.textContent).join(' ')";

/// Width of a window in which a form is as wide as on a page of the documentation.
const WIDTH: u32 = 900;

#[tokio::test(flavor = "multi_thread")]
async fn each_plugin_of_the_library_has_a_form_that_reads_well() {
    let host = Host::start().await;
    let browser = Browser::desktop(&host).await;
    browser.resize(WIDTH, 1_200).await;
    let link = host.post("/v1/sign-in-links", &json!({})).await;
    browser.open(text(&link, "path")).await;
    browser.click("button.primary").await;
    browser.wait("nav [aria-current=page]").await;
    let page = std::fs::read_to_string(root().join("docs/reference/example-plugins.md")).unwrap();
    let mut faults = Vec::new();
    for plugin in host.get("./library").await.as_array().unwrap() {
        let name = text(plugin, "name");
        host.ask(Method::POST, "./plugins", json!({"library": name}).to_string()).await.ok();
        browser.open("/t/default/webhooks/new").await;
        browser.fill("#plugin", name).await;
        browser.click("button[name=fields]").await;
        browser.wait("fieldset.config").await;
        browser.look(&format!("form-of-{name}")).await;
        browser.picture_of("fieldset.config", "plugin-forms", name).await;
        let texts = browser.script(TEXTS).await;
        let shown = texts.as_str().unwrap();
        assert!(!shown.contains('`'), "{name}: {shown}");
        faults.extend(fault_of_picture("plugin-forms", name, shown));
        assert!(page.contains(&format!("](images/{name}.png)")), "the documentation shows the form of {name}");
    }
    browser.close().await;
    check_pictures("plugin-forms", "docs/reference/images", &faults);
}
