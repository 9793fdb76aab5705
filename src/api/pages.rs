//! Replies kept for a moment: a dashboard open on many desks costs one rendering.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::body::Bytes;
use tokio::time::Instant;

/// Longest query whose reply is kept.
const MAX_QUERY: usize = 512;

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
