//! Bytes on a socket, for what no HTTP library would send.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::Outcome;

/// Most bytes kept of one raw answer.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// One TCP connection under the test's full control.
#[derive(Debug)]
pub struct RawConnection {
    stream: TcpStream,
}

impl RawConnection {
    /// Connects.
    ///
    /// # Errors
    /// Nobody listens there.
    pub async fn open(address: SocketAddr) -> Outcome<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream })
    }

    /// Writes exactly these bytes.
    ///
    /// # Errors
    /// The peer closed the connection.
    pub async fn write(&mut self, bytes: &[u8]) -> Outcome {
        self.stream.write_all(bytes).await?;
        Ok(self.stream.flush().await?)
    }

    /// Writes the bytes one by one with a pause between them.
    ///
    /// # Errors
    /// The peer closed the connection.
    pub async fn write_slowly(&mut self, bytes: &[u8], pause: Duration) -> Outcome {
        for byte in bytes {
            self.write(&[*byte]).await?;
            tokio::time::sleep(pause).await;
        }
        Ok(())
    }

    /// Closes our direction only.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn finish(&mut self) -> Outcome {
        Ok(self.stream.shutdown().await?)
    }

    /// Closes with a reset instead of an orderly end.
    ///
    /// # Errors
    /// The connection is gone.
    pub fn reset(self) -> Outcome {
        self.stream.set_zero_linger()?;
        Ok(())
    }

    /// Reads until `enough` says so, the peer closes, or `patience` is over; returns what came.
    pub async fn read_until(&mut self, patience: Duration, enough: impl Fn(&[u8]) -> bool) -> Vec<u8> {
        let mut answer = Vec::new();
        let reading = async {
            let mut buffer = vec![0; 16 * 1024];
            while !enough(&answer) && answer.len() < ANSWER_BYTES_MAX {
                match self.stream.read(&mut buffer).await {
                    Ok(0) | Err(_) => break,
                    Ok(count) => answer.extend(buffer.iter().take(count)),
                }
            }
        };
        let _over = timeout(patience, reading).await;
        answer
    }

    /// Reads until the peer closes or `patience` is over.
    pub async fn read_to_end(&mut self, patience: Duration) -> Vec<u8> {
        self.read_until(patience, |_| false).await
    }

    /// True when the peer closed within `patience`.
    pub async fn closed_within(&mut self, patience: Duration) -> bool {
        let reading = async {
            let mut buffer = vec![0; 16 * 1024];
            while !matches!(self.stream.read(&mut buffer).await, Ok(0) | Err(_)) {}
        };
        timeout(patience, reading).await.is_ok()
    }
}

/// Opens a connection, writes `bytes`, and returns all that comes until the peer closes or `patience` is over.
///
/// # Errors
/// Nobody listens there, or the peer closed before it took everything.
pub async fn raw_exchange(address: SocketAddr, bytes: &[u8], patience: Duration) -> Outcome<Vec<u8>> {
    let mut connection = RawConnection::open(address).await?;
    connection.write(bytes).await?;
    Ok(connection.read_to_end(patience).await)
}
