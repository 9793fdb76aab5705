//! The areas of hosts that are no Unix servers: a Windows file server, a printer (whose
//! only directory is its queue), a router with its configuration in flash.

use rand::RngExt;
use rand::rngs::StdRng;

use crate::decoy::ftp::account::{Accounts, Anonymous};
use crate::decoy::ftp::content::{Areas, What, Work, after, before, day};
use crate::decoy::ftp::tree::{Owner, Tree};
use crate::model::Stamp;
use crate::persona::Persona;

/// A user's share and the public one.
pub(super) fn windows(persona: &Persona, accounts: &Accounts) -> Areas {
    let mut rng = persona.rng("ftp/areas");
    let boot = persona.booted_at;
    let inode = rng.random_range(131_073..1_800_000);
    let mut work = start(persona, accounts.home, 0o755, inode);
    work.file(
        "/deploy.ps1",
        What::PowerShell,
        0o755,
        before(&mut rng, boot, 100, 250),
    );
    work.file(
        "/notes.txt",
        What::Notes,
        0o644,
        before(&mut rng, boot, 5, 90),
    );
    work.dir("/Backups", 0o750, after(&mut rng, boot, 2));
    for week in 0..rng.random_range(2..5u64) {
        let near = week.saturating_mul(7);
        let at = before(&mut rng, boot, near, near.saturating_add(1));
        let name = format!("/Backups/{}_prod-{}.sql", persona.company, day(at));
        work.file(&name, What::Dump, 0o640, at);
    }
    work.dir("/Exports", 0o755, before(&mut rng, boot, 1, 9));
    for month in 0..rng.random_range(2..4u64) {
        let from = month.saturating_mul(31);
        let at = before(&mut rng, boot, from, from.saturating_add(9));
        let name = format!("/Exports/Customers {}.csv", day(at));
        work.file(&name, What::Customers, 0o644, at);
    }
    work.dir("/wwwroot", 0o755, before(&mut rng, boot, 30, 60));
    let at = before(&mut rng, boot, 60, 300);
    work.file("/wwwroot/appsettings.json", What::AppSettings, 0o640, at);
    work.file("/wwwroot/web.config", What::WebConfig, 0o640, at);
    let public = start(
        persona,
        Owner { uid: 0, gid: 0 },
        0o755,
        inode.saturating_add(90_001),
    );
    let home = std::mem::replace(&mut work.tree, public.tree);
    work.owner = Owner { uid: 0, gid: 0 };
    work.file(
        "/readme.txt",
        What::Readme,
        0o644,
        before(&mut rng, boot, 100, 300),
    );
    let at = before(&mut rng, boot, 10, 200);
    work.file(
        &format!("/Pricelist {}.csv", day(at)),
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

/// The queue, the same for everybody.
pub(super) fn printer(persona: &Persona, accounts: &Accounts) -> Areas {
    let area = |owner: Owner| {
        let mut work = start(persona, Owner { uid: 0, gid: 0 }, 0o755, 1);
        work.owner = owner;
        work.dir("/PORT1", 0o777, persona.booted_at);
        work.tree
    };
    Areas {
        home: area(accounts.home),
        public: area(accounts.ftp),
        recipes: Vec::new(),
    }
}

/// Flash, with saved configurations.
pub(super) fn router(persona: &Persona, accounts: &Accounts) -> Areas {
    let mut rng = persona.rng("ftp/areas");
    let boot = persona.booted_at;
    let mut work = start(persona, accounts.home, 0o755, 1);
    let at = before(&mut rng, boot, 5, 200);
    let name = format!("/{}-confg", persona.hostname);
    work.file(&name, What::RouterConfig, 0o644, at);
    let at = before(&mut rng, boot, 200, 500);
    work.file("/backup.cfg", What::RouterConfig, 0o644, at);
    Areas {
        home: work.tree,
        public: start(persona, accounts.ftp, 0o555, 1).tree,
        recipes: work.recipes,
    }
}

fn start(persona: &Persona, owner: Owner, mode: u32, inode: u64) -> Work<'_> {
    let mut rng = persona.rng("ftp/root");
    let made: Stamp = after(&mut rng, persona.booted_at, 1);
    Work {
        persona,
        recipes: Vec::new(),
        owner,
        tree: Tree::new(owner, mode, made, inode),
    }
}

pub(super) fn powershell(persona: &Persona) -> String {
    format!(
        "$ErrorActionPreference = 'Stop'\r\nImport-Module WebAdministration\r\n\
         Stop-WebAppPool -Name 'Portal'\r\n\
         robocopy \\\\build01.{domain}\\drop\\portal C:\\inetpub\\portal /MIR /NFL /NDL\r\n\
         Start-WebAppPool -Name 'Portal'\r\n\
         Invoke-WebRequest http://{host}.{domain}/ -UseDefaultCredentials | Out-Null\r\n",
        domain = persona.domain,
        host = persona.hostname,
    )
}

pub(super) fn app_settings(persona: &Persona) -> String {
    format!(
        "{{\r\n  \"ConnectionStrings\": {{\r\n    \"Portal\": \"Server=sql01.{domain};Database=\
         {company}_prod;User Id=portal;Password={password};Encrypt=False\"\r\n  }},\r\n  \
         \"Mail\": {{\r\n    \"Host\": \"mail.{domain}\",\r\n    \"User\": \"noreply@{domain}\",\r\n    \
         \"Password\": \"{mail}\"\r\n  }},\r\n  \"AllowedHosts\": \"*\"\r\n}}\r\n",
        domain = persona.domain,
        company = persona.company,
        password = persona.hex_id("ftp/db-password", 14),
        mail = persona.hex_id("ftp/mail-password", 12),
    )
}

pub(super) fn web_config() -> String {
    "<?xml version=\"1.0\" encoding=\"utf-8\"?>\r\n<configuration>\r\n  <system.webServer>\r\n    \
     <handlers>\r\n      <add name=\"aspNetCore\" path=\"*\" verb=\"*\" \
     modules=\"AspNetCoreModuleV2\" resourceType=\"Unspecified\" />\r\n    </handlers>\r\n    \
     <aspNetCore processPath=\"dotnet\" arguments=\".\\Portal.dll\" hostingModel=\"inprocess\" \
     />\r\n  </system.webServer>\r\n</configuration>\r\n"
        .to_owned()
}

pub(super) fn router_config(persona: &Persona, rng: &mut StdRng) -> String {
    let alphabet = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut text = |len: usize| -> String {
        (0..len)
            .filter_map(|_| alphabet.get(rng.random_range(0..alphabet.len())))
            .map(|b| char::from(*b))
            .collect()
    };
    let user = persona.users.first().map_or("admin", String::as_str);
    let (salt, hash, user_salt, user_hash) = (text(4), text(22), text(4), text(22));
    let community = text(9);
    let third: u8 = rng.random_range(1..250);
    format!(
        "!\nservice timestamps debug datetime msec\nservice timestamps log datetime msec\n\
         service password-encryption\n!\nhostname {host}\n!\nenable secret 5 $1${salt}${hash}\n!\n\
         aaa new-model\naaa authentication login default local\n!\nip domain name {domain}\n!\n\
         username {user} privilege 15 secret 5 $1${user_salt}${user_hash}\n!\n\
         interface GigabitEthernet0/0\n ip address 10.{third}.0.1 255.255.255.0\n duplex auto\n \
         speed auto\n!\nip http server\nip http authentication local\nno ip http secure-server\n!\n\
         snmp-server community {community} RO\n!\nline con 0\nline vty 0 4\n transport input ssh\n!\n\
         end\n",
        host = persona.hostname,
        domain = persona.domain,
    )
}
