//! What the bus means, checked on both transports by the same tests.

use decnet::bus::{Bus, Delivery};
use serde_json::json;

use super::{Server, message, next, settled};

/// Two handles on one bus, and what keeps it alive.
struct Pair {
    a: Bus,
    b: Bus,
    _server: Option<Server>,
}

async fn memory() -> Pair {
    let a = Bus::memory();
    Pair {
        b: a.clone(),
        a,
        _server: None,
    }
}

async fn socket() -> Pair {
    let server = Server::start().await;
    Pair {
        a: server.client(),
        b: server.client(),
        _server: Some(server),
    }
}

macro_rules! on_both {
    ($($name:ident),* $(,)?) => {
        mod in_memory {
            $(#[tokio::test] async fn $name() { super::$name(super::memory().await).await; })*
        }
        mod over_the_socket {
            $(#[tokio::test] async fn $name() { super::$name(super::socket().await).await; })*
        }
    };
}

on_both!(
    everybody_who_asked_gets_it_once_the_publisher_included,
    wildcards_select_topics,
    bad_patterns_are_refused,
    bad_topics_and_large_bodies_go_nowhere,
    a_slow_subscription_loses_its_oldest_and_nobody_else_does,
    a_dropped_subscription_does_not_silence_its_twin,
    the_bus_makes_the_envelope,
    messages_of_one_publisher_keep_their_order,
    the_end_comes_after_what_was_queued_and_publishing_on_is_quiet,
);

async fn everybody_who_asked_gets_it_once_the_publisher_included(pair: Pair) {
    let mut own = pair.a.subscribe(&["x.>", "x.*", "x.y"]).unwrap();
    let mut twin = pair.a.subscribe(&["x.y"]).unwrap();
    let mut other = pair.b.subscribe(&["x.y", "*.y"]).unwrap();
    let mut elsewhere = pair.b.subscribe(&["z.>"]).unwrap();
    settled(&pair.a).await;
    settled(&pair.b).await;
    pair.a.publish("x.y", "first", json!({"n": 1}));
    pair.a.publish("x.y", "second", json!({"n": 2}));
    pair.a.publish("z.end", "", json!(null));
    for inbox in [&mut own, &mut twin, &mut other] {
        assert_eq!(message(inbox).await.kind, "first");
        assert_eq!(message(inbox).await.kind, "second");
    }
    assert_eq!(message(&mut elsewhere).await.topic, "z.end");
}

async fn wildcards_select_topics(pair: Pair) {
    let mut star = pair.b.subscribe(&["system.*.health"]).unwrap();
    let mut tail = pair.b.subscribe(&["system.>"]).unwrap();
    settled(&pair.b).await;
    for topic in [
        "system",
        "system.bus.health",
        "system.a.b.health",
        "systems.bus.health",
    ] {
        pair.a.publish(topic, "", json!({}));
    }
    pair.a.publish("system.end.health", "", json!({}));
    assert_eq!(message(&mut star).await.topic, "system.bus.health");
    assert_eq!(message(&mut star).await.topic, "system.end.health");
    assert_eq!(message(&mut tail).await.topic, "system.bus.health");
    assert_eq!(message(&mut tail).await.topic, "system.a.b.health");
}

async fn bad_patterns_are_refused(pair: Pair) {
    for bad in ["", "a..b", "a.>.b", "a*", "a b", "a.", "é"] {
        let refused = pair
            .a
            .subscribe(&["good.one", bad])
            .unwrap_err()
            .to_string();
        assert!(refused.starts_with("bad bus pattern"), "{bad}: {refused}");
    }
}

async fn bad_topics_and_large_bodies_go_nowhere(pair: Pair) {
    let mut all = pair.b.subscribe(&[">"]).unwrap();
    settled(&pair.b).await;
    settled(&pair.a).await;
    for bad in ["", "a.*", "a.>", "a b", "a..b", "system.bus.dropped"] {
        pair.a.publish(bad, "", json!({}));
    }
    pair.a.publish("big", "", json!("x".repeat(1024 * 1024)));
    pair.a
        .publish("fine", "", json!("x".repeat(1024 * 1024 - 1000)));
    loop {
        let topic = message(&mut all).await.topic;
        if topic != "test.settled" {
            assert_eq!(topic, "fine");
            break;
        }
    }
}

async fn a_slow_subscription_loses_its_oldest_and_nobody_else_does(pair: Pair) {
    const TOTAL: u64 = 6000;
    let mut slow = pair.b.subscribe(&["flood"]).unwrap();
    let mut fast = pair.b.subscribe(&["flood"]).unwrap();
    settled(&pair.b).await;
    settled(&pair.a).await;
    for n in 0..TOTAL {
        pair.a.publish("flood", "", json!(n));
        assert_eq!(message(&mut fast).await.payload, json!(n));
    }
    let Delivery::Dropped(lost) = next(&mut slow).await else {
        panic!("nothing was lost");
    };
    assert!(lost > 0 && lost < TOTAL);
    for n in lost..TOTAL {
        assert_eq!(message(&mut slow).await.payload, json!(n));
    }
}

async fn a_dropped_subscription_does_not_silence_its_twin(pair: Pair) {
    let gone = pair.a.subscribe(&["x.>", "only.mine"]).unwrap();
    let mut stays = pair.a.subscribe(&["x.>"]).unwrap();
    settled(&pair.a).await;
    drop(gone);
    settled(&pair.a).await;
    pair.b.publish("x.y", "", json!(1));
    assert_eq!(message(&mut stays).await.payload, json!(1));
}

async fn the_bus_makes_the_envelope(pair: Pair) {
    let mut inbox = pair.b.subscribe(&["x"]).unwrap();
    settled(&pair.b).await;
    let payload = json!({"text": "naïve \u{1f} \"quoted\"", "n": 1.5, "deep": [[[{}]]]});
    pair.a.publish("x", "ki\"nd", payload.clone());
    pair.a.publish("x", "", json!(null));
    let (first, second) = (message(&mut inbox).await, message(&mut inbox).await);
    assert_eq!((first.v, first.topic.as_str()), (1, "x"));
    assert_eq!((first.kind.as_str(), &first.payload), ("ki\"nd", &payload));
    assert_eq!(first.id.len(), 32);
    assert!(first.id.bytes().all(|b| b.is_ascii_hexdigit()));
    assert_ne!(first.id, second.id);
    let now = decnet::model::Stamp::now().0 as f64 / 1e6;
    assert!((now - first.ts).abs() < 60.0, "{} at {now}", first.ts);
}

async fn messages_of_one_publisher_keep_their_order(pair: Pair) {
    let mut inbox = pair.b.subscribe(&["a", "b.>"]).unwrap();
    settled(&pair.b).await;
    for n in 0..300 {
        pair.a.publish(["a", "b.x", "b.y"][n % 3], "", json!(n));
    }
    for n in 0..300 {
        assert_eq!(message(&mut inbox).await.payload, json!(n));
    }
}

async fn the_end_comes_after_what_was_queued_and_publishing_on_is_quiet(pair: Pair) {
    let mut inbox = pair.a.subscribe(&["x"]).unwrap();
    let mut seen = pair.a.subscribe(&["x"]).unwrap();
    settled(&pair.a).await;
    pair.a.publish("x", "", json!(1));
    message(&mut seen).await;
    pair.a.close().await;
    assert!(!pair.a.is_connected());
    assert_eq!(message(&mut inbox).await.payload, json!(1));
    assert_eq!(super::within("the end", inbox.next()).await, None);
    pair.a.publish("x", "", json!(2));
    let mut late = pair.a.subscribe(&["x"]).unwrap();
    assert_eq!(super::within("the end", late.next()).await, None);
}

#[tokio::test]
async fn what_was_published_just_before_closing_arrives() {
    let server = Server::start().await;
    let listener = server.client();
    let mut inbox = listener.subscribe(&["x"]).unwrap();
    settled(&listener).await;
    let brief = server.client();
    for n in 0..500 {
        brief.publish("x", "", json!(n));
    }
    brief.close().await;
    for n in 0..500 {
        assert_eq!(message(&mut inbox).await.payload, json!(n));
    }
}

#[tokio::test]
async fn what_the_serving_process_publishes_reaches_clients_and_the_other_way_round() {
    let server = Server::start().await;
    let client = server.client();
    let mut outside = client.subscribe(&["system.bus.health"]).unwrap();
    let mut inside = server.bus.subscribe(&["system.bus.control"]).unwrap();
    settled(&client).await;
    server
        .bus
        .publish("system.bus.health", "health", json!({"worker": "bus"}));
    assert_eq!(message(&mut outside).await.payload["worker"], "bus");
    client.publish("system.bus.control", "", json!({"action": "stop"}));
    assert_eq!(message(&mut inside).await.payload["action"], "stop");
}

#[tokio::test]
async fn the_null_bus_takes_everything_and_ends_at_once() {
    let bus = Bus::null();
    bus.publish("x", "", json!({}));
    let mut inbox = bus.subscribe(&["x"]).unwrap();
    assert_eq!(inbox.next().await, None);
    assert!(bus.subscribe(&["a..b"]).is_err());
    assert!(!bus.is_connected());
    assert!(!bus.until_connected().await);
    bus.close().await;
}
