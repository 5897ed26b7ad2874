//! Errors of scripts: phase, message, position and the script's own functions.

use crate::run::{Call, Outcome, Phase};

#[track_caller]
fn check(script: &str, phase: Phase, message: &str, position: Option<(u32, u32)>, frames: &[&str]) {
    match Call::of(script).run().outcome {
        Outcome::Error(error) => {
            let expected =
                (format!("{phase:?}"), message, position, frames.iter().map(|&frame| frame.to_owned()).collect());
            let found = (format!("{:?}", error.phase), error.message.as_str(), error.position, error.frames);
            assert_eq!(found, expected, "{script}");
        }
        other => panic!("{script}: {other:?}"),
    }
}

#[test]
fn errors_name_the_scripts_functions() {
    let script = "function inner(deal) {\n  return deal.missing.field;\n}\nexport function transform(event) {\n  return inner(event.payload.eventData);\n}\n";
    check(
        script,
        Phase::Call,
        "TypeError: cannot read property 'field' of undefined",
        Some((2, 10)),
        &["inner (2:10)", "transform (5:16)"],
    );
    check(
        "export const transform = (event) => {\n  return [1].map(() => replace(undefined));\n}",
        Phase::Call,
        "TypeError: the body of replace is undefined, which has no JSON",
        Some((2, 32)),
        &["<anonymous> (2:32)", "transform (2:14)"],
    );
    check(
        "export async function transform() {\n  await null;\n  throw new RangeError('no');\n}",
        Phase::Call,
        "RangeError: no",
        Some((3, 13)),
        &["transform (3:13)"],
    );
}

#[test]
fn a_syntax_error_has_its_position() {
    check(
        "export function transform(event) {\n  return pass(;\n}",
        Phase::Parse,
        "SyntaxError: unexpected token in expression: ';'",
        Some((2, 15)),
        &["script (2:15)"],
    );
    check(
        "let a = 1;\nlet a = 2;",
        Phase::Parse,
        "SyntaxError: invalid redefinition of global identifier",
        Some((2, 7)),
        &["script (2:7)"],
    );
}

#[test]
fn a_script_that_does_not_load() {
    let none = "there is no function to call: the script must have `export function transform(event) { … }`";
    check("", Phase::Load, none, None, &[]);
    check("function transform() { return pass() }", Phase::Load, none, None, &[]);
    check("export const transform = 1", Phase::Load, none, None, &[]);
    check("\nthrow new Error('at once');", Phase::Load, "Error: at once", Some((2, 11)), &["<anonymous> (2:11)"]);
}

#[test]
fn thrown_values_that_are_no_errors() {
    check("export function transform() { throw 'text' }", Phase::Call, "the script threw a string: text", None, &[]);
    check("export function transform() { throw null }", Phase::Call, "the script threw null: null", None, &[]);
    check(
        "export function transform() { throw { a: 1 } }",
        Phase::Call,
        "the script threw an object: {\"a\":1}",
        None,
        &[],
    );
}

#[test]
fn modules_cannot_be_imported() {
    match Call::of("import 'fs';\nexport const transform = () => pass();").run().outcome {
        Outcome::Error(error) => assert!(error.message.contains("could not load module"), "{error:?}"),
        other => panic!("{other:?}"),
    }
}
