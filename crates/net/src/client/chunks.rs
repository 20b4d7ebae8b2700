//! The chunked transfer coding (RFC 9112 section 7.1), decoded piece by piece, with nothing kept but where it is.

use bytes::{Buf as _, Bytes};
use thiserror::Error;

/// Bytes of extensions and trailers in one answer; both are dropped.
const ASIDE_BYTES_MAX: u32 = 16 << 10;

/// Digits of the size of one chunk.
const DIGITS_MAX: u8 = 15;

/// What is not the chunked coding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ChunkError {
    /// Something else where the size of a chunk, or the end of a line, must be.
    #[error("the chunks are malformed")]
    Malformed,
    /// Too much that is no data.
    #[error("the extensions and trailers of chunks exceed {ASIDE_BYTES_MAX} bytes")]
    Aside,
}

/// Where in the coding the next byte is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Size { digits: u8 },
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    TrailerStart,
    Trailer,
    TrailerLf,
    EndLf,
    End,
}

/// A decoder.
#[derive(Debug)]
pub struct Chunks {
    at: At,
    /// The size read so far, or what is left of the chunk.
    left: u64,
    aside: u32,
}

impl Default for Chunks {
    fn default() -> Self {
        Self { at: At::Size { digits: 0 }, left: 0, aside: 0 }
    }
}

impl Chunks {
    /// Takes from the front of `input` up to the next run of data and returns it; nothing when `input` is used up, or
    /// the coding is at its end.
    ///
    /// # Errors
    /// [`ChunkError`] at the first byte that does not belong. A line ends with CR LF alone.
    pub fn next(&mut self, input: &mut Bytes) -> Result<Option<Bytes>, ChunkError> {
        while !input.is_empty() && !self.ended() {
            if self.at == At::Data {
                let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(input.len());
                let data = input.split_to(most);
                self.left -= most as u64;
                if self.left == 0 {
                    self.at = At::DataCr;
                }
                return Ok(Some(data));
            }
            self.at = self.step(input.get_u8())?;
        }
        Ok(None)
    }

    /// Whether everything has come.
    #[must_use]
    pub fn ended(&self) -> bool {
        self.at == At::End
    }

    fn step(&mut self, byte: u8) -> Result<At, ChunkError> {
        Ok(match (self.at, byte) {
            (At::Size { digits }, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') if digits < DIGITS_MAX => {
                let digit = char::from(byte).to_digit(16).unwrap_or_default();
                self.left = self.left << 4 | u64::from(digit);
                At::Size { digits: digits + 1 }
            }
            (At::Size { digits: 1.. }, b';' | b' ' | b'\t') => At::Extension,
            (At::Size { digits: 1.. } | At::Extension, b'\r') => At::SizeLf,
            (At::SizeLf, b'\n') if self.left == 0 => At::TrailerStart,
            (At::SizeLf, b'\n') => At::Data,
            (At::DataCr, b'\r') => At::DataLf,
            (At::DataLf, b'\n') => At::Size { digits: 0 },
            (At::TrailerStart, b'\r') => At::EndLf,
            (At::Trailer, b'\r') => At::TrailerLf,
            (At::TrailerLf, b'\n') => At::TrailerStart,
            (At::EndLf, b'\n') => At::End,
            (At::Extension, 1..) if byte != b'\n' => self.aside(At::Extension)?,
            (At::TrailerStart | At::Trailer, 1..) if byte != b'\n' => self.aside(At::Trailer)?,
            _ => return Err(ChunkError::Malformed),
        })
    }

    fn aside(&mut self, at: At) -> Result<At, ChunkError> {
        self.aside += 1;
        if self.aside > ASIDE_BYTES_MAX { Err(ChunkError::Aside) } else { Ok(at) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decode(pieces: &[&[u8]]) -> Result<(Vec<u8>, bool, usize), ChunkError> {
        let (mut chunks, mut out, mut left) = (Chunks::default(), Vec::new(), 0);
        for piece in pieces {
            let mut input = Bytes::copy_from_slice(piece);
            while let Some(data) = chunks.next(&mut input)? {
                out.extend_from_slice(&data);
            }
            left += input.len();
        }
        Ok((out, chunks.ended(), left))
    }

    #[test]
    fn data_is_taken_out_of_its_chunks_and_the_end_is_known() {
        for (input, data, ended) in [
            ("3\r\nabc\r\n0\r\n\r\n", "abc", true),
            ("3\r\nabc\r\n", "abc", false),
            ("3\r\nab", "ab", false),
            ("A;name=\"v\"\r\n0123456789\r\n00\r\n\r\n", "0123456789", true),
            ("1 \r\na\r\n0;x\r\nTrailer: t\r\nMore: m\r\n\r\n", "a", true),
            ("", "", false),
        ] {
            assert_eq!(decode(&[input.as_bytes()]), Ok((data.into(), ended, 0)), "{input:?}");
        }
        assert_eq!(decode(&[b"0\r\n\r\nHTTP/1.1"]), Ok((vec![], true, 8)), "nothing is read beyond the end");
    }

    #[test]
    fn anything_else_is_refused_where_it_stands() {
        for input in [
            "\r\n",
            "g\r\n",
            " 3\r\n",
            "+3\r\n",
            "-1\r\n",
            "0x3\r\n",
            ";\r\n",
            "3\n",
            "3\r3",
            "3;a\nb",
            "3\r\nabcd",
            "3\r\nabc\n",
            "0\r\n\n",
            "0\r\nTrailer: t\n\r\n",
            "1;\0\r\n",
            "1000000000000000\r\n",
        ] {
            assert_eq!(decode(&[input.as_bytes()]), Err(ChunkError::Malformed), "{input:?}");
        }
        let extension = format!("1;{}", "x".repeat(20_000));
        let trailers = format!("0\r\n{}", "a: b\r\n".repeat(5_000));
        for input in [extension, trailers] {
            assert_eq!(decode(&[input.as_bytes()]), Err(ChunkError::Aside));
        }
    }

    proptest! {
        #[test]
        fn it_does_not_matter_where_the_input_is_cut(
            parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..6),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        ) {
            let mut coded = Vec::new();
            for part in &parts {
                coded.extend_from_slice(format!("{:x}\r\n", part.len()).as_bytes());
                coded.extend_from_slice(part);
                coded.extend_from_slice(b"\r\n");
            }
            coded.extend_from_slice(b"0\r\n\r\n");
            let mut at: Vec<_> = cuts.iter().map(|cut| cut.index(coded.len())).collect();
            at.extend([0, coded.len()]);
            at.sort_unstable();
            let pieces: Vec<&[u8]> = at.windows(2).map(|pair| &coded[pair[0]..pair[1]]).collect();
            prop_assert_eq!(decode(&pieces), Ok((parts.concat(), true, 0)));
        }

        #[test]
        fn no_input_makes_it_panic_or_give_more_than_came(input in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok((data, _, _)) = decode(&[&input]) {
                prop_assert!(data.len() <= input.len());
            }
        }
    }
}
