//! Clients of the redis decoy: redis-cli, nmap, and the real server as the oracle.

use std::process::Command;

use decnet::model::Service;

use crate::support::{Decky, output};

#[test]
#[ignore = "needs redis-cli; run by make test-clients"]
fn redis_cli_gets_an_answer_to_ping() {
    let decky = Decky::start(&[Service::Redis], |_| {});
    let addr = decky.addr(Service::Redis);
    let answer = output(
        Command::new("redis-cli")
            .args(["-h", &addr.ip().to_string(), "-p", &addr.port().to_string()])
            .arg("ping"),
    );
    assert_eq!(answer, "PONG\n");
    decky.event("command", &[("command", "ping")]);
}
