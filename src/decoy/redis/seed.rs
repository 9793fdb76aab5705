//! What the host's own application left in the store: sessions, a queue, counters, a
//! settings hash. Drawn from the persona, so no two installations hold the same.

use rand::RngExt;
use rand::rngs::StdRng;

use super::store::{Store, Value};
use crate::persona::Persona;

const HOUR: i64 = 3_600_000;

pub(super) fn fill(store: &mut Store, persona: &Persona, now: i64) {
    let mut rng = persona.rng("redis/keys");
    let app = persona.company.clone();
    let user = |rng: &mut StdRng| {
        let index = rng.random_range(0..persona.users.len().max(1));
        persona
            .users
            .get(index)
            .cloned()
            .unwrap_or_else(|| "root".to_owned())
    };
    let prefix = ["sess", "session", "sid", "PHPREDIS_SESSION", "express"][..]
        .get(rng.random_range(0..5))
        .copied()
        .unwrap_or("sess");
    for _ in 0..rng.random_range(4..15) {
        let name = user(&mut rng);
        let id = hex(&mut rng, 32);
        let seen = now
            .wrapping_div(1000)
            .saturating_sub(rng.random_range(60..80_000));
        let body = format!(
            "{{\"user\":\"{name}\",\"role\":\"{}\",\"csrf\":\"{}\",\"ip\":\"10.{}.{}.{}\",\"last_seen\":{seen}}}",
            if rng.random_bool(0.2) {
                "admin"
            } else {
                "user"
            },
            hex(&mut rng, 24),
            rng.random_range(0..32),
            rng.random_range(0..255),
            rng.random_range(2..254),
        );
        let end = now.saturating_add(HOUR.saturating_mul(rng.random_range(4..336)));
        put(store, &format!("{prefix}:{id}"), text(body), Some(end), now);
    }
    for n in 1..rng.random_range(3..8) {
        let body = format!("[{}]", rng.random_range(1000..99_999));
        put(store, &format!("cache:feed:{n}"), text(body), None, now);
    }
    for counter in ["stats:visits", "stats:logins", "seq:order"] {
        put(
            store,
            counter,
            text(rng.random_range(300..900_000u32).to_string()),
            None,
            now,
        );
    }
    let jobs = (0..rng.random_range(1..6))
        .map(|_| {
            format!(
                "{{\"job\":\"{}\",\"to\":\"{}@{}\",\"id\":{}}}",
                ["mail.send", "report.build", "invoice.pdf"][..]
                    .get(rng.random_range(0..3))
                    .copied()
                    .unwrap_or("mail.send"),
                user(&mut rng),
                persona.domain,
                rng.random_range(10_000..99_999)
            )
            .into_bytes()
        })
        .collect();
    put(store, "queue:default", Value::List(jobs), None, now);
    let pair = |key: &str, value: String| (key.as_bytes().to_vec(), value.into_bytes());
    let settings = [
        pair("app", app.clone()),
        pair(
            "db_host",
            format!("db{:02}.{}", rng.random_range(1..4), persona.domain),
        ),
        pair("db_name", format!("{app}_prod")),
        pair("db_user", format!("{app}_rw")),
        pair("db_password", hex(&mut rng, 20)),
        pair("smtp_host", format!("mail.{}", persona.domain)),
    ];
    put(
        store,
        "config:app",
        Value::Hash(settings.into_iter().collect()),
        None,
        now,
    );
    let online = persona
        .users
        .iter()
        .take(3)
        .map(|u| u.clone().into_bytes())
        .collect();
    put(store, "users:online", Value::Set(online), None, now);
}

fn put(store: &mut Store, key: &str, value: Value, expires: Option<i64>, now: i64) {
    store.put(0, key.as_bytes(), value, expires, now);
}

fn text(body: String) -> Value {
    Value::Str(body.into_bytes())
}

fn hex(rng: &mut StdRng, len: usize) -> String {
    (0..len)
        .map(|_| char::from_digit(rng.random_range(0..16), 16).unwrap_or('0'))
        .collect()
}
