//! The service manager over D-Bus: states of our units, start, stop. polkit decides
//! what an unprivileged caller may do.

/// Stub.
#[derive(Debug)]
pub struct Manager;
/// Stub.
#[derive(Debug)]
pub struct UnitState {
    /// Stub.
    pub active: String,
}
/// Stub.
#[derive(Debug)]
pub struct Error;
impl Manager {
    /// Stub.
    pub async fn connect() -> Result<Self, Error> {
        Err(Error)
    }
    /// Stub.
    pub async fn unit_states(&self, _: &[String]) -> Result<Vec<UnitState>, Error> {
        Err(Error)
    }
}
