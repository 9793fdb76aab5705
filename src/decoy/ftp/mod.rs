//! The ftp decoy: the dialogue of vsftpd or of ProFTPD as Debian and Ubuntu package
//! them, replies compared byte for byte with the real programs (`tests/clients/ftp.rs`),
//! of Microsoft FTP Service, of HP JetDirect cards and of Cisco IOS.
//!
//! A client may log in with the one guessable password of the host, or anonymously
//! where the host allows it, and then really lists, fetches and leaves files in a small
//! tree shared by all connections. Passive mode works and admits only the control peer;
//! active mode is answered politely and never connects out, so a decky cannot be made
//! to scan or attack anybody.
//!
//! Events: `user` (username), `auth` (credential, outcome), `command` (command, args;
//! never a password), `download` (path, size), `upload` (path, sha256, size), `port`
//! (target, bounce).
//!
//! Layout: [`request`] cuts bytes into commands, `vsftpd`, `proftpd`, `microsoft` and
//! `plain` answer them, [`tree`] and [`content`] are the files, [`list`] prints them, [`data`] moves them.

mod account;
mod content;
mod data;
mod devices;
mod list;
mod microsoft;
mod plain;
mod planted;
mod proftpd;
pub mod request;
mod tree;
mod vsftpd;

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::RngExt;
use serde_json::Value;
use tokio::net::TcpStream;

use crate::decoy::artifact;
use crate::decoy::disk::Disk;
use crate::decoy::ftp::account::{Accounts, Anonymous, Area, Login};
use crate::decoy::ftp::content::Recipe;
use crate::decoy::ftp::data::{Channel, NoData, Ports, Received};
use crate::decoy::ftp::planted::Planted;
use crate::decoy::ftp::request::{Framing, Line, Request};
use crate::decoy::ftp::tree::{Content, Fault, Kind, Owner, Tree};
use crate::decoy::{End, Session, Values};
use crate::model::{Credential, Severity, Stamp};
use crate::persona::{FtpServer, Persona};

/// Failed logins after which both servers hang up.
const MAX_FAILURES: u8 = 3;

/// State shared by all connections.
#[derive(Debug)]
pub struct Shared {
    persona: Persona,
    accounts: Accounts,
    home: Mutex<Tree>,
    public: Mutex<Tree>,
    recipes: Vec<Recipe>,
    planted: Planted,
    /// Open control connections.
    open: AtomicUsize,
    /// Bytes of unfinished uploads.
    in_flight: AtomicUsize,
    /// Print jobs taken so far.
    jobs: AtomicUsize,
    /// Greeting the operator set.
    banner: Option<String>,
}

impl Shared {
    /// The accounts and files of `persona`, with the operator's `settings`.
    #[must_use]
    pub fn new(persona: &Persona, settings: &Values) -> Self {
        let anonymous = settings.get("anonymous").and_then(Value::as_bool);
        let banner = settings.get("banner").and_then(Value::as_str);
        let accounts = Accounts::new(persona, anonymous);
        let areas = content::furnish(persona, &accounts);
        Self {
            persona: persona.clone(),
            accounts,
            home: Mutex::new(areas.home),
            public: Mutex::new(areas.public),
            recipes: areas.recipes,
            planted: Planted::default(),
            open: AtomicUsize::new(0),
            in_flight: AtomicUsize::new(0),
            jobs: AtomicUsize::new(persona.rng("ftp/jobs").random_range(1_200..48_000)),
            banner: banner.filter(|b| !b.is_empty()).map(str::to_owned),
        }
    }

    /// The name and password that log in: what a brute-forcer finds. For tests.
    #[must_use]
    pub fn planted(&self) -> (&str, &str) {
        (&self.accounts.user, &self.accounts.password)
    }

    /// Whether anonymous users may look, and whether they may leave files. For tests.
    #[must_use]
    pub fn anonymous(&self) -> (bool, bool) {
        let anonymous = self.accounts.anonymous;
        (anonymous != Anonymous::Off, anonymous == Anonymous::Upload)
    }

    /// The bytes of a file as far as they are kept.
    fn bytes(&self, content: &Content, disk: &Disk) -> Arc<Vec<u8>> {
        match content {
            Content::Planted(path) => {
                Arc::new(disk.read(path).map(|file| file.content).unwrap_or_default())
            }
            Content::Kept(bytes) => Arc::clone(bytes),
            Content::Drawn(number) => Arc::new(
                self.recipes
                    .get(*number)
                    .map(|recipe| recipe.render(&self.persona))
                    .unwrap_or_default(),
            ),
        }
    }
}

/// One place among the open control connections.
struct Place<'a>(&'a AtomicUsize);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What to do after a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// The next command.
    Next,
    /// Hang up.
    Close,
}

/// How an upload meets a file that exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Onto {
    /// Replaces it.
    Nothing,
    /// Goes on at its end.
    End,
    /// Overwrites from there.
    Offset(u64),
}

/// One control connection.
struct Conn<'a> {
    s: &'a mut Session,
    shared: Arc<Shared>,
    /// Named with USER, waiting for PASS.
    user: Option<String>,
    login: Option<Login>,
    failures: u8,
    /// Open control connections when this one began, it included.
    clients: usize,
    cwd: String,
    ascii: bool,
    /// From REST.
    rest: u64,
    /// From RANG: how many bytes.
    range: Option<u64>,
    /// From RNFR.
    rename: Option<String>,
    /// From SITE CPFR.
    copy: Option<String>,
    channel: Channel,
    epsv_all: bool,
    umask: u32,
    /// Facts chosen with OPTS MLST.
    facts: Option<Vec<String>>,
    /// Listings in the style of Unix, after SITE DIRSTYLE.
    unix_lists: bool,
    /// Bytes moved over data connections.
    moved: u64,
}

/// Serves one connection.
///
/// # Errors
/// Why it ended.
pub async fn serve(s: &mut Session) -> Result<(), End> {
    let Ok(shared) = Arc::clone(&s.shared).downcast::<Shared>() else {
        return Ok(());
    };
    let keep = Arc::clone(&shared);
    let clients = keep.open.fetch_add(1, Ordering::Relaxed).saturating_add(1);
    let _place = Place(&keep.open);
    let server = s.persona.ftp_server;
    let vsftpd = server == FtpServer::Vsftpd;
    let (framing, greeting) = match server {
        FtpServer::Vsftpd => (vsftpd::FRAMING, vsftpd::greeting(&s.persona)),
        FtpServer::Proftpd => (
            proftpd::framing(&s.persona),
            proftpd::greeting(&s.persona, s.local),
        ),
        FtpServer::Microsoft => (microsoft::FRAMING, microsoft::GREETING.to_owned()),
        FtpServer::Jetdirect | FtpServer::CiscoIos => (plain::FRAMING, plain::greeting(&s.persona)),
    };
    let greeting = match &shared.banner {
        Some(banner) => format!("220 {banner}"),
        None => greeting,
    };
    s.limits.idle = Duration::from_secs(300);
    s.limits.buffer = 16 * 1024;
    let mut conn = Conn {
        s,
        shared,
        user: None,
        login: None,
        failures: 0,
        clients,
        cwd: "/".to_owned(),
        ascii: true,
        rest: 0,
        range: None,
        rename: None,
        copy: None,
        channel: Channel::None,
        epsv_all: false,
        umask: 0o022,
        facts: None,
        unix_lists: false,
        moved: 0,
    };
    conn.reply(&greeting).await?;
    loop {
        let line = match conn.line(framing, vsftpd).await {
            Ok(Some(line)) => line,
            Ok(None) => return conn.reply("500 Input line too long.").await,
            Err(End::Idle) => {
                let farewell = match server {
                    FtpServer::Vsftpd => "421 Timeout.",
                    FtpServer::Proftpd => proftpd::timeout(conn.login.is_some()),
                    FtpServer::Microsoft => microsoft::TIMEOUT,
                    FtpServer::Jetdirect | FtpServer::CiscoIos => plain::timeout(&conn.s.persona),
                };
                conn.reply(farewell).await?;
                return Err(End::Idle);
            }
            Err(end) => return Err(end),
        };
        if vsftpd && line.text.is_empty() {
            continue;
        }
        if !line.refusals.is_empty() {
            conn.s.send(&line.refusals).await?;
        }
        let request = match server {
            FtpServer::Proftpd => proftpd::request(&line.text),
            _ => Request::new(&line.text, |b| b == b' '),
        };
        conn.record(&request);
        let step = match server {
            FtpServer::Vsftpd => Box::pin(vsftpd::answer(&mut conn, &request)).await?,
            FtpServer::Proftpd => Box::pin(proftpd::answer(&mut conn, &request)).await?,
            FtpServer::Microsoft => Box::pin(microsoft::answer(&mut conn, &request)).await?,
            FtpServer::Jetdirect | FtpServer::CiscoIos => {
                Box::pin(plain::answer(&mut conn, &request)).await?
            }
        };
        if step == Step::Close {
            return Ok(());
        }
    }
}

impl Conn<'_> {
    /// The next line; `None` for a line so long that the server hangs up.
    async fn line(&mut self, framing: Framing, fatal: bool) -> Result<Option<Line>, End> {
        loop {
            let parse = |bytes: &[u8]| request::line(bytes, framing);
            if let Ok(line) = self.s.request(parse).await? {
                return Ok(Some(line));
            }
            if fatal {
                return Ok(None);
            }
            loop {
                let (used, ended) = request::skip(self.s.buffer(), framing);
                self.s.consume(used);
                if ended {
                    break;
                }
                self.s.fill().await?;
            }
        }
    }

    async fn reply(&mut self, text: &str) -> Result<(), End> {
        self.s.send(format!("{text}\r\n").as_bytes()).await
    }

    /// Replies and goes on: what nearly every command ends with.
    async fn say(&mut self, text: &str) -> Result<Step, End> {
        self.reply(text).await?;
        Ok(Step::Next)
    }

    /// Records a command; the argument of PASS is in `auth` only.
    fn record(&self, request: &Request) {
        let report = self.s.report("command").field("command", &request.verb);
        match request.verb.as_str() {
            "PASS" => report.emit(),
            _ if request.raw.is_empty() => report.emit(),
            _ => report.bytes("args", &request.raw).emit(),
        }
    }

    /// Remembers who wants to log in.
    fn name(&mut self, name: &str) {
        self.s.report("user").field("username", name).emit();
        self.user = Some(name.to_owned());
    }

    /// Tries `password` for the user named before; records it. A failure takes as long
    /// as PAM makes it, within `pause` (milliseconds).
    async fn log_in(&mut self, password: &[u8], pause: std::ops::Range<u64>) -> bool {
        let name = self.user.take().unwrap_or_default();
        let login = self.shared.accounts.check(&name, password);
        self.s
            .report("auth")
            .credential(&Credential::plaintext(Some(&name), password))
            .field("username", &name)
            .field(
                "outcome",
                if login.is_some() {
                    "success"
                } else {
                    "failure"
                },
            )
            .severity(if login.is_some() {
                Severity::Warning
            } else {
                Severity::Notice
            })
            .emit();
        let accepted = login.is_some();
        self.login = login;
        if !accepted {
            self.failures = self.failures.saturating_add(1);
            if !pause.is_empty() {
                let pause = Duration::from_millis(rand::rng().random_range(pause));
                tokio::time::sleep(pause).await;
            }
        }
        accepted
    }

    fn area(&self) -> Area {
        self.login.as_ref().map_or(Area::Public, |l| l.area)
    }

    fn owner(&self) -> Owner {
        self.login
            .as_ref()
            .map_or(self.shared.accounts.ftp, |l| l.owner)
    }

    fn is_guest(&self) -> bool {
        self.area() == Area::Public
    }

    /// The files of the login. Never held across an await.
    fn tree(&self) -> MutexGuard<'_, Tree> {
        let shared = &self.shared;
        shared.planted.follow(
            &self.s.disk,
            self.s.persona.ftp_server,
            &shared.accounts,
            &shared.home,
            &shared.public,
        );
        let tree = match self.area() {
            Area::Home => &self.shared.home,
            Area::Public => &self.shared.public,
        };
        tree.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn resolve(&self, arg: &str) -> String {
        tree::resolve(&self.cwd, arg)
    }

    /// Goes to `arg` if it is a directory that may be entered.
    fn change_dir(&mut self, arg: &str) -> Result<(), Fault> {
        let path = self.resolve(arg);
        {
            let tree = self.tree();
            let node = tree.get(&path)?;
            if !node.is_dir() {
                return Err(Fault::NotDir);
            }
            if !node.allows(self.owner(), 1) {
                return Err(Fault::Denied);
            }
        }
        self.cwd = path;
        Ok(())
    }

    /// The bytes and the size of a readable file.
    fn open_file(&self, path: &str) -> Result<(Arc<Vec<u8>>, u64), Fault> {
        let tree = self.tree();
        let node = tree.get(path)?;
        let Kind::File { size, content } = &node.kind else {
            return Err(Fault::IsDir);
        };
        if !node.allows(self.owner(), 4) {
            return Err(Fault::Denied);
        }
        Ok((self.shared.bytes(content, &self.s.disk), *size))
    }

    /// The peer's address, IPv4 in its own form.
    fn peer_ip(&self) -> IpAddr {
        self.s.peer.ip().to_canonical()
    }

    /// Listens for a data connection; gives the port.
    fn listen(&mut self, ports: Ports) -> Option<u16> {
        self.channel = Channel::None;
        match data::listen(self.s.local.ip(), ports) {
            Ok((listener, port)) => {
                self.channel = Channel::Passive(listener);
                Some(port)
            }
            Err(error) => {
                tracing::warn!("listening for a data connection: {error}");
                None
            }
        }
    }

    /// `h1,h2,h3,h4,p1,p2` of our end.
    fn pasv_address(&self, port: u16) -> String {
        let octets = match self.s.local.ip().to_canonical() {
            IpAddr::V4(ip) => ip.octets(),
            IpAddr::V6(_) => [0; 4],
        };
        let [a, b, c, d] = octets;
        let [high, low] = port.to_be_bytes();
        format!("{a},{b},{c},{d},{high},{low}")
    }

    /// Records where the client wants us to connect; true when a real server would.
    fn active(&mut self, target: SocketAddr) -> bool {
        self.channel = Channel::None;
        let own = target.ip().to_canonical() == self.peer_ip() && target.port() >= 1024;
        self.s
            .report("port")
            .field("target", target.to_string())
            .field("bounce", if own { "false" } else { "true" })
            .severity(if own {
                Severity::Info
            } else {
                Severity::Warning
            })
            .emit();
        if own {
            self.channel = Channel::Active;
        }
        own
    }

    /// The data connection that was arranged.
    async fn data(&mut self) -> Result<Result<TcpStream, NoData>, End> {
        let channel = std::mem::replace(&mut self.channel, Channel::None);
        match data::open(channel, self.peer_ip(), &self.s.stop).await {
            Err(NoData::Stopped) => Err(End::Stopped),
            other => Ok(other),
        }
    }

    /// Sends `bytes` over a data connection.
    async fn push(&mut self, stream: TcpStream, bytes: &[u8]) -> bool {
        self.moved = self
            .moved
            .saturating_add(u64::try_from(bytes.len()).unwrap_or(0));
        data::send(stream, bytes, &self.s.stop).await
    }

    /// Records a download.
    fn downloaded(&self, path: &str, size: usize, whole: bool) {
        self.s
            .report("download")
            .field("path", path)
            .field("size", size.to_string())
            .field("complete", if whole { "true" } else { "false" })
            .emit();
    }

    /// Takes an upload, keeps it as an artifact and puts it into the tree.
    async fn upload(
        &mut self,
        stream: TcpStream,
        path: &str,
        onto: Onto,
        to_lines: bool,
    ) -> Result<Received, Fault> {
        let mut received = data::receive(stream, &self.shared.in_flight, &self.s.stop).await;
        self.moved = self.moved.saturating_add(received.total);
        let artifact = self.s.keep(&received.kept);
        self.s
            .report("upload")
            .field("path", path)
            .artifact(&artifact)
            .field("received", received.total.to_string())
            .field("complete", if received.whole { "true" } else { "false" })
            .severity(Severity::Warning)
            .emit();
        let mut bytes = std::mem::take(&mut received.kept);
        let mut size = received.total;
        if to_lines {
            let before = bytes.len();
            bytes = without_cr(&bytes);
            let dropped = before.saturating_sub(bytes.len());
            size = size.saturating_sub(u64::try_from(dropped).unwrap_or(0));
        }
        if onto != Onto::Nothing {
            (bytes, size) = self.onto(path, onto, &bytes, size);
        }
        let (owner, mode) = (self.owner(), 0o666 & !self.umask);
        self.tree()
            .write(path, bytes, size, mode, owner, Stamp::now())?;
        Ok(received)
    }

    /// What a file is after `bytes` (of `size`) went onto it.
    fn onto(&self, path: &str, onto: Onto, bytes: &[u8], size: u64) -> (Vec<u8>, u64) {
        let (old, old_size) = {
            let tree = self.tree();
            match tree.get(path).map(|node| &node.kind) {
                Ok(Kind::File { size, content }) => {
                    (self.shared.bytes(content, &self.s.disk), *size)
                }
                _ => (Arc::new(Vec::new()), 0),
            }
        };
        let at = match onto {
            Onto::Nothing => 0,
            Onto::End => old_size,
            Onto::Offset(at) => at,
        };
        let end = at.saturating_add(size).max(old_size);
        let mut whole = old.as_ref().clone();
        let at = usize::try_from(at).unwrap_or(usize::MAX);
        // A hole is zeros; one beyond what is kept is not kept.
        if at <= artifact::MAX_BYTES && u64::try_from(whole.len()).unwrap_or(0) == old_size {
            whole.resize(whole.len().max(at.saturating_add(bytes.len())), 0);
            for (slot, byte) in whole.iter_mut().skip(at).zip(bytes) {
                *slot = *byte;
            }
            whole.truncate(artifact::MAX_BYTES);
        }
        (whole, end)
    }

    /// The number of the next print job.
    fn jobs(&self) -> usize {
        self.shared.jobs.fetch_add(1, Ordering::Relaxed)
    }

    /// Whether this connection has failed to log in too often.
    fn is_out(&self) -> bool {
        self.failures >= MAX_FAILURES
    }
}

/// CR LF becomes LF: an upload in ASCII mode.
fn without_cr(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes.iter().peekable();
    while let Some(byte) = rest.next() {
        if !(*byte == b'\r' && rest.peek() == Some(&&b'\n')) {
            out.push(*byte);
        }
    }
    out
}

/// LF becomes CR LF: a download in ASCII mode.
fn with_cr(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut before = 0;
    for byte in bytes {
        if *byte == b'\n' && before != b'\r' {
            out.push(b'\r');
        }
        out.push(*byte);
        before = *byte;
    }
    out
}

/// An address as a server listening on `::` shows it.
fn mapped(ip: IpAddr) -> String {
    match ip.to_canonical() {
        IpAddr::V4(ip) => format!("::ffff:{ip}"),
        IpAddr::V6(ip) => ip.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_ends_are_converted_both_ways() {
        assert_eq!(with_cr(b"a\nb\r\nc"), b"a\r\nb\r\nc");
        assert_eq!(without_cr(b"a\r\nb\rc\r"), b"a\nb\rc\r");
    }
}
