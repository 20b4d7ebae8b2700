//! What a gateway is started with, and the folder that is made of it.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use super::{Gateway, READY_MAX};
use crate::{Fault, Outcome, free_ports};

/// What a gateway is started with.
#[derive(Debug, Default)]
pub struct GatewayBuilder {
    yaml: String,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    files: Vec<(String, Vec<u8>)>,
    binary: Option<PathBuf>,
    folder: Option<PathBuf>,
    tls: bool,
}

impl GatewayBuilder {
    /// The text of `portcullis.yaml`. Sections `listen`, `admin` and `data` are added where the text has none,
    /// on free ports and in the run's folder.
    #[must_use]
    pub fn config(mut self, yaml: &str) -> Self {
        yaml.clone_into(&mut self.yaml);
        self
    }

    /// One more argument for `portcullis run`.
    #[must_use]
    pub fn argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    /// One environment variable of the gateway.
    #[must_use]
    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A file in the run's folder, named relative to it, written before the start.
    #[must_use]
    pub fn file(mut self, name: &str, content: impl Into<Vec<u8>>) -> Self {
        self.files.push((name.to_owned(), content.into()));
        self
    }

    /// Runs another binary than the one cargo built beside the test.
    #[must_use]
    pub fn binary(mut self, path: &Path) -> Self {
        self.binary = Some(path.to_path_buf());
        self
    }

    /// Runs in this folder, which is kept, instead of a temporary one.
    #[must_use]
    pub fn folder(mut self, path: &Path) -> Self {
        self.folder = Some(path.to_path_buf());
        self
    }

    /// Says that the data plane speaks TLS (the configuration must say so too); readiness is then the port alone.
    #[must_use]
    pub fn tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// Starts the gateway and waits until it answers.
    ///
    /// # Errors
    /// The binary is not built, or the gateway ended or stayed silent; the text holds what it printed.
    pub async fn start(self) -> Outcome<Gateway> {
        let mut gateway = self.prepare()?;
        gateway.spawn()?;
        gateway.ready().await?;
        Ok(gateway)
    }

    /// Starts the gateway and waits until it ends by itself: for configurations that must be refused.
    ///
    /// # Errors
    /// The binary is not built, or the gateway keeps running.
    pub async fn refused(self) -> Outcome<(ExitStatus, String)> {
        let mut gateway = self.prepare()?;
        gateway.spawn()?;
        let status = gateway.ended(READY_MAX).await?;
        Ok((status, gateway.output()))
    }

    /// Writes the folder without starting anything.
    ///
    /// # Errors
    /// The binary is not built or the folder cannot be written.
    pub fn prepare(self) -> Outcome<Gateway> {
        let binary = match self.binary {
            Some(binary) => binary,
            None => built_binary()?,
        };
        let (folder, owned) = match self.folder {
            Some(folder) => (folder, None),
            None => {
                let owned = tempfile::Builder::new().prefix("portcullis-test-").tempdir()?;
                (owned.path().to_path_buf(), Some(owned))
            }
        };
        fs::create_dir_all(&folder)?;
        let ports = free_ports(2)?;
        let [data_port, admin_port] = ports.as_slice() else { return Err("no ports".into()) };
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let address =
            address_in(&self.yaml, "listen").unwrap_or_else(|| SocketAddr::new(loopback, *data_port));
        let admin = address_in(&self.yaml, "admin").unwrap_or_else(|| SocketAddr::new(loopback, *admin_port));
        let mut yaml = self.yaml;
        if !yaml.is_empty() && !yaml.ends_with('\n') {
            yaml.push('\n');
        }
        for (section, text) in [
            ("listen", format!("listen:\n  address: {address}\n")),
            ("admin", format!("admin:\n  address: {admin}\n")),
            ("data", "data: ./portcullis-data\n".to_owned()),
        ] {
            if !has_section(&yaml, section) {
                yaml.push_str(&text);
            }
        }
        fs::write(folder.join("portcullis.yaml"), yaml)?;
        for (name, content) in &self.files {
            let path = folder.join(name);
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)?;
            }
            fs::write(path, content)?;
        }
        Ok(Gateway {
            folder,
            _owned: owned,
            binary,
            arguments: self.arguments,
            environment: self.environment,
            child: None,
            address,
            admin,
            tls: self.tls,
            key: None,
        })
    }
}

/// Finds the binary that cargo built beside the running test.
fn built_binary() -> Outcome<PathBuf> {
    let test = std::env::current_exe()?;
    let candidates = test.ancestors().skip(1).take(3).map(|folder| folder.join("portcullis"));
    candidates
        .into_iter()
        .find(|path| path.is_file())
        .ok_or_else(|| Fault::from("the gateway is not built; hint: `cargo build -p portcullis` first"))
}

fn has_section(yaml: &str, name: &str) -> bool {
    yaml.lines().any(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(':')))
}

/// The `address:` inside a top-level section, written in block style.
fn address_in(yaml: &str, section: &str) -> Option<SocketAddr> {
    let mut lines = yaml.lines();
    lines.by_ref().find(|line| line.strip_prefix(section).is_some_and(|rest| rest.starts_with(':')))?;
    lines
        .take_while(|line| line.is_empty() || line.starts_with([' ', '#']))
        .find_map(|line| line.trim().strip_prefix("address:"))
        .and_then(|value| value.trim().trim_matches(['"', '\'']).parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_are_added_only_where_the_text_has_none() {
        let binary = PathBuf::from("/bin/true");
        let yaml = "listen:\n  # where\n  address: 127.0.0.1:7999\nservers: {}";
        let gateway = Gateway::builder().binary(&binary).config(yaml).prepare().unwrap();
        let written = fs::read_to_string(gateway.folder().join("portcullis.yaml")).unwrap();
        assert_eq!(written.matches("listen:").count(), 1);
        assert_eq!(written.matches("admin:").count(), 1);
        assert!(written.contains("data: ./portcullis-data"));
        assert_eq!(gateway.address().port(), 7999);
        assert_eq!(gateway.url("x"), "http://127.0.0.1:7999/mcp/x");
        assert_ne!(gateway.admin_address().port(), 0);
    }
}
