//! Accepting connections: a cap on how many, a deadline for a request's head, and a
//! stop that lets requests finish but waits for nobody.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_service::Service;

use super::auth::Peer;
use super::{Api, jobs, router, tail};
use crate::model::Stamp;

/// Connections at a time; more wait in the kernel's queue.
const CONNECTIONS: usize = 1024;
/// Longest time a client may take to send a request's head, or to think of the next.
const HEAD: Duration = Duration::from_secs(30);
/// A peer that acknowledges nothing for so long is gone.
const UNACKNOWLEDGED: Duration = Duration::from_secs(60);
/// What requests get to finish after the stop; below the workers' grace time.
const GRACE: Duration = Duration::from_secs(5);

/// Serves until the API is stopped.
pub async fn serve(listener: TcpListener, api: Api) {
    let router = router::router(api.clone());
    let stop = api.stop.clone();
    let cut = CancellationToken::new();
    let tasks = TaskTracker::new();
    if let Err(error) = jobs::resume(&api.db, Stamp::now()).await {
        tracing::error!("jobs: {:#}", anyhow::Error::new(error));
    }
    tasks.spawn(jobs::run(api.clone()));
    tasks.spawn(tail::run(api));
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = accept(&listener, &places) => accepted,
        };
        let Some((stream, peer, place)) = accepted else {
            continue;
        };
        let serving = connection(stream, peer, router.clone(), stop.clone());
        let cut = cut.clone();
        tasks.spawn(async move {
            tokio::select! {
                () = serving => {}
                () = cut.cancelled() => {}
            }
            drop(place);
        });
    }
    drop(listener);
    tasks.close();
    if tokio::time::timeout(GRACE, tasks.wait()).await.is_err() {
        tracing::warn!(
            "{} connections did not end in time and are cut",
            tasks.len()
        );
        cut.cancel();
        tasks.wait().await;
    }
}

async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> Option<(TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit)> {
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

async fn connection(stream: TcpStream, peer: SocketAddr, router: Router, stop: CancellationToken) {
    let socket = socket2::SockRef::from(&stream);
    let tuned = socket
        .set_tcp_nodelay(true)
        .and_then(|()| socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED)));
    if let Err(error) = tuned {
        tracing::debug!("tuning a connection: {error}");
    }
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(Peer(peer.ip()));
        router.clone().call(request)
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(serving);
    let outcome = tokio::select! {
        outcome = &mut serving => outcome,
        () = stop.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(client.addr = %peer, "connection ended: {error}");
    }
}
