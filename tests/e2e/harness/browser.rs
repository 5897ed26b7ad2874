//! Real browser: Debian's Chromium without a window, driven by WebDriver (W3C).

mod look;

use super::{Host, PATIENCE, root};
use fantoccini::elements::Element;
use fantoccini::key::Key;
use fantoccini::{Client, ClientBuilder, Locator};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Stdio;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

/// Runs chromedriver until the standard input ends, as it does when the test ends or is killed, and ends it with its browsers then.
const GUARD: &str = "chromedriver --port=0 </dev/null & read -r _; kill -KILL 0";

/// Number of times that chromedriver is started, if it says nothing.
const DRIVER_TRIES: u32 = 3;

/// Ends all animations, except those without an end, such as a cursor that blinks.
const FINISH_ANIMATIONS: &str = "document.getAnimations().filter((one) => one.effect.getComputedTiming().endTime < Infinity).forEach((one) => one.finish())";

/// Returns the fields of the page with their values, for the message of a failed test.
const FIELDS: &str = "return [...document.querySelectorAll('main input:not([type=hidden]), main select, main textarea')].map((one) => `${one.name}=${one.value}`)";

/// Kind of an element, by which and by its name a person finds it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Role {
    Button,
    Link,
    /// Field with this label.
    Field,
}

impl Role {
    /// Returns the XPath of the elements with a name.
    fn path(self, name: &str) -> String {
        let named = format!("[normalize-space(.)='{name}' or @aria-label='{name}']");
        match self {
            Role::Button => format!("//button[not(@hidden)]{named}"),
            Role::Link => format!("//a[@href]{named}"),
            Role::Field => format!(
                "//*[@id=//label[normalize-space(.)='{name}']/@for] | //label[normalize-space(.)='{name}']//input | \
                 //*[self::input or self::select or self::textarea or @role='textbox'][@aria-label='{name}']"
            ),
        }
    }
}

/// Browser with the pages of one host.
pub(crate) struct Browser {
    client: Client,
    url: String,
    kind: &'static str,
    /// Runs chromedriver and its browsers, until it is dropped.
    _guard: Child,
    /// Has the temporary files of the browser, which it leaves behind when it is killed.
    _folder: TempDir,
}

impl Browser {
    /// Opens a wide window in light mode.
    pub(crate) async fn desktop(host: &Host) -> Browser {
        Browser::desktop_at(&host.url).await
    }

    /// Opens a wide window in light mode, for the pages at this URL.
    pub(crate) async fn desktop_at(url: &str) -> Browser {
        let browser = Browser::start(url, "desktop", json!({"args": ["--window-size=1280,1000"]})).await;
        assert_eq!(browser.script("return matchMedia('(prefers-color-scheme: dark)').matches").await, json!(false));
        browser
    }

    /// Opens a narrow window, like a phone's, in dark mode.
    pub(crate) async fn phone_in_the_dark(host: &Host) -> Browser {
        Browser::phone_in_the_dark_at(&host.url).await
    }

    /// Opens a narrow window in dark mode, for the pages at this URL.
    pub(crate) async fn phone_in_the_dark_at(url: &str) -> Browser {
        let metrics = json!({"deviceMetrics": {"width": 390, "height": 844, "pixelRatio": 2.0, "touch": true}});
        let options = json!({"args": ["--blink-settings=preferredColorScheme=0"], "mobileEmulation": metrics});
        let browser = Browser::start(url, "phone", options).await;
        assert_eq!(browser.script("return matchMedia('(prefers-color-scheme: dark)').matches").await, json!(true));
        browser
    }

    async fn start(url: &str, kind: &'static str, mut options: Value) -> Browser {
        let folder = tempfile::tempdir().unwrap();
        let mut tries = DRIVER_TRIES;
        let (guard, port) = loop {
            tries -= 1;
            match tokio::time::timeout(PATIENCE / DRIVER_TRIES, start_driver(folder.path())).await {
                Ok(started) => break started,
                // Seen once in thousands of starts. It ends with its guard.
                Err(_) if tries > 0 => {}
                Err(_) => panic!("chromedriver does not start; `cargo xtask test` installs it"),
            }
        };
        // As root, and in small containers, Chromium's sandbox and /dev/shm are not available.
        let own = ["--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"].map(Value::from);
        options["args"].as_array_mut().unwrap().extend(own);
        let capabilities = json!({"goog:chromeOptions": options}).as_object().unwrap().clone();
        let mut builder = ClientBuilder::new(hyper_util::client::legacy::connect::HttpConnector::new());
        let client = builder.capabilities(capabilities).connect(&format!("http://127.0.0.1:{port}")).await.unwrap();
        Browser { client, url: url.to_owned(), kind, _guard: guard, _folder: folder }
    }

    /// Changes the size of the window.
    pub(crate) async fn resize(&self, width: u32, height: u32) {
        self.client.set_window_size(width, height).await.unwrap();
    }

    pub(crate) async fn open(&self, path: &str) {
        self.client.goto(&format!("{}{path}", self.url)).await.unwrap();
    }

    /// Opens a page at any URL.
    pub(crate) async fn visit(&self, url: &str) {
        self.client.goto(url).await.unwrap();
    }

    /// Enters a frame of the page, when it shows an element. What follows is done in the frame.
    pub(crate) async fn enter_frame(&self, frame: &str, css: &str) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            self.leave_frame().await;
            self.wait(frame).await.enter_frame().await.unwrap();
            // A frame that goes to another page meanwhile has no element.
            if self.client.find(Locator::Css(css)).await.is_ok() {
                return;
            }
            if tokio::time::Instant::now() > deadline {
                let text = self.script("return document.URL + ' ' + document.body.innerText").await;
                panic!("{css} did not come in the frame: {text}");
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }

    /// Goes back from a frame to the page around it.
    pub(crate) async fn leave_frame(&self) {
        self.client.enter_parent_frame().await.unwrap();
    }

    /// Waits until a frame of the page shows that its page was refused.
    pub(crate) async fn wait_for_frame_fault(&self, frame: &str) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            self.leave_frame().await;
            self.wait(frame).await.enter_frame().await.unwrap();
            let url = self.client.execute("return document.URL", Vec::new()).await;
            if url.as_ref().is_ok_and(|url| url.as_str().is_some_and(|url| url.starts_with("chrome-error:"))) {
                self.leave_frame().await;
                return;
            }
            assert!(tokio::time::Instant::now() < deadline, "the frame shows {url:?}");
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }

    /// Waits until the browser is at a URL.
    pub(crate) async fn until_at_url(&self, url: &str) {
        let wanted = url.parse().unwrap();
        self.client.wait().at_most(PATIENCE).for_url(&wanted).await.unwrap();
    }

    /// Returns the path of the current page, without the host.
    pub(crate) async fn path(&self) -> String {
        self.client.current_url().await.unwrap().path().to_owned()
    }

    pub(crate) async fn until_at(&self, path: &str) {
        let url = format!("{}{path}", self.url).parse().unwrap();
        if let Err(error) = self.client.wait().at_most(PATIENCE).for_url(&url).await {
            panic!("{path} did not come: {error}; {}", self.script("return document.body.innerText").await);
        }
    }

    pub(crate) async fn wait(&self, css: &str) -> Element {
        self.wait_for(Locator::Css(css)).await
    }

    /// Waits for an element of a role with this name, as a person reads it.
    pub(crate) async fn wait_named(&self, role: Role, name: &str) -> Element {
        self.wait_for(Locator::XPath(&role.path(name))).await
    }

    /// Waits until a field has the focus, as a person waits for the cursor. A tap takes effect after its command has returned.
    pub(crate) async fn wait_focused(&self, field: &Element) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        let script = "return document.activeElement === arguments[0]";
        while self.client.execute(script, vec![json!(field)]).await.unwrap() != json!(true) {
            assert!(tokio::time::Instant::now() < deadline, "the field did not get the focus");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }

    async fn wait_for(&self, locator: Locator<'_>) -> Element {
        let found = self.client.wait().at_most(PATIENCE).for_element(locator).await;
        match found {
            Ok(found) => found,
            Err(error) => panic!("{locator:?}: {error} in {}", self.client.source().await.unwrap()),
        }
    }

    /// Waits until an element contains a text.
    pub(crate) async fn wait_for_text(&self, css: &str, wanted: &str) {
        self.wait_for_part(css, "innerText", wanted).await;
    }

    /// Waits until the value of a field contains a text, spaces of both left out.
    pub(crate) async fn wait_for_value(&self, css: &str, wanted: &str) {
        self.wait_for_part(css, "value.replaceAll(/\\s/g, '')", wanted).await;
    }

    async fn wait_for_part(&self, css: &str, property: &str, wanted: &str) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        let script = format!("return document.querySelector({})?.{property} ?? ''", json!(css));
        loop {
            let found = self.script(&script).await;
            if found.as_str().is_some_and(|text| text.contains(wanted)) {
                return;
            }
            if tokio::time::Instant::now() > deadline {
                panic!("{css} says {found} instead of {wanted:?}; fields: {}", self.script(FIELDS).await);
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }

    pub(crate) async fn click(&self, css: &str) {
        self.click_when_there(Locator::Css(css)).await;
    }

    /// Clicks the element of a role with this name.
    pub(crate) async fn click_named(&self, role: Role, name: &str) {
        self.click_when_there(Locator::XPath(&role.path(name))).await;
    }

    /// Clicks an element. If a live page replaces it meanwhile, its successor is clicked.
    async fn click_when_there(&self, locator: Locator<'_>) {
        loop {
            let element = self.wait_for(locator).await;
            let scroll = "arguments[0].scrollIntoView({block: 'center'})";
            let scrolled = self.client.execute(scroll, vec![json!(element)]).await;
            let clicked = match scrolled {
                Ok(_) => element.click().await,
                Err(error) => Err(error),
            };
            match clicked {
                Ok(()) => return,
                Err(error) if error.is_stale_element_reference() => {}
                Err(error) => panic!("{locator:?}: {error}"),
            }
        }
    }

    /// Replaces the text of a field; selects a file in a file field, or an option of a select.
    pub(crate) async fn fill(&self, css: &str, text: &str) {
        let element = self.wait(css).await;
        if element.tag_name().await.unwrap() == "select" {
            element.select_by_value(text).await.unwrap();
            return;
        }
        if element.attr("type").await.unwrap().as_deref() != Some("file") {
            element.clear().await.unwrap();
        }
        element.send_keys(text).await.unwrap();
    }

    /// Presses a key, in the focused element.
    pub(crate) async fn press(&self, key: Key) {
        self.client.active_element().await.unwrap().send_keys(&char::from(key).to_string()).await.unwrap();
    }

    pub(crate) async fn script(&self, script: &str) -> Value {
        self.client.execute(script, Vec::new()).await.unwrap()
    }

    /// Takes a picture of the page from its top to the end of an element, as a file in `target/tutorial`.
    pub(crate) async fn picture(&self, name: &str, last: &str) {
        let tidy = "document.activeElement.blur(); document.querySelectorAll('html, .sidebar').forEach((one) => { one.style.scrollbarWidth = 'none'; });";
        self.script(tidy).await;
        self.script(FINISH_ANIMATIONS).await;
        let end = format!(
            "return Math.ceil(document.querySelector({}).getBoundingClientRect().bottom + scrollY)",
            json!(last)
        );
        let height = self.script(&end).await.as_u64().unwrap() + 24;
        let frame = self.script("return outerHeight - innerHeight").await.as_u64().unwrap();
        let window = self.client.get_window_size().await.unwrap();
        self.client.set_window_size(1_280, u32::try_from(height + frame).unwrap()).await.unwrap();
        self.script("scrollTo(0, 0)").await;
        save("tutorial", name, &self.client.screenshot().await.unwrap());
        self.client.set_window_size(u32::try_from(window.0).unwrap(), u32::try_from(window.1).unwrap()).await.unwrap();
    }

    /// Takes a picture of an element alone, as a file in a folder of `target`.
    pub(crate) async fn picture_of(&self, css: &str, folder: &str, name: &str) {
        self.script("document.activeElement.blur()").await;
        self.script(FINISH_ANIMATIONS).await;
        save(folder, name, &self.wait(css).await.screenshot().await.unwrap());
    }

    pub(crate) async fn close(self) {
        self.client.close().await.unwrap();
    }
}

/// Starts chromedriver, and returns its guard and its port.
async fn start_driver(folder: &Path) -> (Child, String) {
    let mut guard = Command::new("/bin/sh");
    guard.args(["-c", GUARD]).env("TMPDIR", folder).process_group(0);
    let mut guard = guard.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(guard.stdout.take().unwrap()).lines();
    while let Some(line) = lines.next_line().await.unwrap() {
        if let Some((_, port)) = line.split_once("started successfully on port ") {
            return (guard, port.trim_end_matches('.').to_owned());
        }
    }
    panic!("chromedriver ended");
}

/// Writes a picture into a folder of `target`.
fn save(folder: &str, name: &str, picture: &[u8]) {
    let folder = root().join("target").join(folder);
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join(format!("{name}.png")), picture).unwrap();
}
