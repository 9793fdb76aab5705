//! Passwords: argon2id, at most one being computed at a time. One computation takes
//! 46 MiB and some tens of milliseconds, so a flood of logins queues here and costs
//! neither more memory nor the other requests.

use std::time::Duration;

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Argon2, Params, Version};
use rand::RngExt;
use tokio::sync::Semaphore;

use super::error::Error;

/// Fewest characters of a password a person chooses.
pub(crate) const MIN_CHARS: usize = 12;
/// Most bytes of any password; bounds what a login makes us hash.
pub(crate) const MAX_BYTES: usize = 128;
/// Longest wait for a turn.
const PATIENCE: Duration = Duration::from_secs(5);
/// Memory in KiB. Of the settings OWASP calls equal we take the one with the most
/// memory and a single pass: an allocation beyond 32 MiB always goes back to the
/// kernel when freed, a smaller one may stay with the process for good.
const MEMORY_KIB: u32 = 46 * 1024;
/// A hash of nothing anybody knows, with the parameters of [`hash`]: what is verified
/// when there is no such account, so that both answers take the same time.
const NOBODY: &str = "$argon2id$v=19$m=47104,t=1,p=1$c29tZXNhbHRzb21lc2FsdA$cGFzc3dvcmRwYXNzd29yZHBhc3N3b3JkcGFzc3dvcmQ";

/// Takes turns at hashing.
#[derive(Debug)]
pub(super) struct Turnstile(Semaphore);

impl Default for Turnstile {
    fn default() -> Self {
        Self(Semaphore::new(1))
    }
}

impl Turnstile {
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Error> {
        let busy = || Error::unavailable("busy", "Too many logins at once; try again.");
        let turn = tokio::time::timeout(PATIENCE, self.0.acquire())
            .await
            .map_err(|_| busy())?
            .map_err(|_| busy())?;
        let done = tokio::task::spawn_blocking(work)
            .await
            .map_err(|e| Error::internal(format!("hashing a password: {e}")))?;
        drop(turn);
        Ok(done)
    }

    /// Whether `password` fits `stored`; takes as long when there is nothing stored.
    pub(super) async fn verify(
        &self,
        password: String,
        stored: Option<String>,
    ) -> Result<bool, Error> {
        self.run(move || {
            let known = stored.is_some();
            let fits = verify(&password, stored.as_deref().unwrap_or(NOBODY));
            fits && known
        })
        .await
    }

    /// Whether `password` fits any of those stored.
    pub(super) async fn verify_any(
        &self,
        password: String,
        stored: Vec<String>,
    ) -> Result<bool, Error> {
        self.run(move || fits_any(&password, &stored)).await
    }

    pub(super) async fn hash(&self, password: String) -> Result<String, Error> {
        self.run(move || hash(&password))
            .await?
            .map_err(|e| Error::internal(format!("hashing a password: {e}")))
    }
}

fn verify(password: &str, stored: &str) -> bool {
    PasswordHash::new(stored).is_ok_and(|stored| {
        Argon2::default()
            .verify_password(password.as_bytes(), &stored)
            .is_ok()
    })
}

/// Whether `password` fits any of those stored.
pub(crate) fn fits_any(password: &str, stored: &[String]) -> bool {
    stored.iter().any(|stored| verify(password, stored))
}

/// What is said of a password that was had before.
pub(crate) const HAD_BEFORE: &str = "the last five passwords of an account cannot be taken again";

/// The PHC string to store.
///
/// # Errors
/// When the kernel gives no randomness.
pub(crate) fn hash(password: &str) -> Result<String, argon2::password_hash::Error> {
    let params = Params::new(MEMORY_KIB, 1, 1, None)?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password(password.as_bytes())?
        .to_string())
}

/// Whether a person may choose `password`; the text says what is wrong.
pub(crate) fn check(password: &str, user: &str) -> Result<(), String> {
    if password.chars().count() < MIN_CHARS {
        return Err(format!("a password needs at least {MIN_CHARS} characters"));
    }
    if password.len() > MAX_BYTES {
        return Err(format!("a password may have at most {MAX_BYTES} bytes"));
    }
    let mut seen: Vec<char> = password.chars().collect();
    seen.sort_unstable();
    seen.dedup();
    if seen.len() < 5 {
        return Err("a password needs at least five different characters".to_owned());
    }
    if password.to_lowercase().contains(&user.to_lowercase()) {
        return Err("a password must not contain the account's name".to_owned());
    }
    Ok(())
}

/// Twenty-four random letters and digits, without those that look alike.
pub(crate) fn generate() -> String {
    const ALPHABET: &[u8] = b"ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz23456789";
    let mut rng = rand::rng();
    (0..24)
        .map(|_| {
            let at = rng.random_range(0..ALPHABET.len());
            char::from(ALPHABET.get(at).copied().unwrap_or(b'x'))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_fits_its_password_only_and_nobody_fits_nothing() {
        let stored = hash("correct horse battery").unwrap();
        assert!(
            stored.starts_with("$argon2id$v=19$m=47104,t=1,p=1$"),
            "{stored}"
        );
        assert!(verify("correct horse battery", &stored));
        assert!(!verify("correct horse batterz", &stored));
        // It must be a valid hash, or verifying it would take no time.
        assert!(PasswordHash::new(NOBODY).is_ok());
        assert!(!verify("password", NOBODY));
    }

    #[test]
    fn weak_passwords_are_refused_with_the_reason() {
        for bad in ["short", "aaaaaaaaaaaaaaaa", "my-Admin-password-1"] {
            assert!(check(bad, "admin").is_err(), "{bad}");
        }
        assert!(check(&"ab3de".repeat(30), "admin").is_err());
        assert_eq!(check("five words are quite enough", "admin"), Ok(()));
        assert_eq!(check(&generate(), "admin"), Ok(()));
    }
}
