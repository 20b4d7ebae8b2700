//! Where a page ended, in a form that says nothing and fits no other search. A place is an index of the ledger, which
//! never changes, so that pages stay true while the log grows and after the index was made anew.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use crate::{ForensicsError, Order, Search};

const VERSION: u8 = 1;

/// The text of a place in a search.
pub(crate) fn write(search: &Search, order: Order, next: u64) -> String {
    let mut bytes = vec![VERSION, order as u8];
    bytes.extend(next.to_be_bytes());
    bytes.extend(search.digest().0.iter().take(8));
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The place that a text says.
pub(crate) fn read(search: &Search, order: Order, text: &str) -> Result<u64, ForensicsError> {
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| ForensicsError::Cursor)?;
    let place: Option<[u8; 8]> = bytes.get(2..10).and_then(|bytes| bytes.try_into().ok());
    let next = place.map(u64::from_be_bytes).ok_or(ForensicsError::Cursor)?;
    if write(search, order, next) == text { Ok(next) } else { Err(ForensicsError::Cursor) }
}

#[cfg(test)]
mod tests {
    use portcullis_core::Timestamp;

    use super::*;

    #[test]
    fn a_cursor_fits_its_search_and_order_and_nothing_else() {
        let search = |tool| Search::read([("tool", tool)], Timestamp(0)).unwrap();
        let text = write(&search("a"), Order::Oldest, 77);
        assert_eq!(read(&search("a"), Order::Oldest, &text), Ok(77));
        assert_eq!(read(&search("b"), Order::Oldest, &text), Err(ForensicsError::Cursor));
        assert_eq!(read(&search("a"), Order::Newest, &text), Err(ForensicsError::Cursor));
        for wrong in ["", "77", "AQ", "!!", "AQAAAAAAAAAATQ"] {
            assert_eq!(read(&search("a"), Order::Oldest, wrong), Err(ForensicsError::Cursor), "{wrong}");
        }
    }
}
