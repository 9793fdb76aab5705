//! Who made a host's network card: vendors with address blocks the IEEE assigned to them
//! (registry as packaged with nmap, `nmap-mac-prefixes`). An address has its vendor's
//! block and never the locally administered bit, which no real card has.

use super::site::Site;
use super::stream::Stream;

/// Kind of machine, which decides whose card it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Maker {
    /// A rack server or a virtual machine.
    Server,
    /// The same with the virtual machines of either hypervisor.
    WindowsServer,
    /// An office computer.
    Desktop,
    /// A printer of HP.
    HpPrinter,
    /// Raspberry Pi.
    RaspberryPi,
    /// Network camera.
    Camera,
    /// Moxa.
    Moxa,
    /// Siemens.
    Siemens,
    /// Cisco.
    Cisco,
}

/// A vendor with some of its blocks.
#[derive(Debug)]
pub(super) struct Vendor {
    pub(super) name: &'static str,
    pub(super) blocks: &'static [[u8; 3]],
}

/// Virtual machines of VMware.
pub(super) const VMWARE: Vendor = Vendor {
    name: "VMware",
    blocks: &[[0x00, 0x50, 0x56], [0x00, 0x0c, 0x29]],
};
/// Virtual machines of Hyper-V.
pub(super) const HYPER_V: Vendor = Vendor {
    name: "Microsoft Hyper-V",
    blocks: &[[0x00, 0x15, 0x5d]],
};
const DELL: Vendor = Vendor {
    name: "Dell",
    blocks: &[
        [0x18, 0x66, 0xda],
        [0xd4, 0xbe, 0xd9],
        [0xb8, 0xca, 0x3a],
        [0x14, 0x18, 0x77],
        [0xf8, 0xbc, 0x12],
        [0x24, 0x6e, 0x96],
        [0x50, 0x9a, 0x4c],
        [0x4c, 0xd9, 0x8f],
    ],
};
const HPE: Vendor = Vendor {
    name: "Hewlett Packard Enterprise",
    blocks: &[
        [0x14, 0x02, 0xec],
        [0x94, 0x18, 0x82],
        [0x48, 0xdf, 0x37],
        [0x20, 0x67, 0x7c],
        [0x80, 0x30, 0xe0],
    ],
};
const SUPERMICRO: Vendor = Vendor {
    name: "Supermicro",
    blocks: &[
        [0x00, 0x25, 0x90],
        [0x0c, 0xc4, 0x7a],
        [0xac, 0x1f, 0x6b],
        [0x3c, 0xec, 0xef],
    ],
};
const HP: Vendor = Vendor {
    name: "Hewlett Packard",
    blocks: &[
        [0xc8, 0xd3, 0xff],
        [0x80, 0xce, 0x62],
        [0x48, 0xba, 0x4e],
        [0xf4, 0x30, 0xb9],
        [0xa0, 0xd3, 0xc1],
    ],
};
/// The company that builds Lenovo's computers and has their addresses.
const LENOVO: Vendor = Vendor {
    name: "Lenovo (LCFC)",
    blocks: &[
        [0x54, 0xe1, 0xad],
        [0x98, 0xfa, 0x9b],
        [0xe8, 0x6a, 0x64],
        [0x8c, 0x16, 0x45],
    ],
};
const HP_PRINTER: Vendor = Vendor {
    name: "Hewlett Packard",
    blocks: &[
        [0x00, 0x1e, 0x0b],
        [0x00, 0x21, 0x5a],
        [0x00, 0x1f, 0x29],
        [0x3c, 0xd9, 0x2b],
        [0x10, 0x60, 0x4b],
    ],
};
const RASPBERRY: Vendor = Vendor {
    name: "Raspberry Pi",
    blocks: &[[0xb8, 0x27, 0xeb], [0xdc, 0xa6, 0x32], [0xe4, 0x5f, 0x01]],
};
/// Makers of Foscam's network boards.
const CAMERA: Vendor = Vendor {
    name: "Foscam",
    blocks: &[[0xe8, 0xab, 0xfa], [0xc4, 0xd6, 0x55]],
};
const MOXA: Vendor = Vendor {
    name: "Moxa",
    blocks: &[[0x00, 0x90, 0xe8]],
};
const SIEMENS: Vendor = Vendor {
    name: "Siemens",
    blocks: &[
        [0x00, 0x1b, 0x1b],
        [0x28, 0x63, 0x36],
        [0xac, 0x64, 0x17],
        [0x00, 0x0e, 0x8c],
    ],
};
const CISCO: Vendor = Vendor {
    name: "Cisco",
    blocks: &[
        [0x00, 0x1b, 0x54],
        [0x00, 0x1e, 0xf7],
        [0x00, 0x1a, 0xa1],
        [0x00, 0x1d, 0xa1],
        [0x00, 0x22, 0x55],
        [0x00, 0x24, 0x14],
        [0x58, 0xbf, 0xea],
        [0x64, 0x9e, 0xf3],
    ],
};

/// Who made this host's card. One company buys its servers from one maker.
pub(super) fn choose(maker: Maker, site: &Site, stream: &mut Stream) -> &'static Vendor {
    let metal: [&Vendor; 3] = [&DELL, &HPE, &SUPERMICRO];
    match maker {
        Maker::Server | Maker::WindowsServer if stream.below(10) < 6 => {
            if site.hyper_v && maker == Maker::WindowsServer {
                &HYPER_V
            } else {
                &VMWARE
            }
        }
        Maker::Server | Maker::WindowsServer => metal.get(site.maker).copied().unwrap_or(&DELL),
        Maker::Desktop => match stream.below(10) {
            0..6 => [&DELL, &HP, &LENOVO]
                .get(site.maker)
                .copied()
                .unwrap_or(&HP),
            6..8 => &LENOVO,
            _ => &HP,
        },
        Maker::HpPrinter => &HP_PRINTER,
        Maker::RaspberryPi => &RASPBERRY,
        Maker::Camera => &CAMERA,
        Maker::Moxa => &MOXA,
        Maker::Siemens => &SIEMENS,
        Maker::Cisco => &CISCO,
    }
}

/// An address of `vendor`.
pub(super) fn address(vendor: &Vendor, stream: &mut Stream) -> [u8; 6] {
    let at = usize::try_from(stream.below(vendor.blocks.len() as u64)).unwrap_or(0);
    let [a, b, c] = vendor.blocks.get(at).copied().unwrap_or([0x00, 0x50, 0x56]);
    let [mut d, e, f] = stream.bytes();
    if [a, b, c] == [0x00, 0x50, 0x56] {
        // The part of the block from which vCenter hands out addresses.
        d = 0x80 | (d & 0x3f);
    }
    [a, b, c, d, e, f]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_block_is_a_unicast_one_of_the_registry() {
        for vendor in [
            &VMWARE,
            &HYPER_V,
            &DELL,
            &HPE,
            &SUPERMICRO,
            &HP,
            &LENOVO,
            &HP_PRINTER,
            &RASPBERRY,
            &CAMERA,
            &MOXA,
            &SIEMENS,
            &CISCO,
        ] {
            for block in vendor.blocks {
                assert_eq!(block[0] & 3, 0, "{} {block:02x?}", vendor.name);
            }
        }
    }
}
