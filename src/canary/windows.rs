//! What Windows Explorer reads by itself: a folder's `desktop.ini` and internet shortcuts.
//! Their icons lie on a share of ours. With a zone the share's server is a name in it, so
//! that resolving it calls even where SMB cannot get out; without one it is our web
//! server, which Windows asks by WebDAV.

use super::work::Work;
use super::{Error, File};

pub(super) fn desktop_ini(work: &mut Work) -> Result<Vec<File>, Error> {
    let at = work.draw.moment(work.now, 30, 400);
    let folder = work.draw.pick(&[
        "Finance",
        "Contracts",
        "HR",
        "Passwords",
        "Board",
        "Projects",
    ]);
    let icon = icon(work);
    let text = format!(
        "[.ShellClassInfo]\r\nConfirmFileOp=0\r\nIconResource={icon},0\r\n\
         [ViewState]\r\nMode=\r\nVid=\r\nFolderType=Documents\r\n"
    );
    let path = if work.setting.windows {
        work.setting.document(&format!("{folder}/desktop.ini"))
    } else {
        format!("/srv/samba/{folder}/desktop.ini")
    };
    Ok(vec![work.text(path, 0o644, at, text)])
}

pub(super) fn shortcut(work: &mut Work) -> Result<Vec<File>, Error> {
    let at = work.draw.moment(work.now, 30, 400);
    let name = work.draw.pick(&[
        "Password manager",
        "Firewall administration",
        "Payroll portal",
        "Backup console",
        "VPN administration",
    ]);
    // Without a zone the icon is left to the browser: a second address of the same
    // server would only make it conspicuous.
    let icon = if work.zone_host.is_some() {
        format!("IconFile={}\r\nIconIndex=0\r\n", icon(work))
    } else {
        String::new()
    };
    let text = format!(
        "[{{000214A0-0000-0000-C000-000000000046}}]\r\nProp3=19,11\r\n\
         [InternetShortcut]\r\nIDList=\r\nURL={}/\r\n{icon}",
        work.url
    );
    let path = if work.setting.windows {
        format!("{}/Desktop/{name}.url", work.setting.home)
    } else {
        work.setting.document(&format!("{name}.url"))
    };
    Ok(vec![work.file(
        path,
        "application/internet-shortcut",
        0o644,
        at,
        text,
    )])
}

/// The icon's name on our share.
fn icon(work: &mut Work) -> String {
    let share = work.draw.pick(&["public", "icons", "intranet", "common"]);
    if let Some(host) = &work.zone_host {
        return format!("\\\\{host}\\{share}\\folder.ico");
    }
    let (scheme, rest) = work.url.split_once("://").unwrap_or(("http", &work.url));
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => {
            (host, format!("@{port}"))
        }
        _ => (authority, String::new()),
    };
    let tls = if scheme == "https" { "@SSL" } else { "" };
    format!(
        "\\\\{host}{tls}{port}\\DavWWWRoot\\{}\\folder.ico",
        path.replace('/', "\\")
    )
}
