//! The select statement of events under a filter.

use serde_json::Value;

use super::LogFilter;
use super::hour;
use super::word::folded;
use crate::db::sql::{Engine, QueryBuilder};

const COLUMNS: &str = "id, eid, ts, severity, decky, service, kind, src_ip, src_port, dst_ip,
     dst_port, proto, session, fields, msg";

/// Where the rows come from.
pub(super) enum From {
    /// Every event, by its id.
    Logs,
    /// Those that the index of words finds.
    Words(Vec<Term>),
}

/// One word of what the index of words is asked for: letters and digits only.
#[derive(Clone, Debug)]
pub(super) struct Term {
    pub(super) word: String,
    /// The word may go on in the event.
    pub(super) open: bool,
}

impl Term {
    /// All of them, as the engine's index is asked.
    fn all(terms: &[Self], engine: Engine) -> String {
        let one = |term: &Self| match engine {
            Engine::Sqlite => format!("\"{}\"{}", term.word, if term.open { "*" } else { "" }),
            Engine::Postgres => {
                let (word, cut) = folded(&term.word);
                let open = term.open || cut;
                format!("'{word}'{}", if open { ":*" } else { "" })
            }
        };
        let terms: Vec<String> = terms.iter().map(one).collect();
        terms.join(match engine {
            Engine::Sqlite => " AND ",
            Engine::Postgres => " & ",
        })
    }
}

impl LogFilter {
    /// What the index of words is asked for; `None` when no word can be looked up there.
    pub(super) fn indexed_words(&self) -> Option<Vec<Term>> {
        // The value of a field is there from its beginning to its end.
        let values = self.fields.iter().map(|(_, value)| (value, false));
        let words = self.words.iter().map(|word| (word, true));
        let mut terms = Vec::new();
        for (text, goes_on) in words.chain(values) {
            let mut tokens = text.split(|c: char| !c.is_alphanumeric()).peekable();
            while let Some(token) = tokens.next() {
                let known = token.find(|c| !is_indexed(c)).unwrap_or(token.len());
                let whole = known == token.len();
                if let Some(known) = token.get(..known).filter(|known| !known.is_empty()) {
                    terms.push(Term {
                        word: known.to_owned(),
                        // The last word may go on in the event; so may one cut short here.
                        open: !whole || goes_on && tokens.peek().is_none(),
                    });
                }
            }
        }
        (!terms.is_empty()).then_some(terms)
    }
}

/// Whether the index of words keeps this letter or digit together with its neighbours.
/// Scripts that write vowels as marks are taken apart there, so their words are looked for
/// in the events themselves.
pub(super) fn is_indexed(c: char) -> bool {
    let one = matches!(c, '\0'..='\u{2ff}' | '\u{370}'..='\u{482}' | '\u{48a}'..='\u{52f}'
        | '\u{3041}'..='\u{3096}' | '\u{30a1}'..='\u{30fa}' | '\u{3400}'..='\u{9fff}'
        | '\u{ac00}'..='\u{d7a3}');
    one && c.is_alphanumeric()
}

/// `select … where …` with every condition of the filter; the caller adds paging.
pub(super) fn select(engine: Engine, from: From, filter: &LogFilter) -> QueryBuilder {
    let mut sql = QueryBuilder::new("select ");
    sql.push(COLUMNS);
    add(&mut sql, engine, from, filter);
    sql
}

/// The times of the newest `limit` events that match, as a part of a larger statement.
pub(crate) fn matching_times(
    sql: &mut QueryBuilder,
    engine: Engine,
    filter: &LogFilter,
    limit: i64,
) {
    sql.push("select ts");
    // The index of words is a few seconds behind, which a histogram does not show.
    let from = filter.indexed_words().map_or(From::Logs, From::Words);
    add(sql, engine, from, filter);
    sql.push(" order by id desc limit ").push_bind(limit);
}

fn add(sql: &mut QueryBuilder, engine: Engine, from: From, filter: &LogFilter) {
    match from {
        From::Logs => sql.push(" from logs where true"),
        From::Words(terms) => {
            let (how, end) = match engine {
                Engine::Sqlite => ("log_words match ", ""),
                Engine::Postgres => ("log_words.text @@ cast(", " as tsquery)"),
            };
            // In this order: SQLite believes that an attacker has few events, and would ask
            // the index of words about each of them.
            sql.push(" from log_words cross join logs where logs.id = log_words.rowid and ")
                .push(how)
                .push_bind(Term::all(&terms, engine))
                .push(end)
        }
    };
    // One attacker or session has fewer events than one kind of event, which SQLite does not
    // know; after a plus it looks for no index.
    let narrow = filter.session.is_some() || filter.src_ip.is_some();
    let (sqlite, aside) = (engine == Engine::Sqlite, ["", "+"]);
    let columns = [
        ("decky", &filter.decky, sqlite && narrow),
        ("service", &filter.service, sqlite && narrow),
        ("kind", &filter.kind, sqlite && narrow),
        ("src_ip", &filter.src_ip, false),
        ("session", &filter.session, false),
    ];
    for (column, value, wide) in columns {
        if let Some(value) = value {
            sql.push(format!(" and {}{column} = ", aside[usize::from(wide)]))
                .push_bind(value.clone());
        }
    }
    if !filter.kinds.is_empty() {
        sql.push(format!(" and {}kind in (", aside[usize::from(sqlite)]));
        let mut list = sql.separated(", ");
        for kind in &filter.kinds {
            list.push_bind(kind.clone());
        }
        sql.push(")");
    }
    if let Some(since) = filter.since {
        sql.push(" and ts >= ").push_bind(since);
    }
    if let Some(until) = filter.until {
        sql.push(" and ts < ").push_bind(until);
    }
    // A server knows its rows well enough to find the shorter way.
    if sqlite {
        hour::bound(sql, filter);
    }
    for (key, value) in &filter.fields {
        match engine {
            Engine::Sqlite => sql
                .push(" and json_extract(fields, ")
                .push_bind(format!("$.{}", Value::String(key.clone()))),
            Engine::Postgres => sql
                .push(" and (cast(fields as json) ->> ")
                .push_bind(key.clone()),
        };
        sql.push(") = ").push_bind(value.clone());
    }
    for word in &filter.words {
        sql.push(" and (lower(fields) like ")
            .push_bind(pattern(&json_inner(word)))
            .push(" escape '!' or lower(msg) like ")
            .push_bind(pattern(word))
            .push(" escape '!'");
        for column in ["decky", "service", "kind", "src_ip", "session"] {
            sql.push(format!(" or lower({column}) like "))
                .push_bind(pattern(word))
                .push(" escape '!'");
        }
        sql.push(")");
    }
}

/// `text` as it stands inside a JSON string.
fn json_inner(text: &str) -> String {
    let quoted = Value::String(text.to_owned()).to_string();
    quoted
        .strip_prefix('"')
        .and_then(|q| q.strip_suffix('"'))
        .unwrap_or_default()
        .to_owned()
}

/// A `like` pattern that finds `text` anywhere, `!` escaping.
fn pattern(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('%');
    for c in text.chars() {
        if matches!(c, '%' | '_' | '!') {
            out.push('!');
        }
        out.push(c.to_ascii_lowercase());
    }
    out.push('%');
    out
}
