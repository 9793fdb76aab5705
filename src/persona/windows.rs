//! Windows releases with the builds of their monthly updates. Source: Microsoft's release
//! health pages (update history of each version). Redis is the community's port for
//! Windows, 5.0.14.1, whose INFO names no compiler version.

use super::FtpServer::Microsoft;
use super::WebServer::Iis;
use super::release::{Release, Style, Update, update};
use super::vendor::Maker;
use crate::model::Family;

const fn row(
    slug: &'static str,
    pretty: &'static str,
    released: &'static str,
    updates: &'static [Update],
) -> Release {
    Release {
        slug,
        family: Family::Windows,
        roles: &[],
        distro: "Windows",
        pretty,
        released,
        gcc: "",
        redis: "",
        web: &[(Iis, "10.0")],
        ftp: &[(Microsoft, "10.0")],
        style: Style::Desktop,
        maker: Maker::Desktop,
        private_ipv6: true,
        updates,
    }
}

const fn server(
    slug: &'static str,
    pretty: &'static str,
    released: &'static str,
    updates: &'static [Update],
) -> Release {
    Release {
        family: Family::WindowsServer,
        gcc: "0.0.0",
        redis: "5.0.14.1",
        style: Style::Server,
        maker: Maker::WindowsServer,
        ..row(slug, pretty, released, updates)
    }
}

/// The table.
pub(super) const RELEASES: &[Release] = &[
    row(
        "windows10",
        "Windows 10 Pro 22H2",
        "2022-10-18",
        &[
            update("2024-08-13", "10.0.19045.4780", "KB5041580"),
            update("2024-09-10", "10.0.19045.4894", "KB5043064"),
            update("2024-10-08", "10.0.19045.5011", "KB5044273"),
            update("2024-11-12", "10.0.19045.5131", "KB5046613"),
            update("2024-12-10", "10.0.19045.5247", "KB5048652"),
            update("2025-01-14", "10.0.19045.5371", "KB5049981"),
            update("2025-02-11", "10.0.19045.5487", "KB5051974"),
            update("2025-03-11", "10.0.19045.5608", "KB5053606"),
            update("2025-04-08", "10.0.19045.5737", "KB5055518"),
            update("2025-05-13", "10.0.19045.5854", "KB5058379"),
        ],
    ),
    row(
        "windows11-23h2",
        "Windows 11 Pro 23H2",
        "2023-10-31",
        &[
            update("2024-08-13", "10.0.22631.4037", "KB5041585"),
            update("2024-09-10", "10.0.22631.4169", "KB5043076"),
            update("2024-10-08", "10.0.22631.4317", "KB5044285"),
            update("2024-11-12", "10.0.22631.4460", "KB5046633"),
            update("2024-12-10", "10.0.22631.4602", "KB5048685"),
            update("2025-01-14", "10.0.22631.4751", "KB5050021"),
            update("2025-02-11", "10.0.22631.4890", "KB5051989"),
            update("2025-03-11", "10.0.22631.5039", "KB5053602"),
            update("2025-04-08", "10.0.22631.5189", "KB5055528"),
            update("2025-05-13", "10.0.22631.5335", "KB5058405"),
        ],
    ),
    row(
        "windows11-24h2",
        "Windows 11 Enterprise 24H2",
        "2024-10-01",
        &[
            update("2024-11-12", "10.0.26100.2314", "KB5046617"),
            update("2024-12-10", "10.0.26100.2605", "KB5048667"),
            update("2025-01-14", "10.0.26100.2894", "KB5050009"),
            update("2025-02-11", "10.0.26100.3194", "KB5051987"),
            update("2025-03-11", "10.0.26100.3476", "KB5053598"),
            update("2025-04-08", "10.0.26100.3775", "KB5055523"),
            update("2025-05-13", "10.0.26100.4061", "KB5058411"),
        ],
    ),
    server(
        "windows-server-2016",
        "Windows Server 2016 Standard",
        "2016-10-12",
        &[
            update("2024-08-13", "10.0.14393.7259", "KB5041773"),
            update("2024-09-10", "10.0.14393.7336", "KB5043051"),
            update("2024-10-08", "10.0.14393.7428", "KB5044293"),
            update("2024-11-12", "10.0.14393.7515", "KB5046612"),
            update("2024-12-10", "10.0.14393.7606", "KB5048671"),
            update("2025-01-14", "10.0.14393.7699", "KB5049993"),
        ],
    ),
    server(
        "windows-server-2019",
        "Windows Server 2019 Standard",
        "2018-11-13",
        &[
            update("2024-08-13", "10.0.17763.6189", "KB5041578"),
            update("2024-09-10", "10.0.17763.6293", "KB5043050"),
            update("2024-10-08", "10.0.17763.6414", "KB5044277"),
            update("2024-11-12", "10.0.17763.6532", "KB5046615"),
            update("2024-12-10", "10.0.17763.6659", "KB5048661"),
            update("2025-01-14", "10.0.17763.6775", "KB5050008"),
            update("2025-02-11", "10.0.17763.6893", "KB5052000"),
            update("2025-03-11", "10.0.17763.7009", "KB5053596"),
            update("2025-04-08", "10.0.17763.7136", "KB5055519"),
        ],
    ),
    server(
        "windows-server-2022",
        "Windows Server 2022 Standard",
        "2021-08-18",
        &[
            update("2024-08-13", "10.0.20348.2655", "KB5041160"),
            update("2024-09-10", "10.0.20348.2700", "KB5042881"),
            update("2024-10-08", "10.0.20348.2762", "KB5044281"),
            update("2024-11-12", "10.0.20348.2849", "KB5046616"),
            update("2024-12-10", "10.0.20348.2966", "KB5048654"),
            update("2025-01-14", "10.0.20348.3091", "KB5049983"),
            update("2025-02-11", "10.0.20348.3207", "KB5051979"),
            update("2025-03-11", "10.0.20348.3328", "KB5053603"),
            update("2025-04-08", "10.0.20348.3454", "KB5055526"),
        ],
    ),
];
