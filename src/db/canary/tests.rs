use serde_json::json;

use super::trigger::{Recorded, Until};
use super::*;
use crate::db::Page;
use crate::db::checkpoint::Checkpoint;
use crate::model::canary::{Hit, Via};
use std::time::Duration;

const SECOND: i64 = 1_000_000;
const DEDUP: Duration = Duration::from_secs(60);

fn new(slug: &str) -> NewToken<'_> {
    NewToken {
        slug,
        kind: "web_bug",
        memo: "",
        decky: Some("decky-01"),
        path: None,
        seed: "00",
        place: "{}",
        base: "{}",
        blob: None,
        created_by: "ada",
    }
}

fn hit(n: u32, slug: &str, second: i64, path: &str) -> Hit {
    Hit {
        id: format!("hit-{n}"),
        at: Stamp(second * SECOND),
        slug: slug.to_owned(),
        via: Via::Http,
        address: [203, 0, 113, 9].into(),
        port: Some(4000),
        local: ([192, 0, 2, 1], 80).into(),
        tcp: true,
        method: "GET".to_owned(),
        path: path.to_owned(),
        user_agent: "curl".to_owned(),
        headers: vec![("Host".to_owned(), "x".to_owned())],
        body: String::new(),
        resolver: None,
        fingerprint: None,
        more: 0,
    }
}

async fn record(db: &Db, hits: Vec<Hit>) -> Recorded {
    let at = Checkpoint::default();
    let until = Until {
        source: "x",
        at: &at,
    };
    db.canary_record(hits, until, DEDUP, Stamp(0), |_| Ok(()))
        .await
        .unwrap()
}

async fn open() -> (tempfile::TempDir, Db) {
    let (dir, db) = crate::db::testing::open().await;
    (dir, db)
}

const ALL: Page = Page {
    before: None,
    limit: 1000,
};

#[tokio::test]
async fn the_same_use_counts_up_and_another_is_another_row() {
    let (_dir, db) = open().await;
    let token = db.canary_add(&new("a"), Stamp(1)).await.unwrap();
    let hits = vec![
        hit(1, "a", 100, "/c/a"),
        hit(2, "a", 130, "/c/a"),
        hit(3, "a", 185, "/c/a"),
        hit(4, "a", 186, "/c/a/x"),
        hit(5, "a", 300, "/c/a"),
        hit(6, "nobody's", 300, "/c/a"),
    ];
    let done = record(&db, hits).await;
    assert_eq!((done.fresh.len(), done.repeated, done.strays), (3, 2, 1));
    let rows = db.canary_triggers(&token.id, ALL).await.unwrap();
    let counts: Vec<i64> = rows.iter().map(|r| r.count).collect();
    assert_eq!(counts, [1, 1, 3], "newest first");
    assert_eq!(rows[2].last_at, Stamp(185 * SECOND));
    let token = db.canary_find(&token.id).await.unwrap().unwrap();
    assert_eq!(token.trigger_count, 5);
    assert_eq!(token.last_triggered_at, Some(Stamp(300 * SECOND)));
}

#[tokio::test]
async fn a_browsers_description_is_never_swallowed_by_a_mere_visit() {
    let (_dir, db) = open().await;
    let token = db.canary_add(&new("a"), Stamp(1)).await.unwrap();
    let mut beacon = hit(2, "a", 101, "/c/a");
    beacon.fingerprint = Some(json!({"nav": {}}));
    record(&db, vec![hit(1, "a", 100, "/c/a"), beacon]).await;
    let rows = db.canary_triggers(&token.id, ALL).await.unwrap();
    assert_eq!(rows.len(), 2);
    assert_eq!(rows[0].fingerprint.as_deref(), Some(r#"{"nav":{}}"#));
}

#[tokio::test]
async fn a_password_makes_another_row_than_the_same_request_without_one() {
    let (_dir, db) = open().await;
    let token = db.canary_add(&new("a"), Stamp(1)).await.unwrap();
    let with = |n, password: &str| {
        let mut hit = hit(n, "a", 100, "/c/a");
        let field = ("Authorization".to_owned(), password.to_owned());
        hit.headers.push(field);
        hit
    };
    let hits = vec![
        hit(1, "a", 100, "/c/a"),
        with(2, "Basic x"),
        with(3, "Basic y"),
    ];
    record(&db, hits).await;
    record(&db, vec![with(4, "Basic x")]).await;
    let rows = db.canary_triggers(&token.id, ALL).await.unwrap();
    let counts: Vec<i64> = rows.iter().map(|r| r.count).collect();
    assert_eq!(counts, [1, 2, 1]);
}

#[tokio::test]
async fn a_storm_makes_a_bounded_number_of_rows_and_loses_no_count() {
    let (_dir, db) = open().await;
    let token = db.canary_add(&new("a"), Stamp(1)).await.unwrap();
    let mut storm: Vec<Hit> = (0..500)
        .map(|n| hit(n, "a", 100, &format!("/c/a/{n}")))
        .collect();
    storm[499].more = 7;
    let done = record(&db, storm).await;
    assert_eq!(done.fresh.len(), 120);
    let rows = db.canary_triggers(&token.id, ALL).await.unwrap();
    assert_eq!(rows.len(), 120);
    assert_eq!(rows.iter().map(|r| r.count).sum::<i64>(), 507);
    let token = db.canary_find(&token.id).await.unwrap().unwrap();
    assert_eq!(token.trigger_count, 507);
}

#[tokio::test]
async fn what_could_not_be_told_is_not_stored() {
    let (_dir, db) = open().await;
    let token = db.canary_add(&new("a"), Stamp(1)).await.unwrap();
    let at = Checkpoint {
        offset: 9,
        ..Checkpoint::default()
    };
    let until = Until {
        source: "x",
        at: &at,
    };
    let hits = vec![hit(1, "a", 1, "/")];
    let full = |_: &[(Hit, TokenRow)]| Err(std::io::Error::other("full"));
    let refused = db.canary_record(hits, until, DEDUP, Stamp(0), full).await;
    assert!(refused.is_err());
    assert!(db.canary_triggers(&token.id, ALL).await.unwrap().is_empty());
    assert_eq!(db.checkpoint_get("x").await.unwrap(), None);
}

#[tokio::test]
async fn tokens_are_listed_by_what_they_are_and_how_they_stand() {
    let (_dir, db) = open().await;
    let mut ids = Vec::new();
    for slug in ["a", "b", "c"] {
        ids.push(db.canary_add(&new(slug), Stamp(1)).await.unwrap().id);
    }
    let paths = ["/x".to_owned()];
    db.canary_planted(&ids[0], &paths, Stamp(2)).await.unwrap();
    db.canary_failed(&ids[1], "gone", &[]).await.unwrap();
    let by = |state| TokenFilter {
        state,
        ..TokenFilter::default()
    };
    let planted = by(Some(TokenState::Planted));
    let found = db.canary_list(&planted, None, 10).await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].planted.0, paths);
    let all = db.canary_list(&by(None), None, 2).await.unwrap();
    assert_eq!(
        all.iter().map(|t| t.id.as_str()).collect::<Vec<_>>(),
        [&ids[2], &ids[1]]
    );
    let rest = db
        .canary_list(&by(None), Some(&all[1].id), 2)
        .await
        .unwrap();
    assert_eq!(rest.len(), 1);
    db.canary_revoked(&ids[0], None, Stamp(3)).await.unwrap();
    assert_eq!(
        db.canary_known().await.unwrap().len(),
        3,
        "revoked ones too"
    );
    let other = TokenFilter {
        decky: Some("decky-02".to_owned()),
        ..TokenFilter::default()
    };
    assert!(db.canary_list(&other, None, 10).await.unwrap().is_empty());
    record(&db, vec![hit(1, "c", 1, "/")]).await;
    assert!(db.canary_forget(&ids[2]).await.unwrap());
    assert!(!db.canary_forget(&ids[2]).await.unwrap());
    assert!(db.canary_triggers(&ids[2], ALL).await.unwrap().is_empty());
}

#[tokio::test]
async fn an_uploaded_file_stays_while_a_token_is_in_it() {
    let (_dir, db) = open().await;
    let sha = "5".repeat(64);
    assert!(matches!(
        db.canary_add(
            &NewToken {
                blob: Some(&sha),
                ..new("a")
            },
            Stamp(1)
        )
        .await,
        Err(Error::Conflict(_))
    ));
    assert!(
        db.canary_blob_add(&sha, "a.docx", 3, "ada", Stamp(1))
            .await
            .unwrap()
    );
    assert!(
        !db.canary_blob_add(&sha, "b.docx", 3, "bob", Stamp(2))
            .await
            .unwrap()
    );
    let with = NewToken {
        blob: Some(&sha),
        ..new("a")
    };
    let token = db.canary_add(&with, Stamp(1)).await.unwrap();
    let blobs = db.canary_blob_list().await.unwrap();
    assert_eq!((blobs[0].name.as_str(), blobs[0].tokens), ("a.docx", 1));
    assert_eq!(db.canary_blob_bytes().await.unwrap(), 3);
    assert!(matches!(
        db.canary_blob_delete(&sha).await,
        Err(Error::Conflict(_))
    ));
    db.canary_forget(&token.id).await.unwrap();
    assert!(db.canary_blob_delete(&sha).await.unwrap());
    assert!(!db.canary_blob_delete(&sha).await.unwrap());
}

#[tokio::test]
async fn a_decky_that_goes_takes_its_tokens_along() {
    let (_dir, db) = open().await;
    let persona = crate::persona::Persona::derive(
        b"s",
        "decky-01",
        &crate::persona::Asked::default(),
        Stamp(0),
    );
    let ip = "127.77.0.1".parse().unwrap();
    let wish = crate::model::Wish::default();
    db.decky_add("decky-01", ip, &wish, &persona, Stamp(1))
        .await
        .unwrap();
    let here = db.canary_add(&new("here"), Stamp(1)).await.unwrap();
    let other = NewToken {
        decky: Some("decky-02"),
        ..new("other")
    };
    let other = db.canary_add(&other, Stamp(1)).await.unwrap();
    let unplanted = db.canary_add(&new("unplanted"), Stamp(1)).await.unwrap();
    for token in [&here, &other] {
        db.canary_planted(&token.id, &["/x".to_owned()], Stamp(2))
            .await
            .unwrap();
    }
    db.decky_remove(Some("decky-01"), Stamp(3)).await.unwrap();
    assert!(
        !db.decky_forget("decky-01", 1, Stamp(4)).await.unwrap(),
        "an old version"
    );
    let state = async |id: &str| {
        let row = db.canary_find(id).await.unwrap().unwrap();
        (row.state(), row.planted.0.len(), row.revoked_at)
    };
    assert_eq!(state(&here.id).await, (TokenState::Planted, 1, None));
    assert!(db.decky_forget("decky-01", 2, Stamp(5)).await.unwrap());
    assert_eq!(
        state(&here.id).await,
        (TokenState::Revoked, 0, Some(Stamp(5)))
    );
    assert_eq!(state(&other.id).await, (TokenState::Planted, 1, None));
    assert_eq!(state(&unplanted.id).await.0, TokenState::New);
}

#[tokio::test]
async fn uses_of_a_token_are_kept_as_long_as_events() {
    let (_dir, db) = open().await;
    let token = db.canary_add(&new("aaa"), Stamp(0)).await.unwrap();
    record(&db, vec![hit(1, "aaa", 10, "/a"), hit(2, "aaa", 200, "/b")]).await;
    db.log_expire(Stamp(100 * SECOND)).await.unwrap();
    let page = Page {
        before: None,
        limit: 10,
    };
    let left = db.canary_triggers(&token.id, page).await.unwrap();
    assert_eq!(
        left.iter().map(|t| t.path.as_str()).collect::<Vec<_>>(),
        ["/b"]
    );
    let token = db.canary_find(&token.id).await.unwrap().unwrap();
    assert_eq!(token.trigger_count, 2, "what was counted stays counted");
}
