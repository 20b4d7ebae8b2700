//! Free ports, so that tests run side by side.

use std::hash::{BuildHasher, RandomState};
use std::net::TcpListener;

use crate::Outcome;

/// Below the ports that the kernel gives to outgoing connections: one of those could be taken between the moment it
/// is found free and the moment the gateway listens on it.
const RANGE: std::ops::Range<u16> = 12_000..32_000;

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
    // From a random place, so that tests side by side look in different ones.
    let start = RandomState::new().hash_one(count);
    let width = u64::from(RANGE.end - RANGE.start);
    let ports = (0..width).filter_map(|step| {
        let offset = u16::try_from(start.wrapping_add(step) % width).ok()?;
        let listener = TcpListener::bind(("127.0.0.1", RANGE.start + offset)).ok()?;
        Some(listener.local_addr().ok()?.port())
    });
    let ports: Vec<_> = ports.take(count).collect();
    if ports.len() < count { Err("too few ports are free".into()) } else { Ok(ports) }
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
}
