//! ProFTPD's SITE: mod_site, mod_site_misc, mod_copy, mod_ratio and mod_quotatab.

use super::{LOGIN_FIRST, in_incoming, touch};
use crate::decoy::End;
use crate::decoy::artifact;
use crate::decoy::ftp::request::Request;
use crate::decoy::ftp::tree::{Fault, Kind, Owner};
use crate::decoy::ftp::{Conn, Step, list};
use crate::model::Stamp;

const HELP: &str = "214-The following SITE commands are recognized (* =>'s unimplemented)\r\n CPFR \
<sp> pathname\r\n CPTO <sp> pathname\r\n UTIME <sp> YYYYMMDDhhmm[ss] <sp> path\r\n SYMLINK <sp> \
source <sp> destination\r\n RMDIR <sp> path\r\n MKDIR <sp> path\r\n The following SITE extensions are \
recognized:\r\n RATIO -- show all ratios in effect\r\n QUOTA\r\n HELP\r\n CHGRP\r\n CHMOD\r\n214 Direct \
comments to root@";

pub(super) async fn answer(c: &mut Conn<'_>, r: &Request) -> Result<Step, End> {
    let arg = r.arg.trim_end();
    let (word, rest) = arg.split_once(' ').unwrap_or((arg, ""));
    let rest = rest.trim_start();
    let upper = word.to_ascii_uppercase();
    let text = match (upper.as_str(), c.login.is_some()) {
        ("", _) => "500 'SITE' requires parameters".to_owned(),
        ("HELP", _) => format!("{HELP}{}", c.s.persona.fqdn()),
        ("CPTO", _) if c.copy.is_none() => {
            "503-Bad sequence of commands\r\n503 Bad sequence of commands".to_owned()
        }
        ("CHMOD" | "CHGRP", _) if !rest.contains(' ') => {
            format!("500-'SITE {upper}' not understood\r\n500 SITE not understood")
        }
        ("CHMOD" | "CHGRP", false) => format!("{LOGIN_FIRST}\r\n{LOGIN_FIRST}"),
        ("CPFR" | "CPTO" | "MKDIR" | "RMDIR" | "SYMLINK" | "UTIME", true) if rest.is_empty() => {
            format!("500 'SITE {word}' not understood")
        }
        ("CPFR" | "CPTO" | "MKDIR" | "RMDIR" | "SYMLINK" | "UTIME" | "RATIO" | "QUOTA", false) => {
            LOGIN_FIRST.to_owned()
        }
        ("CHMOD", true) => chmod(c, arg, rest),
        ("CHGRP", true) => chgrp(c, rest),
        ("CPFR", true) => copy_from(c, rest),
        ("CPTO", true) => copy_to(c, rest),
        ("MKDIR" | "RMDIR" | "SYMLINK" | "UTIME", true) => misc(c, &upper, rest),
        ("RATIO", true) => "214 Current Ratio: ( -2/0 +0/0 (0 0 0 0) = 0/0 )".to_owned(),
        ("QUOTA", true) => "202 No quotas in effect".to_owned(),
        _ => format!("500 'SITE {word}' not understood"),
    };
    c.say(&text).await
}

fn chmod(c: &Conn<'_>, arg: &str, rest: &str) -> String {
    let Some((mode, name)) = rest.split_once(' ') else {
        return String::new();
    };
    let (path, owner) = (c.resolve(name), c.owner());
    let current = c.tree().get(&path).map(|node| node.mode);
    let current = match current {
        Ok(current) => current,
        Err(fault) => return format!("550 {name}: {}", fault.text()),
    };
    if c.is_guest() {
        return format!("550 {arg}: Permission denied");
    }
    let Some(bits) = parse_mode(mode, current) else {
        return format!("550 '{mode}': invalid mode");
    };
    let done = c.tree().chmod(&path, bits, owner);
    match done {
        Ok(()) => "200 SITE CHMOD command successful".to_owned(),
        Err(fault) => format!("550 {name}: {}", fault.text()),
    }
}

/// `644`, or symbolic as `u+x,go-w`.
fn parse_mode(text: &str, current: u32) -> Option<u32> {
    if text.starts_with(|c: char| c.is_ascii_digit()) {
        return u32::from_str_radix(text, 8).ok().filter(|m| *m <= 0o7777);
    }
    let mut bits = current;
    for clause in text.split(',') {
        let at = clause.find(['+', '-', '='])?;
        let (who, change) = clause.split_at(at);
        let mut mask = 0;
        for letter in if who.is_empty() { "a" } else { who }.chars() {
            mask |= match letter {
                'u' => 0o700,
                'g' => 0o070,
                'o' => 0o007,
                'a' => 0o777,
                _ => return None,
            };
        }
        let mut set = 0;
        for letter in change.chars().skip(1) {
            set |= match letter {
                'r' => 0o444,
                'w' => 0o222,
                'x' => 0o111,
                _ => return None,
            };
        }
        bits = match change.chars().next()? {
            '+' => bits | (set & mask),
            '-' => bits & !(set & mask),
            _ => (bits & !mask) | (set & mask),
        };
    }
    Some(bits)
}

/// Only root may give files away.
fn chgrp(c: &Conn<'_>, rest: &str) -> String {
    let name = rest.split_once(' ').map_or(rest, |(_, name)| name);
    let path = c.resolve(name);
    let found = c.tree().get(&path).map(|_| ());
    match found {
        Ok(()) => format!("550 {name}: Operation not permitted"),
        Err(fault) => format!("550 {name}: {}", fault.text()),
    }
}

fn copy_from(c: &mut Conn<'_>, name: &str) -> String {
    let path = c.resolve(name);
    if c.is_guest() && in_incoming(c, &path) {
        return format!("550 {path}: Operation not permitted");
    }
    let found = c.tree().get(&path).map(|_| ());
    match found {
        Ok(()) => {
            c.copy = Some(path);
            "350 File or directory exists, ready for destination name".to_owned()
        }
        Err(fault) => format!("550 {path}: {}", fault.text()),
    }
}

fn copy_to(c: &mut Conn<'_>, name: &str) -> String {
    let Some(from) = c.copy.take() else {
        return String::new();
    };
    if c.is_guest() {
        return "550 CPTO: Operation not permitted".to_owned();
    }
    let to = c.resolve(name);
    match copy(c, &from, &to) {
        Ok(()) => "250 Copy successful".to_owned(),
        Err(fault) => format!("550 CPTO: {}", fault.text()),
    }
}

/// Copies a file, or a directory with its files.
fn copy(c: &Conn<'_>, from: &str, to: &str) -> Result<(), Fault> {
    let (owner, now) = (c.owner(), Stamp::now());
    let is_dir = c.tree().get(from)?.is_dir();
    if !is_dir {
        return copy_file(c, from, to, owner);
    }
    match c.tree().mkdir(to, 0o755, owner, now) {
        Ok(()) | Err(Fault::Exists) => {}
        Err(fault) => return Err(fault),
    }
    let names: Vec<String> = {
        let tree = c.tree();
        let files = tree.children(from).into_iter();
        files
            .filter(|(_, node)| !node.is_dir())
            .map(|(name, _)| name.to_owned())
            .collect()
    };
    for name in names {
        let (from, to) = (format!("{from}/{name}"), format!("{to}/{name}"));
        copy_file(c, &from, &to, owner)?;
    }
    Ok(())
}

fn copy_file(c: &Conn<'_>, from: &str, to: &str, owner: Owner) -> Result<(), Fault> {
    let mut tree = c.tree();
    let node = tree.get(from)?;
    let (Kind::File { size, content }, mode) = (&node.kind, node.mode) else {
        return Err(Fault::IsDir);
    };
    if !node.allows(owner, 4) {
        return Err(Fault::Denied);
    }
    let (bytes, size) = (c.shared.bytes(content, &c.s.disk), *size);
    let kept = bytes
        .get(..bytes.len().min(artifact::MAX_BYTES))
        .unwrap_or_default();
    tree.write(to, kept.to_vec(), size, mode, owner, Stamp::now())
}

fn misc(c: &Conn<'_>, word: &str, rest: &str) -> String {
    let shown = format!("{word} {rest}");
    if c.is_guest() {
        return format!("550 {shown}: Operation not permitted");
    }
    let (path, owner, now) = (c.resolve(rest), c.owner(), Stamp::now());
    let done = match word {
        "MKDIR" => match c.tree().mkdir(&path, 0o755, owner, now) {
            Err(Fault::Exists) => Ok(()),
            other => other,
        },
        "RMDIR" => c.tree().rmdir(&path, owner, now),
        "UTIME" => {
            let Some((time, name)) = rest.split_once(' ') else {
                return format!("500 {shown}: Invalid argument");
            };
            let full = if time.len() == 12 {
                format!("{time}00")
            } else {
                time.to_owned()
            };
            match list::parse_stamp(&full) {
                Some(at) => touch(c, name, at),
                None => return format!("500 {shown}: Invalid argument"),
            }
        }
        // There are no links here: what exists may not be linked to.
        _ => {
            let source = rest.split(' ').next().unwrap_or_default();
            let path = c.resolve(source);
            let found = c.tree().get(&path).map(|_| ());
            match found {
                Ok(()) => return format!("550 {shown}: Operation not permitted"),
                Err(fault) => Err(fault),
            }
        }
    };
    match done {
        Ok(()) => format!("200 SITE {word} command successful"),
        Err(fault) => format!("550 {shown}: {}", fault.text()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_octal_or_symbolic() {
        assert_eq!(parse_mode("600", 0o644), Some(0o600));
        assert_eq!(parse_mode("999", 0o644), None);
        assert_eq!(parse_mode("u+x", 0o644), Some(0o744));
        assert_eq!(parse_mode("go=,a-w", 0o644), Some(0o400));
        assert_eq!(parse_mode("z", 0o644), None);
    }
}
