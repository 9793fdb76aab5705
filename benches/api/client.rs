//! Connections that ask one thing after the other and keep alive. They do little more
//! than look for the end of each reply, because they share the cores with the server.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Connections at a time.
pub(crate) const CONNECTIONS: usize = 64;
/// How long an answer may take after the time is over.
const PATIENCE: Duration = Duration::from_secs(20);

/// The path of the n-th request.
pub(crate) type Ask = Arc<dyn Fn(u64) -> String + Send + Sync>;

/// What one run saw.
#[derive(Default)]
pub(crate) struct Run {
    /// Microseconds, sorted.
    pub(crate) latencies: Vec<u32>,
    pub(crate) wall: Duration,
    /// Replies that were not 200, and questions never answered.
    pub(crate) errors: u64,
    /// Body of all replies.
    pub(crate) bytes: u64,
}

/// Asks over [`CONNECTIONS`] connections for so long.
pub(crate) async fn run(to: SocketAddr, token: Option<&str>, ask: &Ask, time: Duration) -> Run {
    let began = Instant::now();
    let numbers = Arc::new(AtomicU64::new(0));
    let login = token.map_or_else(String::new, |t| format!("Authorization: Bearer {t}\r\n"));
    let login: Arc<str> = login.into();
    let tasks: Vec<_> = (0..CONNECTIONS)
        .map(|_| {
            let (ask, login, numbers) = (Arc::clone(ask), Arc::clone(&login), Arc::clone(&numbers));
            tokio::spawn(async move {
                let mut run = Run::default();
                let mut connection = Connection::open(to).await;
                while began.elapsed() < time {
                    let path = ask(numbers.fetch_add(1, Ordering::Relaxed));
                    let asked = Instant::now();
                    let limit = time + PATIENCE - began.elapsed().min(time);
                    let reply = tokio::time::timeout(limit, connection.get(&path, &login)).await;
                    let took = u32::try_from(asked.elapsed().as_micros()).unwrap_or(u32::MAX);
                    run.latencies.push(took);
                    match reply {
                        Ok(Ok((200, bytes))) => run.bytes += bytes as u64,
                        Ok(Ok(_)) => run.errors += 1,
                        Ok(Err(_)) | Err(_) => {
                            run.errors += 1;
                            connection = Connection::open(to).await;
                        }
                    }
                }
                run
            })
        })
        .collect();
    let mut all = Run::default();
    for task in tasks {
        let run = task.await.unwrap();
        all.latencies.extend(run.latencies);
        all.errors += run.errors;
        all.bytes += run.bytes;
    }
    all.wall = began.elapsed();
    all.latencies.sort_unstable();
    all
}

struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    async fn open(to: SocketAddr) -> Self {
        let stream = TcpStream::connect(to).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self {
            stream,
            buffer: vec![0; 64 * 1024],
        }
    }

    /// Status and size of the body.
    async fn get(&mut self, path: &str, login: &str) -> std::io::Result<(u16, usize)> {
        let request = format!("GET /api/v1{path} HTTP/1.1\r\nHost: bench\r\n{login}\r\n");
        self.stream.write_all(request.as_bytes()).await?;
        let (mut held, mut head) = (0, None);
        loop {
            if held == self.buffer.len() {
                self.buffer.resize(held * 2, 0);
            }
            match self.stream.read(&mut self.buffer[held..]).await? {
                0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
                size => held += size,
            }
            if head.is_none() {
                head = head_of(&self.buffer[..held]);
            }
            if let Some((status, body, size)) = head
                && held >= body + size
            {
                return Ok((status, size));
            }
        }
    }
}

/// Status, where the body begins, and its size.
fn head_of(bytes: &[u8]) -> Option<(u16, usize, usize)> {
    let end = bytes.windows(4).position(|w| w == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&bytes[..end]).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let size = head.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.parse().unwrap())
    });
    Some((status, end + 4, size.unwrap()))
}
