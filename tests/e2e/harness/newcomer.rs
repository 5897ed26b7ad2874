//! Host as a new user starts it: with `hookloom serve`, no admin key of one's own, and the usual settings.

use super::{PATIENCE, client, program};
use std::path::Path;
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

/// Host that was started without a given admin key.
pub(crate) struct Newcomer {
    process: Child,
    /// Shown admin key.
    pub(crate) key: Option<String>,
    /// Path of the shown link that signs in once.
    pub(crate) link: Option<String>,
    pub(crate) url: String,
}

impl Newcomer {
    /// Starts a host on a folder of data, and waits until it listens.
    pub(crate) async fn start(data: &Path) -> Newcomer {
        let mut process = Newcomer::command(data, "127.0.0.1:0").stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut key = None;
        let mut link = None;
        loop {
            let line = tokio::time::timeout(PATIENCE, lines.next_line()).await.unwrap().unwrap();
            let line = line.expect("the host ended");
            if let Some(shown) = line.strip_prefix("admin key (shown this once): ") {
                key = Some(shown.to_owned());
            }
            if let Some((_, shown)) = line.split_once("sign in once, within a day: ") {
                link = shown.split_once("/sign-in").map(|(_, token)| format!("/sign-in{token}"));
            }
            if let Some(rest) = line.strip_prefix("listening on ") {
                let url = rest.split(' ').next().unwrap().to_owned();
                // Nobody reads on, and the host must not block on its output.
                tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
                return Newcomer { process, key, link, url };
            }
        }
    }

    /// Returns the command that starts it.
    pub(crate) fn command(data: &Path, listen: &str) -> Command {
        let mut command = Command::new(program());
        command.args(["serve", "--listen", listen, "--data-dir"]).arg(data);
        command.env_remove("HOOKLOOM_ADMIN_KEY").current_dir(data.parent().unwrap()).kill_on_drop(true);
        command
    }

    /// Returns the status for a key and a list that only admins may read.
    pub(crate) async fn status_for(&self, key: &str) -> u16 {
        let asked = client().get(format!("{}/v1/tenants", self.url)).header("authorization", format!("Bearer {key}"));
        asked.send().await.unwrap().status().as_u16()
    }

    pub(crate) async fn kill(mut self) {
        self.process.kill().await.unwrap();
    }
}
