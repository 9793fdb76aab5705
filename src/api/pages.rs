//! Replies kept for a moment: a dashboard open on many desks costs one rendering.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use tokio::time::Instant;

use crate::model::Stamp;

/// Longest query whose reply is kept.
const MAX_QUERY: usize = 512;

/// What a page's content depends on besides its query: the newest event, and the minute,
/// because retention and the time that passes change something too.
#[derive(Clone, Debug)]
pub(super) struct Tag(HeaderValue);

impl Tag {
    pub(super) fn new(newest: i64, now: Stamp) -> Self {
        let text = format!("W/\"{newest}.{}\"", now.0.div_euclid(60_000_000));
        // Digits are fit for a header.
        Self(HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("W/\"0\"")))
    }

    /// Whether the client has exactly this already.
    pub(super) fn is_known(&self, headers: &HeaderMap) -> bool {
        let known = headers.get_all(header::IF_NONE_MATCH).iter();
        let mut known = known.filter_map(|value| value.to_str().ok());
        known.any(|list| {
            list.split(',')
                .any(|tag| tag.trim().as_bytes() == self.0.as_bytes())
        })
    }

    /// The reply to who has it.
    pub(super) fn unchanged(self) -> Response {
        (StatusCode::NOT_MODIFIED, [(header::ETAG, self.0)]).into_response()
    }

    /// The page.
    pub(super) fn page(self, body: Bytes) -> Response {
        let kind = HeaderValue::from_static("application/json");
        ([(header::CONTENT_TYPE, kind), (header::ETAG, self.0)], body).into_response()
    }
}

/// Pages as they were sent, by their path and query. Everything they show comes from
/// events, so a page is good while no newer event is stored.
#[derive(Debug, Default)]
pub(super) struct Pages(Mutex<HashMap<String, Kept>>);

#[derive(Debug)]
struct Kept {
    newest: i64,
    at: Instant,
    body: Bytes,
}

impl Pages {
    /// Pages kept.
    const COUNT: usize = 64;
    /// Larger ones are not kept; with [`Pages::COUNT`] this bounds the memory.
    const BYTES: usize = 128 * 1024;
    /// Retention removes rows without any new one; its effect shows after this.
    const AGE: Duration = Duration::from_secs(1);

    pub(super) fn get(&self, query: &str, newest: i64) -> Option<Bytes> {
        let pages = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = pages.get(query)?;
        (kept.newest == newest && kept.at.elapsed() < Self::AGE).then(|| kept.body.clone())
    }

    pub(super) fn put(&self, query: String, newest: i64, body: &Bytes) {
        if body.len() > Self::BYTES || query.len() > MAX_QUERY {
            return;
        }
        let mut pages = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if pages.len() >= Self::COUNT {
            pages.clear();
        }
        let kept = Kept {
            newest,
            at: Instant::now(),
            body: body.clone(),
        };
        pages.insert(query, kept);
    }
}
