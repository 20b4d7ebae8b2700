//! Free ports, so that tests run side by side.

use std::{
    fs::{self, File},
    hash::{BuildHasher, RandomState},
    net::TcpListener,
    ops::Range,
    sync::{Mutex, OnceLock, PoisonError},
};

use rustix::fs::{FlockOperation, flock};

use crate::Outcome;

/// Below the ports that the kernel gives to outgoing connections: one of those could be taken between the moment it
/// is found free and the moment the gateway listens on it.
const RANGE: Range<u16> = 12_000..32_000;

/// Ports that belong to one process while it runs. `tests/peers/lib/peers.py` shares them out in the same way.
const BLOCK: u16 = 100;

/// A port on loopback that was free a moment ago.
///
/// # Errors
/// The machine has none.
pub fn free_port() -> Outcome<u16> {
    free_ports(1)?.pop().ok_or_else(|| "no port is free".into())
}

/// Several different free ports.
///
/// # Errors
/// The machine has too few.
pub fn free_ports(count: usize) -> Outcome<Vec<u16>> {
    static OWN: OnceLock<Mutex<Option<Block>>> = OnceLock::new();
    let own = OWN.get_or_init(|| Mutex::new(Block::take()));
    let mut own = own.lock().unwrap_or_else(PoisonError::into_inner);
    let block = own.as_mut().ok_or("every block of ports is taken")?;
    let ports: Vec<_> = (0..BLOCK).filter_map(|_| block.next_free()).take(count).collect();
    if ports.len() < count { Err("too few ports are free".into()) } else { Ok(ports) }
}

/// A block of ports that no other process of these tests takes: a gateway that was killed finds its own again, and two
/// that start at the same time never look at the same one.
struct Block {
    ports: Range<u16>,
    next: u16,
    // Locked for as long as it is open; the kernel lets go of it however this process ends.
    _lock: File,
}

impl Block {
    fn take() -> Option<Self> {
        let folder = std::env::temp_dir().join("portcullis-test-ports");
        fs::create_dir_all(&folder).ok()?;
        let blocks = (RANGE.end - RANGE.start) / BLOCK;
        // From a random place, so that processes side by side look in different ones.
        let begin = RandomState::new().hash_one(std::process::id());
        (0..blocks).find_map(|step| {
            let number = u16::try_from(begin.wrapping_add(step.into()) % u64::from(blocks)).ok()?;
            let path = folder.join(number.to_string());
            let lock = File::options().create(true).truncate(false).write(true).open(path).ok()?;
            flock(&lock, FlockOperation::NonBlockingLockExclusive).ok()?;
            let start = RANGE.start + number * BLOCK;
            Some(Self { ports: start..start + BLOCK, next: start, _lock: lock })
        })
    }

    /// The next port if nobody listens on it.
    fn next_free(&mut self) -> Option<u16> {
        let port = self.next;
        self.next = if port + 1 < self.ports.end { port + 1 } else { self.ports.start };
        TcpListener::bind(("127.0.0.1", port)).is_ok().then_some(port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_of_one_request_differ() {
        let mut ports = free_ports(20).unwrap();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 20);
    }

    #[test]
    fn no_two_blocks_that_are_held_at_once_are_the_same() {
        let blocks: Vec<_> = (0..30).map(|_| Block::take().unwrap()).collect();
        let mut starts: Vec<_> = blocks.iter().map(|block| block.ports.start).collect();
        starts.sort_unstable();
        starts.dedup();
        assert_eq!(starts.len(), 30);
    }

    #[test]
    fn a_port_that_was_given_is_not_given_again_before_the_others() {
        let mut block = Block::take().unwrap();
        let first: Vec<_> = (0..40).filter_map(|_| block.next_free()).collect();
        let second: Vec<_> = (0..40).filter_map(|_| block.next_free()).collect();
        assert!(first.iter().all(|port| !second.contains(port)));
    }
}
