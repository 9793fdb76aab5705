//! http decoy: the web server of the persona (nginx, Apache, IIS, lighttpd, HP EmWeb,
//! Cisco IOS) with what such a host serves: a small staff portal, a start page, the
//! pages of a device.
//!
//! One connection is a loop of *read a head, read its body, report, answer*. A head is
//! read ([`request`]) and answered the way the claimed server does it, down to header
//! order and odd corners; [`mod@skin`] is the table of servers, and `tests/clients/http.rs`
//! holds the packaged ones against the real programs. Nothing is ever let in: sign-in
//! forms and areas behind Basic, Digest and NTLM only collect what is tried.
//!
//! Events: `request` for every request, also for the ones nobody could understand;
//! `auth` with the credential, if one came along (a header wins over a form); `upload`
//! for each file of a multipart body and for PUT.

mod apache;
mod apache_file;
mod apache_head;
mod auth;
mod body;
mod cisco;
mod custom;
mod date;
pub(super) mod device;
mod emweb;
mod form;
mod iis;
mod iis_head;
mod iis_pages;
mod lighttpd;
mod lighttpd_head;
mod nginx;
mod nginx_head;
mod ntlm;
mod pages;
mod plain_head;
mod planted;
mod range;
mod reply;
pub mod request;
mod site;
mod skin;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rand::RngExt;

use self::body::{Chunks, Held, Taken};
use self::custom::Custom;
use self::form::Form;
use self::ntlm::{Heard, Response, Talk};
use self::planted::Planted;
use self::reply::{Body, Place, Reply};
use self::request::{Bad, Framing, Head};
use self::site::Site;
use self::skin::{Skin, skin};
use super::{End, Session, Values};
use crate::model::{Credential, Stamp};
use crate::persona::{Persona, WebServer};

/// Most bytes of a body shown in an event; a longer one is kept as an artifact.
const SHOWN: usize = 512;
/// Most bytes of an unfinished head. Apache would take more of them than anybody sends.
const HEAD_MAX: usize = 128 * 1024;
/// A half-read head this long is only looked at again when a line ends.
const EAGER: usize = 8 * 1024;
/// Longest wait for a peer to take notice that the connection ended.
const LINGER: Duration = Duration::from_secs(5);

/// State shared by all connections.
#[derive(Debug)]
pub struct Shared {
    server: WebServer,
    skin: &'static Skin,
    name: String,
    fqdn: String,
    site: Arc<Site>,
    planted: Planted,
    custom: Custom,
    held: Held,
    serial: AtomicU64,
    allow: &'static str,
    signed: bool,
}

impl Shared {
    /// The site of `persona` with the operator's `settings`.
    #[must_use]
    pub fn new(persona: &Persona, settings: &Values) -> Self {
        let custom = Custom::new(settings);
        // A header of another server brings that server's manners along.
        let server = custom.server().unwrap_or(persona.web_server);
        let name = match &custom.header {
            Some(header) => header.clone(),
            None => header(persona),
        };
        let turn = persona
            .rng("http/allow")
            .random_range(0..apache::ALLOW.len());
        Self {
            server,
            skin: skin(server),
            name,
            fqdn: persona.fqdn(),
            site: Arc::new(Site::new(persona, server, &custom)),
            planted: Planted::default(),
            custom,
            held: Held::default(),
            serial: AtomicU64::new(0),
            allow: apache::ALLOW.get(turn).copied().unwrap_or_default(),
            signed: ["Debian", "Ubuntu"].contains(&persona.distro.as_str()),
        }
    }

    /// The static files: path, content, modification time. What a real server must
    /// hold to be compared with this one.
    #[must_use]
    pub fn files(&self) -> Vec<(String, Vec<u8>, Stamp)> {
        let file = |f: &site::File| (f.path.clone(), f.body.clone(), f.modified);
        self.site.files.iter().map(file).collect()
    }

    /// The sign-in page as a first visitor sees it, the page behind Digest, the realm
    /// of `/admin/`, and the path and realm behind Digest.
    #[must_use]
    pub fn pages(&self) -> [String; 5] {
        [
            self.site.login(None),
            self.site.denied(),
            self.site.basic_realm.clone(),
            self.site.digest_path.clone(),
            self.site.digest_realm.clone(),
        ]
    }

    /// The site with what is planted on the host.
    fn site(&self, s: &Session) -> Arc<Site> {
        self.planted.on(&self.site, self.server, &s.disk)
    }

    fn place<'a>(
        &'a self,
        site: &'a Site,
        s: &Session,
        served: u32,
        challenge: Option<&'a str>,
    ) -> Place<'a> {
        Place {
            site,
            server: &self.name,
            fqdn: &self.fqdn,
            local: s.local,
            now: Stamp::now(),
            served,
            serial: self
                .serial
                .fetch_add(1, Ordering::Relaxed)
                .saturating_add(1),
            allow: self.allow,
            signed: self.signed,
            kernel: self.custom.header.as_deref(),
            challenge,
        }
    }

    fn refuse(&self, place: &Place<'_>, bad: &Bad) -> Reply {
        self.custom.adorn((self.skin.refuse)(place, bad))
    }

    fn answer(&self, place: &Place<'_>, head: &Head, tried: Option<&str>) -> Reply {
        self.custom.adorn((self.skin.answer)(place, head, tried))
    }
}

/// The `Server` field of the persona's own server.
fn header(persona: &Persona) -> String {
    let version = &persona.web_version;
    match persona.web_server {
        WebServer::Nginx if persona.distro == "Ubuntu" => format!("nginx/{version} (Ubuntu)"),
        WebServer::Nginx => format!("nginx/{version}"),
        WebServer::Apache => format!("Apache/{version} ({})", persona.distro),
        WebServer::Iis => format!("Microsoft-IIS/{version}"),
        WebServer::Lighttpd => format!("lighttpd/{version}"),
        WebServer::Emweb => pages::emweb_header(persona),
        WebServer::CiscoIos => "cisco-IOS".to_owned(),
    }
}

/// Serves one connection.
///
/// # Errors
/// Why it ended.
pub async fn serve(s: &mut Session) -> Result<(), End> {
    let Ok(shared) = Arc::clone(&s.shared).downcast::<Shared>() else {
        return Err(End::Protocol("state of another service"));
    };
    s.limits.buffer = HEAD_MAX;
    let mut served = 0u32;
    let mut talk = Talk::default();
    loop {
        let head = match read_head(s, &shared, served).await? {
            Ok(head) => head,
            Err(bad) => {
                let reply = shared.refuse(&shared.place(&shared.site, s, served, None), &bad);
                report_bad(s, &bad, &reply);
                s.send(&reply.bytes).await?;
                return linger(s).await;
            }
        };
        if exchange(s, &shared, head, served, &mut talk).await? {
            return linger(s).await;
        }
        served = served.saturating_add(1);
    }
}

/// Waits for one head. Silence ends as the claimed server ends it.
async fn read_head(
    s: &mut Session,
    shared: &Shared,
    served: u32,
) -> Result<Result<Head, Bad>, End> {
    let (first, next) = shared.skin.patience;
    let mut looked = 0usize;
    loop {
        let news = s.buffer().get(looked..).unwrap_or_default();
        let worth = s.buffer().len() <= EAGER || news.contains(&b'\n');
        looked = s.buffer().len();
        if worth && looked > 0 {
            match (shared.skin.parse)(s.buffer()) {
                Ok(Some((head, used))) => {
                    s.consume(used);
                    return Ok(Ok(head));
                }
                Ok(None) => {}
                Err(bad) => return Ok(Err(bad)),
            }
        }
        let silent = s.buffer().is_empty();
        s.limits.idle = Duration::from_secs(if silent && served > 0 { next } else { first });
        match s.fill().await {
            Ok(_) => {}
            // Some say goodbye to who began a head; most just go.
            Err(End::Idle) if shared.skin.farewell && s.buffer().contains(&b'\n') => {
                return Ok(Err(Head::empty().bad(408)));
            }
            Err(End::Limit) if s.buffer().len() >= HEAD_MAX => {
                return Ok(Err(Bad {
                    why: request::Why::FieldSize,
                    ..Head::empty().bad(400)
                }));
            }
            Err(end) => return Err(end),
        }
    }
}

/// One request from its head to its answer; gives whether the connection ends.
async fn exchange(
    s: &mut Session,
    shared: &Shared,
    head: Head,
    served: u32,
    talk: &mut Talk,
) -> Result<bool, End> {
    // Other servers have no handshake: there the field stays what it is.
    let heard = (shared.server == WebServer::Iis)
        .then(|| talk.hear(&head, &s.persona, Stamp::now()))
        .flatten();
    let (challenge, proof) = match heard {
        Some(Heard::Question(challenge)) => (Some(challenge), None),
        Some(Heard::Answer(credential, response)) => (None, Some((credential, response))),
        None => (None, None),
    };
    let skin = shared.skin;
    let site = shared.site(s);
    let place = shared.place(&site, s, served, challenge.as_deref());
    let when = (skin.body)(&place, &head);
    let mut taken = shared.held.start();
    let mut early = None;
    match when {
        Body::Refused => early = Some(shared.custom.adorn((skin.large_body)(&place, &head))),
        // What is already here can be looked at first: nobody can tell.
        Body::After if !is_here(s, head.framing) => {
            early = Some(shared.answer(&place, &head, None))
        }
        Body::First(true) if skin.prompt && is_here(s, head.framing) => {}
        Body::First(true) => s.send(b"HTTP/1.1 100 Continue\r\n\r\n").await?,
        Body::After | Body::First(false) => {}
    }
    if let Some(reply) = &early {
        s.send(&reply.bytes).await?;
        if reply.close && skin.prompt {
            s.close().await;
        }
    }
    let (wanted, thrown) = skin.body_patience;
    s.limits.idle = Duration::from_secs(match when {
        Body::First(_) => wanted,
        Body::After | Body::Refused => thrown,
    });
    let ended = read_body(s, head.framing, &mut taken).await;
    let form = Form::read(head.text("content-type").as_deref(), &taken.bytes);
    let sign_in = form.credential();
    let tried = sign_in
        .as_ref()
        .map(|c| c.principal.clone().unwrap_or_default());
    let reply = match (&early, &ended) {
        (Some(early), _) => early.clone(),
        (None, Ok(true)) => shared.answer(&place, &head, tried.as_deref()),
        (None, Ok(false)) => shared.custom.adorn((skin.broken_body)(&place, &head)),
        (None, Err(_)) => match skin.late_body {
            Some(late) => late(&place, &head),
            None => Reply {
                status: 408,
                bytes: Vec::new(),
                close: true,
            },
        },
    };
    report(s, &head, &taken, &reply);
    match proof {
        Some((credential, response)) => report_proof(s, &head, &credential, &response),
        None => report_credential(s, &head, sign_in),
    }
    report_uploads(s, &head, &taken, &form);
    if let Err(end) = ended {
        if matches!(end, End::Idle) && early.is_none() {
            s.send(&reply.bytes).await?;
        }
        return Err(end);
    }
    let close = reply.close || matches!(ended, Ok(false));
    if early.is_none() {
        if tried.is_some() && reply.status == 200 {
            // Checking a password hash takes a moment.
            let pause = rand::rng().random_range(38..95);
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
        s.send(&reply.bytes).await?;
    }
    Ok(close)
}

/// Whether the whole body lies in the buffer.
fn is_here(s: &Session, framing: Framing) -> bool {
    match framing {
        Framing::None => true,
        Framing::Length(n) => u64::try_from(s.buffer().len()).is_ok_and(|have| have >= n),
        Framing::Chunked => {
            let mut chunks = Chunks::default();
            chunks.feed(s.buffer(), |_| {}).is_err() || chunks.is_done()
        }
    }
}

/// Reads a body to its end; `false` when it is broken.
async fn read_body(s: &mut Session, framing: Framing, taken: &mut Taken<'_>) -> Result<bool, End> {
    let mut chunks = Chunks::default();
    let mut left = match framing {
        Framing::None => return Ok(true),
        Framing::Length(n) => n,
        Framing::Chunked => u64::MAX,
    };
    loop {
        let used = if framing == Framing::Chunked {
            match chunks.feed(s.buffer(), |data| taken.add(data)) {
                Ok(used) => used,
                Err(()) => return Ok(false),
            }
        } else {
            let used = s
                .buffer()
                .len()
                .min(usize::try_from(left).unwrap_or(usize::MAX));
            taken.add(s.buffer().get(..used).unwrap_or_default());
            left = left.saturating_sub(u64::try_from(used).unwrap_or(u64::MAX));
            used
        };
        s.consume(used);
        if left == 0 || chunks.is_done() {
            return Ok(true);
        }
        s.fill().await?;
    }
}

/// Ends the connection so that the peer can read the answer: what it still sends is
/// read for a while, else the kernel would answer with a reset.
async fn linger(s: &mut Session) -> Result<(), End> {
    s.close().await;
    s.limits.idle = LINGER;
    let until = s.age().saturating_add(LINGER.saturating_mul(6));
    while s.age() < until {
        let waiting = s.buffer().len();
        s.consume(waiting);
        match s.fill().await {
            Ok(_) => {}
            Err(End::Stopped) => return Err(End::Stopped),
            Err(_) => break,
        }
    }
    Ok(())
}

fn report_bad(s: &Session, bad: &Bad, reply: &Reply) {
    let seen = &bad.seen;
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let raw = s.buffer();
    s.report("request")
        .maybe("method", some(&seen.method).as_deref())
        .maybe(
            "path",
            some(&String::from_utf8_lossy(&seen.target)).as_deref(),
        )
        .maybe("version", some(&seen.token).as_deref())
        .maybe("host", seen.text("host").as_deref())
        .maybe("user_agent", seen.text("user-agent").as_deref())
        .bytes("raw", raw.get(..raw.len().min(SHOWN)).unwrap_or_default())
        .field("status", reply.status.to_string())
        .emit();
}

fn report(s: &Session, head: &Head, taken: &Taken<'_>, reply: &Reply) {
    let headers: Vec<(String, String)> = head
        .headers
        .iter()
        .map(|(name, value)| (name.clone(), String::from_utf8_lossy(value).into_owned()))
        .collect();
    let version = if head.token.is_empty() {
        "HTTP/0.9"
    } else {
        &head.token
    };
    let mut event = s
        .report("request")
        .field("method", &head.method)
        .bytes("path", &head.target)
        .field("version", version)
        .maybe("host", head.text("host").as_deref())
        .maybe("user_agent", head.text("user-agent").as_deref())
        // Pairs in the order they came: order and case tell clients apart.
        .field(
            "headers",
            serde_json::to_string(&headers).unwrap_or_default(),
        );
    if taken.size > 0 {
        let shown = taken
            .bytes
            .get(..taken.bytes.len().min(SHOWN))
            .unwrap_or_default();
        event = event
            .bytes("body", shown)
            .field("body_size", taken.size.to_string());
        if taken.bytes.len() > SHOWN {
            let kept = s.keep(&taken.bytes);
            event = event
                .field("body_sha256", &kept.sha256)
                .field("stored", if kept.stored { "true" } else { "false" });
        }
        if taken.is_cut() {
            event = event.field("body_cut", "true");
        }
    }
    event.field("status", reply.status.to_string()).emit();
}

fn report_credential(s: &Session, head: &Head, sign_in: Option<Credential>) {
    let from_header = head
        .text("authorization")
        .and_then(|value| auth::read(&value, &head.method));
    let (scheme, credential) = match (from_header, sign_in) {
        (Some(found), _) => found,
        (None, Some(credential)) => ("form", credential),
        (None, None) => return,
    };
    s.report("auth")
        .field("scheme", scheme)
        .field("method", &head.method)
        .bytes("path", &head.target)
        .credential(&credential)
        .emit();
}

/// A third NTLM message.
fn report_proof(s: &Session, head: &Head, credential: &Credential, response: &Response) {
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    // Clients ask without a name first; there is nothing in that.
    if response.user.is_empty() && credential.secret.is_empty() {
        return;
    }
    s.report("auth")
        .field("scheme", "ntlm")
        .field("method", &head.method)
        .bytes("path", &head.target)
        .maybe("domain", some(&response.domain).as_deref())
        .maybe("workstation", some(&response.workstation).as_deref())
        .credential(credential)
        .emit();
}

fn report_uploads(s: &Session, head: &Head, taken: &Taken<'_>, form: &Form<'_>) {
    for upload in &form.uploads {
        let kept = s.keep(upload.content);
        s.report("upload")
            .field("method", &head.method)
            .bytes("path", &head.target)
            .field("filename", &upload.filename)
            .field("field", &upload.field)
            .maybe("mime", upload.mime.as_deref())
            .artifact(&kept)
            .emit();
    }
    if head.method == "PUT" && taken.size > 0 {
        let target = String::from_utf8_lossy(&head.target).into_owned();
        let path = target.split('?').next().unwrap_or_default();
        let kept = s.keep(&taken.bytes);
        s.report("upload")
            .field("method", "PUT")
            .field("path", &target)
            .field("filename", path.rsplit('/').next().unwrap_or_default())
            .artifact(&kept)
            .emit();
    }
}
