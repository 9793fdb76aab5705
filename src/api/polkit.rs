//! What a host lacks when polkit refuses an order: the rule, or the group in which the
//! rule looks for the account of this worker. The rule itself cannot be read by anybody
//! but polkit, so what is not the group is the rule.

use nix::unistd::{Gid, Uid, getegid, geteuid};

use crate::systemd::POLKIT_RULE;

/// What is missing, and how to mend it.
pub(super) fn missing() -> String {
    let read =
        |path| String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned();
    explain(
        &read("/etc/passwd"),
        &read("/etc/group"),
        geteuid(),
        getegid(),
    )
}

/// polkit asks the account files who is in the rule's group (`gid`, by which the unit
/// runs), not the process. Accounts from elsewhere are not looked up: a static program
/// must not load resolver modules.
fn explain(passwd: &str, group: &str, uid: Uid, gid: Gid) -> String {
    let user = row(passwd, uid.as_raw());
    let of = row(group, gid.as_raw());
    let (Some(user), Some(of)) = (user, of) else {
        return format!(
            "The rule {POLKIT_RULE} allows it to members of the group given to `decnet init --group`: see that \
             uid {uid} is in it (gid {gid}?) and that polkitd runs; `sudo decnet init` puts the rule there."
        );
    };
    let (name, group) = (user[0], of[0]);
    let primary = user.get(3) == Some(&gid.to_string().as_str());
    let listed = of.get(3).is_some_and(|m| m.split(',').any(|m| m == name));
    if primary || listed {
        format!(
            "The rule {POLKIT_RULE} is missing or not the one for group {group}, of which user {name} is a \
             member: `sudo decnet init` puts it there. Or polkitd does not run: `systemctl status polkit`."
        )
    } else {
        format!(
            "The rule {POLKIT_RULE} allows it to members of group {group}, and user {name} is not in that \
             group: `sudo usermod -aG {group} {name}`."
        )
    }
}

/// The fields of the row with this number, in either of the account files.
fn row(text: &str, id: u32) -> Option<Vec<&str>> {
    let id = id.to_string();
    text.lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find(|fields| fields.get(2) == Some(&id.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUP: &str =
        "root:x:0:\ndecnet:x:500:\ntrap-ops:x:501:ann,decnet\nothers:x:502:decnetx\n";

    fn said(primary: u32, gid: u32) -> String {
        let passwd = format!("root:x:0:0::/root:/bin/sh\ndecnet:x:900:{primary}::/opt:/bin/no\n");
        explain(&passwd, GROUP, Uid::from_raw(900), Gid::from_raw(gid))
    }

    #[test]
    fn the_group_is_named_when_the_account_is_not_in_it_else_the_rule() {
        for (primary, gid, group) in [(500, 500, "decnet"), (500, 501, "trap-ops")] {
            let said = said(primary, gid);
            let wanted = format!("not the one for group {group}, of which user decnet is a member");
            assert!(
                said.contains(&wanted) && said.contains(POLKIT_RULE),
                "{said}"
            );
        }
        let said = said(65534, 502);
        assert!(
            said.contains("user decnet is not in that group: `sudo usermod -aG others decnet`"),
            "{said}"
        );
    }

    #[test]
    fn an_account_from_elsewhere_is_told_by_its_number() {
        let said = explain("", "", Uid::from_raw(900), Gid::from_raw(500));
        assert!(
            said.contains("uid 900") && said.contains(POLKIT_RULE),
            "{said}"
        );
    }
}
