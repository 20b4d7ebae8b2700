//! Worlds, hostile peers and runners for tests. Everything here is a real process or a real socket: tests go
//! through the door a user would use.

mod certificate;
mod files;
mod gateway;
mod hostile;
mod http;
mod mcp;
mod ports;
mod raw;
mod scripted;
mod wire;

pub use certificate::{Certificate, self_signed};
pub use files::files_containing;
pub use gateway::{Gateway, GatewayBuilder};
pub use hostile::{HostileServer, Received};
pub use http::{Body, Client, Reply};
pub use mcp::{Answer, Era, McpClient};
pub use ports::{free_port, free_ports};
pub use raw::{RawConnection, raw_exchange};
pub use scripted::Hostile;

/// Whatever went wrong in a test's own machinery; tests return it with `?`.
pub type Fault = Box<dyn std::error::Error + Send + Sync + 'static>;

/// A result in a test.
pub type Outcome<T = ()> = Result<T, Fault>;
