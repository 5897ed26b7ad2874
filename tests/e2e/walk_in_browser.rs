//! First day of a new user: from the first start to a filtered, scripted and verified delivery, with the mouse and one pasted script.
//!
//! The host is a fresh one with its usual settings. Its only command is `hookloom serve`, whose sign-in link is opened. The test counts
//! what a person does at each step, compares it with the table of `docs/tutorial/without-a-command-line.md`, and estimates the time that
//! a person needs by the keystroke-level model (S. K. Card, T. P. Moran and A. Newell, "The keystroke-level model for user performance
//! time with interactive systems", Communications of the ACM 23(7), 1980). A change of the pages that makes the walk longer fails.
//!
//! # Limits
//! - Reading and thinking are the model's one mental act before each action. A person who studies the pages needs longer.
#![expect(clippy::print_stdout, reason = "the test prints what it counts and measures")]

use crate::harness::{Browser, Newcomer, Role, root};
use fantoccini::key::Key;
use serde_json::json;
use std::time::{Duration, Instant};

/// Operators of the keystroke-level model, in milliseconds: a key of an average typist, pointing, a click, hands from one device to the
/// other, and the mental act before an action.
const KEY_MS: u64 = 280;
const POINT_MS: u64 = 1_100;
const CLICK_MS: u64 = 200;
const HOMING_MS: u64 = 400;
const MENTAL_MS: u64 = 1_350;

/// Time in which a person has to be done.
const PERSON_MAX: Duration = Duration::from_secs(300);

/// Times that the same text is typed into a field that stays empty.
const TYPED_AGAIN_MAX: usize = 3;

/// Maximum number of clicks of the whole walk, and of typed characters.
const CLICKS_MAX: u64 = 18;
const TYPED_MAX: u64 = 13;

/// Script that a person has found somewhere.
const SCRIPT: &str = include_str!("../fixtures/walk_script.js");

/// Actions of a person at a step.
#[derive(Default)]
struct WalkStep {
    name: &'static str,
    clicks: u64,
    typed: u64,
    pasted: u64,
    /// Time of a person by the model.
    person_ms: u64,
    machine: Duration,
}

/// Person before a browser, whose hand is on the mouse first.
struct Person {
    browser: Browser,
    steps: Vec<WalkStep>,
    is_at_keys: bool,
    begun: Instant,
}

impl Person {
    fn begin(&mut self, name: &'static str) {
        self.end();
        self.steps.push(WalkStep { name, ..WalkStep::default() });
    }

    fn end(&mut self) {
        if let Some(step) = self.steps.last_mut() {
            step.machine = self.begun.elapsed();
        }
        self.begun = Instant::now();
    }

    fn step(&mut self) -> &mut WalkStep {
        self.steps.last_mut().unwrap()
    }

    /// Counts a movement of the hands, if they are not there.
    fn hands(&mut self, to_keys: bool) {
        if self.is_at_keys != to_keys {
            self.step().person_ms += HOMING_MS;
        }
        self.is_at_keys = to_keys;
    }

    /// Counts pointing and clicking, after the decision to do so.
    fn count_clicks(&mut self, clicks: u64) {
        self.hands(false);
        self.step().clicks += clicks;
        self.step().person_ms += MENTAL_MS + clicks * (POINT_MS + CLICK_MS);
    }

    async fn click(&mut self, role: Role, name: &str) {
        self.count_clicks(1);
        self.browser.click_named(role, name).await;
    }

    /// Clicks what leads to another page, and waits for that.
    async fn follow(&mut self, role: Role, name: &str) {
        self.browser.wait_named(role, name).await;
        self.browser.script("document.documentElement.dataset.left = 'yes'").await;
        self.click(role, name).await;
        self.browser.wait("html:not([data-left]) main").await;
    }

    /// Clicks a field and types into it.
    async fn type_into(&mut self, field: &str, text: &str) {
        self.click(Role::Field, field).await;
        self.hands(true);
        let keys = text.chars().count() as u64;
        self.step().typed += keys;
        self.step().person_ms += MENTAL_MS + keys * KEY_MS;
        let element = self.browser.wait_named(Role::Field, field).await;
        self.browser.wait_focused(&element).await;
        // On a busy machine, keys of the driver are lost now and then. A person sees that, and types again.
        for _ in 0..TYPED_AGAIN_MAX {
            element.send_keys(text).await.unwrap();
            if !element.prop("value").await.unwrap().unwrap_or_default().is_empty() {
                return;
            }
            // A list of suggestions that is still open takes the keys.
            self.browser.press(Key::Escape).await;
            self.browser.click_named(Role::Field, field).await;
        }
        panic!("{field} stays empty");
    }

    /// Opens a list and clicks an option.
    async fn choose(&mut self, field: &str, option: &str) {
        self.count_clicks(2);
        self.browser.wait_named(Role::Field, field).await.select_by_label(option).await.unwrap();
    }

    /// Clicks the editor, selects everything and pastes: two keys each.
    async fn paste_over(&mut self, field: &str, text: &str) {
        self.click(Role::Field, field).await;
        self.hands(true);
        self.step().pasted += 1;
        self.step().person_ms += MENTAL_MS + 4 * KEY_MS;
        let select_all = format!("{}a{}", char::from(Key::Control), char::from(Key::Null));
        self.browser.wait_named(Role::Field, field).await.send_keys(&select_all).await.unwrap();
        let paste = format!(
            "const data = new DataTransfer(); data.setData('text/plain', {});
             document.activeElement.dispatchEvent(new ClipboardEvent('paste', {{clipboardData: data, bubbles: true, cancelable: true}}))",
            json!(text)
        );
        self.browser.script(&paste).await;
    }

    /// Waits until the filter that is beside the rows, without its spaces, contains something.
    async fn sees_json(&self, part: &str) {
        self.browser.wait_for_value("[name=filter]", part).await;
    }

    /// Waits until the page says something.
    async fn sees(&self, text: &str) {
        self.browser.wait_for_text("main", text).await;
    }
}

/// Row of the table in the documentation.
fn row(step: &WalkStep) -> String {
    format!("| {} | {} | {} | {} |", step.name, step.clicks, step.typed, step.pasted)
}

/// Walks from the sign-in link to the verified delivery.
async fn walk(person: &mut Person, link: &str) {
    person.begin("Open the link, and sign in");
    person.browser.open(link).await;
    person.follow(Role::Button, "Sign in").await;
    person.sees("First steps").await;

    person.begin("Make an address for Agile CRM, and copy it");
    person.follow(Role::Button, "Create an address").await;
    person.click(Role::Button, "Copy").await;
    person.sees("/in/hlt_").await;

    person.begin("Send a sample event, and see it arrive");
    person.follow(Role::Button, "Opportunity is Created").await;
    person.sees("There was no webhook yet.").await;
    person.sees("deal plane").await;
    person.browser.look_on_the_way("walk-event").await;

    person.begin("Begin a webhook for deals, with a receiver of the host itself");
    person.follow(Role::Link, "New webhook for Deal events").await;
    person.follow(Role::Button, "Receive here").await;

    person.begin("Filter: deals with a probability of 75 or more");
    person.type_into("Field", "probability").await;
    person.choose("Operator", "is at least").await;
    person.type_into("Value", "75").await;
    person.sees_json("{\"$gte\":75}").await;
    person.sees("1 of 1 event so far matches.").await;
    person.browser.look_on_the_way("walk-webhook").await;
    person.follow(Role::Button, "Save").await;
    person.sees("Signing secret").await;

    person.begin("Paste a script, and use it in the webhook");
    person.follow(Role::Link, "Write a script for it").await;
    person.browser.wait(".cm-content").await;
    person.paste_over("Source of the script", SCRIPT).await;
    person.sees("deal plane is worth").await;
    person.follow(Role::Button, "Save as version").await;
    person.browser.look_on_the_way("walk-script-added").await;
    person.follow(Role::Button, "Save with script").await;
    person.sees("Preferences saved successfully").await;

    person.begin("Send the sample again, and see it delivered");
    person.follow(Role::Button, "Opportunity is Created").await;
    person.follow(Role::Link, "delivery").await;
    person.browser.wait_for_text(".timeline", "delivered").await;
    person.browser.look_on_the_way("walk-delivery").await;

    person.begin("See what the receiver got, and its signature verified");
    person.follow(Role::Link, "What the receiver got").await;
    person.sees("verified with the webhook's signing secret").await;
    person.sees("deal plane is worth").await;
    person.browser.look_on_the_way("walk-verified").await;
    person.end();
}

/// Walks in a browser. Returns the rows of the table, and the estimate of the time.
async fn walk_in(open: impl AsyncFnOnce(&str) -> Browser, size: &str) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let host = Newcomer::start(&folder.path().join("data")).await;
    let browser = open(&host.url).await;
    let mut person = Person { browser, steps: Vec::new(), is_at_keys: false, begun: Instant::now() };
    walk(&mut person, host.link.as_deref().expect("no link was shown")).await;
    let Person { browser, steps, .. } = person;
    browser.close().await;
    let sum = |of: fn(&WalkStep) -> u64| steps.iter().map(of).sum::<u64>();
    let person_time = Duration::from_millis(sum(|step| step.person_ms));
    println!("{size}");
    for step in &steps {
        println!(
            "{} person {:.1} s, machine {:.1} s",
            row(step),
            step.person_ms as f64 / 1e3,
            step.machine.as_secs_f64()
        );
    }
    let machine: Duration = steps.iter().map(|step| step.machine).sum();
    let clicks = sum(|step| step.clicks);
    let typed = sum(|step| step.typed);
    println!(
        "{clicks} clicks, {typed} characters: person {:.0} s, machine {:.1} s",
        person_time.as_secs_f64(),
        machine.as_secs_f64()
    );
    assert!(clicks <= CLICKS_MAX && typed <= TYPED_MAX, "{clicks} clicks, {typed} characters");
    assert!(person_time < PERSON_MAX, "a person needs {person_time:?}");
    let estimate = format!("needs {:.0} s for it", person_time.as_secs_f64());
    let total = format!("| **all** | **{clicks}** | **{typed}** | **{}** |", sum(|step| step.pasted));
    steps.iter().map(row).chain([total, estimate]).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn from_the_first_start_to_a_verified_delivery_with_the_mouse() {
    let rows = walk_in(async |url| Browser::desktop_at(url).await, "1280 wide, light").await;
    let page = std::fs::read_to_string(root().join("docs/tutorial/without-a-command-line.md")).unwrap();
    for row in rows {
        assert!(page.contains(&row), "docs/tutorial/without-a-command-line.md does not say {row:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_on_a_phone_in_the_dark() {
    walk_in(async |url| Browser::phone_in_the_dark_at(url).await, "390 wide, dark").await;
}
