//! Instrumenting files: each type once as it should be, then anything at all.

use std::io::{Cursor, Write};

use proptest::prelude::*;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::*;
use crate::canary::tests::{base, place, readable};
use crate::canary::{Kind, make};
use crate::model::Stamp;

const SLUG: &str = "mzxw6ytboiydcmrtgq2tmnzyhe";

fn slug() -> Slug {
    Slug::parse(SLUG).unwrap()
}

fn done(name: &str, bytes: &[u8]) -> (File, How) {
    instrument(name, bytes, &slug(), &base()).unwrap()
}

/// A generated file of another slug, as an operator's.
fn sample(kind: Kind) -> Vec<u8> {
    let other = Slug::parse("aaaaaaaaaaaaaaaaaaaaaaaaaa").unwrap();
    let now = Stamp::parse("2026-11-30T09:00:00Z").unwrap();
    let files = make(kind, &other, &base(), &place(), 9, now).unwrap();
    files.into_iter().next().unwrap().bytes
}

#[test]
fn each_type_gets_what_it_can_hold() {
    for (kind, name, how) in [
        (Kind::Docx, "a.docx", How::LinkedPicture),
        (Kind::Xlsx, "a.xlsx", How::LinkedPicture),
        (Kind::Pdf, "a.pdf", How::OpenAction),
        (Kind::Html, "a.html", How::Pixel),
        (Kind::Svg, "a.svg", How::Drawing),
        (Kind::QrCode, "a.png", How::Metadata),
    ] {
        let (file, found) = done(name, &sample(kind));
        assert_eq!(found, how, "{name}");
        let all = readable(&file.bytes);
        assert!(all.contains(SLUG), "{name}");
        assert!(!file.content_type.contains("octet"), "{name}");
        assert!(file.path.is_empty() && file.name == name);
    }
    let (file, how) = done("setup.sh", b"#!/bin/sh\necho hi");
    assert_eq!(how, How::Comment);
    let text = String::from_utf8(file.bytes).unwrap();
    assert_eq!(
        text,
        format!("#!/bin/sh\necho hi\n# See also http://files.example.org:8088/c/{SLUG}\n")
    );
    let (file, how) = done("a.json", b"{\"a\": \"{{URL}}/x\", \"b\": \"{{HOST}}\"}");
    assert_eq!(how, How::Placeholder);
    let text = String::from_utf8(file.bytes).unwrap();
    assert!(text.contains(&format!("{SLUG}.cdn.example.org")) && !text.contains("{{"));
    for (name, bytes) in [
        ("a.json", &b"{}"[..]),
        ("a.bin", &[0, 1, 2, 0xff]),
        ("a.zip", b"PK\x03\x04"),
        ("", b""),
    ] {
        let (file, how) = done(name, bytes);
        assert!(how == How::Passthrough && file.bytes == bytes, "{name}");
    }
    // Start of image, JFIF header, then what follows.
    let jpeg = b"\xff\xd8\xff\xe0\x00\x10JFIF\0\x01\x01\0\0\x01\0\x01\0\0\xff\xdb\0\x43".to_vec();
    let (file, how) = done("a.jpg", &jpeg);
    assert!(how == How::Metadata && file.bytes[20..22] == [0xff, 0xfe]);
}

#[test]
fn a_host_without_a_zone_is_an_error_and_a_large_file_too() {
    let bare = Base {
        dns_zone: None,
        ..base()
    };
    let error = instrument("a.txt", b"{{HOST}}", &slug(), &bare).unwrap_err();
    assert_eq!(error, Error::NeedsZone(Kind::Upload));
    let error = instrument("a.bin", &vec![0; UPLOAD_MAX + 1], &slug(), &base()).unwrap_err();
    assert!(error.to_string().contains("10485760"), "{error}");
    let many = "{{URL}}".repeat(UPLOAD_MAX / 7);
    assert!(instrument("a.txt", many.as_bytes(), &slug(), &base()).is_err());
}

#[test]
fn names_lead_nowhere() {
    for (name, expected) in [
        ("../../etc/passwd", "passwd"),
        ("C:\\x\\Report 1.docx", "Report 1.docx"),
        ("..", "file"),
        ("a\n\u{0}b?.txt", "ab.txt"),
    ] {
        assert_eq!(done(name, b"\0").0.name, expected);
    }
    let long = done(&format!("{}.pdf", "ü".repeat(300)), b"\0").0.name;
    assert!(long.len() <= NAME_MAX && long.ends_with(".pdf"));
}

fn archive(parts: &[(&str, &[u8])]) -> Vec<u8> {
    let mut out = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in parts {
        out.start_file(*name, SimpleFileOptions::default()).unwrap();
        out.write_all(bytes).unwrap();
    }
    out.finish().unwrap().into_inner()
}

#[test]
fn a_bomb_is_refused_and_one_that_is_not_unpacked_passes_by() {
    let zeros = vec![b' '; PART_MAX + 1];
    let error = instrument(
        "a.docx",
        &archive(&[("word/document.xml", &zeros)]),
        &slug(),
        &base(),
    );
    assert!(matches!(error, Err(Error::TooLarge { .. })), "{error:?}");
    let document = "<w:document xmlns:w=\"http://schemas.openxmlformats.org/wordprocessingml/2006/main\"><w:body><w:sectPr/></w:body></w:document>";
    let bytes = archive(&[
        ("../evil", &zeros),
        ("word/document.xml", document.as_bytes()),
    ]);
    let (file, how) = done("a.docx", &bytes);
    assert_eq!(how, How::LinkedPicture);
    assert!(file.bytes.len() < 100_000);
    let all = readable(&file.bytes);
    assert!(
        all.contains("</w:p><w:sectPr/>") && all.contains("rId1"),
        "{}",
        all.len()
    );
}

#[test]
fn a_workbook_without_a_drawing_gets_one_in_its_place() {
    let sheet = "<worksheet xmlns=\"http://schemas.openxmlformats.org/spreadsheetml/2006/main\"><sheetData/><conditionalFormatting><extLst/></conditionalFormatting><pageMargins/><tableParts/></worksheet>";
    let bytes = archive(&[
        ("xl/workbook.xml", b"<workbook/>"),
        ("[Content_Types].xml", b"<Types></Types>"),
        ("xl/worksheets/sheet10.xml", b""),
        ("xl/worksheets/sheet2.xml", sheet.as_bytes()),
    ]);
    let (file, _) = done("a.xlsx", &bytes);
    let all = readable(&file.bytes);
    assert!(
        all.contains("<pageMargins/><drawing ") && all.contains("/><tableParts/>"),
        "{all}"
    );
    assert!(
        all.contains("PartName=\"/xl/drawings/drawing1.xml\""),
        "{all}"
    );
    assert!(
        all.contains("<xdr:oneCellAnchor") && all.contains("</xdr:wsDr>"),
        "{all}"
    );
}

#[test]
fn damaged_documents_are_named_as_such() {
    for (name, bytes) in [
        (
            "a.docx",
            archive(&[("word/document.xml", b"<w:document><w:body>")]),
        ),
        ("a.xlsx", archive(&[("xl/workbook.xml", b"")])),
        ("a.pdf", b"%PDF-1.7\n".to_vec()),
        (
            "a.pdf",
            b"%PDF-1.7\nxref\ntrailer <</Size 1/Root 1 0 R/Encrypt 2 0 R>>\nstartxref\n9\n%%EOF"
                .to_vec(),
        ),
    ] {
        let error = instrument(name, &bytes, &slug(), &base()).unwrap_err();
        assert!(matches!(error, Error::Damaged { .. }), "{error}");
        assert!(error.to_string().starts_with(name), "{error}");
    }
}

#[test]
fn the_catalog_is_found_in_an_object_stream() {
    let inner = b"1 0 2 25 <</Type/Catalog/Pages 2 0 R/OpenAction[3 0 R/Fit]>>".to_vec();
    let mut bytes = format!(
        "%PDF-1.7\n5 0 obj\n<</Type/ObjStm/N 2/First 9/Length {}>>\nstream\n",
        inner.len()
    )
    .into_bytes();
    bytes.extend_from_slice(&inner);
    bytes.extend_from_slice(b"\nendstream\nendobj\n");
    let at = bytes.len();
    bytes.extend_from_slice(b"6 0 obj\n<</Type/XRef/Size 7/Root 1 0 R/W[1 2 1]/Length 0>>\nstream\n\nendstream\nendobj\n");
    bytes.extend_from_slice(format!("startxref\n{at}\n%%EOF").as_bytes());
    let (file, _) = done("a.pdf", &bytes);
    let text = String::from_utf8_lossy(&file.bytes);
    assert!(
        text.contains(
            "1 0 obj\n<</Type /Catalog/Pages 2 0 R/OpenAction<</Type/Action/S/URI/URI(http"
        ),
        "{text}"
    );
    assert!(text.contains("/Index[1 1 7 1]"), "{text}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn nothing_makes_it_panic_or_grow(
        name in ".{0,20}(\\.(docx|pdf|html|svg|png|jpg|sh|txt))?",
        start in 0usize..8,
        bytes in proptest::collection::vec(any::<u8>(), 0..400),
    ) {
        let head: &[u8] = [&b""[..], b"%PDF-1.4\n", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"PK\x03\x04", b"<html>", b"<svg ", b"{{URL}}"][start];
        let whole = [head, &bytes].concat();
        if let Ok((file, _)) = instrument(&name, &whole, &slug(), &base()) {
            prop_assert!(file.bytes.len() <= whole.len() + GROWTH_MAX);
            prop_assert!(!file.name.is_empty() && !file.name.contains('/'));
        }
    }

    /// Real documents with some bytes changed, cut or moved.
    #[test]
    fn broken_documents_are_errors_at_most(
        kind in prop_oneof![Just(Kind::Docx), Just(Kind::Xlsx), Just(Kind::Pdf)],
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        cut in any::<prop::sample::Index>(),
        whole in any::<bool>(),
    ) {
        let mut bytes = sample(kind);
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if !whole {
            bytes.truncate(cut.index(bytes.len()));
        }
        instrument("a", &bytes, &slug(), &base()).ok();
    }

    /// PDF text of the pieces that matter, in any order.
    #[test]
    fn scrambled_pdf_is_read_to_an_end(
        pieces in proptest::collection::vec(prop_oneof![
            Just("1 0 obj"), Just("<<"), Just(">>"), Just("["), Just("]"), Just("("), Just(")"), Just("\\"),
            Just("/Root 1 0 R"), Just("/Size 9"), Just("/Type/Catalog"), Just("xref"), Just("trailer"),
            Just("startxref 9"), Just("stream\n"), Just("/ObjStm"), Just("/N 3/First 4"), Just("%"), Just("\n"), Just("<"), Just("/Pages 2 0 R"),
        ], 0..60),
    ) {
        let text = format!("%PDF-1.4\n{}", pieces.join(" "));
        instrument("a.pdf", text.as_bytes(), &slug(), &base()).ok();
    }

    #[test]
    fn scrambled_members_are_read_to_an_end(
        document in "(<w:body>|</w:body>|<w:p>|</w:p>|<w:sectPr/>|<!--|-->|<a b=\"1\"/>|</a>|&amp;|<drawing id=\"rId1\"/>|x){0,20}",
        relations in "(<Relationships>|</Relationships>|<Relationships/>|<r Id=\"rId1\" Target=\"(\\.\\./){0,4}a\"/>){0,6}",
    ) {
        let document = format!("<x xmlns:w=\"http://schemas.openxmlformats.org/wordprocessingml/2006/main\">{document}</x>");
        let sheet = document.replace("wordprocessingml", "spreadsheetml");
        let word = archive(&[("word/document.xml", document.as_bytes()), ("word/_rels/document.xml.rels", relations.as_bytes())]);
        instrument("a.docx", &word, &slug(), &base()).ok();
        let excel = archive(&[
            ("xl/workbook.xml", b""),
            ("[Content_Types].xml", b"<Types/>"),
            ("xl/worksheets/sheet1.xml", sheet.as_bytes()),
            ("xl/worksheets/_rels/sheet1.xml.rels", relations.as_bytes()),
        ]);
        instrument("a.xlsx", &excel, &slug(), &base()).ok();
    }
}
