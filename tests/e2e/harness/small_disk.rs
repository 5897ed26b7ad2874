//! Separate small disk of a server, which a test fills and empties.
//!
//! # Guarantees
//! Only the processes that enter it see it: it is mounted in a namespace of its own, and ends with the tests.

use hookloom_postgres_server::is_root;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

/// Mounts a disk of $2 MiB over the folder $1, with what the folder holds, and keeps it until the end of the input.
const HOLDER: &str = r#"
set -e
cp -a "$1" "$1.copy"
mount -t tmpfs -o size="$2"m,mode=0700 small "$1"
chown --reference="$1.copy" "$1"
cp -a "$1.copy/." "$1/"
rm -r "$1.copy"
echo mounted
read -r _
"#;

/// Name of the file that fills the disk.
const BALLAST: &str = "ballast";

/// Mounted disk.
pub(crate) struct SmallDisk {
    folder: PathBuf,
    holder: Child,
}

impl SmallDisk {
    /// Mounts a disk of this many MiB over a folder, with what the folder holds.
    pub(super) async fn under(folder: &Path, mebibytes: usize) -> SmallDisk {
        let mut holder = Command::new("unshare");
        if !is_root() {
            holder.args(["--map-current-user", "--keep-caps"]);
        }
        holder.args(["--mount", "sh", "-c", HOLDER, "sh"]).arg(folder).arg(mebibytes.to_string());
        let mut holder = holder.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
        let mut lines = BufReader::new(holder.stdout.take().unwrap()).lines();
        assert_eq!(lines.next_line().await.unwrap().as_deref(), Some("mounted"));
        SmallDisk { folder: folder.to_owned(), holder }
    }

    /// Returns a command that sees the disk.
    pub(super) fn entered_by(&self, command: &std::process::Command) -> std::process::Command {
        let mut enter = std::process::Command::new("nsenter");
        if !is_root() {
            enter.args(["--user", "--preserve-credentials"]);
        }
        enter.arg("--mount").arg(format!("--target={}", self.holder.id().unwrap()));
        enter.arg(command.get_program()).args(command.get_args());
        enter
    }

    /// Fills the disk to the last byte.
    pub(crate) fn fill(&self) {
        let mut file = std::fs::File::create(self.ballast()).unwrap();
        let mut block = vec![0; 1 << 16];
        while !block.is_empty() {
            if file.write_all(&block).is_err() {
                block.truncate(block.len() / 2);
            }
        }
    }

    /// Removes what filled the disk.
    pub(crate) fn empty(&self) {
        std::fs::remove_file(self.ballast()).unwrap();
    }

    /// Returns a path on the disk as a process without the disk finds it.
    pub(super) fn seen_from_outside(&self, path: &Path) -> PathBuf {
        let seen = format!("/proc/{}/root", self.holder.id().unwrap());
        Path::new(&seen).join(path.strip_prefix("/").unwrap())
    }

    fn ballast(&self) -> PathBuf {
        self.seen_from_outside(&self.folder.join(BALLAST))
    }
}
