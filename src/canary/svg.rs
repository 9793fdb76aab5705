//! A drawing of the network. Browsers fetch the picture it links when it is opened as a
//! document of its own (not inside an `<img>`).

use askama::Template;

use super::draw::capital;
use super::story;
use super::work::Work;
use super::{Error, File};

#[derive(Template)]
#[template(path = "network.svg", config = "src/askama.toml")]
struct Drawing<'a> {
    title: String,
    author: String,
    day: String,
    provider: &'static str,
    firewall: String,
    nodes: Vec<Node>,
    width: usize,
    middle: usize,
    right: usize,
    /// Height of the line that all machines hang on.
    core: usize,
    url: &'a str,
}

struct Node {
    x: usize,
    y: usize,
    center: usize,
    name: String,
    address: String,
    purpose: &'static str,
}

const PURPOSES: &[(&str, &str)] = &[
    ("dc01", "Directory"),
    ("fs01", "Files"),
    ("db01", "Database"),
    ("web01", "Web shop"),
    ("bk01", "Backup"),
    ("vpn01", "Remote access"),
    ("mon01", "Monitoring"),
    ("hv01", "Hypervisor"),
    ("mail01", "Mail"),
    ("erp01", "ERP"),
];

pub(super) fn make(work: &mut Work) -> Result<Vec<File>, Error> {
    let at = work.draw.moment(work.now, 20, 200);
    let net = work.draw.address();
    let net = net
        .rsplit_once('.')
        .map_or("10.1.1", |(net, _)| net)
        .to_owned();
    let columns = work.draw.index(2) + 4;
    let first = work.draw.index(PURPOSES.len());
    let nodes = (0..columns * 2)
        .map(|n| {
            let (x, y) = (20 + (n % columns) * 150, 240 + n / columns * 90);
            let (name, purpose) = PURPOSES
                .get((first + n) % PURPOSES.len())
                .copied()
                .unwrap_or_default();
            let own = n == 3 && work.draw.below(2) == 0;
            Node {
                x,
                y,
                center: x + 65,
                name: if own {
                    work.setting.hostname.clone()
                } else {
                    name.to_owned()
                },
                address: format!("{net}.{}", 10 + n * 3 + work.draw.index(3)),
                purpose,
            }
        })
        .collect();
    let width = 40 + columns * 150;
    let site = work
        .draw
        .pick(&["Head office", "Site 2", "Data centre", "Plant", "Branch"]);
    let drawing = Drawing {
        title: format!("{} network, {}", work.setting.company, site.to_lowercase()),
        author: work.setting.owner(&mut work.draw).full(),
        day: story::day(at),
        provider: work
            .draw
            .pick(&["fibre 500/500", "MPLS", "two lines", "leased line"]),
        firewall: work.draw.address(),
        nodes,
        width,
        middle: width / 2,
        right: width - 20,
        core: 215,
        url: &work.url,
    };
    let text = drawing.render().map_err(|_| Error::Write(work.kind))?;
    let name = format!(
        "{}_network_{}.svg",
        capital(&work.setting.short),
        site.replace(' ', "_")
    );
    let path = work.setting.document(&name);
    Ok(vec![work.file(path, "image/svg+xml", 0o644, at, text)])
}
