//! Requests as commands of curl, to be pasted into a shell: those that a bin received, and those of attempts. Pure.
//!
//! # Guarantees
//! - The shell passes every text on as it is, whatever it contains.
//! - The command of an attempt has what its record shows: neither the query of the URL nor values of headers that may be secret.
//!
//! # Limits
//! Texts with control characters need a shell that knows `$'…'`, such as bash, zsh or BusyBox.

use crate::inspector::RequestHead;
use std::fmt::Write as _;

/// Value of a header that the record leaves out.
const LEFT_OUT: &str = "…";

/// Maximum size of a body in the command, in bytes. Linux allows 128 KiB for an argument.
const BODY_BYTES_MAX: usize = 100 << 10;

/// Command with what it lacks.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct CurlCommand {
    pub(super) text: String,
    /// Names of the headers whose values are not known.
    pub(super) left_out: String,
}

/// Returns the command for a recorded request with its body. None: the record is of an older host, or no shell can pass the body on.
pub(super) fn of_attempt(request: &[String], body: &str) -> Option<CurlCommand> {
    let (line, headers) = request.split_first()?;
    let (method, url) = line.split_once(' ')?;
    if body.len() > BODY_BYTES_MAX || body.contains('\0') {
        return None;
    }
    let mut parts = vec![format!("curl --globoff {}", quoted(url))];
    if method != "POST" {
        parts.push(format!("--request {}", quoted(method)));
    }
    let mut left_out = Vec::new();
    for header in headers {
        let (name, value) = header.split_once(':')?;
        match value.trim() {
            LEFT_OUT => left_out.push(name),
            // A header without a value would be left out by curl.
            "" => parts.push(format!("-H {}", quoted(&format!("{name};")))),
            value => parts.push(format!("-H {}", quoted(&format!("{name}: {value}")))),
        }
    }
    // Unlike other options for data, it reads no file for a text that begins with @.
    parts.push(format!("--data-raw {}", quoted(body)));
    Some(CurlCommand { text: parts.join(" \\\n  "), left_out: left_out.join(", ") })
}

/// Returns the command for a request to this host's API, with the key in the variable `HOOKLOOM_KEY` if it needs one.
pub(super) fn of_operation(
    method: &str,
    url: &str,
    headers: &[(&str, &str)],
    body: Option<&str>,
    needs_key: bool,
) -> String {
    let mut parts = vec![format!("curl --globoff {}", quoted(url))];
    if method != "GET" {
        parts.push(format!("--request {method}"));
    }
    if needs_key {
        parts.push("-H \"Authorization: Bearer $HOOKLOOM_KEY\"".to_owned());
    }
    parts.extend(headers.iter().map(|(name, value)| format!("-H {}", quoted(&format!("{name}: {value}")))));
    parts.extend(body.map(|body| format!("--data-raw {}", quoted(body))));
    parts.join(" \\\n  ")
}

/// Returns a curl command that sends the same request.
pub(super) fn of_received(head: &RequestHead, body: &str, url: &str) -> String {
    let query = if head.query.is_empty() { String::new() } else { format!("?{}", head.query) };
    let path = head.path.trim_start_matches('/');
    let mut command = format!("curl --globoff -X {} {}", quoted(&head.method), quoted(&format!("{url}{path}{query}")));
    let of_the_connection = ["host", "content-length", "connection", "transfer-encoding", "expect"];
    for (name, value) in head.headers.iter().filter(|(name, _)| !of_the_connection.contains(&name.as_str())) {
        let _ = write!(command, " \\\n  -H {}", quoted(&format!("{name}: {value}")));
    }
    if !body.is_empty() {
        let _ = write!(command, " \\\n  --data-raw {}", quoted(body));
    }
    command
}

/// Quotes a text for a shell. Control characters are written as escapes (`$'…'`, POSIX.1-2024, section 2.2.4), because in a
/// terminal they could end the paste and run what a sender wrote.
fn quoted(text: &str) -> String {
    if !text.contains(|letter: char| letter.is_control() && letter != '\n') {
        return format!("'{}'", text.replace('\'', r"'\''"));
    }
    let mut word = String::from("$'");
    for letter in text.chars() {
        match letter {
            '\'' | '\\' => word.extend(['\\', letter]),
            '\n' => word.push('\n'),
            // Three octal digits, so that a following digit does not belong to the escape.
            _ if letter.is_control() => {
                letter.encode_utf8(&mut [0; 4]).bytes().for_each(|byte| word.push_str(&format!("\\{byte:03o}")));
            }
            _ => word.push(letter),
        }
    }
    word + "'"
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::process::Command;

    /// Returns the arguments that a shell passes on for a command whose program is another one, which writes each with its end.
    fn arguments(command: &str) -> Vec<String> {
        let script = command.replacen("curl", "printf '%s\\0'", 1);
        let output = Command::new("bash").env("LC_ALL", "C.UTF-8").args(["-c", &script]).output().expect("a shell");
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        let text = String::from_utf8(output.stdout).expect("text");
        text.split_terminator('\0').map(str::to_owned).collect()
    }

    #[test]
    fn a_command_has_the_request_without_its_secrets() {
        let request = [
            "POST https://hooks.example.com/in",
            "content-type: application/json",
            "webhook-signature: v1,abc=",
            "x-key: …",
            "authorization: …",
            "x-empty: ",
        ];
        let request = request.map(str::to_owned);
        let command = of_attempt(&request, "{\"name\": \"O'Hara\"}").expect("a command");
        assert_eq!(
            command.text,
            "curl --globoff 'https://hooks.example.com/in' \\\n  -H 'content-type: application/json' \\\n  \
             -H 'webhook-signature: v1,abc=' \\\n  -H 'x-empty;' \\\n  --data-raw '{\"name\": \"O'\\''Hara\"}'"
        );
        assert_eq!(command.left_out, "x-key, authorization");
        let passed = arguments(&command.text);
        assert_eq!(passed.last().map(String::as_str), Some("{\"name\": \"O'Hara\"}"));
    }

    #[test]
    fn there_is_no_command_for_what_no_shell_passes_on() {
        #[track_caller]
        fn check(request: &[&str], body: &str, expected: bool) {
            let request: Vec<String> = request.iter().map(|line| (*line).to_owned()).collect();
            assert_eq!(of_attempt(&request, body).is_some(), expected);
        }
        check(&[], "{}", false);
        check(&["POST http://a.example/"], "", true);
        check(&["POST http://a.example/"], "a\0b", false);
        check(&["POST http://a.example/"], &"x".repeat(BODY_BYTES_MAX), true);
        check(&["POST http://a.example/"], &"x".repeat(BODY_BYTES_MAX + 1), false);
    }

    #[test]
    fn a_command_keeps_quotes_apart() {
        let head = RequestHead {
            method: "POST".into(),
            path: "/a".into(),
            query: "b=1".into(),
            headers: vec![("host".into(), "x".into()), ("x-y".into(), "it's".into())],
            ..RequestHead::default()
        };
        let command = of_received(&head, "{'}", "http://h/bins/1/");
        assert_eq!(
            command,
            "curl --globoff -X 'POST' 'http://h/bins/1/a?b=1' \\\n  -H 'x-y: it'\\''s' \\\n  --data-raw '{'\\''}'"
        );
    }

    #[test]
    fn a_command_holds_nothing_that_a_terminal_obeys() {
        assert_eq!(quoted("a\nb"), "'a\nb'");
        assert_eq!(quoted("\x1b[201~\rrm -rf '\\\u{9b}1"), "$'\\033[201~\\015rm -rf \\'\\\\\\302\\2331'");
    }

    #[test]
    fn a_command_for_the_api_has_its_key_in_a_variable() {
        let url = "https://h.example/v1/tenants/default/events?limit=2&name=it's";
        let read = of_operation("GET", url, &[], None, true);
        let expected = ["--globoff", url, "-H", "Authorization: Bearer hlk_1 2"];
        assert_eq!(arguments(&format!("HOOKLOOM_KEY='hlk_1 2'; {read}")), expected);
        let sent = of_operation("POST", "https://h.example/in/a", &[("x-a", "b c")], Some("{\"a\":\n1}"), false);
        let expected =
            ["--globoff", "https://h.example/in/a", "--request", "POST", "-H", "x-a: b c", "--data-raw", "{\"a\":\n1}"];
        assert_eq!(arguments(&sent), expected);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_shell_passes_every_text_on_as_it_is(
            body in "[^\0]{0,40}",
            value in "[!-~]{1,12}",
            nasty in "['\"$`\\\\!#&|;<>(){}*?~ \n\t\r\x1b\x7f@0-9-]{1,20}",
        ) {
            let request = vec!["PUT http://a.example/[x]{y}".to_owned(), format!("x-value: {value}")];
            for body in [&body, &nasty] {
                let command = of_attempt(&request, body).expect("a command");
                let expected =
                    ["--globoff", "http://a.example/[x]{y}", "--request", "PUT", "-H", &format!("x-value: {value}"), "--data-raw", body];
                prop_assert_eq!(arguments(&command.text), expected);
            }
        }
    }
}
