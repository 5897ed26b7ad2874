//! Scripts that want to do harm: they end their own call, with a message wherever one is possible.

use crate::answers::shown;
use crate::run::{Call, OUT_OF_FUEL, OUT_OF_STACK, Outcome};

/// Script and part of the error that it ends with.
#[track_caller]
fn check(body: &str, message: &str) {
    let script = format!("export function transform(event) {{\n{body}\n}}");
    match Call::of(&script).run().outcome {
        Outcome::Error(error) => assert!(error.message.contains(message), "{body}: {error:?}"),
        other => panic!("{body}: {other:?}"),
    }
}

#[track_caller]
fn check_trap(body: &str, message: &str) {
    let script = format!("export function transform(event) {{ {body} }}");
    match (Call { fuel: Some(300_000_000), ..Call::of(&script) }).run().outcome {
        Outcome::Trap(trap) => assert!(trap.contains(message), "{body}: {trap}"),
        other => panic!("{body}: {other:?}"),
    }
}

#[test]
fn recursion_is_an_error_of_the_script() {
    const OVERFLOW: &str = "Maximum call stack size exceeded";
    let nested = "let a = []; for (let i = 0; i < 100000; i++) a = [a];";
    check("const f = () => f(); f()", OVERFLOW);
    check("function f(a, b, c, d, e) { return 1 + f(e, d, c, b, a) } f(1)", OVERFLOW);
    check("const f = () => [1, 2].map(f); f()", OVERFLOW);
    check("const f = () => [2, 1].sort(f); f()", OVERFLOW);
    check("const f = () => 'a'.replace(/a/, f); f()", OVERFLOW);
    check("const f = () => new Proxy({}, { get: f }).x; f()", OVERFLOW);
    check("const o = { get a() { return this.a } }; o.a", OVERFLOW);
    check("const o = { toJSON() { return JSON.stringify(o) } }; JSON.stringify(o)", OVERFLOW);
    check("const o = { toString() { return `${o}` } }; `${o}`", OVERFLOW);
    check("class A { constructor() { new A() } } new A()", OVERFLOW);
    check("let f = () => 1; for (let i = 0; i < 100000; i++) { const g = f; f = () => g() } f()", OVERFLOW);
    check(&format!("{nested} JSON.stringify(a)"), OVERFLOW);
    check(&format!("{nested} a.flat(Infinity)"), OVERFLOW);
    check(&format!("{nested} String(a)"), OVERFLOW);
    check("JSON.parse('['.repeat(100000))", OVERFLOW);
    check("JSON.parse('['.repeat(100000), (k, v) => v)", OVERFLOW);
    check("function* g() { yield* g() } for (const x of g()) return x", OVERFLOW);
    check("new RegExp('('.repeat(100000) + ')'.repeat(100000))", "SyntaxError");
}

#[test]
fn recursion_of_the_engine_itself_is_ended_by_the_host() {
    check_trap("eval('['.repeat(100000) + ']'.repeat(100000))", OUT_OF_STACK);
    check_trap("let p = {}; for (let i = 0; i < 5000; i++) p = new Proxy(p, {}); p.x", OUT_OF_STACK);
}

#[test]
fn recursion_that_is_caught_does_no_harm() {
    assert_eq!(
        shown("export const transform = () => { const f = () => f(); try { f() } catch (e) { return drop(e.name) } }"),
        r#"drop "RangeError" """#
    );
}

#[test]
fn recursion_of_a_moderate_depth_works() {
    assert_eq!(
        shown("export const transform = () => { const f = (n) => n === 0 ? 0 : 1 + f(n - 1); return replace(f(400)) }"),
        "400"
    );
}

#[test]
fn memory_is_an_error_of_the_script() {
    check("const all = []; for (;;) all.push(new Uint8Array(1 << 20))", "out of memory");
    check("let s = 'a'; for (;;) s += s", "");
    check("const all = []; for (;;) all.push({})", "out of memory");
    check("const all = []; for (let i = 0;; i++) all.push('x'.repeat(1000) + i)", "out of memory");
    check("const m = new Map(); for (let i = 0;; i++) m.set(i, [i])", "out of memory");
    check("'x'.padEnd(1e9)", "");
}

#[test]
fn memory_keeps_its_limit_whatever_it_is() {
    for mebibytes in [8, 16, 128] {
        let mut call = Call::of("export const transform = () => { const all = []; for (;;) all.push([1, 2, 3]) }");
        call.memory_bytes = Some(mebibytes << 20);
        match call.run().outcome {
            Outcome::Error(error) => assert!(error.message.contains("out of memory"), "{mebibytes} MiB: {error:?}"),
            other => panic!("{mebibytes} MiB: {other:?}"),
        }
    }
}

#[test]
fn loops_are_ended_by_the_host() {
    check_trap("for (;;);", OUT_OF_FUEL);
    check_trap("while (true) { try { throw 1 } catch {} }", OUT_OF_FUEL);
    check_trap("/(a+)+$/.exec('a'.repeat(40) + 'b')", OUT_OF_FUEL);
    check_trap("throw { get message() { for (;;); } , toString() { for (;;); } }", OUT_OF_FUEL);
    check_trap("const f = async () => { for (;;) await null }; return f()", OUT_OF_FUEL);
}

#[test]
fn changed_builtins_change_nothing_of_the_engine() {
    let spoil = "
        const names = Object.getOwnPropertyNames(globalThis);
        for (const name of names) {
          const value = globalThis[name];
          for (const object of [value, value && value.prototype]) {
            if (object === null || object === undefined || (typeof object !== 'object' && typeof object !== 'function')) continue;
            for (const key of Reflect.ownKeys(object)) {
              if (object === config) continue;
              try { Object.defineProperty(object, key, { get() { throw new Error('spoilt') }, set() { throw new Error('spoilt') } }) } catch {}
            }
          }
        }
        for (const name of ['get', 'value', 'then', 'headers']) {
          try { Reflect.defineProperty(Array.prototype, name, { set() { throw new Error('spoilt') } }) } catch {}
        }
    ";
    let script = |end: &str| {
        format!(
            "const keep = {{ pass, drop, replace, later, console, Object, Reflect }};
             export function transform(event) {{ const e = event; {spoil} ; {end} }}"
        )
    };
    assert_eq!(shown(&script("return keep.pass()")), "pass");
    assert_eq!(shown(&script("return keep.drop('x', 'y')")), r#"drop "x" "y""#);
    assert_eq!(shown(&script("return keep.later(5, 'x')")), r#"later 5 "x" """#);
    assert_eq!(shown(&script("return keep.replace({ a: 1 }, { headers: { b: 'c' } })")), r#"{"a":1} b=c"#);
    assert_eq!(shown(&script("throw 'x'")), "error: the script threw a string: x");
    assert_eq!(
        shown(&script("return 1")),
        "error: transform must return pass(), replace(…), drop(…) or later(…). It returned a number, which is none of these"
    );
}

#[test]
fn an_answer_cannot_be_forged() {
    let none = "error: transform must return pass(), replace(…), drop(…) or later(…). It returned an object, which is none of these";
    assert_eq!(
        shown(
            "export const transform = () => { const v = pass(); const o = {}; Object.setPrototypeOf(o, Object.getPrototypeOf(v)); return o }"
        ),
        none
    );
    assert_eq!(shown("export const transform = () => new (pass().constructor)({})"), none);
    assert_eq!(
        shown(
            "export const transform = () => { class A extends Object.getPrototypeOf(pass()).constructor {} ; return new A() }"
        ),
        none
    );
}

#[test]
fn errors_that_lie_hurt_only_their_own_report() {
    check("const e = new Error('x'); e.stack = 'at f (script.js:999:1)'; throw e", "Error: x");
    check("const e = new Error('x'); Object.defineProperty(e, 'stack', { get() { throw 1 } }); throw e", "Error: x");
    check("const e = new Error('x'); Object.defineProperty(e, 'message', { get() { throw 1 } }); throw e", "Error");
    check("Error.prepareStackTrace = () => { throw 1 }; throw new Error('x')", "");
    check("Error.stackTraceLimit = -1; throw new Error('x')", "Error: x");
}

#[test]
fn floods_of_the_log_end() {
    let ran =
        Call::of("export const transform = () => { for (let i = 0; i < 5000; i++) console.log(i); return pass() }")
            .run();
    assert!(matches!(ran.outcome, Outcome::Answer(Ok(_))), "{:?}", ran.outcome);
    assert_eq!(ran.log.len(), 2_001);
    assert_eq!(ran.log[2_000], "Warn: 3000 more lines: the engine hands over 2000 of a call");
}
