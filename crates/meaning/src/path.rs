//! Paths that stay in folders, by their letters alone: whether a link on the server leads elsewhere cannot be seen from
//! here. A text is read in every way that a server might read it, and each has to stay inside.

use alloc::{
    borrow::ToOwned,
    string::{String, ToString},
    vec::Vec,
};

use percent_encoding::percent_decode_str;
use unicode_normalization::UnicodeNormalization;

use crate::printable;

/// Bytes of a path.
const BYTES_MAX: usize = 4_096;
/// How often percent signs are decoded.
const ROUNDS_MAX: usize = 3;
/// Names of devices in every folder of Windows.
const DEVICES: &[&str] = &["aux", "con", "conin$", "conout$", "nul", "prn"];

/// Folders that a path has to be in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathRule {
    roots: Vec<Root>,
    relative: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Root {
    volume: Volume,
    parts: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Volume {
    Drive(char),
    Posix,
    Unc,
}

impl Volume {
    const fn windows(self) -> bool {
        match self {
            Self::Drive(_) | Self::Unc => true,
            Self::Posix => false,
        }
    }
}

impl PathRule {
    /// A rule for paths within these folders; `relative` ones are meant from one of them.
    ///
    /// # Errors
    /// What is wrong with a folder.
    pub fn new<'t>(folders: impl IntoIterator<Item = &'t str>, relative: bool) -> Result<Self, &'static str> {
        let roots = folders.into_iter().map(root).collect::<Result<Vec<_>, _>>()?;
        if roots.is_empty() { Err("names no folder") } else { Ok(Self { roots, relative }) }
    }

    pub(crate) fn check(&self, text: &str) -> Result<(), &'static str> {
        for reading in readings(printable(text, BYTES_MAX)?)? {
            let path = local(&reading)?;
            if expands(path) {
                return Err("could be expanded by a shell");
            }
            if !self.roots.iter().any(|root| self.holds(root, path)) {
                return Err("does not stay in the declared folders");
            }
        }
        Ok(())
    }

    fn holds(&self, root: &Root, path: &str) -> bool {
        if root.volume.windows() {
            return self.holds_windows(root, path);
        }
        let slashed = path.replace('\\', "/");
        self.holds_posix(root, path) && self.holds_posix(root, &slashed)
    }

    fn holds_posix(&self, root: &Root, path: &str) -> bool {
        if path.starts_with("//") || drive(path).is_some() {
            return false;
        }
        let absolute = path.strip_prefix('/');
        let parts = absolute.unwrap_or(path).split('/').map(folded);
        self.resolve(root, absolute.is_some(), parts.map(Some))
    }

    fn holds_windows(&self, root: &Root, path: &str) -> bool {
        let path = path.replace('/', "\\");
        let (volume, rest) = if let Some(rest) = path.strip_prefix("\\\\") {
            // `\\?\` and `\\.\` are no servers.
            (Some(Volume::Unc), rest)
        } else if let Some((letter, rest)) = drive(&path) {
            // `C:name` is meant from wherever that drive stands.
            let Some(rest) = rest.strip_prefix('\\') else { return false };
            (Some(Volume::Drive(letter)), rest)
        } else if path.starts_with('\\') {
            return false;
        } else {
            (None, &*path)
        };
        if volume.is_some_and(|volume| volume != root.volume) {
            return false;
        }
        self.resolve(root, volume.is_some(), rest.split('\\').map(windows_part))
    }

    /// Whether the parts lead into the root and stay there. A relative path never leaves it on its way.
    fn resolve(&self, root: &Root, absolute: bool, parts: impl Iterator<Item = Option<String>>) -> bool {
        if !absolute && !self.relative {
            return false;
        }
        let mut stack: Vec<String> = Vec::new();
        for part in parts {
            let Some(part) = part else { return false };
            match &*part {
                "" | "." => {}
                ".." if stack.pop().is_none() && !absolute => return false,
                ".." => {}
                _ => stack.push(part),
            }
        }
        !absolute || stack.starts_with(&root.parts)
    }
}

/// A folder as the operator writes it.
fn root(folder: &str) -> Result<Root, &'static str> {
    let slashed = folder.replace('\\', "/");
    let (volume, rest) = if let Some(rest) = slashed.strip_prefix("//") {
        (Volume::Unc, rest)
    } else if let Some((letter, rest)) = drive(&slashed) {
        (Volume::Drive(letter), rest)
    } else if let Some(rest) = folder.strip_prefix('/') {
        (Volume::Posix, rest)
    } else {
        return Err("is no absolute path");
    };
    let part = |part: &str| if volume.windows() { windows_part(part) } else { Some(folded(part)) };
    let parts = rest.split('/').map(part).filter(|part| part.as_deref() != Some(""));
    let parts = parts.collect::<Option<Vec<_>>>().ok_or("is no path of Windows")?;
    if parts.iter().any(|part| matches!(&**part, "." | "..")) {
        return Err("is not written out: leave out `.` and `..`");
    }
    let least = if volume == Volume::Unc { 2 } else { 1 };
    if parts.len() < least {
        return Err("is everything there is");
    }
    Ok(Root { volume, parts })
}

fn drive(path: &str) -> Option<(char, &str)> {
    let mut chars = path.chars();
    let letter = chars.next().filter(char::is_ascii_alphabetic)?;
    chars.as_str().strip_prefix(':').map(|rest| (letter.to_ascii_lowercase(), rest))
}

/// A name as Windows takes it; nothing where it means something else than a file.
fn windows_part(part: &str) -> Option<String> {
    if part.is_empty() || part == "." || part == ".." {
        return Some(part.to_owned());
    }
    let name = folded(part.trim_end_matches(['.', ' '])).to_lowercase();
    let stem = name.split('.').next().unwrap_or_default().trim_end();
    let port = stem.strip_prefix("com").or_else(|| stem.strip_prefix("lpt"));
    let device = DEVICES.contains(&stem) || port.is_some_and(|number| number.chars().count() == 1);
    let odd = name.is_empty() || name.contains([':', '*', '?', '"', '<', '>', '|']);
    (!odd && !device).then_some(name)
}

/// Letters that look or count as others, so that two spellings of one folder are one.
fn folded(part: &str) -> String {
    part.nfkc().collect()
}

/// The texts that a server might take `text` for.
fn readings(text: &str) -> Result<Vec<String>, &'static str> {
    let mut all = Vec::new();
    let mut text = text.to_owned();
    for round in 0..=ROUNDS_MAX {
        for reading in [text.clone(), text.trim().to_owned(), look_alike(&text)] {
            if !all.contains(&reading) {
                all.push(reading);
            }
        }
        let decoded = decoded(&text)?;
        if decoded == text {
            return Ok(all);
        }
        if round == ROUNDS_MAX {
            break;
        }
        if decoded.chars().any(char::is_control) {
            return Err("holds a control character");
        }
        text = decoded;
    }
    Err("is encoded too often")
}

/// With percent signs decoded, `%u002e` as well.
fn decoded(text: &str) -> Result<String, &'static str> {
    let decoded =
        percent_decode_str(text).decode_utf8().map_err(|_| "is encoded in a way that is no text")?;
    let mut out = String::with_capacity(decoded.len());
    let mut rest = &*decoded;
    while let Some(at) = rest.find("%u") {
        let (before, escape) = rest.split_at(at);
        out.push_str(before);
        let unit = escape.get(2..6).filter(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()));
        let unit = unit.and_then(|hex| u32::from_str_radix(hex, 16).ok()).and_then(char::from_u32);
        let length = if unit.is_some() { 6 } else { 2 };
        match unit {
            Some(unit) => out.push(unit),
            None => out.push_str("%u"),
        }
        rest = escape.get(length..).unwrap_or_default();
    }
    out.push_str(rest);
    Ok(out)
}

/// With characters that some systems take for separators or for dots in their places, and without those that nobody
/// sees.
fn look_alike(text: &str) -> String {
    let unseen = |c: &char| {
        !matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2064}')
            && !matches!(c, '\u{2066}'..='\u{2069}' | '\u{feff}' | '\u{fe00}'..='\u{fe0f}')
            && !matches!(c, '\u{e0000}'..='\u{e01ef}')
    };
    let plain = |c: char| match c {
        '\u{2044}' | '\u{2215}' | '\u{29f8}' | '\u{ff0f}' | '\u{2571}' => '/',
        '\u{2216}' | '\u{29f5}' | '\u{29f9}' | '\u{ff3c}' | '\u{fe68}' | '\u{a5}' | '\u{20a9}' => '\\',
        '\u{2024}' | '\u{fe52}' | '\u{ff0e}' | '\u{ff61}' | '\u{3002}' => '.',
        other => other,
    };
    text.chars().filter(unseen).map(plain).nfkc().collect::<String>().trim().to_string()
}

/// The path in a `file:` URL of this machine, or the text.
fn local(text: &str) -> Result<&str, &'static str> {
    let scheme = text.split_once(':').filter(|(scheme, _)| {
        scheme.len() > 1
            && scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'.' | b'-'))
    });
    let Some((scheme, rest)) = scheme else { return Ok(text) };
    if !scheme.eq_ignore_ascii_case("file") {
        return if rest.starts_with(['/', '\\']) {
            Err("is the URL of something else than a file")
        } else {
            Ok(text)
        };
    }
    if rest.contains(['?', '#']) {
        return Err("is a file URL with a query or a fragment");
    }
    let path = match rest.strip_prefix("//") {
        Some(rest) => rest.strip_prefix("localhost").unwrap_or(rest),
        None => rest,
    };
    if !path.starts_with('/') || path.starts_with("//") {
        return Err("is a file URL of another machine");
    }
    let windows = path.strip_prefix('/').filter(|path| drive(path).is_some());
    Ok(windows.unwrap_or(path))
}

/// Whether a shell, or a server that does as shells do, would put something else in its place.
fn expands(path: &str) -> bool {
    let variable = |after: &str| after.starts_with(|c: char| c.is_ascii_alphabetic() || "_{(".contains(c));
    let windows = |after: &str| {
        // Two digits are an escape, which is decoded in another reading.
        let escape = after.bytes().take(2).all(|b| b.is_ascii_hexdigit());
        after.split_once('%').filter(|_| !escape).is_some_and(|(name, _)| {
            !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        })
    };
    path.starts_with('~')
        || path.split('$').skip(1).any(variable)
        || path.match_indices('%').any(|(at, _)| path.get(at + 1..).is_some_and(windows))
}
