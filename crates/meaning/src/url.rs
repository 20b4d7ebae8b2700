//! URLs that lead to declared hosts, in the one form that every reader takes alike.

use alloc::{string::String, vec::Vec};

use ::url::Url;

use crate::{
    address::{HostRule, host},
    lower, printable,
};

/// Bytes of a URL.
const BYTES_MAX: usize = 8_192;

/// Where URLs may lead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UrlRule {
    /// Machines.
    pub hosts: HostRule,
    /// Schemes, lower case.
    pub schemes: Vec<String>,
    /// Ports beside that of the scheme.
    pub ports: Vec<u16>,
}

impl UrlRule {
    pub(crate) fn check(&self, text: &str) -> Result<(), &'static str> {
        let text = printable(text, BYTES_MAX)?;
        // Readers disagree on what they drop, and on which slash it is.
        if text
            .contains(|c: char| c.is_whitespace() || matches!(c, '\\' | '\u{ad}' | '\u{200b}'..='\u{200f}'))
        {
            return Err("is a URL with spaces or backslashes");
        }
        let (scheme, rest) = text.split_once("://").ok_or("is no absolute URL")?;
        if !self.schemes.contains(&lower(scheme)) {
            return Err("is a URL of a scheme that is not declared");
        }
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        // Where no slash ends the host, older readers look further for the end of a user name.
        let slashed =
            rest.get(authority.len()..).is_some_and(|behind| behind.is_empty() || behind.starts_with('/'));
        if authority.contains('@') || (!slashed && rest.contains('@')) {
            return Err("is a URL with a user name");
        }
        let (name, port) = match authority.rsplit_once(':') {
            Some((name, port)) if !port.ends_with(']') => (name, Some(port)),
            Some(_) | None => (authority, None),
        };
        if name.contains(':') && !name.starts_with('[') {
            return Err("is no URL");
        }
        let host = host(name)?;
        self.hosts.allows(&host)?;
        let parsed = Url::parse(text).map_err(|_| "is no URL")?;
        // What was judged is what a reader by the WHATWG standard reaches.
        let same =
            parsed.host_str().map(|name| name.trim_end_matches('.')) == Some(&*alloc::format!("{host}"));
        if !same || !parsed.username().is_empty() || parsed.password().is_some() {
            return Err("is a URL that readers take differently");
        }
        match port.map(str::parse::<u16>) {
            None => Ok(()),
            Some(Ok(port)) if parsed.port().is_none() || self.ports.contains(&port) => Ok(()),
            Some(_) => Err("is a URL with a port that is not declared"),
        }
    }
}
