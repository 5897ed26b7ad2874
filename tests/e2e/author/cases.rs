//! Answers and errors by the sdk of a language: what the author's commands, REST and the page show of each.

use super::good;
use crate::harness::{Host, Receiver, Visitor, fixture, text};
use serde_json::json;
use std::path::Path;

/// One kind of answer or error.
struct Case {
    /// Value of `eventData.what` in the event.
    what: &'static str,
    /// Part of what `hookloom plugin run` prints.
    shown: &'static str,
}

/// Plugins of `tests/fixtures/author` in one language.
pub(super) struct Cases {
    /// Names of the fixtures, which are the names in `src`.
    files: [&'static str; 2],
    cases: &'static [Case],
    /// Messages of the case `error`: what the delivery and the page show.
    error: [&'static str; 2],
    log: [&'static str; 4],
}

pub(super) const TYPESCRIPT: Cases = Cases {
    files: ["plugin.ts", "deep.ts"],
    cases: &[
        Case {
            what: "async",
            shown: "the plugin failed: transform returned a promise, and nothing in this engine runs after",
        },
        Case {
            what: "object",
            shown: "the plugin failed: transform must return pass(), replace(…), drop(…) or later(…). It returned an object, which is none of these",
        },
        Case { what: "nothing", shown: "It returned nothing: is a return missing?" },
        Case { what: "text", shown: "the plugin failed: the plugin threw a string: only a text" },
        Case { what: "failure", shown: "failure (no-email: there is none)" },
        Case { what: "later", shown: "later (script: not yet ready)" },
        Case { what: "random", shown: "drop (r0." },
        Case { what: "secret", shown: "Error: the subscription has no secret \"key\"; in transform (src/plugin.ts:" },
    ],
    error: [
        "the plugin failed: src/deep.ts:4:11: TypeError: cannot read property 'inner' of null",
        "in deep (src/deep.ts:4:11) < work (src/plugin.ts:11:37) < <anonymous> (src/plugin.ts:23:43) < transform (src/plugin.ts:23:26)",
    ],
    log: ["info: one {\"two\":2} [3]", "warn: careful", "error: wrong Error: inside", ""],
};

pub(super) const PYTHON: Cases = Cases {
    files: ["plugin.py", "deep.py"],
    cases: &[
        Case { what: "async", shown: "pass" },
        Case {
            what: "waits",
            shown: "RuntimeError: transform awaits what nothing settles: there are no timers and no network; in waiting (src/plugin.py:",
        },
        Case {
            what: "object",
            shown: "the plugin failed: transform must return pass_(), replace(…), drop(…) or later(…). It returned a dict, which is none of these",
        },
        Case { what: "nothing", shown: "It returned nothing: is a return missing?" },
        Case { what: "failure", shown: "failure (no-email: there is none)" },
        Case { what: "later", shown: "later (plugin: not yet ready)" },
        Case { what: "random", shown: "drop (r0." },
        Case {
            what: "secret",
            shown: "LookupError: the subscription has no secret \"key\"; in transform (src/plugin.py:",
        },
    ],
    error: [
        "the plugin failed: src/deep.py:9:13: ValueError: nothing is inside (from TypeError: 'NoneType' object is not subscriptable)",
        "in work (src/deep.py:9:13) < transform (src/plugin.py:28:28)",
    ],
    log: ["info: one {'two': 2} [3]", "warn: careful", "error: wrong inside", "warn: rest"],
};

/// HMAC-SHA256 of `größe` with the key `k`, as `openssl dgst -sha256 -hmac k` prints it.
const SIGNED: &str = "765149651725c66f30554efb60df1d593c7cb957b1233daf91f12a94de51916a";

fn event(what: &str) -> String {
    format!(
        r#"{{"eventName":"Contact is Created","eventData":{{"id":9007199254740993,"fraction":0.1000000000000000055,"what":"{what}"}}}}"#
    )
}

/// Puts a plugin with all cases into the folder, builds and pushes it, and checks what is shown of each.
pub(super) async fn all_are_shown(folder: &Path, name: &str, cases: &Cases, host: &Host, receiver: &Receiver) {
    for file in cases.files {
        std::fs::write(folder.join("src").join(file), fixture(&format!("author/{file}"))).unwrap();
    }
    good(folder, &["build"]);
    for case in cases.cases {
        std::fs::write(folder.join("case.json"), event(case.what)).unwrap();
        let run = super::plugin(folder, &["run", "--event", "case.json"]);
        let shown = format!("{}{}", String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
        assert!(shown.contains(case.shown) && !shown.contains("unreachable"), "{}: {shown}", case.what);
    }

    let limits = json!({"cpu_ms": 1_000, "wall_ms": 5_000});
    let also = json!({"plugin": name, "limits": limits, "secrets": {"key": "k"}, "description": "cases"});
    good(folder, &["push", "--url", &host.url, "--key", crate::harness::ADMIN_KEY]);
    let subscription = host.subscription(&format!("{}cases", receiver.url), also).await;
    let judged = async |what: &str| {
        let event = host.send(event(what)).await;
        let deliveries = host.deliveries_when(&event, |delivery| delivery["attempts"][0].is_object()).await;
        deliveries.into_iter().find(|delivery| delivery["subscription"] == *subscription).unwrap()
    };
    let failed = judged("error").await;
    let attempt = &failed["attempts"][0];
    assert_eq!(text(&attempt["reason"], "code"), "plugin-error", "{failed}");
    assert_eq!(text(&attempt["reason"], "message"), cases.error.join("; "), "{failed}");
    let log: Vec<&str> = attempt["log"].as_array().unwrap().iter().map(|line| line.as_str().unwrap()).collect();
    let expected = cases.log.iter().copied().filter(|line| !line.is_empty());
    assert_eq!(log, expected.collect::<Vec<_>>(), "{failed}");
    let page = Visitor::admin(host).await.see(&format!("/t/default/deliveries/{}", text(&failed, "id"))).await;
    let unescaped = page.replace("&#39;", "'").replace("&#60;", "<").replace("&#62;", ">");
    assert!(cases.error.iter().all(|part| unescaped.contains(part)), "{page}");

    let signed = judged("secret").await;
    assert_eq!(text(&signed["attempts"][0]["reason"], "message"), SIGNED, "{signed}");
    let [first, second] = [judged("random").await, judged("random").await];
    assert_ne!(first["attempts"][0]["reason"]["code"], second["attempts"][0]["reason"]["code"], "{first}");
    judged("header").await;
    judged("digits").await;
    let received = receiver.received();
    let cases: Vec<_> = received.iter().filter(|request| text(request, "path") == "/cases").collect();
    assert_eq!(cases.len(), 2, "{received:?}");
    let [header, digits] =
        ["as it is", "digits"].map(|part| *cases.iter().find(|request| text(request, "body").contains(part)).unwrap());
    assert!(header["headers"].to_string().contains("x-source"), "{header}");
    for part in ["9007199254740993", "0.1000000000000000055"] {
        assert!(text(digits, "body").contains(part), "{digits}");
    }
}
