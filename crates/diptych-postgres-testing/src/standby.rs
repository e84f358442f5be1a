//! Standbys of a server, which take its changes as they come, or later.

use std::{fs, thread, time::Duration};

use tempfile::TempDir;

use crate::{PostgresServer, command, data_folder, finish, for_server_user, free_port, run};

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
    let data = folder.path().join("data");
    if primary.programs.join("pg_basebackup").exists() {
        let mut copy = command(&primary.programs.join("pg_basebackup"), folder.path());
        let from = format!("host=127.0.0.1 port={} user=postgres", primary.port);
        copy.args(["--checkpoint=fast", "--wal-method=stream", "--no-sync"]);
        copy.args(["--dbname", &from]).arg("--pgdata").arg(&data);
        finish(&mut copy);
    } else {
        copy_by_hand(primary, folder);
    }
    let settings = data.join("postgresql.conf");
    let text = fs::read_to_string(&settings).unwrap();
    let own = format!(
        "{text}\nunix_socket_directories = '{}'\nwal_retrieve_retry_interval = 50ms\n{more}\n",
        folder.path().display()
    );
    fs::write(&settings, own).unwrap();
    // Later lines of this file count, and it counts more than the other one.
    let automatic = data.join("postgresql.auto.conf");
    let text = fs::read_to_string(&automatic).unwrap();
    let from = format!("host=127.0.0.1 port={} user=postgres", primary.port);
    fs::write(&automatic, format!("{text}\nprimary_conninfo = '{from}'\n")).unwrap();
    let signal = data.join("standby.signal");
    fs::write(&signal, "").unwrap();
    for_server_user(&signal);
}

/// Copies the files of a running server between two of its functions, as its manual says. The
/// packages of npm lack the program for that.
fn copy_by_hand(primary: &PostgresServer, folder: &TempDir) {
    let data = folder.path().join("data");
    crate::runtime().block_on(async {
        // The backup ends with this connection.
        let client = primary.client("postgres").await;
        let version = "select current_setting('server_version_num')::integer";
        let version: i32 = client.query_one(version, &[]).await.unwrap().get(0);
        let (start, stop) = match version >= 150_000 {
            true => ("pg_backup_start('copy', true)", "pg_backup_stop(false)"),
            false => ("pg_start_backup('copy', true, false)", "pg_stop_backup(false, false)"),
        };
        client.batch_execute(&format!("select {start}")).await.unwrap();
        // A file may go meanwhile, and the log of changes has what is needed.
        let copy = || command("cp".as_ref(), folder.path());
        let _ = copy().arg("-a").arg(primary.data()).arg(&data).output().unwrap();
        let stopped = client.query_one(&format!("select labelfile from {stop}"), &[]).await;
        let label: String = stopped.unwrap().get(0);
        finish(copy().arg("-a").arg(primary.data().join("pg_wal")).arg(&data));
        assert!(data.join("global/pg_control").exists());
        let told = data.join("backup_label");
        fs::write(&told, label).unwrap();
        for_server_user(&told);
    });
    for gone in ["postmaster.pid", "postmaster.opts"] {
        let _ = fs::remove_file(data.join(gone));
    }
}
