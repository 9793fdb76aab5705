//! A Redis server of the persona's release (5.0, 6.0 or 7.0 as Debian, Ubuntu and FreeBSD
//! ship it, 3.0 or 5.0 on Windows), reachable without a password unless the operator set
//! one, with a sandbox store.
//!
//! What an intruder does with such a server works and is recorded: writing files with
//! CONFIG SET dir/dbfilename and SAVE (`file_write`, the would-be file kept), following
//! a rogue master (`rogue_master`, nobody is called), loading modules (`module_load`),
//! scripts (`script`), password guesses (`auth`), and every command (`command`). The
//! store is bounded, lives in memory and is the decky's own; replies, limits and error
//! texts are those of the claimed version.

mod admin;
mod call;
mod client;
mod collection;
mod config;
mod info;
mod keyspace;
mod lua;
mod platform;
mod pubsub;
mod rdb;
mod reply;
mod request;
mod script;
mod seed;
mod state;
mod store;
mod table;
mod text;
mod zset;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use super::{End, Session, Values};
use crate::model::{Credential, Severity, Stamp};
use crate::persona::Persona;
use call::{Conn, Cx, Note};
use reply::Reply;
use request::{Progress, Rules};
use state::{Client, Given, State};

pub use request::{Bad, Request, parse};

/// Unparsed bytes a connection may hold; a few may hold [`LARGE`].
const SMALL: usize = 80 * 1024;
const LARGE: usize = 4 * 1024 * 1024;
/// Connections that may hold a large request or reply at a time.
const LARGE_PLACES: usize = 16;
/// Bytes one reply may carry.
const REPLY_MAX: usize = 8 * 1024 * 1024;
/// Replies to pipelined requests are sent when they grow to this.
const FLUSH: usize = 64 * 1024;
/// Arguments and bytes of each quoted in an event.
const ARGS_SHOWN: usize = 32;
const ARG_SHOWN: usize = 512;

/// State shared by all connections of one decky.
#[derive(Debug)]
pub struct Shared {
    state: Mutex<State>,
    large: Arc<Semaphore>,
}

impl Shared {
    /// A server as the persona's applications left it, with the operator's `settings`.
    #[must_use]
    pub fn new(persona: &Persona, settings: &Values) -> Self {
        let text = |key: &str| settings.get(key).and_then(serde_json::Value::as_str);
        let mut persona = persona.clone();
        if let Some(version) = text("version").filter(|v| !v.is_empty()) {
            version.clone_into(&mut persona.redis_version);
        }
        let given = Given {
            os: text("os_string")
                .filter(|os| !os.is_empty())
                .map(str::to_owned),
            password: text("password").unwrap_or_default().to_owned(),
        };
        Self {
            state: Mutex::new(State::new(Arc::new(persona), given, now())),
            large: Arc::new(Semaphore::new(LARGE_PLACES)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic between two steps leaves the store usable.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn now() -> i64 {
    Stamp::now().0.wrapping_div(1000)
}

/// A registered connection; dropping it takes it off the list.
struct Joined {
    shared: Arc<Shared>,
    conn: Conn,
}

impl Joined {
    fn new(shared: Arc<Shared>, s: &Session) -> Self {
        let kill = CancellationToken::new();
        let mut state = shared.lock();
        let time = now();
        let client = Client {
            addr: s.peer,
            local: s.local,
            born: time,
            last: time,
            name: String::new(),
            command: "NULL",
            db: 0,
            proto: 2,
            flags: "N",
            channels: BTreeSet::new(),
            patterns: BTreeSet::new(),
            queued: -1,
            outbox: None,
            kill: kill.clone(),
        };
        let known = state.version.six() && state.settings.get("requirepass").is_empty();
        let id = state.join(client, time);
        drop(state);
        Self {
            shared,
            conn: Conn {
                id,
                db: 0,
                proto: 2,
                known,
                queue: None,
                watched: Vec::new(),
                channels: BTreeSet::new(),
                patterns: BTreeSet::new(),
                inbox: None,
                kill,
                leave: false,
                mute: false,
            },
        }
    }
}

impl Drop for Joined {
    fn drop(&mut self) {
        self.shared.lock().clients.remove(&self.conn.id);
    }
}

/// Serves one connection.
///
/// # Errors
/// Why it ended.
pub async fn serve(s: &mut Session) -> Result<(), End> {
    let Ok(shared) = Arc::clone(&s.shared).downcast::<Shared>() else {
        return Err(End::Protocol("the shared state is another service's"));
    };
    let mut joined = Joined::new(Arc::clone(&shared), s);
    let conn = &mut joined.conn;
    let mut progress = Progress::default();
    let mut place: Option<OwnedSemaphorePermit> = None;
    s.limits.buffer = SMALL;
    loop {
        answer(s, &shared, conn, &mut progress).await?;
        if conn.leave || conn.kill.is_cancelled() {
            return Ok(());
        }
        if s.buffer().len() >= s.limits.buffer && place.is_none() {
            place = Arc::clone(&shared.large).try_acquire_owned().ok();
            if place.is_some() {
                s.limits.buffer = LARGE;
            }
        } else if s.buffer().is_empty() && place.is_some() {
            place = None;
            s.limits.buffer = SMALL;
        }
        wait(s, conn).await?;
    }
}

/// Waits for bytes of the client; passes on what others publish meanwhile.
async fn wait(s: &mut Session, conn: &mut Conn) -> Result<(), End> {
    loop {
        let message = tokio::select! {
            () = conn.kill.cancelled() => return Ok(()),
            Some(message) = next(&mut conn.inbox) => message,
            filled = s.fill() => return filled.map(|_| ()),
        };
        s.send(&message).await?;
    }
}

async fn next(inbox: &mut Option<mpsc::Receiver<Arc<[u8]>>>) -> Option<Arc<[u8]>> {
    match inbox {
        Some(inbox) => inbox.recv().await,
        None => std::future::pending().await,
    }
}

/// Answers every whole request in the buffer.
async fn answer(
    s: &mut Session,
    shared: &Shared,
    conn: &mut Conn,
    progress: &mut Progress,
) -> Result<(), End> {
    let mut used = 0usize;
    let mut out = Vec::new();
    while !conn.leave {
        let rest = s.buffer().get(used..).unwrap_or_default();
        if rest.is_empty() {
            break;
        }
        match progress.advance(rest, rules(shared, conn)) {
            Ok(None) => break,
            Ok(Some((request, size))) => {
                used = used.saturating_add(size);
                if !request.is_empty() {
                    execute(s, shared, conn, &request, &mut out);
                }
            }
            Err(Bad(text)) => {
                s.report("protocol_error")
                    .field("error", &text)
                    .bytes("data", rest.get(..rest.len().min(256)).unwrap_or_default())
                    .severity(Severity::Notice)
                    .emit();
                Reply::Error(format!("ERR {text}").into()).write(&mut out, conn.proto);
                conn.leave = true;
            }
        }
        if out.len() >= FLUSH {
            s.send(&std::mem::take(&mut out)).await?;
        }
    }
    s.consume(used);
    if !out.is_empty() {
        s.send(&out).await?;
    }
    Ok(())
}

fn rules(shared: &Shared, conn: &Conn) -> Rules {
    // The lock is only taken while a password may be missing.
    let stranger = !conn.known && !shared.lock().settings.get("requirepass").is_empty();
    Rules {
        stranger,
        ..Rules::default()
    }
}

/// Records and runs one request; the reply goes to `out`.
fn execute(s: &Session, shared: &Shared, conn: &mut Conn, request: &[Vec<u8>], out: &mut Vec<u8>) {
    let name = request.first().map(|n| call::lower(n)).unwrap_or_default();
    if name != "auth" {
        report_command(s, request);
    }
    let mut notes = Vec::new();
    let mut room = REPLY_MAX;
    let before = out.len();
    {
        let mut state = shared.lock();
        let mut cx = Cx {
            st: &mut state,
            conn,
            args: request,
            now: now(),
            notes: &mut notes,
            room: &mut room,
        };
        let reply = call::run(&mut cx);
        if let Some(reply) = reply
            && (!cx.conn.mute || matches!(reply, Reply::Raw(_)))
        {
            reply.write(out, cx.conn.proto);
        }
        let queued = cx.conn.queued();
        let (id, db) = (cx.conn.id, cx.conn.db);
        if let Some(client) = state.clients.get_mut(&id) {
            client.db = db;
            client.queued = queued;
        }
        let size = request
            .iter()
            .fold(0usize, |n, a| n.saturating_add(a.len()));
        let wrote = out.len().saturating_sub(before);
        let stats = &mut state.stats;
        let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        stats.input = stats.input.saturating_add(count(size.saturating_add(14)));
        stats.output = stats.output.saturating_add(count(wrote));
    }
    for note in notes {
        report_note(s, note);
    }
}

fn report_command(s: &Session, request: &[Vec<u8>]) {
    let shown: Vec<String> = request
        .iter()
        .take(ARGS_SHOWN)
        .map(|arg| {
            let part = arg.get(..arg.len().min(ARG_SHOWN)).unwrap_or_default();
            String::from_utf8_lossy(part).into_owned()
        })
        .collect();
    let count = request.len();
    s.report("command")
        .field("command", shown.join(" "))
        .field(
            "args",
            json!(shown.get(1..).unwrap_or_default()).to_string(),
        )
        .maybe(
            "args_count",
            (count > ARGS_SHOWN)
                .then(|| count.saturating_sub(1).to_string())
                .as_deref(),
        )
        .emit();
}

fn report_note(s: &Session, note: Note) {
    match note {
        Note::Auth {
            user,
            secret,
            accepted,
        } => {
            let user = user.map(|u| String::from_utf8_lossy(&u).into_owned());
            s.report("auth")
                .credential(&Credential::plaintext(user.as_deref(), &secret))
                .field("outcome", if accepted { "success" } else { "failure" })
                .severity(Severity::Notice)
                .emit();
        }
        Note::Write {
            op,
            path,
            dump,
            payload,
        } => {
            let mut report = s.report("file_write").field("op", op).field("path", &path);
            if !payload.is_empty() {
                report = report.bytes("payload", &payload);
            }
            if let Some(dump) = dump {
                report = report.artifact(&s.keep(&dump));
            }
            report.severity(Severity::Warning).emit();
        }
        Note::RogueMaster { host, port } => s
            .report("rogue_master")
            .field("host", &host)
            .field("port", port.to_string())
            .severity(Severity::Warning)
            .emit(),
        Note::Module { op, path } => s
            .report("module_load")
            .field("op", &op)
            .bytes("path", &path)
            .severity(Severity::Warning)
            .emit(),
        Note::Script { op, body } => {
            let kept = (body.len() > ARG_SHOWN).then(|| s.keep(&body));
            let mut report = s.report("script").field("op", op).bytes("script", &body);
            if let Some(kept) = kept {
                report = report.artifact(&kept);
            }
            report.severity(Severity::Warning).emit();
        }
        Note::Replica { op } => s
            .report("replica")
            .field("op", op)
            .severity(Severity::Warning)
            .emit(),
        Note::Shutdown => s
            .report("shutdown_request")
            .severity(Severity::Warning)
            .emit(),
    }
}
