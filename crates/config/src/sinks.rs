//! Where ledger entries go beside the ledger.

use std::{net::IpAddr, path::PathBuf};

use portcullis_siem::{FORMATS, SINKS};
use url::Url;

use super::{
    decode::{Setting, Shape, Walk, choice, section},
    primitives::Bounded,
    transport_security::ServerTlsSection,
    values::Reference,
    yaml::Node,
};

section! {
    /// A receiver of ledger entries, such as a SIEM. Each gets every entry that its filter wants, in order, at least once: what it
    /// does not take now it gets later, also after a restart.
    SinkSection {
        /// The kind.
        kind: SinkKind;
        /// Where the receiver is, for every kind but `file`.
        url: Option<Receiver>;
        /// The file, with `kind: file`.
        path: Option<PathBuf>;
        /// The token, password or secret that the receiver wants: `env:NAME`, `file:PATH`, `vault:…`, `aws:…` or `local:NAME`. Looked
        /// up for each delivery, so that a new value counts at once.
        token: Option<Reference>;
        /// How entries are written.
        format: SinkFormat = SinkFormat(String::from("json"));
        /// Index, data stream or subject at the receiver.
        index: Option<String>;
        /// Wait until the receiver says that a message is on disk, with `kind: splunk_hec`.
        acknowledged: bool = false;
        /// Event classes that go there; `*` at the end stands for any rest. Without any, all.
        events: Vec<String>;
        /// Event classes that do not.
        except: Vec<String>;
        /// Servers whose entries go there; without any, all entries.
        servers: Vec<String>;
        /// The mildest grade of entries that go there.
        severity: SinkGrade = SinkGrade::Info;
        /// What is done with ids of callers, sessions and tokens.
        identity: FieldKeep = FieldKeep::Keep;
        /// What is done with addresses.
        network: FieldKeep = FieldKeep::Keep;
        /// What is done with names of tools and resources, details of refusals and members of single events.
        content: FieldKeep = FieldKeep::Keep;
        /// Where a sink begins that was never here.
        from: SinkStart = SinkStart::Now;
        /// A file is begun anew at this size, in bytes.
        file_bytes_max: Bounded<4_096, 1_099_511_627_776> = Bounded(104_857_600);
        /// Files that are kept beside the newest.
        files_kept: Bounded<0, 1_000> = Bounded(10);
        /// For one delivery.
        timeout_ms: Bounded<100, 600_000> = Bounded(15_000);
        /// What is wanted of the receiver's certificate, and what is shown to it.
        tls: Option<ServerTlsSection>;
        /// Its name may resolve to private addresses.
        allow_private: bool = false;
        /// Sends entries in the clear to a receiver that is not on this machine: whoever is on the way reads and changes them.
        danger_plain_text: bool = false;
    }
}

choice! {
    /// How grave an entry is at least.
    SinkGrade {
        /// Business as usual, too.
        Info = "info",
        /// Worth a look.
        Low = "low",
        /// Likely unwanted.
        Medium = "medium",
        /// Likely an attack or a leak.
        High = "high",
        /// Somebody should look now.
        Critical = "critical",
    }
}

choice! {
    /// What is done with a class of members.
    FieldKeep {
        /// They go out as they are.
        Keep = "keep",
        /// A keyed digest goes out, the same for the same value.
        Digest = "digest",
        /// They stay here.
        LeaveOut = "leave_out",
    }
}

choice! {
    /// Where a new sink begins.
    SinkStart {
        /// At the next entry.
        Now = "now",
        /// At the first entry of the ledger.
        Start = "start",
    }
}

/// Where a receiver is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receiver(pub Url);

impl Receiver {
    /// Whether it is on this machine.
    #[must_use]
    pub fn is_local(&self) -> bool {
        // Hosts of schemes that browsers do not know are not read as addresses.
        let host = self.0.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
        host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }

    /// Whether what goes there can be read on the way.
    #[must_use]
    pub fn is_clear(&self) -> bool {
        !matches!(self.0.scheme(), "https" | "tls")
    }
}

impl Setting for Receiver {
    fn shape() -> Shape {
        Shape::Text("receiver")
    }

    fn read(node: &Node, walk: &mut Walk) -> Option<Self> {
        let text = String::read(node, walk)?;
        let wrong = match Url::parse(&text) {
            Err(error) => format!("not a URL: {error}"),
            Ok(url) if !matches!(url.scheme(), "https" | "http" | "tls" | "tcp" | "udp" | "nats") => {
                format!("the scheme `{}` is not supported", url.scheme())
            }
            Ok(url) if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() => {
                "a URL must not carry a user name, a password or a fragment".to_owned()
            }
            Ok(url) if url.host_str().is_none_or(str::is_empty) => "names no host".to_owned(),
            Ok(url) => return Some(Self(url)),
        };
        walk.report(
            node,
            wrong,
            "write `https://HOST/…`, or `tls://HOST:PORT` for syslog and NATS; credentials go into `token`",
        );
        None
    }
}

/// The name of a kind of sink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkKind(pub String);

/// The name of a format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkFormat(pub String);

fn one_of(node: &Node, walk: &mut Walk, what: &str, known: &[&str]) -> Option<String> {
    let text = String::read(node, walk)?;
    if !known.contains(&text.as_str()) {
        walk.report(node, format!("unknown {what} `{text}`"), format!("one of: {}", known.join(", ")));
        return None;
    }
    Some(text)
}

impl Setting for SinkKind {
    fn shape() -> Shape {
        Shape::Choice(SINKS.iter().map(|kind| (kind.name, kind.doc)).collect())
    }

    fn read(node: &Node, walk: &mut Walk) -> Option<Self> {
        let known: Vec<&str> = SINKS.iter().map(|kind| kind.name).collect();
        one_of(node, walk, "kind of sink", &known).map(Self)
    }
}

impl Setting for SinkFormat {
    fn shape() -> Shape {
        Shape::Choice(FORMATS.iter().map(|format| (format.name, format.doc)).collect())
    }

    fn read(node: &Node, walk: &mut Walk) -> Option<Self> {
        let known: Vec<&str> = FORMATS.iter().map(|format| format.name).collect();
        one_of(node, walk, "format", &known).map(Self)
    }

    fn json(&self) -> Option<serde_json::Value> {
        Some(serde_json::json!(self.0))
    }
}
