use super::*;
use crate::telemetry::fields;
use nix::cmsg_space;
use nix::sys::socket::{ControlMessageOwned, recvmsg};
use std::io::{IoSliceMut, Read, Seek};
use std::os::fd::FromRawFd;
use tracing_subscriber::layer::SubscriberExt;

/// A journal of one's own: a socket in a folder of the test.
fn journal() -> (tempfile::TempDir, UnixDatagram, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    (folder, socket, path)
}

fn receive(socket: &UnixDatagram) -> String {
    let mut buffer = vec![0; 65536];
    loop {
        let count = socket.recv(&mut buffer).unwrap();
        if count > 0 {
            return String::from_utf8_lossy(&buffer[..count]).into_owned();
        }
    }
}

#[test]
fn a_record_has_its_fields() {
    let (_folder, socket, path) = journal();
    let layer = Journal::open(&path, "worker 3").unwrap();
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
        tracing::info!({ fields::TASK_ID } = "a-1", { fields::ATTEMPT } = 2, late = true, "to be\nor not\n");
        tracing::error!({ fields::PRIORITY } = 2, { fields::WORKER } = 7, "=");
    });
    assert_eq!(
        receive(&socket),
        "PRIORITY=6\nSYSLOG_IDENTIFIER=fairstalk\nPROCESS=worker 3\nWORKER=3\nTASK_ID=a-1\nATTEMPT=2\nLATE=true\n\
         MESSAGE\n\u{c}\0\0\0\0\0\0\0to be\nor not\n"
    );
    let second = receive(&socket);
    assert_eq!(second, "SYSLOG_IDENTIFIER=fairstalk\nPROCESS=worker 3\nPRIORITY=2\nWORKER=7\nMESSAGE==\n");
}

#[test]
fn what_is_too_large_for_a_datagram_arrives_in_memory() {
    let (_folder, socket, path) = journal();
    let journal = Journal::open(&path, "supervisor").unwrap();
    receive_nothing(&socket);
    let payload = vec![b'x'; 8 << 20];
    journal.tell(&payload);
    let mut space = cmsg_space!([i32; 1]);
    let mut empty = [0; 16];
    let mut parts = [IoSliceMut::new(&mut empty)];
    let message = recvmsg::<UnixAddr>(socket.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::empty()).unwrap();
    let descriptor = message.cmsgs().unwrap().find_map(|control| match control {
        ControlMessageOwned::ScmRights(descriptors) => descriptors.first().copied(),
        _ => None,
    });
    // The number was just received, so it is ours alone.
    #[allow(unsafe_code)]
    let mut file = unsafe { std::fs::File::from_raw_fd(descriptor.unwrap()) };
    let mut content = Vec::new();
    file.rewind().unwrap();
    file.read_to_end(&mut content).unwrap();
    assert_eq!(content.len(), payload.len());
}

fn receive_nothing(socket: &UnixDatagram) {
    assert_eq!(socket.recv(&mut [0; 16]).unwrap(), 0, "the empty record of the start");
}

#[test]
fn a_journal_that_takes_nothing_is_counted_and_told() {
    let (_folder, socket, path) = journal();
    let journal = Journal::open(&path, "supervisor").unwrap();
    let mut sent = 0;
    while journal.trouble.lock().unwrap().lost == 0 {
        journal.tell(b"MESSAGE=x\n");
        sent += 1;
    }
    journal.tell(b"MESSAGE=not even tried\n");
    assert_eq!(journal.trouble.lock().unwrap().lost, 2);
    receive_nothing(&socket);
    (1..sent).for_each(|_| assert_eq!(receive(&socket), "MESSAGE=x\n"));
    journal.trouble.lock().unwrap().until = None;
    journal.tell(b"MESSAGE=y\n");
    let told = receive(&socket);
    assert!(told.contains("did not take 2 lines") && told.contains("SUPPRESSED=2"), "{told}");
    assert_eq!(receive(&socket), "MESSAGE=y\n");
}

#[test]
fn where_nobody_listens_there_is_no_journal() {
    assert!(Journal::open(Path::new("/nowhere/socket"), "supervisor").is_err());
}
