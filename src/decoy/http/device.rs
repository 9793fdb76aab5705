//! What a device says of itself: model, serial number and firmware, drawn from the
//! persona so that web pages, FTP greetings and print jobs agree.

use rand::RngExt;

use crate::model::{Family, Stamp};
use crate::persona::Persona;

/// Printers with their product numbers.
const PRINTERS: &[(&str, &str)] = &[
    ("HP LaserJet P3015", "CE528A"),
    ("HP LaserJet P4015", "CB509A"),
    ("HP LaserJet 4250", "Q5400A"),
    ("HP Color LaserJet CP4525", "CC494A"),
    ("HP LaserJet M506", "F2A69A"),
];

/// What kind of device the host is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::decoy) enum Device {
    /// A printer with its network card.
    Printer,
    /// A network camera.
    Camera,
    /// A programmable controller or the gateway before it.
    Controller,
    /// A router or switch.
    Router,
}

impl Device {
    /// The kind of `persona`, from what it is for.
    pub(in crate::decoy) fn of(persona: &Persona) -> Self {
        let text = format!("{} {}", persona.role, persona.os_pretty).to_ascii_lowercase();
        let any = |words: &[&str]| words.iter().any(|w| text.contains(w));
        if any(&["print", "laserjet", "jetdirect"]) {
            Device::Printer
        } else if any(&["camera", "iot", "ipcam", "dvr"]) {
            Device::Camera
        } else if any(&["industrial", "plc", "scada", "ics", "controller", "simatic"]) {
            Device::Controller
        } else if persona.family == Family::Cisco || any(&["router", "switch", "gateway"]) {
            Device::Router
        } else {
            Device::Camera
        }
    }
}

/// Model and product number of a printer.
pub(in crate::decoy) fn printer(persona: &Persona) -> (String, String) {
    let mut rng = persona.rng("device/printer");
    let at = rng.random_range(0..PRINTERS.len());
    let (model, product) = PRINTERS
        .get(at)
        .copied()
        .unwrap_or(("HP LaserJet", "CB509A"));
    // The persona's own words go first.
    let named = persona
        .os_pretty
        .split(['(', ','])
        .next()
        .unwrap_or_default()
        .trim();
    let Some(_) = named.strip_prefix("HP ").filter(|n| n.contains("LaserJet")) else {
        return (model.to_owned(), product.to_owned());
    };
    let known = PRINTERS.iter().find(|(model, _)| named.starts_with(model));
    let product = known.map_or_else(
        || {
            format!(
                "F{}A{:02}A",
                rng.random_range(1..9),
                rng.random_range(10..99)
            )
        },
        |(_, product)| (*product).to_owned(),
    );
    (named.to_owned(), product)
}

/// When the firmware was built: a year or so before the device was installed.
pub(in crate::decoy) fn built(persona: &Persona) -> Stamp {
    let days: i64 = persona.rng("device/built").random_range(200..900);
    let back = days.saturating_mul(86_400_000_000);
    Stamp(persona.installed_at.0.saturating_sub(back))
}

/// Title of the pages and the name of the product.
pub(in crate::decoy) fn title(persona: &Persona) -> String {
    let vendor = match persona.vendor.as_str() {
        "" => "Network",
        vendor => vendor,
    };
    let kind = match Device::of(persona) {
        Device::Printer => "Printer",
        Device::Camera => "Network Camera",
        Device::Controller => "Ethernet Gateway",
        Device::Router => "Router",
    };
    if vendor == kind.split(' ').next().unwrap_or_default() {
        kind.to_owned()
    } else {
        format!("{vendor} {kind}")
    }
}
