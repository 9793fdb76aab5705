//! What pages load beside themselves: ours and vendored, embedded in the program, under
//! addresses that change with the content, compressed once.

use std::collections::HashMap;
use std::io::Write;
use std::sync::{Mutex, PoisonError};

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};

use super::{Web, error};

struct Asset {
    name: &'static str,
    kind: &'static str,
    content: &'static [u8],
}

const ASSETS: [Asset; 4] = [
    Asset {
        name: "app.css",
        kind: "text/css; charset=utf-8",
        content: include_bytes!("assets/app.css"),
    },
    Asset {
        name: "app.js",
        kind: "text/javascript; charset=utf-8",
        content: include_bytes!("assets/app.js"),
    },
    Asset {
        name: "htmx.js",
        kind: "text/javascript; charset=utf-8",
        content: include_bytes!("assets/vendor/htmx-2.0.11/htmx.min.js"),
    },
    Asset {
        name: "echarts.js",
        kind: "text/javascript; charset=utf-8",
        content: include_bytes!("assets/vendor/echarts-6.1.0/echarts.simple.min.js"),
    },
];

/// Compressed forms made so far.
#[derive(Debug, Default)]
pub(super) struct Assets(Mutex<HashMap<&'static str, Bytes>>);

fn hash(content: &[u8]) -> String {
    let digest = Sha256::digest(content);
    digest.iter().take(8).map(|b| format!("{b:02x}")).collect()
}

/// The address of an asset.
pub(super) fn link(name: &str) -> String {
    static LINKS: std::sync::OnceLock<Vec<(&str, String)>> = std::sync::OnceLock::new();
    let links = LINKS.get_or_init(|| {
        let link = |a: &Asset| format!("/assets/{}/{}", hash(a.content), a.name);
        ASSETS.iter().map(|a| (a.name, link(a))).collect()
    });
    let found = links.iter().find(|(known, _)| *known == name);
    found.map_or_else(String::new, |(_, link)| link.clone())
}

/// Sends one; it never changes under its address.
pub(super) async fn serve(
    State(web): State<Web>,
    Path((given, name)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    let wanted = format!("/assets/{given}/{name}");
    let found = ASSETS.iter().find(|asset| asset.name == name);
    let Some(asset) = found.filter(|asset| link(asset.name) == wanted) else {
        return error::not_found().await;
    };
    let packed = takes_gzip(&headers);
    let common = [
        (header::CONTENT_TYPE, asset.kind),
        (header::CACHE_CONTROL, "public, max-age=31536000, immutable"),
        (header::VARY, "accept-encoding"),
    ];
    if !packed {
        return (common, asset.content).into_response();
    }
    let mut made = web.assets.0.lock().unwrap_or_else(PoisonError::into_inner);
    let body = made
        .entry(asset.name)
        .or_insert_with(|| gzip(asset.content))
        .clone();
    drop(made);
    (common, [(header::CONTENT_ENCODING, "gzip")], body).into_response()
}

/// Whether whoever asks can unpack.
pub(super) fn takes_gzip(headers: &HeaderMap) -> bool {
    let accepted = headers.get(header::ACCEPT_ENCODING);
    accepted
        .and_then(|v| v.to_str().ok())
        .is_some_and(|accepted| accepted.contains("gzip"))
}

/// Packs.
pub(super) fn gzip(content: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    // Writing to memory does not fail; an empty body would be noticed at once.
    let written = encoder.write_all(content);
    written
        .and_then(|()| encoder.finish())
        .unwrap_or_default()
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_visit_loads_at_most_300_kib() {
        let sum: usize = ASSETS.iter().map(|asset| gzip(asset.content).len()).sum();
        assert!(sum < 280 * 1024, "{sum} bytes without the page");
    }
}
