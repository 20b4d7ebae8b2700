//! The only maker of [`Masked`], and nothing else is written to a client.

use bytes::Bytes;
use portcullis_core::{Code, Direction, Finding, Obligations, Refusal};
use portcullis_inspect::{Inspector, Verdict, Window};
use portcullis_mcp::jsonrpc::Message;

use super::inspect::{look, refused};
use crate::trail::Measured;

/// A message of a server that a client may see.
#[derive(Debug)]
pub struct Masked {
    bytes: Bytes,
}

impl Masked {
    /// The bytes for the client: the server's own unless something was masked.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        self.bytes
    }

    /// Digest and size, for the ledger.
    #[must_use]
    pub fn measured(&self) -> Measured {
        Measured::of(&self.bytes)
    }
}

/// Inspects a message of a server and masks what must not be seen; findings go to `findings` in any case.
///
/// # Errors
/// `answer.refused`.
pub fn answer(
    inspector: &Inspector,
    message: &Message,
    obligations: &Obligations,
    window: Option<&mut Window>,
    findings: &mut Vec<Finding>,
) -> Result<Masked, Refusal> {
    let seen = look(inspector, Direction::Outward, message, obligations, window, findings);
    match (seen.verdict, seen.masked) {
        (Verdict::Pass, _) => Ok(Masked { bytes: message.bytes().clone() }),
        (Verdict::Mask, Some(bytes)) => Ok(Masked { bytes }),
        (Verdict::Mask, None) | (Verdict::Refuse, _) => Err(refused(Code::AnswerRefused, findings)),
    }
}
