//! Texts of a narrow form: commands without a shell, mailboxes, identifiers, text that no interpreter reads.

use alloc::{string::String, vec::Vec};

use crate::{
    address::{HostPattern, host, patterns},
    printable,
};

/// Bytes of a command.
const COMMAND_BYTES_MAX: usize = 8_192;
/// Bytes of a mailbox (RFC 5321).
const EMAIL_BYTES_MAX: usize = 254;
/// Characters with which a shell of any system starts or joins something.
const SHELL: &str = "$`;|&<>(){}[]*?!#~\\\"'^%=\n\r";

/// Programs that may be named.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommandRule {
    /// Their names, without a folder; none for no command at all.
    pub programs: Vec<String>,
}

impl CommandRule {
    pub(crate) fn check(&self, text: &str) -> Result<(), &'static str> {
        if self.programs.is_empty() {
            return if text.trim().is_empty() { Ok(()) } else { Err("takes no command") };
        }
        let text = printable(text, COMMAND_BYTES_MAX)?;
        if text.contains(|c: char| {
            SHELL.contains(c) || (!c.is_ascii() && (c.is_whitespace() || !c.is_alphanumeric()))
        }) {
            return Err("is a command with characters that a shell reads");
        }
        let program = text.split_ascii_whitespace().next().unwrap_or_default();
        if self.programs.iter().any(|one| one == program) {
            Ok(())
        } else {
            Err("is a command that is not declared")
        }
    }
}

/// Domains of mailboxes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EmailRule {
    to: Vec<HostPattern>,
}

impl EmailRule {
    /// A rule for mailboxes of these domains.
    ///
    /// # Errors
    /// What is wrong with a domain.
    pub fn new<'t>(to: impl IntoIterator<Item = &'t str>) -> Result<Self, &'static str> {
        let to = patterns(to)?;
        if to.is_empty() { Err("names no domain") } else { Ok(Self { to }) }
    }

    pub(crate) fn check(&self, text: &str) -> Result<(), &'static str> {
        let text = printable(text, EMAIL_BYTES_MAX)?;
        let (local, domain) = text.rsplit_once('@').ok_or("is no mailbox")?;
        // No quoted forms, comments, routes or lists: mail programs disagree on them.
        let atom = |b: u8| b.is_ascii_alphanumeric() || b"._+-'".contains(&b);
        let dotted = local.split('.').all(|part| !part.is_empty());
        if local.len() > 64 || local.starts_with('-') || !dotted || !local.bytes().all(atom) {
            return Err("is no plain mailbox");
        }
        let ::url::Host::Domain(domain) = host(domain)? else { return Err("is no plain mailbox") };
        HostPattern::any(&self.to, &domain)
            .then_some(())
            .ok_or("is a mailbox of a domain that is not declared")
    }
}

/// Names that mean nothing else anywhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentifierRule {
    /// Most characters.
    pub length_max: usize,
}

impl IdentifierRule {
    pub(crate) fn check(&self, text: &str) -> Result<(), &'static str> {
        let text = printable(text, self.length_max)?;
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
        let good = text.bytes().all(plain)
            && text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
            && !text.contains("..")
            && !text.ends_with('.');
        if good { Ok(()) } else { Err("is no identifier") }
    }
}

/// Text that no interpreter takes for anything else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiteralRule {
    /// Most bytes.
    pub length_max: usize,
}

impl LiteralRule {
    pub(crate) fn check(&self, text: &str) -> Result<(), &'static str> {
        let text = printable(text, self.length_max)?;
        let plain =
            |c: char| c.is_alphanumeric() || matches!(c, ' ' | '.' | ',' | ':' | '_' | '-' | '/' | '@' | '+');
        if !text.chars().all(plain) || text.contains("--") || text.contains("..") {
            return Err("holds characters that an interpreter reads");
        }
        // An option, a formula.
        if text.trim_start().starts_with(['-', '+', '@', '/']) {
            return Err("begins as an option or a formula does");
        }
        if text.contains("://") { Err("holds a URL") } else { Ok(()) }
    }
}
