//! Clients that break the rules: their connection suffers, nobody else.

use decnet::bus::Delivery;
use serde_json::json;

use super::{PATIENCE, Raw, Server, framed, many_descriptors, message, next, settled, within};

#[tokio::test]
async fn nonsense_costs_the_connection_and_nothing_else() {
    let server = Server::start().await;
    let healthy = server.client();
    let mut inbox = healthy.subscribe(&["ok"]).unwrap();
    settled(&healthy).await;
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("unknown verb", framed("NOPE x", b"")),
        ("empty header", framed("", b"")),
        ("lower case", framed("pub ok", b"{}")),
        ("endless header", vec![b'a'; 8192]),
        (
            "header of 4097",
            framed(&format!("PUB {}", "a".repeat(4092)), b"{}"),
        ),
        (
            "not UTF-8",
            framed("HELLO x", b"").iter().map(|b| b | 0x80).collect(),
        ),
        ("control byte", framed("SUB a\u{1}", b"")),
        ("oversized body", b"PUB ok\n\x00\x10\x00\x01".to_vec()),
        ("huge body", b"PUB ok\n\xff\xff\xff\xff".to_vec()),
        ("EVT", framed("EVT ok", b"{}")),
        ("SUB of nothing", framed("SUB", b"")),
        ("bad pattern", framed("SUB a.>.b", b"")),
        ("bad UNSUB", framed("UNSUB a..b", b"")),
        ("PUB on nothing", framed("PUB", b"{}")),
        ("PUB on a pattern", framed("PUB a.*", b"{}")),
        (
            "PUB as the bus",
            framed("PUB system.bus.dropped", b"{\"payload\":{\"dropped\":9}}"),
        ),
        ("array", framed("PUB ok", b"[\"kind\",{}]")),
        ("half an object", framed("PUB ok", b"{\"payload\":{}")),
        ("not JSON", framed("PUB ok", b"hello")),
        (
            "body not UTF-8",
            framed("PUB ok", b"{\"payload\":\"\xff\"}"),
        ),
        ("type not text", framed("PUB ok", b"{\"type\":1}")),
    ];
    for (n, (what, bytes)) in cases.iter().enumerate() {
        let mut raw = server.raw().await;
        // What came before the nonsense counts.
        raw.frame("PUB ok", format!("{{\"payload\":{n}}}").as_bytes())
            .await;
        // The bus may hang up before it has read everything.
        let _maybe = tokio::io::AsyncWriteExt::write_all(&mut raw.stream, bytes).await;
        eprintln!("{what}");
        raw.closed().await;
        assert_eq!(message(&mut inbox).await.payload, json!(n), "{what}");
    }
    healthy.publish("ok", "", json!("still here"));
    assert_eq!(message(&mut inbox).await.payload, json!("still here"));
}

#[tokio::test]
async fn half_a_frame_and_gone_is_no_harm() {
    let server = Server::start().await;
    let healthy = server.client();
    let mut inbox = healthy.subscribe(&["ok"]).unwrap();
    settled(&healthy).await;
    let whole = framed("PUB ok", b"{\"payload\":1}");
    for cut in 1..whole.len() {
        let mut raw = server.raw().await;
        raw.send(&whole[..cut]).await;
        drop(raw);
    }
    let mut raw = server.raw().await;
    raw.send(&whole).await;
    assert_eq!(message(&mut inbox).await.payload, json!(1));
}

#[tokio::test]
async fn frames_arrive_whole_however_they_are_cut() {
    let server = Server::start().await;
    let mut reader = server.raw().await;
    reader.subscribe("x.>").await;
    let mut raw = server.raw().await;
    let large = format!("{{\"payload\":\"{}\"}}", "y".repeat(300_000));
    let mut bytes = framed("HELLO  slow\r", b"");
    bytes.extend(framed("PUB x.a\r", b""));
    bytes.extend(framed("PUB x.b", large.as_bytes()));
    bytes.extend(framed("PUB x.c", b"{\"type\":\"t\",\"payload\":[1]}"));
    for piece in bytes.chunks(7919) {
        raw.send(piece).await;
        tokio::task::yield_now().await;
    }
    for one in framed("PUB x.d", b"{}") {
        raw.send(&[one]).await;
        tokio::task::yield_now().await;
    }
    let (header, body) = reader.event().await;
    assert_eq!((header.as_str(), &body["payload"]), ("EVT x.a", &json!({})));
    assert_eq!(body["type"], "");
    let (_, body) = reader.event().await;
    assert_eq!(body["payload"].as_str().map(str::len), Some(300_000));
    let (header, body) = reader.event().await;
    assert_eq!(
        (header.as_str(), &body["payload"]),
        ("EVT x.c", &json!([1]))
    );
    assert_eq!(reader.event().await.0, "EVT x.d");
    raw.frame("BYE", b"").await;
    raw.closed().await;
}

#[tokio::test]
async fn a_client_that_never_reads_loses_its_oldest_is_told_and_slows_nobody() {
    const TOTAL: u64 = 30_000;
    let server = Server::start().await;
    let mut stalled = server.raw().await;
    stalled.subscribe("flood").await;
    let reader = server.client();
    let mut healthy = reader.subscribe(&["flood"]).unwrap();
    settled(&reader).await;
    let publisher = server.client();
    settled(&publisher).await;
    let pad = "p".repeat(300);
    let begun = std::time::Instant::now();
    for n in 0..TOTAL {
        publisher.publish("flood", "", json!({"n": n, "pad": pad}));
        assert_eq!(message(&mut healthy).await.payload["n"], json!(n));
    }
    // Ten megabytes past a reader that takes nothing: one stall is waited for, not more.
    assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
    let (mut expected, mut lost) = (0, 0);
    while expected < TOTAL {
        let (header, body) = stalled.event().await;
        if header == "EVT system.bus.dropped" {
            assert_eq!(body["type"], "dropped");
            let count = body["payload"]["dropped"].as_u64().unwrap();
            assert!(count > 0);
            (lost, expected) = (lost + count, expected + count);
        } else {
            assert_eq!(body["payload"]["n"], json!(expected));
            expected += 1;
        }
    }
    assert!(lost > TOTAL / 4, "only {lost} of {TOTAL} were lost");
    // It reads again: it is a subscriber like any other.
    publisher.publish("flood", "", json!({"n": TOTAL}));
    assert_eq!(stalled.event().await.1["payload"]["n"], json!(TOTAL));
}

#[tokio::test]
async fn a_client_that_reads_a_trickle_does_not_set_the_pace() {
    const TOTAL: u64 = 20_000;
    let server = Server::start().await;
    let mut trickle = server.raw().await;
    trickle.subscribe("flood").await;
    // Three quarters of a megabyte per second, in steps too quick to count as a stall: at its pace the
    // flood would take forty seconds.
    let reading = tokio::spawn(async move {
        let mut pace = tokio::time::interval(std::time::Duration::from_millis(16));
        let mut some = vec![0; 12 * 1024];
        loop {
            pace.tick().await;
            tokio::io::AsyncReadExt::read_exact(&mut trickle.stream, &mut some)
                .await
                .unwrap();
        }
    });
    let mut healthy = server.raw().await;
    healthy.subscribe("flood").await;
    let mut publisher = server.raw().await;
    let flood = tokio::spawn(async move {
        let body = format!("{{\"payload\":\"{}\"}}", "p".repeat(1400));
        for _ in 0..TOTAL {
            publisher.frame("PUB flood", body.as_bytes()).await;
        }
        publisher
    });
    within("the whole flood", async {
        for _ in 0..TOTAL {
            assert_eq!(healthy.event().await.0, "EVT flood");
        }
    })
    .await;
    flood.await.unwrap();
    reading.abort();
}

#[tokio::test]
async fn a_flood_to_readers_that_keep_up_loses_nothing() {
    const TOTAL: u64 = 40_000;
    let server = Server::start().await;
    let mut readers = Vec::new();
    for _ in 0..4 {
        let mut raw = server.raw().await;
        raw.subscribe("flood").await;
        readers.push(tokio::spawn(async move {
            for n in 0..TOTAL {
                let (header, body) = raw.event().await;
                assert_eq!(header, "EVT flood");
                assert_eq!(body["payload"], json!(n));
            }
        }));
    }
    let mut publisher = server.raw().await;
    let mut burst = Vec::new();
    for n in 0..TOTAL {
        burst.extend(framed(
            "PUB flood",
            format!("{{\"payload\":{n}}}").as_bytes(),
        ));
        if burst.len() > 100_000 {
            publisher.send(&burst).await;
            burst.clear();
        }
    }
    publisher.send(&burst).await;
    for reader in readers {
        within("all events", reader).await.unwrap();
    }
}

#[tokio::test]
async fn a_thousand_connections_all_hear_one_event() {
    many_descriptors();
    let server = Server::start().await;
    let mut all = Vec::new();
    for n in 0..1000 {
        let mut raw = server.raw().await;
        raw.frame(&format!("HELLO client-{n}"), b"").await;
        raw.subscribe(if n % 2 == 0 { "all.*" } else { "all.>" })
            .await;
        all.push(raw);
    }
    all[0].frame("PUB all.here", b"{\"payload\":7}").await;
    for raw in &mut all {
        assert_eq!(raw.event().await.1["payload"], json!(7));
    }
}

#[tokio::test]
async fn patterns_without_end_are_refused() {
    let server = Server::start().await;
    let mut raw = server.raw().await;
    for n in 0..1024 {
        raw.frame(&format!("SUB p.{n}"), b"").await;
        raw.frame(&format!("SUB p.{n}"), b"").await;
    }
    raw.frame("PUB p.1023", b"{}").await;
    assert_eq!(raw.event().await.0, "EVT p.1023");
    raw.frame("SUB one.more", b"").await;
    raw.closed().await;
}

#[tokio::test(start_paused = true)]
async fn an_unfinished_frame_does_not_wait_for_ever() {
    let server = Server::start().await;
    let mut raw = Raw::connect(&server.socket).await;
    raw.frame("PUB fine", b"{}").await;
    raw.send(b"PUB x\n\0\0\x01\0{").await;
    let begun = tokio::time::Instant::now();
    let mut rest = Vec::new();
    tokio::io::AsyncReadExt::read_to_end(&mut raw.stream, &mut rest)
        .await
        .unwrap();
    assert_eq!(begun.elapsed().as_secs(), 10);
}

#[tokio::test]
async fn a_bus_that_says_it_dropped_something_is_heard_by_every_subscription() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("bus.sock");
    let listener = tokio::net::UnixListener::bind(&socket).unwrap();
    let bus = decnet::bus::Bus::socket(&super::config(&socket), "test");
    let mut one = bus.subscribe(&["a"]).unwrap();
    let mut two = bus.subscribe(&["b.>"]).unwrap();
    let (mut stream, _) = within("the client", listener.accept()).await.unwrap();
    let report = framed("EVT system.bus.dropped", b"{\"payload\":{\"dropped\":12}}");
    tokio::io::AsyncWriteExt::write_all(&mut stream, &report)
        .await
        .unwrap();
    assert_eq!(next(&mut one).await, Delivery::Dropped(12));
    assert_eq!(next(&mut two).await, Delivery::Dropped(12));
}
