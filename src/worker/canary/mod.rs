//! The `canary` worker: answers what canary tokens call, and tells who made them call.
//!
//! Two listeners face anybody: a web server ([`mod@http`], [`tls`]) and a name server
//! ([`dns`], [`wire`]). Both do the same: find a token of ours in what is asked
//! ([`known`]), write the use down ([`spool`]), answer like an ordinary server. They never
//! wait for the database. A pass ([`record`]) moves what was written down into the
//! database, has the collector make an event of it, so that whoever did it is an attacker
//! like any other, and tells the bus; when the database or everything else is down, it
//! stays where it is until they are back.

mod accept;
mod dns;
mod http;
mod known;
mod record;
mod reply;
mod request;
mod spool;
mod tls;
mod wire;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use ipnet::IpNet;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::db::Db;
use crate::model::canary::Via;
use crate::model::{Stamp, topic};
use crate::net::file;
use crate::worker::Ctx;
use known::Known;
use record::Recorder;
use spool::Spool;

/// Longest time between two looks at the rows.
const LOOK: Duration = Duration::from_secs(30);
/// Longest wait for the database before the first answer.
const FIRST_LOOK: Duration = Duration::from_secs(3);
/// Longest TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(15);

/// What the listeners share.
#[derive(Debug)]
struct Watch {
    known: Known,
    spool: Spool,
    /// Something was written down.
    news: Notify,
    trusted: Vec<IpNet>,
    /// Of the spool, for messages.
    dir: PathBuf,
}

/// For a socket that cannot say where it is.
const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// The sockets, bound.
struct Sockets {
    http: TcpListener,
    tls: Option<TcpListener>,
    dns: Option<(UdpSocket, TcpListener)>,
}

/// Runs until stopped. While it serves, `canary.addr` in the run directory holds where: one
/// line per listener, `http ADDRESS`, `https ADDRESS`, `dns ADDRESS`.
///
/// # Errors
/// When an address cannot be bound, the certificate cannot be used, or the spool cannot be
/// opened.
pub async fn run(ctx: Ctx) -> anyhow::Result<()> {
    let config = &ctx.config.canary;
    let db = ctx.db()?.clone();
    let dir = ctx.config.paths.canary_spool();
    make_dirs(&ctx)?;
    let spool = Spool::open(&dir).with_context(|| format!("opening {}", dir.display()))?;
    let watch = Arc::new(Watch {
        known: Known::default(),
        spool,
        news: Notify::new(),
        trusted: config.trusted_proxies.clone(),
        dir,
    });
    // Whoever asks first meets what there is; a database that is away is looked at again.
    match tokio::time::timeout(FIRST_LOOK, watch.known.refresh(&db)).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => tracing::warn!("{:#}", anyhow::Error::new(error)),
        Err(_) => {
            tracing::warn!("the tokens are not read yet; every name that could be one counts")
        }
    }
    let sockets = bind(&ctx).await?;
    let words = words(&ctx, &sockets)?;
    let acceptor = match &sockets.tls {
        Some(_) => Some(tls::acceptor(config, &db).await?),
        None => None,
    };
    let tasks = TaskTracker::new();
    let stop = &ctx.stop;
    tasks.spawn(plain(sockets.http, Arc::clone(&watch), stop.clone()));
    if let (Some(listener), Some(acceptor)) = (sockets.tls, acceptor) {
        tasks.spawn(over_tls(
            listener,
            acceptor,
            Arc::clone(&watch),
            stop.clone(),
        ));
    }
    if let (Some((udp, tcp)), Some(name)) = (sockets.dns, &config.dns_zone) {
        let zone = Arc::new(wire::Zone {
            name: name.clone(),
            address: config.dns_address,
            serial: u32::try_from(Stamp::now().0 / 1_000_000).unwrap_or(u32::MAX),
        });
        let shared = Arc::clone(&watch);
        tasks.spawn(dns::udp(udp, Arc::clone(&zone), shared, stop.clone()));
        tasks.spawn(dns::tcp(tcp, zone, Arc::clone(&watch), stop.clone()));
    }
    tasks.close();
    let outcome = passes(&ctx, &db, &watch, &words).await;
    tasks.wait().await;
    // Nobody writes any more: what came last is stored, too.
    if outcome.is_ok() {
        let mut recorder = Recorder::default();
        let last = recorder.pass(&ctx.config, &db, &ctx.bus, &watch.spool, Stamp::now());
        if let Err(error) = last.await {
            tracing::warn!("the last uses wait in the spool for the next start: {error:#}");
        }
    }
    let note = ctx.config.paths.run.join("canary.addr");
    if let Err(error) = std::fs::remove_file(&note)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!("removing {}: {error}", note.display());
    }
    outcome
}

/// Moves what is written down into the database, until stopped.
async fn passes(ctx: &Ctx, db: &Db, watch: &Watch, words: &str) -> anyhow::Result<()> {
    let mut wake = ctx.wake(&[topic::CANARY_CHANGES], LOOK)?;
    let mut recorder = Recorder::default();
    let mut announced = false;
    let mut look = true;
    loop {
        let again = recorder.due();
        tokio::select! {
            why = wake.next() => match why {
                None => return Ok(()),
                Some(_) => look = true,
            },
            () = watch.news.notified() => {}
            () = tokio::time::sleep(again), if recorder.is_waiting() => {}
        }
        let mut outcome = Ok(());
        if look {
            let seen = watch.known.refresh(db).await;
            look = seen.is_err();
            outcome = seen.map(|_| ()).map_err(anyhow::Error::new);
        }
        if outcome.is_ok() {
            let pass = recorder.pass(&ctx.config, db, &ctx.bus, &watch.spool, Stamp::now());
            outcome = pass.await;
        }
        wake.record(&outcome);
        // It can do its work without the database: nothing is lost meanwhile.
        if !announced {
            announced = true;
            ctx.pulse.ready(words);
        }
        ctx.pulse.status(&status(words, &outcome, &watch.spool));
        if outcome.is_err() {
            // Not at once again: every use would be another try.
            tokio::select! {
                () = ctx.stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(Duration::from_secs(2)) => {}
            }
        }
    }
}

fn status(words: &str, outcome: &anyhow::Result<()>, spool: &Spool) -> String {
    let mut text = words.to_owned();
    if outcome.is_err() {
        text.push_str("; uses wait in the spool for the database");
    }
    let (counted, dropped) = spool.losses();
    if counted > 0 {
        text.push_str(&format!("; {counted} uses only counted"));
    }
    if dropped > 0 {
        text.push_str(&format!("; {dropped} bytes dropped from a full spool"));
    }
    text
}

fn make_dirs(ctx: &Ctx) -> anyhow::Result<()> {
    let spool = ctx.config.paths.canary_spool();
    std::fs::create_dir_all(&spool).with_context(|| format!("creating {}", spool.display()))?;
    let parent = ctx.config.paths.state.join("canary");
    for made in [&parent, &spool] {
        file::inherit_owner(made).with_context(|| format!("owner of {}", made.display()))?;
    }
    Ok(())
}

async fn bind(ctx: &Ctx) -> anyhow::Result<Sockets> {
    let config = &ctx.config.canary;
    let tls = match config.tls {
        Some(at) => Some(bind_tcp(at, "DECNET_CANARY_TLS_PORT", false).await?),
        None => None,
    };
    let dns = match config.dns_zone {
        Some(_) => Some(bind_dns(config.dns).await?),
        None => None,
    };
    Ok(Sockets {
        http: bind_tcp(config.http, "DECNET_CANARY_HTTP_PORT", ctx.embedded).await?,
        tls,
        dns,
    })
}

/// `elsewhere`: any port will do when this one is taken, because a trial should not fail for
/// a listener that it may not even use.
async fn bind_tcp(at: SocketAddr, setting: &str, elsewhere: bool) -> anyhow::Result<TcpListener> {
    match TcpListener::bind(at).await {
        Err(error) if elsewhere && error.kind() == std::io::ErrorKind::AddrInUse => {
            tracing::warn!("{at} is taken; {setting} names the port for calls of canary tokens");
            TcpListener::bind(SocketAddr::new(at.ip(), 0)).await
        }
        bound => bound,
    }
    .with_context(|| format!("binding {at}: free the port, or choose another with {setting}"))
}

/// One port for both; the kernel's choice for one may be taken for the other.
async fn bind_dns(at: SocketAddr) -> anyhow::Result<(UdpSocket, TcpListener)> {
    let mut tries = 0;
    loop {
        let tcp = bind_tcp(at, "DECNET_CANARY_DNS_PORT", false).await?;
        let bound = tcp.local_addr().context("reading the bound address")?;
        match UdpSocket::bind(bound).await {
            Ok(udp) => return Ok((udp, tcp)),
            Err(_) if at.port() == 0 && tries < 20 => tries += 1,
            Err(error) => {
                return Err(error).with_context(|| {
                    format!("binding {at} for UDP: free the port, or choose another with DECNET_CANARY_DNS_PORT")
                });
            }
        }
    }
}

/// Says where it serves, in words and in a file.
fn words(ctx: &Ctx, sockets: &Sockets) -> anyhow::Result<String> {
    let mut places = vec![("http", sockets.http.local_addr())];
    places.extend(sockets.tls.iter().map(|tls| ("https", tls.local_addr())));
    places.extend(sockets.dns.iter().map(|(udp, _)| ("dns", udp.local_addr())));
    let mut lines = String::new();
    for (name, address) in places {
        let address = address.context("reading the bound address")?;
        lines.push_str(&format!("{name} {address}\n"));
    }
    let note = ctx.config.paths.run.join("canary.addr");
    if let Err(error) = file::write_volatile(&note, lines.as_bytes(), 0o644) {
        tracing::warn!("writing {}: {error}", note.display());
    }
    let words = format!("answering {}", lines.trim_end().replace('\n', ", "));
    tracing::info!("{words}");
    Ok(words)
}

async fn plain(listener: TcpListener, watch: Arc<Watch>, stop: CancellationToken) {
    accept::run(listener, stop, move |stream, peer| {
        let watch = Arc::clone(&watch);
        async move {
            let local = stream.local_addr().unwrap_or(NOWHERE);
            let ends = http::Ends {
                peer,
                local,
                via: Via::Http,
            };
            http::serve(stream, ends, watch).await;
        }
    })
    .await;
}

async fn over_tls(
    listener: TcpListener,
    acceptor: tokio_rustls::TlsAcceptor,
    watch: Arc<Watch>,
    stop: CancellationToken,
) {
    accept::run(listener, stop, move |stream, peer| {
        let (watch, acceptor) = (Arc::clone(&watch), acceptor.clone());
        async move {
            let local = stream.local_addr().unwrap_or(NOWHERE);
            let ends = http::Ends {
                peer,
                local,
                via: Via::Https,
            };
            let shaking = shake(stream, &acceptor);
            match tokio::time::timeout(HANDSHAKE, shaking).await {
                Ok(Ok(Some(stream))) => http::serve(stream, ends, watch).await,
                Ok(Ok(None)) | Err(_) => {}
                Ok(Err(error)) => tracing::debug!(client.addr = %peer, "TLS: {error}"),
            }
        }
    })
    .await;
}

/// The handshake; `None` when the client speaks plain HTTP and was told so.
async fn shake(
    mut stream: TcpStream,
    acceptor: &tokio_rustls::TlsAcceptor,
) -> std::io::Result<Option<tokio_rustls::server::TlsStream<TcpStream>>> {
    let mut first = [0];
    stream.peek(&mut first).await?;
    if first[0].is_ascii_uppercase() {
        let (bytes, _) = reply::bytes(&reply::Say::NotTls, None, Stamp::now());
        stream.write_all(&bytes).await?;
        http::linger(&mut stream).await;
        return Ok(None);
    }
    acceptor.accept(stream).await.map(Some)
}
