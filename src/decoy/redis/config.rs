//! CONFIG: the parameters of the claimed version (`config.tsv`: name, value, first
//! version, whether it can be set) and the server's checks when one is set.

use std::collections::BTreeMap;

use super::call::{Cx, glob};
use super::platform::Platform;
use super::reply::{Fault, OK, Reply};
use super::table::Version;
use crate::persona::Persona;

/// Parameter values by name.
#[derive(Debug)]
pub(super) struct Settings {
    values: BTreeMap<&'static str, String>,
    fixed: Vec<&'static str>,
    /// Directories of the host's people, for `dir`.
    homes: Vec<String>,
    platform: Platform,
}

/// Units a memory value may carry.
const UNITS: &[(&str, u64)] = &[
    ("kb", 1 << 10),
    ("mb", 1 << 20),
    ("gb", 1 << 30),
    ("k", 1000),
    ("m", 1_000_000),
    ("g", 1_000_000_000),
    ("b", 1),
    ("", 1),
];

/// Parts of the names of parameters that came after 3.0.
const AFTER_3: &[&str] = &[
    "active-defrag",
    "activedefrag",
    "always-show-logo",
    "aof-use-rdb-preamble",
    "client-query-buffer-limit",
    "cluster-announce",
    "cluster-replica",
    "cluster-allow",
    "dynamic-hz",
    "lazyfree",
    "lfu-",
    "list-max-ziplist-size",
    "list-compress-depth",
    "lua-replicate",
    "proto-max-bulk-len",
    "protected-mode",
    "rdb-save-incremental",
    "replica",
    "slave-announce",
    "slave-ignore-maxmemory",
    "slave-lazy-flush",
    "stream-node",
    "supervised",
];

const MEMORY: &[&str] = &[
    "maxmemory",
    "maxmemory-clients",
    "repl-backlog-size",
    "auto-aof-rewrite-min-size",
    "proto-max-bulk-len",
    "client-query-buffer-limit",
    "active-defrag-ignore-bytes",
    "stream-node-max-bytes",
    "hll-sparse-max-bytes",
];

const POLICIES: &[&str] = &[
    "volatile-lru",
    "volatile-lfu",
    "volatile-random",
    "volatile-ttl",
    "allkeys-lru",
    "allkeys-lfu",
    "allkeys-random",
    "noeviction",
];

impl Settings {
    /// What the server starts with; `password` is `requirepass`.
    pub(super) fn new(version: Version, persona: &Persona, password: &str) -> Self {
        let platform = Platform::of(persona);
        let mut this = Self {
            values: BTreeMap::new(),
            fixed: Vec::new(),
            homes: platform.homes(persona),
            platform,
        };
        for line in include_str!("config.tsv").lines() {
            let mut cells = line.split('\t');
            let (Some(name), Some(value)) = (cells.next(), cells.next()) else {
                continue;
            };
            let since: u16 = cells.next().and_then(|c| c.parse().ok()).unwrap_or(5);
            // The table begins with 5.0; before that there was less.
            let newer = version.0 < 5 && AFTER_3.iter().any(|mark| name.contains(mark));
            if since > version.0.max(5) || newer {
                continue;
            }
            if cells.next() == Some("fixed") {
                this.fixed.push(name);
            }
            this.values.insert(name, value.to_owned());
        }
        if !version.seven() {
            this.put("bind", "0.0.0.0");
            this.put("daemonize", "yes");
            this.put("supervised", "no");
            this.put("save", "900 1 300 10 60 10000");
            this.put("repl-diskless-sync", "no");
        }
        for (name, value) in platform.settings(version) {
            this.put(name, value);
        }
        this.put("requirepass", password);
        this
    }

    pub(super) fn get(&self, name: &str) -> &str {
        self.values.get(name).map_or("", String::as_str)
    }

    fn put(&mut self, name: &str, value: &str) {
        if let Some(slot) = self.values.get_mut(name) {
            value.clone_into(slot);
        }
    }

    /// Where SAVE would write.
    pub(super) fn dump_path(&self) -> String {
        let dir = self.get("dir");
        let slash = self.platform.slash();
        format!(
            "{}{slash}{}",
            dir.strip_suffix(slash).unwrap_or(dir),
            self.get("dbfilename")
        )
    }

    /// The value that setting `name` to `value` would store, or why not.
    fn check(&self, name: &str, value: &str) -> Result<String, String> {
        let old = self.get(name);
        if name == "dir" {
            return self.directory(value);
        }
        let path = value.contains('/') || value.contains(self.platform.slash());
        if name == "dbfilename" && path {
            return Err("dbfilename can't be a path, just a filename".to_owned());
        }
        if MEMORY.contains(&name) {
            return memory(value)
                .map(|bytes| bytes.to_string())
                .ok_or_else(|| "argument must be a memory value".to_owned());
        }
        if name == "maxmemory-policy" && !POLICIES.contains(&value) {
            return Err(format!(
                "argument(s) must be one of the following: {}",
                POLICIES.join(", ")
            ));
        }
        if matches!(old, "yes" | "no") {
            let lower = value.to_ascii_lowercase();
            return match lower.as_str() {
                "yes" | "no" => Ok(lower),
                _ => Err("argument must be 'yes' or 'no'".to_owned()),
            };
        }
        if !old.is_empty() && old.parse::<i64>().is_ok() && value.parse::<i64>().is_err() {
            return Err("argument couldn't be parsed into an integer".to_owned());
        }
        if value.len() > 4096 {
            return Err("Invalid argument".to_owned());
        }
        Ok(value.to_owned())
    }

    /// `value` as an absolute path, if the host has that directory.
    fn directory(&self, value: &str) -> Result<String, String> {
        self.platform.directory(self.get("dir"), value, &self.homes)
    }
}

fn memory(value: &str) -> Option<u64> {
    let lower = value.to_ascii_lowercase();
    let digits = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = lower.get(digits.len()..)?;
    let factor = UNITS.iter().find(|(name, _)| *name == unit)?.1;
    digits.parse::<u64>().ok()?.checked_mul(factor)
}

pub(super) fn config(cx: &mut Cx<'_>) -> Result<Reply, Fault> {
    let version = cx.st.version;
    let sub = cx.word(1);
    match (sub.as_str(), cx.args.len()) {
        ("get", 3) => Ok(get(cx)),
        ("get", 4..) if version.seven() => Ok(get(cx)),
        ("set", 4) => set(cx),
        ("set", n) if version.seven() && n > 4 && n.is_multiple_of(2) => set(cx),
        ("resetstat", 2) => {
            cx.st.stats = super::state::Stats::default();
            cx.st.reset_at = cx.now;
            Ok(OK)
        }
        ("rewrite", 2) => Ok(OK),
        ("help", 2) => Ok(Reply::Array(
            HELP.lines().map(|l| Reply::Simple(l.into())).collect(),
        )),
        ("get" | "set" | "resetstat" | "rewrite" | "help", _) => Err(cx.wrong_arity_of_sub()),
        _ => Err(cx.unknown_sub()),
    }
}

const HELP: &str = "CONFIG <subcommand> [<arg> [value] [opt] ...]. Subcommands are:
GET <pattern>
    Return parameters matching the glob-like <pattern> and their values.
SET <directive> <value>
    Set the configuration <directive> to <value>.
RESETSTAT
    Reset statistics reported by the INFO command.
REWRITE
    Rewrite the configuration file.
HELP
    Prints this help.";

fn get(cx: &Cx<'_>) -> Reply {
    let patterns: Vec<Vec<u8>> = cx
        .args
        .iter()
        .skip(2)
        .take(64)
        .map(|p| p.to_ascii_lowercase())
        .collect();
    Reply::Map(
        cx.st
            .settings
            .values
            .iter()
            .filter(|(name, _)| patterns.iter().any(|p| glob(p, name.as_bytes())))
            .map(|(name, value)| (Reply::bulk(name), Reply::bulk(value)))
            .collect(),
    )
}

fn set(cx: &mut Cx<'_>) -> Result<Reply, Fault> {
    let version = cx.st.version;
    let mut accepted = Vec::new();
    for pair in cx.args.get(2..).unwrap_or_default().chunks(2) {
        let [name, value] = pair else { continue };
        let shown = String::from_utf8_lossy(name).into_owned();
        let name = shown.to_ascii_lowercase();
        let value = String::from_utf8_lossy(value).into_owned();
        let settings = &cx.st.settings;
        let Some((name, _)) = settings.values.get_key_value(name.as_str()) else {
            return Err(Fault::err(if version.seven() {
                format!("Unknown option or number of arguments for CONFIG SET - '{shown}'")
            } else {
                format!("Unsupported CONFIG parameter: {shown}")
            }));
        };
        let fixed = settings.fixed.contains(name);
        if fixed && !version.seven() {
            return Err(Fault::err(format!("Unsupported CONFIG parameter: {shown}")));
        }
        let checked = if fixed {
            Err("can't set immutable config".to_owned())
        } else {
            settings.check(name, &value)
        };
        match checked {
            Ok(value) => accepted.push((*name, value)),
            Err(why) if version.seven() => {
                return Err(Fault::err(format!(
                    "CONFIG SET failed (possibly related to argument '{shown}') - {why}"
                )));
            }
            Err(why) if *name == "dir" => {
                return Err(Fault::err(format!("Changing directory: {why}")));
            }
            Err(why) if version.six() => {
                return Err(Fault::err(format!(
                    "Invalid argument '{value}' for CONFIG SET '{shown}' - {why}"
                )));
            }
            Err(why) if *name == "dbfilename" => return Err(Fault::err(why)),
            Err(_) => {
                return Err(Fault::err(format!(
                    "Invalid argument '{value}' for CONFIG SET '{shown}'"
                )));
            }
        }
    }
    for (name, value) in accepted {
        cx.st.settings.put(name, &value);
        // The old and the new name of a parameter are one.
        for (old, new) in [("slave", "replica"), ("ziplist", "listpack")] {
            let other = if name.contains(old) {
                name.replace(old, new)
            } else {
                name.replace(new, old)
            };
            cx.st.settings.put(&other, &value);
        }
    }
    Ok(OK)
}
