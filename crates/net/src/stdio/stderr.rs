//! A child's standard error, in our log: line by line, escaped, capped. A child may say what it likes there, so what it
//! says can neither fill the disk nor forge a line nor drive a terminal.

use tokio::{
    io::{AsyncRead, AsyncReadExt},
    time::{Duration, Instant, sleep_until},
};

use super::ChildOptions;
use crate::visible::visible;

/// Bytes of one line that are logged.
const LINE_BYTES_MAX: usize = 2_048;

/// Bytes per second that are read and dropped at least. Beyond, and beyond many times the budget, the child has to wait:
/// reading a flood costs us as much as writing it.
const DRAIN_BYTES_PER_S: usize = 4 * 1_048_576;

const WINDOW: Duration = Duration::from_secs(1);

/// Reads until the end of the stream.
pub(super) async fn log(mut source: impl AsyncRead + Unpin, options: ChildOptions) {
    let mut log = Log { options, line: Vec::new(), cut: false, logged: 0, dropped: 0 };
    let mut window_end = Instant::now() + WINDOW;
    let mut read_in_window = 0;
    let mut chunk = vec![0; 8_192];
    loop {
        let read = match source.read(&mut chunk).await {
            Ok(0) | Err(_) => break,
            Ok(read) => read,
        };
        if Instant::now() >= window_end {
            window_end = Instant::now() + WINDOW;
            read_in_window = 0;
            log.new_window();
        }
        read_in_window += read;
        for byte in chunk.iter().take(read) {
            log.push(*byte);
        }
        if read_in_window > DRAIN_BYTES_PER_S.max(log.options.stderr_bytes_per_s) {
            sleep_until(window_end).await;
        }
    }
    log.flush();
    log.new_window();
}

struct Log {
    options: ChildOptions,
    line: Vec<u8>,
    // The current line is longer than what is kept of it.
    cut: bool,
    logged: usize,
    dropped: usize,
}

impl Log {
    fn push(&mut self, byte: u8) {
        match byte {
            b'\n' => self.flush(),
            _ if self.line.len() < LINE_BYTES_MAX => self.line.push(byte),
            _ => {
                self.cut = true;
                self.dropped += 1;
            }
        }
    }

    fn flush(&mut self) {
        let line = std::mem::take(&mut self.line);
        let cut = std::mem::take(&mut self.cut);
        if line.is_empty() {
            return;
        }
        if self.logged + line.len() > self.options.stderr_bytes_per_s {
            self.dropped += line.len();
            return;
        }
        self.logged += line.len();
        let mut text = String::from_utf8_lossy(&line).into_owned();
        if let Some(filter) = &self.options.stderr_filter {
            text = filter(text);
        }
        let text = visible(text.trim_end());
        let mark = if cut { "…" } else { "" };
        tracing::info!(target: "child", server = %self.options.name, "{text}{mark}");
    }

    fn new_window(&mut self) {
        self.logged = 0;
        let dropped = std::mem::take(&mut self.dropped);
        if dropped > 0 {
            tracing::warn!(target: "child", server = %self.options.name, dropped, "standard error exceeds its limit");
        }
    }
}
