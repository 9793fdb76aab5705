//! The engines beside each other. What compares them does nothing where there is no server:
//! `scripts/with-postgres.sh cargo test --lib db::tests`.

use std::collections::BTreeMap;

use super::checkpoint::Checkpoint;
use super::credential::CredentialFilter;
use super::log::LogFilter;
use super::sql::Engine;
use super::testing::{on_server, open, place};
use super::*;
use crate::model::query::Query;
use crate::model::{Event, Flow, Proto, Severity, Stamp};

const PAGE: Page = Page {
    before: None,
    limit: 1000,
};

/// A file and, where there is one, a schema of the server.
async fn both() -> Option<(tempfile::TempDir, [Db; 2])> {
    if !on_server() {
        eprintln!("skipped: it compares the engines; run by make test-postgres");
        return None;
    }
    let (dir, server) = open().await;
    let file = Db::open(&dir.path().join("x.db")).await.unwrap();
    assert_eq!(server.pool.engine(), Engine::Postgres);
    Some((dir, [file, server]))
}

/// `table.column` and the kind of what is in it.
async fn columns(db: &Db) -> BTreeMap<String, String> {
    let sql = match db.pool.engine() {
        Engine::Sqlite => {
            "select t.name || '.' || c.name, lower(c.type) || case when c.\"notnull\" or c.pk > 0
                 then '' else ' null' end
             from sqlite_master t join pragma_table_info(t.name) c
             where t.type = 'table' and t.name not like 'sqlite_%' and t.name not like '_sqlx%'
                 and t.name not like 'log_words_%'"
        }
        Engine::Postgres => {
            "select table_name || '.' || column_name, data_type ||
                 case when is_nullable = 'NO' then '' else ' null' end
                 || case when data_type = 'text' and collation_name is distinct from 'C'
                     then ' not compared byte by byte' else '' end
             from information_schema.columns
             where table_schema = current_schema() and table_name not like '!_sqlx%' escape '!'"
        }
    };
    let rows: Vec<(String, String)> = sql::query_as(sql).fetch_all(&db.pool).await.unwrap();
    let kind = |kind: &str| {
        kind.replace("bigint", "integer")
            .replace("boolean", "integer")
            .replace("bytea", "blob")
    };
    rows.into_iter()
        .filter(|(name, _)| !name.starts_with("log_words."))
        .map(|(name, is)| (name, kind(&is)))
        .collect()
}

#[tokio::test]
async fn both_engines_hold_the_same_tables() {
    let Some((_dir, [file, server])) = both().await else {
        return;
    };
    let (file, server) = (columns(&file).await, columns(&server).await);
    assert!(file.len() > 100, "{file:?}");
    for name in file.keys().chain(server.keys()) {
        assert_eq!(file.get(name), server.get(name), "{name}");
    }
}

fn event(n: u32, msg: &str, fields: &[(&str, &str)]) -> Event {
    Event {
        eid: format!("e{n}"),
        ts: Stamp(i64::from(n) * 1_000_000),
        severity: Severity::Notice,
        decky: format!("decky-{}", n % 3),
        service: "http".into(),
        kind: if n.is_multiple_of(2) {
            "request"
        } else {
            "auth"
        }
        .into(),
        flow: (!n.is_multiple_of(5)).then(|| Flow {
            src: format!("198.51.100.{}:4000", n % 7).parse().unwrap(),
            dst: "[::1]:80".parse().unwrap(),
            proto: Proto::Tcp,
            session: format!("s{n}"),
        }),
        fields: fields
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect(),
        msg: msg.into(),
    }
}

async fn insert(db: &Db, events: &[Event]) -> log::Inserted {
    db.log_insert_batch(events, "test", &Checkpoint::default(), Stamp(9))
        .await
        .unwrap()
}

const TEXTS: &[&str] = &[
    "GET /wp-login.php?user=admin HTTP/1.1",
    "Größe und STRASSE; naïve façade ΣΊΣΥΦΟΣ",
    "100%_sure! it's \"quoted\" \\ back\\slash",
    "漢字かな交じり文 한국어",
    "x86_64 ELF 203.0.113.9 fe80::1 a.b.c-d_e",
    "'; drop table logs; --",
    "word\u{300}s with marks, हिन्दी",
    "tab\tand\nnewline",
    "",
];

#[tokio::test]
async fn both_engines_answer_a_query_alike() {
    let Some((_dir, dbs)) = both().await else {
        return;
    };
    let mut events = Vec::new();
    for (n, text) in (1..).zip(TEXTS.iter().cycle().take(90)) {
        let path = format!("/{n}/x");
        events.push(event(n, text, &[("path", &path), ("UserAgent", text)]));
    }
    for db in &dbs {
        for batch in events.chunks(40) {
            insert(db, batch).await;
        }
    }
    let queries = [
        "",
        "admin",
        "ADM",
        "min",
        "wp-login",
        "login.php",
        "größe",
        "GRÖSSE",
        "strasse",
        "Naïve",
        "σίσυφος",
        "100%",
        "100%_sure",
        "quoted",
        "back\\\\slash",
        "漢字",
        "字",
        "한국",
        "x86_64",
        "203.0.113",
        "fe80::1",
        "a.b.c",
        "drop table",
        "\"drop table\"",
        "words",
        "हिन्दी",
        "newline",
        "decky:decky-1",
        "kind:auth admin",
        "src:198.51.100.3",
        "path:/7/x",
        "session:s4",
        "UserAgent:'100%_sure! it\\'s \"quoted\" \\\\ back\\\\slash'",
        "nobody:x",
        "path:/7/x admin",
        "decky-2 http s8",
    ];
    for indexed in [false, true] {
        for text in queries {
            let query = Query::parse(text).unwrap();
            let filter = LogFilter {
                decky: query.decky,
                service: query.service,
                kind: query.kind,
                src_ip: query.src_ip,
                session: query.session,
                fields: query.fields,
                words: query.words,
                ..LogFilter::default()
            };
            let mut answers = Vec::new();
            for db in &dbs {
                let rows = db.log_list(&filter, PAGE).await.unwrap();
                let times = db.log_histogram(&filter, Stamp(0), Stamp(60_000_000), 1);
                let rows: Vec<Event> = rows.into_iter().map(|row| row.event).collect();
                answers.push((rows, times.await.unwrap()));
            }
            let (file, server) = (&answers[0], &answers[1]);
            let eids = |rows: &[Event]| Vec::from_iter(rows.iter().map(|e| e.eid.clone()));
            assert_eq!(
                eids(&file.0),
                eids(&server.0),
                "{text:?}, indexed: {indexed}"
            );
            assert_eq!(file, server, "{text:?}, indexed: {indexed}");
        }
        for db in &dbs {
            while db.log_index_words().await.unwrap() > 0 {}
        }
    }
}

#[tokio::test]
async fn what_one_engine_cannot_keep_stops_nothing() {
    let (_dir, db) = open().await;
    let long = "ä\0".repeat(20_000);
    let mut events = vec![
        event(
            1,
            "nul \0 inside",
            &[("a\0", "\0"), ("user\\u0000", "\\u0000")],
        ),
        event(
            2,
            &long,
            &[
                ("principal", &long),
                ("secret_b64", "AA=="),
                ("secret_kind", &long),
            ],
        ),
        event(
            3,
            "",
            &[("principal", &format!("{long}x")), ("secret_b64", "AA==")],
        ),
        event(
            4,
            "",
            &[("stored", "true"), ("sha256", &long), ("name", &long)],
        ),
    ];
    // Two principals that differ only in what is replaced.
    for (n, principal) in [(6, "a\0"), (7, "a\u{fffd}")] {
        events.push(event(
            n,
            "",
            &[("principal", principal), ("secret_b64", "AA==")],
        ));
    }
    events[3].flow.as_mut().unwrap().session = long.clone();
    assert_eq!(insert(&db, &events).await.logs, events.len());
    assert_eq!(insert(&db, &events).await.known, events.len());
    while db.log_index_words().await.unwrap() > 0 {}
    for words in [vec!["nul".to_owned()], vec!["n\0".to_owned()], Vec::new()] {
        let filter = LogFilter {
            words,
            fields: vec![("user\\u0000".into(), "\\u0000".into())],
            ..LogFilter::default()
        };
        let found = db.log_list(&filter, PAGE).await.unwrap();
        assert!(found.iter().all(|row| row.event.eid == "e1"), "{found:?}");
    }
    let all = db.log_list(&LogFilter::default(), PAGE).await.unwrap();
    assert_eq!(all.len(), events.len());
    let credentials = db.credential_list(&CredentialFilter::default(), PAGE).await;
    assert!(credentials.unwrap().len() >= 3);
}

#[tokio::test]
async fn workers_may_start_side_by_side() {
    let (_dir, at) = place();
    let start = |n| {
        let at = at.named(&format!("w{n}"));
        // Each as in a process of its own: the lock on a file holds up the thread.
        std::thread::spawn(move || {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            let work = async {
                let db = Db::open(at).await.unwrap();
                assert_eq!(db.log_count().await.unwrap(), 0);
                db.close().await;
            };
            runtime.enable_all().build().unwrap().block_on(work);
        })
    };
    let workers: Vec<_> = (0..6).map(start).collect();
    for worker in workers {
        worker.join().unwrap();
    }
    let look = Db::open_for_reading(&at).await.unwrap();
    assert!(look.decky_list().await.unwrap().is_empty());
    let row = user::AuditRow {
        created_at: Stamp(1),
        actor: String::new(),
        address: String::new(),
        action: String::new(),
        target: String::new(),
        outcome: String::new(),
    };
    let refused = look.audit_add(&row).await;
    assert!(refused.is_err(), "it was opened for looking");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ids_ascend_in_the_order_of_commits() {
    let (_dir, db) = open().await;
    let writers = (0..4_u32).map(|writer| {
        let db = db.clone();
        tokio::spawn(async move {
            for round in 0..10 {
                let first = 1 + writer * 1000 + round * 10;
                let events: Vec<Event> = (first..first + 10).map(|n| event(n, "x", &[])).collect();
                insert(&db, &events).await;
            }
        })
    });
    let writers: Vec<_> = writers.collect();
    // A reader that remembers the last id it saw.
    let (mut seen, mut last) = (0, 0);
    while seen < 400 {
        let rows = db
            .log_after(last, 1000, &LogFilter::default())
            .await
            .unwrap();
        seen += rows.len();
        last = rows.last().map_or(last, |row| row.id);
        tokio::task::yield_now().await;
    }
    for writer in writers {
        writer.await.unwrap();
    }
    assert_eq!(db.log_count().await.unwrap(), 400);
}
