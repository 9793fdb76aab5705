//! The name server's sockets: UDP and TCP on one port. What is said is decided in
//! [`super::wire`]; here uses are written down before the answer goes out, and an address
//! that asks too much is told to come back over TCP, or nothing.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio_util::sync::CancellationToken;

use super::known::Look;
use super::wire::{self, Asked, Zone};
use super::{NOWHERE, Watch, accept};
use crate::model::Stamp;
use crate::model::canary::{Hit, Via};

/// Longest wait for a question, or for the next, over TCP.
const PATIENCE: Duration = Duration::from_secs(10);
/// Questions of one connection.
const QUESTIONS: usize = 200;
/// Answers one address gets at once over UDP …
const BURST: f64 = 100.0;
/// … and each second after that.
const PER_SECOND: f64 = 30.0;
/// Addresses that are watched.
const WATCHED: usize = 8192;
/// Longest question taken over UDP.
const QUESTION_MAX: usize = 4096;

/// Answers over UDP until `stop`.
pub(super) async fn udp(
    socket: UdpSocket,
    zone: Arc<Zone>,
    watch: Arc<Watch>,
    stop: CancellationToken,
) {
    let local = socket.local_addr().unwrap_or(NOWHERE);
    let mut limits = Limits::default();
    let mut packet = vec![0; QUESTION_MAX];
    loop {
        let received = tokio::select! {
            () = stop.cancelled() => return,
            received = socket.recv_from(&mut packet) => received,
        };
        let (len, peer) = match received {
            Ok(received) => received,
            Err(error) => {
                // An answer that somebody's host refused comes back here, too.
                tracing::debug!("receiving a question: {error}");
                tokio::time::sleep(Duration::from_millis(1)).await;
                continue;
            }
        };
        let question = packet.get(..len).unwrap_or_default();
        let ends = Ends {
            peer,
            local,
            tcp: false,
        };
        let Some(bytes) = answer(question, &zone, &watch, ends) else {
            continue;
        };
        let bytes = match limits.look(peer.ip(), Instant::now()) {
            Verdict::Answer => Some(bytes),
            Verdict::Shorten => wire::truncated(&bytes),
            Verdict::Drop => None,
        };
        if let Some(bytes) = bytes
            && let Err(error) = socket.try_send_to(&bytes, peer)
        {
            tracing::debug!(client.addr = %peer, "answering a question: {error}");
        }
    }
}

/// Answers over TCP until `stop`.
pub(super) async fn tcp(
    listener: TcpListener,
    zone: Arc<Zone>,
    watch: Arc<Watch>,
    stop: CancellationToken,
) {
    accept::run(listener, stop, move |stream, peer| {
        let (zone, watch) = (Arc::clone(&zone), Arc::clone(&watch));
        async move {
            if let Err(error) = connection(stream, peer, &zone, &watch).await {
                tracing::debug!(client.addr = %peer, "connection ended: {error}");
            }
        }
    })
    .await;
}

async fn connection(
    mut stream: TcpStream,
    peer: SocketAddr,
    zone: &Zone,
    watch: &Watch,
) -> std::io::Result<()> {
    let local = stream.local_addr()?;
    let ends = Ends {
        peer,
        local,
        tcp: true,
    };
    for _ in 0..QUESTIONS {
        let reading = async {
            let len = usize::from(stream.read_u16().await?);
            let mut question = vec![0; len];
            stream.read_exact(&mut question).await?;
            Ok::<_, std::io::Error>(question)
        };
        let question = match tokio::time::timeout(PATIENCE, reading).await {
            Ok(Ok(question)) => question,
            // The usual end.
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(()),
            Ok(Err(error)) => return Err(error),
            Err(_) => return Ok(()),
        };
        let Some(bytes) = answer(&question, zone, watch, ends) else {
            return Ok(());
        };
        let len = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
        let mut framed = len.to_be_bytes().to_vec();
        framed.extend(bytes);
        match tokio::time::timeout(PATIENCE, stream.write_all(&framed)).await {
            Ok(sent) => sent?,
            Err(_) => return Ok(()),
        }
    }
    Ok(())
}

#[derive(Clone, Copy)]
struct Ends {
    peer: SocketAddr,
    local: SocketAddr,
    tcp: bool,
}

/// The answer to a packet, with what it asked for written down.
fn answer(packet: &[u8], zone: &Zone, watch: &Watch, ends: Ends) -> Option<Vec<u8>> {
    let is_token = |slug: &crate::canary::Slug| !matches!(watch.known.look(slug), Look::Unknown);
    let answer = wire::answer(packet, zone, is_token)?;
    if let Some(asked) = answer.asked {
        watch.record(hit(asked, ends));
    }
    Some(answer.bytes)
}

fn hit(asked: Asked, ends: Ends) -> Hit {
    let address = ends.peer.ip().to_canonical();
    let subnet = asked.subnet.map(|net| ("client-subnet".to_owned(), net));
    Hit {
        id: ulid::Ulid::generate().to_string(),
        at: Stamp::now(),
        slug: asked.slug.as_str().to_owned(),
        via: Via::Dns,
        address,
        port: Some(ends.peer.port()),
        local: ends.local,
        tcp: ends.tcp,
        method: asked.kind,
        path: asked.name,
        user_agent: String::new(),
        headers: subnet.into_iter().collect(),
        body: String::new(),
        // Whoever asks a name server asks for somebody else, as a rule.
        resolver: Some(address.to_string()),
        fingerprint: None,
        more: 0,
    }
}

/// What an address gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Answer,
    Shorten,
    Drop,
}

/// How much each address has asked of late.
#[derive(Debug, Default)]
struct Limits {
    buckets: HashMap<IpAddr, (f64, Instant)>,
    turn: bool,
}

impl Limits {
    fn look(&mut self, address: IpAddr, now: Instant) -> Verdict {
        let idle = Duration::from_secs(5);
        if self.buckets.len() >= WATCHED {
            self.buckets
                .retain(|_, (_, at)| now.duration_since(*at) < idle);
            if self.buckets.len() >= WATCHED {
                self.buckets.clear();
            }
        }
        let (left, at) = self.buckets.entry(network(address)).or_insert((BURST, now));
        *left = (*left + now.duration_since(*at).as_secs_f64() * PER_SECOND).min(BURST);
        *at = now;
        if *left >= 1.0 {
            *left -= 1.0;
            return Verdict::Answer;
        }
        self.turn = !self.turn;
        if self.turn {
            Verdict::Shorten
        } else {
            Verdict::Drop
        }
    }
}

/// Whoever has one IPv6 address has a whole network of them.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let high = u128::from(v6) >> 64 << 64;
            IpAddr::V6(high.into())
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_asks_too_much_is_shortened_and_dropped_for_a_while() {
        let mut limits = Limits::default();
        let (address, now) = (IpAddr::from([192, 0, 2, 1]), Instant::now());
        let verdicts: Vec<Verdict> = (0..110).map(|_| limits.look(address, now)).collect();
        let count = |wanted| verdicts.iter().filter(|v| **v == wanted).count();
        assert_eq!(count(Verdict::Answer), 100);
        assert_eq!((count(Verdict::Shorten), count(Verdict::Drop)), (5, 5));
        let other = IpAddr::from([192, 0, 2, 2]);
        assert_eq!(limits.look(other, now), Verdict::Answer);
        let later = now + Duration::from_secs(1);
        assert_eq!(limits.look(address, later), Verdict::Answer);
    }

    #[test]
    fn one_ipv6_network_is_one_asker() {
        let one: IpAddr = "2001:db8::1".parse().unwrap();
        let two: IpAddr = "2001:db8::2:3".parse().unwrap();
        assert_eq!(network(one), network(two));
        let mapped: IpAddr = "::ffff:192.0.2.1".parse().unwrap();
        assert_eq!(network(mapped), IpAddr::from([192, 0, 2, 1]));
    }
}
