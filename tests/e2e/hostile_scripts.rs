//! Scripts that want to do harm: each ends its own call, as a named fault or with its answer, and the next call is as if there had been none.

use crate::harness::{Host, Receiver, event, text};
use crate::scripts::upload;
use reqwest::Method;
use serde_json::{Value, json};

/// Host on which scripts are tried.
struct Bench(Host);

impl Bench {
    async fn start() -> Bench {
        Bench(Host::start().await)
    }

    /// Judges an event with the body of a `transform`.
    async fn judge(&self, body: &str) -> Value {
        let event: Value = serde_json::from_str(&event("Contact is Created", 7)).unwrap();
        let source = format!("export function transform(event) {{\n{body}\n}}");
        let trial = json!({"source": source, "event": event, "limits": {"cpu_ms": 1_000, "wall_ms": 5_000}});
        self.0.ask(Method::POST, "./scripts/try", trial.to_string()).await.ok()
    }

    async fn check_fault(&self, body: &str, code: &str, message: &str) {
        let shown = self.judge(body).await;
        assert_eq!((text(&shown, "verdict"), text(&shown["reason"], "code")), ("fault", code), "{body}: {shown}");
        assert!(text(&shown["reason"], "message").contains(message), "{body}: {shown}");
        self.still_works().await;
    }

    async fn check_body(&self, body: &str, expected: &str) {
        let shown = self.judge(body).await;
        assert_eq!((text(&shown, "verdict"), &shown["body"]), ("replace", &json!(expected)), "{body}: {shown}");
    }

    /// Checks that a plain script is judged as ever.
    async fn still_works(&self) {
        self.check_body(
            "return replace([typeof globalThis.left, [].concat(1), `${{}}`])",
            r#"["undefined",[1],"[object Object]"]"#,
        )
        .await;
    }
}

#[tokio::test]
async fn endless_work_is_ended_by_a_limit() {
    let bench = Bench::start().await;
    for body in [
        "for (;;);",
        "while (true) { try { throw 1 } catch {} }",
        "/(a+)+$/.exec('a'.repeat(60) + 'b')",
        "/^(([a-z])+.)+[A-Z]([a-z])+$/.exec('a'.repeat(60))",
        "const f = async () => { for (;;) await null }; return f()",
        "throw { get message() { for (;;); }, toString() { for (;;); } }",
        "return replace({ toJSON() { for (;;); } })",
    ] {
        bench.check_fault(body, "plugin-timeout", "limits.cpu_ms is 1000").await;
    }
}

#[tokio::test]
async fn endless_recursion_and_allocation_are_errors_with_a_position() {
    let bench = Bench::start().await;
    const OVERFLOW: &str = "Maximum call stack size exceeded";
    bench.check_fault("const f = () => f(); f()", "plugin-script", OVERFLOW).await;
    bench.check_fault("const o = { get a() { return this.a } }; o.a", "plugin-script", OVERFLOW).await;
    bench.check_fault("JSON.parse('['.repeat(100000))", "plugin-script", OVERFLOW).await;
    bench
        .check_fault("const all = []; for (;;) all.push(new Uint8Array(1 << 20))", "plugin-script", "out of memory")
        .await;
    bench.check_fault("const all = []; for (;;) all.push({})", "plugin-script", "out of memory").await;
    bench.check_fault("let s = 'a'; for (;;) s += s", "plugin-script", "").await;
    let shown = bench.judge("const f = () => f();\nf()").await;
    assert_eq!(shown["script_error"]["line"], 2, "{shown}");
    // The two recursions of the engine itself end as a trap.
    bench.check_fault("eval('['.repeat(100000) + ']'.repeat(100000))", "plugin-trap", "").await;
}

#[tokio::test]
async fn wrong_answers_are_refused_in_words() {
    let bench = Bench::start().await;
    const MUST: &str = "transform must return pass(), replace(…), drop(…) or later(…)";
    for (body, message) in [
        ("return { verdict: 'pass' }", MUST),
        ("return", "nothing: is a return missing?"),
        ("return [pass()]", MUST),
        ("const v = pass(); return Object.setPrototypeOf({}, Object.getPrototypeOf(v))", MUST),
        ("return new Promise(() => {})", "a promise that nothing settles"),
        ("return Promise.reject(new Error('late'))", "late"),
        ("throw undefined", "the script threw undefined"),
        ("throw Symbol('x')", "the script threw a symbol"),
        ("throw new Proxy({}, { get() { throw 1 } })", "the script threw an object"),
        ("return replace(Symbol('x'))", "which has no JSON"),
        ("return replace({ get a() { throw new Error('in a getter') } })", "in a getter"),
        ("const a = []; a.push(a); return replace(a)", "circular"),
        ("return replace('x', { headers: { get a() { throw new Error('of a header') } } })", "of a header"),
    ] {
        bench.check_fault(body, "plugin-script", message).await;
    }
    bench.check_body("return Promise.resolve().then(() => replace(['later']), 1)", r#"["later"]"#).await;
}

#[tokio::test]
async fn floods_are_bounded() {
    let bench = Bench::start().await;
    bench
        .check_fault(
            "return replace('x'.repeat(1 << 20), { contentType: 'text/plain' })",
            "plugin-bad-output",
            "limits.output_bytes is 262144",
        )
        .await;
    bench.check_fault("return replace('x', { headers: { 'x-a': 'a'.repeat(9000) } })", "plugin-bad-output", "").await;
    let shown = bench.judge("for (let i = 0; i < 1e4; i++) console.log('x'.repeat(100)); return pass()").await;
    assert_eq!(text(&shown, "verdict"), "pass", "{shown}");
    let logged: usize = shown["log"].as_array().unwrap().iter().map(|line| line.as_str().unwrap().len()).sum();
    assert!(logged < 64 << 10, "{logged} bytes of the log are kept");
    bench.check_fault("for (;;) history.previous()", "plugin-limit", "limits.host_calls").await;
}

/// Code that breaks everything that a later call could use.
const SPOIL: &str = "
    globalThis.left = 1;
    Object.prototype.inherited = 1;
    Array.prototype.concat = () => 'spoilt';
    Object.prototype.toString = () => 'spoilt';
    JSON.parse = JSON.stringify = () => { throw new Error('spoilt') };
    Object.defineProperty(Object.prototype, 'payload', { set() { throw new Error('spoilt') } });
    globalThis.replace = globalThis.pass = () => { throw new Error('spoilt') };";

#[tokio::test]
async fn changed_globals_are_gone_at_the_next_call() {
    let bench = Bench::start().await;
    bench.check_fault(&format!("{SPOIL} return replace(1)"), "plugin-script", "spoilt").await;
    // The same version, in deliveries that follow each other.
    let receiver = Receiver::start().await;
    let source = format!(
        "export function transform(event) {{\n  const seen = [typeof globalThis.left, typeof ({{}}).inherited];\n  const answer = replace({{ seen }});\n{SPOIL}\n  return answer;\n}}"
    );
    let (status, version) = upload(&bench.0, "spoils", &source).await;
    assert_eq!(status, 200, "{version}");
    assert_eq!(version["report"]["probe"]["depends_on"], json!(["earlier calls"]), "{version}");
    bench.0.subscription(&receiver.url, json!({"plugin": "spoils", "limits": {"cpu_ms": 500}})).await;
    for number in 0..3 {
        bench.0.send(event("Contact is Created", number)).await;
    }
    for received in receiver.expect(3).await {
        assert_eq!(text(&received, "body"), r#"{"seen":["undefined","undefined"]}"#);
    }
}
