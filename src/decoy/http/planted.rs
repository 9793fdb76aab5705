//! The site with the files planted below the server's document root, and without what
//! was taken away there.

use std::sync::{Arc, Mutex, PoisonError};

use crate::decoy::disk::{Disk, Place};
use crate::decoy::http::site::Site;
use crate::model::Stamp;
use crate::persona::WebServer;

/// The site as last put together, and for which state of the disk.
#[derive(Debug, Default)]
pub(super) struct Planted(Mutex<Option<(u64, Arc<Site>)>>);

impl Planted {
    /// `site` as `disk` changes it; put together anew only when that changed.
    pub(super) fn on(&self, site: &Arc<Site>, server: WebServer, disk: &Disk) -> Arc<Site> {
        let now = disk.changes();
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            Some((seen, site)) if *seen == now => Arc::clone(site),
            _ => {
                let patched = patch(site, server, disk);
                *last = Some((now, Arc::clone(&patched)));
                patched
            }
        }
    }
}

fn patch(site: &Arc<Site>, server: WebServer, disk: &Disk) -> Arc<Site> {
    let files = disk.files();
    if files.is_empty() && disk.gone().is_empty() {
        return Arc::clone(site);
    }
    let mut patched = Site::clone(site);
    for root in roots(server) {
        let Ok(root) = Place::parse(root, disk.style()) else {
            continue;
        };
        patched.files.retain(|file| {
            let path = Place::parse(&format!("{root}{}", file.path), disk.style());
            path.is_ok_and(|path| !disk.is_deleted(&path))
        });
        for meta in &files {
            let Some(parts) = meta.path.below(&root) else {
                continue;
            };
            // A server does not show what others may not read.
            if meta.mode & 0o004 == 0 {
                continue;
            }
            let path = format!("/{}", parts.join("/"));
            if let Some(file) = disk.read(&meta.path) {
                let whole = meta.mtime.0.div_euclid(1_000_000).saturating_mul(1_000_000);
                patched.put(server, &path, mime(&path), file.content, Stamp(whole));
            }
        }
    }
    Arc::new(patched)
}

fn roots(server: WebServer) -> &'static [&'static str] {
    match server {
        WebServer::Nginx => &["/var/www/html", "/usr/local/www/nginx"],
        WebServer::Apache => &["/var/www/html", "/usr/local/www/apache24/data"],
        WebServer::Iis => &["C:\\inetpub\\wwwroot"],
        WebServer::Lighttpd => &["/var/www/html", "/www"],
        // Their pages lie in firmware.
        WebServer::Emweb | WebServer::CiscoIos => &[],
    }
}

/// Media types of what people plant; the site's own files have theirs.
fn mime(path: &str) -> Option<&'static str> {
    let extension = path.rsplit('.').next().unwrap_or_default();
    Some(match extension.to_ascii_lowercase().as_str() {
        "js" => "application/javascript",
        "json" => "application/json",
        "xml" => "text/xml",
        "pdf" => "application/pdf",
        "zip" => "application/zip",
        "doc" => "application/msword",
        "docx" => "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        "xls" => "application/vnd.ms-excel",
        "xlsx" => "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "svg" => "image/svg+xml",
        "htm" => "text/html",
        _ => return None,
    })
}
