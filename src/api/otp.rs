//! One-time codes as authenticator programs make them (RFC 6238: HMAC-SHA-1, six digits,
//! thirty seconds), and the recovery codes for when the authenticator is lost.

use hmac::{Hmac, KeyInit, Mac};
use rand::RngExt;
use sha1::Sha1;
use sha2::{Digest, Sha256};
use subtle::{ConditionallySelectable, ConstantTimeEq};

use crate::model::Stamp;

/// Bytes of a secret: as many as the hash has (RFC 4226, 4).
pub(super) const SECRET_BYTES: usize = 20;
/// Seconds for which a code is valid.
const STEP: i64 = 30;
/// Codes of so many steps before and after now are good too: clocks differ.
const SLACK: i64 = 1;
/// Recovery codes an account is given.
pub(super) const RECOVERY_CODES: usize = 10;
/// RFC 4648, 6.
const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// The code of a time step.
fn code(secret: &[u8], step: i64) -> String {
    // Any key length is a key for HMAC.
    let Ok(mut mac) = Hmac::<Sha1>::new_from_slice(secret) else {
        return String::new();
    };
    mac.update(&step.to_be_bytes());
    let bytes = mac.finalize().into_bytes();
    // RFC 4226, 5.3: the last half byte says where to read.
    let at = usize::from(bytes.last().copied().unwrap_or(0) & 0x0f);
    let read = bytes.iter().skip(at).take(4);
    let number = read.fold(0_u32, |n, byte| n << 8 | u32::from(*byte)) & 0x7fff_ffff;
    format!("{:06}", number % 1_000_000)
}

/// The time step whose code was given, if it is one of those around `now`. Takes as long
/// whichever it is.
pub(super) fn step_of(secret: &[u8], given: &str, now: Stamp) -> Option<i64> {
    let current = now.0.div_euclid(1_000_000 * STEP);
    let mut found = i64::MIN;
    for step in current - SLACK..=current + SLACK {
        let right = code(secret, step);
        found.conditional_assign(&step, right.as_bytes().ct_eq(given.as_bytes()));
    }
    (found != i64::MIN).then_some(found)
}

/// A code as somebody typed it: without the spaces and dashes it is shown with.
pub(super) fn typed(text: &str) -> String {
    let kept = text.chars().filter(|c| !matches!(c, ' ' | '-'));
    kept.map(|c| c.to_ascii_uppercase()).collect()
}

/// RFC 4648 base32 without padding, which is how authenticators take a secret.
pub(super) fn base32(bytes: &[u8]) -> String {
    let mut out = String::new();
    for chunk in bytes.chunks(5) {
        let bits = (0..5).fold(0_u64, |bits, at| {
            bits << 8 | u64::from(chunk.get(at).copied().unwrap_or(0))
        });
        let digits = (chunk.len() * 8).div_ceil(5);
        out.extend((0..digits).map(|n| {
            let at = usize::try_from(bits >> (35 - 5 * n) & 31).unwrap_or(0);
            char::from(BASE32.get(at).copied().unwrap_or(b'A'))
        }));
    }
    out
}

/// What an authenticator reads from a picture.
pub(super) fn uri(user: &str, secret: &str) -> String {
    let fine = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'~');
    let mut name = String::new();
    for byte in user.bytes() {
        if fine(byte) {
            name.push(char::from(byte));
        } else {
            name.push_str(&format!("%{byte:02X}"));
        }
    }
    format!(
        "otpauth://totp/DECNET:{name}?secret={secret}&issuer=DECNET&algorithm=SHA1&digits=6&period=30"
    )
}

/// A recovery code, 80 bits: too many to guess, so a plain hash keeps it.
pub(super) fn recovery_code() -> String {
    let bytes: [u8; 10] = rand::rng().random();
    let text = base32(&bytes).to_lowercase();
    let mut shown = String::new();
    for (at, c) in text.chars().enumerate() {
        if at > 0 && at.is_multiple_of(4) {
            shown.push('-');
        }
        shown.push(c);
    }
    shown
}

/// What is stored of a recovery code.
pub(super) fn recovery_hash(code: &str) -> [u8; 32] {
    Sha256::digest(typed(code).as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const SECRET: &[u8] = b"12345678901234567890";

    #[test]
    fn codes_are_those_of_the_standard() {
        // RFC 6238, appendix B, the last six of its eight digits.
        for (seconds, expected) in [
            (59, "287082"),
            (1_111_111_109, "081804"),
            (1_111_111_111, "050471"),
            (1_234_567_890, "005924"),
            (2_000_000_000, "279037"),
            (20_000_000_000, "353130"),
        ] {
            assert_eq!(code(SECRET, seconds / 30), expected, "{seconds}");
        }
    }

    #[test]
    fn a_code_is_good_one_step_early_and_one_step_late() {
        let now = Stamp(59 * 1_000_000);
        for (offset, good) in [(-2, false), (-1, true), (0, true), (1, true), (2, false)] {
            let found = step_of(SECRET, &code(SECRET, 1 + offset), now);
            assert_eq!(found, good.then_some(1 + offset), "{offset}");
        }
        for bad in ["", "28708", "2870820", "287083", "\u{0662}87082"] {
            assert_eq!(step_of(SECRET, bad, now), None, "{bad}");
        }
        let much_later = now.plus(Duration::from_secs(3600));
        assert_eq!(step_of(SECRET, "287082", much_later), None);
    }

    #[test]
    fn base32_is_that_of_the_standard() {
        // RFC 4648, 10, without the padding.
        for (text, expected) in [
            ("", ""),
            ("f", "MY"),
            ("fo", "MZXQ"),
            ("foo", "MZXW6"),
            ("foob", "MZXW6YQ"),
            ("fooba", "MZXW6YTB"),
            ("foobar", "MZXW6YTBOI"),
        ] {
            assert_eq!(base32(text.as_bytes()), expected);
        }
    }

    #[test]
    fn a_recovery_code_may_be_typed_in_any_dress() {
        let code = recovery_code();
        assert_eq!(code.len(), 19, "{code}");
        assert_ne!(recovery_code(), code);
        let bare = code.replace('-', " ").to_uppercase();
        assert_eq!(recovery_hash(&bare), recovery_hash(&code));
    }

    #[test]
    fn a_name_cannot_leave_its_place_in_the_address() {
        let made = uri("a?b&secret=x@y", "ABC");
        assert!(made.starts_with("otpauth://totp/DECNET:a%3Fb%26secret%3Dx%40y?secret=ABC&"));
    }
}
