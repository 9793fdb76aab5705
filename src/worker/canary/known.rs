//! The tokens there are, held in memory: whoever asks for anything else is a passer-by and
//! leaves no trace. Read again when somebody says that tokens changed, and now and then.
//!
//! Until the database was read once (it may be away when the worker starts), everything
//! that could be a token is taken for one; what turns out to be none is dropped when the
//! spool is read.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use crate::canary::{Kind, Recipe, Slug, Texts};
use crate::db::Db;
use crate::db::canary::KnownToken;

/// Whether there is such a token.
#[derive(Clone, Debug)]
pub(super) enum Look {
    /// It is one.
    Known(Arc<KnownToken>),
    /// Nobody could say yet.
    Unsure,
    /// There is none.
    Unknown,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Known(RwLock<Option<HashMap<String, Arc<KnownToken>>>>);

impl Known {
    /// Reads all tokens.
    ///
    /// # Errors
    /// When the database cannot be read; what was known before stays.
    pub(super) async fn refresh(&self, db: &Db) -> crate::db::Result<usize> {
        let rows = db.canary_known().await?;
        let count = rows.len();
        let map = rows
            .into_iter()
            .map(|row| (row.slug.clone(), Arc::new(row)))
            .collect();
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(map);
        Ok(count)
    }

    pub(super) fn look(&self, slug: &Slug) -> Look {
        let held = self.0.read().unwrap_or_else(PoisonError::into_inner);
        match held.as_ref() {
            None => Look::Unsure,
            Some(map) => map
                .get(slug.as_str())
                .map_or(Look::Unknown, |token| Look::Known(Arc::clone(token))),
        }
    }
}

/// The page that asks the browser about itself, when that is what the token is.
pub(super) fn page(token: &KnownToken) -> Option<Vec<u8>> {
    if token.kind != Kind::HtmlFingerprint.as_str() {
        return None;
    }
    let texts = Texts {
        kind: &token.kind,
        slug: &token.slug,
        seed: &token.seed,
        base: &token.base,
        place: &token.place,
    };
    let files = Recipe::read(&texts, token.created_at)?.files(None).ok()?;
    let html = |name: &str| name.ends_with(".html") || name.ends_with(".htm");
    let page = files.into_iter().find(|file| html(&file.name))?;
    Some(page.bytes)
}
