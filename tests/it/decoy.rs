//! Every decoy against its transcripts (see `transcript.rs` for the format), over an
//! in-memory connection and the clock stopped: "the server has nothing more to say" is
//! then a fact, not a guess. Each transcript is replayed twice, the second time with
//! the client's bytes one by one; answers and events must be the same.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use decnet::decoy::disk::{Disk, Style};
use decnet::decoy::session::{Parts, Session, Sink};
use decnet::decoy::{self, listen};
use decnet::model::{Event, Service};
use decnet::syslog;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::task::JoinSet;
use tokio::time;
use tokio_util::sync::CancellationToken;

use crate::transcript::{Step, Transcript};

/// A server that said nothing for this long (of stopped clock) has finished its answer.
const QUIET: Duration = Duration::from_secs(20);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Feed {
    Whole,
    ByteByByte,
}

#[test]
fn every_service_has_a_transcript() {
    for service in Service::ALL {
        assert!(!transcripts(*service).is_empty(), "{service} has none");
    }
}

#[tokio::test(start_paused = true)]
async fn redis_transcripts() {
    replay_all(Service::Redis).await;
}

#[tokio::test(start_paused = true)]
async fn http_transcripts() {
    replay_all(Service::Http).await;
}

#[tokio::test(start_paused = true)]
async fn ftp_transcripts() {
    replay_all(Service::Ftp).await;
}

fn transcripts(service: Service) -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/it/transcripts")
        .join(service.slug());
    let mut found: Vec<PathBuf> = std::fs::read_dir(&dir)
        .map(|entries| entries.map(|e| e.unwrap().path()).collect())
        .unwrap_or_default();
    found.retain(|path| path.extension().is_some_and(|e| e == "txt"));
    found.sort();
    found
}

async fn replay_all(service: Service) {
    let mut wrong = Vec::new();
    for path in transcripts(service) {
        let transcript = Transcript::load(service, &path);
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let mut seen = Vec::new();
        for feed in [Feed::Whole, Feed::ByteByByte] {
            match replay(service, &transcript, feed).await {
                Ok(events) => seen.push(events),
                Err(why) => wrong.push(format!("{name}, {feed:?}: {why}")),
            }
        }
        if let [whole, split] = seen.as_slice()
            && whole != split
        {
            let first = whole.iter().zip(split).find(|(a, b)| a != b);
            wrong.push(format!("{name}: events differ when split: {first:#?}"));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n\n"));
}

/// The client's ends of the connections.
struct Client<'a> {
    open: BTreeMap<String, DuplexStream>,
    servers: JoinSet<()>,
    connect: Box<dyn Fn() -> Connected + 'a>,
}

/// A session and the peer's end of its connection.
type Connected = (Session, DuplexStream);

async fn replay(
    service: Service,
    transcript: &Transcript,
    feed: Feed,
) -> Result<Vec<String>, String> {
    let dir = tempfile::tempdir().unwrap();
    let sink = Arc::new(Sink::open(dir.path(), "decky-01", 1 << 30).unwrap());
    let persona = Arc::new(transcript.persona.clone());
    let shared = decoy::shared(service, &persona, &transcript.settings);
    let disk = Arc::new(Disk::open(dir.path(), Style::Posix).unwrap());
    let mut client = Client {
        open: BTreeMap::new(),
        servers: JoinSet::new(),
        connect: Box::new(|| {
            let (near, far) = tokio::io::duplex(1 << 20);
            let parts = Parts {
                service,
                persona: Arc::clone(&persona),
                peer: "203.0.113.9:40000".parse().unwrap(),
                local: format!("192.0.2.10:{}", service.port()).parse().unwrap(),
                sink: Arc::clone(&sink),
                shared: Arc::clone(&shared),
                disk: Arc::clone(&disk),
                stop: CancellationToken::new(),
            };
            (Session::new(Box::new(far), parts), near)
        }),
    };
    let mut current = "1".to_owned();
    for (index, step) in transcript.steps.iter().enumerate() {
        let stream = client.stream(service, &current);
        match step {
            Step::Switch(name) => {
                current.clone_from(name);
                client.stream(service, &current);
            }
            Step::Send(bytes) => send(stream, bytes, feed).await,
            Step::Finish => stream.shutdown().await.unwrap(),
            Step::Expect(pattern, shown) => {
                let (got, _) = read(stream).await;
                if !pattern.is_match(&got) {
                    return Err(format!(
                        "step {index} on {current}\n  wanted {shown}\n  got    {}",
                        show(&got)
                    ));
                }
            }
            Step::Closed => {
                let (got, closed) = read(stream).await;
                if !got.is_empty() || !closed {
                    return Err(format!(
                        "step {index} on {current}: no close, but {:?}",
                        show(&got)
                    ));
                }
            }
        }
    }
    client.hang_up().await?;
    check(transcript, &events(dir.path()))
}

impl Client<'_> {
    /// The connection `name`, opened when new.
    fn stream(&mut self, service: Service, name: &str) -> &mut DuplexStream {
        self.open.entry(name.to_owned()).or_insert_with(|| {
            let (mut session, near) = (self.connect)();
            self.servers
                .spawn(async move { listen::serve(service, &mut session).await });
            near
        })
    }

    /// Closes all; nothing may be left unread.
    async fn hang_up(mut self) -> Result<(), String> {
        for (name, stream) in &mut self.open {
            let (rest, _) = read(stream).await;
            if !rest.is_empty() {
                return Err(format!("unexpected on {name}: {}", show(&rest)));
            }
        }
        self.open.clear();
        while let Some(ended) = self.servers.join_next().await {
            ended.map_err(|e| e.to_string())?;
        }
        Ok(())
    }
}

async fn send(stream: &mut DuplexStream, bytes: &[u8], feed: Feed) {
    let chunk = match feed {
        Feed::Whole => bytes.len().max(1),
        Feed::ByteByByte => 1,
    };
    for chunk in bytes.chunks(chunk) {
        // A server that closed early shows in what it answered.
        if stream.write_all(chunk).await.is_err() {
            return;
        }
        // Lets the server act on what it has; the clock only moves when it waits.
        time::sleep(Duration::from_millis(1)).await;
    }
}

/// What the server says until it is quiet, and whether it closed.
async fn read(stream: &mut DuplexStream) -> (Vec<u8>, bool) {
    let mut got = Vec::new();
    let mut chunk = vec![0u8; 64 * 1024];
    loop {
        match time::timeout(QUIET, stream.read(&mut chunk)).await {
            Err(_) => return (got, false),
            Ok(Ok(0) | Err(_)) => return (got, true),
            Ok(Ok(n)) => got.extend_from_slice(&chunk[..n]),
        }
    }
}

fn events(dir: &Path) -> Vec<Event> {
    let mut found = Vec::new();
    for number in syslog::spool::segments(dir).unwrap() {
        let text = std::fs::read_to_string(syslog::spool::segment_path(dir, number)).unwrap();
        found.extend(text.lines().map(|line| syslog::parse(line).unwrap()));
    }
    found
}

/// Holds the events against the transcript; gives them as text that two replays share.
fn check(transcript: &Transcript, events: &[Event]) -> Result<Vec<String>, String> {
    let list = || {
        let lines: Vec<String> = events
            .iter()
            .map(|e| format!("  {} {:?}", e.kind, e.fields))
            .collect();
        lines.join("\n")
    };
    let mut left = events.iter();
    for wanted in &transcript.wanted {
        if !left.any(|event| wanted.fits(event)) {
            return Err(format!("no event (in order) {}\n{}", wanted.shown, list()));
        }
    }
    for kind in &transcript.unwanted {
        if events.iter().any(|event| event.kind == *kind) {
            return Err(format!("an event {kind}\n{}", list()));
        }
    }
    // Lengths of varying answers, times and drawn challenges differ between replays.
    let varying = ["duration_ms", "bytes_out", "crack"];
    Ok(events
        .iter()
        .map(|event| {
            let fields: Vec<_> = event
                .fields
                .iter()
                .filter(|(key, _)| !varying.contains(&key.as_str()))
                .collect();
            format!("{} {fields:?}", event.kind)
        })
        .collect())
}

fn show(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}
