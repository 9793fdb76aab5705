//! Secrets that must be read again (what a webhook signs with, what a second factor is made
//! of), sealed before they go into the database: XChaCha20-Poly1305 (RFC 8439 with the
//! extended nonce of draft-irtf-cfrg-xchacha-03) under a key that lies in a file of its own,
//! so a copy of the database alone tells nothing.
//!
//! Sealed text is `v1.` and the base64url of 24 bytes of nonce, the ciphertext, 16 bytes of
//! tag. The context (which table, which row) is authenticated: sealed text that is moved to
//! another row does not open there.

use std::io::{self, ErrorKind};
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce};

use super::{file, lock};

const KEY: usize = 32;
const NONCE: usize = 24;
const VERSION: &str = "v1.";

/// Why sealed text does not open.
#[derive(Debug, thiserror::Error)]
#[error(
    "a sealed secret cannot be opened: it was sealed with another key file, or changed; restore the key file, or set the secret anew"
)]
pub struct Broken;

/// The key. Cheap to clone, says nothing of itself.
#[derive(Clone)]
pub struct Seal(XChaCha20Poly1305);

impl std::fmt::Debug for Seal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seal(***)")
    }
}

impl Seal {
    /// Reads the key file at `path`; makes it, mode 0600, when there is none.
    ///
    /// # Errors
    /// When it can be neither read nor made, or is not a key.
    pub fn open_or_make(path: &Path) -> io::Result<Self> {
        match std::fs::read(path) {
            Ok(bytes) => return Self::from_bytes(&bytes),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        // Workers start side by side; the second one finds the first one's key.
        let _held = lock::wait(&path.with_extension("key.lock"))?;
        if let Ok(bytes) = std::fs::read(path) {
            return Self::from_bytes(&bytes);
        }
        let key: [u8; KEY] = rand::random();
        file::write_atomic(path, &key, 0o600)?;
        file::inherit_owner(path)?;
        Self::from_bytes(&key)
    }

    fn from_bytes(bytes: &[u8]) -> io::Result<Self> {
        let wrong = |_| {
            io::Error::new(
                ErrorKind::InvalidData,
                "a key file holds exactly 32 bytes; restore it from a backup",
            )
        };
        let key: [u8; KEY] = bytes.try_into().map_err(wrong)?;
        Ok(Self(XChaCha20Poly1305::new(&key.into())))
    }

    /// Seals `plain` for `context`.
    #[must_use]
    pub fn seal(&self, context: &str, plain: &[u8]) -> String {
        let nonce: [u8; NONCE] = rand::random();
        let payload = Payload {
            msg: plain,
            aad: context.as_bytes(),
        };
        // Fails only beyond 256 GiB of text; an empty seal then opens as broken.
        let sealed = self
            .0
            .encrypt(&XNonce::from(nonce), payload)
            .unwrap_or_default();
        let mut bytes = nonce.to_vec();
        bytes.extend(sealed);
        format!("{VERSION}{}", URL_SAFE_NO_PAD.encode(bytes))
    }

    /// Opens what [`Seal::seal`] made for the same context.
    ///
    /// # Errors
    /// [`Broken`] when it was not.
    pub fn unseal(&self, context: &str, text: &str) -> Result<Vec<u8>, Broken> {
        let encoded = text.strip_prefix(VERSION).ok_or(Broken)?;
        let bytes = URL_SAFE_NO_PAD.decode(encoded).map_err(|_| Broken)?;
        let (nonce, sealed) = bytes.split_first_chunk::<NONCE>().ok_or(Broken)?;
        let payload = Payload {
            msg: sealed,
            aad: context.as_bytes(),
        };
        self.0
            .decrypt(&XNonce::from(*nonce), payload)
            .map_err(|_| Broken)
    }

    /// Likewise, for text.
    ///
    /// # Errors
    /// As [`Seal::unseal`], and when it is not UTF-8.
    pub fn unseal_text(&self, context: &str, text: &str) -> Result<String, Broken> {
        String::from_utf8(self.unseal(context, text)?).map_err(|_| Broken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::os::unix::fs::PermissionsExt;

    fn seal() -> (tempfile::TempDir, Seal) {
        let dir = tempfile::tempdir().unwrap();
        let seal = Seal::open_or_make(&dir.path().join("seal.key")).unwrap();
        (dir, seal)
    }

    #[test]
    fn a_secret_opens_with_the_same_key_and_context_alone() {
        let (dir, seal) = seal();
        let path = dir.path().join("seal.key");
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let text = seal.seal("webhooks/1", b"whsec");
        let again = Seal::open_or_make(&path).unwrap();
        assert_eq!(again.unseal_text("webhooks/1", &text).unwrap(), "whsec");
        assert!(again.unseal("webhooks/2", &text).is_err());
        let (_other_dir, other) = self::seal();
        assert!(other.unseal("webhooks/1", &text).is_err());
        assert_ne!(seal.seal("webhooks/1", b"whsec"), text);
    }

    #[test]
    fn a_key_of_another_length_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("seal.key");
        std::fs::write(&path, "short").unwrap();
        let error = Seal::open_or_make(&path).unwrap_err().to_string();
        assert!(error.contains("32 bytes"), "{error}");
    }

    proptest! {
        #[test]
        fn no_text_panics_and_a_changed_one_does_not_open(text in ".*", at in 0usize..80, plain in ".{0,30}") {
            let (_dir, seal) = seal();
            prop_assert!(seal.unseal("x", &text).is_err());
            let sealed = seal.seal("x", plain.as_bytes());
            let mut bytes = URL_SAFE_NO_PAD.decode(sealed.strip_prefix("v1.").unwrap()).unwrap();
            let at = at % bytes.len();
            bytes[at] ^= 1;
            let changed = format!("v1.{}", URL_SAFE_NO_PAD.encode(bytes));
            prop_assert!(seal.unseal("x", &changed).is_err());
        }
    }
}
