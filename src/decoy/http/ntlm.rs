//! NTLM over HTTP (MS-NLMP, and the SPNEGO wrapping of RFC 4178): enough to answer a
//! client's first message with a challenge and to keep its third message as a
//! credential with a line a cracker takes. Nobody is ever let in, so nothing is
//! verified. Messages are bounded by [`BLOB_MAX`] and read by checked slices.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rand::RngExt;

use crate::decoy::http::auth::LENIENT;
use crate::decoy::http::request::Head;
use crate::model::{Credential, SecretKind, Stamp};
use crate::persona::Persona;

/// Longest message looked at.
const BLOB_MAX: usize = 16 * 1024;
const SIGNATURE: &[u8] = b"NTLMSSP\0";
/// Seconds between 1601 and 1970.
const EPOCH: i64 = 11_644_473_600;

const UNICODE: u32 = 0x0000_0001;
const OEM: u32 = 0x0000_0002;
/// What the answer takes over from the question: signing, sealing, key lengths,
/// extended security.
const ECHOED: u32 = 0xe008_8030;
/// Target, NTLM, always sign, target is a domain, target info, version.
const ALWAYS: u32 = 0x0281_8204;

/// A client's message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Message {
    /// The first: its flags.
    Negotiate(u32),
    /// The third.
    Authenticate(Box<Response>),
}

/// What a third message says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Response {
    pub(super) user: String,
    pub(super) domain: String,
    pub(super) workstation: String,
    lm: Vec<u8>,
    nt: Vec<u8>,
}

/// The handshake of one connection.
#[derive(Debug, Default)]
pub(super) struct Talk {
    challenge: Option<[u8; 8]>,
}

/// What a request's `Authorization` field came to.
#[derive(Debug)]
pub(super) enum Heard {
    /// A first message; the `WWW-Authenticate` value that answers it.
    Question(String),
    /// A third message.
    Answer(Credential, Box<Response>),
}

impl Talk {
    /// Reads the field of `head`, if it is of this scheme.
    pub(super) fn hear(&mut self, head: &Head, persona: &Persona, now: Stamp) -> Option<Heard> {
        let value = head.text("authorization")?;
        let (scheme, rest) = value.trim().split_once(' ')?;
        let scheme = ["NTLM", "Negotiate"]
            .into_iter()
            .find(|s| s.eq_ignore_ascii_case(scheme))?;
        let rest = rest.trim();
        if rest.len() > BLOB_MAX.saturating_mul(2) {
            return None;
        }
        let blob = LENIENT.decode(rest).ok()?;
        let (message, wrapped) = parse(&blob)?;
        match message {
            Message::Negotiate(flags) => {
                let drawn: [u8; 8] = rand::rng().random();
                self.challenge = Some(drawn);
                let mut reply = challenge(persona, flags, drawn, now);
                if wrapped {
                    reply = spnego(&reply);
                }
                Some(Heard::Question(format!(
                    "{scheme} {}",
                    STANDARD.encode(reply)
                )))
            }
            Message::Authenticate(response) => {
                let credential = response.credential(self.challenge.take());
                Some(Heard::Answer(credential, response))
            }
        }
    }
}

impl Response {
    /// The credential; with the challenge it answers, also a cracking line.
    fn credential(&self, challenge: Option<[u8; 8]>) -> Credential {
        let old = self.nt.len() == 24;
        let hex = |bytes: &[u8]| -> String { bytes.iter().map(|b| format!("{b:02x}")).collect() };
        // A colon would shift the fields of the line.
        let fits =
            !self.nt.is_empty() && ![&self.user, &self.domain].iter().any(|t| t.contains(':'));
        let crack = challenge.filter(|_| fits).and_then(|challenge| {
            let (user, domain, challenge) = (&self.user, &self.domain, hex(&challenge));
            if old {
                let (lm, nt) = (hex(&self.lm), hex(&self.nt));
                return Some(format!("{user}::{domain}:{lm}:{nt}:{challenge}"));
            }
            let (proof, blob) = self.nt.split_at_checked(16)?;
            let (proof, blob) = (hex(proof), hex(blob));
            Some(format!("{user}::{domain}:{challenge}:{proof}:{blob}"))
        });
        let kind = if old { "ntlmssp_v1" } else { "ntlmssp_v2" };
        Credential {
            principal: Some(self.user.clone()),
            kind: SecretKind::Other(kind.to_owned()),
            secret: self.nt.clone(),
            crack,
        }
    }
}

/// The message in `blob`, and whether it came wrapped in something.
pub(super) fn parse(blob: &[u8]) -> Option<(Message, bool)> {
    let blob = blob.get(..blob.len().min(BLOB_MAX))?;
    let at = blob
        .windows(SIGNATURE.len())
        .take(512)
        .position(|w| w == SIGNATURE)?;
    let message = blob.get(at..)?;
    let found = match number(message, 8)? {
        1 => Message::Negotiate(number(message, 12)?),
        3 => {
            let flags = number(message, 60).unwrap_or(UNICODE);
            let text = |at: usize| -> Option<String> {
                let bytes = field(message, at)?;
                let all = if flags & UNICODE == 0 {
                    String::from_utf8_lossy(bytes).into_owned()
                } else {
                    let units: Vec<u16> = bytes
                        .chunks_exact(2)
                        .map(|pair| match pair {
                            [low, high] => u16::from_le_bytes([*low, *high]),
                            _ => 0,
                        })
                        .collect();
                    String::from_utf16_lossy(&units)
                };
                Some(all.chars().filter(|c| !c.is_control()).take(256).collect())
            };
            Message::Authenticate(Box::new(Response {
                lm: field(message, 12)?.to_vec(),
                nt: field(message, 20)?.to_vec(),
                domain: text(28)?,
                user: text(36)?,
                workstation: text(44)?,
            }))
        }
        _ => return None,
    };
    Some((found, at > 0))
}

fn number(message: &[u8], at: usize) -> Option<u32> {
    let bytes = message.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}

/// The bytes a length and an offset at `at` point to.
fn field(message: &[u8], at: usize) -> Option<&[u8]> {
    let length = message.get(at..at.checked_add(2)?)?;
    let length = usize::from(u16::from_le_bytes(length.try_into().ok()?));
    if length == 0 {
        return Some(&[]);
    }
    let offset = usize::try_from(number(message, at.checked_add(4)?)?).ok()?;
    message.get(offset..offset.checked_add(length)?)
}

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

fn length(bytes: &[u8]) -> [u8; 2] {
    u16::try_from(bytes.len()).unwrap_or(u16::MAX).to_le_bytes()
}

/// NetBIOS form of a name.
fn netbios(name: &str) -> String {
    name.to_ascii_uppercase().chars().take(15).collect()
}

/// The second message: the host's names and `drawn`.
fn challenge(persona: &Persona, asked: u32, drawn: [u8; 8], now: Stamp) -> Vec<u8> {
    let label = persona.domain.split('.').next().unwrap_or_default();
    let domain = netbios(label);
    let unicode = asked & UNICODE != 0 || asked & OEM == 0;
    let charset = if unicode { UNICODE } else { OEM };
    let target = if unicode {
        utf16(&domain)
    } else {
        domain.clone().into_bytes()
    };
    let flags = ALWAYS | charset | 0x0001_0000 | (asked & ECHOED);
    let mut info = Vec::new();
    let mut pair = |kind: u16, value: &[u8]| {
        info.extend(kind.to_le_bytes());
        info.extend(length(value));
        info.extend_from_slice(value);
    };
    pair(2, &utf16(&domain));
    pair(1, &utf16(&netbios(&persona.hostname)));
    pair(4, &utf16(&persona.domain));
    pair(3, &utf16(&persona.fqdn()));
    pair(5, &utf16(&persona.domain));
    let ticks = now
        .0
        .saturating_add(EPOCH.saturating_mul(1_000_000))
        .saturating_mul(10);
    pair(7, &ticks.to_le_bytes());
    pair(0, &[]);
    let mut out = SIGNATURE.to_vec();
    out.extend(2u32.to_le_bytes());
    out.extend(length(&target));
    out.extend(length(&target));
    out.extend(56u32.to_le_bytes());
    out.extend(flags.to_le_bytes());
    out.extend(drawn);
    out.extend([0; 8]);
    out.extend(length(&info));
    out.extend(length(&info));
    let offset = u32::try_from(target.len()).unwrap_or(0).saturating_add(56);
    out.extend(offset.to_le_bytes());
    out.extend([10, 0]);
    out.extend(build(&persona.kernel).to_le_bytes());
    out.extend([0, 0, 0, 15]);
    out.extend(target);
    out.extend(info);
    out
}

/// The build number in `10.0.17763`, `17763.6659` and the like.
fn build(kernel: &str) -> u16 {
    kernel
        .split(|c: char| !c.is_ascii_digit())
        .filter(|part| part.len() >= 4)
        .find_map(|part| part.parse().ok())
        .unwrap_or(17763)
}

/// `token` in a negTokenResp: accept-incomplete, mechanism NTLMSSP.
fn spnego(token: &[u8]) -> Vec<u8> {
    let octets = der(0x04, token);
    let mut inner = vec![0xa0, 3, 0x0a, 1, 1];
    inner.extend([0xa1, 12, 0x06, 10, 0x2b, 6, 1, 4, 1, 0x82, 0x37, 2, 2, 10]);
    inner.extend(der(0xa2, &octets));
    der(0xa1, &der(0x30, &inner))
}

/// One DER element.
fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    match u8::try_from(content.len()) {
        Ok(short @ 0..=127) => out.push(short),
        Ok(one) => out.extend([0x81, one]),
        Err(_) => {
            let [high, low] = u16::try_from(content.len())
                .unwrap_or(u16::MAX)
                .to_be_bytes();
            out.extend([0x82, high, low]);
        }
    }
    out.extend_from_slice(content);
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn persona() -> Persona {
        let asked = crate::persona::Asked::default();
        let mut persona = Persona::derive(b"s", "x", &asked, Stamp(1_700_000_000_000_000));
        persona.hostname = "srv-fs01".into();
        persona.domain = "northgate.corp".into();
        persona.kernel = "10.0.20348".into();
        persona
    }

    fn head(value: &str) -> Head {
        Head {
            headers: vec![("Authorization".into(), value.into())],
            ..Head::empty()
        }
    }

    /// A third message as clients lay it out: fixed part, then the texts.
    fn third(user: &str, domain: &str, nt: &[u8]) -> Vec<u8> {
        let parts = [
            vec![0u8; 24],
            nt.to_vec(),
            utf16(domain),
            utf16(user),
            utf16("WS1"),
            vec![],
        ];
        let mut out = [SIGNATURE, &3u32.to_le_bytes()].concat();
        let mut at = 64u32;
        for part in &parts {
            out.extend(length(part));
            out.extend(length(part));
            out.extend(at.to_le_bytes());
            at = at.saturating_add(u32::try_from(part.len()).unwrap());
        }
        out.extend(UNICODE.to_le_bytes());
        out.extend(parts.concat());
        out
    }

    #[test]
    fn a_handshake_gives_a_line_hashcat_takes() {
        let mut talk = Talk::default();
        let first = [
            SIGNATURE,
            &1u32.to_le_bytes(),
            &0xe208_8297u32.to_le_bytes(),
            &[0; 16],
        ]
        .concat();
        let now = Stamp(1_700_000_000_000_000);
        let value = format!("NTLM {}", STANDARD.encode(first));
        let Some(Heard::Question(said)) = talk.hear(&head(&value), &persona(), now) else {
            panic!("no challenge");
        };
        let sent = STANDARD
            .decode(said.strip_prefix("NTLM ").unwrap())
            .unwrap();
        assert_eq!(number(&sent, 8), Some(2));
        assert_eq!(field(&sent, 12).unwrap(), utf16("NORTHGATE"));
        assert_eq!(&sent[48..56], [10, 0, 0x7c, 0x4f, 0, 0, 0, 15]);
        let challenge: String = sent[24..32].iter().map(|b| format!("{b:02x}")).collect();
        let nt = [[0xabu8; 16].as_slice(), &[1, 1, 0, 0, 7]].concat();
        let value = format!("NTLM {}", STANDARD.encode(third("anna", "NORTHGATE", &nt)));
        let Some(Heard::Answer(credential, response)) = talk.hear(&head(&value), &persona(), now)
        else {
            panic!("no credential");
        };
        assert_eq!(credential.kind.as_str(), "ntlmssp_v2");
        assert_eq!(response.workstation, "WS1");
        assert_eq!(
            credential.crack.unwrap(),
            format!("anna::NORTHGATE:{challenge}:{}:0101000007", "ab".repeat(16))
        );
        // A second answer to the same challenge proves nothing.
        let Some(Heard::Answer(again, _)) = talk.hear(&head(&value), &persona(), now) else {
            panic!("no credential");
        };
        assert_eq!(again.crack, None);
    }

    #[test]
    fn a_wrapped_question_gets_a_wrapped_answer() {
        let first = [
            &[0x60, 0x28][..],
            SIGNATURE,
            &1u32.to_le_bytes(),
            &1u32.to_le_bytes(),
        ]
        .concat();
        let value = format!("Negotiate {}", STANDARD.encode(first));
        let heard = Talk::default().hear(&head(&value), &persona(), Stamp(0));
        let Some(Heard::Question(said)) = heard else {
            panic!("no challenge");
        };
        let sent = STANDARD
            .decode(said.strip_prefix("Negotiate ").unwrap())
            .unwrap();
        assert_eq!(sent[0], 0xa1);
        assert!(sent.windows(8).any(|w| w == SIGNATURE));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(tail in proptest::collection::vec(any::<u8>(), 0..200), kind in 0u32..5) {
            let blob = [SIGNATURE, &kind.to_le_bytes(), &tail].concat();
            if let Some((Message::Authenticate(response), _)) = parse(&blob) {
                let _ = response.credential(Some([0; 8]));
            }
        }
    }
}
