//! Host behind the real nginx and Caddy, with the configurations of `docs/how-to/nginx.md` and `docs/how-to/caddy.md`: people can sign
//! in, every link works, and shown addresses are public ones.

use crate::harness::{ADMIN_KEY, Front, Host, PATIENCE, ProxyProgram, block_of, event, program, text};
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;

#[tokio::test]
async fn behind_nginx() {
    walk(Front::start(ProxyProgram::Nginx, &block_of("how-to/nginx.md", "nginx", 0), "").await).await;
}

#[tokio::test]
async fn behind_nginx_that_passes_nothing_but_the_request() {
    let page = block_of("how-to/nginx.md", "nginx", 0);
    let plain: String =
        page.lines().filter(|line| !line.contains("proxy_set_header")).map(|line| format!("{line}\n")).collect();
    walk(Front::start(ProxyProgram::Nginx, &plain, "").await).await;
}

#[tokio::test]
async fn behind_nginx_below_a_path() {
    let page = block_of("how-to/nginx.md", "nginx", 1);
    assert!(page.contains("proxy_pass http://127.0.0.1:8420/;"), "it takes the prefix away");
    walk(Front::start(ProxyProgram::Nginx, &page, "/hookloom").await).await;
}

#[tokio::test]
async fn behind_nginx_that_passes_the_path_on() {
    let page = block_of("how-to/nginx.md", "nginx", 1)
        .replace("proxy_pass http://127.0.0.1:8420/;", "proxy_pass http://127.0.0.1:8420;");
    walk(Front::start(ProxyProgram::Nginx, &page, "/hookloom").await).await;
}

#[tokio::test]
async fn behind_caddy() {
    walk(Front::start(ProxyProgram::Caddy, &block_of("how-to/caddy.md", "caddyfile", 0), "").await).await;
}

#[tokio::test]
async fn behind_caddy_below_a_path() {
    walk(Front::start(ProxyProgram::Caddy, &block_of("how-to/caddy.md", "caddyfile", 1), "/hookloom").await).await;
}

/// User with a browser in front of a proxy.
struct Walker<'a> {
    front: &'a Front,
    cookie: String,
}

impl Walker<'_> {
    fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.front.http.request(method, format!("{}{path}", self.front.origin)).header("cookie", &self.cookie)
    }

    async fn see(&self, path: &str) -> String {
        let answer = self.request(Method::GET, path).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{path}");
        answer.text().await.unwrap()
    }

    /// Submits a form as a browser does from a page of `origin`.
    async fn post(&self, path: &str, origin: &str, site: Option<&str>, form: String) -> reqwest::Response {
        let mut request = self.request(Method::POST, path).header("origin", origin).body(form);
        if let Some(site) = site {
            request = request.header("sec-fetch-site", site);
        }
        request.header("content-type", "application/x-www-form-urlencoded").send().await.unwrap()
    }
}

/// Returns local paths in the attributes of a page.
fn local_links(page: &str) -> BTreeSet<String> {
    let attributes = ["href", "src", "action", "formaction", "data-live", "data-upload"];
    let values = attributes.iter().flat_map(|name| page.split(&format!(" {name}=\"")).skip(1).collect::<Vec<_>>());
    let paths = values.filter_map(|rest| rest.split('"').next()).filter(|value| value.starts_with('/'));
    paths.map(|path| path.replace("&#38;", "&").replace("&amp;", "&")).collect()
}

async fn walk(front: Front) {
    let mut walker = Walker { front: &front, cookie: String::new() };
    sign_in(&mut walker).await;
    front.host.ask(Method::POST, "./bins", "{\"name\": \"b\"}").await.ok();
    front.host.send(event("Contact is Created", 1)).await;
    every_link_leads_somewhere(&walker).await;
    addresses_are_public(&walker).await;
    pages_are_live(&walker).await;
}

async fn sign_in(walker: &mut Walker<'_>) {
    let Front { origin, prefix, .. } = walker.front;
    let redirect = walker.request(Method::GET, &format!("{prefix}/t/default")).send().await.unwrap();
    assert_eq!(redirect.headers()["location"], format!("{prefix}/sign-in?next=%2Ft%2Fdefault"));
    let page = walker.see(&format!("{prefix}/sign-in")).await;
    assert!(local_links(&page).contains(&format!("{prefix}/sign-in")), "{page}");
    let path = format!("{prefix}/sign-in");
    fn form() -> String {
        format!("key={ADMIN_KEY}&next=%2Ft%2Fdefault")
    }
    for (from, site) in [("https://evil.example", None), ("https://evil.example", Some("cross-site")), ("null", None)] {
        assert_eq!(walker.post(&path, from, site, form()).await.status(), 403, "{from}");
    }
    // Browsers before 2023 do not send Sec-Fetch-Site.
    for site in [None, Some("same-origin")] {
        let answer = walker.post(&path, origin, site, form()).await;
        assert_eq!(answer.status(), 303, "{}", answer.text().await.unwrap());
        assert_eq!(answer.headers()["location"], format!("{prefix}/t/default"));
        let cookie = answer.headers()["set-cookie"].to_str().unwrap().to_owned();
        assert!(cookie.contains("; Secure") && cookie.contains(&format!("; Path={prefix}/;")), "{cookie}");
        walker.cookie = cookie.split(';').next().unwrap().to_owned();
    }
}

async fn every_link_leads_somewhere(walker: &Walker<'_>) {
    let prefix = &walker.front.prefix;
    let mut seen = BTreeSet::new();
    let mut next = vec![format!("{prefix}/t/default")];
    while let Some(path) = next.pop() {
        if !seen.insert(path.clone()) {
            continue;
        }
        let answer = walker.request(Method::GET, &path).send().await.unwrap();
        if answer.status() == 303 {
            next.push(answer.headers()["location"].to_str().unwrap().to_owned());
            continue;
        }
        assert_eq!(answer.status(), 200, "{path}");
        let page = answer.text().await.unwrap();
        for link in local_links(&page) {
            assert!(link.starts_with(&format!("{prefix}/")), "{path} links to {link}");
        }
        let hrefs = page.split(" href=\"/").skip(1).filter_map(|rest| rest.split('"').next());
        next.extend(hrefs.map(|rest| format!("/{}", rest.split('#').next().unwrap().replace("&#38;", "&"))));
    }
    for wanted in ["/t/default/access", "/t/default/bins", "/docs/", "/api", "/openapi.json", "/assets/app.css"] {
        assert!(seen.contains(&format!("{prefix}{wanted}")), "{wanted} is not among {seen:?}");
    }
    assert!(seen.len() > 12, "{seen:?}");
}

async fn addresses_are_public(walker: &Walker<'_>) {
    let Front { origin, prefix, host, http, .. } = walker.front;
    let public = format!("{origin}{prefix}");
    let page = walker.see(&format!("{prefix}/t/default/access")).await;
    let csrf = page.split("name=\"csrf\" value=\"").nth(1).unwrap().split('"').next().unwrap();
    let form = format!("csrf={csrf}&label=Agile");
    let made = walker.post(&format!("{prefix}/t/default/access/tokens"), origin, Some("same-origin"), form).await;
    assert_eq!(made.status(), 303);
    let shown = walker.see(made.headers()["location"].to_str().unwrap().split('#').next().unwrap()).await;
    let address = shown.split("<code id=\"once\">").nth(1).unwrap_or_else(|| panic!("{shown}"));
    let address = address.split('<').next().unwrap();
    assert!(address.starts_with(&format!("{public}/in/hlt_")), "{address}");
    let sent = http.post(address).body(event("Contact is Created", 2)).send().await.unwrap();
    assert_eq!(sent.status(), 202);
    let bin = host.get("./bins").await[0].clone();
    assert!(text(&bin, "url").starts_with(&format!("{public}/bins/")), "{bin}");
    assert!(walker.see(&format!("{prefix}/t/default/bins")).await.contains(text(&bin, "url")));
    assert_eq!(http.post(text(&bin, "url")).body("x").send().await.unwrap().status(), 200);
    let link = host.post("/v1/sign-in-links", &json!({})).await;
    assert!(text(&link, "url").starts_with(&format!("{public}/sign-in?token=")), "{link}");
    assert_eq!(http.get(text(&link, "url")).send().await.unwrap().status(), 200);
    let document: Value = serde_json::from_str(&walker.see(&format!("{prefix}/openapi.json")).await).unwrap();
    assert_eq!(document["servers"][0]["url"], json!(public));
    assert!(!document.to_string().contains("0.0.0.0"));
}

async fn pages_are_live(walker: &Walker<'_>) {
    let prefix = &walker.front.prefix;
    let mut stream =
        walker.request(Method::GET, &format!("{prefix}/t/default/live?topic=attempts")).send().await.unwrap();
    assert_eq!(stream.headers()["content-type"], "text/event-stream");
    let receiver = crate::harness::Receiver::start().await;
    walker.front.host.subscription(&receiver.url, json!({})).await;
    walker.front.host.send(event("Contact is Created", 3)).await;
    let first_update = async {
        let mut text = String::new();
        while !text.contains("data: look") {
            text += &String::from_utf8_lossy(&stream.chunk().await.unwrap().expect("a stream that goes on"));
        }
    };
    tokio::time::timeout(PATIENCE, first_update).await.expect("the proxy passes the stream on at once");
}

/// Returns the lines that a host prints until it listens, at its first start without a key.
async fn first_lines(settings: &[&str]) -> (tempfile::TempDir, tokio::process::Child, Vec<String>) {
    let folder = tempfile::TempDir::new().unwrap();
    let mut command = Command::new(program());
    command.args(["serve", "--data-dir", "data"]).args(settings.iter().flat_map(|setting| ["--set", setting]));
    command.env_remove("HOOKLOOM_ADMIN_KEY").current_dir(folder.path()).kill_on_drop(true);
    let mut process = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let mut seen = Vec::new();
    let reading = async {
        while !seen.iter().any(|line: &String| line.starts_with("listening on ")) {
            seen.push(lines.next_line().await.unwrap().expect("the host starts"));
        }
    };
    tokio::time::timeout(PATIENCE, reading).await.unwrap();
    (folder, process, seen)
}

#[tokio::test]
async fn a_sign_in_link_can_be_opened() {
    let anywhere = "behind_proxy=[\"127.0.0.0/8\"]";
    for (settings, base) in [
        (vec!["listen=\"0.0.0.0:0\"", anywhere], "http://127.0.0.1:"),
        (vec!["listen=\"127.0.0.1:0\""], "http://127.0.0.1:"),
        (
            vec!["listen=\"0.0.0.0:0\"", anywhere, "public_url=\"https://hooks.example.com/hookloom/\""],
            "https://hooks.example.com/hookloom/sign-in?token=hlo_",
        ),
    ] {
        let (_folder, _process, lines) = first_lines(&settings).await;
        let link = lines.iter().find_map(|line| line.strip_prefix("sign in once, within a day: ")).expect("a link");
        assert!(link.starts_with(base), "{lines:?}");
        if base.ends_with(':') {
            let http = crate::harness::client();
            assert_eq!(http.get(link).send().await.unwrap().status(), 200, "{link}");
        }
    }
}

#[tokio::test]
async fn commands_reach_a_host_below_a_path() {
    let host = Host::with().set("public_url=\"https://hooks.example.com/hookloom\"").start().await;
    let below = format!("{}/hookloom", host.url);
    async fn run(arguments: &[&str]) -> String {
        let output = Command::new(program()).args(arguments).output().await.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
    let link = run(&["sign-in-link", "--url", &below, "--key", ADMIN_KEY]).await;
    assert!(link.starts_with("https://hooks.example.com/hookloom/sign-in?token="), "{link}");
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("event.json");
    std::fs::write(&file, event("Contact is Created", 7)).unwrap();
    run(&["send", "--url", &below, "--key", ADMIN_KEY, file.to_str().unwrap()]).await;
    assert_eq!(host.get("./events").await["events"][0]["entity_id"], json!("7"));
    let without = Host::start().await;
    let link = run(&["sign-in-link", "--url", &without.url, "--key", ADMIN_KEY]).await;
    assert!(link.starts_with(&format!("{}/sign-in?token=", without.url)), "{link}");
}
