//! Accepting connections from anybody: so many at a time in all and from one address, each
//! for a limited time, and a stop that lets what is under way finish.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Connections at a time; more wait in the kernel's queue.
const CONNECTIONS: usize = 512;
/// Connections at a time from one address; more are closed at once.
const PER_ADDRESS: usize = 32;
/// Longest life of a connection.
const LIFE: Duration = Duration::from_secs(300);
/// What connections get to finish after the stop; below the workers' grace time.
const GRACE: Duration = Duration::from_secs(3);
/// A peer that acknowledges nothing for so long is gone.
const UNACKNOWLEDGED: Duration = Duration::from_secs(30);

/// Counts connections by address.
#[derive(Clone, Debug, Default)]
struct Seats(Arc<Mutex<HashMap<IpAddr, usize>>>);

/// One of an address's connections; gives its seat back when it ends.
#[derive(Debug)]
struct Seat {
    seats: Seats,
    address: IpAddr,
}

impl Seats {
    fn take(&self, address: IpAddr) -> Option<Seat> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = held.entry(address).or_insert(0);
        if *count >= PER_ADDRESS {
            return None;
        }
        *count += 1;
        Some(Seat {
            seats: self.clone(),
            address,
        })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut held = self.seats.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = held.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.address);
            }
        }
    }
}

/// Hands each connection to `serve` until `stop`.
pub(super) async fn run<F, S>(listener: TcpListener, stop: CancellationToken, serve: S)
where
    F: Future<Output = ()> + Send + 'static,
    S: Fn(TcpStream, SocketAddr) -> F,
{
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let seats = Seats::default();
    let tasks = TaskTracker::new();
    let cut = CancellationToken::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = accept(&listener, &places) => accepted,
        };
        let Some((stream, peer, place)) = accepted else {
            continue;
        };
        let Some(seat) = seats.take(peer.ip().to_canonical()) else {
            continue;
        };
        let socket = socket2::SockRef::from(&stream);
        let tuned = socket
            .set_tcp_nodelay(true)
            .and_then(|()| socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED)));
        if let Err(error) = tuned {
            tracing::debug!("tuning a connection: {error}");
        }
        let serving = serve(stream, peer);
        let cut = cut.clone();
        tasks.spawn(async move {
            tokio::select! {
                _ended = tokio::time::timeout(LIFE, serving) => {}
                () = cut.cancelled() => {}
            }
            drop((seat, place));
        });
    }
    drop(listener);
    tasks.close();
    if tokio::time::timeout(GRACE, tasks.wait()).await.is_err() {
        cut.cancel();
        tasks.wait().await;
    }
}

async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, peer)) => Some((stream, peer, place)),
        Err(error) => {
            // Out of descriptors, mostly: trying again at once would only spin.
            tracing::warn!("accepting a connection: {error}");
            tokio::time::sleep(Duration::from_millis(100)).await;
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_gets_its_seats_and_no_more() {
        let seats = Seats::default();
        let address = IpAddr::from([192, 0, 2, 1]);
        let held: Vec<_> = (0..PER_ADDRESS).map(|_| seats.take(address)).collect();
        assert!(held.iter().all(Option::is_some));
        assert!(seats.take(address).is_none());
        assert!(seats.take([192, 0, 2, 2].into()).is_some());
        drop(held);
        assert!(seats.take(address).is_some());
        assert!(seats.0.lock().unwrap().is_empty());
    }
}
