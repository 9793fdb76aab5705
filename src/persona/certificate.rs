//! TLS certificates as the products make them: the one a Debian package generates, the
//! one mod_ssl's setup leaves on CentOS, a Windows machine's own, a JetDirect card's,
//! Cisco's trustpoint — or one the company's directory issued. Key, serial number and
//! days follow from the host's seed, so every start shows the same bytes. All of them
//! have RSA keys, as these products do; making one takes a noticeable moment, so
//! [`Persona::certificate`] is called when TLS is first wanted.

use std::time::Duration;

use sha2::{Digest, Sha256};

use super::rsa::RsaKey;
use super::stream::Stream;
use super::{DAY, Persona, der, hex, key};
use crate::model::{Family, Stamp};

/// A certificate with its key.
#[derive(Clone)]
pub struct Certificate {
    /// The certificate. A directory's root is what clients hold, so nothing is sent above
    /// it.
    pub der: Vec<u8>,
    /// PKCS#8 of its private key.
    pub key: Vec<u8>,
    /// Subject, as `CN=web01.example.corp, O=Example`.
    pub subject: String,
    /// Issuer; the subject where it signed itself.
    pub issuer: String,
    /// DNS names it is for.
    pub names: Vec<String>,
    /// Serial number, hex.
    pub serial: String,
    /// First moment of validity.
    pub not_before: Stamp,
    /// Last moment of validity.
    pub not_after: Stamp,
}

/// Never the private key.
impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificate")
            .field("subject", &self.subject)
            .field("sha256", &self.fingerprint())
            .finish_non_exhaustive()
    }
}

impl Certificate {
    /// SHA-256 of the certificate, hex with colons, as browsers show it.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let digest: [u8; 32] = Sha256::digest(&self.der).into();
        digest.map(|b| format!("{b:02X}")).join(":")
    }

    /// PEM of the certificate.
    #[must_use]
    pub fn pem(&self) -> String {
        key::pem("CERTIFICATE", &self.der, 64)
    }

    /// PEM of the private key.
    #[must_use]
    pub fn key_pem(&self) -> String {
        key::pem("PRIVATE KEY", &self.key, 64)
    }
}

/// One part of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Country,
    State,
    Locality,
    Organisation,
    Unit,
    Common,
    Mail,
    DomainComponent,
}

impl Part {
    const fn of(self) -> (&'static str, &'static [u32]) {
        match self {
            Part::Country => ("C", &[2, 5, 4, 6]),
            Part::State => ("ST", &[2, 5, 4, 8]),
            Part::Locality => ("L", &[2, 5, 4, 7]),
            Part::Organisation => ("O", &[2, 5, 4, 10]),
            Part::Unit => ("OU", &[2, 5, 4, 11]),
            Part::Common => ("CN", &[2, 5, 4, 3]),
            Part::Mail => ("emailAddress", &[1, 2, 840, 113_549, 1, 9, 1]),
            Part::DomainComponent => ("DC", &[0, 9, 2342, 19_200_300, 100, 1, 25]),
        }
    }
}

/// A distinguished name.
type Name = Vec<(Part, String)>;

fn shown(name: &Name) -> String {
    let parts: Vec<String> = name
        .iter()
        .map(|(part, value)| format!("{}={value}", part.of().0))
        .collect();
    parts.join(", ")
}

fn encoded(name: &Name) -> Vec<u8> {
    let parts: Vec<Vec<u8>> = name
        .iter()
        .map(|(part, value)| {
            let value = match part {
                Part::Country => der::printable(value),
                Part::Mail | Part::DomainComponent => der::ia5(value),
                _ => der::utf8(value),
            };
            der::set(&der::sequence(&[der::oid(part.of().1), value]))
        })
        .collect();
    der::sequence(&parts)
}

/// Who signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Issuer {
    Itself,
    /// The authority of the company's directory.
    Company,
}

/// What the product puts into its certificate.
#[derive(Debug)]
struct Plan {
    subject: Name,
    issuer: Issuer,
    names: Vec<String>,
    serial: Vec<u8>,
    not_before: Stamp,
    not_after: Stamp,
    /// Whether it says what it is for, as a directory's and Windows' own do.
    server_only: bool,
    /// Whether it says that it is no authority.
    leaf: bool,
}

impl Persona {
    /// The host's TLS certificate. The same bytes every time.
    #[must_use]
    pub fn certificate(&self) -> Certificate {
        let plan = self.plan();
        let key = RsaKey::draw(&mut Stream::new(&self.seed, "tls/key"), 2048);
        let (issuer, signer) = match plan.issuer {
            Issuer::Itself => (plan.subject.clone(), key.clone()),
            Issuer::Company => (self.authority(), self.authority_key()),
        };
        let mut extensions = Vec::new();
        if plan.leaf {
            extensions.push(extension(&[2, 5, 29, 19], false, &der::sequence(&[])));
        }
        if plan.server_only {
            // A directory's: digitalSignature and keyEncipherment, which must be heeded.
            // Remote Desktop's own: keyEncipherment and dataEncipherment.
            let (bits, critical) = match plan.issuer {
                Issuer::Company => ([5, 0xa0], true),
                Issuer::Itself => ([4, 0x30], false),
            };
            let usage = der::element(0x03, &bits);
            extensions.push(extension(&[2, 5, 29, 15], critical, &usage));
            let server = der::oid(&[1, 3, 6, 1, 5, 5, 7, 3, 1]);
            extensions.push(extension(&[2, 5, 29, 37], false, &der::sequence(&[server])));
        }
        if plan.issuer == Issuer::Company {
            extensions.push(extension(
                &[2, 5, 29, 14],
                false,
                &der::octet_string(&key_id(&key)),
            ));
            let above = der::sequence(&[der::element(0x80, &key_id(&signer))]);
            extensions.push(extension(&[2, 5, 29, 35], false, &above));
        }
        if !plan.names.is_empty() {
            let names: Vec<Vec<u8>> = plan
                .names
                .iter()
                .map(|n| der::element(0x82, n.as_bytes()))
                .collect();
            extensions.push(extension(&[2, 5, 29, 17], false, &der::sequence(&names)));
        }
        let body = body(&plan, &issuer, &key, &extensions);
        let signed = der::sequence(&[
            body.clone(),
            signature_algorithm(),
            der::bit_string(&signer.sign(&body)),
        ]);
        Certificate {
            der: signed,
            key: key.pkcs8(),
            subject: shown(&plan.subject),
            issuer: shown(&issuer),
            names: plan.names,
            serial: hex(&plan.serial),
            not_before: plan.not_before,
            not_after: plan.not_after,
        }
    }

    /// Whether the company's directory issued its certificate; else it signed itself.
    #[must_use]
    pub fn certificate_is_of_the_company(&self) -> bool {
        self.plan().issuer == Issuer::Company
    }

    /// The root certificate of the company's directory, DER.
    #[must_use]
    pub fn company_root(&self) -> Vec<u8> {
        let mut s = Stream::new(self.site_seed(), "authority");
        let key = self.authority_key();
        // Directories live longer than most of their hosts; the day is the company's.
        let start = Stamp(1_483_228_800_000_000).plus(Duration::from_secs(s.below(700 * DAY)));
        let plan = Plan {
            subject: self.authority(),
            issuer: Issuer::Itself,
            names: Vec::new(),
            serial: serial(&mut s, 16),
            not_before: start,
            not_after: start.plus(Duration::from_secs(7305 * DAY)),
            server_only: false,
            leaf: false,
        };
        let usage = der::element(0x03, &[1, 0x86]);
        let extensions = [
            extension(&[2, 5, 29, 15], false, &usage),
            extension(&[2, 5, 29, 19], true, &der::sequence(&[der::truth()])),
            extension(&[2, 5, 29, 14], false, &der::octet_string(&key_id(&key))),
        ];
        let body = body(&plan, &plan.subject, &key, &extensions);
        let signature = der::bit_string(&key.sign(&body));
        der::sequence(&[body, signature_algorithm(), signature])
    }

    /// Name of the company's authority, as Windows' setup proposes it.
    fn authority(&self) -> Name {
        let mut name: Name = self
            .domain
            .rsplit('.')
            .map(|label| (Part::DomainComponent, label.to_owned()))
            .collect();
        let common = format!("{}-DC01-CA", self.company);
        name.push((Part::Common, common));
        name
    }

    fn authority_key(&self) -> RsaKey {
        RsaKey::draw(&mut Stream::new(self.site_seed(), "authority/key"), 2048)
    }

    fn plan(&self) -> Plan {
        let mut s = Stream::new(&self.seed, "tls/plan");
        let directory = match self.family {
            Family::WindowsServer => 7,
            Family::Windows => 5,
            Family::Linux => 3,
            Family::Bsd | Family::Embedded | Family::Cisco => 0,
        };
        let days = |n: u64| Duration::from_secs(n * DAY);
        let fqdn = self.fqdn();
        let own = |subject: Name, serial: Vec<u8>, lifetime: u64| Plan {
            subject,
            issuer: Issuer::Itself,
            names: Vec::new(),
            serial,
            not_before: self.installed_at,
            not_after: self.installed_at.plus(days(lifetime)),
            server_only: false,
            leaf: false,
        };
        let common = |text: &str| vec![(Part::Common, text.to_owned())];
        if s.below(10) < directory && !self.site.is_empty() {
            let (start, lifetime) = (self.renewed(days(730)), days(730));
            return Plan {
                issuer: Issuer::Company,
                names: vec![fqdn.clone()],
                not_before: start,
                not_after: start.plus(lifetime),
                server_only: true,
                ..own(common(&fqdn), serial(&mut s, 19), 730)
            };
        }
        match self.family {
            Family::Windows | Family::WindowsServer => {
                // What Remote Desktop makes, and makes again every six months.
                let start = self.renewed(days(182));
                Plan {
                    not_before: start,
                    not_after: start.plus(days(182)),
                    server_only: true,
                    ..own(common(&fqdn), serial(&mut s, 16), 182)
                }
            }
            Family::Cisco => {
                let digits = 1_000_000_000 + s.below(3_294_967_296);
                let name = format!("IOS-Self-Signed-Certificate-{digits}");
                // IOS numbers its own certificate 1 and lets it end with the decade.
                let end = if self.installed_at < super::release::day("2019-06-01") {
                    "2020-01-01T00:00:00Z"
                } else {
                    "2030-01-01T00:00:00Z"
                };
                Plan {
                    not_after: Stamp::parse(end).unwrap_or_default(),
                    ..own(common(&name), vec![1], 0)
                }
            }
            Family::Embedded if self.distro == "HP" => {
                let id = hex(&s.bytes::<4>()).to_ascii_uppercase();
                own(
                    vec![
                        (Part::Common, format!("HP Jetdirect {id}")),
                        (Part::Organisation, "Hewlett-Packard Co.".to_owned()),
                    ],
                    serial(&mut s, 8),
                    1827,
                )
            }
            Family::Linux if self.release == "centos7" => {
                // What the package's post-install script answers to every question.
                let subject = [
                    (Part::Country, "--"),
                    (Part::State, "SomeState"),
                    (Part::Locality, "SomeCity"),
                    (Part::Organisation, "SomeOrganization"),
                    (Part::Unit, "SomeOrganizationalUnit"),
                    (Part::Common, &fqdn),
                    (Part::Mail, &format!("root@{fqdn}")),
                ];
                let subject = subject.map(|(p, v)| (p, v.to_owned())).to_vec();
                own(subject, serial(&mut s, 2), 365)
            }
            Family::Bsd => {
                let subject = vec![
                    (Part::Organisation, capital(&self.company)),
                    (Part::Common, fqdn.clone()),
                ];
                own(subject, serial(&mut s, 20), 3650)
            }
            Family::Linux | Family::Embedded => Plan {
                names: vec![fqdn.clone()],
                leaf: true,
                ..own(common(&fqdn), serial(&mut s, 20), 3650)
            },
        }
    }

    /// The last day at or before boot on which a certificate of `lifetime` was made, when
    /// the system makes the next one thirty days before the end.
    fn renewed(&self, lifetime: Duration) -> Stamp {
        let step = lifetime.saturating_sub(Duration::from_secs(30 * DAY));
        let age = self.booted_at.since(self.installed_at).as_micros();
        let times = age.checked_div(step.as_micros()).unwrap_or(0);
        let ahead = u64::try_from(step.as_micros().saturating_mul(times)).unwrap_or(0);
        self.installed_at.plus(Duration::from_micros(ahead))
    }
}

/// TBSCertificate.
fn body(plan: &Plan, issuer: &Name, key: &RsaKey, extensions: &[Vec<u8>]) -> Vec<u8> {
    let mut parts = vec![
        der::element(0xa0, &der::integer(&[2])),
        der::integer(&plan.serial),
        signature_algorithm(),
        encoded(issuer),
        der::sequence(&[der::time(plan.not_before), der::time(plan.not_after)]),
        encoded(&plan.subject),
        key.spki(),
    ];
    if !extensions.is_empty() {
        parts.push(der::element(0xa3, &der::sequence(extensions)));
    }
    der::sequence(&parts)
}

/// AlgorithmIdentifier of sha256WithRSAEncryption.
fn signature_algorithm() -> Vec<u8> {
    der::sequence(&[der::oid(&[1, 2, 840, 113_549, 1, 1, 11]), der::null()])
}

fn extension(id: &[u32], critical: bool, value: &[u8]) -> Vec<u8> {
    let mut parts = vec![der::oid(id)];
    if critical {
        parts.push(der::truth());
    }
    parts.push(der::octet_string(value));
    der::sequence(&parts)
}

/// SHA-1 of the public key, as RFC 5280 names keys.
fn key_id(key: &RsaKey) -> [u8; 20] {
    sha1::Sha1::digest(key.public_der()).into()
}

/// A positive serial number of `len` bytes.
fn serial(s: &mut Stream, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    s.fill(&mut bytes);
    if let Some(first) = bytes.first_mut() {
        *first = (*first & 0x7f) | 0x10;
    }
    bytes
}

fn capital(text: &str) -> String {
    let mut text = text.to_owned();
    if let Some(first) = text.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::persona::Asked;
    use crate::persona::archetype::ARCHETYPES;

    /// All text of the certificate; the rest of it is numbers. Makes no key.
    fn text(persona: &Persona) -> String {
        let plan = persona.plan();
        let (subject, issuer) = (shown(&plan.subject), shown(&persona.authority()));
        format!("{subject} {issuer} {}", plan.names.join(" "))
    }

    #[test]
    fn certificates_of_every_kind_of_host_name_the_host_and_never_the_product() {
        let now = Stamp::parse("2026-11-01T00:00:00Z").unwrap();
        for a in ARCHETYPES {
            for family in Family::ALL {
                let asked = Asked {
                    archetype: Some(a.slug),
                    family: Some(*family),
                    distro: None,
                };
                for n in 0..50 {
                    let name = format!("decky-{n:02}");
                    let p = Persona::derive(b"s", &name, &asked, now);
                    let text = text(&p).to_lowercase();
                    for word in ["decky", "decnet", "deaddeck", "decoy"] {
                        assert!(!text.contains(word), "{text}");
                    }
                    let plan = p.plan();
                    assert!(plan.not_before < p.booted_at && plan.not_before < plan.not_after);
                    let expected = match family {
                        Family::Cisco => "ios-self-signed-certificate-".to_owned(),
                        Family::Embedded if p.distro == "HP" => "hp jetdirect ".to_owned(),
                        _ => p.fqdn().to_lowercase(),
                    };
                    assert!(text.contains(&expected), "{text}");
                    assert!((1..=20).contains(&plan.serial.len()));
                }
            }
        }
    }

    #[test]
    fn a_clock_of_any_kind_gives_days() {
        for now in [i64::MIN, -1, 0, 1_700_000_000_000_000, i64::MAX] {
            for family in Family::ALL {
                let asked = Asked {
                    family: Some(*family),
                    ..Asked::default()
                };
                let p = Persona::derive(b"s", "a", &asked, Stamp(now));
                let plan = p.plan();
                assert!(!body_days(&plan).is_empty());
            }
        }
    }

    fn body_days(plan: &Plan) -> Vec<u8> {
        [der::time(plan.not_before), der::time(plan.not_after)].concat()
    }
}
