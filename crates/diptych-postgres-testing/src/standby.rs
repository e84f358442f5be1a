//! Standbys of a server, which take its changes as they come, or later.

use std::{fs, thread, time::Duration};

use tempfile::TempDir;

use crate::{PostgresServer, command, data_folder, free_port, run};

impl PostgresServer {
    /// A standby of this server, with more lines of settings. It streams the changes.
    pub fn standby(&self, more: &str) -> PostgresServer {
        let folder = data_folder();
        copy_of(self, &folder, more);
        let port = free_port();
        let (shell, pipe) = run(&self.programs, &folder, port);
        let programs = self.programs.clone();
        let standby = PostgresServer { programs, folder, port, shell, pipe: Some(pipe) };
        standby.wait();
        standby
    }

    /// Makes this standby again, as a copy of another server, on its port.
    pub fn follow_anew(&mut self, primary: &PostgresServer) {
        self.stop();
        fs::remove_dir_all(self.data()).unwrap();
        copy_of(primary, &self.folder, "");
        self.restart();
    }

    /// Makes a standby the primary of its own timeline. Changes that it did not receive are gone.
    pub fn promote(&self) {
        let mut promote = command(&self.programs.join("pg_ctl"), self.folder.path());
        let promoted = promote.args(["promote", "-w", "-D"]).arg(self.data()).output().unwrap();
        assert!(promoted.status.success(), "{}", String::from_utf8_lossy(&promoted.stderr));
    }

    /// Stops a standby from receiving more.
    pub fn cut(&self) {
        self.execute("postgres", "alter system set primary_conninfo = ''");
        self.execute("postgres", "select pg_reload_conf()");
        while self.number("select count(*) from pg_stat_wal_receiver") > 0 {
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// A number that a statement returns.
    pub fn number(&self, sql: &str) -> i64 {
        crate::runtime().block_on(async {
            self.client("postgres").await.query_one(sql, &[]).await.unwrap().get(0)
        })
    }

    /// Waits until the standby shows all that is durable on its primary.
    pub fn caught_up(&self, primary: &PostgresServer) {
        let since = "select (pg_current_wal_flush_lsn() - '0/0'::pg_lsn)::bigint";
        let written = primary.number(since);
        let replayed = "select (pg_last_wal_replay_lsn() - '0/0'::pg_lsn)::bigint";
        while self.number(replayed) < written {
            thread::sleep(Duration::from_millis(2));
        }
    }
}

/// Copies a running server into the folder, with the settings of a standby.
fn copy_of(primary: &PostgresServer, folder: &TempDir, more: &str) {
    let mut copy = command(&primary.programs.join("pg_basebackup"), folder.path());
    let from = format!("host=127.0.0.1 port={} user=postgres", primary.port);
    copy.args(["--checkpoint=fast", "--wal-method=stream", "--no-sync", "--write-recovery-conf"]);
    copy.args(["--dbname", &from]).arg("--pgdata").arg(folder.path().join("data"));
    let copied = copy.output().unwrap();
    assert!(copied.status.success(), "pg_basebackup: {}", String::from_utf8_lossy(&copied.stderr));
    let settings = folder.path().join("data/postgresql.conf");
    let text = fs::read_to_string(&settings).unwrap();
    let own = format!(
        "{text}\nunix_socket_directories = '{}'\nwal_retrieve_retry_interval = 50ms\n{more}\n",
        folder.path().display()
    );
    fs::write(&settings, own).unwrap();
}
