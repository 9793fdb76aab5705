//! A kubectl configuration as k3s writes it: an administrator's client certificate, signed
//! by a client authority, and the server's authority. All ECDSA on P-256, as k3s makes them.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use p256::ecdsa::SigningKey;
use p256::ecdsa::signature::Signer;
use sha2::{Digest, Sha256};

use super::draw::Draw;
use super::work::Work;
use super::{Error, File};
use crate::model::Stamp;
use crate::persona::der;
use crate::persona::key::{p256_key, pem};

const YEAR: u64 = 365 * 86_400;

pub(super) fn make(work: &mut Work) -> Result<Vec<File>, Error> {
    let at = work.draw.moment(work.now, 20, 200);
    // The cluster is older than this copy of its configuration.
    let founded = work.draw.moment(at, 1, 150);
    let server = Authority::new("k3s-server-ca", founded, &mut work.draw);
    let clients = Authority::new("k3s-client-ca", founded, &mut work.draw);
    let key = p256_key(&mut work.draw.fork("client"));
    let certificate = [
        clients.admin(&key, &mut work.draw),
        clients.certificate.clone(),
    ];
    let certificate: String = certificate
        .iter()
        .map(|der| pem("CERTIFICATE", der, 64))
        .collect();
    let name = match work.draw.below(3) {
        0 => "default".to_owned(),
        1 => format!("{}-prod", work.setting.short),
        _ => format!("k3s-{}", work.setting.short),
    };
    // Behind https stands whatever certificate the operator has; kubectl would refuse it
    // before it asked for anything.
    let trust = if work.url.starts_with("https:") {
        "insecure-skip-tls-verify: true".to_owned()
    } else {
        let der = pem("CERTIFICATE", &server.certificate, 64);
        format!("certificate-authority-data: {}", STANDARD.encode(der))
    };
    let yaml = format!(
        "apiVersion: v1\n\
         clusters:\n\
         - cluster:\n    \
         {trust}\n    \
         server: {url}\n  \
         name: {name}\n\
         contexts:\n\
         - context:\n    \
         cluster: {name}\n    \
         user: {name}\n  \
         name: {name}\n\
         current-context: {name}\n\
         kind: Config\n\
         preferences: {{}}\n\
         users:\n\
         - name: {name}\n  \
         user:\n    \
         client-certificate-data: {certificate}\n    \
         client-key-data: {key}\n",
        url = work.url,
        certificate = STANDARD.encode(certificate),
        key = STANDARD.encode(pem("EC PRIVATE KEY", &sec1(&key), 64)),
    );
    let path = format!("{}/.kube/config", work.setting.home);
    Ok(vec![work.file(path, "application/yaml", 0o600, at, yaml)])
}

/// Who signs.
struct Authority {
    key: SigningKey,
    name: Vec<u8>,
    founded: Stamp,
    certificate: Vec<u8>,
}

impl Authority {
    fn new(label: &str, founded: Stamp, draw: &mut Draw) -> Self {
        let key = p256_key(&mut draw.fork(label));
        let seconds = founded.0.div_euclid(1_000_000);
        let name = name(&[(&[2, 5, 4, 3], &format!("{label}@{seconds}"))]);
        let founded = Stamp(seconds.saturating_mul(1_000_000));
        let mut one = Self {
            key,
            name,
            founded,
            certificate: Vec::new(),
        };
        let extensions = [
            // digitalSignature, keyEncipherment, keyCertSign
            extension(&[2, 5, 29, 15], true, &der::element(0x03, &[2, 0xa4])),
            extension(&[2, 5, 29, 19], true, &der::sequence(&[der::truth()])),
            extension(
                &[2, 5, 29, 14],
                false,
                &der::octet_string(&key_id(&one.key)),
            ),
        ];
        let end = founded.plus(Duration::from_secs(10 * YEAR));
        one.certificate = one.sign(&[0], &one.name, &one.key, end, &extensions);
        one
    }

    /// The certificate of the cluster's administrator.
    fn admin(&self, key: &SigningKey, draw: &mut Draw) -> Vec<u8> {
        let subject = name(&[
            (&[2, 5, 4, 10], "system:masters"),
            (&[2, 5, 4, 3], "system:admin"),
        ]);
        let mut serial: [u8; 8] = draw.bytes();
        serial[0] = serial[0] & 0x7f | 0x10;
        let client = der::oid(&[1, 3, 6, 1, 5, 5, 7, 3, 2]);
        let above = der::sequence(&[der::element(0x80, &key_id(&self.key))]);
        let extensions = [
            extension(&[2, 5, 29, 15], true, &der::element(0x03, &[5, 0xa0])),
            extension(&[2, 5, 29, 37], false, &der::sequence(&[client])),
            extension(&[2, 5, 29, 35], false, &above),
        ];
        let end = self.founded.plus(Duration::from_secs(YEAR));
        self.sign(&serial, &subject, key, end, &extensions)
    }

    fn sign(
        &self,
        serial: &[u8],
        subject: &[u8],
        key: &SigningKey,
        end: Stamp,
        extensions: &[Vec<u8>],
    ) -> Vec<u8> {
        // ecdsa-with-SHA256
        let algorithm = der::sequence(&[der::oid(&[1, 2, 840, 10045, 4, 3, 2])]);
        let body = der::sequence(&[
            der::element(0xa0, &der::integer(&[2])),
            der::integer(serial),
            algorithm.clone(),
            self.name.clone(),
            der::sequence(&[der::time(self.founded), der::time(end)]),
            subject.to_vec(),
            der::sequence(&[
                der::sequence(&[der::oid(&[1, 2, 840, 10045, 2, 1]), curve()]),
                der::bit_string(&point(key)),
            ]),
            der::element(0xa3, &der::sequence(extensions)),
        ]);
        let signature: p256::ecdsa::Signature = self.key.sign(&body);
        let signature = der::bit_string(signature.to_der().as_bytes());
        der::sequence(&[body, algorithm, signature])
    }
}

fn curve() -> Vec<u8> {
    der::oid(&[1, 2, 840, 10045, 3, 1, 7])
}

fn point(key: &SigningKey) -> Vec<u8> {
    key.verifying_key().to_sec1_point(false).as_bytes().to_vec()
}

/// ECPrivateKey of RFC 5915, as Go writes it.
fn sec1(key: &SigningKey) -> Vec<u8> {
    der::sequence(&[
        der::integer(&[1]),
        der::octet_string(&key.to_bytes()),
        der::element(0xa0, &curve()),
        der::element(0xa1, &der::bit_string(&point(key))),
    ])
}

fn name(parts: &[(&[u32], &str)]) -> Vec<u8> {
    let parts: Vec<Vec<u8>> = parts
        .iter()
        .map(|(id, value)| der::set(&der::sequence(&[der::oid(id), der::utf8(value)])))
        .collect();
    der::sequence(&parts)
}

fn extension(id: &[u32], critical: bool, value: &[u8]) -> Vec<u8> {
    let mut parts = vec![der::oid(id)];
    if critical {
        parts.push(der::truth());
    }
    parts.push(der::octet_string(value));
    der::sequence(&parts)
}

/// The first 20 bytes of SHA-256 of the public key, as Go names keys since 1.25.
fn key_id(key: &SigningKey) -> Vec<u8> {
    Sha256::digest(point(key))
        .iter()
        .take(20)
        .copied()
        .collect()
}
