//! The reconciler against real decky processes on loopback addresses: live changes of
//! one service, deaths of either side, strangers on a control socket, and what is said
//! on the bus while all that happens. Rows are written as `deploy` writes them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use decnet::bus::{Bus, Delivery, Subscription};
use decnet::config::{Config, Sources};
use decnet::db::Db;
use decnet::decoy::control;
use decnet::model::{Decky, DeckyState, Service, Stamp, Wish, topic};
use decnet::persona::{Asked, Persona};
use serde_json::Value;

use crate::support::{command, has_database, settings, wait_for};

pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// A period that no test lives to see: whatever happens, a hint or a death caused it.
pub(crate) const NEVER: u64 = 3600;

/// A layout with a loopback network of its own; its deckies are stopped at the end.
pub(crate) struct Host {
    dir: tempfile::TempDir,
    network: &'static str,
    period: u64,
    bus: bool,
}

/// A process of ours, killed at the end.
pub(crate) struct Process(pub(crate) Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _killed = self.0.kill();
        let _reaped = self.0.wait();
    }
}

impl Host {
    /// Deckies at `network`.1, .2, …
    pub(crate) fn new(network: &'static str, period: u64, bus: bool) -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            network,
            period,
            bus,
        }
    }

    pub(crate) fn ip(&self, n: u8) -> IpAddr {
        format!("{}.{n}", self.network).parse().unwrap()
    }

    pub(crate) fn decky_dir(&self, name: &str) -> PathBuf {
        self.dir.path().join("run/deckies").join(name)
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = command(self.dir.path());
        command
            .env("DECNET_LOCAL_SUBNET", format!("{}.0/24", self.network))
            .env("DECNET_RECONCILE_INTERVAL_SEC", self.period.to_string())
            .env("DECNET_BUS_ENABLED", self.bus.to_string());
        command
    }

    pub(crate) fn config(&self) -> Config {
        let mut sources = Sources::new(settings(self.dir.path()));
        sources.set_flag("DECNET_BUS_ENABLED", self.bus.to_string());
        Config::load(&sources).unwrap()
    }

    pub(crate) async fn db(&self) -> Db {
        Db::open(&self.config().database).await.unwrap()
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let output = self.command().args(arguments).output().unwrap();
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stdout).into_owned(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    }

    fn worker(&self, name: &str) -> Process {
        let mut command = self.command();
        command.arg(name).stderr(Stdio::null());
        Process(command.spawn().unwrap())
    }

    pub(crate) fn reconciler(&self) -> Process {
        self.worker("reconciler")
    }

    /// A running bus and a connection to it.
    async fn bus(&self) -> (Process, Bus) {
        let process = self.worker("bus");
        let bus = Bus::socket(&self.config().bus, "test");
        assert!(bus.until_connected().await);
        (process, bus)
    }

    /// How many turns the reconciler has taken since it started.
    fn passes(&self) -> Option<u64> {
        let text = fs::read(self.dir.path().join("run/pulse/reconciler.json")).ok()?;
        serde_json::from_slice::<Value>(&text).ok()?["passes"].as_u64()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if !has_database(self.dir.path()) {
            return;
        }
        let (code, out, err) = self.run(&["teardown", "--all", "--json", "--timeout", "20"]);
        // A decky left behind would hold its port against the next run.
        assert!(
            code == Some(0) || std::thread::panicking(),
            "teardown: {out}{err}"
        );
    }
}

pub(crate) fn offers(services: &[Service]) -> Wish {
    Wish {
        services: services.to_vec(),
        ..Wish::default()
    }
}

pub(crate) async fn add(host: &Host, db: &Db, n: u8, wish: &Wish) -> String {
    let name = format!("decky-{n:02}");
    let persona = Persona::derive(b"test", &name, &Asked::default(), Stamp::now());
    db.decky_add(&name, host.ip(n), wish, &persona, Stamp::now())
        .await
        .unwrap();
    name
}

async fn decky(db: &Db, name: &str) -> Option<Decky> {
    let rows = db.decky_list().await.unwrap();
    rows.into_iter().map(|r| r.decky).find(|d| d.name == name)
}

async fn change(db: &Db, name: &str, wish: &Wish) {
    let version = decky(db, name).await.unwrap().version;
    db.decky_set_wish(name, version, wish, None, Stamp::now())
        .await
        .unwrap();
}

/// Waits until every row says `running`.
pub(crate) async fn until_running(db: &Db) -> Vec<Decky> {
    until(db, |rows| {
        rows.iter().all(|d| d.state == DeckyState::Running)
    })
    .await
}

async fn until(db: &Db, fine: impl Fn(&[Decky]) -> bool) -> Vec<Decky> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let rows = db.decky_list().await.unwrap();
        let rows: Vec<Decky> = rows.into_iter().map(|r| r.decky).collect();
        if fine(&rows) {
            return rows;
        }
        assert!(Instant::now() < deadline, "still {rows:#?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub(crate) fn open(decky: &Decky, service: Service) -> TcpStream {
    let listener = decky.listeners.iter().find(|l| l.service == service);
    let stream = TcpStream::connect(listener.unwrap().addr.unwrap()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn ping(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.write_all(b"PING\r\n")?;
    let mut reply = [0u8; 7];
    stream.read_exact(&mut reply)?;
    assert_eq!(&reply, b"+PONG\r\n");
    Ok(())
}

pub(crate) async fn pid(host: &Host, name: &str) -> u32 {
    control::status(&host.decky_dir(name)).await.unwrap().pid
}

fn kill(pid: u32) {
    let status = Command::new("kill").args(["-9", &pid.to_string()]).status();
    assert!(status.unwrap().success());
}

#[tokio::test]
async fn one_service_changes_live_and_no_other_connection_notices() {
    let host = Host::new("127.94.1", 1, false);
    let db = host.db().await;
    for n in 1..=3 {
        add(&host, &db, n, &offers(&[Service::Redis, Service::Ftp])).await;
    }
    let _reconciler = host.reconciler();
    let rows = until_running(&db).await;
    let before = pid(&host, "decky-01").await;
    let mut others: Vec<TcpStream> = (0..18)
        .map(|n| open(&rows[1 + n % 2], Service::Redis))
        .collect();
    let mut own: Vec<TcpStream> = (0..2).map(|_| open(&rows[0], Service::Redis)).collect();
    let mut ftp = open(&rows[0], Service::Ftp);
    let mut greeting = [0u8; 64];
    assert!(ftp.read(&mut greeting).unwrap() > 0);
    for stream in others.iter_mut().chain(&mut own) {
        ping(stream).unwrap();
    }

    // Added.
    let wish = offers(&[Service::Redis, Service::Ftp, Service::Http]);
    change(&db, "decky-01", &wish).await;
    let rows = until_running(&db).await;
    drop(open(&rows[0], Service::Http));
    for stream in others.iter_mut().chain(&mut own) {
        ping(stream).unwrap();
    }

    // Configured: that service begins anew on its socket, nothing else.
    let mut wish = wish;
    let settings = BTreeMap::from([("server_header".to_owned(), "nginx".into())]);
    wish.settings.insert(Service::Http, settings);
    let mut http = open(&rows[0], Service::Http);
    change(&db, "decky-01", &wish).await;
    let rows = until_running(&db).await;
    assert_eq!(http.read(&mut [0]).unwrap(), 0, "the old one was closed");
    drop(open(&rows[0], Service::Http));
    for stream in others.iter_mut().chain(&mut own) {
        ping(stream).unwrap();
    }

    // Removed: its connections end, its port is closed.
    let addr = rows[0].listeners[0].addr.unwrap();
    wish.services.retain(|s| *s != Service::Redis);
    change(&db, "decky-01", &wish).await;
    until_running(&db).await;
    for stream in &mut own {
        assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    }
    assert!(TcpStream::connect(addr).is_err());
    for stream in &mut others {
        ping(stream).unwrap();
    }
    ftp.write_all(b"NOOP\r\n").unwrap();
    assert!(ftp.read(&mut greeting).unwrap() > 0, "ftp was not touched");
    assert_eq!(pid(&host, "decky-01").await, before, "never restarted");
}

#[tokio::test]
async fn an_adopted_decky_that_is_killed_is_back_long_before_the_next_period() {
    let host = Host::new("127.94.2", NEVER, false);
    let db = host.db().await;
    let name = add(&host, &db, 1, &offers(&[Service::Redis])).await;
    let first = host.reconciler();
    until_running(&db).await;
    let old = pid(&host, &name).await;
    drop(first);
    let _second = host.reconciler();
    wait_for("the second reconciler's first pass", PATIENCE, || {
        host.passes().filter(|n| *n > 0)
    });
    assert_eq!(pid(&host, &name).await, old, "adopted");
    kill(old);
    let back = until_another(&host, &name, old).await;
    assert!(back < Duration::from_secs(5), "back after {back:?}");
}

#[tokio::test]
async fn what_nobody_wants_is_stopped_and_what_a_missing_file_hides_is_not() {
    let host = Host::new("127.94.3", NEVER, false);
    let db = host.db().await;
    let gone = add(&host, &db, 1, &offers(&[Service::Redis])).await;
    let kept = add(&host, &db, 2, &offers(&[Service::Redis])).await;
    let (code, out, err) = host.run(&["reconciler", "--once"]);
    assert_eq!(
        (code, out.as_str()),
        (Some(0), "inserted=2 deleted=0 state_updated=2\n"),
        "{err}"
    );
    // A row that is no more while its decky runs: an interrupted teardown.
    db.decky_remove(Some(&gone), Stamp::now()).await.unwrap();
    let version = decky(&db, &gone).await.unwrap().version;
    assert!(db.decky_forget(&gone, version, Stamp::now()).await.unwrap());
    let before = pid(&host, &kept).await;
    fs::remove_file(host.decky_dir(&kept).join("decky.json")).unwrap();
    let (code, out, err) = host.run(&["reconciler", "--once"]);
    assert_eq!(
        (code, out.as_str()),
        (Some(0), "inserted=0 deleted=0 state_updated=0\n"),
        "{err}"
    );
    assert!(control::status(&host.decky_dir(&gone)).await.is_none());
    assert_eq!(pid(&host, &kept).await, before);
}

#[tokio::test]
async fn a_converged_fleet_is_silent() {
    let host = Host::new("127.94.4", 1, true);
    let (_bus, bus) = host.bus().await;
    let db = host.db().await;
    for n in 1..=3 {
        add(&host, &db, n, &offers(&[Service::Redis])).await;
    }
    let _reconciler = host.reconciler();
    let before = until_running(&db).await;
    let mut heard = bus.subscribe(&["decky.>", "fleet.>"]).unwrap();
    // A row says that a decky runs a moment before it is announced, once each.
    let mut announced = BTreeSet::new();
    let silence = tokio::time::timeout(Duration::from_millis(3500), async {
        loop {
            match heard.next().await.unwrap() {
                Delivery::Reconnected => {}
                Delivery::Message(message)
                    if message.payload["transition"] == "inserted"
                        && announced.insert(message.topic.clone()) => {}
                said => break said,
            }
        }
    });
    let said = silence.await;
    assert!(said.is_err(), "{said:?}");
    // That was three periods of a reconciler that is awake.
    let old = pid(&host, "decky-01").await;
    kill(old);
    until_another(&host, "decky-01", old).await;
    let after: Vec<Decky> = until_running(&db).await;
    assert_eq!(after, before, "no row was written");
}

/// Waits until the decky `name` answers as another process than `old`.
pub(crate) async fn until_another(host: &Host, name: &str, old: u32) -> Duration {
    let begun = Instant::now();
    loop {
        if let Some(status) = control::status(&host.decky_dir(name)).await
            && status.pid != old
        {
            return begun.elapsed();
        }
        assert!(begun.elapsed() < PATIENCE, "{name} is not back");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The next state message: `(name, transition, previous, state)`.
async fn state(heard: &mut Subscription) -> (String, String, String, String) {
    let next = async {
        loop {
            match heard.next().await.unwrap() {
                Delivery::Message(message) => break message,
                Delivery::Reconnected => {}
                Delivery::Dropped(n) => panic!("{n} messages were dropped"),
            }
        }
    };
    let message = tokio::time::timeout(PATIENCE, next).await.unwrap();
    let payload = &message.payload;
    let word = |key: &str| payload[key].as_str().unwrap().to_owned();
    assert_eq!(word("source"), "fleet");
    let (host, name) = (word("host_uuid"), word("name"));
    assert_eq!(message.topic, format!("decky.{host}:{name}.state"));
    (
        name,
        word("transition"),
        word("previous_state"),
        word("state"),
    )
}

#[tokio::test]
async fn every_change_of_state_is_told_once_with_the_state_before() {
    let host = Host::new("127.94.5", 1, true);
    let (_bus, bus) = host.bus().await;
    let mut heard = bus.subscribe(&["decky.>"]).unwrap();
    let db = host.db().await;
    // Both ports redis could have on .1 are taken.
    let taken = [6379, 16379].map(|port| TcpListener::bind((host.ip(1), port)).unwrap());
    let name = add(&host, &db, 1, &offers(&[Service::Redis, Service::Ftp])).await;
    let _reconciler = host.reconciler();
    let told = |transition: &str, previous: &str, state: &str| {
        (
            name.clone(),
            transition.to_owned(),
            previous.to_owned(),
            state.to_owned(),
        )
    };
    assert_eq!(
        state(&mut heard).await,
        told("inserted", "pending", "degraded")
    );
    let row = decky(&db, &name).await.unwrap();
    assert!(row.last_error.unwrap().starts_with("redis: port 6379"));
    let before = pid(&host, &name).await;
    drop(taken);
    assert_eq!(
        state(&mut heard).await,
        told("state_changed", "degraded", "running")
    );
    assert_eq!(pid(&host, &name).await, before, "mended without a restart");
    change(&db, &name, &offers(&[Service::Ftp])).await;
    bus.publish(topic::FLEET_CHANGED, "test", serde_json::json!({}));
    assert_eq!(
        state(&mut heard).await,
        told("state_changed", "pending", "running")
    );
    db.decky_remove(Some(&name), Stamp::now()).await.unwrap();
    assert_eq!(
        state(&mut heard).await,
        told("deleted", "tearing_down", "removed")
    );
    assert!(
        decky(&db, &name).await.is_none(),
        "the row goes before the message"
    );
}

/// Somebody who took over a decky's directory: a process that has it as an argument (so
/// it counts as the decky) and a socket that answers with `conduct`.
fn stranger(host: &Host, name: &str, conduct: fn(std::os::unix::net::UnixStream)) -> Process {
    let dir = host.decky_dir(name);
    fs::create_dir_all(&dir).unwrap();
    // Lives as long as its standard input, however this test ends.
    let child = Command::new("sh")
        .args(["-c", "read line", dir.to_str().unwrap()])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    fs::write(dir.join("pid"), child.id().to_string()).unwrap();
    let listener = UnixListener::bind(dir.join("control.sock")).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || conduct(stream));
        }
    });
    Process(child)
}

#[tokio::test]
async fn strangers_on_control_sockets_delay_nobody_and_are_replaced() {
    let host = Host::new("127.94.6", NEVER, false);
    let db = host.db().await;
    let mut strangers = Vec::new();
    let conducts: [fn(std::os::unix::net::UnixStream); 4] = [
        // Never answers.
        |stream| {
            std::thread::park_timeout(Duration::from_secs(60));
            drop(stream);
        },
        // Never stops answering: a gigabyte.
        |mut stream| {
            let block = vec![b'a'; 1 << 20];
            for _ in 0..1024 {
                if stream.write_all(&block).is_err() {
                    return;
                }
            }
        },
        // Nonsense.
        |mut stream| {
            let _sent = stream.write_all(b"{\"ok\":{\"pid\":-1,\"listeners\":\"\xff\"}}\n");
        },
        // The right form, but a lie: what it offers lies elsewhere.
        |mut stream| {
            let _sent = stream.write_all(
                b"{\"ok\":{\"config_hash\":\"x\",\"base_hash\":\"x\",\"version\":\"\\u001b[2J\",\"pid\":1,\
                  \"listeners\":[{\"service\":\"redis\",\"addr\":\"8.8.8.8:1\"}]}}\n",
            );
        },
    ];
    for (n, conduct) in (1u8..).zip(conducts) {
        let name = add(&host, &db, n, &offers(&[Service::Redis])).await;
        strangers.push(stranger(&host, &name, conduct));
    }
    add(&host, &db, 5, &offers(&[Service::Redis])).await;
    let begun = Instant::now();
    let _reconciler = host.reconciler();
    until(&db, |rows| rows[4].state == DeckyState::Running).await;
    let quick = begun.elapsed();
    assert!(
        quick < Duration::from_secs(3),
        "the honest one took {quick:?}"
    );
    let rows = until_running(&db).await;
    for decky in &rows {
        ping(&mut open(decky, Service::Redis)).unwrap();
    }
    assert!(begun.elapsed() < PATIENCE);
}
