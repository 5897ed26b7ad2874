//! Library of plugins: added by name, with the roles and checks of an upload, and updates that are offered only.

use crate::harness::{ADMIN_KEY, Host, Receiver, Visitor, event, guest, program, text};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::process::Command;

/// Number of the plugins in the library.
const PLUGINS: usize = 12;

async fn add(host: &Host, key: &str, query: &str, body: &Value) -> crate::harness::Reply {
    host.ask_as(key, Method::POST, &format!("./plugins{query}"), body.to_string()).await
}

/// Restarts a host whose plugin `flatten` was added by an earlier program, which had another component in its library.
async fn from_earlier_library(host: Host) -> Host {
    let (_, folder) = host.stop().await;
    let database = rusqlite::Connection::open(folder.path().join("data/hookloom.db")).unwrap();
    let sql = "UPDATE plugin_versions SET report = json_set(report, '$.library', 'flatten') WHERE name = 'flatten'";
    assert_eq!(database.execute(sql, []).unwrap(), 1);
    drop(database);
    Host::with().on(folder).start().await
}

#[tokio::test]
async fn every_plugin_of_the_library_can_be_added_and_says_where_it_is_from() {
    let host = Host::start().await;
    let library = host.get("./library").await;
    let library = library.as_array().unwrap();
    assert_eq!(library.len(), PLUGINS);
    for plugin in library {
        let name = text(plugin, "name");
        assert_eq!(plugin["added"], json!([]), "{name}");
        let added = add(&host, ADMIN_KEY, "", &json!({"library": name})).await.ok();
        assert_eq!((&added["sha256"], &added["size"]), (&plugin["sha256"], &plugin["size"]), "{name}");
        assert_eq!((&added["active"], &added["report"]["library"]), (&json!(true), &json!(name)));
        let manifest = &added["report"]["manifest"];
        assert_eq!(
            (&manifest["title"], &manifest["description"]),
            (&plugin["title"], &plugin["description"]),
            "{name}"
        );
    }
    let pages = [host.get("./library?limit=7").await, host.get("./library?limit=7&cursor=redact").await];
    assert_eq!(pages.map(|page| page.as_array().unwrap().len()), [7, 5]);
    let flatten = host.get("./library").await[3].clone();
    let added = json!([{"plugin": "flatten", "active_sha256": flatten["sha256"], "update_available": false}]);
    assert_eq!(flatten["added"], added);
    let log = host.get("./changes?limit=1").await;
    assert!(log.to_string().contains("wrap"), "as for an upload: {log}");
}

#[tokio::test]
async fn an_added_plugin_judges_also_under_another_name() {
    let host = Host::start().await;
    let receiver = Receiver::start().await;
    add(&host, ADMIN_KEY, "", &json!({"library": "flatten", "name": "flat"})).await.ok();
    host.subscription(&receiver.url, json!({"plugin": "flat"})).await;
    let delivery = host.ended(&host.send(event("Contact is Created", 7)).await).await;
    assert_eq!(text(&delivery, "state"), "delivered", "{delivery}");
    let body: Value = serde_json::from_str(text(&receiver.expect(1).await[0], "body")).unwrap();
    assert_eq!(body["event"], "contact.created");
    let plugins = host.get("./plugins").await;
    assert_eq!(
        (&plugins[0]["name"], &plugins[0]["library"], &plugins[0]["update_available"]),
        (&json!("flat"), &json!("flatten"), &json!(false))
    );

    // The origin is of the version: it is known after a restart, and not of a version that was uploaded.
    let (_, folder) = host.stop().await;
    let host = Host::with().on(folder).start().await;
    assert_eq!(host.get("./plugins").await[0]["library"], "flatten");
    host.plugin("flat", guest("passes")).await;
    assert_eq!(host.get("./plugins").await[0]["library"], Value::Null);
    let inactive = add(&host, ADMIN_KEY, "?activate=false", &json!({"library": "flatten", "name": "flat"})).await.ok();
    assert_eq!((&inactive["active"], &inactive["report"]["library"]), (&json!(false), &json!("flatten")));
    assert_eq!(host.get("./plugins").await[0]["library"], Value::Null, "not active");
}

#[tokio::test]
async fn what_cannot_be_added_is_refused_in_words() {
    let host = Host::start().await;
    let refused = async |body: Value, pointer: &str, part: &str| {
        let answer = add(&host, ADMIN_KEY, "", &body).await;
        assert_eq!(answer.status, 422, "{}", answer.text);
        assert_eq!(answer.json["errors"][0]["pointer"], pointer, "{}", answer.text);
        assert!(answer.text.contains(part), "{}", answer.text);
    };
    refused(json!({"library": "flat"}), "/library", "the library has no plugin \\\"flat\\\"").await;
    refused(json!({"library": "flatten", "name": "No Name"}), "/name", "").await;
    let unknown = add(&host, ADMIN_KEY, "", &json!({"library": "flatten", "as": "flat"})).await;
    assert_eq!(unknown.status, 422, "{}", unknown.text);

    // A plugin of the tenant's own is not replaced.
    host.plugin("redact", guest("passes")).await;
    let taken = add(&host, ADMIN_KEY, "", &json!({"library": "redact"})).await;
    assert_eq!(taken.status, 409, "{}", taken.text);
    assert!(taken.text.contains("was not added from redact of the library"), "{}", taken.text);
    assert_eq!(host.get("./plugins/redact/versions").await.as_array().unwrap().len(), 1);

    for (scope, may_read) in [("read", true), ("send", false)] {
        let key = host.post("./keys", &json!({"scopes": [scope]})).await;
        let key = text(&key, "key");
        assert_eq!(add(&host, key, "", &json!({"library": "flatten"})).await.status, 403, "{scope}");
        let listed = host.ask_as(key, Method::GET, "./library", "").await;
        assert_eq!(listed.status == 200, may_read, "{scope}: {}", listed.text);
    }
}

#[tokio::test]
async fn an_update_is_offered_and_passes_the_gate_of_an_upload() {
    let host = Host::start().await;
    let receiver = Receiver::start().await;
    host.plugin("flatten", guest("passes")).await;
    host.subscription(&receiver.url, json!({"plugin": "flatten"})).await;
    host.ended(&host.send(event("Contact is Created", 7)).await).await;
    let host = from_earlier_library(host).await;

    let before = host.get("./plugins").await[0].clone();
    assert_eq!((&before["library"], &before["update_available"]), (&json!("flatten"), &json!(true)));
    assert_eq!(host.get("./plugins/flatten/versions").await[0]["update_available"], true);
    let offered = host.get("./library").await[3].clone();
    assert_eq!(
        offered["added"],
        json!([{"plugin": "flatten", "active_sha256": before["active_sha256"], "update_available": true}])
    );
    let run = async |arguments: &[&str]| {
        let mut command = Command::new(program());
        command.arg("plugin").args(arguments).env("HOOKLOOM_URL", &host.url).env("HOOKLOOM_KEY", ADMIN_KEY);
        let output = command.output().await.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    for arguments in [&["library"][..], &["list"], &["show", "flatten"]] {
        let shown = run(arguments).await;
        assert!(shown.contains("update available"), "{arguments:?}: {shown}");
    }
    // Nothing changes until it is asked for.
    assert_eq!(host.get("./plugins").await[0]["active_sha256"], before["active_sha256"]);

    let inactive = run(&["add", "flatten", "--inactive"]).await;
    assert!(inactive.contains("not active: version"), "{inactive}");
    assert_eq!(host.get("./plugins").await[0]["update_available"], true);

    let updated = run(&["add", "flatten", "--gate", "5"]).await;
    assert!(updated.contains(&format!("active: version {}", text(&offered, "sha256"))), "{updated}");
    assert!(updated.contains("of the last real event: 0 the same, 1 changed, 0 failed"), "{updated}");
    let after = host.get("./plugins").await[0].clone();
    assert_eq!((&after["active_sha256"], &after["update_available"]), (&offered["sha256"], &json!(false)));
    let versions = host.get("./plugins/flatten/versions").await;
    assert_eq!(versions.as_array().unwrap().len(), 2, "the earlier version stays");
    assert!(versions.as_array().unwrap().iter().all(|version| version["update_available"] == false), "{versions}");
}

#[tokio::test]
async fn the_command_line_lists_and_adds() {
    let host = Host::start().await;
    let run = async |arguments: &[&str]| {
        let mut command = Command::new(program());
        command.arg("plugin").args(arguments).env("HOOKLOOM_URL", &host.url).env("HOOKLOOM_KEY", ADMIN_KEY);
        command.output().await.unwrap()
    };
    let good = async |arguments: &[&str]| {
        let output = run(arguments).await;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let listed = good(&["library"]).await;
    assert_eq!(listed.lines().count(), PLUGINS + 1, "{listed}");
    let line = listed.lines().find(|line| line.starts_with("deal-filter")).unwrap();
    assert!(line.contains("Deal filter: Passes only deals") && line.contains(" KiB  -  "), "{line}");

    let added = good(&["add", "deal-filter"]).await;
    assert!(added.contains("active: version "), "{added}");
    good(&["add", "deal-filter", "--as", "big-deals"]).await;
    let listed = good(&["library"]).await;
    assert!(listed.contains("big-deals, deal-filter"), "{listed}");
    let json: Value = serde_json::from_str(&good(&["library", "--json"]).await).unwrap();
    assert_eq!(json, host.get("./library?limit=500").await);
    assert!(good(&["show", "deal-filter"]).await.contains("added from deal-filter of the library"));

    let unknown = run(&["add", "flat"]).await;
    assert_eq!(unknown.status.code(), Some(1));
    let said = String::from_utf8_lossy(&unknown.stderr);
    assert!(said.contains("the library has no plugin") && said.contains("hookloom plugin library"), "{said}");
}

#[tokio::test]
async fn the_page_adds_and_updates_without_scripts() {
    const PLUGINS_PAGE: &str = "/t/default/plugins";
    let host = Host::start().await;
    host.plugin("flatten", guest("passes")).await;
    host.plugin("redact", guest("passes")).await;
    let host = from_earlier_library(host).await;
    let mut visitor = Visitor::admin(&host).await;
    let page = visitor.see(PLUGINS_PAGE).await;
    assert_eq!(page.matches("name=\"library\" value=").count(), PLUGINS, "one button each: {page}");
    assert!(page.contains("action=\"/t/default/plugins/flatten/update\""), "{page}");
    assert_eq!(page.matches("update available").count(), 2, "with the plugin and in the library: {page}");

    let added = visitor.follow(PLUGINS_PAGE, &[("library", "deal-filter")]).await;
    assert!(added.contains("<strong>Deal filter</strong>") && added.contains("is that of the library"), "{added}");
    assert!(!visitor.see(PLUGINS_PAGE).await.contains("name=\"library\" value=\"deal-filter\""));

    // The name of a plugin of one's own needs another one.
    assert!(page.contains("id=\"name-redact\"") && !page.contains("id=\"name-slack\""), "{page}");
    for (name, part) in [("redact", "was not added from redact"), ("Not A Name", "value=\"Not A Name\"")] {
        let refused = visitor.post(PLUGINS_PAGE, &[("library", "redact"), ("name", name)]).await;
        assert!([409, 422].contains(&refused.status), "{}", refused.status);
        assert!(refused.text.contains("id=\"library-problem\"") && refused.text.contains(part), "{}", refused.text);
    }
    visitor.follow(PLUGINS_PAGE, &[("library", "redact"), ("name", "hide")]).await;

    let shown = visitor.see("/t/default/plugins/flatten").await;
    assert!(shown.contains("Update available"), "{shown}");
    let added = visitor.follow("/t/default/plugins/flatten/update", &[("library", "flatten"), ("how", "add")]).await;
    assert!(added.contains("The update was added") && added.contains("Update available"), "{added}");
    let updated = visitor.follow("/t/default/plugins/flatten/update", &[("library", "flatten")]).await;
    assert!(updated.contains("is that of the library") && !updated.contains("Update available"), "{updated}");
    let foreign = visitor.post("/t/default/plugins/flatten/update", &[("library", "slack")]).await;
    assert_eq!(foreign.status, 409, "{}", foreign.text);
    let names: Vec<Value> =
        host.get("./plugins").await.as_array().unwrap().iter().map(|one| one["name"].clone()).collect();
    assert_eq!(names, ["deal-filter", "flatten", "hide", "redact"]);
    assert!(!visitor.see(PLUGINS_PAGE).await.contains("update available"));
}
