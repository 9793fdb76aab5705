//! Identifiers a system makes once, when it is installed: drawn from the host's seed, so
//! that they survive everything and are nobody else's.

use rand::RngExt;

use super::stream::Stream;
use super::{Persona, hex};
use crate::model::Family;

impl Persona {
    /// A random UUID (version 4) of this host for `label`, lower case.
    #[must_use]
    pub fn uuid(&self, label: &str) -> String {
        uuid4(Stream::new(&self.seed, &format!("uuid/{label}")).bytes())
    }

    /// What firmware reports as the machine's UUID (DMI product_uuid).
    #[must_use]
    pub fn hardware_uuid(&self) -> String {
        let mut bytes: [u8; 16] = Stream::new(&self.seed, "uuid/hardware").bytes();
        if self.vendor == super::vendor::VMWARE.name {
            // VMware starts them with its own two letters.
            [bytes[0], bytes[1]] = *b"VM";
        }
        uuid4(bytes)
    }

    /// `MachineGuid` of a Windows registry.
    #[must_use]
    pub fn machine_guid(&self) -> String {
        self.uuid("machine-guid")
    }

    /// `/etc/machine-id` of a Linux system: 32 hex digits shaped as a version 4 UUID.
    #[must_use]
    pub fn machine_id(&self) -> String {
        self.uuid("machine-id").replace('-', "")
    }

    /// Security identifier of the machine.
    #[must_use]
    pub fn machine_sid(&self) -> String {
        sid(&self.seed, "machine-sid")
    }

    /// Security identifier of the company's domain, the same on all of its hosts.
    #[must_use]
    pub fn domain_sid(&self) -> String {
        sid(self.site_seed(), "domain-sid")
    }

    /// The name of the company's domain as NetBIOS knows it.
    #[must_use]
    pub fn netbios_domain(&self) -> String {
        let name: String = self.company.chars().take(15).collect();
        name.to_ascii_uppercase()
    }

    /// The identifiers that a host of this family has, by name, for people.
    #[must_use]
    pub fn identifiers(&self) -> Vec<(&'static str, String)> {
        let mut out = vec![("hardware_uuid", self.hardware_uuid())];
        match self.family {
            Family::Windows | Family::WindowsServer => {
                out.push(("machine_guid", self.machine_guid()));
                out.push(("machine_sid", self.machine_sid()));
                out.push(("domain_sid", self.domain_sid()));
            }
            Family::Linux => out.push(("machine_id", self.machine_id())),
            Family::Bsd => out.push(("hostid", self.uuid("hostid"))),
            Family::Embedded | Family::Cisco => {
                return vec![("serial_number", self.serial_number())];
            }
        }
        out
    }

    /// What the maker printed on the back; device pages show the same.
    #[must_use]
    pub fn serial_number(&self) -> String {
        let mut rng = self.rng("device/serial");
        let letters: String = (0..2)
            .map(|_| char::from(rng.random_range(b'A'..=b'Z')))
            .collect();
        format!("CN{letters}{:06}", rng.random_range(100_000..1_000_000))
    }

    /// Seed of what the company's hosts have in common; a host that was deployed before
    /// there was one stands alone.
    pub(super) fn site_seed(&self) -> &str {
        if self.site.is_empty() {
            &self.seed
        } else {
            &self.site
        }
    }
}

fn uuid4(mut bytes: [u8; 16]) -> String {
    bytes[6] = 0x40 | (bytes[6] & 0x0f);
    bytes[8] = 0x80 | (bytes[8] & 0x3f);
    let text = hex(&bytes);
    let mut out = String::with_capacity(36);
    for (at, c) in text.chars().enumerate() {
        if matches!(at, 8 | 12 | 16 | 20) {
            out.push('-');
        }
        out.push(c);
    }
    out
}

fn sid(seed: &str, label: &str) -> String {
    let mut s = Stream::new(seed, label);
    let part = |s: &mut Stream| u32::from_be_bytes(s.bytes()).max(10_000);
    format!(
        "S-1-5-21-{}-{}-{}",
        part(&mut s),
        part(&mut s),
        part(&mut s)
    )
}
