//! What hosts other than a Linux web server serve: the start pages of the packages, a
//! printer's status pages. Texts only; [`super::site`] makes files of them.

use std::io::Write;

use flate2::Compression;
use flate2::write::ZlibEncoder;
use rand::RngExt;

use crate::decoy::http::date;
use crate::decoy::http::device;
use crate::decoy::http::site::escape;
use crate::model::Stamp;
use crate::persona::{Persona, WebServer};

/// `Server` of a printer. The older server names itself, the newer one the printer.
pub(super) fn emweb_header(persona: &Persona) -> String {
    let version = &persona.web_version;
    if let Some(release) = version.strip_prefix("Virata-EmWeb/") {
        return format!("Virata-EmWeb/{release}");
    }
    let release = version
        .strip_prefix('R')
        .unwrap_or(version)
        .replace('.', "_");
    let numeric = release.bytes().all(|b| b.is_ascii_digit() || b == b'_');
    if numeric && !release.is_empty() {
        return format!("Virata-EmWeb/R{release}");
    }
    let (model, product) = device::printer(persona);
    let built = device::built(persona).utc();
    format!(
        "HP HTTP Server; {model} - {product}; Serial Number: {}; Built: {}",
        persona.serial_number(),
        built.strftime("%a %b %d, %Y %I:%M:%S%p"),
    )
}

/// The page a package installs, for a host without an application.
pub(super) fn package_page(persona: &Persona, server: WebServer) -> String {
    match (server, persona.distro.as_str()) {
        (WebServer::Apache, _) => "<html><body><h1>It works!</h1></body></html>\n".to_owned(),
        _ => "<!DOCTYPE html>\n<html>\n<head>\n<title>Welcome to nginx!</title>\n<style>\n\
              html { color-scheme: light dark; }\nbody { width: 35em; margin: 0 auto;\n\
              font-family: Tahoma, Verdana, Arial, sans-serif; }\n</style>\n</head>\n<body>\n\
              <h1>Welcome to nginx!</h1>\n<p>If you see this page, the nginx web server is \
              successfully installed and\nworking. Further configuration is required.</p>\n\n\
              <p>For online documentation and support please refer to\n\
              <a href=\"http://nginx.org/\">nginx.org</a>.<br/>\nCommercial support is available \
              at\n<a href=\"http://nginx.com/\">nginx.com</a>.</p>\n\n<p><em>Thank you for using \
              nginx.</em></p>\n</body>\n</html>\n"
            .to_owned(),
    }
}

/// The pages of a printer: path, text.
pub(super) fn printer(persona: &Persona) -> Vec<(&'static str, String)> {
    let (model, product) = device::printer(persona);
    let serial = persona.serial_number();
    let mut rng = persona.rng("http/printer");
    let toner: u8 = rng.random_range(8..97);
    let pages: u32 = rng.random_range(4_000..240_000);
    let firmware = device::built(persona).utc().strftime("%Y%m%d").to_string();
    let host = &persona.hostname;
    let status = format!(
        "<!DOCTYPE html\n   PUBLIC \"-//W3C//DTD XHTML 1.0 Transitional//EN\"\n   \
         \"http://www.w3.org/TR/xhtml1/DTD/xhtml1-transitional.dtd\">\n<html>\n<head>\n\
         <title>{model}&nbsp;&nbsp;&nbsp;{host}</title>\n\
         <link rel=\"stylesheet\" type=\"text/css\" href=\"/hp/device/style.css\" />\n</head>\n\
         <body>\n<h1>{model}</h1>\n<p class=\"host\">{host} / {}</p>\n\
         <ul class=\"tabs\"><li><a href=\"/hp/device/this.LCDispatcher?nav=hp.DeviceStatus\">\
         Information</a></li><li><a href=\"/hp/device/set_config_deviceInfo.html\">Settings</a>\
         </li><li><a href=\"/hp/jetdirect\">Networking</a></li></ul>\n\
         <h2>Device Status</h2>\n<p>Ready</p>\n\
         <table>\n<tr><td>Black Cartridge</td><td>{toner}%</td></tr>\n\
         <tr><td>Tray 1</td><td>Empty</td><td>Any Size</td></tr>\n\
         <tr><td>Tray 2</td><td>OK</td><td>A4</td></tr>\n</table>\n</body>\n</html>\n",
        persona.fqdn()
    );
    let info = format!(
        "<html>\n<head>\n<title>{model}&nbsp;&nbsp;&nbsp;{host}</title>\n</head>\n<body>\n\
         <h1>Device Information</h1>\n<table>\n<tr><td>Product Name:</td><td>{model}</td></tr>\n\
         <tr><td>Product Number:</td><td>{product}</td></tr>\n\
         <tr><td>Serial Number:</td><td>{serial}</td></tr>\n\
         <tr><td>Firmware Datecode:</td><td>{firmware}</td></tr>\n\
         <tr><td>Total Pages:</td><td>{pages}</td></tr>\n</table>\n</body>\n</html>\n"
    );
    let config = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <prdcfgdyn2:ProductConfigDyn \
         xmlns:dd=\"http://www.hp.com/schemas/imaging/con/dictionaries/1.0/\" \
         xmlns:prdcfgdyn2=\"http://www.hp.com/schemas/imaging/con/ledm/productconfigdyn/2009/03/16\" \
         xmlns:prdcfgdyn=\"http://www.hp.com/schemas/imaging/con/ledm/productconfigdyn/2007/11/05\">\n\
         \t<prdcfgdyn2:ProductInformation>\n\t\t<dd:Version>\n\
         \t\t\t<dd:Revision>{firmware}</dd:Revision>\n\t\t\t<dd:Date>{}</dd:Date>\n\
         \t\t</dd:Version>\n\t\t<dd:MakeAndModel>{model}</dd:MakeAndModel>\n\
         \t\t<dd:ProductNumber>{product}</dd:ProductNumber>\n\
         \t\t<dd:SerialNumber>{serial}</dd:SerialNumber>\n\
         \t</prdcfgdyn2:ProductInformation>\n</prdcfgdyn2:ProductConfigDyn>\n",
        device::built(persona).utc().strftime("%Y-%m-%d")
    );
    let css = "body { font-family: Arial, Helvetica, sans-serif; margin: 20px; }\n\
               h1 { color: #0096d6; }\n.tabs li { display: inline; margin-right: 1em; }\n\
               td { padding: 2px 12px 2px 0; }\n";
    vec![
        ("/index.htm", status.clone()),
        ("/hp/device/this.LCDispatcher", status),
        ("/hp/device/info_configuration.html", info),
        ("/DevMgmt/ProductConfigDyn.xml", config),
        ("/hp/device/style.css", css.to_owned()),
    ]
}

/// Realm of a device's settings pages.
pub(super) fn realm(persona: &Persona, server: WebServer) -> Option<String> {
    match server {
        WebServer::Emweb => Some(device::printer(persona).0),
        WebServer::Lighttpd => Some(device::title(persona)),
        _ => None,
    }
}

/// The front page of a device: model, firmware, form.
pub(super) fn device_front(persona: &Persona, form: &str, at: Stamp) -> String {
    let firmware = [&persona.kernel, &persona.patch_level]
        .into_iter()
        .find(|text| !text.is_empty())
        .map_or_else(String::new, |text| escape(text));
    let day = date::print(at);
    let day = day.get(5..16).unwrap_or_default();
    format!(
        "<h1>{}</h1>\n<table>\n<tr><td>Device name</td><td>{}</td></tr>\n\
         <tr><td>Serial number</td><td>{}</td></tr>\n\
         <tr><td>Firmware</td><td>{firmware} ({day})</td></tr>\n</table>\n{form}",
        escape(&device::title(persona)),
        escape(&persona.hostname),
        persona.serial_number(),
    )
}

/// The picture of the start page of IIS: its size, in one colour.
pub(super) fn png(width: u32, height: u32, colour: [u8; 3]) -> Vec<u8> {
    // One bit a pixel, each line behind a filter byte.
    let row = usize::try_from(width.div_ceil(8)).unwrap_or(0);
    let line = vec![0u8; row.saturating_add(1)];
    let mut packed = ZlibEncoder::new(Vec::new(), Compression::new(9));
    // Writing to memory does not fail; an empty picture would be wrong but harmless.
    let written = (0..height).try_for_each(|_| packed.write_all(&line));
    let data = written.and_then(|()| packed.finish()).unwrap_or_default();
    let mut out = b"\x89PNG\r\n\x1a\n".to_vec();
    let mut header = Vec::new();
    header.extend(width.to_be_bytes());
    header.extend(height.to_be_bytes());
    header.extend([1, 3, 0, 0, 0]);
    chunk(&mut out, *b"IHDR", &header);
    chunk(&mut out, *b"PLTE", &colour);
    chunk(&mut out, *b"IDAT", &data);
    chunk(&mut out, *b"IEND", &[]);
    out
}

fn chunk(out: &mut Vec<u8>, kind: [u8; 4], data: &[u8]) {
    out.extend(u32::try_from(data.len()).unwrap_or(0).to_be_bytes());
    let mut sum = flate2::Crc::new();
    sum.update(&kind);
    sum.update(data);
    out.extend(kind);
    out.extend_from_slice(data);
    out.extend(sum.sum().to_be_bytes());
}
