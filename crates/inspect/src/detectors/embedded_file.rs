//! Files in base64 whose inside nobody reads here: programs, archives, documents. They are known by their first bytes,
//! whatever the message calls them.
//!
//! Defaults: reported. Pictures and sounds are what content is made of and are left alone; text, also packed with gzip or
//! zlib, is unwrapped and read instead.

use alloc::{boxed::Box, vec::Vec};

use memchr::memmem;
use portcullis_core::{Severity, Treatment, kind::Kind};

use super::{Detector, Sighting};
use crate::{DetectorSettings, Role, Subject, raw::Raw};

pub(super) const KIND: Kind<Box<dyn Detector>> = Kind {
    name: "embedded_file",
    doc: "Programs, archives and documents in base64, by their first bytes.",
    build: |_| Ok(Box::new(EmbeddedFile)),
};

/// How files begin in base64, and how bad it is that one is there.
const FILES: &[(&str, Severity)] = &[
    // ELF, Windows (three ways to go on after `MZ`), Mach-O (three), Java classes, WebAssembly, Python bytecode's container.
    ("f0VMR", Severity::High),
    ("TVqQA", Severity::High),
    ("TVpQA", Severity::High),
    ("TVoAA", Severity::High),
    ("z/rt/", Severity::High),
    ("zvrt/", Severity::High),
    ("yv66vg", Severity::High),
    ("AGFzbQ", Severity::High),
    // ZIP (also office documents, jar, apk), RAR, 7z, xz, zstd, bzip2, cabinets.
    ("UEsDB", Severity::Medium),
    ("UmFyIR", Severity::Medium),
    ("N3q8r", Severity::Medium),
    ("/Td6W", Severity::Medium),
    ("KLUv/", Severity::Medium),
    ("QlpoO", Severity::Medium),
    ("TVNDR", Severity::Medium),
    // PDF, the older office documents, RTF.
    ("JVBER", Severity::Medium),
    ("0M8R4", Severity::Medium),
    ("e1xyd", Severity::Medium),
];

/// Characters of base64 below which nothing is a file.
const RUN_MIN: usize = 64;

/// That a file is there is certain; whether it does harm is not, and those that look for attacks are surer.
const SURE: u16 = 500;

#[derive(Debug)]
struct EmbeddedFile;

impl Detector for EmbeddedFile {
    fn defaults(&self) -> DetectorSettings {
        DetectorSettings { enabled: true, arguments: Treatment::Pass, answers: Treatment::Pass }
    }

    fn threshold(&self, _role: Role) -> Option<u16> {
        Some(SURE)
    }

    // Where slashes are escaped, the quick look looks closer in any case.
    fn anchors(&self) -> Vec<&'static str> {
        FILES.iter().map(|(head, _)| *head).collect()
    }

    fn may_match(&self, _raw: &Raw<'_>) -> bool {
        true
    }

    fn find(&self, subject: &Subject<'_>, found: &mut Vec<Sighting>) {
        let bytes = subject.text.as_bytes();
        let heads = FILES.iter().flat_map(|(head, severity)| {
            memmem::find_iter(bytes, *head).map(move |start| (start, *severity))
        });
        for (start, severity) in heads {
            let within = start
                .checked_sub(1)
                .and_then(|before| bytes.get(before))
                .is_some_and(|byte| is_base64(*byte));
            if within {
                continue;
            }
            let rest = bytes.get(start..).unwrap_or_default();
            let run = rest.iter().take_while(|byte| is_base64(**byte)).count();
            if run >= RUN_MIN {
                let padding = rest.iter().skip(run).take(2).take_while(|byte| **byte == b'=').count();
                let seen = Sighting::visible(start..start + run + padding, severity);
                found.push(Sighting { confidence: SURE, ..seen });
            }
        }
        found.sort_by_key(|one| one.range.start);
    }
}

const fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/')
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::{format, string::String, vec::Vec};

    use base64::{Engine as _, prelude::BASE64_STANDARD};

    use crate::testing::{found, nothing};

    fn file(head: &[u8]) -> String {
        let mut bytes = Vec::from(head);
        bytes.extend((0..90).map(|index: u8| index.wrapping_mul(37)));
        BASE64_STANDARD.encode(bytes)
    }

    #[test]
    fn catches_files_by_their_first_bytes_wherever_they_stand() {
        for head in [
            &b"\x7fELF\x02\x01\x01"[..],
            b"MZ\x90\x00\x03",
            b"\xca\xfe\xba\xbe\x00\x00\x00\x34",
            b"\xcf\xfa\xed\xfe\x07",
            b"\x00asm\x01\x00\x00\x00",
            b"PK\x03\x04\x14\x00",
            b"Rar!\x1a\x07",
            b"7z\xbc\xaf\x27\x1c",
            b"\xfd7zXZ\x00",
            b"\x28\xb5\x2f\xfd\x04",
            b"%PDF-1.7\n",
            b"\xd0\xcf\x11\xe0\xa1\xb1",
            b"{\\rtf1\\ansi",
        ] {
            let file = file(head);
            found("embedded_file", &file, &file);
            found("embedded_file", &format!("<a href=\"data:x/y;base64,{file}\">x</a>"), &file);
        }
    }

    #[test]
    fn leaves_pictures_text_and_short_runs_alone() {
        nothing("embedded_file", &file(b"\x89PNG\r\n\x1a\n"));
        nothing("embedded_file", &file(b"\xff\xd8\xff\xe0"));
        nothing("embedded_file", &file(b"GIF89a"));
        nothing("embedded_file", "UEsDBBQAAAA is how a ZIP begins, JVBERi0xLjc= a PDF");
        nothing(
            "embedded_file",
            &BASE64_STANDARD.encode("PK is a name, and this is a text that goes on for a while"),
        );
    }
}
