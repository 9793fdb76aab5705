//! Replies kept for a moment: a dashboard open on many desks costs one rendering.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use tokio::sync::OnceCell;
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
    body: Arc<OnceCell<Bytes>>,
}

impl Pages {
    /// Pages kept.
    const COUNT: usize = 64;
    /// Larger ones are not kept; with [`Pages::COUNT`] this bounds the memory.
    const BYTES: usize = 128 * 1024;
    /// Retention removes rows without any new one; its effect shows after this.
    const AGE: Duration = Duration::from_secs(1);

    /// The page that `make` makes, or the one kept. Whoever asks for a page that is being
    /// made waits for it: what many desks ask for at once is looked up once.
    ///
    /// # Errors
    /// When `make` fails; the next who asks tries again.
    pub(super) async fn get_or<E>(
        &self,
        query: String,
        newest: i64,
        make: impl Future<Output = Result<Bytes, E>>,
    ) -> Result<Bytes, E> {
        if query.len() > MAX_QUERY {
            return make.await;
        }
        let cell = self.cell(&query, newest);
        let body = cell.get_or_try_init(|| make).await?.clone();
        if body.len() > Self::BYTES {
            let mut pages = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if pages
                .get(&query)
                .is_some_and(|kept| Arc::ptr_eq(&kept.body, &cell))
            {
                pages.remove(&query);
            }
        }
        Ok(body)
    }

    fn cell(&self, query: &str, newest: i64) -> Arc<OnceCell<Bytes>> {
        let mut pages = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let good = |kept: &&Kept| {
            let young = !kept.body.initialized() || kept.at.elapsed() < Self::AGE;
            kept.newest == newest && young
        };
        if let Some(kept) = pages.get(query).filter(good) {
            return Arc::clone(&kept.body);
        }
        if pages.len() >= Self::COUNT {
            pages.clear();
        }
        let kept = Kept {
            newest,
            at: Instant::now(),
            body: Arc::default(),
        };
        let body = Arc::clone(&kept.body);
        pages.insert(query.to_owned(), kept);
        body
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    async fn ask(pages: &Pages, query: &str, newest: i64, made: &AtomicUsize) -> Bytes {
        let make = async {
            tokio::task::yield_now().await;
            let n = made.fetch_add(1, Ordering::Relaxed);
            Ok::<_, Infallible>(Bytes::from(n.to_string()))
        };
        let Ok(body) = pages.get_or(query.to_owned(), newest, make).await;
        body
    }

    #[tokio::test(start_paused = true)]
    async fn what_many_ask_for_is_made_once_until_there_is_news_or_it_is_old() {
        let (pages, made) = (Pages::default(), AtomicUsize::new(0));
        let (a, b) = tokio::join!(ask(&pages, "a", 1, &made), ask(&pages, "a", 1, &made));
        assert_eq!((&a[..], &b[..]), (&b"0"[..], &b"0"[..]));
        assert_eq!(ask(&pages, "b", 1, &made).await, "1");
        assert_eq!(ask(&pages, "a", 1, &made).await, "0");
        assert_eq!(ask(&pages, "a", 2, &made).await, "2", "news");
        tokio::time::advance(Pages::AGE).await;
        assert_eq!(ask(&pages, "a", 2, &made).await, "3", "old");
        let failing = async { Err(()) };
        assert!(pages.get_or("c".to_owned(), 2, failing).await.is_err());
        assert_eq!(ask(&pages, "c", 2, &made).await, "4", "tried again");
    }

    #[tokio::test]
    async fn large_pages_and_long_queries_are_not_kept_and_few_of_the_others() {
        let pages = Pages::default();
        let large = async { Ok::<_, ()>(Bytes::from(vec![0; Pages::BYTES + 1])) };
        pages.get_or("large".to_owned(), 1, large).await.unwrap();
        let long = async { Ok::<_, ()>(Bytes::new()) };
        pages
            .get_or("q".repeat(MAX_QUERY + 1), 1, long)
            .await
            .unwrap();
        assert!(pages.0.lock().unwrap().is_empty());
        for n in 0..200 {
            let page = async { Ok::<_, ()>(Bytes::new()) };
            pages.get_or(n.to_string(), 1, page).await.unwrap();
            assert!(pages.0.lock().unwrap().len() <= Pages::COUNT);
        }
    }
}
