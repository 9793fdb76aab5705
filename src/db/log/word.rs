//! What the ingester does between batches: the index of words, the events that were there
//! before the tables of findings, and the end of what is too old. Each call does a bounded
//! part in one transaction and says whether there is more.

use std::collections::BTreeSet;

use super::condition::{Term, is_indexed};
use super::{From, LogFilter, LogRow, from_row, hour, select};
use crate::db::sql::{self, Connection, Engine, QueryBuilder};
use crate::db::tally::Tally;
use crate::db::{Db, Page, Result, attempt, counter, rows_sql};
use crate::model::{Event, Stamp};

/// Events per step.
const STEP: i64 = 2000;
/// Sessions, and uses of tokens, deleted at a time.
const MANY: i64 = 50_000;
/// Rows per statement.
const ROWS: usize = 100;
/// Events gone through before the index of words is asked for how a word begins.
const NEAR: i64 = 1000;
/// Words split by [`split`] become the index's own form.
const POSTGRES_ROW: &str = "(?, array_to_tsvector(string_to_array(?, ' ')))";
/// Letters of a word that count; an index has no room for endless ones.
const LETTERS: usize = 64;

impl Db {
    /// Enters the next events into the index of words. Returns how many there were.
    ///
    /// # Errors
    /// When the database cannot be written; nothing changed then.
    pub async fn log_index_words(&self) -> Result<usize> {
        let what = "indexing words";
        let begun = self.pool.begin().await;
        let mut tx = begun.map_err(attempt(what))?;
        let from = counter::get(&mut tx, counter::WORDS).await?;
        let mut sql = select(tx.engine(), From::Logs, &LogFilter::default());
        sql.push(" and id > ").push_bind(from);
        sql.push(" order by id limit ").push_bind(STEP);
        let rows = sql.build().fetch_all(&mut *tx).await;
        let rows = rows.map_err(attempt(what))?;
        let mut last = from;
        for chunk in rows.chunks(ROWS) {
            let head = "insert into log_words (rowid, text)";
            let sql = match tx.engine() {
                Engine::Sqlite => rows_sql(head, "(?, ?)", chunk.len(), ""),
                Engine::Postgres => rows_sql(head, POSTGRES_ROW, chunk.len(), ""),
            };
            let mut query = sql::query(sql);
            for row in chunk {
                let row = from_row(row).map_err(attempt(what))?;
                last = row.id;
                let text = text(&row.event);
                query = query.bind(last).bind(match tx.engine() {
                    Engine::Sqlite => text,
                    Engine::Postgres => split(&text),
                });
            }
            query.execute(&mut *tx).await.map_err(attempt(what))?;
        }
        if last > from {
            counter::set(&mut tx, counter::WORDS, last).await?;
        }
        tx.commit().await.map_err(attempt(what))?;
        Ok(rows.len())
    }

    /// Goes on through the events that were stored by a version that did not keep
    /// attackers, sessions and counts. Returns how many it took in.
    ///
    /// # Errors
    /// When the database cannot be written; nothing changed then.
    pub async fn log_gather_backlog(&self) -> Result<usize> {
        let what = "going through older events";
        let upto = self.counter(counter::BACKLOG).await?;
        let from = self.counter(counter::GATHERED).await?;
        if from >= upto {
            return Ok(0);
        }
        let begun = self.pool.begin().await;
        let mut tx = begun.map_err(attempt(what))?;
        let mut sql = select(tx.engine(), From::Logs, &LogFilter::default());
        sql.push(" and id > ").push_bind(from);
        sql.push(" and id <= ").push_bind(upto);
        sql.push(" order by id limit ").push_bind(STEP);
        let rows = sql.build().fetch_all(&mut *tx).await;
        let rows = rows.map_err(attempt(what))?;
        let rows: std::result::Result<Vec<_>, _> = rows.iter().map(from_row).collect();
        let rows = rows.map_err(attempt(what))?;
        let mut tally = Tally::default();
        for row in &rows {
            tally.add(&row.event);
        }
        tally.store(&mut tx, &[]).await?;
        let last = rows.last().map_or(upto, |row| row.id);
        counter::set(&mut tx, counter::GATHERED, last).await?;
        if last >= upto || rows.is_empty() {
            // Credentials were kept all along; they only need counting.
            sql::query(
                "update attackers set credential_count =
                     (select count(*) from credentials where attacker_ip = attackers.ip)",
            )
            .execute(&mut *tx)
            .await
            .map_err(attempt(what))?;
        }
        tx.commit().await.map_err(attempt(what))?;
        Ok(rows.len())
    }

    /// Events that hold all of these words, newest first.
    pub(super) async fn log_list_words(
        &self,
        terms: &[Term],
        filter: &LogFilter,
        page: Page,
    ) -> Result<Vec<LogRow>> {
        let (limit, mut below) = (page.rows(), page.before_id());
        let full = |rows: &[LogRow]| i64::try_from(rows.len()).is_ok_and(|n| n >= limit);
        // What is not in the index of words yet is little, and newest.
        let upto = self.counter(counter::WORDS).await?;
        let mut above = upto;
        if terms.iter().any(|term| term.open) {
            // The index collects every event in which a word begins so before it tells the
            // first. What is frequent is found sooner without it.
            above = upto.min(below.saturating_sub(1)).saturating_sub(NEAR);
        }
        let mut rows = Vec::new();
        while !full(&rows) && below > above {
            let found = self.log_part(filter, above, below, limit).await?;
            let last = found.last().filter(|_| full(&found));
            below = last.map_or(above, |row| row.id);
            let found = found.into_iter();
            rows.extend(found.filter(|row| row.id > upto || begins(&row.event, terms)));
        }
        rows.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        let left = limit - i64::try_from(rows.len()).unwrap_or(0);
        let below = page.before_id().min(above.saturating_add(1));
        if left > 0 && below > 1 {
            let mut sql = select(self.pool.engine(), From::Words(terms.to_vec()), filter);
            sql.push(" and log_words.rowid < ").push_bind(below);
            sql.push(" order by log_words.rowid desc limit ")
                .push_bind(left);
            rows.extend(self.log_read(sql).await?);
        }
        Ok(rows)
    }

    /// Deletes the oldest events before `before`, a bounded number of them, with their
    /// words, minutes, sessions and uses of canary tokens. Returns how many.
    ///
    /// # Errors
    /// When the database cannot be written; nothing changed then.
    pub async fn log_expire(&self, before: Stamp) -> Result<u64> {
        let what = "deleting what is too old";
        let begun = self.pool.begin().await;
        let mut tx = begun.map_err(attempt(what))?;
        let ids: Vec<i64> =
            sql::query_scalar("select id from logs where ts < $1 order by ts limit $2")
                .bind(before)
                .bind(STEP)
                .fetch_all(&mut *tx)
                .await
                .map_err(attempt(what))?;
        for chunk in ids.chunks(ROWS) {
            for head in [
                "delete from log_words where rowid in (",
                "delete from logs where id in (",
            ] {
                let mut sql = QueryBuilder::new(head);
                let mut list = sql.separated(", ");
                for id in chunk {
                    list.push_bind(*id);
                }
                sql.push(")");
                let done = sql.build().execute(&mut *tx).await;
                done.map_err(attempt(what))?;
            }
        }
        let gone = i64::try_from(ids.len()).unwrap_or(0);
        counter::add(&mut tx, counter::LOGS, -gone).await?;
        if gone < STEP {
            for (sql, bound) in [
                (
                    "delete from log_minutes where minute < $1",
                    before.0.div_euclid(60_000_000),
                ),
                (
                    "delete from log_hours where hour < $1",
                    before.0.div_euclid(hour::HOUR),
                ),
            ] {
                let done = sql::query(sql).bind(bound).execute(&mut *tx).await;
                done.map_err(attempt(what))?;
            }
            expire_many(
                &mut tx,
                "delete from canary_triggers where n in
                     (select n from canary_triggers where last_at < $1 order by n limit $2)",
                before,
            )
            .await?;
            let ended = expire_many(
                &mut tx,
                "delete from attack_sessions where n in
                     (select n from attack_sessions where last_seen < $1 order by n limit $2)",
                before,
            )
            .await?;
            counter::add(&mut tx, counter::SESSIONS, -ended).await?;
        }
        tx.commit().await.map_err(attempt(what))?;
        Ok(ids.len() as u64)
    }
}

/// Deletes up to [`MANY`] rows; the rest waits for the next time, because a statement keeps
/// what it changed in memory until it ends. Returns how many.
async fn expire_many(tx: &mut Connection, sql: &'static str, before: Stamp) -> Result<i64> {
    let done = sql::query(sql).bind(before).bind(MANY).execute(tx).await;
    let gone = done.map_err(attempt("deleting what is too old"))?;
    Ok(i64::try_from(gone.rows_affected()).unwrap_or(0))
}

/// The distinct words of a text as [`LogFilter::indexed_words`] splits what is looked for,
/// a space between them. SQLite's index does that by itself.
fn split(text: &str) -> String {
    let words = text.split(|c: char| !c.is_alphanumeric());
    let words: BTreeSet<String> = words
        .filter(|word| !word.is_empty())
        .map(|word| folded(word).0)
        .collect();
    Vec::from_iter(words).join(" ")
}

/// A word in small letters, and whether it had to be cut.
pub(super) fn folded(word: &str) -> (String, bool) {
    let mut letters = word.chars().flat_map(char::to_lowercase);
    let folded = letters.by_ref().take(LETTERS).collect();
    (folded, letters.next().is_some())
}

/// Whether an event that holds the words somewhere holds them at the beginnings of its own
/// words, as the index of words would find them.
pub(super) fn begins(event: &Event, terms: &[Term]) -> bool {
    let text = text(event);
    let words: BTreeSet<String> = text
        .split(|c| !is_indexed(c))
        .map(str::to_lowercase)
        .collect();
    terms.iter().all(|term| {
        let wanted = term.word.to_lowercase();
        let mut from = words.range(wanted.clone()..);
        from.next()
            .is_some_and(|word| *word == wanted || term.open && word.starts_with(&wanted))
    })
}

/// Everything in which a word of an event is looked for.
fn text(event: &Event) -> String {
    let mut text = format!("{} {} {}", event.decky, event.service, event.kind);
    if let Some(flow) = &event.flow {
        text.push_str(&format!(" {} {}", flow.src.ip(), flow.session));
    }
    for (_, value) in event.distinct_fields() {
        text.push(' ');
        text.push_str(value);
    }
    text.push(' ');
    text.push_str(&event.msg);
    text
}
