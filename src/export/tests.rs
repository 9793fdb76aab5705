use super::*;
use proptest::prelude::*;

fn event(payload: Value) -> Envelope {
    Envelope {
        id: "0123456789abcdef".to_owned(),
        ts: Stamp(1_700_000_000_123_456),
        topic: "credential.captured".to_owned(),
        kind: "captured".to_owned(),
        payload,
    }
}

fn target<'a>(format: Format, template: Option<&'a str>) -> Target<'a> {
    Target {
        format,
        template,
        headers: &[],
        secrets: &["a secret of some length"],
    }
}

fn sent(format: Format, event: &Envelope) -> (Vec<(String, String)>, Value) {
    let out = outgoing(
        &target(format, Some("{\"a\": {{ payload }}}")),
        event,
        Stamp(0),
    )
    .unwrap();
    let text = String::from_utf8(out.body).unwrap();
    let last = text.lines().last().unwrap();
    (out.headers, serde_json::from_str(last).unwrap())
}

#[test]
fn the_json_body_and_headers_are_the_original_s_with_a_signature_that_covers_the_time() {
    let event = event(json!({"b": 1, "a": {"d": 2, "c": 3}}));
    let secrets = [
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "the one before it",
    ];
    let target = Target {
        secrets: &secrets,
        ..target(Format::Json, None)
    };
    let now = Stamp(1_614_265_330_000_000);
    let out = outgoing(&target, &event, now).unwrap();
    assert_eq!(
        std::str::from_utf8(&out.body).unwrap(),
        r#"{"id":"0123456789abcdef","payload":{"a":{"c":3,"d":2},"b":1},"topic":"credential.captured","ts":"2023-11-14T22:13:20.123456+00:00","type":"captured","v":1}"#
    );
    let header = |name: &str| {
        let found = out.headers.iter().find(|(n, _)| n == name);
        found.map(|(_, value)| value.as_str()).unwrap()
    };
    assert_eq!(header("content-type"), "application/json");
    assert_eq!(header("webhook-id"), event.id);
    assert_eq!(header("webhook-timestamp"), "1614265330");
    assert_eq!(header("webhook-signature").split(' ').count(), 2);
    assert!(header("x-decnet-signature").starts_with("sha256="));
    assert_eq!(header("x-decnet-event-topic"), "credential.captured");
}

/// The example of the Standard Webhooks specification's own libraries.
#[test]
fn the_signature_is_that_of_standard_webhooks() {
    let mut event = event(json!({}));
    event.id = "msg_p5jXN8AQM9LWM0D4loKWxJek".to_owned();
    let body = br#"{"test": 2432232314}"#;
    let secrets = ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"];
    let headers = signature::headers(&secrets, &event, body, Stamp(1_614_265_330_000_000));
    let signed = headers
        .iter()
        .find(|(n, _)| n == "webhook-signature")
        .unwrap();
    assert_eq!(signed.1, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
}

#[test]
fn every_format_carries_the_event() {
    let event = event(json!({"attacker_ip": "203.0.113.9", "decky": "web-01", "n": 3}));
    let (headers, body) = sent(Format::CloudEvents, &event);
    assert!(headers.contains(&("content-type".into(), "application/cloudevents+json".into())));
    assert_eq!(body["type"], "decnet.credential.captured");
    assert_eq!(body["data"]["n"], 3);
    let (_, body) = sent(Format::SplunkHec, &event);
    assert_eq!(body["time"], "1700000000.123");
    assert_eq!(body["host"], "web-01");
    let (headers, body) = sent(Format::EcsBulk, &event);
    assert!(headers.contains(&("content-type".into(), "application/x-ndjson".into())));
    assert_eq!(body["source"]["ip"], "203.0.113.9");
    for format in [Format::Slack, Format::Mattermost] {
        let text = sent(format, &event).1["text"].as_str().unwrap().to_owned();
        assert!(
            text.contains("203.0.113.9") && text.contains("n: 3"),
            "{text}"
        );
    }
    assert!(
        sent(Format::Discord, &event).1["content"]
            .as_str()
            .unwrap()
            .contains("web-01")
    );
    let card = sent(Format::Teams, &event).1;
    let facts = &card["attachments"][0]["content"]["body"][2]["facts"];
    assert_eq!(facts[1]["value"], "web-01");
    assert_eq!(sent(Format::Template, &event).1["a"]["n"], 3);
}

#[test]
fn attackers_text_mentions_nobody_and_closes_no_block() {
    let evil = "``` <!channel> @everyone \u{202e}\u{0}\n[x](http://y)";
    let event = event(json!({"decky": evil, "x": evil.repeat(1000)}));
    let slack = sent(Format::Slack, &event).1["text"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(!slack.contains("<!channel>"), "{slack}");
    for format in [Format::Slack, Format::Mattermost, Format::Discord] {
        let body = sent(format, &event).1;
        let text = body["text"].as_str().or(body["content"].as_str()).unwrap();
        assert_eq!(text.matches("```").count(), 2, "{text}");
        assert!(!text.contains('\u{202e}') && !text.contains('\0'), "{text}");
        assert!(text.chars().count() < 2000, "{}", text.chars().count());
    }
    assert_eq!(
        sent(Format::Discord, &event).1["allowed_mentions"],
        json!({"parse": []})
    );
}

#[test]
fn a_template_is_checked_and_cannot_be_left() {
    let plain = [("Content-Type".to_owned(), "text/plain".to_owned())];
    let good =
        r#"{"who": {{ payload.attacker_ip }}, "gone": {{ payload.none.x }}, "t": "{{ topic }}"}"#;
    assert!(matches!(
        check_template(good, &[]),
        Err(TemplateError::NotJson(_))
    ));
    let good = r#"{"who": {{ payload.attacker_ip }}, "gone": {{ payload.none.x }}}"#;
    check_template(good, &[]).unwrap();
    check_template("{{ topic }}: {{ payload.decky }}", &plain).unwrap();
    for bad in [
        "{{",
        "{{ payload.x | nope }}",
        "{% for i in range(99999999) %}x{% endfor %}",
    ] {
        assert!(check_template(bad, &plain).is_err(), "{bad}");
    }
    let evil = event(json!({"attacker_ip": "\", \"admin\": \"x"}));
    let out = outgoing(&target(Format::Template, Some(good)), &evil, Stamp(0)).unwrap();
    let body: Value = serde_json::from_slice(&out.body).unwrap();
    assert_eq!(body["who"], "\", \"admin\": \"x");
    assert_eq!(body["gone"], Value::Null);
}

#[test]
fn the_bulk_api_s_refusal_counts_as_one() {
    let taken = br#"{"errors":false,"items":[{"create":{"status":201}}]}"#;
    let known =
        br#"{"errors":true,"items":[{"create":{"status":409,"error":{"reason":"exists"}}}]}"#;
    let refused = br#"{"errors":true,"items":[{"create":{"status":400,"error":{"reason":"no"}}}]}"#;
    assert!(accepted(Format::EcsBulk, taken).is_ok());
    assert!(accepted(Format::EcsBulk, known).is_ok());
    assert!(
        accepted(Format::EcsBulk, refused)
            .unwrap_err()
            .contains("no")
    );
    assert!(accepted(Format::Json, refused).is_ok());
}

#[test]
fn headers_and_secrets_are_checked() {
    assert!(check_header("Authorization", "Splunk 1234").is_ok());
    for (name, value) in [
        ("a b", "x"),
        ("", "x"),
        ("Host", "x"),
        ("webhook-id", "x"),
        ("X", "a\r\nb"),
        ("X", "ä"),
    ] {
        assert!(check_header(name, value).is_err(), "{name}");
    }
    signature::check(&signature::generate([7; 32])).unwrap();
    signature::check("sixteen bytes ok").unwrap();
    for bad in ["short", "whsec_***************", "line\nline\nline\nline\n"] {
        assert!(signature::check(bad).is_err(), "{bad}");
    }
}

proptest! {
    #[test]
    fn no_payload_breaks_a_format(
        texts in prop::collection::vec("\\PC{0,40}|[\\x00-\\x1f`<>@\\\\\"]{0,20}", 0..6),
        topic in "[a-z]{1,8}(\\.[a-z]{1,8}){0,3}",
    ) {
        let mut event = event(json!({"attacker_ip": texts.first(), "list": texts, "deep": {"x": [{"y": texts}]}}));
        event.topic = topic;
        for format in Format::ALL {
            let (_, body) = sent(format, &event);
            prop_assert!(body.is_object());
        }
    }
}
