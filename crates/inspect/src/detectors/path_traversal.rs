//! Path traversal: steps out of a folder, in every disguise, and files that no tool should be asked for.

use alloc::boxed::Box;

use portcullis_core::kind::Kind;

use super::Detector;
use crate::attacks::{Argument, Attack, Grams};

pub(super) const KIND: Kind<Box<dyn Detector>> = Kind {
    name: "path_traversal",
    doc: "Paths that lead out of a folder, and files of the system, in arguments.",
    build: |_| Ok(Box::new(Attack { score })),
};

/// Files that hold what attackers want.
const FILES: &[&str] = &[
    "etc/passwd",
    "etc/shadow",
    "etc/issue",
    "etc/hosts",
    "etc/group",
    "etc/sudoers",
    "etc/ssh",
    "boot.ini",
    "win.ini",
    "system32",
    "windows/repair",
    "winnt",
    "proc/self",
    "proc/version",
    "proc/cmdline",
    ".ssh/",
    "id_rsa",
    "web-inf",
    ".htpasswd",
    ".htaccess",
    ".aws/credentials",
    ".kube/config",
    ".docker/config",
    "web.config",
    "config/sam",
    ".git/config",
    "var/log/",
    "root/.",
    "docker.sock",
    ".bash_history",
];

fn score(argument: &Argument<'_>) -> u16 {
    let plain = normal(argument.text());
    let grams = Grams::of(&plain);
    let file = FILES.iter().any(|file| grams.find(&plain, file));
    let steps = steps(&plain);
    let hex = argument.has_any(&["0x2e", "0x2f", "0x5c"]);
    let hidden = argument.plain.odd || argument.plain.rounds >= 2 || hex;
    let nul = memchr::memchr(0, &plain).is_some();
    let score = match (steps, file, hidden) {
        (_, true, true) | (1.., _, true) => 950,
        (2.., true, _) => 950,
        (1.., true, _) => 900,
        (3.., ..) => 850,
        (2, ..) => 600,
        _ if nul => 850,
        (0, true, _) if argument.is_command() => 100,
        (0, true, _) => 750,
        (1, ..) => 200,
        (0, false, true) if argument.plain.odd => 700,
        _ => 0,
    };
    let wrapped = argument.plain.rounds > 0 && steps > 0;
    let score = if wrapped { score.max(850) } else { score };
    // Programs and documents speak of paths.
    if argument.is_prose() || argument.is_long() && steps < 8 { score / 3 } else { score }
}

/// One kind of slash and of dot.
fn normal(text: &[u8]) -> alloc::vec::Vec<u8> {
    let mut out = alloc::vec::Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        let (kept, length) = match text.get(at..at + 4) {
            Some(b"0x2e") => (b'.', 4),
            Some(b"0x2f" | b"0x5c") => (b'/', 4),
            _ => (if *byte == b'\\' { b'/' } else { *byte }, 1),
        };
        // What a filter would take out and leave a step behind.
        if !(kept == b'/' && out.last() == Some(&b'/')) {
            out.push(kept);
        }
        at += length;
    }
    out
}

/// Steps upwards: segments of dots alone, two or more of them.
fn steps(text: &[u8]) -> usize {
    let segments = text.split(|byte| *byte == b'/' || *byte == b';');
    segments
        .filter(|segment| {
            // What a URL or a word ends with: `file:..`, `x=..`.
            let dots = segment.iter().rev().take_while(|byte| **byte == b'.').count();
            let front = segment.get(..segment.len() - dots).and_then(<[u8]>::last);
            (2..=4).contains(&dots) && front.is_none_or(|byte| !byte.is_ascii_alphanumeric())
        })
        .count()
}

#[cfg(test)]
mod tests {
    use crate::testing::{attacks, harmless};

    #[test]
    fn catches_steps_in_every_disguise_and_files_of_the_system() {
        for text in [
            "../../../etc/passwd",
            "..\\..\\..\\windows\\system32\\drivers\\etc\\hosts",
            "%2e%2e%2f%2e%2e%2fetc%2fpasswd",
            "%252e%252e%252fetc%252fpasswd",
            "..%c0%af..%c0%afetc/passwd",
            "..%u2215..%u2215boot.ini",
            "....//....//etc/passwd",
            "0x2e0x2e0x2f0x2e0x2e0x2fboot.ini",
            "/etc/shadow",
            "report.pdf%00.png",
            "file:///../../../../etc/issue",
        ] {
            attacks("path_traversal", "path", text);
        }
    }

    #[test]
    fn leaves_ordinary_paths() {
        for text in [
            "docs/report.pdf",
            "../sibling/file.md",
            "/srv/docs/a.txt",
            "100%25 sure...",
            "Wait... what?",
            "caf%C3%A9/menu",
        ] {
            harmless("path_traversal", "path", text);
        }
        harmless("path_traversal", "content", "import x from '../../../lib/x'");
    }
}
