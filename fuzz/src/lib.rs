//! Fuzz targets: one for each parser of bytes that somebody hostile may have written. A target takes any bytes
//! and panics only when the parser is wrong; where a second implementation is at hand, the two must agree.
#![forbid(unsafe_code)]

pub mod clients;
pub mod evidence;
pub mod gate;
pub mod mutate;
pub mod protocol;

/// One parser under test.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Name of the libFuzzer program and of the seed folder.
    pub name: &'static str,
    /// Takes any bytes.
    pub run: fn(&[u8]),
}

macro_rules! targets {
    ($($module:ident::$name:ident),+ $(,)?) => {
        /// The list.
        pub const TARGETS: &[Target] = &[$(Target { name: stringify!($name), run: $module::$name }),+];
    };
}

targets! {
    protocol::json,
    protocol::jsonrpc,
    protocol::headers,
    protocol::chunks,
    protocol::sse,
    protocol::schema,
    evidence::checkpoint,
    evidence::proof_file,
    evidence::entry,
    evidence::manifest,
    evidence::wal,
    evidence::ledger,
    evidence::siem,
    gate::url,
    gate::policy,
    gate::inspect,
    gate::meaning,
    gate::config,
    gate::token,
    gate::jwks,
    gate::proof,
    clients::host_file,
    clients::bundle,
}

/// Splits an input into two at the first empty line, for targets that take two things.
#[must_use]
pub fn halves(data: &[u8]) -> (&[u8], &[u8]) {
    match data.windows(2).position(|pair| pair == b"\n\n") {
        Some(at) => (&data[..at], &data[at + 2..]),
        None => (&[], data),
    }
}
