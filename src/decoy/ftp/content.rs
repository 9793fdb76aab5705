//! What lies in the two areas, drawn from the persona: names, dates, sizes that are
//! true to the bytes, and the bytes themselves, made again whenever somebody fetches
//! them, so that an idle host keeps none. Passwords in them are drawn, never stock.

use std::time::Duration;

use rand::RngExt;
use rand::rngs::StdRng;

use crate::decoy::ftp::account::{Accounts, Anonymous};
use crate::decoy::ftp::devices;
use crate::decoy::ftp::tree::{Content, Kind, Node, Owner, Tree, join, split};
use crate::model::{Family, Stamp};
use crate::persona::{FtpServer, Persona};

const DAY: u64 = 86_400;

/// What a drawn file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    Readme,
    Notes,
    Settings,
    Script,
    History,
    Customers,
    Prices,
    Dump,
    Site,
    PowerShell,
    AppSettings,
    WebConfig,
    RouterConfig,
}

/// A drawn file.
#[derive(Clone, Debug)]
pub(super) struct Recipe {
    /// Its stream of the persona.
    label: String,
    what: What,
    mtime: Stamp,
}

impl Recipe {
    /// The bytes of the file, the same each time.
    pub(super) fn render(&self, persona: &Persona) -> Vec<u8> {
        let mut rng = persona.rng(&self.label);
        let bytes = match self.what {
            What::Readme => readme(persona).into_bytes(),
            What::Notes => notes(persona, &mut rng).into_bytes(),
            What::Settings => settings(persona).into_bytes(),
            What::Script => script(persona).into_bytes(),
            What::History => history(persona).into_bytes(),
            What::Customers => customers(&mut rng).into_bytes(),
            What::Prices => prices(&mut rng).into_bytes(),
            What::Dump => dump(persona, &mut rng, self.mtime).into_bytes(),
            What::Site => site(persona, self.mtime),
            What::PowerShell => devices::powershell(persona).into_bytes(),
            What::AppSettings => devices::app_settings(persona).into_bytes(),
            What::WebConfig => devices::web_config().into_bytes(),
            What::RouterConfig => devices::router_config(persona, &mut rng).into_bytes(),
        };
        let text = matches!(
            self.what,
            What::Readme | What::Notes | What::Customers | What::Prices | What::Dump
        );
        if text && persona.ftp_server == FtpServer::Microsoft {
            return super::with_cr(&bytes);
        }
        bytes
    }
}

/// The two areas and the recipes their files point to.
#[derive(Debug)]
pub(super) struct Areas {
    pub(super) home: Tree,
    pub(super) public: Tree,
    pub(super) recipes: Vec<Recipe>,
}

/// Furnishes both areas.
pub(super) fn furnish(persona: &Persona, accounts: &Accounts) -> Areas {
    match persona.ftp_server {
        FtpServer::Microsoft => devices::windows(persona, accounts),
        FtpServer::Jetdirect => devices::printer(persona, accounts),
        FtpServer::CiscoIos => devices::router(persona, accounts),
        FtpServer::Vsftpd | FtpServer::Proftpd => unix(persona, accounts),
    }
}

/// A home directory and `/srv/ftp` of a Unix server.
fn unix(persona: &Persona, accounts: &Accounts) -> Areas {
    let mut rng = persona.rng("ftp/areas");
    let boot = persona.booted_at;
    let root = Owner { uid: 0, gid: 0 };
    let inode = rng.random_range(131_073..1_800_000);
    let installed = before(&mut rng, boot, 300, 500);
    let mut work = Work {
        persona,
        recipes: Vec::new(),
        owner: accounts.home,
        tree: Tree::new(accounts.home, 0o755, after(&mut rng, boot, 1), inode),
    };
    let history = match persona.family {
        Family::Bsd => "/.sh_history",
        _ => "/.bash_history",
    };
    work.file(history, What::History, 0o600, after(&mut rng, boot, 2));
    work.file(
        "/notes.txt",
        What::Notes,
        0o644,
        before(&mut rng, boot, 5, 90),
    );
    work.file(
        "/deploy.sh",
        What::Script,
        0o755,
        before(&mut rng, boot, 100, 250),
    );
    work.dir("/backups", 0o750, after(&mut rng, boot, 2));
    for week in 0..rng.random_range(2..5u64) {
        let at = before(
            &mut rng,
            boot,
            week.saturating_mul(7),
            week.saturating_mul(7).saturating_add(1),
        );
        let name = format!("/backups/{}_prod-{}.sql", persona.company, day(at));
        work.file(&name, What::Dump, 0o640, at);
    }
    let at = before(&mut rng, boot, 20, 60);
    work.file(
        &format!("/backups/www-{}.tar", day(at)),
        What::Site,
        0o640,
        at,
    );
    work.dir("/exports", 0o755, before(&mut rng, boot, 1, 9));
    for month in 0..rng.random_range(2..4u64) {
        let from = month.saturating_mul(31);
        let at = before(&mut rng, boot, from, from.saturating_add(9));
        let name = format!("/exports/customers-{}.csv", day(at));
        work.file(&name, What::Customers, 0o644, at);
    }
    work.dir("/www", 0o755, before(&mut rng, boot, 30, 60));
    work.file(
        "/www/.env",
        What::Settings,
        0o640,
        before(&mut rng, boot, 60, 300),
    );
    let home = std::mem::replace(
        &mut work.tree,
        Tree::new(root, 0o755, installed, inode.saturating_add(90_001)),
    );
    work.owner = root;
    work.file("/README", What::Readme, 0o644, installed);
    work.dir("/pub", 0o755, before(&mut rng, boot, 10, 100));
    let at = before(&mut rng, boot, 10, 200);
    work.file(
        &format!("/pub/pricelist-{}.csv", day(at)),
        What::Prices,
        0o644,
        at,
    );
    if accounts.anonymous == Anonymous::Upload {
        work.dir("/incoming", 0o777, after(&mut rng, boot, 2));
    }
    Areas {
        home,
        public: work.tree,
        recipes: work.recipes,
    }
}

/// An area being furnished.
pub(super) struct Work<'a> {
    pub(super) persona: &'a Persona,
    pub(super) recipes: Vec<Recipe>,
    pub(super) owner: Owner,
    pub(super) tree: Tree,
}

impl Work<'_> {
    pub(super) fn dir(&mut self, path: &str, mode: u32, mtime: Stamp) {
        self.add(path, Kind::Dir, mode, mtime);
    }

    pub(super) fn file(&mut self, path: &str, what: What, mode: u32, mtime: Stamp) {
        let recipe = Recipe {
            label: format!("ftp/file{path}"),
            what,
            mtime,
        };
        let size = recipe.render(self.persona).len();
        let kind = Kind::File {
            size: u64::try_from(size).unwrap_or(0),
            content: Content::Drawn(self.recipes.len()),
        };
        self.recipes.push(recipe);
        self.add(path, kind, mode, mtime);
    }

    fn add(&mut self, path: &str, kind: Kind, mode: u32, mtime: Stamp) {
        debug_assert!(self.tree.get(split(path).0).is_ok(), "{path} has no parent");
        let node = Node {
            kind,
            mode,
            owner: self.owner,
            mtime,
            inode: 0,
        };
        self.tree
            .furnish(&join("/", path.trim_start_matches('/')), node);
    }
}

/// A moment between `near` and `far` days before `boot`, in whole seconds.
pub(super) fn before(rng: &mut StdRng, boot: Stamp, near: u64, far: u64) -> Stamp {
    let back = rng.random_range(near.saturating_mul(DAY)..far.saturating_mul(DAY));
    let back = i64::try_from(back).unwrap_or(0).saturating_mul(1_000_000);
    Stamp(
        boot.0
            .saturating_sub(boot.0 % 1_000_000)
            .saturating_sub(back),
    )
}

/// A moment in the `days` after `boot`.
pub(super) fn after(rng: &mut StdRng, boot: Stamp, days: u64) -> Stamp {
    boot.plus(Duration::from_secs(
        rng.random_range(0..days.saturating_mul(DAY)),
    ))
}

pub(super) fn day(at: Stamp) -> String {
    at.utc().date().strftime("%Y%m%d").to_string()
}

pub(super) fn word(rng: &mut StdRng, words: &[&'static str]) -> &'static str {
    let at = rng.random_range(0..words.len().max(1));
    words.get(at).copied().unwrap_or("")
}

const FIRST: &[&str] = &[
    "Anna", "Jonas", "Marta", "Pieter", "Lucia", "Tomas", "Elena", "Henrik", "Sofia", "Marek",
    "Claire", "David", "Ingrid", "Paolo", "Katja",
];
const LAST: &[&str] = &[
    "Berger", "Novak", "Jensen", "Rossi", "Lambert", "Keller", "Visser", "Dvorak", "Nilsson",
    "Moreau", "Fischer", "Costa", "Olsen", "Weber", "Horvat",
];
const CITIES: &[&str] = &[
    "Utrecht", "Lyon", "Graz", "Brno", "Aarhus", "Leeds", "Ghent", "Turin", "Poznan", "Malmo",
];
const PARTS: &[&str] = &[
    "bracket",
    "flange",
    "bearing",
    "gasket",
    "coupling",
    "sensor",
    "valve",
    "housing",
    "relay",
    "cable set",
];

fn readme(persona: &Persona) -> String {
    format!(
        "{company} file exchange\n\nThis server is for customers and partners of {company}.\n\
         Files in incoming/ are removed after 14 days.\n\nContact: support@{domain}\n",
        company = persona.company,
        domain = persona.domain,
    )
}

fn notes(persona: &Persona, rng: &mut StdRng) -> String {
    format!(
        "todo\n- move nightly dump off {host}, disk at {full}%\n\
         - ask {who} about the {city} export, columns changed again\n\
         - db account for reporting is still shared, see {settings}\n\
         - renew cert on intranet.{domain}\n",
        host = persona.hostname,
        full = rng.random_range(78..94),
        who = persona.users.first().map_or("ops", String::as_str),
        city = word(rng, CITIES),
        settings = match persona.ftp_server {
            FtpServer::Microsoft => "wwwroot\\appsettings.json",
            _ => "www/.env",
        },
        domain = persona.domain,
    )
}

fn settings(persona: &Persona) -> String {
    format!(
        "APP_ENV=production\nAPP_DEBUG=false\nAPP_URL=https://portal.{domain}\n\
         APP_KEY=base64:{key}=\n\nDB_CONNECTION=mysql\nDB_HOST=db01.{domain}\nDB_PORT=3306\n\
         DB_DATABASE={company}_prod\nDB_USERNAME=portal\nDB_PASSWORD={password}\n\n\
         MAIL_HOST=mail.{domain}\nMAIL_USERNAME=noreply@{domain}\nMAIL_PASSWORD={mail}\n",
        domain = persona.domain,
        company = persona.company,
        key = persona.hex_id("ftp/app-key", 43),
        password = persona.hex_id("ftp/db-password", 14),
        mail = persona.hex_id("ftp/mail-password", 12),
    )
}

fn script(persona: &Persona) -> String {
    format!(
        "#!/bin/sh\nset -e\ncd {root}/portal\ngit pull --ff-only\n\
         composer install --no-dev -q\nphp artisan migrate --force\n\
         rsync -a public/ deploy@web02.{}:{root}/portal/public/\n",
        persona.domain,
        root = web_root(persona),
    )
}

/// Where web sites lie.
fn web_root(persona: &Persona) -> &'static str {
    match persona.family {
        Family::Bsd => "/usr/local/www",
        _ => "/var/www",
    }
}

fn history(persona: &Persona) -> String {
    format!(
        "cd backups\nls -la\nmysqldump --single-transaction {company}_prod > \
         {company}_prod.sql\ndf -h\ncd ../www\nvim .env\nssh db01.{domain}\nexit\n",
        company = persona.company,
        domain = persona.domain,
    )
}

fn customers(rng: &mut StdRng) -> String {
    let mut text = String::from("id;name;city;email;orders;last_order\n");
    let mut id: u32 = rng.random_range(1000..9000);
    for _ in 0..rng.random_range(120..600) {
        id = id.saturating_add(rng.random_range(1..6));
        let (first, last) = (word(rng, FIRST), word(rng, LAST));
        text.push_str(&format!(
            "{id};{first} {last};{};{}.{}@example.net;{};2025-{:02}-{:02}\n",
            word(rng, CITIES),
            first.to_lowercase(),
            last.to_lowercase(),
            rng.random_range(1..40),
            rng.random_range(1..10),
            rng.random_range(1..29)
        ));
    }
    text
}

fn prices(rng: &mut StdRng) -> String {
    let mut text = String::from("article;description;unit;price_eur\n");
    for _ in 0..rng.random_range(60..200) {
        text.push_str(&format!(
            "{:06};{} {};pc;{}.{:02}\n",
            rng.random_range(100_000..999_999),
            word(rng, PARTS),
            rng.random_range(2..90),
            rng.random_range(1..400),
            rng.random_range(0..100)
        ));
    }
    text
}

fn dump(persona: &Persona, rng: &mut StdRng, at: Stamp) -> String {
    let (platform, build) = match (persona.family, persona.distro.as_str()) {
        (Family::Bsd, _) => ("FreeBSD13.2 (amd64)", ""),
        (Family::Windows | Family::WindowsServer, _) => ("Win64 (AMD64)", ""),
        (_, "Debian" | "Ubuntu") => ("debian-linux-gnu (x86_64)", "-0+deb12u1"),
        _ => ("Linux (x86_64)", ""),
    };
    let mut text = format!(
        "-- MariaDB dump 10.19  Distrib 10.11.6-MariaDB, for {platform}\n--\n\
         -- Host: localhost    Database: {company}_prod\n\
         -- ------------------------------------------------------\n\
         -- Server version\t10.11.6-MariaDB{build}\n\n\
         DROP TABLE IF EXISTS `users`;\nCREATE TABLE `users` (\n  `id` int(11) NOT NULL \
         AUTO_INCREMENT,\n  `email` varchar(190) NOT NULL,\n  `name` varchar(120) DEFAULT NULL,\n  \
         `password` varchar(255) NOT NULL,\n  PRIMARY KEY (`id`)\n) ENGINE=InnoDB DEFAULT \
         CHARSET=utf8mb4;\n\nLOCK TABLES `users` WRITE;\n",
        company = persona.company,
    );
    for id in 1..rng.random_range(300..1200) {
        let (first, last) = (word(rng, FIRST), word(rng, LAST));
        let salt: u64 = rng.random();
        let digest: u128 = rng.random();
        text.push_str(&format!(
            "INSERT INTO `users` VALUES ({id},'{}.{}{id}@example.net','{first} {last}',\
             'sha256${salt:016x}${digest:032x}');\n",
            first.to_lowercase(),
            last.to_lowercase()
        ));
    }
    text.push_str(&format!(
        "UNLOCK TABLES;\n\n-- Dump completed on {}\n",
        at.utc().strftime("%Y-%m-%d %k:%M:%S")
    ));
    text
}

/// A tar archive of the web site.
fn site(persona: &Persona, at: Stamp) -> Vec<u8> {
    let page = format!(
        "<!DOCTYPE html>\n<html><head><title>{0}</title></head>\n<body><h1>{0}</h1>\n\
         <p><a href=\"/portal\">Customer portal</a></p>\n</body></html>\n",
        persona.company
    );
    let config = format!(
        "<?php\nreturn [\n  'dsn' => 'mysql:host=db01.{};dbname={}_prod',\n  \
         'user' => 'portal',\n  'password' => '{}',\n];\n",
        persona.domain,
        persona.company,
        persona.hex_id("ftp/db-password", 14),
    );
    let mut archive = Vec::new();
    let owner = match persona.family {
        Family::Bsd => "www",
        _ => "www-data",
    };
    member(&mut archive, "www/", owner, at, b"");
    member(&mut archive, "www/index.html", owner, at, page.as_bytes());
    member(&mut archive, "www/config.php", owner, at, config.as_bytes());
    // Two empty blocks, then up to the record size of 10 KiB, as tar does.
    let padded = archive.len().saturating_add(1024).next_multiple_of(10_240);
    archive.resize(padded, 0);
    archive
}

/// One ustar member; a name that ends with a slash is a directory.
fn member(archive: &mut Vec<u8>, name: &str, owner: &str, at: Stamp, data: &[u8]) {
    let kind = if name.ends_with('/') { b'5' } else { b'0' };
    let mode = if kind == b'5' { 0o755 } else { 0o644 };
    let mut header = Vec::with_capacity(512);
    let mut field = |text: &str, width: usize| {
        let mut bytes = text.as_bytes().to_vec();
        bytes.resize(width, 0);
        header.extend(bytes);
    };
    field(name, 100);
    field(&format!("{mode:07o}"), 8);
    // 33 on Debian, 80 on FreeBSD.
    let id = if owner == "www" { "0000120" } else { "0000041" };
    field(id, 8);
    field(id, 8);
    field(&format!("{:011o}", data.len()), 12);
    field(&format!("{:011o}", at.0.div_euclid(1_000_000)), 12);
    field("        ", 8);
    field(&char::from(kind).to_string(), 1);
    field("", 100);
    field("ustar  ", 8);
    field(owner, 32);
    field(owner, 32);
    field("", 183);
    let sum: u32 = header.iter().map(|b| u32::from(*b)).sum();
    let sum = format!("{sum:06o}\0 ");
    for (slot, byte) in header.iter_mut().skip(148).zip(sum.bytes()) {
        *slot = byte;
    }
    archive.extend(header);
    archive.extend_from_slice(data);
    let padded = archive.len().next_multiple_of(512);
    archive.resize(padded, 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_true_dates_are_past_and_every_host_differs() {
        let now = Stamp(1_760_000_000_000_000);
        let mut seen = Vec::new();
        for n in 0..5u8 {
            let persona = Persona::derive(&[n], "x", &crate::persona::Asked::default(), now);
            let areas = furnish(&persona, &Accounts::new(&persona, None));
            let again = furnish(&persona, &Accounts::new(&persona, None));
            let files = areas.home.children("/backups");
            assert!(files.len() >= 3);
            for (name, node) in &files {
                let Kind::File {
                    size,
                    content: Content::Drawn(recipe),
                } = &node.kind
                else {
                    panic!("{name} is not a drawn file");
                };
                let bytes = areas.recipes[*recipe].render(&persona);
                assert_eq!(*size, u64::try_from(bytes.len()).unwrap());
                assert_eq!(again.recipes[*recipe].render(&persona), bytes);
                assert!(node.mtime < now, "{name} is from the future");
                seen.push(bytes);
            }
        }
        let count = seen.len();
        seen.sort();
        seen.dedup();
        // The site archive may be the same text only when company and domain are.
        assert_eq!(seen.len(), count);
    }
}
