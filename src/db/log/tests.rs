//! Storing, listing and filtering events, on a real database file.

use super::*;
use crate::db::credential::CredentialFilter;
use crate::model::Credential;

const PAGE: Page = Page {
    before: None,
    limit: 100,
};

async fn open() -> (tempfile::TempDir, Db) {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(&dir.path().join("x.db")).await.unwrap();
    (dir, db)
}

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
            text: some("a%B_C\"d"),
            ..f()
        })
        .await,
        1
    );
    assert_eq!(
        count(LogFilter {
            text: some("axb"),
            ..f()
        })
        .await,
        0
    );
    assert_eq!(
        count(LogFilter {
            text: some("0% FULL"),
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
