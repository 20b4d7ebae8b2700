//! Splits a byte stream into lines without copying them, with a limit on each.

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

/// Room made for each read.
const READ_BYTES: usize = 32_768;

/// Why there is no next line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LineError {
    /// The pipe failed.
    Broken,
    /// The line exceeds the limit.
    TooLong,
}

/// Lines of a stream.
#[derive(Debug)]
pub(super) struct Lines<R> {
    source: R,
    buffer: BytesMut,
    // Bytes at the start of the buffer that are known to hold no line end.
    searched: usize,
    line_bytes_max: usize,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    pub(super) fn new(source: R, line_bytes_max: usize) -> Self {
        Self { source, buffer: BytesMut::new(), searched: 0, line_bytes_max }
    }

    /// The next line that is not empty, without its end. Cancel safe. What follows the last line end is no line: a
    /// message that broke off must not be taken for a whole one.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, LineError> {
        loop {
            while let Some(line) = self.split()? {
                if !line.is_empty() {
                    return Ok(Some(line));
                }
            }
            self.buffer.reserve(READ_BYTES);
            match self.source.read_buf(&mut self.buffer).await {
                Ok(0) => return Ok(None),
                Ok(_) => {}
                Err(_error) => return Err(LineError::Broken),
            }
        }
    }

    fn split(&mut self) -> Result<Option<Bytes>, LineError> {
        let fresh = self.buffer.get(self.searched..).unwrap_or_default();
        let Some(end) = memchr::memchr(b'\n', fresh).map(|at| self.searched + at) else {
            self.searched = self.buffer.len();
            return if self.searched > self.line_bytes_max { Err(LineError::TooLong) } else { Ok(None) };
        };
        if end > self.line_bytes_max {
            return Err(LineError::TooLong);
        }
        let mut line = self.buffer.split_to(end + 1);
        self.searched = 0;
        if end > READ_BYTES {
            // What follows shares the memory of the large line, and would keep all of it.
            self.buffer = BytesMut::from(&*self.buffer);
        }
        line.truncate(end);
        if line.last() == Some(&b'\r') {
            line.truncate(end - 1);
        }
        Ok(Some(line.freeze()))
    }
}
