//! National identification numbers of persons, with the check digits of their countries. Most are plain digits and need
//! a name; some have a form of their own.

use alloc::boxed::Box;

use portcullis_core::kind::Kind;

use super::Detector;
use crate::{Schemes, identifiers::Scheme};

pub(super) const KIND: Kind<Box<dyn Detector>> = Kind {
    name: "national_id",
    doc: "National identification numbers of persons in Europe, Canada, Australia, India and Brazil (check digits hold).",
    build: |_| Ok(Box::new(Schemes(SCHEMES))),
};

mod numbers;
mod words;

const SCHEMES: &[Scheme] = &[
    numbers::AADHAAR,
    numbers::AHV,
    numbers::AMKA,
    numbers::BSN,
    numbers::CNP,
    numbers::CPF,
    numbers::CPR,
    numbers::EGN,
    numbers::FODSELSNUMMER,
    numbers::ISIKUKOOD,
    numbers::NIF,
    numbers::NIR,
    numbers::OIB,
    numbers::PERSONNUMMER,
    numbers::PESEL,
    numbers::RIJKSREGISTER,
    numbers::RODNE_CISLO,
    numbers::SIN,
    numbers::STEUER_ID,
    numbers::SVNR,
    words::CODICE_FISCALE,
    words::DNI,
    words::HETU,
    words::PPS,
];

#[cfg(test)]
mod tests {
    use crate::testing::{found, nothing};

    #[test]
    fn catches_numbers_of_every_country() {
        for (text, expected) in [
            ("Aadhaar 2341 2341 2346", "2341 2341 2346"),
            ("756.1234.5678.97", "756.1234.5678.97"),
            ("BSN: 111222333", "111222333"),
            ("529.982.247-25", "529.982.247-25"),
            ("cpf 52998224725", "52998224725"),
            ("CPR-nummer 131052-1234", "131052-1234"),
            ("NIF 123456789", "123456789"),
            ("numéro de sécurité sociale 255081416802538", "255081416802538"),
            ("OIB 94577403194", "94577403194"),
            ("personnummer 811228-9874", "811228-9874"),
            ("PESEL 44051401359", "44051401359"),
            ("85.07.30-033.28", "85.07.30-033.28"),
            ("SIN 046 454 286", "046 454 286"),
            ("Steuer-ID 86 095 742 719", "86 095 742 719"),
            ("Steueridentifikationsnummer: 86095742719", "86095742719"),
            ("RSSMRA85T10A562S", "RSSMRA85T10A562S"),
            ("DNI 12345678Z", "12345678Z"),
            ("NIE: X1234567L", "X1234567L"),
            ("henkilötunnus 131052-308T", "131052-308T"),
            ("PPS number 1234567FA", "1234567FA"),
        ] {
            found("national_id", text, expected);
        }
    }

    #[test]
    fn leaves_wrong_check_digits_and_unnamed_numbers() {
        for text in [
            "Aadhaar 2341 2341 2347",
            "2341 2341 2346",
            "756.1234.5678.98",
            "BSN: 111222334",
            "529.982.247-26",
            "NIF 123456780",
            "PESEL 44051401358",
            "85.07.30-033.29",
            "SIN 046 454 287",
            "RSSMRA85T10A562T",
            "DNI 12345678A",
            "12345678Z",
            "86095742719",
        ] {
            nothing("national_id", text);
        }
    }
}
