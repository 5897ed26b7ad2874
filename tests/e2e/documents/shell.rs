//! A shell in a fresh folder, in which the commands of a page are run one after the other, as a reader types them.
//!
//! The program under test is first in `PATH`. A program that serves runs in the background until the page ends. Ports are replaced by
//! free ones, in commands and back in what they print, so that pages run side by side.

use super::output::newest_word;
use crate::harness::{PATIENCE, program, root, target};
use std::process::Stdio;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// Beginnings of commands that go on until they are stopped.
const SERVERS: [&str; 3] = ["hookloom serve", "hookloom receive", "hookloom plugin watch"];

/// The port that a host takes unless it is told another one.
const HOST_PORT: &str = "8420";

/// The shell of one page.
pub(super) struct Shell {
    folder: TempDir,
    process: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    /// Ports of the page, each with the one that is used instead.
    ports: Vec<(String, String)>,
    /// Everything that was printed so far.
    seen: String,
    servers: usize,
}

/// Longest time that a command may take. The build of a Python plugin downloads its compiler and compiles 18 MB: 45 s alone, and some
/// minutes beside other tests.
const COMMAND_TIME: Duration = PATIENCE.saturating_mul(5);

/// Result of a command.
pub(super) struct Ran {
    pub(super) output: String,
    pub(super) end: End,
}

/// Result of waiting for a command.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum End {
    Succeeded,
    /// With a status other than 0, or, if it serves, without an address.
    Failed,
    /// After this time it was still running.
    Late(Duration),
}

impl Shell {
    /// Starts the shell for a page, which names its ports.
    pub(super) async fn start(page: &str) -> Shell {
        let folder = TempDir::new().unwrap();
        let programs = folder.path().join(".programs");
        std::fs::create_dir(&programs).unwrap();
        std::os::unix::fs::symlink(program(), programs.join("hookloom")).unwrap();
        // On a terminal, curl shows its progress only where it writes to a file.
        std::fs::write(folder.path().join(".curlrc"), "silent\nshow-error\n").unwrap();
        let ports: Vec<(String, String)> = ports(page).into_iter().map(|port| (port, free_port())).collect();
        let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
        let mut command = Command::new("bash");
        command.args(["-c", "exec 2>&1; exec bash --noprofile --norc"]).current_dir(folder.path());
        command.env("PATH", path).env("CURL_HOME", folder.path()).env("XDG_CACHE_HOME", env!("CARGO_TARGET_TMPDIR"));
        let own = &ports.iter().find(|(port, _)| port == HOST_PORT).unwrap().1;
        command
            .env("HOOKLOOM_LISTEN", format!("127.0.0.1:{own}"))
            .env("HOOKLOOM_URL", format!("http://127.0.0.1:{own}"));
        command.env("no_proxy", "127.0.0.1,localhost").env("NO_PROXY", "127.0.0.1,localhost");
        command.env_remove("HOOKLOOM_ADMIN_KEY").env_remove("HOOKLOOM_KEY");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0).kill_on_drop(true);
        let mut process = command.spawn().unwrap();
        let input = process.stdin.take().unwrap();
        let output = BufReader::new(process.stdout.take().unwrap()).lines();
        Shell { folder, process, input, output, ports, seen: String::new(), servers: 0 }
    }

    /// Copies a file of the source, or of the build where it begins with `target/`, into the folder, under its own name.
    pub(super) fn bring(&self, name: &str) -> Result<(), String> {
        let from = name.strip_prefix("target/").map_or_else(|| root().join(name), |built| target().join(built));
        let to = self.folder.path().join(from.file_name().unwrap());
        std::fs::copy(&from, to).map(drop).map_err(|error| format!("{}: {error}", from.display()))
    }

    /// Saves a file that the page shows, in the folder in which the shell began.
    pub(super) fn save(&self, name: &str, text: &str) {
        let file = self.folder.path().join(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, format!("{}\n", self.with_ports(text))).unwrap();
    }

    /// Runs a command to its end; one that serves, until it has printed what `is_enough` asks for.
    pub(super) async fn run(&mut self, command: &str, is_enough: impl Fn(&str) -> bool) -> Result<Ran, String> {
        let command = self.completed(command)?;
        let ran = if SERVERS.iter().any(|server| command.starts_with(server)) {
            self.serve(&command, is_enough).await
        } else {
            self.ask(&command, "").await
        };
        self.seen.push_str(&ran.output);
        self.seen.push('\n');
        Ok(ran)
    }

    /// Runs a command in the shell itself, so that variables and the folder stay.
    async fn ask(&mut self, command: &str, redirection: &str) -> Ran {
        const END: &str = "===== the command ended with";
        let script = self.folder.path().join(".command");
        std::fs::write(&script, command).unwrap();
        let line = format!("source {} </dev/null {redirection}\nprintf '\\n{END} %s\\n' $?\n", script.display());
        self.input.write_all(line.as_bytes()).await.unwrap();
        let mut output = String::new();
        let ending = async {
            while let Some(line) = self.output.next_line().await.unwrap() {
                if let Some(status) = line.strip_prefix(END) {
                    return if status.trim() == "0" { End::Succeeded } else { End::Failed };
                }
                output.push_str(&line);
                output.push('\n');
            }
            End::Failed
        };
        let end = tokio::time::timeout(COMMAND_TIME, ending).await.unwrap_or(End::Late(COMMAND_TIME));
        Ran { output: self.as_written(output.trim_end()), end }
    }

    async fn serve(&mut self, command: &str, is_enough: impl Fn(&str) -> bool) -> Ran {
        self.servers += 1;
        let printed = self.folder.path().join(format!(".server-{}", self.servers));
        let redirection = format!("> {} 2>&1 &", printed.display());
        self.ask(command, &redirection).await;
        let give_up = Instant::now() + PATIENCE;
        loop {
            let output = self.as_written(std::fs::read_to_string(&printed).unwrap_or_default().trim_end());
            let listens = output.contains("http://");
            if (listens && is_enough(&output)) || Instant::now() > give_up {
                return Ran { output, end: if listens { End::Succeeded } else { End::Failed } };
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Puts the real ports into a command, and the values that the page shortens.
    fn completed(&self, command: &str) -> Result<String, String> {
        let mut whole = String::new();
        let mut rest = command;
        while let Some((before, after)) = rest.split_once('…') {
            let start = before.rfind(|letter: char| !letter.is_ascii_alphanumeric() && !"_-/".contains(letter));
            let prefix = &before[start.map_or(0, |at| at + 1)..];
            let word = newest_word(&self.seen, prefix).filter(|_| !prefix.is_empty());
            let word = word.ok_or_else(|| format!("nothing that was printed so far begins with {prefix:?}"))?;
            whole.push_str(&before[..before.len() - prefix.len()]);
            whole.push_str(&word);
            rest = after;
        }
        whole.push_str(rest);
        Ok(self.with_ports(&whole))
    }

    fn with_ports(&self, text: &str) -> String {
        self.ports.iter().fold(text.to_owned(), |text, (written, used)| text.replace(written, used))
    }

    /// Returns what was printed with the ports of the page.
    fn as_written(&self, text: &str) -> String {
        self.ports.iter().fold(text.to_owned(), |text, (written, used)| text.replace(used, written))
    }

    /// Ends the shell and everything that it started.
    pub(super) async fn end(mut self) {
        let group = self.process.id().and_then(|id| rustix::process::Pid::from_raw(id as i32));
        if let Some(group) = group {
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
        let _ = self.process.wait().await;
    }
}

/// Returns the ports on this machine that a page names, and the host's.
fn ports(page: &str) -> Vec<String> {
    let named = ["127.0.0.1:", "localhost:"].iter().flat_map(|host| page.split(host).skip(1));
    let named = named.map(|rest| rest.chars().take_while(char::is_ascii_digit).collect::<String>());
    let mut ports: Vec<String> = named.filter(|port| port.len() >= 4).chain([HOST_PORT.to_owned()]).collect();
    ports.sort();
    ports.dedup();
    ports
}

fn free_port() -> String {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string()
}

#[test]
fn the_ports_of_a_page_are_found() {
    assert_eq!(ports("http://127.0.0.1:9000/ and localhost:8420, 127.0.0.1:9000, 127.0.0.1:0"), ["8420", "9000"]);
}
