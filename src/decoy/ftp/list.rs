//! Directory listings and file times as the two servers print them.

use std::time::Duration;

use crate::decoy::ftp::tree::{Fault, Node, Tree, join, resolve, split};
use crate::model::Stamp;

const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

/// What a listing command asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Options {
    /// `-a`
    pub(super) all: bool,
    /// `-l`
    pub(super) long: bool,
    /// `-r`
    pub(super) reverse: bool,
    /// `-t`
    pub(super) by_time: bool,
    /// `-S`
    pub(super) by_size: bool,
    /// `-R`
    pub(super) recurse: bool,
}

/// Splits leading `-flags` off an argument.
pub(super) fn options(arg: &str) -> (Options, &str) {
    let mut options = Options::default();
    let mut rest = arg.trim_start();
    while let Some(flags) = rest.strip_prefix('-') {
        let (flags, after) = flags.split_once(' ').unwrap_or((flags, ""));
        for flag in flags.chars() {
            match flag {
                'a' => options.all = true,
                'l' => options.long = true,
                'r' => options.reverse = true,
                't' => options.by_time = true,
                'S' => options.by_size = true,
                'R' => options.recurse = true,
                _ => {}
            }
        }
        rest = after.trim_start();
    }
    (options, rest)
}

/// One line to be.
#[derive(Debug)]
pub(super) struct Entry<'a> {
    /// As listed.
    pub(super) name: String,
    /// Where it lies.
    pub(super) path: String,
    /// What it is.
    pub(super) node: &'a Node,
}

/// What a listing is of.
#[derive(Debug)]
pub(super) enum Listed<'a> {
    /// The names in a directory.
    Dir(Vec<Entry<'a>>),
    /// A file, or the names a pattern fits.
    Names(Vec<Entry<'a>>),
}

impl<'a> Listed<'a> {
    /// Its entries.
    pub(super) fn entries(self) -> Vec<Entry<'a>> {
        match self {
            Listed::Dir(entries) | Listed::Names(entries) => entries,
        }
    }
}

/// Looks up what `target` (a directory, a file, a pattern) names.
pub(super) fn lookup<'a>(
    tree: &'a Tree,
    cwd: &str,
    target: &str,
    options: Options,
) -> Result<Listed<'a>, Fault> {
    let path = resolve(cwd, target);
    match tree.get(&path) {
        Ok(node) if node.is_dir() => Ok(Listed::Dir(read_dir(tree, &path, options))),
        Ok(node) => Ok(Listed::Names(vec![Entry {
            name: target.to_owned(),
            path,
            node,
        }])),
        Err(_) if target.contains(['*', '?', '[']) => {
            let (dir, pattern) = split(&path);
            let prefix = target.rsplit_once('/').map(|(dir, _)| format!("{dir}/"));
            let prefix = prefix.unwrap_or_default();
            let mut found = read_dir(tree, dir, options);
            found.retain(|entry| glob(pattern.as_bytes(), entry.name.as_bytes()));
            for entry in &mut found {
                entry.name = format!("{prefix}{}", entry.name);
            }
            Ok(Listed::Names(found))
        }
        Err(fault) => Err(fault),
    }
}

/// The sorted names of `dir`, which exists.
pub(super) fn read_dir<'a>(tree: &'a Tree, dir: &str, options: Options) -> Vec<Entry<'a>> {
    let mut entries: Vec<Entry<'a>> = Vec::new();
    if options.all {
        for (name, path) in [(".", dir), ("..", split(dir).0)] {
            if let Ok(node) = tree.get(path) {
                entries.push(Entry {
                    name: name.to_owned(),
                    path: path.to_owned(),
                    node,
                });
            }
        }
    }
    for (name, node) in tree.children(dir) {
        if options.all || !name.starts_with('.') {
            entries.push(Entry {
                name: name.to_owned(),
                path: join(dir, name),
                node,
            });
        }
    }
    if options.by_time {
        entries.sort_by_key(|e| std::cmp::Reverse(e.node.mtime));
    } else if options.by_size {
        entries.sort_by_key(|e| std::cmp::Reverse(e.node.size()));
    }
    if options.reverse {
        entries.reverse();
    }
    entries
}

/// Names in the order of a hashed directory, for what a server does not sort.
pub(super) fn unsorted(mut entries: Vec<Entry<'_>>) -> Vec<Entry<'_>> {
    entries.sort_by_key(|entry| {
        entry
            .name
            .bytes()
            .chain(entry.node.inode.to_le_bytes())
            .fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
            })
    });
    entries
}

/// `drwxr-xr-x`.
pub(super) fn mode(node: &Node) -> String {
    let mut text = String::from(if node.is_dir() { "d" } else { "-" });
    for shift in [6u32, 3, 0] {
        for (bit, letter) in [(4u32, 'r'), (2, 'w'), (1, 'x')] {
            let set = node.mode & (bit << shift) != 0;
            text.push(if set { letter } else { '-' });
        }
    }
    text
}

/// A line of vsftpd: numeric owners, recent means half a year of 182 days.
pub(super) fn vsftpd(tree: &Tree, entry: &Entry<'_>, now: Stamp) -> String {
    let node = entry.node;
    let at = node.mtime.utc();
    let month = month(node.mtime);
    let when = if recent(node.mtime, now, 182) {
        format!(
            "{month} {:02} {:02}:{:02}",
            at.day(),
            at.hour(),
            at.minute()
        )
    } else {
        format!("{month} {:02}  {}", at.day(), at.year())
    };
    format!(
        "{} {:>4} {:<8} {:<8} {:>8} {when} {}\r\n",
        mode(node),
        tree.links(&entry.path, node),
        node.owner.uid,
        node.owner.gid,
        node.size(),
        entry.name,
    )
}

/// A line of ProFTPD: `user` owns everything, recent means 180 days.
pub(super) fn proftpd(tree: &Tree, entry: &Entry<'_>, owner: (&str, &str), now: Stamp) -> String {
    let node = entry.node;
    let at = node.mtime.utc();
    let month = month(node.mtime);
    let when = if recent(node.mtime, now, 180) {
        format!(
            "{month} {:>2} {:02}:{:02}",
            at.day(),
            at.hour(),
            at.minute()
        )
    } else {
        format!("{month} {:>2} {:>5}", at.day(), at.year())
    };
    format!(
        "{} {:>3} {:<8} {:<8} {:>8} {when} {}\r\n",
        mode(node),
        tree.links(&entry.path, node),
        owner.0,
        owner.1,
        node.size(),
        entry.name,
    )
}

fn month(at: Stamp) -> &'static str {
    let index = usize::try_from(at.utc().month()).unwrap_or(1);
    MONTHS
        .get(index.saturating_sub(1))
        .copied()
        .unwrap_or("Jan")
}

fn recent(at: Stamp, now: Stamp, days: u64) -> bool {
    at <= now && now.since(at) <= Duration::from_secs(days.saturating_mul(86_400))
}

/// `YYYYMMDDhhmmss`, as MDTM and the facts of MLST print it.
pub(super) fn stamp(at: Stamp) -> String {
    at.utc().strftime("%Y%m%d%H%M%S").to_string()
}

/// Reads `YYYYMMDDhhmmss`.
pub(super) fn parse_stamp(text: &str) -> Option<Stamp> {
    if text.len() != 14 || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let civil = jiff::civil::DateTime::strptime("%Y%m%d%H%M%S", text).ok()?;
    let zoned = civil.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
    Some(Stamp(zoned.timestamp().as_microsecond()))
}

/// Whether `*` and `?` of `pattern` fit `name`; time is the product of their lengths.
fn glob(pattern: &[u8], name: &[u8]) -> bool {
    // One row of the table "pattern up to here fits name up to there".
    let mut fits = vec![false; name.len().saturating_add(1)];
    if let Some(first) = fits.first_mut() {
        *first = true;
    }
    for symbol in pattern {
        let mut next = vec![false; fits.len()];
        let mut before = false;
        for (at, slot) in next.iter_mut().enumerate() {
            let here = fits.get(at).copied().unwrap_or(false);
            let above = at
                .checked_sub(1)
                .and_then(|i| Some((fits.get(i).copied()?, name.get(i)?)));
            *slot = match (symbol, above) {
                (b'*', _) => here || before,
                (b'?', Some((fitted, _))) => fitted,
                (symbol, Some((fitted, byte))) => fitted && symbol == byte,
                (_, None) => false,
            };
            before = *slot;
        }
        fits = next;
    }
    fits.last().copied().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::decoy::ftp::tree::Owner;

    #[test]
    fn lines_are_those_of_the_real_servers() {
        let me = Owner {
            uid: 1500,
            gid: 1500,
        };
        let now = parse_stamp("20261122231800").unwrap();
        let at = |text| parse_stamp(text).unwrap();
        let mut tree = Tree::new(me, 0o755, at("20261122231800"), 1);
        tree.mkdir("/backups", 0o755, me, at("20261122231800"))
            .unwrap();
        tree.write("/old.tar", vec![], 3000, 0o644, me, at("20250105101112"))
            .unwrap();
        let entries = read_dir(&tree, "/", Options::default());
        assert_eq!(
            vsftpd(&tree, &entries[0], now),
            "drwxr-xr-x    2 1500     1500         4096 Nov 22 23:18 backups\r\n"
        );
        assert_eq!(
            vsftpd(&tree, &entries[1], now),
            "-rw-r--r--    1 1500     1500         3000 Jan 05  2025 old.tar\r\n"
        );
        assert_eq!(
            proftpd(&tree, &entries[0], ("anna", "anna"), now),
            "drwxr-xr-x   2 anna     anna         4096 Nov 22 23:18 backups\r\n"
        );
        assert_eq!(
            proftpd(&tree, &entries[1], ("anna", "anna"), now),
            "-rw-r--r--   1 anna     anna         3000 Jan  5  2025 old.tar\r\n"
        );
        assert_eq!(stamp(at("20250105101112")), "20250105101112");
    }

    #[test]
    fn patterns() {
        for (pattern, name, fits) in [
            ("*.txt", "a.txt", true),
            ("*.txt", "a.txt2", false),
            ("a?c*", "abcdef", true),
            ("*", "", true),
            ("", "a", false),
        ] {
            assert_eq!(glob(pattern.as_bytes(), name.as_bytes()), fits, "{pattern}");
        }
    }

    proptest! {
        #[test]
        fn arguments_never_panic(arg: String, name: String) {
            let _ = options(&arg);
            let _ = parse_stamp(&arg);
            let _ = glob(arg.as_bytes(), name.as_bytes());
        }
    }
}
