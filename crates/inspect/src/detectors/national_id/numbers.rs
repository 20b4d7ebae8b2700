//! Those that are made of digits.

use crate::identifiers::{Alone, Form, Lead, Scheme, check};

const fn digits(
    labels: &'static [&'static str],
    sizes: &'static [&'static [u8]],
    check: fn(&[u8]) -> bool,
    alone: Alone,
) -> Scheme {
    Scheme { labels, lead: Lead::Digit, form: Form::Digits(sizes, check, alone) }
}

/// India.
pub(super) const AADHAAR: Scheme = digits(
    &["aadhaar", "aadhar", "adhaar", "uidai", "uid"],
    &[&[4, 4, 4], &[12]],
    check::aadhaar,
    Alone::Never,
);
/// Switzerland.
pub(super) const AHV: Scheme =
    digits(&["ahv", "avs", "ahv-nummer", "oasi"], &[&[3, 4, 4, 2], &[13]], check::ahv, Alone::By(b"..."));
/// Greece.
pub(super) const AMKA: Scheme = digits(&["amka", "αμκα"], &[&[11]], check::amka, Alone::Never);
/// The Netherlands.
pub(super) const BSN: Scheme = digits(
    &["bsn", "burgerservicenummer", "sofinummer", "citizen service number"],
    &[&[9], &[4, 2, 3], &[3, 3, 3]],
    check::bsn,
    Alone::Never,
);
/// Romania.
pub(super) const CNP: Scheme = digits(&["cnp", "cod numeric personal"], &[&[13]], check::cnp, Alone::Never);
/// Brazil.
pub(super) const CPF: Scheme =
    digits(&["cpf", "cadastro de pessoa"], &[&[3, 3, 3, 2], &[9, 2], &[11]], check::cpf, Alone::By(b"..-"));
/// Denmark.
pub(super) const CPR: Scheme =
    digits(&["cpr", "cpr-nummer", "cpr-nr", "cprnr"], &[&[6, 4], &[10]], check::cpr, Alone::Never);
/// Bulgaria.
pub(super) const EGN: Scheme = digits(&["egn", "егн"], &[&[10]], check::egn, Alone::Never);
/// Norway.
pub(super) const FODSELSNUMMER: Scheme = digits(
    &["fødselsnummer", "fodselsnummer", "fnr", "personnummer"],
    &[&[11], &[6, 5]],
    check::fodselsnummer,
    Alone::Never,
);
/// Estonia and Lithuania.
pub(super) const ISIKUKOOD: Scheme =
    digits(&["isikukood", "asmens kodas"], &[&[11]], check::isikukood, Alone::Never);
/// Portugal.
pub(super) const NIF: Scheme =
    digits(&["nif", "contribuinte"], &[&[9], &[3, 3, 3]], check::nif_pt, Alone::Never);
/// France.
pub(super) const NIR: Scheme = digits(
    &["nir", "insee", "sécurité sociale", "securite sociale", "numéro de sécu", "carte vitale", "n° sécu"],
    &[&[1, 2, 2, 2, 3, 3, 2], &[13, 2], &[15]],
    check::nir,
    Alone::By(b"      "),
);
/// Croatia.
pub(super) const OIB: Scheme = digits(&["oib"], &[&[11]], check::mod_11_10, Alone::Never);
/// Sweden.
pub(super) const PERSONNUMMER: Scheme = digits(
    &["personnummer", "personnr", "pnr", "samordningsnummer"],
    &[&[6, 4], &[8, 4], &[10], &[12]],
    check::personnummer,
    Alone::Never,
);
/// Poland.
pub(super) const PESEL: Scheme = digits(&["pesel"], &[&[11]], check::pesel, Alone::Never);
/// Belgium.
pub(super) const RIJKSREGISTER: Scheme = digits(
    &["rijksregister", "registre national", "rijksregisternummer", "numéro national", "insz", "niss"],
    &[&[2, 2, 2, 3, 2], &[6, 3, 2], &[11]],
    check::rijksregister,
    Alone::By(b"..-."),
);
/// Czechia and Slovakia.
pub(super) const RODNE_CISLO: Scheme =
    digits(&["rodné číslo", "rodne cislo", "rč"], &[&[6, 4], &[10]], check::rodne_cislo, Alone::Never);
/// Canada.
pub(super) const SIN: Scheme = digits(
    &["sin", "social insurance", "numéro d'assurance sociale", "nas"],
    &[&[3, 3, 3], &[9]],
    check::luhn,
    Alone::Never,
);
/// Germany.
pub(super) const STEUER_ID: Scheme = digits(
    &["steuer-id", "steuerid", "steueridentifikationsnummer", "idnr", "tin", "identifikationsnummer"],
    &[&[11], &[2, 3, 3, 3]],
    check::steuer_id,
    Alone::Never,
);
/// Austria.
pub(super) const SVNR: Scheme = digits(
    &["svnr", "sv-nummer", "sozialversicherungsnummer", "versicherungsnummer"],
    &[&[4, 6], &[10]],
    check::svnr,
    Alone::Never,
);
