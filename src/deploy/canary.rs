//! Canary tokens, for the command line and the API alike: made for a host, planted on a
//! decky over its control socket, taken back. What a token's files are follows from its row
//! ([`Recipe`]), so they are never stored; only the operator's own files are.
//!
//! A planted file has the mode, the owner and the age its kind suggests. A token that was
//! taken back goes on telling: whoever made a copy still gives himself away.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use serde_json::{Value, json};

use crate::bus::Bus;
use crate::canary::{self, Base, Callback, File, Home, Kind, Recipe, Slug, Texts};
use crate::config::Config;
use crate::db::canary::{NewToken, TokenRow};
use crate::db::decky::DeckyRow;
use crate::db::{self, Db};
use crate::decoy::control;
use crate::decoy::disk::FILE_MAX;
use crate::model::{Family, Stamp, topic};
use crate::net::blob;
use crate::net::store::Name;
use crate::persona::{Asked, Persona};

/// Longest memo, path and login.
const TEXT_MAX: usize = 256;

/// Why nothing came of it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It was asked for wrongly: one line.
    #[error("{0}")]
    Wrong(String),
    /// There is no such token, decky or file.
    #[error("{0}")]
    Missing(String),
    /// The token is in a state in which this cannot be done.
    #[error("{0}")]
    State(String),
    /// The decky did not take or give up the files; the row says so, too.
    #[error("{decky}: {why}")]
    Decky {
        /// Which.
        decky: String,
        /// Why.
        why: String,
    },
    /// The files cannot be made.
    #[error(transparent)]
    Make(#[from] canary::Error),
    /// An uploaded file cannot be read.
    #[error("reading the uploaded file {0}")]
    Blob(String, #[source] std::io::Error),
    /// The database failed.
    #[error(transparent)]
    Db(#[from] db::Error),
}

/// A token to be made.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// What it looks like.
    pub kind: Kind,
    /// What the operator calls it; may be empty.
    pub memo: String,
    /// For which decky; `None` is a real machine.
    pub decky: Option<String>,
    /// Where exactly; `None` is the kind's own place.
    pub path: Option<String>,
    /// Whose home; `None` is one of the host's people.
    pub user: Option<String>,
    /// Whether a real machine is a Windows machine.
    pub windows: bool,
    /// SHA-256 of the uploaded file it goes into.
    pub blob: Option<String>,
}

/// What a token needs around it.
#[derive(Clone, Copy, Debug)]
pub struct Around<'a> {
    /// Settings.
    pub config: &'a Config,
    /// Rows.
    pub db: &'a Db,
    /// Who is told.
    pub bus: &'a Bus,
}

/// Where new tokens call.
#[must_use]
pub fn base(config: &Config) -> Base {
    let canary = &config.canary;
    let http = canary.http_base.clone();
    Base {
        http: http.unwrap_or_else(|| own_base(canary.http)),
        dns_zone: canary.dns_zone.clone(),
    }
}

/// The listener as others in the network of this host reach it.
fn own_base(listener: SocketAddr) -> String {
    let bound = Some(listener.ip()).filter(|ip| !ip.is_unspecified());
    match bound.or_else(own_address) {
        Some(ip) => format!("http://{}", SocketAddr::new(ip, listener.port())),
        None => format!("http://localhost:{}", listener.port()),
    }
}

/// The address that packets of this host to elsewhere carry; `None` without a way there.
/// Connecting a UDP socket asks the kernel for it and sends nothing.
fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    // Of a network for documentation (RFC 5737), which only a default route leads to.
    socket.connect((Ipv4Addr::new(198, 51, 100, 1), 9)).ok()?;
    let ip = socket.local_addr().ok()?.ip();
    (!ip.is_unspecified()).then_some(ip)
}

/// What a use of a token asks for: a URL, and a name where it was made with a zone. `None`
/// for a row of another version.
#[must_use]
pub fn calls(token: &TokenRow) -> (Option<String>, Option<String>) {
    let Some(slug) = Slug::parse(&token.slug) else {
        return (None, None);
    };
    let base: Value = serde_json::from_str(&token.base).unwrap_or_default();
    let word = |key: &str| base.get(key).and_then(Value::as_str).map(str::to_owned);
    let base = Base {
        http: word("http").unwrap_or_default(),
        dns_zone: word("dns_zone"),
    };
    (Some(base.url(&slug)), base.host(&slug))
}

/// Why nobody elsewhere reaches what a token calls; `None` when they may.
#[must_use]
pub fn caution(url: &str) -> Option<&'static str> {
    let (_, rest) = url.split_once("://")?;
    let authority = rest.split('/').next()?;
    let host = match authority.strip_prefix('[') {
        Some(six) => six.split(']').next()?,
        None => authority.split(':').next()?,
    };
    let here = host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
    here.then_some(
        "only this machine itself reaches that: set DECNET_CANARY_HTTP_BASE, then make the token anew",
    )
}

/// Whether this kind can be made with these settings, and what it would need.
#[must_use]
pub fn lacks(kind: Kind, config: &Config) -> Option<&'static str> {
    let zone = kind.callback() == Callback::Dns && config.canary.dns_zone.is_none();
    zone.then_some("DECNET_CANARY_DNS_ZONE")
}

impl Around<'_> {
    /// Makes a token; its files are not planted yet.
    ///
    /// # Errors
    /// What is wrong with the wish; nothing is stored then.
    pub async fn make(
        &self,
        wanted: &Wanted,
        created_by: &str,
        now: Stamp,
    ) -> Result<TokenRow, Error> {
        check(wanted)?;
        let persona = match &wanted.decky {
            Some(name) => self.decky(name).await?.persona,
            None => self.stranger(wanted.windows, now).await?,
        };
        let recipe = Recipe {
            kind: wanted.kind,
            slug: Slug::new(&mut rand::rng()),
            seed: rand::random(),
            base: base(self.config),
            home: Home::of(&persona, wanted.user.as_deref()),
            made_at: now,
        };
        let upload = self.upload(wanted.blob.as_deref()).await?;
        // Whatever cannot be made is said now, not when it is planted.
        recipe.files(borrowed(upload.as_ref()))?;
        let new = NewToken {
            slug: recipe.slug.as_str(),
            kind: recipe.kind.as_str(),
            memo: wanted.memo.trim(),
            decky: wanted.decky.as_deref(),
            path: wanted.path.as_deref(),
            seed: &recipe.seed_text(),
            place: &recipe.place_text(),
            base: &recipe.base_text(),
            blob: wanted.blob.as_deref(),
            created_by,
        };
        let token = self.db.canary_add(&new, now).await?;
        self.changed(&token);
        Ok(token)
    }

    /// The files of a token, with the paths they are planted under.
    ///
    /// # Errors
    /// When its uploaded file is gone, or another version made it.
    pub async fn files(&self, token: &TokenRow) -> Result<Vec<File>, Error> {
        let texts = Texts {
            kind: &token.kind,
            slug: &token.slug,
            seed: &token.seed,
            base: &token.base,
            place: &token.place,
        };
        let recipe = Recipe::read(&texts, token.created_at).ok_or_else(|| {
            Error::State("this version cannot make the files of this token".to_owned())
        })?;
        let upload = self.upload(token.blob.as_deref()).await?;
        let mut files = recipe.files(borrowed(upload.as_ref()))?;
        if let Some(path) = &token.path {
            place(&mut files, path);
        } else if let Some(file) = files.iter_mut().find(|file| file.path.is_empty()) {
            file.path = format!("{}/{}", recipe.home.home, file.name);
        }
        Ok(files)
    }

    /// Writes a token's files to its decky. What of them was written before stays when one
    /// cannot be.
    ///
    /// # Errors
    /// When it is for no decky, or the decky does not take them; the row says so then.
    pub async fn plant(&self, token: &TokenRow, now: Stamp) -> Result<TokenRow, Error> {
        let Some(decky) = &token.decky else {
            return Err(Error::State(
                "this token is for a machine that is no decky: download its files and put them there"
                    .to_owned(),
            ));
        };
        let files = self.files(token).await?;
        let dir = self.config.paths.decky(decky);
        let home: Option<Home> = serde_json::from_str(&token.place).ok();
        let mut written = token.planted.0.clone();
        for file in &files {
            let result = match self.decky(decky).await {
                Ok(_) if file.bytes.len() > FILE_MAX => Err(format!(
                    "{} has {} bytes and a decky takes {FILE_MAX}; plant it on a real machine",
                    file.name,
                    file.bytes.len()
                )),
                Ok(_) => {
                    let mtime = Stamp(now.0.saturating_sub(micros(file.age)));
                    let owner = home.as_ref().and_then(|h| owner(h, &file.path));
                    let (path, mode) = (&file.path, file.mode);
                    control::write(&dir, path, &file.bytes, mode, Some(mtime), owner)
                        .await
                        .map_err(|error| error.to_string())
                }
                Err(error) => Err(error.to_string()),
            };
            if let Err(why) = result {
                self.db.canary_failed(&token.id, &why, &written).await?;
                self.changed(token);
                let decky = decky.clone();
                return Err(Error::Decky { decky, why });
            }
            if !written.contains(&file.path) {
                written.push(file.path.clone());
            }
        }
        self.db.canary_planted(&token.id, &written, now).await?;
        self.changed(token);
        let payload = json!({
            "token_id": token.id,
            "decky_name": decky,
            "placement_path": written.first(),
            "instrumenter": token.blob.as_ref().map(|_| token.kind.as_str()),
            "generator": token.kind,
        });
        let topic = topic::canary_placed(&token.id);
        self.bus.publish(&topic, "canary", payload);
        self.again(token).await
    }

    /// Takes a token back: its files leave the decky. It is revoked even when the decky is
    /// away; the row says what may still lie there.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn revoke(&self, token: &TokenRow, now: Stamp) -> Result<TokenRow, Error> {
        let mut left = Vec::new();
        if let Some(decky) = &token.decky {
            let dir = self.config.paths.decky(decky);
            for path in &token.planted.0 {
                match control::delete(&dir, path).await {
                    Ok(_) => {}
                    Err(control::Error::Refused(refusal))
                        if refusal.why == control::Why::Missing => {}
                    // A decky that is gone for good took its files along.
                    Err(_) if self.decky(decky).await.is_err() => {}
                    Err(error) => left.push(format!("{path}: {error}")),
                }
            }
        }
        let error = (!left.is_empty()).then(|| {
            let left = left.join("; ");
            format!("not removed from the decky: {left}; revoke it again when the decky runs")
        });
        self.db
            .canary_revoked(&token.id, error.as_deref(), now)
            .await?;
        self.changed(token);
        let payload = json!({
            "token_id": token.id,
            "decky_name": token.decky,
            "placement_path": token.planted.0.first(),
        });
        let topic = topic::canary_revoked(&token.id);
        self.bus.publish(&topic, "canary", payload);
        self.again(token).await
    }

    /// Tells the listener to look at the rows again.
    pub fn changed(&self, token: &TokenRow) {
        let topic = topic::canary_changed(&token.id);
        self.bus.publish(&topic, "canary", json!({}));
    }

    async fn again(&self, token: &TokenRow) -> Result<TokenRow, Error> {
        let found = self.db.canary_find(&token.id).await?;
        found.ok_or_else(|| Error::Missing("the token was deleted meanwhile".to_owned()))
    }

    async fn decky(&self, name: &str) -> Result<DeckyRow, Error> {
        let rows = self.db.decky_list().await?;
        rows.into_iter()
            .find(|row| row.decky.name == name && !row.decky.removed)
            .ok_or_else(|| {
                Error::Missing(format!(
                    "there is no decky called '{name}'; `decnet deckies` lists them"
                ))
            })
    }

    /// A machine of the same company that is none of the deckies.
    async fn stranger(&self, windows: bool, now: Stamp) -> Result<Persona, Error> {
        let secret = self.db.installation_secret(rand::random(), now).await?;
        let asked = Asked {
            family: windows.then_some(Family::Windows),
            ..Asked::default()
        };
        let name = format!("canary {:x}", rand::random::<u64>());
        Ok(Persona::derive(&secret, &name, &asked, now))
    }

    /// An uploaded file with its name.
    async fn upload(&self, sha256: Option<&str>) -> Result<Option<(String, Vec<u8>)>, Error> {
        let Some(sha256) = sha256 else {
            return Ok(None);
        };
        let missing = || Error::Missing(format!("there is no uploaded file {sha256}"));
        let name = Name::parse(sha256).ok_or_else(missing)?;
        let row = self.db.canary_blob_find(sha256).await?;
        let row = row.ok_or_else(missing)?;
        let root = self.config.paths.canary_blobs();
        let bytes = blob::read(&root, &name).map_err(|e| Error::Blob(sha256.to_owned(), e))?;
        Ok(Some((row.name, bytes.ok_or_else(missing)?)))
    }
}

fn borrowed(upload: Option<&(String, Vec<u8>)>) -> Option<(&str, &[u8])> {
    upload.map(|(name, bytes)| (name.as_str(), bytes.as_slice()))
}

fn micros(age: Duration) -> i64 {
    i64::try_from(age.as_micros()).unwrap_or(i64::MAX)
}

/// Whose a file is: what lies in a home is its user's, the rest root's.
fn owner<'a>(home: &'a Home, path: &str) -> Option<&'a str> {
    let path = path.replace('\\', "/");
    let below = path.strip_prefix(&home.home);
    if below.is_some_and(|rest| rest.starts_with('/')) {
        return Some(&home.user);
    }
    (!home.windows).then_some("root")
}

/// Puts the first file where the operator wants it; those that lie below its directory move
/// along.
fn place(files: &mut [File], path: &str) {
    let directory = |path: &str| {
        let end = path.rfind(['/', '\\']).map_or(0, |at| at + 1);
        path.get(..end).unwrap_or_default().to_owned()
    };
    let from = files.first().map_or(String::new(), |f| directory(&f.path));
    let to = directory(path);
    for (index, file) in files.iter_mut().enumerate() {
        if index == 0 {
            path.clone_into(&mut file.path);
        } else if let Some(below) = file.path.strip_prefix(&from) {
            file.path = format!("{to}{below}");
        }
    }
}

fn check(wanted: &Wanted) -> Result<(), Error> {
    let texts = [
        ("memo", Some(&wanted.memo)),
        ("path", wanted.path.as_ref()),
        ("user", wanted.user.as_ref()),
    ];
    for (name, text) in texts {
        let Some(text) = text else { continue };
        if text.len() > TEXT_MAX || text.contains(char::is_control) {
            return Err(Error::Wrong(format!(
                "{name} takes a line of at most {TEXT_MAX} bytes"
            )));
        }
    }
    if let Some(path) = &wanted.path {
        let mut letters = path.chars();
        let drive =
            letters.next().is_some_and(|c| c.is_ascii_alphabetic()) && letters.next() == Some(':');
        let ends = path.ends_with(['/', '\\']);
        if !(path.starts_with('/') || drive) || ends {
            return Err(Error::Wrong(
                "path takes the absolute path of a file, such as /srv/backup/db.sql or C:\\Users\\ann\\vpn.conf"
                    .to_owned(),
            ));
        }
    }
    if let Some(user) = &wanted.user {
        let fits = |c: char| c.is_ascii_alphanumeric() || "._- ".contains(c);
        if user.is_empty() || user.starts_with('.') || !user.chars().all(fits) {
            return Err(Error::Wrong("user takes the name of a login".to_owned()));
        }
    }
    if (wanted.kind == Kind::Upload) != wanted.blob.is_some() {
        return Err(Error::Wrong(
            "an uploaded file goes with the kind 'upload', and with no other".to_owned(),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Sources;

    async fn lab() -> (tempfile::TempDir, Config, Db, Bus) {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().display().to_string();
        let sources = Sources::new([("DECNET_STATE_DIR".to_owned(), state)]);
        let config = Config::load(&sources).unwrap();
        let db = Db::open(&config.database).await.unwrap();
        (dir, config, db, Bus::memory())
    }

    fn wanted(kind: Kind) -> Wanted {
        Wanted {
            kind,
            memo: String::new(),
            decky: None,
            path: None,
            user: None,
            windows: false,
            blob: None,
        }
    }

    #[tokio::test]
    async fn a_token_for_a_real_machine_has_files_and_no_decky() {
        let (_dir, config, db, bus) = lab().await;
        let around = Around {
            config: &config,
            db: &db,
            bus: &bus,
        };
        let mut wish = wanted(Kind::WebBug);
        wish.path = Some("/srv/share/link.txt".to_owned());
        let token = around.make(&wish, "ada", Stamp::now()).await.unwrap();
        let files = around.files(&token).await.unwrap();
        assert_eq!(files[0].path, "/srv/share/link.txt");
        assert_eq!(files, around.files(&token).await.unwrap(), "the same again");
        let planted = around.plant(&token, Stamp::now()).await;
        assert!(matches!(planted, Err(Error::State(_))));
        let revoked = around.revoke(&token, Stamp::now()).await.unwrap();
        assert_eq!(revoked.state().as_str(), "revoked");
    }

    #[test]
    fn without_a_base_tokens_call_the_listener_where_others_reach_it() {
        let bound = |text: &str| own_base(text.parse().unwrap());
        assert_eq!(bound("192.0.2.7:8088"), "http://192.0.2.7:8088");
        assert_eq!(bound("[2001:db8::7]:80"), "http://[2001:db8::7]:80");
        let host = own_address().map_or("localhost".to_owned(), |ip| ip.to_string());
        assert_eq!(bound("0.0.0.0:8088"), format!("http://{host}:8088"));
    }

    #[test]
    fn a_token_that_calls_this_machine_itself_is_told() {
        for here in [
            "http://localhost:8088/c/x",
            "https://127.0.0.1/x",
            "http://[::1]:8088/x",
        ] {
            assert!(caution(here).is_some(), "{here}");
        }
        for there in [
            "http://192.0.2.1:8088/c/x",
            "https://localhost.example.org/x",
            "http://[2001:db8::1]/x",
            "",
        ] {
            assert!(caution(there).is_none(), "{there}");
        }
    }

    #[tokio::test]
    async fn what_cannot_be_made_leaves_no_row() {
        let (_dir, config, db, bus) = lab().await;
        let around = Around {
            config: &config,
            db: &db,
            bus: &bus,
        };
        assert!(lacks(Kind::DnsName, &config).is_some());
        let mut nowhere = wanted(Kind::WebBug);
        nowhere.decky = Some("decky-09".to_owned());
        let mut bad_path = wanted(Kind::WebBug);
        bad_path.path = Some("notes.txt".to_owned());
        for wish in [
            wanted(Kind::DnsName),
            wanted(Kind::Upload),
            nowhere,
            bad_path,
        ] {
            assert!(around.make(&wish, "ada", Stamp::now()).await.is_err());
        }
        assert!(db.canary_known().await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn an_uploaded_file_becomes_a_token() {
        let (_dir, config, db, bus) = lab().await;
        let around = Around {
            config: &config,
            db: &db,
            bus: &bus,
        };
        let (bytes, now) = (b"see {{URL}}", Stamp::now());
        let sha256 = blob::name(bytes);
        let mut wish = wanted(Kind::Upload);
        wish.blob = Some(sha256.clone());
        assert!(around.make(&wish, "ada", now).await.is_err(), "not there");
        let name = Name::parse(&sha256).unwrap();
        blob::keep(&config.paths.canary_blobs(), &name, bytes).unwrap();
        db.canary_blob_add(&sha256, "plan.txt", 11, "ada", now)
            .await
            .unwrap();
        let token = around.make(&wish, "ada", now).await.unwrap();
        let files = around.files(&token).await.unwrap();
        assert!(files[0].path.ends_with("/plan.txt"), "{}", files[0].path);
    }

    #[test]
    fn files_beside_the_first_follow_it() {
        let file = |name: &str| File {
            path: format!("/home/ann/{name}"),
            name: name.to_owned(),
            content_type: "text/plain",
            mode: 0o600,
            age: Duration::ZERO,
            bytes: Vec::new(),
        };
        let mut files = [file("id_rsa"), file("conf.d/hosts")];
        files[1].path = "/home/ann/conf.d/hosts".to_owned();
        place(&mut files, "/home/ann/.ssh/key");
        assert_eq!(files[0].path, "/home/ann/.ssh/key");
        assert_eq!(files[1].path, "/home/ann/.ssh/conf.d/hosts");
    }
}
