//! The crate through its public door, with real sockets, real certificates and real child processes.

#[cfg(test)]
mod certificates;
#[cfg(test)]
mod client;
#[cfg(test)]
mod egress;
#[cfg(test)]
mod guard;
#[cfg(test)]
mod http2;
#[cfg(test)]
mod lasting;
#[cfg(test)]
mod listen;
#[cfg(test)]
mod opened;
#[cfg(test)]
mod stdio;
#[cfg(test)]
#[cfg(test)]
mod support;
#[cfg(test)]
mod tls;
