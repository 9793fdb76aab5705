//! The `Authorization` field as a credential.

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use crate::model::{Credential, SecretKind};

/// Clients forget the padding, and some tools the clean last bits.
pub(super) const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// The credential in an `Authorization` value, with the name of its scheme. `method`
/// is part of what a Digest response signs.
#[must_use]
pub(super) fn read(value: &str, method: &str) -> Option<(&'static str, Credential)> {
    let value = value.trim();
    let (scheme, rest) = value.split_once(' ')?;
    let rest = rest.trim();
    match scheme.to_ascii_lowercase().as_str() {
        "basic" => basic(rest).map(|c| ("basic", c)),
        "bearer" | "token" if !rest.is_empty() => Some((
            "bearer",
            Credential {
                principal: None,
                kind: SecretKind::HttpBearer,
                secret: rest.as_bytes().to_vec(),
                crack: None,
            },
        )),
        "digest" => digest(rest, method).map(|c| ("digest", c)),
        _ => None,
    }
}

fn basic(rest: &str) -> Option<Credential> {
    let decoded = LENIENT.decode(rest).ok()?;
    let cut = decoded.iter().position(|b| *b == b':')?;
    let user = decoded.get(..cut)?;
    let secret = decoded.get(cut.saturating_add(1)..)?;
    Some(Credential::plaintext(
        Some(&String::from_utf8_lossy(user)),
        secret,
    ))
}

fn digest(rest: &str, method: &str) -> Option<Credential> {
    let fields = parameters(rest);
    let get = |name: &str| {
        fields
            .iter()
            .find(|(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    };
    let user = get("username")?;
    let response = get("response")?.to_ascii_lowercase();
    let algorithm = get("algorithm").unwrap_or("MD5");
    let md5 = algorithm.eq_ignore_ascii_case("md5");
    let kind = if md5 {
        SecretKind::HttpDigestMd5
    } else {
        // Never named after what the client says.
        SecretKind::Other("http_digest_other".to_owned())
    };
    let mut parts = vec![
        response.as_str(),
        user,
        get("realm").unwrap_or_default(),
        method,
        get("uri").unwrap_or_default(),
        get("nonce").unwrap_or_default(),
    ];
    if let Some(qop) = get("qop") {
        parts.push(get("nc").unwrap_or_default());
        parts.push(get("cnonce").unwrap_or_default());
        parts.push(qop);
    }
    let plain_qop = get("qop").is_none_or(|q| q.eq_ignore_ascii_case("auth"));
    let hashed = response.len() == 32 && response.bytes().all(|b| b.is_ascii_hexdigit());
    // John's HDAA line: `$` parts its fields, so none may hold one.
    let fits = parts.iter().all(|p| !p.contains('$'));
    let crack =
        (md5 && plain_qop && hashed && fits).then(|| format!("$response${}", parts.join("$")));
    Some(Credential {
        principal: Some(user.to_owned()),
        kind,
        secret: response.clone().into_bytes(),
        crack,
    })
}

/// `a="b \"c\"", d=e` → pairs.
fn parameters(text: &str) -> Vec<(String, String)> {
    let mut out = Vec::new();
    let mut chars = text.chars().peekable();
    while out.len() < 32 {
        let name: String =
            std::iter::from_fn(|| chars.next_if(|c| !matches!(c, '=' | ','))).collect();
        let mut value = String::new();
        if chars.next_if_eq(&'=').is_some() {
            while chars.next_if_eq(&' ').is_some() {}
            if chars.next_if_eq(&'"').is_some() {
                while let Some(c) = chars.next() {
                    match c {
                        '"' => break,
                        '\\' => value.extend(chars.next()),
                        c => value.push(c),
                    }
                }
            } else {
                value = std::iter::from_fn(|| chars.next_if(|c| *c != ',')).collect();
            }
        }
        let name = name.trim();
        if !name.is_empty() {
            out.push((name.to_owned(), value.trim().to_owned()));
        }
        while chars.next_if(|c| *c != ',').is_some() {}
        if chars.next().is_none() {
            break;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn basic_gives_name_and_password_even_without_padding() {
        let (scheme, credential) = read("Basic YTpiOmM", "GET").unwrap();
        assert_eq!(scheme, "basic");
        assert_eq!(credential.principal.as_deref(), Some("a"));
        assert_eq!(credential.secret, b"b:c");
        assert_eq!(read("Basic YWJj", "GET"), None);
    }

    #[test]
    fn a_bearer_token_has_no_name() {
        let (_, credential) = read("Bearer abc.def", "GET").unwrap();
        assert_eq!(credential.principal, None);
        assert_eq!(credential.kind, SecretKind::HttpBearer);
        assert_eq!(read("Negotiate abc", "GET"), None);
    }

    #[test]
    fn a_digest_carries_a_line_john_takes() {
        // The line john's own self-test cracks to "nocode".
        let value = "Digest username=\"user\", realm=\"myrealm\", nonce=\"8c12bd8f728afe56d45a0ce846b70e5a\", \
            uri=\"/\", response=\"679066476e67b5c7c4e88f04be567f8b\", qop=auth, nc=00000001, cnonce=\"4b61913cec32e2c9\"";
        let (_, credential) = read(value, "GET").unwrap();
        assert_eq!(credential.kind, SecretKind::HttpDigestMd5);
        assert_eq!(
            credential.crack.as_deref(),
            Some(
                "$response$679066476e67b5c7c4e88f04be567f8b$user$myrealm$GET$/$\
                 8c12bd8f728afe56d45a0ce846b70e5a$00000001$4b61913cec32e2c9$auth"
            )
        );
    }

    #[test]
    fn a_digest_without_qop_uses_the_older_line() {
        let value = "Digest username=\"u\", realm=\"r\", nonce=\"n\", uri=\"/\", response=\"679066476E67b5c7c4e88f04be567f8b\"";
        let (_, credential) = read(value, "GET").unwrap();
        assert_eq!(
            credential.crack.as_deref(),
            Some("$response$679066476e67b5c7c4e88f04be567f8b$u$r$GET$/$n")
        );
    }
}
