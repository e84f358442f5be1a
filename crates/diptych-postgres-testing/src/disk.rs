//! A small disk for parts of a server.

use std::{
    env, fs,
    io::{BufRead, BufReader, Write},
    path::PathBuf,
    process::{Child, ChildStdin, ChildStdout, Stdio},
};

use tempfile::TempDir;

use crate::{command, for_server_user};

/// A file system in memory of a few megabytes, for one test. It needs no rights: a shell has it in
/// a namespace of its own, and others come to it through the folder of that process. It is gone
/// with this value.
pub struct SmallDisk {
    folder: TempDir,
    shell: Child,
    pipe: Option<ChildStdin>,
    told: BufReader<ChildStdout>,
}

/// Mounts the file system at `$1`, and does what its input says: fills it, frees it, or gives it
/// another size.
const SHELL: &str = "mount -t tmpfs -o mode=0700,size=\"$2\" tmpfs \"$1\" && echo ready && \
    while read word; do case $word in \
    fill) cat /dev/zero 2>/dev/null > \"$1/other\"; true;; \
    free) rm \"$1/other\";; \
    *) mount -t tmpfs -o remount,size=\"$word\" tmpfs \"$1\";; \
    esac; echo $?; done";

impl SmallDisk {
    /// A disk of this many megabytes, or `None`, with a word about it, where the system permits no
    /// mounts.
    pub fn new(megabytes: u32) -> Option<SmallDisk> {
        let folder = TempDir::new().unwrap();
        for_server_user(folder.path());
        let mut shell = command("unshare".as_ref(), folder.path());
        shell.args(["--user", "--map-root-user", "--mount", "sh", "-c", SHELL, "sh"]);
        shell.arg(folder.path()).arg(format!("{megabytes}m"));
        shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut told = String::new();
        if let Ok(mut shell) = shell.spawn() {
            let pipe = shell.stdin.take();
            let mut out = BufReader::new(shell.stdout.take().unwrap());
            out.read_line(&mut told).unwrap();
            let disk = SmallDisk { folder, shell, pipe, told: out };
            if told == "ready\n" && fs::read_dir(disk.path()).is_ok() {
                return Some(disk);
            }
        }
        // No package brings it, so the other tests of a full disk stand in for it. In CI all run.
        let missing = "left out, without a small disk: the program unshare of util-linux has to \
                       be there, and the system has to permit namespaces of users and mounts";
        assert!(env::var_os("CI").is_none(), "{missing}");
        println!("{missing}");
        None
    }

    /// Where programs outside of the namespace find it.
    pub fn path(&self) -> PathBuf {
        let inside = self.folder.path().strip_prefix("/").unwrap();
        PathBuf::from(format!("/proc/{}/root", self.shell.id())).join(inside)
    }

    /// Takes all the space that is left, by a file of another program.
    pub fn fill(&mut self) {
        self.tell("fill");
    }

    /// Removes that file.
    pub fn free(&mut self) {
        self.tell("free");
    }

    /// Changes its size.
    pub fn resize(&mut self, megabytes: u32) {
        self.tell(&format!("{megabytes}m"));
    }

    fn tell(&mut self, word: &str) {
        writeln!(self.pipe.as_mut().unwrap(), "{word}").unwrap();
        let mut told = String::new();
        self.told.read_line(&mut told).unwrap();
        assert_eq!(told, "0\n", "{word} failed");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(self.pipe.take());
        self.shell.wait().unwrap();
    }
}
