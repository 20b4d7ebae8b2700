//! Argument injection: a value that a program takes for one of its options.

use alloc::boxed::Box;

use portcullis_core::kind::Kind;

use super::Detector;
use crate::attacks::{Argument, Attack};

pub(super) const KIND: Kind<Box<dyn Detector>> = Kind {
    name: "argument_injection",
    doc: "Values that a program would take for an option, in arguments.",
    build: |_| Ok(Box::new(Attack { score })),
};

/// Options that run, write or send, of programs that tools call.
const OPTIONS: &[&str] = &[
    "--upload-pack",
    "--receive-pack",
    "--exec",
    "--config",
    "--output",
    "--output-document",
    "--use-askpass",
    "--checkpoint-action",
    "--to-command",
    "--rsh",
    "--post-file",
    "--upload-file",
    "--pre-command",
    "--open-files-in-pager",
    "--ext-diff",
    "--git-dir",
    "--work-tree",
    "--renderer-cmd-prefix",
    "--gpu-launcher",
    "--command",
    "--eval",
    "--require",
    "--init-command",
    "--unzip-command",
    "--use-compress-program",
    "--rsync-path",
    "-oproxycommand",
];

fn score(argument: &Argument<'_>) -> u16 {
    let text = argument.text().trim_ascii_start();
    let dashes = text.iter().take_while(|byte| **byte == b'-').count();
    let named = text.get(dashes).is_some_and(u8::is_ascii_alphabetic);
    let known = OPTIONS.iter().any(|option| {
        text.starts_with(option.as_bytes())
            && text.get(option.len()).is_none_or(|next| !next.is_ascii_alphanumeric())
    });
    let given = text.iter().any(|byte| matches!(byte, b'=' | b'/'));
    match (dashes, named) {
        (1 | 2, true) if argument.takes_options() => 0,
        (1 | 2, true) if known => 900,
        (2, true) if given => 800,
        (2, true) => 400,
        // A word with a dash before it may be excluded from a search.
        (1, true) if given && !argument.is_long() => 300,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{attacks, harmless};

    #[test]
    fn catches_values_that_are_options() {
        for text in [
            "--upload-pack=touch /tmp/x",
            "-oProxyCommand=calc",
            "--output=/etc/cron.d/x",
            "--checkpoint-action=exec=sh",
        ] {
            attacks("argument_injection", "branch", text);
        }
    }

    #[test]
    fn leaves_numbers_lists_and_options_where_they_are_meant() {
        for text in ["-1", "- a list", "-draft", "---", "a --b"] {
            harmless("argument_injection", "branch", text);
        }
        harmless("argument_injection", "args", "--output=x");
    }
}
