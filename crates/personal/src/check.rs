//! Check digits and checksums as the authorities publish them. Digits come as numbers, not as characters.

use portcullis_core::Digest;

fn weighted(digits: &[u8], weights: &[u32]) -> u32 {
    digits.iter().zip(weights).map(|(digit, weight)| u32::from(*digit) * weight).sum()
}

fn last(digits: &[u8]) -> u32 {
    digits.last().copied().map_or(u32::MAX, u32::from)
}

fn value(digits: &[u8]) -> u64 {
    digits.iter().fold(0_u64, |value, digit| value.wrapping_mul(10).wrapping_add(u64::from(*digit)))
}

fn part(digits: &[u8], from: usize, to: usize) -> u64 {
    digits.get(from..to).map_or(u64::MAX, value)
}

/// Not one digit again and again.
#[must_use]
pub fn varied(digits: &[u8]) -> bool {
    digits.windows(2).any(|pair| pair.first() != pair.last())
}

/// A day of a year, both as digits.
fn day(day: u64, month: u64) -> bool {
    (1..=31).contains(&day) && (1..=12).contains(&month)
}

fn luhn_sum(digits: &[u8]) -> u32 {
    let double = |digit: u32| if digit > 4 { digit * 2 - 9 } else { digit * 2 };
    let digits = digits.iter().rev().map(|digit| u32::from(*digit)).enumerate();
    digits.map(|(index, digit)| if index % 2 == 1 { double(digit) } else { digit }).sum()
}

/// ISO/IEC 7812-1, annex B.
#[must_use]
pub fn luhn(digits: &[u8]) -> bool {
    varied(digits) && luhn_sum(digits).is_multiple_of(10)
}

/// US National Provider Identifier: Luhn over it behind 80840, which adds 24.
#[must_use]
pub fn npi(digits: &[u8]) -> bool {
    matches!(digits.first(), Some(1 | 2)) && (luhn_sum(digits) + 24).is_multiple_of(10)
}

/// US Social Security and Individual Taxpayer Identification numbers: ranges that are given out.
#[must_use]
pub fn ssn(digits: &[u8]) -> bool {
    let (area, group, serial) = (part(digits, 0, 3), part(digits, 3, 5), part(digits, 5, 9));
    let itin = matches!(group, 50..=65 | 70..=88 | 90..=92 | 94..=99);
    !matches!(area, 0 | 666) && (area < 900 || itin) && group != 0 && serial != 0 && varied(digits)
}

/// NHS numbers of England: modulus 11 with weights 10 to 2.
#[must_use]
pub fn nhs(digits: &[u8]) -> bool {
    let rest = 11 - weighted(digits, &[10, 9, 8, 7, 6, 5, 4, 3, 2]) % 11;
    varied(digits) && rest % 11 == last(digits) && rest != 10
}

/// Medicare card of Australia, with or without the number of the person on it.
#[must_use]
pub fn medicare_au(digits: &[u8]) -> bool {
    let sum = weighted(digits.get(..8).unwrap_or_default(), &[1, 3, 7, 9, 1, 3, 7, 9]);
    matches!(digits.first(), Some(2..=6)) && digits.get(8).is_some_and(|check| sum % 10 == u32::from(*check))
}

/// Tax File Number of Australia.
#[must_use]
pub fn tfn_au(digits: &[u8]) -> bool {
    varied(digits) && weighted(digits, &[1, 4, 3, 7, 5, 8, 6, 9, 10]).is_multiple_of(11)
}

/// Australian Business Number.
#[must_use]
pub fn abn_au(digits: &[u8]) -> bool {
    let sum = weighted(digits, &[10, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19]);
    digits.first() != Some(&0) && sum.wrapping_sub(10).is_multiple_of(89)
}

/// Aadhaar of India.
#[must_use]
pub fn aadhaar(digits: &[u8]) -> bool {
    matches!(digits.first(), Some(2..=9)) && varied(digits) && verhoeff(digits)
}

/// Verhoeff's scheme.
#[must_use]
pub fn verhoeff(digits: &[u8]) -> bool {
    const TIMES: [&[u8; 10]; 10] = [
        b"0123456789",
        b"1234067895",
        b"2340178956",
        b"3401289567",
        b"4012395678",
        b"5987604321",
        b"6598710432",
        b"7659821043",
        b"8765932104",
        b"9876543210",
    ];
    const TURNS: [&[u8; 10]; 8] = [
        b"0123456789",
        b"1576283094",
        b"5803796142",
        b"8916043527",
        b"9453126870",
        b"4286573901",
        b"2793806415",
        b"7046913258",
    ];
    let read = |row: Option<&&[u8; 10]>, at: u8| {
        row.and_then(|row| row.get(usize::from(at))).map_or(0, |digit| digit - b'0')
    };
    let turned = |(index, digit): (usize, &u8)| read(TURNS.get(index % 8), *digit);
    let check = digits.iter().rev().enumerate().map(turned);
    check.fold(0, |check, digit| read(TIMES.get(usize::from(check)), digit)) == 0
}

/// The check digit that Brazil computes: modulus 11, 10 becomes 0.
fn brazil(digits: &[u8], weights: &[u32]) -> u32 {
    match weighted(digits, weights) % 11 {
        0 | 1 => 0,
        rest => 11 - rest,
    }
}

/// Cadastro de Pessoas Físicas.
#[must_use]
pub fn cpf(digits: &[u8]) -> bool {
    let at = |index: usize| digits.get(index).copied().map_or(u32::MAX, u32::from);
    varied(digits)
        && brazil(digits, &[10, 9, 8, 7, 6, 5, 4, 3, 2]) == at(9)
        && brazil(digits, &[11, 10, 9, 8, 7, 6, 5, 4, 3, 2]) == at(10)
}

/// Cadastro Nacional da Pessoa Jurídica.
#[must_use]
pub fn cnpj(digits: &[u8]) -> bool {
    let at = |index: usize| digits.get(index).copied().map_or(u32::MAX, u32::from);
    varied(digits)
        && brazil(digits, &[5, 4, 3, 2, 9, 8, 7, 6, 5, 4, 3, 2]) == at(12)
        && brazil(digits, &[6, 5, 4, 3, 2, 9, 8, 7, 6, 5, 4, 3, 2]) == at(13)
}

/// ISO 7064, modulus 11,10: Steuer-ID of Germany, OIB of Croatia.
#[must_use]
pub fn mod_11_10(digits: &[u8]) -> bool {
    let Some((check, body)) = digits.split_last() else { return false };
    let carry = body.iter().fold(10, |carry, digit| {
        let sum = match (carry + u32::from(*digit)) % 10 {
            0 => 10,
            sum => sum,
        };
        sum * 2 % 11
    });
    varied(digits) && (11 - carry) % 10 == u32::from(*check)
}

/// Steuer-ID: begins with no zero, and of its first ten digits one occurs twice or thrice.
#[must_use]
pub fn steuer_id(digits: &[u8]) -> bool {
    let body = digits.get(..10).unwrap_or_default();
    let count = |digit: u8| body.iter().filter(|one| **one == digit).count();
    digits.first() != Some(&0)
        && (0..10).filter(|digit| matches!(count(*digit), 2 | 3)).count() == 1
        && (0..10).all(|digit| count(digit) <= 3)
        && mod_11_10(digits)
}

/// Numéro d'inscription au répertoire of France: 97 less the rest of the first thirteen digits.
#[must_use]
pub fn nir(digits: &[u8]) -> bool {
    let month = part(digits, 3, 5);
    matches!(digits.first(), Some(1..=4 | 7 | 8))
        && matches!(month, 1..=12 | 20..=42 | 50..=99)
        && 97 - part(digits, 0, 13) % 97 == part(digits, 13, 15)
}

/// Burgerservicenummer of the Netherlands.
#[must_use]
pub fn bsn(digits: &[u8]) -> bool {
    let sum = weighted(digits, &[9, 8, 7, 6, 5, 4, 3, 2]);
    varied(digits) && sum % 11 == last(digits)
}

/// PESEL of Poland.
#[must_use]
pub fn pesel(digits: &[u8]) -> bool {
    let month = part(digits, 2, 4) % 20;
    let sum = weighted(digits, &[1, 3, 7, 9, 1, 3, 7, 9, 1, 3]);
    day(part(digits, 4, 6), month) && (10 - sum % 10) % 10 == last(digits)
}

/// Rijksregisternummer of Belgium: of those born since 2000 with a 2 before it.
#[must_use]
pub fn rijksregister(digits: &[u8]) -> bool {
    let (body, check) = (part(digits, 0, 9), part(digits, 9, 11));
    part(digits, 2, 4) % 20 <= 12
        && part(digits, 4, 6) <= 31
        && [body, body.saturating_add(2_000_000_000)].iter().any(|body| 97 - body % 97 == check)
}

/// Personnummer of Sweden: Luhn over ten digits that begin with a date.
#[must_use]
pub fn personnummer(digits: &[u8]) -> bool {
    let ten = digits.get(digits.len().saturating_sub(10)..).unwrap_or_default();
    let date = part(ten, 4, 6);
    (day(date, part(ten, 2, 4)) || day(date.wrapping_sub(60), part(ten, 2, 4))) && luhn(ten)
}

/// CPR-nummer of Denmark: since 2007 without a check digit, so only the date tells.
#[must_use]
pub fn cpr(digits: &[u8]) -> bool {
    day(part(digits, 0, 2), part(digits, 2, 4)) && varied(digits)
}

/// Fødselsnummer of Norway: two check digits of modulus 11.
#[must_use]
pub fn fodselsnummer(digits: &[u8]) -> bool {
    varied(digits)
        && weighted(digits, &[3, 7, 6, 1, 8, 9, 4, 5, 2, 1]).is_multiple_of(11)
        && weighted(digits, &[5, 4, 3, 2, 7, 6, 5, 4, 3, 2, 1]).is_multiple_of(11)
}

/// Número de identificação fiscal of Portugal.
#[must_use]
pub fn nif_pt(digits: &[u8]) -> bool {
    let rest = 11 - weighted(digits, &[9, 8, 7, 6, 5, 4, 3, 2]) % 11;
    varied(digits) && (if rest >= 10 { 0 } else { rest }) == last(digits)
}

/// Cod numeric personal of Romania.
#[must_use]
pub fn cnp(digits: &[u8]) -> bool {
    let rest = weighted(digits, &[2, 7, 9, 1, 4, 6, 3, 5, 8, 2, 7, 9]) % 11;
    day(part(digits, 5, 7), part(digits, 3, 5)) && (if rest == 10 { 1 } else { rest }) == last(digits)
}

/// Rodné číslo of Czechia and Slovakia since 1954.
#[must_use]
pub fn rodne_cislo(digits: &[u8]) -> bool {
    let month = part(digits, 2, 4);
    let month = if month > 50 { month - 50 } else { month };
    let month = if month > 20 { month - 20 } else { month };
    day(part(digits, 4, 6), month) && value(digits).is_multiple_of(11)
}

/// EGN of Bulgaria.
#[must_use]
pub fn egn(digits: &[u8]) -> bool {
    let rest = weighted(digits, &[2, 4, 8, 5, 10, 9, 7, 3, 6]) % 11 % 10;
    day(part(digits, 4, 6), part(digits, 2, 4) % 20) && rest == last(digits)
}

/// AMKA of Greece: a date and Luhn.
#[must_use]
pub fn amka(digits: &[u8]) -> bool {
    day(part(digits, 0, 2), part(digits, 2, 4)) && luhn(digits)
}

/// Isikukood of Estonia and asmens kodas of Lithuania.
#[must_use]
pub fn isikukood(digits: &[u8]) -> bool {
    let rest = match weighted(digits, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 1]) % 11 {
        10 => weighted(digits, &[3, 4, 5, 6, 7, 8, 9, 1, 2, 3]) % 11 % 10,
        rest => rest,
    };
    day(part(digits, 5, 7), part(digits, 3, 5)) && rest == last(digits)
}

/// Versicherungsnummer of Austria: the fourth digit checks the others.
#[must_use]
pub fn svnr(digits: &[u8]) -> bool {
    let sum = weighted(digits, &[3, 7, 9, 0, 5, 8, 4, 2, 1, 6]) % 11;
    part(digits, 6, 8) <= 15 && digits.get(3).is_some_and(|check| sum == u32::from(*check)) && varied(digits)
}

/// AHV-Nummer of Switzerland: EAN-13 that begins with 756.
#[must_use]
pub fn ahv(digits: &[u8]) -> bool {
    part(digits, 0, 3) == 756 && weighted(digits, &[1, 3, 1, 3, 1, 3, 1, 3, 1, 3, 1, 3, 1]).is_multiple_of(10)
}

/// Prefix and number of the Drug Enforcement Administration.
#[must_use]
pub fn dea(digits: &[u8]) -> bool {
    varied(digits) && weighted(digits, &[1, 2, 1, 2, 1, 2]) % 10 == last(digits)
}

/// ISO 7064, modulus 97,10 over letters and digits whose first four stand last: IBAN.
#[must_use]
pub fn iban(text: impl Iterator<Item = u8> + Clone) -> bool {
    let turned = text.clone().skip(4).chain(text.take(4));
    turned.fold(0_u32, |rest, byte| match byte {
        b'0'..=b'9' => (rest * 10 + u32::from(byte - b'0')) % 97,
        _ => (rest * 100 + u32::from(byte.to_ascii_uppercase().wrapping_sub(b'A')) + 10) % 97,
    }) == 1
}

/// 49 CFR 565.15: the ninth character of a North American vehicle's number.
#[must_use]
pub fn vin(text: &[u8]) -> bool {
    const WEIGHTS: [u32; 17] = [8, 7, 6, 5, 4, 3, 2, 10, 0, 9, 8, 7, 6, 5, 4, 3, 2];
    let worth = |byte: u8| match byte.to_ascii_uppercase() {
        digit @ b'0'..=b'9' => u32::from(digit - b'0'),
        letter @ b'A'..=b'H' => u32::from(letter - b'A') + 1,
        letter @ b'J'..=b'R' => u32::from(letter - b'J') + 1,
        letter => u32::from(letter.wrapping_sub(b'S')) + 2,
    };
    let sum = text.iter().zip(WEIGHTS).map(|(byte, weight)| worth(*byte) * weight).sum::<u32>() % 11;
    let check = text.get(8).map(u8::to_ascii_uppercase);
    check == Some(if sum == 10 { b'X' } else { b'0' + sum as u8 })
}

/// Codice fiscale of Italy: the last letter checks the other fifteen characters.
#[must_use]
pub fn codice_fiscale(text: &[u8]) -> bool {
    const ODD: [u32; 26] =
        [1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23];
    let worth = |byte: u8| match byte.to_ascii_uppercase() {
        digit @ b'0'..=b'9' => u32::from(digit - b'0'),
        letter => u32::from(letter.wrapping_sub(b'A')),
    };
    let Some((check, body)) = text.split_last() else { return false };
    let sum: u32 = body
        .iter()
        .enumerate()
        .map(|(index, byte)| match index % 2 {
            0 => ODD.get(worth(*byte) as usize).copied().unwrap_or_default(),
            _ => worth(*byte),
        })
        .sum();
    sum % 26 == worth(*check) && check.is_ascii_alphabetic()
}

/// The letter of a Spanish DNI or NIE of that number.
#[must_use]
pub fn dni(number: u32, letter: u8) -> bool {
    b"TRWAGMYFPDXBNJZSQVHLCKE".get((number % 23) as usize) == Some(&letter.to_ascii_uppercase())
}

/// BIP 173 and BIP 350: the checksum of a Bech32 address, human-readable part first.
#[must_use]
pub fn bech32(text: &[u8]) -> bool {
    const LETTERS: &[u8] = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l";
    const GENERATOR: [u32; 5] = [0x3b6a_57b2, 0x2650_8e6d, 0x1ea1_19fa, 0x3d42_33dd, 0x2a14_62b3];
    let step = |sum: u32, value: u32| {
        GENERATOR.iter().enumerate().fold((sum & 0x01ff_ffff) << 5 ^ value, |next, (bit, word)| {
            if sum >> (25 + bit) & 1 == 1 { next ^ word } else { next }
        })
    };
    let Some(separator) = memchr::memrchr(b'1', text) else { return false };
    let (Some(human), Some(data)) = (text.get(..separator), text.get(separator + 1..)) else { return false };
    let lower = |byte: &u8| u32::from(byte.to_ascii_lowercase());
    let mut sum = human.iter().fold(1, |sum, byte| step(sum, lower(byte) >> 5));
    sum = step(sum, 0);
    sum = human.iter().fold(sum, |sum, byte| step(sum, lower(byte) & 31));
    for byte in data {
        let Some(value) = memchr::memchr(byte.to_ascii_lowercase(), LETTERS) else { return false };
        sum = step(sum, value as u32);
    }
    matches!(sum, 1 | 0x2bc8_30a3)
}

/// Base58Check of 25 bytes: the first four bytes of the double SHA-256 of what they stand behind.
#[must_use]
pub fn base58(text: &[u8]) -> bool {
    const LETTERS: &[u8] = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
    let mut bytes = [0_u8; 25];
    for byte in text {
        let Some(mut carry) = memchr::memchr(*byte, LETTERS) else { return false };
        for place in bytes.iter_mut().rev() {
            carry += usize::from(*place) * 58;
            *place = (carry & 0xff) as u8;
            carry >>= 8;
        }
        if carry != 0 {
            return false;
        }
    }
    let Some((body, check)) = bytes.split_at_checked(21) else { return false };
    let digest = Digest::of(&Digest::of(body).0);
    digest.0.get(..4) == Some(check)
}
