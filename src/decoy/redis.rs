//! redis decoy.

use super::{End, Session};
use crate::persona::Persona;

/// State shared by all connections.
#[derive(Debug)]
pub struct Shared;

impl Shared {
    /// A fresh one.
    #[must_use]
    pub fn new(_persona: &Persona) -> Self {
        Self
    }
}

/// Serves one connection.
///
/// # Errors
/// Why it ended.
pub async fn serve(_s: &mut Session) -> Result<(), End> {
    Ok(())
}
