//! `/stream` over a real connection.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::TestApi;

const PATIENCE: Duration = Duration::from_secs(10);

/// An open stream as a client sees it.
pub(super) struct Client {
    stream: TcpStream,
    pub(super) text: String,
}

impl Client {
    async fn open(address: SocketAddr, token: &str, query: &str, headers: &str) -> Self {
        Self::open_at(address, token, &format!("/stream{query}"), headers).await
    }

    pub(super) async fn open_at(
        address: SocketAddr,
        token: &str,
        path: &str,
        headers: &str,
    ) -> Self {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let head = format!(
            "GET /api/v1{path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n{headers}\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut client = Self {
            stream,
            text: String::new(),
        };
        client.until("\r\n\r\n").await;
        client
    }

    /// Reads until `mark` was received.
    pub(super) async fn until(&mut self, mark: &str) {
        let mut buffer = vec![0; 65536];
        while !self.text.contains(mark) {
            let read = self.stream.read(&mut buffer);
            let n = tokio::time::timeout(PATIENCE, read)
                .await
                .unwrap_or_else(|_| panic!("no {mark:?} in {}", self.text))
                .unwrap();
            assert!(n > 0, "closed before {mark:?}: {}", self.text);
            self.text.push_str(&String::from_utf8_lossy(&buffer[..n]));
        }
    }

    async fn until_closed(&mut self) {
        let mut rest = Vec::new();
        let read = self.stream.read_to_end(&mut rest);
        tokio::time::timeout(PATIENCE, read)
            .await
            .expect("the stream ends")
            .unwrap();
        self.text.push_str(&String::from_utf8_lossy(&rest));
    }

    fn ids(&self) -> Vec<i64> {
        let lines = self.text.lines();
        lines
            .filter_map(|l| l.strip_prefix("id: ")?.parse().ok())
            .collect()
    }
}

#[tokio::test]
async fn events_stream_live_without_a_bus_and_a_reconnect_resumes_after_the_last_id() {
    let api = TestApi::new().await;
    let token = api.viewer().await;
    api.store(0..3).await;
    let (address, _server) = api.serve().await;
    let mut client = Client::open(address, &token, "", "").await;
    assert!(client.text.starts_with("HTTP/1.1 200"), "{}", client.text);
    assert!(client.text.contains("text/event-stream"));
    client.until("retry: ").await;
    api.store(3..6).await;
    client.until("\"eid\":\"e5\"").await;
    assert_eq!(client.ids(), [4, 5, 6], "from now on, each once");
    drop(client);
    api.store(6..8).await;
    let mut again = Client::open(address, &token, "", "Last-Event-ID: 5\r\n").await;
    again.until("\"eid\":\"e7\"").await;
    assert_eq!(again.ids(), [6, 7, 8]);
    api.store(8..9).await;
    again.until("\"eid\":\"e8\"").await;
    assert_eq!(again.ids(), [6, 7, 8, 9]);
}

#[tokio::test]
async fn a_filtered_stream_sends_only_what_matches_live_and_replayed() {
    let api = TestApi::new().await;
    let token = api.viewer().await;
    api.store(0..10).await;
    let (address, _server) = api.serve().await;
    let mut client =
        Client::open(address, &token, "?service=ftp&q=PW", "Last-Event-ID: 4\r\n").await;
    client.until("\"eid\":\"e8\"").await;
    api.store(10..1200).await;
    client.until("\"eid\":\"e1198\"").await;
    let expected: Vec<i64> = (4..1200).filter(|n| n % 2 == 0).map(|n| n + 1).collect();
    assert_eq!(client.ids(), expected);
}

#[tokio::test]
async fn a_client_that_missed_too_much_is_told_what_to_fetch() {
    let api = TestApi::new().await;
    let token = api.viewer().await;
    api.store(0..10_020).await;
    let (address, _server) = api.serve().await;
    let mut client = Client::open(address, &token, "", "Last-Event-ID: 5\r\n").await;
    client.until("\"eid\":\"e10019\"").await;
    assert!(
        client
            .text
            .contains("event: gap\ndata: {\"after\":5,\"before\":21}\n\n")
    );
    let expected: Vec<i64> = (21..=10_020).collect();
    assert_eq!(client.ids(), expected);
}

#[tokio::test]
async fn a_slow_client_gets_everything_in_the_end() {
    let api = TestApi::new().await;
    let token = api.viewer().await;
    let (address, _server) = api.serve().await;
    let mut slow = Client::open(address, &token, "", "").await;
    let mut quick = Client::open(address, &token, "", "").await;
    // Far more than the kernel's buffers and the shared notes hold.
    api.store(0..9000).await;
    quick.until("\"eid\":\"e8999\"").await;
    slow.until("\"eid\":\"e8999\"").await;
    let expected: Vec<i64> = (1..=9000).collect();
    assert_eq!(quick.ids(), expected);
    assert_eq!(slow.ids(), expected);
}

#[tokio::test]
async fn one_stream_too_many_is_refused_with_a_status_and_an_ended_one_makes_room() {
    let api = TestApi::with(&[("DECNET_SSE_MAX_PER_USER", "2")]).await;
    let token = api.viewer().await;
    let other = api.admin().await;
    let (address, _server) = api.serve().await;
    let first = Client::open(address, &token, "", "").await;
    let _second = Client::open(address, &token, "", "").await;
    let mut third = Client::open(address, &token, "", "Connection: close\r\n").await;
    third.until_closed().await;
    assert!(third.text.starts_with("HTTP/1.1 429"), "{}", third.text);
    assert!(third.text.to_lowercase().contains("retry-after: 5"));
    assert!(third.text.contains("too-many-streams"));
    let theirs = Client::open(address, &other, "", "").await;
    assert!(theirs.text.starts_with("HTTP/1.1 200"));
    drop(first);
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let next = Client::open(address, &token, "", "").await;
        if next.text.starts_with("HTTP/1.1 200") {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "{}", next.text);
    }
}

#[tokio::test]
async fn a_bad_resume_id_is_refused() {
    let api = TestApi::new().await;
    let token = api.viewer().await;
    let (address, _server) = api.serve().await;
    let client = Client::open(address, &token, "", "Last-Event-ID: x\r\n").await;
    assert!(client.text.starts_with("HTTP/1.1 400"), "{}", client.text);
}

#[tokio::test]
async fn a_stop_ends_streams_and_idle_connections_promptly() {
    let api = TestApi::new().await;
    let token = api.viewer().await;
    let (address, server) = api.serve().await;
    let mut client = Client::open(address, &token, "", "").await;
    let _idle = TcpStream::connect(address).await.unwrap();
    api.stop.cancel();
    client.until_closed().await;
    assert!(
        client.text.ends_with("0\r\n\r\n"),
        "ended, not cut: {:?}",
        client.text
    );
    tokio::time::timeout(Duration::from_secs(8), server)
        .await
        .expect("the server stops within its grace time")
        .unwrap();
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn the_bus_makes_a_stream_look_at_once() {
    let api = TestApi::new().await;
    let token = api.viewer().await;
    let (address, _server) = api.serve().await;
    let mut client = Client::open(address, &token, "", "").await;
    api.store(0..1).await;
    api.bus
        .publish("system.log", "stored", serde_json::json!({"count": 1}));
    client.until("\"eid\":\"e0\"").await;
    assert_eq!(client.ids(), [1]);
}
