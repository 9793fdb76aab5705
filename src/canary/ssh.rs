//! A person's SSH key with the configuration of the host it is for. The key is a real one
//! that opens nothing; resolving the host's name calls.

use super::work::Work;
use super::{Error, File};
use crate::persona::key::HostKey;

pub(super) fn make(work: &mut Work) -> Result<Vec<File>, Error> {
    let host = work.host()?;
    let at = work.draw.moment(work.now, 60, 400);
    let alias = work.draw.pick(&[
        "backup", "bastion", "jump", "git", "deploy", "storage", "mirror",
    ]);
    let login = work
        .draw
        .pick(&["root", "deploy", "backup", "admin", "ops"]);
    let file = format!("id_ed25519_{alias}");
    let comment = format!("{}@{}", work.setting.user, work.setting.hostname);
    let key = HostKey::ed25519(work.draw.fork("key"), comment);
    let port = match work.draw.below(3) {
        0 => format!(
            "    Port {}\n",
            work.draw.pick(&[2222u16, 2022, 22022, 8022])
        ),
        _ => String::new(),
    };
    let config = format!(
        "Host *\n    \
         ServerAliveInterval {}\n    \
         HashKnownHosts yes\n\
         \n\
         Host {alias} {alias}.{domain}\n    \
         HostName {host}\n    \
         User {login}\n\
         {port}    \
         IdentityFile ~/.ssh/{file}\n    \
         IdentitiesOnly yes\n",
        work.draw.pick(&[30, 60, 120]),
        domain = work.setting.domain,
    );
    let folder = format!("{}/.ssh", work.setting.home);
    let public = format!("{}\n", key.public_line());
    Ok(vec![
        work.text(format!("{folder}/{file}"), 0o600, at, key.private_file()),
        work.text(format!("{folder}/{file}.pub"), 0o644, at, public),
        work.text(format!("{folder}/config"), 0o600, at, config),
    ])
}
