//! Tasks that are given before a runner is free for them: one socket that all runners of a worker take from, and a table
//! in shared memory in which each says what it does. The Python half is `inbox.py`.
//!
//! So tasks start in the order in which they were given, whoever is free first; nobody has to be woken while all are busy;
//! and what no runner has taken yet can be taken back, because each packet is either still there or with one runner.

use super::frames;
use nix::sys::memfd::{MFdFlags, memfd_create};
use rustix::io::{pread, pwrite};
use rustix::net::sockopt::{set_socket_send_buffer_size, socket_send_buffer_size};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Largest packet, as in `inbox.py`. What is larger is not given ahead: such a task takes longer than a wake-up.
pub const PACKET: usize = 32_768;

/// As much as a socket to runners is asked to hold, bytes; the kernel gives what `net.core.wmem_max` allows.
pub(super) const BUFFER: usize = 1 << 20;

/// Slots a table has room for, as in `inbox.py`.
const SLOTS: usize = 4096;

/// What a runner does, as it says itself. It may have gone on since.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doing {
    /// It has nothing, and waits on its own channel.
    Waiting,
    /// Its last task has ended, and it is about to look for the next.
    Looking,
    /// It runs the task of this claim.
    Task(u64),
}

/// Which claim the runner of a slot has begun last.
#[derive(Debug)]
pub struct Latest {
    table: OwnedFd,
    slot: usize,
}

impl Latest {
    /// Its number; 0 if there is none.
    pub fn get(&self) -> u64 {
        number_at(&self.table, 2 * SLOTS + self.slot).unwrap_or(0)
    }
}

/// The worker's ends.
#[derive(Debug)]
pub struct Inbox {
    ours: OwnedFd,
    theirs: OwnedFd,
    table: OwnedFd,
    /// What the socket holds, bytes, the kernel's own included.
    capacity: usize,
}

impl Inbox {
    /// An empty one, from which nobody may take.
    ///
    /// # Errors
    /// If descriptors or memory run out.
    pub fn new() -> io::Result<Inbox> {
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        let asked = set_socket_send_buffer_size(&ours, BUFFER);
        let capacity = asked.and_then(|()| socket_send_buffer_size(&ours)).unwrap_or(PACKET);
        let table = memfd_create("fairstalk runners", MFdFlags::MFD_CLOEXEC)?;
        nix::unistd::ftruncate(&table, i64::try_from(3 * SLOTS * 8).unwrap_or(i64::MAX))?;
        Ok(Inbox { ours, theirs, table, capacity })
    }

    /// What a runner gets of it: its end, and the table.
    pub fn shared(&self) -> [BorrowedFd<'_>; 2] {
        [self.theirs.as_fd(), self.table.as_fd()]
    }

    /// How many packets of such a size it can have, about.
    pub fn holds(&self, bytes: usize) -> usize {
        // The kernel takes a power of two with what it notes beside the packet (skbuff(9), truesize).
        let taken = (bytes + 320).next_power_of_two() + 256;
        if bytes > PACKET { 0 } else { self.capacity / taken }
    }

    /// Puts a frame behind the others; false if there is no room.
    pub fn give(&self, frame: &[u8]) -> bool {
        frame.len() <= PACKET && send(&self.ours, frame, SendFlags::DONTWAIT | SendFlags::NOSIGNAL).is_ok()
    }

    /// Takes back what no runner has taken: the numbers of its claims, in order.
    pub fn take_back(&self) -> Vec<u64> {
        let mut packet = vec![0; PACKET];
        let mut sequences = Vec::new();
        while let Ok((count, _)) = recv(&self.theirs, &mut packet, RecvFlags::DONTWAIT) {
            sequences.extend(frames::sequence_of(&packet[..count]));
        }
        sequences
    }

    /// Whether the runner of this slot waits on its own channel; it looks there before it looks here.
    pub fn waits(&self, slot: usize) -> bool {
        number_at(&self.table, slot) == Some(0)
    }

    /// Which claim the runner of this slot has begun last, from now on.
    ///
    /// # Errors
    /// If descriptors run out.
    pub fn latest(&self, slot: usize) -> io::Result<Latest> {
        Ok(Latest { table: self.table.try_clone()?, slot })
    }

    /// What the runners of the first so many slots do. If the table can't be read nobody is known to do anything.
    pub fn doings(&self, slots: usize) -> Vec<Doing> {
        let mut table = vec![0; 8 * slots.min(SLOTS)];
        let read = pread(&self.table, &mut table, 0).unwrap_or(0);
        let numbers =
            table[..read].chunks_exact(8).map(|number| u64::from_ne_bytes(number.try_into().unwrap_or_default()));
        let mut doings: Vec<Doing> = numbers
            .map(|number| match number {
                0 => Doing::Waiting,
                1 => Doing::Looking,
                number => Doing::Task(number - 2),
            })
            .collect();
        doings.resize(slots, Doing::Looking);
        doings
    }

    /// Says whose runners may take: one value for each slot.
    pub fn allow(&self, slots: impl Iterator<Item = bool>) {
        let flags: Vec<u8> = slots.take(SLOTS).flat_map(|may| u64::from(may).to_ne_bytes()).collect();
        // In memory of our own there is nothing that could fail.
        let _ = pwrite(&self.table, &flags, (SLOTS * 8) as u64);
    }
}

fn number_at(table: &OwnedFd, place: usize) -> Option<u64> {
    let mut number = [0; 8];
    let read = pread(table, &mut number, 8 * place as u64);
    (read == Ok(8)).then(|| u64::from_ne_bytes(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is given ahead by this count is never refused.
    #[test]
    fn there_is_room_for_as_many_as_it_says() {
        for size in [100, 1_000, 1_700, 2_000, 5_000, 20_000, PACKET] {
            let inbox = Inbox::new().unwrap();
            let (room, frame) = (inbox.holds(size), vec![0; size]);
            assert!(room >= 2, "{room} of {size} bytes");
            assert!((0..room).all(|_| inbox.give(&frame)), "not {room} of {size} bytes");
        }
        let inbox = Inbox::new().unwrap();
        assert_eq!(inbox.holds(PACKET + 1), 0);
        assert!(!inbox.give(&vec![0; PACKET + 1]));
    }
}
