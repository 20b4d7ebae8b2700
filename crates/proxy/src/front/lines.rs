//! Lines of standard input, bounded: of a line that is too long only so much is kept as it takes to refuse it.

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// Room made for each read.
const READ_BYTES: usize = 32_768;

/// Lines of a stream. The splitter of `net` is another: there a line that is too long ends the child and a last line
/// without its end is dropped, here both are given out to be refused, so that little but the search is common.
#[derive(Debug)]
pub(super) struct Lines<R> {
    source: R,
    buffer: BytesMut,
    /// Bytes at the start of the buffer that are known to hold no line end.
    searched: usize,
    line_bytes_max: usize,
    /// The start of the line was given out; the rest is not wanted.
    skipping: bool,
    ended: bool,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    pub(super) fn new(source: R, line_bytes_max: usize) -> Self {
        Self { source, buffer: BytesMut::new(), searched: 0, line_bytes_max, skipping: false, ended: false }
    }

    /// The next line that is not blank, without its end; `None` when there are no more. A line beyond the limit is
    /// given out cut off one byte after it. The last line may lack its end: a message that broke off is no JSON, so it
    /// cannot be taken for a whole one. Cancel safe.
    pub(super) async fn next(&mut self) -> Option<Bytes> {
        loop {
            while let Some(line) = self.split() {
                if !line.trim_ascii().is_empty() {
                    return Some(line);
                }
            }
            if self.ended {
                return None;
            }
            self.buffer.reserve(READ_BYTES);
            match self.source.read_buf(&mut self.buffer).await {
                Ok(0) | Err(_) => {
                    self.ended = true;
                    if !std::mem::take(&mut self.skipping) && !self.buffer.is_empty() {
                        self.buffer.extend_from_slice(b"\n");
                    }
                }
                Ok(_) => {}
            }
        }
    }

    fn split(&mut self) -> Option<Bytes> {
        loop {
            let fresh = self.buffer.get(self.searched..).unwrap_or_default();
            let Some(end) = memchr::memchr(b'\n', fresh).map(|at| self.searched + at) else {
                self.searched = self.buffer.len();
                return self.overlong();
            };
            let mut line = self.buffer.split_to(end + 1);
            self.searched = 0;
            if std::mem::take(&mut self.skipping) {
                continue;
            }
            line.truncate(end.min(self.line_bytes_max.saturating_add(1)));
            if line.last() == Some(&b'\r') {
                line.truncate(line.len() - 1);
            }
            return Some(line.freeze());
        }
    }

    fn overlong(&mut self) -> Option<Bytes> {
        if self.skipping {
            self.buffer.clear();
            self.searched = 0;
            return None;
        }
        if self.buffer.len() <= self.line_bytes_max {
            return None;
        }
        let line = self.buffer.split_to(self.line_bytes_max.saturating_add(1)).freeze();
        self.buffer.clear();
        (self.searched, self.skipping) = (0, true);
        Some(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn all(input: &'static [u8], max: usize, chunk: usize) -> Vec<Bytes> {
        let (mut to, from) = tokio::io::duplex(chunk);
        let writing = tokio::spawn(async move {
            use tokio::io::AsyncWriteExt as _;
            to.write_all(input).await.unwrap();
        });
        let (mut lines, mut out) = (Lines::new(from, max), Vec::new());
        while let Some(line) = lines.next().await {
            out.push(line);
        }
        writing.await.unwrap();
        out
    }

    #[tokio::test]
    async fn lines_come_out_whole_however_they_are_cut_and_long_ones_cost_no_more_than_the_limit() {
        for chunk in [1, 2, 3, 7, 64, 4_096] {
            let found = all(b"a\r\n\n \nbb\n0123456789012345\nccccc\nlast", 5, chunk).await;
            assert_eq!(found, ["a", "bb", "012345", "ccccc", "last"], "{chunk}");
            assert_eq!(all(b"0123456789", 5, chunk).await, ["012345"], "{chunk}");
            assert!(all(b"", 5, chunk).await.is_empty());
        }
    }
}
