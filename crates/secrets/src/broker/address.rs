//! Where a document is, as references name it without their fields.

use std::fmt;

/// Where a document is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Address {
    File(std::path::PathBuf),
    Local(String),
    Vault { path: String, version: Option<u64> },
    Aws { name: String, stage: Option<String>, version: Option<String> },
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::Local(name) => write!(f, "local:{name}"),
            Self::Vault { path, version: None } => write!(f, "vault:{path}"),
            Self::Vault { path, version: Some(version) } => write!(f, "vault:{path}?version={version}"),
            Self::Aws { name, stage: Some(stage), .. } if stage == "AWSCURRENT" => write!(f, "aws:{name}"),
            Self::Aws { name, stage: Some(stage), .. } => write!(f, "aws:{name}?stage={stage}"),
            Self::Aws { name, version, .. } => {
                write!(f, "aws:{name}?version={}", version.as_deref().unwrap_or_default())
            }
        }
    }
}
