//! The commands a server of some version knows, from `commands.tsv` (name, arity,
//! flags, first key, last key, step, categories, since, group, summary), and what
//! COMMAND answers from it.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use super::reply::Reply;

/// A server version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Version(pub(super) u16, pub(super) u16);

impl Version {
    /// From `7.0.15`.
    pub(super) fn of(text: &str) -> Self {
        let mut parts = text.split('.').map(|part| part.parse().unwrap_or(0));
        Self(parts.next().unwrap_or(7), parts.next().unwrap_or(0))
    }

    pub(super) fn six(self) -> bool {
        self.0 >= 6
    }

    pub(super) fn seven(self) -> bool {
        self.0 >= 7
    }
}

/// One row.
#[derive(Debug)]
pub(super) struct Command {
    pub(super) name: &'static str,
    pub(super) arity: i64,
    flags: Vec<&'static str>,
    keys: [i64; 3],
    categories: Vec<&'static str>,
    since: Version,
    since_text: &'static str,
    group: &'static str,
    summary: &'static str,
}

static TABLE: LazyLock<BTreeMap<&'static str, Command>> = LazyLock::new(|| {
    include_str!("commands.tsv")
        .lines()
        .map(|line| {
            let mut cells = line.split('\t');
            let mut next = || cells.next().unwrap_or_default();
            let list = |cell: &'static str| cell.split(',').filter(|f| *f != "-").collect();
            let name = next();
            let arity = next().parse().unwrap_or(-1);
            let flags = list(next());
            let keys = [0; 3].map(|_: i64| next().parse().unwrap_or(0));
            let categories = list(next());
            let since_text = next();
            let command = Command {
                name,
                arity,
                flags,
                keys,
                categories,
                since: Version::of(since_text),
                since_text,
                group: next(),
                summary: next(),
            };
            (name, command)
        })
        .collect()
});

/// The command `name` (lower case) of a server of `version`.
pub(super) fn find(name: &str, version: Version) -> Option<&'static Command> {
    TABLE.get(name).filter(|c| c.since <= version)
}

/// All commands of a version.
pub(super) fn all(version: Version) -> impl Iterator<Item = &'static Command> {
    TABLE.values().filter(move |c| c.since <= version)
}

impl Command {
    pub(super) fn has(&self, flag: &str) -> bool {
        self.flags.contains(&flag)
    }

    /// Whether `count` words (with the name) can be a call.
    pub(super) fn takes(&self, count: usize) -> bool {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        if self.arity >= 0 {
            count == self.arity
        } else {
            count >= self.arity.saturating_neg()
        }
    }

    /// Its entry in COMMAND.
    pub(super) fn describe(&self, version: Version) -> Reply {
        let words = |list: &[&'static str], mark: &str| {
            Reply::Set(
                list.iter()
                    .map(|word| Reply::Simple(format!("{mark}{word}").into()))
                    .collect(),
            )
        };
        let [first, last, step] = self.keys;
        let modern = [
            "no_auth",
            "allow_busy",
            "no_async_loading",
            "no_multi",
            "no_mandatory_keys",
        ];
        let flags: Vec<&'static str> = self
            .flags
            .iter()
            .filter(|flag| version.seven() || !modern.contains(flag))
            .copied()
            .collect();
        let mut row = vec![
            Reply::bulk(self.name),
            Reply::Int(self.arity),
            words(&flags, ""),
            Reply::Int(first),
            Reply::Int(last),
            Reply::Int(step),
        ];
        if version.six() {
            row.push(words(&self.categories, "@"));
        }
        if version.seven() {
            row.push(Reply::Array(Vec::new()));
            row.push(self.key_specs());
            row.push(Reply::Array(Vec::new()));
        }
        Reply::Array(row)
    }

    fn key_specs(&self) -> Reply {
        let [first, last, step] = self.keys;
        if first == 0 {
            return Reply::Array(Vec::new());
        }
        let name = |text: &str| Reply::bulk(text);
        let access: &[&str] = if self.has("write") {
            &["RW", "access", "update"]
        } else {
            &["RO", "access"]
        };
        let flags = access
            .iter()
            .map(|flag| Reply::Simple((*flag).to_owned().into()))
            .collect();
        let relative = if last > 0 {
            last.saturating_sub(first)
        } else {
            last
        };
        Reply::Array(vec![Reply::Map(vec![
            (name("flags"), Reply::Set(flags)),
            (
                name("begin_search"),
                Reply::Map(vec![
                    (name("type"), name("index")),
                    (
                        name("spec"),
                        Reply::Map(vec![(name("index"), Reply::Int(first))]),
                    ),
                ]),
            ),
            (
                name("find_keys"),
                Reply::Map(vec![
                    (name("type"), name("range")),
                    (
                        name("spec"),
                        Reply::Map(vec![
                            (name("lastkey"), Reply::Int(relative)),
                            (name("keystep"), Reply::Int(step)),
                            (name("limit"), Reply::Int(0)),
                        ]),
                    ),
                ]),
            ),
        ])])
    }

    /// Its entry in COMMAND DOCS.
    pub(super) fn docs(&self) -> (Reply, Reply) {
        let pair = |key: &str, value: &str| (Reply::bulk(key), Reply::bulk(value));
        (
            Reply::bulk(self.name),
            Reply::Map(vec![
                pair("summary", self.summary),
                pair("since", self.since_text),
                pair("group", self.group),
            ]),
        )
    }

    /// Where the keys stand in a call of `count` words.
    pub(super) fn key_positions(&self, count: usize) -> Vec<usize> {
        let [first, last, step] = self.keys;
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        let last = if last < 0 {
            count.saturating_add(last)
        } else {
            last
        };
        let mut found = Vec::new();
        let mut at = first;
        while first > 0 && at <= last && step > 0 {
            found.extend(usize::try_from(at).ok());
            at = at.saturating_add(step);
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_knows_only_its_own_commands() {
        let five = Version::of("5.0.7");
        assert!(find("hello", five).is_none());
        assert!(find("hello", Version::of("6.0.16")).is_some());
        assert!(find("copy", Version::of("6.0.16")).is_none());
        assert_eq!(all(Version::of("7.0.15")).count(), 240);
    }

    #[test]
    fn arity_counts_the_name() {
        let get = find("get", Version(7, 0)).unwrap();
        assert!(get.takes(2) && !get.takes(3));
        assert_eq!(
            find("mset", Version(7, 0)).unwrap().key_positions(5),
            vec![1, 3]
        );
    }
}
