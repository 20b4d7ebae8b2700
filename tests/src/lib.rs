//! End-to-end tests live in `tests/`; what several of them share is here.

pub mod agent;
pub mod authority;
pub mod book;
pub mod chance;
pub mod confined;
pub mod differ;
pub mod disk;
pub mod era;
pub mod host;
pub mod house;
pub mod issuer;
pub mod load;
pub mod odd;
pub mod pair;
pub mod process;
pub mod sse_server;
pub mod strace;
