//! Free ports, so that tests run side by side.

use std::net::TcpListener;

use crate::Outcome;

/// A port on loopback that was free a moment ago.
///
/// # Errors
/// The machine has none.
pub fn free_port() -> Outcome<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// Several different free ports.
///
/// # Errors
/// The machine has too few.
pub fn free_ports(count: usize) -> Outcome<Vec<u16>> {
    // All stay bound until the last is known, so that none is given twice.
    let listeners = (0..count).map(|_| TcpListener::bind(("127.0.0.1", 0))).collect::<Result<Vec<_>, _>>()?;
    listeners.iter().map(|listener| Ok(listener.local_addr()?.port())).collect()
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
