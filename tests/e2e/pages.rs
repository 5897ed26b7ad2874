//! Pages without a browser: access, forms, and escaping of every displayed text.

use crate::harness::{ADMIN_KEY, Host, Receiver, Visitor, event, example, guest, text};
use reqwest::Method;
use serde_json::json;

/// Returns the value of a field of a form.
fn field<'a>(page: &'a str, id: &str) -> &'a str {
    let (_, rest) = page.split_once(&format!("id=\"{id}\"")).unwrap_or_else(|| panic!("no {id} in {page}"));
    rest.split_once("value=\"").unwrap().1.split('"').next().unwrap()
}

#[tokio::test]
async fn a_link_signs_in_once_and_only_by_its_button() {
    let host = Host::start().await;
    let made = host.post("/v1/sign-in-links", &json!({})).await;
    let path = text(&made, "path").to_owned();
    let token = path.split('=').nth(1).unwrap();
    let mut visitor = Visitor::new(&host);
    // Opening it, as mail programs do, does not use it.
    assert!(visitor.see(&path).await.contains("This link signs you in once"));
    assert!(visitor.see(&path).await.contains("This link signs you in once"));
    assert_eq!(visitor.get("/t/default").await.location, "/sign-in?next=%2Ft%2Fdefault");
    let page = visitor.post("/sign-in", &[("token", token), ("next", "//evil.example")]).await;
    assert_eq!((page.status, page.location.as_str()), (303, "/"), "never to another site");
    let cookie =
        page.headers.get_all("set-cookie").iter().map(|line| line.to_str().unwrap()).collect::<Vec<_>>().join(" ");
    assert!(cookie.contains("HttpOnly; SameSite=Lax"), "{cookie}");
    assert!(visitor.see("/t/default").await.contains("Overview"));
    let again = Visitor::new(&host).post("/sign-in", &[("token", token)]).await;
    assert_eq!(again.status, 401, "{}", again.text);
    visitor.post("/sign-out", &[]).await;
    assert_eq!(visitor.get("/t/default").await.status, 303);
}

#[tokio::test]
async fn guessers_are_slowed_down() {
    let host = Host::start().await;
    let mut statuses = Vec::new();
    for _ in 0..12 {
        statuses.push(Visitor::new(&host).post("/sign-in", &[("key", "hlk_guess")]).await.status);
    }
    assert_eq!(statuses, [vec![401; 10], vec![429; 2]].concat());
    let late = Visitor::new(&host).post("/sign-in", &[("token", "hlo_guess")]).await;
    assert_eq!((late.status, late.headers["retry-after"].to_str().unwrap()), (429, "300"));
    let right = Visitor::new(&host).post("/sign-in", &[("key", ADMIN_KEY)]).await;
    assert_eq!(right.status, 303, "the attempts of others keep nobody out");
    let link = host.post("/v1/sign-in-links", &json!({})).await;
    let token = text(&link, "path").split('=').nth(1).unwrap();
    assert_eq!(Visitor::new(&host).post("/sign-in", &[("token", token)]).await.status, 303);
}

/// Sends a request through a proxy that added an entry to those of the client.
async fn through_proxy(host: &Host, method: Method, path: &str, forwarded_for: &str, body: String) -> u16 {
    let http = crate::harness::client_without_redirects();
    let request = http.request(method, format!("{}{path}", host.url)).header("x-forwarded-for", forwarded_for);
    request.body(body).send().await.unwrap().status().as_u16()
}

#[tokio::test]
async fn a_client_behind_a_proxy_is_known_by_what_the_proxy_wrote() {
    let host = Host::with().set("behind_proxy=[\"127.0.0.0/8\"]").start().await;
    let bin = text(&host.post("./bins", &json!({})).await, "id").to_owned();
    for (forwarded_for, expected) in [
        ("9.9.9.9, 203.0.113.7:51234", "203.0.113.7"),
        ("9.9.9.9, [2001:db8::7]:443", "2001:db8::7"),
        ("9.9.9.9, unknown", "127.0.0.1"),
        ("9.9.9.9, 203.0.113.7, 127.0.0.2", "203.0.113.7"),
    ] {
        through_proxy(&host, Method::POST, &format!("/bins/{bin}/"), forwarded_for, String::new()).await;
        let seen = host.get(&format!("./bins/{bin}/requests?limit=1")).await;
        assert_eq!(text(&seen["requests"][0], "remote"), expected, "{forwarded_for}");
    }
    // Another claimed address and another key at each attempt are still one client; with IPv6, so is another address of its
    // network.
    let mut statuses = Vec::new();
    for attempt in 0..24 {
        let own = if attempt % 2 == 0 { "203.0.113.7:51234" } else { "[2001:db8::7]:443" }
            .replace("::7", &format!("::{attempt}"));
        let guess = format!("key=g{attempt:07}-guess");
        statuses.push(through_proxy(&host, Method::POST, "/sign-in", &format!("9.9.9.{attempt}, {own}"), guess).await);
    }
    assert_eq!(statuses, [vec![401; 20], vec![429; 4]].concat());
    let right = format!("key={ADMIN_KEY}");
    assert_eq!(through_proxy(&host, Method::POST, "/sign-in", "9.9.9.9, 203.0.113.7:1", right).await, 303);
    let neighbour = through_proxy(&host, Method::POST, "/sign-in", "203.0.113.8:1", "key=neighbour".to_owned()).await;
    assert_eq!(neighbour, 401);
}

#[tokio::test]
async fn a_page_runs_what_it_names_by_its_nonce() {
    let host = Host::start().await;
    let mut visitor = Visitor::admin(&host).await;
    let mut nonces = std::collections::BTreeSet::new();
    for path in [
        "/t/default",
        "/t/default/webhooks",
        "/sign-in",
        "/api",
        "/api/send_events",
        "/docs/nothing",
        "/t/nowhere",
        "/t/default/plugins/none",
    ] {
        let page = visitor.get(path).await;
        let policy = page.headers["content-security-policy"].to_str().unwrap();
        let nonce = policy.split("script-src 'nonce-").nth(1).unwrap().split('\'').next().unwrap();
        assert!(policy.contains(&format!("script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}';")), "{policy}");
        assert!(nonce.len() >= 22 && nonces.insert(nonce.to_owned()), "{path}: a nonce of its own");
        // Escaped as text of a page, in which + and = have other names.
        let attribute = |tag: &str| {
            let tags = page.text.split(tag).skip(1).map(|rest| rest.split('>').next().unwrap());
            tags.map(|tag| tag.contains("nonce=\"")).collect::<Vec<_>>()
        };
        assert!(
            attribute("<link rel=\"stylesheet\"") == [true] && attribute("<script").iter().all(|has| *has),
            "{path}"
        );
    }
}

#[tokio::test]
async fn nothing_is_changed_without_the_sessions_token() {
    let host = Host::start().await;
    let mut visitor = Visitor::admin(&host).await;
    visitor.see("/t/default/webhooks").await;
    let token = std::mem::replace(visitor.csrf(), "wrong".to_owned());
    let fields = [("notify_url", "http://127.0.0.1:9999/"), ("modules", "Contact")];
    assert_eq!(visitor.post("/t/default/webhooks", &fields).await.status, 403);
    for brought in [None, Some("wrong")] {
        let page = visitor.script(Method::POST, "/v1/tenants", brought, br#"{"id":"x"}"#.to_vec()).await;
        assert_eq!(page.status, 403, "{}", page.text);
    }
    assert_eq!(visitor.script(Method::GET, "/v1/tenants", None, Vec::new()).await.status, 200);
    let page = visitor.script(Method::POST, "/v1/tenants", Some(&token), br#"{"id":"x"}"#.to_vec()).await;
    assert_eq!(page.status, 201, "{}", page.text);
    assert_eq!(host.get("./subscriptions").await.as_array().unwrap().len(), 0);
}

/// Returns every page, of a tenant with content on each.
async fn pages(host: &Host) -> Vec<String> {
    let bin = text(&host.post("./bins", &json!({"name": "b"})).await, "id").to_owned();
    host.ask(Method::POST, &format!("/bins/{bin}/x?y=1"), "{\"z\":1}").await.ok();
    let requests = host.get(&format!("./bins/{bin}/requests")).await;
    host.plugin("flatten", example("flatten")).await;
    let bin_url = format!("{}/bins/{bin}/", host.url);
    let subscription = host.subscription(&bin_url, json!({"plugin": "flatten", "description": "to a bin"})).await;
    let event = host.send(event("Contact is Created", 1)).await;
    let delivery = host.ended(&event).await;
    assert_eq!(text(&delivery, "state"), "delivered", "{delivery}");
    let own = [
        String::new(),
        "?span=week".into(),
        "/webhooks".into(),
        "/webhooks?q=bin&health=healthy&module=Contact&page=1".into(),
        "/webhooks/new".into(),
        format!("/webhooks/{subscription}"),
        "/deliveries".into(),
        format!("/deliveries?state=delivered&subscription={subscription}&event={event}"),
        format!("/deliveries/{}", text(&delivery, "id")),
        format!("/events/{event}"),
        "/plugins".into(),
        "/plugins/flatten".into(),
        "/bins".into(),
        format!("/bins/{bin}"),
        format!("/bins/{bin}?search=z"),
        format!("/bins/{bin}/{}", text(&requests["requests"][0], "id")),
        "/access".into(),
        "/changes".into(),
        "/changes?who=HOOKLOOM&kind=webhooks".into(),
    ];
    own.iter().map(|path| format!("/t/default{path}")).collect()
}

#[tokio::test]
async fn a_tenant_sees_only_its_pages() {
    let host = Host::start().await;
    let pages = pages(&host).await;
    host.post("/v1/tenants", &json!({"id": "other"})).await;
    let key = async |tenant: &str, scope: &str| {
        let made = host.post(&format!("/v1/tenants/{tenant}/keys"), &json!({"scopes": [scope], "label": ""})).await;
        text(&made, "key").to_owned()
    };
    let reader = Visitor::new(&host).post("/sign-in", &[("key", &key("default", "read").await)]).await;
    assert_eq!(reader.status, 401, "the pages are for those who manage");
    let mut foreign = Visitor::with_key(&host, &key("other", "manage").await).await;
    let mut own = Visitor::with_key(&host, &key("default", "manage").await).await;
    let mut admin = Visitor::admin(&host).await;
    for path in &pages {
        assert_eq!(Visitor::new(&host).get(path).await.status, 303, "{path} to nobody");
        assert_eq!(foreign.get(path).await.status, 403, "{path} to another tenant");
        // Data of another tenant is not shown under one's own tenant either.
        let moved = foreign.get(&path.replace("/t/default", "/t/other")).await;
        assert!([200, 404].contains(&moved.status), "{path}");
        assert!(!moved.text.contains("to a bin"), "{path}");
        own.see(path).await;
        let seen = admin.get(path).await;
        assert_eq!(seen.status, 200);
        let policy = seen.headers["content-security-policy"].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
        assert!(
            !seen.text.contains(" style=") && !seen.text.contains("onclick"),
            "{path} needs what the policy forbids"
        );
    }
    assert_eq!(own.get("/tenants").await.status, 403);
    assert!(admin.see("/tenants").await.contains("other"));
    let live = "/t/default/live?topic=attempts";
    assert_eq!(own.stream(live).await, (200, "text/event-stream".to_owned()));
    assert_eq!(foreign.stream(live).await.0, 403);
    assert!(Visitor::new(&host).see("/api").await.contains("/v1/tenants/{t}/events"));
}

/// The answer of the form shows the secret once, whatever comes of the test.
#[tokio::test]
async fn a_test_that_is_not_possible_hides_no_secret() {
    let host = Host::start().await;
    let receiver = Receiver::start().await;
    host.event_type("Invoice is Paid").await;
    let mut visitor = Visitor::admin(&host).await;
    visitor.see("/t/default/webhooks").await;
    let fields = [
        ("notify_url", receiver.url.as_str()),
        ("modules", "Deal"),
        ("events", "Invoice is Paid"),
        ("filter", ""),
        ("test", "yes"),
    ];
    let saved = visitor.follow("/t/default/webhooks", &fields).await;
    assert!(saved.contains("Preferences saved successfully") && saved.contains("whsec_"), "{saved}");
    assert!(saved.contains("Nothing was sent: there is no event of Invoice is Paid yet"), "{saved}");
    assert!(!saved.contains("Send a sample event"), "none of the vendor's is for it: {saved}");
}

#[tokio::test]
async fn the_vendors_form_saves_tests_and_shows_the_secret_once() {
    let host = Host::start().await;
    let receiver = Receiver::start().await;
    host.plugin("flatten", example("flatten")).await;
    let mut visitor = Visitor::admin(&host).await;
    visitor.see("/t/default/webhooks").await;
    let refused = visitor.post("/t/default/webhooks", &[("notify_url", "ftp://x/"), ("config", "nonsense")]).await;
    assert_eq!(refused.status, 422);
    assert!(refused.text.contains("is not a pair: write key = value"), "{}", refused.text);
    assert_eq!(field(&refused.text, "notify_url"), "ftp://x/", "what was typed stays");
    let none = visitor.post("/t/default/webhooks", &[("notify_url", &receiver.url)]).await;
    assert!(none.status == 422 && none.text.contains("role=\"alert\""), "{}", none.text);
    let fields = [
        ("notify_url", receiver.url.as_str()),
        ("modules", "Contact"),
        ("modules", "Deal"),
        ("description", "<b>bold</b>"),
        ("plugin", "flatten"),
        ("test", "yes"),
    ];
    let saved = visitor.follow("/t/default/webhooks", &fields).await;
    assert!(saved.contains("Preferences saved successfully") && saved.contains("whsec_"), "{saved}");
    assert!(saved.contains("Your endpoint is configured properly: it answered 200"), "{saved}");
    assert!(saved.contains("&lt;b&gt;bold") || saved.contains("&#60;b&#62;bold"), "escaped: {saved}");
    assert!(!saved.contains("<b>bold"));
    assert_eq!(receiver.received().len(), 1, "the page was shown after the receiver answered");
    let id = text(&host.get("./subscriptions").await[0], "id").to_owned();
    let path = format!("/t/default/webhooks/{id}");
    assert!(!visitor.see(&path).await.contains("whsec_"), "shown once");
    for (action, shown) in [("pause", "It is paused"), ("resume", "It is active again.")] {
        assert_eq!(visitor.post(&format!("{path}/{action}"), &[]).await.location, path);
        assert!(visitor.see(&path).await.contains(shown));
    }
    assert!(visitor.follow(&format!("{path}/rotate"), &[]).await.contains("whsec_"));
    let fields = [("notify_url", receiver.url.as_str()), ("modules", "Deal"), ("config", "a = b")];
    let edited = visitor.follow(&path, &fields).await;
    assert!(edited.contains("Preferences saved successfully"), "{edited}");
    let now = host.get(&format!("./subscriptions/{id}")).await;
    assert_eq!(
        (&now["modules"], &now["config"], &now["plugin"]),
        (&json!(["Deal"]), &json!({"a": "b"}), &json!(null)),
        "{now}"
    );
    assert_eq!(visitor.post(&format!("{path}/delete"), &[]).await.location, "/t/default/webhooks");
    check_change_log(&host, now).await;
}

/// Checks the entries of the buttons, and that the state of the webhook in the log has the fields of its route, except one that
/// changes without an edit.
async fn check_change_log(host: &Host, mut edited: serde_json::Value) {
    let changes = host.get("./changes").await;
    let actions: Vec<&str> =
        changes["changes"].as_array().unwrap().iter().map(|change| text(change, "action")).collect();
    assert_eq!(
        actions[..5],
        [
            "subscription.delete",
            "subscription.update",
            "subscription.rotate-secret",
            "subscription.state",
            "subscription.state"
        ]
    );
    assert!(!changes.to_string().contains("whsec_"), "no secret is written down");
    edited.as_object_mut().unwrap().remove("lane");
    assert_eq!(changes["changes"][1]["after"], edited);
}

#[tokio::test]
async fn a_delivery_is_retried_and_a_span_replayed_by_buttons() {
    let host = Host::start().await;
    let receiver = Receiver::answering("500,200").await;
    let subscription = host.subscription(&receiver.url, json!({"retry": {"schedule_s": [0]}})).await;
    let id = host.send(event("Contact is Created", 1)).await;
    let dead = host.ended(&id).await;
    let mut visitor = Visitor::admin(&host).await;
    let path = format!("/t/default/deliveries/{}", text(&dead, "id"));
    let page = visitor.see(&path).await;
    for part in
        ["the receiver answered 500", "first byte after", "webhook-signature: v1,", "POST http://127.0.0.1", "retry"]
    {
        assert!(page.contains(part), "{part} is not in {page}");
    }
    let counted = visitor.follow(&format!("/t/default/webhooks/{subscription}/redrive"), &[("preview", "yes")]).await;
    assert!(counted.contains("1 delivery would be attempted again"), "{counted}");
    assert_eq!(visitor.post(&format!("{path}/retry"), &[]).await.location, path);
    receiver.expect(2).await;
    let shown = visitor.see(&format!("/t/default/webhooks/{subscription}")).await;
    let span = [("from", field(&shown, "from")), ("to", "2199-01-01T00:00:00"), ("preview", "yes")];
    let counted = visitor.follow(&format!("/t/default/webhooks/{subscription}/replay"), &span).await;
    assert!(counted.contains("1 delivery would be delivered again"), "{counted}");
    visitor.post(&format!("/t/default/webhooks/{subscription}/replay"), &[span[0], span[1], ("preview", "")]).await;
    receiver.expect(3).await;
    let overview = visitor.see("/t/default").await;
    assert!(overview.contains("aria-label=\"Events and attempts:"), "{overview}");
}

#[tokio::test]
async fn a_plugin_is_tried_on_its_page() {
    let host = Host::start().await;
    host.plugin("p", guest("passes")).await;
    let mut visitor = Visitor::admin(&host).await;
    visitor.see("/t/default/plugins/p").await;
    let dry = visitor.follow("/t/default/plugins/p/dry-run", &[("pick", "sample:Contact")]).await;
    assert!(dry.contains("It passes unchanged."), "{dry}");
    let broken = visitor.post("/t/default/plugins/p/dry-run", &[("event_text", "{")]).await;
    assert!(broken.status == 422 && broken.text.contains("not judged"), "{}", broken.text);
    let second = host.ask(Method::PUT, "./plugins/p?activate=false", example("flatten")).await.ok();
    let sha256 = text(&second, "sha256");
    let act = |how| [("sha256", sha256), ("how", how), ("percent", "5")];
    let compared = visitor.follow("/t/default/plugins/p/try", &act("compare")).await;
    assert!(
        compared.contains("Of 2 sample events, because no real events were accepted yet: 0 the same"),
        "{compared}"
    );
    visitor.post("/t/default/plugins/p/try", &act("canary")).await;
    assert!(visitor.see("/t/default/plugins/p").await.contains("<dd>5 %</dd>"));
    visitor.post("/t/default/plugins/p/end-rollout", &[]).await;
    visitor.post("/t/default/plugins/p/try", &act("activate")).await;
    assert_eq!(text(&host.get("./plugins").await[0], "active_sha256"), sha256);
}
