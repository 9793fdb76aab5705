//! Binds a service and accepts its connections: places per source and in all, back-off
//! when descriptors run out, `connect` and `disconnect` events, panics contained to the
//! connection that caused them.

use std::any::Any;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::decoy::disk::Disk;
use crate::decoy::session::{Parts, Session, Sink};
use crate::decoy::{self, End};
use crate::model::{Listener, Service, Severity};
use crate::persona::Persona;

/// Added to a port below 1024 (or taken) when the real one cannot be had.
pub const OFFSET: u16 = 10_000;
/// Most open connections per service.
const MAX_OPEN: usize = 16_384;
/// Most open connections per service and source address.
const MAX_PER_SOURCE: usize = 12_288;
/// Longest a connection may take to notice that its service ended.
const WIND_DOWN: Duration = Duration::from_secs(2);
/// Connections the kernel may queue.
const BACKLOG: i32 = 1024;

/// Binds `service` on `ip`: its real port, or the real port + [`OFFSET`] when that one
/// is forbidden or taken.
pub fn bind(ip: IpAddr, service: Service) -> (Option<TcpListener>, Listener) {
    let real = SocketAddr::new(ip, service.port());
    let refused = match bind_to(real) {
        Ok(listener) => {
            return (Some(listener), row(service, Some(real), None));
        }
        Err(error) => error,
    };
    let shifted = SocketAddr::new(ip, service.port().saturating_add(OFFSET));
    match bind_to(shifted) {
        Ok(listener) => (
            Some(listener),
            row(
                service,
                Some(shifted),
                Some(format!("port {}: {refused}", real.port())),
            ),
        ),
        Err(error) => (
            None,
            row(
                service,
                None,
                Some(format!(
                    "port {}: {refused}; port {}: {error}",
                    real.port(),
                    shifted.port()
                )),
            ),
        ),
    }
}

fn row(service: Service, addr: Option<SocketAddr>, note: Option<String>) -> Listener {
    Listener {
        service,
        addr,
        note,
    }
}

/// A listening TCP socket on `addr` (port 0 picks one).
///
/// # Errors
/// When the address cannot be bound.
pub fn bind_to(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// What the sessions of one listener are given.
#[derive(Clone, Debug)]
pub struct Host {
    /// Which protocol.
    pub service: Service,
    /// Who the host is.
    pub persona: Arc<Persona>,
    /// Where events go.
    pub sink: Arc<Sink>,
    /// State of the service.
    pub shared: Arc<dyn Any + Send + Sync>,
    /// Files planted on this host.
    pub disk: Arc<Disk>,
    /// Cancelled when the decky or this service stops.
    pub stop: CancellationToken,
}

/// Open connections, in all and per source.
#[derive(Debug, Default)]
struct Places(Mutex<Open>);

#[derive(Debug, Default)]
struct Open {
    total: usize,
    by_source: HashMap<IpAddr, usize>,
}

impl Places {
    fn take(self: &Arc<Self>, source: IpAddr) -> Option<Place> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mine = open.by_source.get(&source).copied().unwrap_or(0);
        if open.total >= MAX_OPEN || mine >= MAX_PER_SOURCE {
            return None;
        }
        open.total = open.total.saturating_add(1);
        open.by_source.insert(source, mine.saturating_add(1));
        Some(Place {
            places: Arc::clone(self),
            source,
        })
    }
}

/// One connection's place; dropping it frees it.
#[derive(Debug)]
struct Place {
    places: Arc<Places>,
    source: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.places.0.lock().unwrap_or_else(PoisonError::into_inner);
        open.total = open.total.saturating_sub(1);
        if let Some(mine) = open.by_source.get_mut(&self.source) {
            *mine = mine.saturating_sub(1);
            if *mine == 0 {
                open.by_source.remove(&self.source);
            }
        }
    }
}

/// Accepts until the host stops, then gives the socket back; connections that are still
/// ending are in `tracker`.
pub async fn accept(listener: TcpListener, host: Host, tracker: TaskTracker) -> TcpListener {
    let places = Arc::new(Places::default());
    loop {
        let accepted = tokio::select! {
            () = host.stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                // No place: the connection is dropped, as a full backlog would.
                if let Some(place) = places.take(peer.ip()) {
                    let host = host.clone();
                    tracker.spawn(async move {
                        connection(stream, peer, host).await;
                        drop(place);
                    });
                }
            }
            Err(error) => {
                // Out of descriptors: the pending connection stays queued.
                tracing::warn!("accepting {}: {error}", host.service);
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    listener
}

async fn connection(stream: TcpStream, peer: SocketAddr, host: Host) {
    // Gone before we looked.
    let Ok(local) = stream.local_addr() else {
        return;
    };
    if let Err(error) = stream.set_nodelay(true) {
        tracing::trace!("nodelay: {error}");
    }
    let service = host.service;
    let mut session = Session::new(
        Box::new(stream),
        Parts {
            service,
            persona: host.persona,
            peer,
            local,
            sink: host.sink,
            shared: host.shared,
            disk: host.disk,
            stop: host.stop,
        },
    );
    serve(service, &mut session).await;
}

/// Serves a session with its opening and closing events.
pub async fn serve(service: Service, session: &mut Session) {
    session.report("connect").emit();
    let stop = session.stop.clone();
    let over = async {
        stop.cancelled().await;
        tokio::time::sleep(WIND_DOWN).await;
    };
    let serving = AssertUnwindSafe(decoy::serve(service, session)).catch_unwind();
    let served = tokio::select! {
        biased;
        served = serving => served,
        () = over => Ok(Err(End::Stopped)),
    };
    let reason = match served {
        Ok(Ok(())) => "closed",
        Ok(Err(End::Protocol(what))) => {
            session
                .report("protocol_error")
                .field("error", what)
                .severity(Severity::Notice)
                .emit();
            "protocol"
        }
        Ok(Err(end)) => end.reason(),
        Err(_) => {
            tracing::error!("{service}: a connection from {} panicked", session.peer);
            "failed"
        }
    };
    session.close().await;
    let (bytes_in, bytes_out) = session.traffic();
    session
        .report("disconnect")
        .field("reason", reason)
        .field("duration_ms", session.age().as_millis().to_string())
        .field("bytes_in", bytes_in.to_string())
        .field("bytes_out", bytes_out.to_string())
        .emit();
}
