//! The client's side of a connection that comes and goes.

use std::os::unix::fs::PermissionsExt;

use decnet::bus::{Bus, Delivery, Error, Listener};
use serde_json::json;
use tokio::net::UnixListener;

use super::{Raw, Server, config, message, next, settled, within};

#[tokio::test]
async fn a_restarted_bus_is_found_again_and_every_pattern_asked_for_again() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("bus.sock");
    let server = Server::start_at(&socket).await;
    let client = server.client();
    let mut inbox = client.subscribe(&["a.>", "b"]).unwrap();
    let mut other = client.subscribe(&["c"]).unwrap();
    settled(&client).await;
    server.stop().await;
    assert!(!socket.exists(), "the socket goes with its server");
    within("the client to notice", async {
        while client.is_connected() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    client.publish("b", "", json!("lost"));
    let server = Server::start_at(&socket).await;
    assert_eq!(next(&mut inbox).await, Delivery::Reconnected);
    assert_eq!(next(&mut other).await, Delivery::Reconnected);
    settled(&client).await;
    server.bus.publish("a.x", "", json!(1));
    assert_eq!(message(&mut inbox).await.payload, json!(1));
    client.publish("c", "", json!(2));
    assert_eq!(message(&mut other).await.payload, json!(2));
}

#[tokio::test]
async fn a_client_that_comes_before_the_bus_finds_it() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("bus.sock");
    let client = Bus::socket(&config(&socket), "early");
    let mut inbox = client.subscribe(&["x"]).unwrap();
    assert!(!client.is_connected());
    client.publish("x", "", json!("too early"));
    // The first attempt has to fail before the server comes.
    within("the first attempt", async {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let _server = Server::start_at(&socket).await;
    assert!(within("the connection", client.until_connected()).await);
    assert_eq!(next(&mut inbox).await, Delivery::Reconnected);
    settled(&client).await;
    client.publish("x", "", json!("now"));
    assert_eq!(message(&mut inbox).await.payload, json!("now"));
}

#[tokio::test]
async fn what_is_published_before_the_first_attempt_ended_is_not_lost() {
    let server = Server::start().await;
    let listener = server.client();
    let mut inbox = listener.subscribe(&["x"]).unwrap();
    settled(&listener).await;
    let client = server.client();
    client.publish("x", "", json!("at once"));
    assert_eq!(message(&mut inbox).await.payload, json!("at once"));
}

#[tokio::test]
async fn a_pattern_is_asked_for_once_and_given_up_with_its_last_subscription() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("bus.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let client = Bus::socket(&config(&socket), "counting");
    let (stream, _) = within("the client", listener.accept()).await.unwrap();
    let mut wire = Raw::over(stream);
    assert_eq!(wire.event().await.0, "HELLO counting");
    let first = client.subscribe(&["x.>", "x.>", "y"]).unwrap();
    let second = client.subscribe(&["x.>"]).unwrap();
    assert_eq!(wire.event().await.0, "SUB x.>");
    assert_eq!(wire.event().await.0, "SUB y");
    drop(first);
    assert_eq!(wire.event().await.0, "UNSUB y");
    drop(second);
    assert_eq!(wire.event().await.0, "UNSUB x.>");
    client.publish("z", "k", json!({}));
    assert_eq!(wire.event().await.0, "PUB z");
    drop(client);
    assert_eq!(wire.event().await.0, "BYE");
    wire.closed().await;
}

#[tokio::test]
async fn nonsense_from_a_bus_is_a_reason_to_reconnect() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("bus.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let client = Bus::socket(&config(&socket), "test");
    let mut inbox = client.subscribe(&["x"]).unwrap();
    let (stream, _) = within("the client", listener.accept()).await.unwrap();
    let mut wire = Raw::over(stream);
    wire.frame("WAT", b"").await;
    wire.closed().await;
    let (stream, _) = within("the client again", listener.accept()).await.unwrap();
    let mut wire = Raw::over(stream);
    assert_eq!(next(&mut inbox).await, Delivery::Reconnected);
    // A body that cannot be read is skipped; the connection stays.
    wire.frame("EVT x", b"{").await;
    wire.frame("EVT x", b"{\"payload\":5}").await;
    assert_eq!(message(&mut inbox).await.payload, json!(5));
}

#[tokio::test]
async fn two_servers_never_share_a_socket() {
    let server = Server::start().await;
    let refused = Listener::bind(&config(&server.socket)).await.unwrap_err();
    assert!(matches!(refused, Error::Live { .. }), "{refused}");
    let client = server.client();
    settled(&client).await;
    let mode = std::fs::metadata(&server.socket)
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o660);
}
