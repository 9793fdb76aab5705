//! How many descriptors this process may hold.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Raises the soft limit to `wanted`, or as far as the hard one lets us. The soft limit
/// of services is 1024 for the sake of `select`, which we do not use.
///
/// # Errors
/// When the kernel (or a system-call filter) refuses; the limit is then as it was.
pub fn raise_limit(wanted: u64) -> nix::Result<()> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let wanted = wanted.min(hard);
    if soft < wanted {
        setrlimit(Resource::RLIMIT_NOFILE, wanted, hard)?;
    }
    Ok(())
}
