//! The second connection of FTP: a listening socket on the decky's own address that
//! only the control peer may use, one at a time, bounded in time and bytes. A decky
//! never connects out; see [`Channel::Active`].

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rand::RngExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::decoy::artifact;
use crate::decoy::listen::bind_to;

/// How long both servers wait for the client, and for a client that does not listen.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
/// Longest stall of a transfer.
const STALL: Duration = Duration::from_secs(300);
/// Most bytes of one upload that are read.
const MAX_READ: u64 = 1024 * 1024 * 1024;
/// Most bytes of unfinished uploads held by all connections together.
const MAX_IN_FLIGHT: usize = 64 * 1024 * 1024;

/// What the client arranged for the next transfer.
#[derive(Debug)]
pub(super) enum Channel {
    /// Nothing.
    None,
    /// It will connect here.
    Passive(TcpListener),
    /// It says it listens. It waits for ever: the address may be anybody's.
    Active,
}

/// Why there is no data connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoData {
    /// Nothing was arranged.
    NotArranged,
    /// Nobody came, or we never called.
    TimedOut,
    /// Somebody else came.
    Foreign,
    /// The decky stops.
    Stopped,
}

/// Which ports a server hands out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ports {
    /// Any from 1024, by its own choice.
    Own,
    /// The kernel's.
    Kernel,
}

/// Listens for one data connection on `ip`.
pub(super) fn listen(ip: IpAddr, ports: Ports) -> io::Result<(TcpListener, u16)> {
    let listener = match ports {
        Ports::Own => (0..8)
            .find_map(|_| {
                let port = rand::rng().random_range(1024..=u16::MAX);
                bind_to(SocketAddr::new(ip, port)).ok()
            })
            .map_or_else(|| bind_to(SocketAddr::new(ip, 0)), Ok)?,
        Ports::Kernel => bind_to(SocketAddr::new(ip, 0))?,
    };
    let port = listener.local_addr()?.port();
    Ok((listener, port))
}

/// The data connection of `channel`.
pub(super) async fn open(
    channel: Channel,
    peer: IpAddr,
    stop: &CancellationToken,
) -> Result<TcpStream, NoData> {
    let connected = async {
        match channel {
            Channel::None => Err(NoData::NotArranged),
            Channel::Active => {
                tokio::time::sleep(PATIENCE).await;
                Err(NoData::TimedOut)
            }
            Channel::Passive(listener) => {
                let accepted = tokio::time::timeout(PATIENCE, listener.accept()).await;
                match accepted {
                    Ok(Ok((stream, from))) if from.ip().to_canonical() == peer => Ok(stream),
                    Ok(Ok(_)) => Err(NoData::Foreign),
                    Ok(Err(_)) | Err(_) => Err(NoData::TimedOut),
                }
            }
        }
    };
    tokio::select! {
        () = stop.cancelled() => Err(NoData::Stopped),
        connected = connected => connected,
    }
}

/// Sends everything and closes; false when the peer did not take it.
pub(super) async fn send(mut stream: TcpStream, bytes: &[u8], stop: &CancellationToken) -> bool {
    for chunk in bytes.chunks(64 * 1024) {
        let written = tokio::select! {
            () = stop.cancelled() => return false,
            written = tokio::time::timeout(STALL, stream.write_all(chunk)) => written,
        };
        if !matches!(written, Ok(Ok(()))) {
            return false;
        }
    }
    matches!(
        tokio::time::timeout(STALL, stream.shutdown()).await,
        Ok(Ok(()))
    )
}

/// What came over a data connection.
#[derive(Debug, Default)]
pub(super) struct Received {
    /// The first bytes, up to what may be kept.
    pub(super) kept: Vec<u8>,
    /// How many came in all.
    pub(super) total: u64,
    /// Whether the peer ended it properly.
    pub(super) whole: bool,
}

/// Reads until the peer closes. What exceeds the limits is counted and dropped.
pub(super) async fn receive(
    mut stream: TcpStream,
    in_flight: &AtomicUsize,
    stop: &CancellationToken,
) -> Received {
    let mut received = Received::default();
    let mut held = Held {
        in_flight,
        bytes: 0,
        refused: false,
    };
    let mut chunk = vec![0u8; 32 * 1024];
    while received.total < MAX_READ {
        let read = tokio::select! {
            () = stop.cancelled() => return received,
            read = tokio::time::timeout(STALL, stream.read(&mut chunk)) => read,
        };
        match read {
            Ok(Ok(0)) => {
                received.whole = true;
                return received;
            }
            Ok(Ok(count)) => {
                let came = chunk.get(..count).unwrap_or_default();
                let room = artifact::MAX_BYTES.saturating_sub(received.kept.len());
                let keep = came.get(..count.min(room)).unwrap_or_default();
                if held.take(keep.len()) {
                    received.kept.extend_from_slice(keep);
                }
                received.total = received
                    .total
                    .saturating_add(u64::try_from(count).unwrap_or(0));
            }
            Ok(Err(_)) | Err(_) => return received,
        }
    }
    received
}

/// A share of the bytes all uploads may hold; given back when dropped.
struct Held<'a> {
    in_flight: &'a AtomicUsize,
    bytes: usize,
    refused: bool,
}

impl Held<'_> {
    /// Once refused, always refused: what is kept is a prefix.
    fn take(&mut self, bytes: usize) -> bool {
        if self.refused {
            return false;
        }
        let before = self.in_flight.fetch_add(bytes, Ordering::Relaxed);
        if before.saturating_add(bytes) > MAX_IN_FLIGHT {
            self.in_flight.fetch_sub(bytes, Ordering::Relaxed);
            self.refused = true;
            return false;
        }
        self.bytes = self.bytes.saturating_add(bytes);
        true
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.in_flight.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn local() -> IpAddr {
        "127.0.0.1".parse().unwrap()
    }

    #[tokio::test]
    async fn only_the_control_peer_may_connect() {
        let stop = CancellationToken::new();
        for (allowed, outcome) in [
            (local(), None),
            ("127.9.9.9".parse().unwrap(), Some(NoData::Foreign)),
        ] {
            let (listener, port) = listen(local(), Ports::Own).unwrap();
            let client = TcpStream::connect((local(), port)).await.unwrap();
            let opened = open(Channel::Passive(listener), allowed, &stop).await;
            assert_eq!(opened.err(), outcome);
            drop(client);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_active_client_is_never_called() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stop = CancellationToken::new();
        let opened = open(Channel::Active, local(), &stop).await;
        assert_eq!(opened.err(), Some(NoData::TimedOut));
        let called = tokio::time::timeout(Duration::from_secs(1), listener.accept()).await;
        assert!(called.is_err());
    }

    #[tokio::test]
    async fn an_upload_is_counted_whole_and_its_share_given_back() {
        let stop = CancellationToken::new();
        let in_flight = AtomicUsize::new(0);
        let (listener, port) = listen(local(), Ports::Kernel).unwrap();
        let client = tokio::spawn(async move {
            let mut stream = TcpStream::connect((local(), port)).await.unwrap();
            stream.write_all(&vec![7; 100_000]).await.unwrap();
        });
        let stream = open(Channel::Passive(listener), local(), &stop)
            .await
            .unwrap();
        let received = receive(stream, &in_flight, &stop).await;
        client.await.unwrap();
        assert!(received.whole && received.kept.len() == 100_000);
        assert_eq!(in_flight.load(Ordering::Relaxed), 0);
    }
}
