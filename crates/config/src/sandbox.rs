//! How a stdio server is confined: the section as written, and what it means.

use std::path::PathBuf;

use portcullis_net::{
    egress::AllowedHost,
    sandbox::{Bounds, Confinement, Network},
};
use serde_json::json;

use super::{
    decode::{Setting, Shape, Walk, choice, section},
    primitives::Bounded,
    yaml::{Node, Value},
};

section! {
    /// Confines a stdio server (Linux). Writing the section, also as `sandbox: {}`, switches it on. What cannot be
    /// reached fails for the program; what the gateway sees of it is in the ledger as `sandbox.denied`.
    (crate) SandboxSection {
        /// `false` keeps the section and switches it off.
        enabled: bool = true;
        /// Files and folders that may be read and executed, beside system libraries, the program's own installation
        /// and the project of the script it runs.
        read: Vec<PathBuf>;
        /// Files and folders that may be read, executed and changed, beside a private temporary folder.
        write: Vec<PathBuf>;
        /// What it may reach over the network. Default: `allow` where `allow` lists hosts, otherwise `off`.
        network: Option<NetworkWord>;
        /// Hosts that it may reach through the gateway's egress proxy: `host`, `host:port`, `*.domain`; port 443
        /// where none is written. Private addresses only where they are written as such.
        allow: Vec<AllowedHostText>;
        /// Names under `allow` may resolve to private networks.
        allow_private: bool = false;
        /// It may connect to sockets in the file system (databases, container engines, desktop buses). Most of them
        /// lead out of any sandbox.
        unix_sockets: bool = false;
        /// A socket that it may not have ends it, where otherwise the call fails; and it changes no modes, owners and
        /// attributes of files, which otherwise are its user's to change.
        strict: bool = false;
        /// What it tries and may not is in the ledger. Costs it some microseconds for each file that it opens; `false`
        /// refuses the same and records only what ends it and what the egress proxy refuses.
        audit: bool = true;
        /// Processes at once; with more, all of them are killed.
        processes_max: Bounded<1, 100_000> = Bounded(64);
        /// Files open at once, per process.
        files_max: Bounded<16, 1_048_576> = Bounded(1_024);
        /// Bytes of private memory, per process.
        memory_bytes_max: Bounded<16_777_216, 1_099_511_627_776> = Bounded(4_294_967_296);
        /// Bytes of one file that it writes.
        file_bytes_max: Bounded<4_096, 1_099_511_627_776> = Bounded(1_073_741_824);
        /// Bytes in its private temporary folder; with more, all its processes are killed.
        temp_bytes_max: Bounded<1_048_576, 1_099_511_627_776> = Bounded(4_294_967_296);
        /// Seconds of processor time, per process; without it there is no bound.
        cpu_s_max: Option<Bounded<1, 31_536_000>>;
    }
}

choice! {
    /// What a confined server may reach.
    (crate) NetworkWord {
        /// The hosts under `allow`.
        Allow = "allow",
        /// Nothing.
        Off = "off",
        /// Everything, without the egress proxy.
        Open = "open",
    }
}

/// An entry of `allow`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AllowedHostText(AllowedHost, String);

impl Setting for AllowedHostText {
    fn shape() -> Shape {
        Shape::Text("host")
    }

    fn read(node: &Node, walk: &mut Walk) -> Option<Self> {
        let text = String::read(node, walk)?;
        match text.parse() {
            Ok(host) => Some(Self(host, text)),
            Err(error) => {
                walk.report(node, error.to_string(), "write `api.example.com`, without scheme and path");
                None
            }
        }
    }

    fn json(&self) -> Option<serde_json::Value> {
        Some(json!(self.1))
    }
}

/// What the section of a server says about its confinement; `None` where it is not confined.
pub(super) fn confinement(
    section: Option<SandboxSection>,
    node: &Node,
    walk: &mut Walk,
) -> Option<Confinement> {
    let written = node.get("sandbox").map(|(_, value)| value);
    if let Some(empty) = written.filter(|value| value.value == Value::Null) {
        let hint = "write `sandbox: {}` to switch it on with its defaults, or remove the key";
        walk.key("sandbox", |walk| walk.report(empty, "it is not clear whether this is on or off", hint));
    }
    let section = section.filter(|section| section.enabled)?;
    let at = written.unwrap_or(node);
    let network = match (section.network, section.allow.is_empty()) {
        (None | Some(NetworkWord::Off), true) => Network::Off,
        (Some(NetworkWord::Open), true) => Network::Open,
        (None | Some(NetworkWord::Allow), false) => {
            let hosts = section.allow.iter().map(|host| host.0.clone().or_private(section.allow_private));
            Network::Allow(hosts.collect())
        }
        (Some(NetworkWord::Allow), true) => {
            let hint = "list hosts under `allow`, or write `network: off`";
            walk.key("sandbox", |walk| walk.report(at, "`network: allow` allows no host", hint));
            Network::Off
        }
        (Some(NetworkWord::Off | NetworkWord::Open), false) => {
            let hint = "remove `allow`, or write `network: allow`";
            walk.key("sandbox", |walk| walk.report(at, "`allow` has no meaning beside this `network`", hint));
            Network::Off
        }
    };
    Some(Confinement {
        read: section.read,
        write: section.write,
        network,
        unix_sockets: section.unix_sockets,
        strict: section.strict,
        bounds: Bounds {
            processes_max: Some(section.processes_max.0),
            files_max: Some(section.files_max.0),
            memory_bytes_max: Some(section.memory_bytes_max.0),
            cpu_s_max: section.cpu_s_max.map(|seconds| seconds.0),
            file_bytes_max: Some(section.file_bytes_max.0),
            temp_bytes_max: Some(section.temp_bytes_max.0),
        },
        unwatched: !section.audit,
        // The configuration as a whole says so.
        required: false,
    })
}
