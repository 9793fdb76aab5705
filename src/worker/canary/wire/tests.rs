use proptest::prelude::*;

use super::*;

const SLUG: &str = "mzxw6ytboiydcmrtgq2tmnzyhe";

fn zone() -> Zone {
    Zone {
        name: "cdn.example.org".to_owned(),
        address: [198, 51, 100, 7].into(),
        serial: 7,
    }
}

fn question(name: &str, kind: u16) -> Vec<u8> {
    let mut packet = vec![0x12, 0x34, 0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.').filter(|l| !l.is_empty()) {
        packet.push(u8::try_from(label.len()).unwrap());
        packet.extend(label.bytes());
    }
    packet.push(0);
    packet.extend(kind.to_be_bytes());
    packet.extend(IN.to_be_bytes());
    packet
}

/// With an EDNS record of that version and those options.
fn with_edns(mut packet: Vec<u8>, version: u8, options: &[u8]) -> Vec<u8> {
    packet[11] = 1;
    packet.extend([0, 0, 41, 0x10, 0, 0, version, 0x80, 0]);
    packet.extend(u16::try_from(options.len()).unwrap().to_be_bytes());
    packet.extend(options);
    packet
}

fn ask(packet: &[u8]) -> Answer {
    answer(packet, &zone(), |slug| slug.as_str() == SLUG).unwrap()
}

fn code(answer: &Answer) -> u16 {
    u16_at(&answer.bytes, 2).unwrap() & 0xf
}

/// Answers, authorities, additional records.
fn counts(answer: &Answer) -> [u16; 3] {
    [6, 8, 10].map(|at| u16_at(&answer.bytes, at).unwrap())
}

#[test]
fn a_tokens_name_has_the_address_and_keeps_its_letters() {
    let name = format!("{}.Cdn.eXample.ORG", SLUG.to_uppercase());
    let packet = question(&name, A);
    let answer = ask(&packet);
    assert_eq!((code(&answer), counts(&answer)), (NOERROR, [1, 0, 0]));
    assert_eq!(answer.bytes[2] & 0x04, 0x04, "authoritative");
    assert_eq!(answer.bytes[2] & 0x01, 0x01, "the wish is repeated");
    assert_eq!(answer.bytes[3] & 0x80, 0, "no recursion");
    assert_eq!(answer.bytes[HEADER..packet.len()], packet[HEADER..]);
    assert!(answer.bytes.ends_with(&[198, 51, 100, 7]));
    let asked = answer.asked.unwrap();
    assert_eq!(asked.slug.as_str(), SLUG);
    assert_eq!(asked.name, format!("{SLUG}.cdn.example.org"));
    assert_eq!(asked.kind, "A");
}

#[test]
fn names_below_a_tokens_are_its_own() {
    let name = format!("alice.laptop.{SLUG}.cdn.example.org");
    let answer = ask(&question(&name, A));
    assert_eq!(answer.asked.unwrap().name, name);
    for kind in [28, 16, 65] {
        let answer = ask(&question(&name, kind));
        assert_eq!((code(&answer), counts(&answer)), (NOERROR, [0, 1, 0]));
        assert!(answer.asked.is_some());
    }
}

#[test]
fn other_names_do_not_exist_and_other_zones_are_refused() {
    let answer = ask(&question("x.cdn.example.org", A));
    assert_eq!((code(&answer), counts(&answer)), (NXDOMAIN, [0, 1, 0]));
    let unknown = SLUG.replace("mzx", "aaa");
    let answer = ask(&question(&format!("{unknown}.cdn.example.org"), A));
    assert_eq!(code(&answer), NXDOMAIN);
    for name in [
        "example.org",
        "org",
        "",
        "xcdn.example.org",
        "a.example.com",
    ] {
        let answer = ask(&question(name, A));
        assert_eq!(
            (code(&answer), counts(&answer)),
            (REFUSED, [0, 0, 0]),
            "{name}"
        );
        assert_eq!(answer.bytes[2] & 0x04, 0);
    }
}

#[test]
fn the_zone_has_servers_with_addresses_and_an_authority() {
    let servers = ask(&question("cdn.example.org", NS));
    assert_eq!((code(&servers), counts(&servers)), (NOERROR, [2, 0, 2]));
    let soa = ask(&question("CDN.example.org", SOA));
    assert_eq!(counts(&soa), [1, 0, 0]);
    assert_eq!(counts(&ask(&question("ns1.cdn.example.org", A))), [1, 0, 0]);
    assert_eq!(counts(&ask(&question("cdn.example.org", A))), [1, 0, 0]);
    assert!(ask(&question("cdn.example.org", A)).asked.is_none());
}

#[test]
fn edns_is_answered_in_kind() {
    let name = format!("{SLUG}.cdn.example.org");
    // A client's subnet: 203.0.113.0/24.
    let subnet = [0, 8, 0, 7, 0, 1, 24, 0, 203, 0, 113];
    let answer = ask(&with_edns(question(&name, A), 0, &subnet));
    assert_eq!((code(&answer), counts(&answer)), (NOERROR, [1, 0, 1]));
    assert_eq!(
        answer.asked.unwrap().subnet.as_deref(),
        Some("203.0.113.0/24")
    );
    let newer = ask(&with_edns(question(&name, A), 1, &[]));
    assert_eq!((code(&newer), counts(&newer)), (0, [0, 0, 1]));
    assert_eq!(newer.bytes[newer.bytes.len() - 6], 1, "BADVERS");
    assert!(newer.asked.is_none());
}

#[test]
fn what_is_no_question_is_refused_or_met_with_silence() {
    let good = question("cdn.example.org", A);
    let none = |packet: &[u8]| answer(packet, &zone(), |_| true).is_none();
    assert!(none(&[]) && none(&good[..11]));
    let mut reply = good.clone();
    reply[2] |= 0x80;
    assert!(none(&reply));
    let mut update = good.clone();
    update[2] = 0x28;
    assert_eq!(code(&ask(&update)), NOTIMP);
    let mut two = good.clone();
    two[5] = 2;
    assert_eq!(code(&ask(&two)), FORMERR);
    let mut pointer = good.clone();
    pointer[HEADER] = 0xc0;
    assert_eq!(code(&ask(&pointer)), FORMERR);
    let mut chaos = good.clone();
    *chaos.last_mut().unwrap() = 3;
    assert_eq!(code(&ask(&chaos)), REFUSED);
    assert_eq!(code(&ask(&good[..good.len() - 1])), FORMERR);
}

#[test]
fn a_truncated_answer_is_the_question_alone() {
    let answer = ask(&with_edns(question("cdn.example.org", NS), 0, &[]));
    let short = truncated(&answer.bytes).unwrap();
    assert_eq!(short.len(), question("cdn.example.org", NS).len());
    assert_eq!(short[2] & 0x02, 0x02);
    assert_eq!(short[6..12], [0; 6]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn any_packet_is_survived_and_never_amplified_much(
        packet in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        if let Some(answer) = answer(&packet, &zone(), |_| true) {
            prop_assert!(answer.bytes.len() <= ANSWER_MAX);
            prop_assert!(truncated(&answer.bytes).is_some());
        }
    }

    #[test]
    fn a_question_changed_anywhere_is_survived(
        at in 0usize..70, byte: u8, options in proptest::collection::vec(any::<u8>(), 0..40),
    ) {
        let mut packet = question(&format!("{SLUG}.cdn.example.org"), A);
        packet = with_edns(packet, 0, &options);
        if let Some(place) = packet.get_mut(at) {
            *place = byte;
        }
        if let Some(answer) = answer(&packet, &zone(), |_| true) {
            prop_assert!(answer.bytes.len() <= ANSWER_MAX);
        }
    }

    #[test]
    fn hostile_labels_are_shown_harmless(label in proptest::collection::vec(any::<u8>(), 1..63)) {
        let text = shown(&[label]);
        prop_assert!(text.bytes().all(|b| b.is_ascii_graphic()));
    }
}
