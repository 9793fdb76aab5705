//! A QR code of the URL, as PNG and as SVG.

use std::fmt::Write as _;
use std::io::Write as _;

use flate2::write::ZlibEncoder;
use flate2::{Compression, Crc};
use qrcode::{Color, EcLevel, QrCode};

use super::work::Work;
use super::{Error, File};

/// White modules around the code; the standard asks for four.
const QUIET: usize = 4;
/// Pixels of a module.
const SCALE: usize = 8;

pub(super) fn make(work: &mut Work) -> Result<Vec<File>, Error> {
    let at = work.draw.moment(work.now, 10, 120);
    let code = QrCode::with_error_correction_level(work.url.as_bytes(), EcLevel::M)
        .map_err(|_| Error::Write(work.kind))?;
    let dark = |x: usize, y: usize| {
        let (x, y) = (x.wrapping_sub(QUIET), y.wrapping_sub(QUIET));
        x < code.width() && y < code.width() && code[(x, y)] == Color::Dark
    };
    let side = code.width() + 2 * QUIET;
    let purpose = work.draw.pick(&[
        "wifi_guest",
        "vpn_setup",
        "sign_in",
        "authenticator_setup",
        "printer_setup",
    ]);
    let path = |ending: &str| work.setting.document(&format!("{purpose}_qr.{ending}"));
    Ok(vec![
        work.file(path("png"), "image/png", 0o644, at, png(side, &dark)),
        work.file(path("svg"), "image/svg+xml", 0o644, at, svg(side, &dark)),
    ])
}

fn svg(side: usize, dark: &impl Fn(usize, usize) -> bool) -> String {
    let mut squares = String::new();
    for y in 0..side {
        for x in (0..side).filter(|x| dark(*x, y)) {
            // Writing into a string does not fail.
            write!(squares, "M{x} {y}h1v1h-1z").unwrap_or_default();
        }
    }
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{size}\" height=\"{size}\" viewBox=\"0 0 {side} {side}\" shape-rendering=\"crispEdges\">\n\
         <rect width=\"{side}\" height=\"{side}\" fill=\"#ffffff\"/>\n\
         <path d=\"{squares}\" fill=\"#000000\"/>\n</svg>\n",
        size = side * SCALE,
    )
}

/// One bit for a pixel, grey scale.
fn png(side: usize, dark: &impl Fn(usize, usize) -> bool) -> Vec<u8> {
    let pixels = side * SCALE;
    let mut raw = Vec::new();
    for y in 0..pixels {
        // No filter.
        let start = raw.len() + 1;
        raw.resize(start + pixels.div_ceil(8), 0u8);
        for x in (0..pixels).filter(|x| !dark(x / SCALE, y / SCALE)) {
            if let Some(byte) = raw.get_mut(start + x / 8) {
                *byte |= 0x80 >> (x % 8);
            }
        }
    }
    let mut zip = ZlibEncoder::new(Vec::new(), Compression::best());
    // Writing into memory does not fail.
    let packed = match zip.write_all(&raw) {
        Ok(()) => zip.finish().unwrap_or_default(),
        Err(_) => Vec::new(),
    };
    let side = u32::try_from(pixels).unwrap_or(0).to_be_bytes();
    let mut out = b"\x89PNG\r\n\x1a\n".to_vec();
    out.extend(chunk(
        b"IHDR",
        &[&side[..], &side, &[1, 0, 0, 0, 0]].concat(),
    ));
    out.extend(chunk(b"IDAT", &packed));
    out.extend(chunk(b"IEND", &[]));
    out
}

/// A chunk of a PNG file.
pub(super) fn chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let mut crc = Crc::new();
    crc.update(kind);
    crc.update(data);
    let mut out = u32::try_from(data.len())
        .unwrap_or(u32::MAX)
        .to_be_bytes()
        .to_vec();
    out.extend_from_slice(kind);
    out.extend_from_slice(data);
    out.extend_from_slice(&crc.sum().to_be_bytes());
    out
}
