//! Where a key-encryption key is, in one line: `file:PATH`, `vault:MOUNT/KEY` (a key of the engine `transit`), `aws:KEY` (id, ARN or
//! alias of a key of KMS) or a URI of PKCS#11 (RFC 7512).

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
};

use percent_encoding::percent_decode_str;

/// Bytes of a reference.
const REFERENCE_BYTES_MAX: usize = 1_024;

/// Where a key-encryption key is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyReference {
    /// In a file.
    File(PathBuf),
    /// In the engine `transit` of a Vault or OpenBao.
    Vault {
        /// Where the engine is mounted.
        mount: String,
        /// The name of the key.
        key: String,
    },
    /// In AWS KMS, by id, ARN or alias.
    Aws(String),
    /// In a token that speaks PKCS#11.
    Pkcs11(Pkcs11Uri),
}

/// A key in a token (RFC 7512).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pkcs11Uri {
    /// The label of the token.
    pub token: String,
    /// The label of the key.
    pub object: String,
    /// The library that speaks to the token.
    pub module: PathBuf,
}

impl KeyReference {
    /// Reads a reference.
    ///
    /// # Errors
    /// What is wrong with it, and what would be right.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() > REFERENCE_BYTES_MAX || text.chars().any(char::is_control) {
            return Err(format!("is longer than {REFERENCE_BYTES_MAX} bytes, or has control characters"));
        }
        match text.split_once(':') {
            Some(("file", path)) if !path.is_empty() => Ok(Self::File(path.into())),
            Some(("vault", path)) => {
                let (mount, key) = path.rsplit_once('/').unwrap_or_default();
                let plain = |part: &str| {
                    !matches!(part, "" | "." | "..")
                        && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
                };
                if !plain(key) || !mount.split('/').all(plain) {
                    return Err("write `vault:MOUNT/KEY`, such as `vault:transit/portcullis`".to_owned());
                }
                Ok(Self::Vault { mount: mount.to_owned(), key: key.to_owned() })
            }
            Some(("aws", key)) => {
                let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"/_:-".contains(&byte);
                if key.is_empty() || !key.bytes().all(fits) {
                    return Err(
                        "write the id, the ARN or the alias of a key of KMS: `aws:alias/NAME`".to_owned()
                    );
                }
                Ok(Self::Aws(key.to_owned()))
            }
            Some(("pkcs11", rest)) => Pkcs11Uri::parse(rest).map(Self::Pkcs11),
            _ => Err("write `file:PATH`, `vault:MOUNT/KEY`, `aws:KEY` or `pkcs11:…`".to_owned()),
        }
    }

    /// A file that is named without its folder is looked for in `base`.
    #[must_use]
    pub fn relative_to(self, base: &Path) -> Self {
        match self {
            Self::File(path) => Self::File(base.join(path)),
            other @ (Self::Vault { .. } | Self::Aws(_) | Self::Pkcs11(_)) => other,
        }
    }
}

impl fmt::Display for KeyReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::Vault { mount, key } => write!(f, "vault:{mount}/{key}"),
            Self::Aws(key) => write!(f, "aws:{key}"),
            Self::Pkcs11(uri) => write!(f, "pkcs11:token={};object={}", uri.token, uri.object),
        }
    }
}

impl Pkcs11Uri {
    fn parse(text: &str) -> Result<Self, String> {
        let (path, query) = text.split_once('?').unwrap_or((text, ""));
        let mut members = BTreeMap::new();
        let parts = path.split(';').chain(query.split('&')).filter(|part| !part.is_empty());
        for part in parts {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let value =
                percent_decode_str(value).decode_utf8().map_err(|_| format!("`{name}` is not UTF-8"))?;
            match name {
                "token" | "object" | "module-path" => {}
                "type" if value == "secret-key" => continue,
                "pin-value" | "pin-source" => {
                    return Err(format!(
                        "`{name}` does not stand here; write `encryption.passphrase: env:NAME`"
                    ));
                }
                _ => {
                    return Err(format!(
                        "`{name}` is not understood; use `token`, `object` and `module-path`"
                    ));
                }
            }
            if value.is_empty() || members.insert(name, value.into_owned()).is_some() {
                return Err(format!("`{name}` is empty, or there twice"));
            }
        }
        let mut take = |name: &str| {
            members.remove(name).ok_or_else(|| {
                format!(
                    "`{name}` is missing: `pkcs11:token=LABEL;object=LABEL?module-path=/usr/lib/LIBRARY.so`"
                )
            })
        };
        Ok(Self { token: take("token")?, object: take("object")?, module: take("module-path")?.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_names_a_key_or_says_what_is_wrong() {
        let uri =
            "pkcs11:token=gate%20way;object=kek;type=secret-key?module-path=/usr/lib/softhsm/libsofthsm2.so";
        for good in [
            "file:/etc/kek",
            "vault:transit/portcullis",
            "vault:a/b/c",
            "aws:alias/p",
            "aws:arn:aws:kms:eu-1:1:key/2",
        ] {
            assert_eq!(KeyReference::parse(good).unwrap().to_string(), good);
        }
        assert_eq!(
            KeyReference::parse(uri).unwrap(),
            KeyReference::Pkcs11(Pkcs11Uri {
                token: "gate way".into(),
                object: "kek".into(),
                module: "/usr/lib/softhsm/libsofthsm2.so".into(),
            })
        );
        for bad in [
            "",
            "x",
            "file:",
            "vault:",
            "vault:transit",
            "vault:/key",
            "vault:../key",
            "vault:transit/a?b",
            "aws:",
            "aws:a b",
            "pkcs11:",
            "pkcs11:token=a",
            "pkcs11:token=a;object=b",
            "pkcs11:token=a;token=b;object=c?module-path=/x",
            "pkcs11:token=a;object=b?module-path=/x&pin-value=1",
            "pkcs11:token=a;object=b;slot-id=1?module-path=/x",
            "file:/a\nb",
            "env:KEY",
        ] {
            assert!(KeyReference::parse(bad).is_err(), "{bad}");
        }
    }
}
