//! A checkout of a repository with one commit: objects, references, reflog and index are
//! what git itself would have written, so that every command works, and those that talk to
//! the remote call.

use std::io::Write;

use flate2::Compression;
use flate2::write::ZlibEncoder;
use sha1::{Digest, Sha1};

use super::draw::Draw;
use super::work::Work;
use super::{Error, File};

/// Name of an object.
type Id = [u8; 20];

pub(super) fn make(work: &mut Work) -> Result<Vec<File>, Error> {
    let at = work.draw.moment(work.now, 20, 90);
    let seconds = at.0.div_euclid(1_000_000);
    let owner = work.setting.owner(&mut work.draw);
    let repository = work.draw.pick(&[
        "infrastructure",
        "ansible",
        "deploy",
        "ops-scripts",
        "site-config",
    ]);
    let folder = format!("{}/{repository}", work.setting.home);
    let who = format!("{} <{}>", owner.full(), work.setting.mail());
    let url = format!("{}/{repository}.git", work.url);
    let tree_files = files(work, repository);

    let mut objects = Vec::new();
    let mut tree = Vec::new();
    let mut index = Index::default();
    for (name, text) in &tree_files {
        let blob = object("blob", text.as_bytes());
        tree.extend_from_slice(format!("100644 {name}\0").as_bytes());
        tree.extend_from_slice(&blob.id);
        index.add(name, text.len(), &blob.id, seconds, work.setting.uid);
        objects.push(blob);
    }
    let tree = object("tree", &tree);
    let subject = work.draw.pick(&[
        "Move the inventory out of the wiki",
        "Update addresses after the switch replacement",
        "Add the new backup hosts",
        "Pin versions before the upgrade",
    ]);
    // The clone is a little younger than what it got.
    let committed = seconds - i64::try_from(work.draw.between(4000, 900_000)).unwrap_or(4000);
    let commit = format!(
        "tree {}\nauthor {who} {committed} +0000\ncommitter {who} {committed} +0000\n\n{subject}\n",
        hex(&tree.id)
    );
    let commit = object("commit", commit.as_bytes());
    let head = hex(&commit.id);
    objects.extend([tree, commit]);

    let log = format!(
        "{} {head} {who} {seconds} +0000\tclone: from {url}\n",
        "0".repeat(40)
    );
    let config = format!(
        "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = false\n\tlogallrefupdates = true\n\
         [remote \"origin\"]\n\turl = {url}\n\tfetch = +refs/heads/*:refs/remotes/origin/*\n\
         [branch \"main\"]\n\tremote = origin\n\tmerge = refs/heads/main\n\
         [user]\n\tname = {}\n\temail = {}\n",
        owner.full(),
        work.setting.mail()
    );
    let packed =
        format!("# pack-refs with: peeled fully-peeled sorted \n{head} refs/remotes/origin/main\n");
    let texts = [
        ("config", config),
        ("HEAD", "ref: refs/heads/main\n".to_owned()),
        (
            "description",
            "Unnamed repository; edit this file 'description' to name the repository.\n".to_owned(),
        ),
        ("packed-refs", packed),
        ("refs/heads/main", format!("{head}\n")),
        (
            "refs/remotes/origin/HEAD",
            "ref: refs/remotes/origin/main\n".to_owned(),
        ),
        ("logs/HEAD", log.clone()),
        ("logs/refs/heads/main", log.clone()),
        ("logs/refs/remotes/origin/HEAD", log),
    ];
    let mut out: Vec<File> = texts
        .into_iter()
        .map(|(name, text)| work.text(format!("{folder}/.git/{name}"), 0o644, at, text))
        .collect();
    let binary = "application/octet-stream";
    out.push(work.file(
        format!("{folder}/.git/index"),
        binary,
        0o644,
        at,
        index.finish(),
    ));
    for object in objects {
        let id = hex(&object.id);
        let (first, rest) = id.split_at(2);
        let path = format!("{folder}/.git/objects/{first}/{rest}");
        out.push(work.file(path, binary, 0o444, at, object.packed));
    }
    for (name, text) in tree_files {
        out.push(work.text(format!("{folder}/{name}"), 0o644, at, text));
    }
    Ok(out)
}

/// What is checked out, in the order of names.
fn files(work: &mut Work, repository: &str) -> Vec<(&'static str, String)> {
    let draw = &mut work.draw;
    let domain = &work.setting.domain;
    let group = |draw: &mut Draw, name: &str, word: &str| {
        let count = draw.between(1, 3);
        let hosts: String = (1..=count)
            .map(|n| format!("{word}{n:02}.{domain} ansible_host={}\n", draw.address()))
            .collect();
        format!("[{name}]\n{hosts}\n")
    };
    let inventory = [("web", "web"), ("database", "db"), ("backup", "bk")]
        .map(|(name, word)| group(draw, name, word))
        .concat();
    let inventory = format!(
        "{inventory}[all:vars]\nansible_user={}\nansible_become_password={}\n",
        draw.pick(&["deploy", "ansible", "ops"]),
        draw.password()
    );
    let readme = format!(
        "# {repository}\n\n\
         Configuration of {company}'s servers. Changes go through review.\n\n\
         Run `ansible-playbook -i hosts.ini site.yml --limit HOST` from the jump host;\n\
         the vault password is with {}.\n",
        draw.person(&[]).full(),
        company = work.setting.company,
    );
    let site = "- hosts: all\n  become: true\n  roles:\n    - base\n    - monitoring\n\n\
                - hosts: web\n  become: true\n  roles:\n    - nginx\n    - certificates\n\n\
                - hosts: database\n  become: true\n  roles:\n    - mariadb\n    - backup_client\n"
        .to_owned();
    vec![
        ("README.md", readme),
        ("hosts.ini", inventory),
        ("site.yml", site),
    ]
}

struct Object {
    id: Id,
    packed: Vec<u8>,
}

fn object(kind: &str, body: &[u8]) -> Object {
    let whole = [format!("{kind} {}\0", body.len()).as_bytes(), body].concat();
    let mut zip = ZlibEncoder::new(Vec::new(), Compression::default());
    // Writing into memory does not fail.
    let packed = match zip.write_all(&whole) {
        Ok(()) => zip.finish().unwrap_or_default(),
        Err(_) => Vec::new(),
    };
    Object {
        id: Sha1::digest(&whole).into(),
        packed,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// `.git/index`, version 2. Times and inode are not those of the planted file, so git
/// looks at the contents once and then writes its own.
#[derive(Default)]
struct Index {
    entries: u32,
    body: Vec<u8>,
}

impl Index {
    fn add(&mut self, name: &str, len: usize, id: &Id, seconds: i64, uid: u32) {
        let start = self.body.len();
        let seconds = u32::try_from(seconds).unwrap_or(0);
        let size = u32::try_from(len).unwrap_or(u32::MAX);
        // Change and modification time, device, inode, mode, owner, group, size.
        for number in [seconds, 0, seconds, 0, 2049, 0, 0o100_644, uid, uid, size] {
            self.body.extend_from_slice(&number.to_be_bytes());
        }
        self.body.extend_from_slice(id);
        let flags = u16::try_from(name.len()).unwrap_or(0xfff).min(0xfff);
        self.body.extend_from_slice(&flags.to_be_bytes());
        self.body.extend_from_slice(name.as_bytes());
        // One to eight zeros up to a multiple of eight.
        let len = self.body.len() - start;
        self.body.resize(start + (len / 8 + 1) * 8, 0);
        self.entries += 1;
    }

    fn finish(self) -> Vec<u8> {
        let mut out = b"DIRC\0\0\0\x02".to_vec();
        out.extend_from_slice(&self.entries.to_be_bytes());
        out.extend_from_slice(&self.body);
        let sum: Id = Sha1::digest(&out).into();
        out.extend_from_slice(&sum);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_have_the_names_git_gives_them() {
        assert_eq!(
            hex(&object("blob", b"").id),
            "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"
        );
        assert_eq!(
            hex(&object("tree", b"").id),
            "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
        );
    }
}
