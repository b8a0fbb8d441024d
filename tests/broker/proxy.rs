//! A proxy in front of a server that cuts a connection after so many bytes.

use fairstalk::config::Broker;
use std::sync::{Arc, Mutex};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Notify;

/// Which way the bytes go that are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Request,
    Reply,
}

/// Bytes that may still pass, one way; none while nothing is to be cut.
type Fuse = Arc<Mutex<Option<(Way, usize)>>>;

/// A running proxy; it ends with the runtime.
pub struct Proxy {
    folder: TempDir,
    fuse: Fuse,
}

impl Proxy {
    /// Listens on a socket of its own; `server` is the path of the real one.
    pub fn start(server: String) -> Proxy {
        let folder = tempfile::Builder::new().prefix("fairstalk-").tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("proxy.sock")).unwrap();
        let fuse = Fuse::default();
        let armed = Arc::clone(&fuse);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = UnixStream::connect(&server).await.unwrap().into_split();
                let cut = Arc::new(Notify::new());
                tokio::spawn(pass(Way::Request, from_client, to_server, Arc::clone(&armed), Arc::clone(&cut)));
                tokio::spawn(pass(Way::Reply, from_server, to_client, Arc::clone(&armed), cut));
            }
        });
        Proxy { folder, fuse }
    }

    /// The same server, by way of this proxy.
    pub fn broker(&self, broker: &Broker) -> Broker {
        let (_, database) = broker.url.split_once('?').unwrap();
        Broker {
            url: format!("unix://{}?{database}", self.folder.path().join("proxy.sock").display()),
            ..broker.clone()
        }
    }

    /// The connection is cut when so many bytes more have gone this way.
    pub fn cut_after(&self, way: Way, bytes: usize) {
        *self.fuse.lock().unwrap() = Some((way, bytes));
    }

    /// Nothing is cut any more. Whether something was to be, and had not been yet.
    pub fn disarm(&self) -> bool {
        self.fuse.lock().unwrap().take().is_some()
    }
}

/// How many of `length` bytes may pass, and whether this burns the fuse.
fn allowed(fuse: &Fuse, way: Way, length: usize) -> (usize, bool) {
    let mut fuse = fuse.lock().unwrap();
    match &mut *fuse {
        Some((armed, left)) if *armed == way && *left <= length => {
            let left = *left;
            *fuse = None;
            (left, true)
        }
        Some((armed, left)) if *armed == way => {
            *left -= length;
            (length, false)
        }
        _ => (length, false),
    }
}

/// Both directions end with either.
async fn pass(way: Way, mut from: OwnedReadHalf, mut to: OwnedWriteHalf, fuse: Fuse, cut: Arc<Notify>) {
    let mut buffer = vec![0; 65536];
    loop {
        let length = tokio::select! {
            read = from.read(&mut buffer) => read.unwrap_or(0),
            () = cut.notified() => 0,
        };
        if length == 0 {
            break;
        }
        let (passes, burnt) = allowed(&fuse, way, length);
        if to.write_all(&buffer[..passes]).await.is_err() || burnt {
            break;
        }
    }
    cut.notify_one();
}
