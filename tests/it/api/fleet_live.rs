//! The real program end to end: `decnet up` without deckies, everything else through HTTP,
//! deckies attacked on their ports.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{command, wait_for};

const PATIENCE: Duration = Duration::from_secs(30);

/// All workers in one process, and an administrator's session.
struct Up {
    dir: tempfile::TempDir,
    child: Child,
    address: String,
    token: String,
}

impl Up {
    fn new(subnet: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let child = command(dir.path())
            .args(["up", "--deckies", "0"])
            .env("DECNET_LOCAL_SUBNET", subnet)
            .env("DECNET_RECONCILE_INTERVAL_SEC", "1")
            .env("DECNET_API_PORT", "0")
            .env("DECNET_CANARY_HTTP_PORT", "0")
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let note = dir.path().join("run/api.addr");
        let address = wait_for("address of the API", PATIENCE, || {
            let text = std::fs::read_to_string(&note).ok()?;
            text.ends_with('\n').then(|| text.trim().to_owned())
        });
        let mut up = Self {
            dir,
            child,
            address,
            token: String::new(),
        };
        let password = std::fs::read_to_string(up.dir.path().join("admin-password")).unwrap();
        let login = json!({"username": "admin", "password": password.trim()});
        let (status, body) = up.call("POST", "auth/login", &login);
        assert_eq!(status, 200, "{body}");
        up.token = body["token"].as_str().unwrap().to_owned();
        let change = json!({
            "old_password": password.trim(), "new_password": "For-the-fleet-suite-1",
        });
        let (status, body) = up.call("POST", "auth/change-password", &change);
        assert_eq!(status, 204, "{body}");
        up
    }

    fn call(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let body = body.to_string();
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(
            stream,
            "{method} /api/v1/{path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
             Authorization: Bearer {}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            self.token,
            body.len()
        )
        .unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).unwrap();
        let (head, body) = reply.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, serde_json::from_str(body).unwrap_or(Value::Null))
    }

    /// Sends an order and waits for its job to succeed.
    fn order(&self, method: &str, path: &str, body: &Value) -> Value {
        let (status, accepted) = self.call(method, path, body);
        assert_eq!(status, 202, "{accepted}");
        let path = format!("jobs/{}", accepted["job"]["id"].as_str().unwrap());
        let job = wait_for("end of the job", PATIENCE, || {
            let job = self.call("GET", &path, &Value::Null).1;
            (!job["finished_at"].is_null()).then_some(job)
        });
        assert_eq!(job["status"], "succeeded", "{job}");
        assert_eq!(job["done"], job["total"]);
        job
    }

    fn address_of(&self, decky: &str, service: &str) -> String {
        let (_, decky) = self.call("GET", &format!("deckies/{decky}"), &Value::Null);
        let services = decky["services"].as_array().unwrap();
        let service = services.iter().find(|s| s["name"] == service).unwrap();
        assert_eq!(service["listening"], true, "{decky}");
        service["address"].as_str().unwrap().to_owned()
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        let gone = command(self.dir.path())
            .args(["teardown", "--all", "--timeout", "10"])
            .stdout(Stdio::null())
            .status();
        let _killed = self.child.kill();
        let _reaped = self.child.wait();
        assert!(gone.is_ok_and(|s| s.success()) || std::thread::panicking());
    }
}

fn ping(held: &mut TcpStream) {
    held.write_all(b"PING\r\n").unwrap();
    let mut reply = [0u8; 7];
    held.read_exact(&mut reply).unwrap();
    assert_eq!(&reply, b"+PONG\r\n");
}

#[test]
fn a_decky_is_deployed_changed_live_and_torn_down_through_http() {
    let up = Up::new("127.91.21.0/24");
    let ini = json!({
        "ini_content": "[cache-01]\nservices = redis\n[web-01]\nservices = http\n",
        "replace_fleet": false,
    });
    let job = up.order("POST", "deckies/deploy", &ini);
    assert_eq!(job["total"], 2);
    let mut held = TcpStream::connect(up.address_of("cache-01", "redis")).unwrap();
    held.set_read_timeout(Some(PATIENCE)).unwrap();
    ping(&mut held);
    let ftp = json!({"name": "ftp", "config": {"banner": "ready when you are"}});
    up.order("POST", "deckies/cache-01/services", &ftp);
    let mut greeted = TcpStream::connect(up.address_of("cache-01", "ftp")).unwrap();
    greeted.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut banner = [0u8; 64];
    let n = greeted.read(&mut banner).unwrap();
    let banner = String::from_utf8_lossy(&banner[..n]);
    assert_eq!(banner, "220 ready when you are\r\n");
    ping(&mut held);
    let minutes = json!({"minutes": 0});
    let (status, _) = up.call("PUT", "deckies/cache-01/mutate-interval", &minutes);
    assert_eq!(status, 204);
    up.order("DELETE", "deckies/web-01", &Value::Null);
    ping(&mut held);
    wait_for("hits", PATIENCE, || {
        let (_, decky) = up.call("GET", "deckies/cache-01", &Value::Null);
        (decky["hits_24h"].as_i64()? > 0).then_some(())
    });
    let again = up.order("POST", "deckies/deploy", &ini);
    // The file says redis alone, so the service added by hand goes; web-01 comes back.
    assert_eq!(again["total"], 2);
    ping(&mut held);
}
