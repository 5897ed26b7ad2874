//! Copies of a server: standbys that follow it, and base backups with an archive of its log.

use super::Postgres;
use crate::harness::until;
use hookloom_postgres_server::{give_away, initialised, unprivileged};
use std::path::Path;
use tempfile::TempDir;
use tokio::process::Command;

impl Postgres {
    /// Starts a standby, which copies this server and follows it.
    pub(crate) async fn standby(&self) -> Postgres {
        Postgres::in_folder(self.copied(&["--write-recovery-conf"]).await, &[], None).await
    }

    /// Makes a standby the server that accepts writes.
    pub(crate) async fn promote(&self) {
        let mut promote = Command::from(unprivileged(&self.programs.join("pg_ctl")));
        promote.args(["promote", "-D"]).arg(self.folder.path().join("data")).current_dir(self.folder.path());
        let promoted = promote.output().await.unwrap();
        assert!(promoted.status.success(), "{}", String::from_utf8_lossy(&promoted.stderr));
    }

    /// Starts a server that also keeps its log in an archive.
    pub(crate) async fn start_archiving() -> Postgres {
        let folder = tokio::task::spawn_blocking(|| initialised("postgres")).await.unwrap();
        let archive = folder.path().join("archive");
        std::fs::create_dir(&archive).unwrap();
        give_away(&archive);
        let command = format!("cp %p {}/%f", archive.display());
        configure(folder.path(), &format!("archive_mode = on\narchive_command = '{command}'\n"));
        Postgres::in_folder(folder, &[], None).await
    }

    /// Copies the whole server, which may be in use, without the log.
    pub(crate) async fn base_backup(&self) -> TempDir {
        self.copied(&["--wal-method=none"]).await
    }

    /// Copies the whole server by `pg_basebackup`, with these options.
    async fn copied(&self, options: &[&str]) -> TempDir {
        let folder = tempfile::Builder::new().prefix("hookloom-postgres-").tempdir().unwrap();
        give_away(folder.path());
        let mut backup = Command::from(unprivileged(&self.programs.join("pg_basebackup")));
        backup.args(["-U", "postgres", "--checkpoint=fast", "--no-sync"]).args(options).arg("-h");
        backup.arg(self.folder.path()).arg("-D").arg(folder.path().join("data")).current_dir(folder.path());
        let copied = backup.output().await.unwrap();
        assert!(copied.status.success(), "{}", String::from_utf8_lossy(&copied.stderr));
        folder
    }

    /// Names the current state, and waits until the log up to it is in the archive.
    pub(crate) async fn name_state(&self, name: &str) {
        let sql = format!("SELECT pg_walfile_name(pg_create_restore_point('{name}'))");
        let file = self.query(&sql).await.remove(0);
        self.query("SELECT pg_switch_wal()").await;
        until("the log in the archive", async || self.folder.path().join("archive").join(&file).exists().then_some(()))
            .await;
    }

    /// Starts a server from a base backup, in the state that [`Postgres::name_state`] named.
    pub(crate) async fn recover(&self, backup: TempDir, state: &str) -> Postgres {
        let archive = self.folder.path().join("archive");
        let recovery = format!(
            "archive_mode = off\nrestore_command = 'cp {}/%f %p'\nrecovery_target_name = '{state}'\nrecovery_target_action = promote\n",
            archive.display()
        );
        configure(backup.path(), &recovery);
        let signal = backup.path().join("data/recovery.signal");
        std::fs::write(&signal, "").unwrap();
        give_away(&signal);
        let server = Postgres::in_folder(backup, &[], None).await;
        until("the end of the recovery", async || {
            (server.query("SELECT pg_is_in_recovery()").await == ["f"]).then_some(())
        })
        .await;
        server
    }
}

/// Adds settings to those of a server that does not run.
fn configure(folder: &Path, settings: &str) {
    let file = folder.join("data/postgresql.conf");
    let before = std::fs::read_to_string(&file).unwrap();
    std::fs::write(file, before + settings).unwrap();
}
