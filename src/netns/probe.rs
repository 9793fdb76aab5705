//! Whether an address is free, asked the way RFC 5227 (ARP) and RFC 4862 (neighbour
//! discovery) do: before a decky claims it.

use std::net::IpAddr;

/// Those of `addresses` that some machine on `interface`'s network answers for, with its
/// MAC address (lower case, colons).
///
/// # Errors
/// When the interface does not exist or raw sockets are not permitted.
pub async fn in_use(
    interface: &str,
    _addresses: &[IpAddr],
) -> anyhow::Result<Vec<(IpAddr, String)>> {
    anyhow::bail!("{interface}: probing is not available yet")
}
