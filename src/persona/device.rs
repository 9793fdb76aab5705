//! FreeBSD, devices and Cisco IOS. Sources: FreeBSD security advisories and its quarterly
//! package branches; HP's firmware release notes for the JetDirect models; package
//! archives of Raspbian 9 and 10, Debian 9 (Moxa Industrial Linux) and Yocto (SIMATIC
//! IOT2000 example image); Cisco's IOS release notes. The FTP server of IOS was taken
//! out of the main line in 2007; the 12.4 rows are older than that.

use super::FtpServer::{self, CiscoIos as IosFtp, Jetdirect, Proftpd, Vsftpd};
use super::WebServer::{self, Apache, CiscoIos as IosWeb, Emweb, Lighttpd, Nginx};
use super::release::{Release, Style, Update, update};
use super::vendor::Maker;
use crate::model::Family;

const fn freebsd(
    slug: &'static str,
    released: &'static str,
    updates: &'static [Update],
) -> Release {
    Release {
        slug,
        family: Family::Bsd,
        roles: &[],
        distro: "FreeBSD",
        pretty: "FreeBSD {}",
        released,
        // What its clang says of itself where a compiler asks for GCC's version.
        gcc: "4.2.1",
        redis: "7.4.1",
        web: &[(Nginx, "1.26.2"), (Apache, "2.4.62")],
        ftp: &[(Vsftpd, "3.0.5"), (Proftpd, "1.3.8b")],
        style: Style::Minimal,
        maker: Maker::Server,
        private_ipv6: false,
        updates,
    }
}

const fn printer(
    slug: &'static str,
    pretty: &'static str,
    released: &'static str,
    updates: &'static [Update],
) -> Release {
    Release {
        style: Style::Printer,
        maker: Maker::HpPrinter,
        ..device(
            slug,
            (Family::Embedded, &["printer"], "HP"),
            (pretty, released),
            &[(Emweb, "R6_2_1")],
            &[(Jetdirect, "V.36.11")],
            updates,
        )
    }
}

const fn cisco(
    slug: &'static str,
    pretty: &'static str,
    released: &'static str,
    updates: &'static [Update],
) -> Release {
    Release {
        style: Style::Router,
        maker: Maker::Cisco,
        ..device(
            slug,
            (Family::Cisco, &[], "Cisco IOS"),
            (pretty, released),
            &[(IosWeb, "cisco-IOS")],
            &[(IosFtp, "12.4")],
            updates,
        )
    }
}

const fn device(
    slug: &'static str,
    (family, roles, distro): (Family, &'static [&'static str], &'static str),
    (pretty, released): (&'static str, &'static str),
    web: &'static [(WebServer, &'static str)],
    ftp: &'static [(FtpServer, &'static str)],
    updates: &'static [Update],
) -> Release {
    Release {
        slug,
        family,
        roles,
        distro,
        pretty,
        released,
        gcc: "",
        redis: "",
        web,
        ftp,
        style: Style::Device,
        maker: Maker::Cisco,
        private_ipv6: false,
        updates,
    }
}

/// The table.
pub(super) const RELEASES: &[Release] = &[
    freebsd(
        "freebsd13",
        "2024-09-17",
        &[
            update("2024-09-19", "13.4-RELEASE", "13.4-RELEASE"),
            update("2024-10-29", "13.4-RELEASE-p2", "13.4-RELEASE-p2"),
        ],
    ),
    freebsd(
        "freebsd14",
        "2024-06-04",
        &[
            update("2024-10-29", "14.1-RELEASE-p6", "14.1-RELEASE-p6"),
            update("2024-12-03", "14.2-RELEASE", "14.2-RELEASE"),
        ],
    ),
    printer(
        "hp-4250",
        "HP LaserJet 4250",
        "2004-09-01",
        &[update("2011-12-21", "08.260.3", "20111221")],
    ),
    printer(
        "hp-p4015",
        "HP LaserJet P4015",
        "2008-05-01",
        &[update("2012-11-26", "04.221.3", "20121126")],
    ),
    printer(
        "hp-p3015",
        "HP LaserJet P3015",
        "2009-06-01",
        &[update("2016-04-20", "07.280.3", "20160420")],
    ),
    printer(
        "hp-cp4525",
        "HP Color LaserJet CP4525",
        "2009-10-01",
        &[update("2014-01-27", "07.160.6", "20140127")],
    ),
    Release {
        maker: Maker::RaspberryPi,
        ..device(
            "raspbian10",
            (Family::Embedded, &["iot-device"], "Raspbian"),
            ("Raspbian GNU/Linux 10 (buster)", "2019-06-20"),
            &[(Lighttpd, "1.4.53")],
            &[(Vsftpd, "3.0.3")],
            &[
                update("2020-09-18", "4.19.118-v7l+", "10.4"),
                update("2021-03-10", "5.10.17-v7l+", "10.8"),
                update("2021-10-27", "5.10.63-v7l+", "10.11"),
                update("2022-04-07", "5.10.103-v7l+", "10.12"),
            ],
        )
    },
    Release {
        maker: Maker::RaspberryPi,
        ..device(
            "raspbian9",
            (Family::Embedded, &["iot-device"], "Raspbian"),
            ("Raspbian GNU/Linux 9 (stretch)", "2017-08-16"),
            &[(Lighttpd, "1.4.45")],
            &[(Vsftpd, "3.0.3")],
            &[
                update("2018-11-15", "4.14.79-v7+", "9.6"),
                update("2019-04-09", "4.14.98-v7+", "9.8"),
                update("2019-09-20", "4.19.66-v7+", "9.11"),
            ],
        )
    },
    Release {
        maker: Maker::Camera,
        ..device(
            "foscam-fi9821p",
            (Family::Embedded, &["iot-device"], "Foscam"),
            ("Foscam FI9821P V2", "2014-03-01"),
            &[(Lighttpd, "1.4.31")],
            &[(Vsftpd, "3.0.2")],
            &[
                update("2015-08-11", "3.0.8", "1.11.1.11"),
                update("2016-09-22", "3.0.8", "1.11.1.18"),
            ],
        )
    },
    Release {
        maker: Maker::Moxa,
        ..device(
            "moxa-uc8112",
            (Family::Embedded, &["industrial-control"], "Debian"),
            ("Moxa Industrial Linux 1.0 (UC-8112-LX)", "2019-01-15"),
            &[(Lighttpd, "1.4.45")],
            &[(Vsftpd, "3.0.3")],
            &[
                update("2019-06-28", "4.4.0-cip-rt-moxa-am335x", "1.3"),
                update("2020-11-05", "4.4.0-cip-rt-moxa-am335x", "1.5"),
            ],
        )
    },
    Release {
        maker: Maker::Siemens,
        ..device(
            "simatic-iot2040",
            (Family::Embedded, &["industrial-control"], "SIMATIC"),
            ("SIMATIC IOT2040 Example Image V{}", "2017-10-01"),
            &[(Lighttpd, "1.4.45")],
            &[(Vsftpd, "3.0.3")],
            &[
                update("2018-04-10", "4.4.105-cip15", "2.2.1"),
                update("2019-01-22", "4.4.105-cip15", "2.4.0"),
            ],
        )
    },
    cisco(
        "ios-2800",
        "Cisco IOS Software, 2800 Software (C2800NM-ADVSECURITYK9-M), Version {}",
        "2005-08-01",
        &[
            update("2006-08-14", "12.4(10)", "12.4(10)"),
            update("2006-11-20", "12.4(12)", "12.4(12)"),
        ],
    ),
    cisco(
        "ios-2960",
        "Cisco IOS Software, C2960 Software (C2960-LANBASEK9-M), Version {}",
        "2011-08-01",
        &[
            update("2017-08-18", "15.0(2)SE11", "15.0(2)SE11"),
            update("2020-09-09", "15.0(2)SE13", "15.0(2)SE13"),
        ],
    ),
    cisco(
        "ios-2900",
        "Cisco IOS Software, C2900 Software (C2900-UNIVERSALK9-M), Version {}",
        "2016-07-01",
        &[
            update("2019-09-12", "15.7(3)M5", "15.7(3)M5"),
            update("2021-03-30", "15.7(3)M8", "15.7(3)M8"),
        ],
    ),
];
