//! Key pairs of a host: SSH host keys in OpenSSH's own forms, and what certificates are
//! made with. Everything follows from the seed; an RSA key is looked for only when one
//! is asked for.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use ed25519_dalek::SigningKey as Ed25519;
use p256::ecdsa::SigningKey as P256;
use sha2::{Digest, Sha256};

use super::Persona;
use super::rsa::RsaKey;
use super::stream::Stream;
use crate::model::Family;

/// Kind of an SSH host key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// ssh-rsa.
    Rsa,
    /// ecdsa-sha2-nistp256.
    EcdsaP256,
    /// ssh-ed25519.
    Ed25519,
}

impl KeyKind {
    /// Name of the key format on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            KeyKind::Rsa => "ssh-rsa",
            KeyKind::EcdsaP256 => "ecdsa-sha2-nistp256",
            KeyKind::Ed25519 => "ssh-ed25519",
        }
    }
}

/// An SSH host key.
#[derive(Clone)]
pub struct HostKey {
    /// Its kind.
    pub kind: KeyKind,
    /// The public key as it goes over the wire.
    pub public: Vec<u8>,
    comment: String,
    /// The private part as OpenSSH's file format holds it, from the key's name on.
    private: Vec<u8>,
    check: [u8; 4],
}

/// Never the private part.
impl std::fmt::Debug for HostKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HostKey")
            .field("fingerprint", &self.fingerprint())
            .finish_non_exhaustive()
    }
}

impl HostKey {
    /// The Ed25519 key that `stream` gives; a person's key has the same form as a host's.
    pub(crate) fn ed25519(mut stream: Stream, comment: String) -> Self {
        let kind = KeyKind::Ed25519;
        let check = stream.bytes();
        let mut public = Vec::new();
        let mut private = Vec::new();
        text(&mut public, kind.name().as_bytes());
        text(&mut private, kind.name().as_bytes());
        ed25519(&mut stream, &mut public, &mut private);
        Self {
            kind,
            public,
            comment,
            private,
            check,
        }
    }

    /// `SHA256:…`, as clients show it.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let digest = Sha256::digest(&self.public);
        format!("SHA256:{}", STANDARD_NO_PAD.encode(digest))
    }

    /// The line of the `.pub` file.
    #[must_use]
    pub fn public_line(&self) -> String {
        let key = STANDARD.encode(&self.public);
        format!("{} {key} {}", self.kind.name(), self.comment)
    }

    /// The private key file, unencrypted, in OpenSSH's format (PROTOCOL.key).
    #[must_use]
    pub fn private_file(&self) -> String {
        let mut inner = [self.check, self.check].concat();
        inner.extend_from_slice(&self.private);
        text(&mut inner, self.comment.as_bytes());
        let mut pad = 1;
        while !inner.len().is_multiple_of(8) {
            inner.push(pad);
            pad += 1;
        }
        let mut out = b"openssh-key-v1\0".to_vec();
        text(&mut out, b"none");
        text(&mut out, b"none");
        text(&mut out, b"");
        out.extend_from_slice(&1u32.to_be_bytes());
        text(&mut out, &self.public);
        text(&mut out, &inner);
        pem("OPENSSH PRIVATE KEY", &out, 70)
    }
}

/// `bytes` between PEM lines of `width` letters.
pub(crate) fn pem(label: &str, bytes: &[u8], width: usize) -> String {
    let mut out = format!("-----BEGIN {label}-----\n");
    for (at, c) in STANDARD.encode(bytes).chars().enumerate() {
        if at > 0 && at.is_multiple_of(width) {
            out.push('\n');
        }
        out.push(c);
    }
    out.push_str("\n-----END ");
    out.push_str(label);
    out.push_str("-----\n");
    out
}

/// Appends the public and the private part of the key the stream gives.
fn ed25519(stream: &mut Stream, public: &mut Vec<u8>, private: &mut Vec<u8>) {
    let key = Ed25519::from_bytes(&stream.bytes());
    let open = key.verifying_key().to_bytes();
    text(public, &open);
    text(private, &open);
    text(private, &[key.to_bytes(), open].concat());
}

/// A string of RFC 4251.
fn text(out: &mut Vec<u8>, bytes: &[u8]) {
    let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(bytes);
}

/// A non-negative mpint of RFC 4251; `bytes` has no leading zeros.
fn number(out: &mut Vec<u8>, bytes: &[u8]) {
    if bytes.first().is_some_and(|b| *b >= 0x80) {
        text(out, &[&[0], bytes].concat());
    } else {
        text(out, bytes);
    }
}

impl Persona {
    /// Kinds of host keys its SSH server makes at installation; none where the system
    /// comes without one.
    #[must_use]
    pub fn ssh_key_kinds(&self) -> &'static [KeyKind] {
        match self.family {
            Family::Linux | Family::Bsd => &[KeyKind::Ed25519, KeyKind::EcdsaP256, KeyKind::Rsa],
            Family::Embedded if self.distro == "HP" => &[],
            Family::Embedded => &[KeyKind::Ed25519, KeyKind::EcdsaP256, KeyKind::Rsa],
            Family::Cisco => &[KeyKind::Rsa],
            Family::Windows | Family::WindowsServer => &[],
        }
    }

    /// Its SSH host key of `kind`. RSA takes a noticeable moment.
    #[must_use]
    pub fn ssh_host_key(&self, kind: KeyKind) -> HostKey {
        let mut stream = Stream::new(&self.seed, &format!("ssh/{}", kind.name()));
        let check = stream.bytes();
        let mut public = Vec::new();
        let mut private = Vec::new();
        text(&mut public, kind.name().as_bytes());
        text(&mut private, kind.name().as_bytes());
        match kind {
            KeyKind::Ed25519 => ed25519(&mut stream, &mut public, &mut private),
            KeyKind::EcdsaP256 => {
                let key = p256_key(&mut stream);
                let point = key.verifying_key().to_sec1_point(false);
                for out in [&mut public, &mut private] {
                    text(out, b"nistp256");
                    text(out, point.as_bytes());
                }
                let scalar = key.to_bytes();
                let skip = scalar.iter().take_while(|b| **b == 0).count();
                number(&mut private, scalar.get(skip..).unwrap_or_default());
            }
            KeyKind::Rsa => {
                let key = RsaKey::draw(&mut stream, self.ssh_rsa_bits());
                number(&mut public, &RsaKey::exponent());
                number(&mut public, &key.modulus());
                number(&mut private, &key.modulus());
                number(&mut private, &RsaKey::exponent());
                for part in key.private() {
                    number(&mut private, &part);
                }
            }
        }
        HostKey {
            kind,
            public,
            comment: format!("root@{}", self.hostname),
            private,
            check,
        }
    }

    /// Size of an RSA host key: OpenSSH's default became 3,072 with version 8.
    fn ssh_rsa_bits(&self) -> u32 {
        let old = [
            "centos7",
            "raspbian9",
            "moxa-uc8112",
            "simatic-iot2040",
            "foscam-fi9821p",
            "raspbian10",
        ];
        if self.family == Family::Cisco || old.contains(&self.release.as_str()) {
            2048
        } else {
            3072
        }
    }
}

/// The P-256 key the stream gives. Nearly every 32 bytes are one.
pub(crate) fn p256_key(stream: &mut Stream) -> P256 {
    loop {
        let bytes: [u8; 32] = stream.bytes();
        if let Ok(key) = P256::from_slice(&bytes) {
            return key;
        }
    }
}
