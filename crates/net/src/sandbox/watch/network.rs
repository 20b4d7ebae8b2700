//! Sockets of a watched child. A connection to the egress proxy is made here, on the child's own socket, to the address
//! that was looked at: nothing that changes in its memory meanwhile leads elsewhere.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use portcullis_sys::notify::{Answer, Call};
use rustix::{
    io::Errno,
    process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open},
};

use super::{calls, judge::Sentence, place::Task, tally::Attempt};
use crate::{
    incident::IncidentKind,
    sandbox::{Policy, Sockets},
};

/// Bytes of the largest address, that of a socket in the file system.
const ADDRESS_BYTES_MAX: usize = 110;

/// A socket in words, from the arguments of `socket`.
pub(super) fn socket(arguments: &[u64; 6]) -> String {
    let [family, kind, ..] = arguments.map(calls::number);
    let family = match family {
        libc::AF_INET => "IPv4".to_owned(),
        libc::AF_INET6 => "IPv6".to_owned(),
        libc::AF_UNIX => "unix".to_owned(),
        libc::AF_NETLINK => "netlink".to_owned(),
        libc::AF_PACKET => "packet".to_owned(),
        other => format!("family {other}"),
    };
    let kind = match kind & 0xf {
        libc::SOCK_STREAM => "stream".to_owned(),
        libc::SOCK_DGRAM => "datagram".to_owned(),
        libc::SOCK_RAW => "raw".to_owned(),
        other => format!("type {other}"),
    };
    format!("{family} {kind}")
}

/// An address in a child's memory.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Address {
    Internet(SocketAddr),
    Unix(String),
    Other(u16),
}

impl Address {
    fn read(call: &Call, task: Task) -> Option<Self> {
        let len = usize::try_from(calls::argument(call, 2)).ok()?.min(ADDRESS_BYTES_MAX);
        let mut bytes = [0; ADDRESS_BYTES_MAX];
        task.memory(calls::argument(call, 1), bytes.get_mut(..len)?)?;
        Self::parse(bytes.get(..len)?)
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let array = |from: usize| bytes.get(from..from.checked_add(2)?)?.try_into().ok();
        let family = u16::from_ne_bytes(array(0)?);
        let port = || array(2).map(u16::from_be_bytes);
        match i32::from(family) {
            libc::AF_INET => {
                let ip: [u8; 4] = bytes.get(4..8)?.try_into().ok()?;
                Some(Self::Internet(SocketAddr::new(Ipv4Addr::from(ip).into(), port()?)))
            }
            libc::AF_INET6 => {
                let ip: [u8; 16] = bytes.get(8..24)?.try_into().ok()?;
                Some(Self::Internet(SocketAddr::new(Ipv6Addr::from(ip).into(), port()?)))
            }
            libc::AF_UNIX => {
                let path = bytes.get(2..)?;
                let text = match path.split_first() {
                    Some((0, name)) => format!("@{}", String::from_utf8_lossy(name)),
                    Some(_) => {
                        let path = path.split(|byte| *byte == 0).next().unwrap_or_default();
                        String::from_utf8_lossy(path).into_owned()
                    }
                    None => String::new(),
                };
                Some(Self::Unix(text))
            }
            _ => Some(Self::Other(family)),
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Internet(address) => address.to_string(),
            Self::Unix(path) => path.clone(),
            Self::Other(family) => format!("an address of family {family}"),
        }
    }
}

/// Decides about `connect`, `bind` and `listen` where the child may reach the egress proxy alone.
pub(super) fn judge(policy: &Policy, call: &Call, task: Task, kind: IncidentKind, name: &str) -> Sentence {
    let refuse =
        |target: String| Sentence::refuse(libc::EACCES, Attempt { kind, target, detail: name.to_owned() });
    let Sockets::Proxy(proxy) = policy.network else { return refuse("a socket".to_owned()) };
    if syscall_is_listen(name) {
        return refuse("any port".to_owned());
    }
    let Some(address) = Address::read(call, task) else { return refuse("an unreadable address".to_owned()) };
    match &address {
        Address::Internet(to) if kind == IncidentKind::Connect && is_proxy(*to, proxy) => {
            connect(call, task, *to)
        }
        // Its kind of socket was allowed when it was made.
        Address::Unix(_) if policy.unix_sockets => Sentence::proceed(None),
        // Takes a connection apart; where it does not, the kernel's rules about ports hold.
        Address::Other(family) if i32::from(*family) == libc::AF_UNSPEC => Sentence::proceed(None),
        Address::Internet(_) | Address::Unix(_) | Address::Other(_) => refuse(address.text()),
    }
}

fn syscall_is_listen(name: &str) -> bool {
    name == "listen"
}

fn is_proxy(to: SocketAddr, port: u16) -> bool {
    let ip = match to.ip() {
        IpAddr::V4(ip) => Some(ip),
        IpAddr::V6(ip) => ip.to_ipv4_mapped(),
    };
    to.port() == port && ip == Some(Ipv4Addr::LOCALHOST)
}

/// Connects the child's socket. Where we may not have it, the kernel connects, and its rules know the port alone.
fn connect(call: &Call, task: Task, to: SocketAddr) -> Sentence {
    let descriptor = calls::number(calls::argument(call, 0));
    let process = task.process().and_then(|process| Pid::from_raw(i32::try_from(process).ok()?));
    let socket = process
        .ok_or(Errno::SRCH)
        .and_then(|process| pidfd_open(process, PidfdFlags::empty()))
        .and_then(|process| pidfd_getfd(process, descriptor, PidfdGetfdFlags::empty()));
    let answer = match socket {
        Ok(socket) => match rustix::net::connect(&socket, &to) {
            Ok(()) => Answer::Done,
            Err(error) => Answer::Fail(error.raw_os_error()),
        },
        Err(Errno::BADF) => Answer::Fail(libc::EBADF),
        Err(_) => Answer::Proceed,
    };
    Sentence { answer, attempt: None, ends: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_the_kernel_reads_them() {
        let family = |family: i32| u16::try_from(family).unwrap().to_ne_bytes().to_vec();
        let four = [family(libc::AF_INET), vec![0, 80, 10, 0, 0, 1], vec![0; 8]].concat();
        let mapped: Vec<u8> = Ipv4Addr::LOCALHOST.to_ipv6_mapped().octets().into();
        let six = [family(libc::AF_INET6), vec![1, 0, 0, 0, 0, 0], mapped, vec![0; 4]].concat();
        let unix = [family(libc::AF_UNIX), b"/run/x.sock\0rest".to_vec()].concat();
        let hidden = [family(libc::AF_UNIX), b"\0name".to_vec()].concat();
        for (bytes, expected) in [
            (&four, Some("10.0.0.1:80")),
            (&six, Some("[::ffff:127.0.0.1]:256")),
            (&unix, Some("/run/x.sock")),
            (&hidden, Some("@name")),
            (&family(libc::AF_UNSPEC), Some("an address of family 0")),
            (&four[..7].to_vec(), None),
            (&vec![1], None),
        ] {
            assert_eq!(Address::parse(bytes).map(|address| address.text()).as_deref(), expected, "{bytes:?}");
        }
        assert!(is_proxy("[::ffff:127.0.0.1]:256".parse().unwrap(), 256));
        for other in ["[::1]:256", "127.0.0.2:256", "127.0.0.1:257"] {
            assert!(!is_proxy(other.parse().unwrap(), 256), "{other}");
        }
        let raw = [libc::AF_INET6, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0, 0, 0, 0].map(|n| n as u64);
        assert_eq!(socket(&raw), "IPv6 raw");
    }
}
