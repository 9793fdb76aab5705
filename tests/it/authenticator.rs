//! What an authenticator program on a telephone does.

use decnet::model::Stamp;
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;

/// What an authenticator shows `later` steps from now.
pub(crate) fn code(secret: &str, later: i64) -> String {
    let bits = secret.bytes().fold(String::new(), |bits, c| {
        let digit = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
            .iter()
            .position(|known| *known == c)
            .unwrap();
        format!("{bits}{digit:05b}")
    });
    let key: Vec<u8> = bits
        .as_bytes()
        .chunks_exact(8)
        .map(|byte| u8::from_str_radix(std::str::from_utf8(byte).unwrap(), 2).unwrap())
        .collect();
    assert_eq!(key.len(), 20);
    let step = Stamp::now().0 / 30_000_000 + later;
    let mut mac = Hmac::<Sha1>::new_from_slice(&key).unwrap();
    mac.update(&step.to_be_bytes());
    let hash = mac.finalize().into_bytes();
    let at = usize::from(hash[19] & 15);
    let number = u32::from_be_bytes(hash[at..at + 4].try_into().unwrap()) & 0x7fff_ffff;
    format!("{:06}", number % 1_000_000)
}
