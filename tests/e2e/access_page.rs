//! Page of access and the log of changes: admin keys, sentences about changes, search, and nothing that is secret.

use crate::browser::sign_in;
use crate::harness::{ADMIN_KEY, Browser, Host, Visitor, text};
use reqwest::Method;
use serde_json::json;

const ACCESS: &str = "/t/default/access";
const CHANGES: &str = "/t/default/changes";

/// Returns a part of a page as text without tags. Spaces are single.
fn words(part: &str) -> String {
    let texts = part.split('<').map(|piece| piece.split_once('>').map_or(piece, |(_, text)| text));
    let joined =
        texts.collect::<Vec<_>>().join(" ").replace("&#39;", "'").replace("&quot;", "\"").replace("&#34;", "\"");
    joined.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Returns the sentences of the log, newest first.
fn sentences(page: &str) -> Vec<String> {
    let rows = page.split("<td data-label=\"Change\"><p>").skip(1);
    rows.map(|row| words(row.split("</p>").next().unwrap()).replace(" .", ".")).collect()
}

/// Returns the row of a section that contains a text.
#[track_caller]
fn row(page: &str, heading: &str, part: &str) -> String {
    let (_, section) =
        page.split_once(&format!("<h2 id=\"{heading}\">")).unwrap_or_else(|| panic!("no {heading} in {page}"));
    let section = section.split("</section>").next().unwrap();
    let row = section.split("<tr>").find(|row| row.contains(part)).unwrap_or_else(|| panic!("no {part} in {section}"));
    row.split("</tr>").next().unwrap().to_owned()
}

#[tokio::test]
async fn an_admin_makes_and_revokes_admin_keys() {
    let host = Host::start().await;
    let mut visitor = Visitor::admin(&host).await;
    let page = visitor.see(ACCESS).await;
    assert!(!page.contains("given…") && !page.contains("given by HOOKLOOM"), "{page}");
    let given = row(&page, "admin-keys", "HOOKLOOM_ADMIN_KEY");
    assert!(
        words(&given).contains("HOOKLOOM_ADMIN_KEY this session from the environment, read at each start"),
        "{given}"
    );
    assert!(words(&given).contains("by the operator of the host") && !given.contains("<form"), "{given}");

    let made = visitor.follow(&format!("{ACCESS}/admin-keys"), &[("label", "Anna")]).await;
    let (_, rest) = made.split_once("id=\"once\">").unwrap();
    let key = rest.split('<').next().unwrap().to_owned();
    assert!(key.starts_with("hlk_") && made.contains("The new admin key"), "{made}");
    assert_eq!(host.ask_as(&key, Method::GET, "/v1/tenants", "").await.status, 200);
    let page = visitor.see(ACCESS).await;
    assert!(!page.contains(&key), "shown once");
    let anna = row(&page, "admin-keys", "Anna");
    assert!(
        words(&anna).contains("by HOOKLOOM_ADMIN_KEY") && anna.contains("data-confirm=\"Revoke the admin key Anna"),
        "{anna}"
    );
    assert!(!anna.contains("not yet"), "its use is shown: {anna}");

    // Only an admin sees and makes them.
    let manage = host.post("./keys", &json!({"scopes": ["manage"], "label": "tenant's"})).await;
    let mut tenant = Visitor::with_key(&host, text(&manage, "key")).await;
    let own = tenant.see(ACCESS).await;
    assert!(!own.contains("Admin keys") && !own.contains("Anna"), "{own}");
    assert!(words(&row(&own, "keys", "tenant&#39;s")).contains("by HOOKLOOM_ADMIN_KEY"), "{own}");
    assert_eq!(tenant.post(&format!("{ACCESS}/admin-keys"), &[("label", "x")]).await.status, 403);
    assert_eq!(tenant.get(&format!("{CHANGES}?of=host")).await.status, 403);

    tenant.see(ACCESS).await;
    let id = anna.split_once("name=\"id\" value=\"").unwrap().1.split('"').next().unwrap();
    assert_eq!(tenant.post(&format!("{ACCESS}/revoke-admin-key"), &[("id", id)]).await.status, 403);
    visitor.see(ACCESS).await;
    let page = visitor.follow(&format!("{ACCESS}/revoke-admin-key"), &[("id", id)]).await;
    assert!(
        page.contains("The admin key was revoked.") && !page.contains("<span class=\"title\">Anna</span>"),
        "{page}"
    );
    assert_eq!(host.ask_as(&key, Method::GET, "/v1/tenants", "").await.status, 401);
    let log = sentences(&visitor.see(&format!("{CHANGES}?of=host&kind=admin-keys")).await);
    assert!(log[0].contains("The key HOOKLOOM_ADMIN_KEY revoked the admin key Anna (hlk_"), "{log:?}");
    assert!(log.iter().any(|one| one.contains("created the admin key Anna (hlk_")), "{log:?}");
}

/// Makes a webhook and an edit of it with the key of a person. Returns the id and the key.
async fn edited(host: &Host) -> (String, String) {
    let key = text(&host.post("/v1/keys", &json!({"label": "Anna"})).await, "key").to_owned();
    let settings = json!({"notify_url": "http://127.0.0.1:9999/in?token=s3cret-query", "modules": ["Deal"],
        "description": "CRM to ERP", "rate_per_s": 5, "headers": {"x-key": "s3cret-header"}, "secrets": {"a": "s3cret-sealed"}});
    let made = host.ask_as(&key, Method::POST, "./subscriptions", settings.to_string()).await.ok();
    let id = text(&made, "id").to_owned();
    let path = format!("./subscriptions/{id}");
    host.ask_as(&key, Method::PATCH, &path, json!({"rate_per_s": 10}).to_string()).await.ok();
    let several = json!({"headers": {"x-key": "s3cret-changed"}, "timeout_ms": 5_000});
    host.ask_as(&key, Method::PATCH, &path, several.to_string()).await.ok();
    (id, key)
}

#[tokio::test]
async fn a_change_is_a_sentence_with_a_link_and_no_secret() {
    let host = Host::start().await;
    let (id, key) = edited(&host).await;
    let mut visitor = Visitor::admin(&host).await;
    let page = visitor.see(CHANGES).await;
    assert_eq!(
        sentences(&page),
        [
            "Anna’s key changed the header x-key and timeout of the webhook CRM to ERP.",
            "Anna’s key changed the rate of the webhook CRM to ERP from 5/s to 10/s.",
            "Anna’s key created the webhook CRM to ERP.",
        ]
    );
    assert!(page.contains(&format!("<a href=\"/t/default/webhooks/{id}\">CRM to ERP</a>")), "{page}");
    assert!(page.contains("data-relative>") && page.contains(" UTC\""), "the exact time is the tooltip: {page}");
    let fields = words(page.split("<details>").nth(1).unwrap().split("</details>").next().unwrap());
    assert!(fields.contains("Header x-key (not shown) (not shown), another one"), "{fields}");
    assert!(fields.contains("Timeout 15 s 5 s"), "{fields}");
    assert!(!page.contains("s3cret") && !page.contains(&key), "{page}");
    host.ask(Method::DELETE, &format!("./subscriptions/{id}"), "").await;
    let page = visitor.see(CHANGES).await;
    assert_eq!(sentences(&page)[0], "The key HOOKLOOM_ADMIN_KEY deleted the webhook CRM to ERP.");
    assert!(!page.contains(&format!("/webhooks/{id}\"")), "a webhook that is gone has no page: {page}");
    assert!(!page.contains("s3cret"), "{page}");
}

#[tokio::test]
async fn the_log_is_searched_by_key_thing_and_time() {
    let host = Host::start().await;
    edited(&host).await;
    host.post("./bins", &json!({"name": "<b>First</b>"})).await;
    let mut visitor = Visitor::admin(&host).await;
    for (query, expected) in [
        ("", 4),
        ("?who=anna", 3),
        ("?who=nobody", 0),
        ("?kind=bins", 1),
        ("?kind=webhooks&who=HOOKLOOM", 0),
        ("?from=2020-01-01T00:00&to=2199-01-01T00:00", 4),
        ("?to=2020-01-01T00:00", 0),
        ("?of=host", 2),
        ("?of=host&kind=tenants", 0),
    ] {
        let page = visitor.see(&format!("{CHANGES}{query}")).await;
        assert_eq!(sentences(&page).len(), expected, "{query}: {page}");
        assert_eq!(page.contains("No change matches"), expected == 0, "{query}");
        assert!(!page.contains("<b>First"), "{page}");
    }
    let page = visitor.see(CHANGES).await;
    let (_, link) = page.split_once("<td data-label=\"Key\"><a href=\"").unwrap();
    let link = link.split('"').next().unwrap().replace("&#38;", "&");
    assert_eq!(
        sentences(&visitor.see(&format!("{CHANGES}{link}")).await).len(),
        1,
        "those of the key of the first row"
    );
    let refused = visitor.get(&format!("{CHANGES}?from=yesterday")).await;
    assert!(refused.status == 422 && refused.text.contains("id=\"from-error\">&#34;yesterday"), "{}", refused.text);

    // The API has the same search.
    let found = host.get("./changes?who=ANNA&kind=subscription&limit=2").await;
    assert_eq!(found["changes"].as_array().unwrap().len(), 2);
    let cursor = text(&found, "cursor");
    let rest = host.get(&format!("./changes?who=ANNA&kind=subscription&cursor={cursor}")).await;
    assert_eq!(rest["changes"].as_array().unwrap().len(), 1);
    assert_eq!(host.get("./changes?to_ms=5").await["changes"], json!([]));
    assert_eq!(host.ask(Method::GET, "./changes?kind=webhooks", "").await.status, 400);
    assert_eq!(host.get("/v1/changes?kind=admin-key").await["changes"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn the_log_is_paged_with_its_search() {
    let host = Host::start().await;
    for number in 0..60 {
        host.post("./intake-tokens", &json!({"label": format!("Address {number}")})).await;
    }
    host.post("./bins", &json!({"name": "b"})).await;
    let mut visitor = Visitor::admin(&host).await;
    let first = visitor.see(&format!("{CHANGES}?kind=addresses&who=hookloom")).await;
    let (_, next) = first.split_once("rel=\"next\" href=\"").unwrap();
    let next = next.split('"').next().unwrap().replace("&#38;", "&");
    let second = visitor.see(&format!("{CHANGES}{next}")).await;
    let mut all = sentences(&first);
    assert_eq!(all.len(), 50);
    all.extend(sentences(&second));
    let expected: Vec<_> = (0..60)
        .rev()
        .map(|number| format!("The key HOOKLOOM_ADMIN_KEY created the address Address {number}."))
        .collect();
    assert_eq!(all, expected);
    assert!(second.contains(">Newest</a>") && !second.contains("rel=\"next\""), "{second}");
}

#[tokio::test(flavor = "multi_thread")]
async fn access_is_for_everybody_on_every_screen() {
    let host = Host::start().await;
    edited(&host).await;
    host.post("./keys", &json!({"scopes": ["send", "read"], "label": "billing service"})).await;
    host.post("./intake-tokens", &json!({"label": "Agile CRM"})).await;
    for browser in [Browser::desktop(&host).await, Browser::phone_in_the_dark(&host).await] {
        sign_in(&browser, &host).await;
        browser.open(ACCESS).await;
        browser.look("access-keys").await;
        browser.fill("#admin-key-label", "On call").await;
        browser.click("form[action$='/admin-keys'] button.primary").await;
        browser.wait_for_text(".once", "The new admin key").await;
        browser.script("document.querySelector('#admin-keys').scrollIntoView()").await;
        browser.look("access-admin-keys").await;
        browser.click("button[aria-label^='Revoke the admin key On call']").await;
        browser.wait_for_text(".dialog", "Revoke the admin key On call").await;
        browser.click(".dialog button.danger").await;
        browser.wait_for_text(".flash", "The admin key was revoked.").await;
        browser.open(CHANGES).await;
        browser.script("document.querySelectorAll('.log details').forEach((one) => { one.open = true; })").await;
        browser.look("change-log").await;
        browser.fill("#who", "nobody").await;
        browser.click("form.filters button").await;
        browser.wait_for_text(".empty", "No change matches").await;
        browser.look("change-log-empty").await;
        browser.close().await;
    }
    assert_eq!(host.ask_as(ADMIN_KEY, Method::GET, "/v1/keys", "").await.json.as_array().unwrap().len(), 2);
}
