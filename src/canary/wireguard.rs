//! A WireGuard tunnel. Both keys are points of Curve25519; the endpoint's name is
//! resolved when the tunnel is brought up.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use curve25519_dalek::montgomery::MontgomeryPoint;
use curve25519_dalek::scalar::clamp_integer;

use super::work::Work;
use super::{Error, File};

pub(super) fn make(work: &mut Work) -> Result<Vec<File>, Error> {
    let host = work.host()?;
    let at = work.draw.moment(work.now, 30, 300);
    // As `wg genkey` writes private keys.
    let own = clamp_integer(work.draw.bytes());
    let peer = MontgomeryPoint::mul_base_clamped(work.draw.bytes()).to_bytes();
    let shared: [u8; 32] = work.draw.bytes();
    let (net, last) = (work.draw.between(10, 250), work.draw.between(2, 60));
    let inside = work.draw.between(0, 40);
    let dns = format!("10.{inside}.0.{}", work.draw.between(2, 20));
    let port = work.draw.pick(&[51820u16, 51820, 51821, 443, 4500]);
    let config = format!(
        "[Interface]\n\
         PrivateKey = {}\n\
         Address = 10.{net}.0.{last}/32\n\
         DNS = {dns}, {domain}\n\
         \n\
         [Peer]\n\
         PublicKey = {}\n\
         PresharedKey = {}\n\
         AllowedIPs = 10.{inside}.0.0/16, 10.{net}.0.0/24\n\
         Endpoint = {host}:{port}\n\
         PersistentKeepalive = 25\n",
        STANDARD.encode(own),
        STANDARD.encode(peer),
        STANDARD.encode(shared),
        domain = work.setting.domain,
    );
    let path = if work.setting.windows {
        work.setting
            .document(&format!("{}.conf", work.setting.short))
    } else {
        format!("/etc/wireguard/wg{}.conf", work.draw.below(2))
    };
    Ok(vec![work.text(path, 0o600, at, config)])
}
