//! A Redis server of one's own, on a unix socket in a directory that goes with it.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A running server; it ends with this value.
pub struct Server {
    process: Child,
    folder: TempDir,
}

impl Server {
    /// Starts one and waits until it answers.
    pub fn start() -> Server {
        // Directly below the system's directory: a socket's path has 107 bytes at most.
        let folder = tempfile::Builder::new().prefix("fairstalk-").tempdir().unwrap();
        let path = folder.path().join("redis.sock");
        let spawned = Command::new("redis-server")
            .args(["--port", "0", "--save", "", "--appendonly", "no", "--maxmemory-policy", "noeviction"])
            .arg("--unixsocket")
            .arg(&path)
            .arg("--dir")
            .arg(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let process = spawned.unwrap_or_else(|error| {
            panic!("redis-server, which these tests need, can't be started ({error}): run `sh tests/setup.sh`")
        });
        let mut server = Server { process, folder };
        let deadline = Instant::now() + Duration::from_secs(20);
        while std::os::unix::net::UnixStream::connect(&path).is_err() {
            assert_eq!(server.process.try_wait().unwrap(), None, "redis-server has ended");
            assert!(Instant::now() < deadline, "redis-server does not listen");
            std::thread::sleep(Duration::from_millis(5));
        }
        server
    }

    /// Its address, as it stands in `[broker] url`.
    pub fn url(&self, database: i64) -> String {
        format!("unix://{}?db={database}", self.folder.path().join("redis.sock").display())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
