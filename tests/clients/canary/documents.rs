//! Documents, opened by LibreOffice, read by poppler, qpdf and zbar, parsed by Python.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use decnet::canary::{self, How, Kind};

use super::listener::Listener;
use super::{Planted, SLUG, available, base, below, slug};
use crate::support::output;

/// Converts a document as LibreOffice does when it opens one, with a profile of its own.
fn convert(document: &Path, to: &str, dir: &Path) -> PathBuf {
    let said = output(
        Command::new("soffice")
            .arg(format!(
                "-env:UserInstallation=file://{}/profile",
                dir.display()
            ))
            .args(["--headless", "--convert-to", to, "--outdir"])
            .arg(dir.join("out"))
            .arg(document),
    );
    assert!(said.contains("convert"), "{said}");
    let ending = to.split(':').next().unwrap();
    dir.join("out")
        .join(document.file_name().unwrap())
        .with_extension(ending)
}

fn planted_path(planted: &Planted) -> PathBuf {
    below(planted.root.path(), &planted.files[0].path)
}

#[test]
#[ignore = "needs soffice and pdftotext"]
fn libreoffice_opens_word_and_excel_and_fetches_the_picture() {
    if !available("soffice") || !available("pdftotext") {
        return;
    }
    for (kind, expected) in [
        (Kind::Docx, "Responsible|Next year"),
        (Kind::Xlsx, "Responsible|Next year"),
    ] {
        for seed in 0..3 {
            let planted = Planted::new(kind, seed);
            let pdf = convert(&planted_path(&planted), "pdf", planted.root.path());
            planted
                .listener
                .wait("GET", &format!("/c/{SLUG}/image1.png"));
            let text = output(Command::new("pdftotext").arg("-layout").arg(pdf).arg("-"));
            assert!(
                expected.split('|').any(|word| text.contains(word)),
                "{text}"
            );
        }
    }
}

#[test]
#[ignore = "needs soffice"]
fn libreoffice_fetches_the_picture_put_into_what_it_saved() {
    if !available("soffice") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let text = dir.path().join("plan.html");
    fs::write(
        &text,
        "<h1>Plan</h1><p>First paragraph.</p><table><tr><td>1</td></tr></table><p>Last.</p>",
    )
    .unwrap();
    let table = dir.path().join("table.csv");
    fs::write(&table, "Name,Number\nweb01,17\n").unwrap();
    for (source, to) in [
        (&text, "docx:MS Word 2007 XML"),
        (&table, "xlsx:Calc MS Excel 2007 XML"),
    ] {
        let document = convert(source, to, dir.path());
        let listener = Listener::start();
        let name = document.file_name().unwrap().to_str().unwrap();
        let bytes = fs::read(&document).unwrap();
        let (mut file, how) = canary::instrument(name, &bytes, &slug(), &base(&listener)).unwrap();
        assert_eq!(how, How::LinkedPicture);
        // A workbook that has a drawing already takes another picture.
        if name.ends_with("xlsx") {
            let again = canary::instrument(name, &file.bytes, &slug(), &base(&listener)).unwrap();
            file.bytes = again.0.bytes;
        }
        file.path = format!("/{name}");
        let planted = Planted::write(vec![file], listener);
        convert(&planted_path(&planted), "pdf", planted.root.path());
        planted
            .listener
            .wait("GET", &format!("/c/{SLUG}/image1.png"));
    }
}

#[test]
#[ignore = "needs pdfinfo, pdftotext and qpdf"]
fn pdf_readers_find_nothing_wrong() {
    if !available("pdfinfo") || !available("qpdf") {
        return;
    }
    for seed in 0..8 {
        let planted = Planted::new(Kind::Pdf, seed);
        let path = planted_path(&planted);
        let url = base(&planted.listener).url(&slug());
        check(&path, &url);
        let shown = Command::new("pdfinfo")
            .arg("-url")
            .arg(&path)
            .output()
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&shown.stderr), "");
        assert!(String::from_utf8_lossy(&shown.stdout).contains(&url));
        let text = output(Command::new("pdftotext").arg("-layout").arg(&path).arg("-"));
        assert!(
            text.contains("Northgate") && text.contains("The current version"),
            "{text}"
        );
    }
}

/// qpdf finds no fault, and an open action with `url` in the catalog.
fn check(path: &Path, url: &str) {
    let said = output(Command::new("qpdf").arg("--check").arg(path));
    assert!(
        said.contains("No syntax or stream encoding errors"),
        "{said}"
    );
    let plain = path.with_extension("plain.pdf");
    output(
        Command::new("qpdf")
            .args(["--qdf", "--object-streams=disable"])
            .arg(path)
            .arg(&plain),
    );
    let text = String::from_utf8_lossy(&fs::read(&plain).unwrap()).into_owned();
    let (_, action) = text.split_once("/OpenAction").expect("an open action");
    assert!(action.contains(&format!("({url})")), "{action}");
}

#[test]
#[ignore = "needs soffice and qpdf"]
fn an_open_action_is_put_into_pdf_of_every_build() {
    if !available("soffice") || !available("qpdf") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("plan.html");
    fs::write(&source, "<h1>Plan</h1><p>Some text.</p>").unwrap();
    let saved = convert(&source, "pdf", dir.path());
    let url = base(&Listener::start()).url(&slug());
    let http = url.split("/c/").next().unwrap().to_owned();
    let base = canary::Base {
        http,
        dns_zone: None,
    };
    for (name, options) in [
        ("as-saved", &[][..]),
        ("streams", &["--object-streams=generate"]),
        (
            "classic",
            &["--object-streams=disable", "--stream-data=uncompress"],
        ),
        ("linear", &["--linearize", "--object-streams=generate"]),
        (
            "linear-classic",
            &["--linearize", "--object-streams=disable"],
        ),
    ] {
        let path = dir.path().join(format!("{name}.pdf"));
        output(Command::new("qpdf").args(options).arg(&saved).arg(&path));
        // Twice, as an operator may upload what was made before.
        for _ in 0..2 {
            let bytes = fs::read(&path).unwrap();
            let (file, how) = canary::instrument("plan.pdf", &bytes, &slug(), &base).unwrap();
            assert_eq!(how, How::OpenAction);
            assert!(file.bytes.starts_with(&bytes));
            fs::write(&path, file.bytes).unwrap();
            let said = Command::new("pdfinfo").arg(&path).output().unwrap();
            assert_eq!(String::from_utf8_lossy(&said.stderr), "", "{name}");
            if name.starts_with("linear") {
                // An update always undoes a linearisation; qpdf warns about that alone.
                let said = Command::new("qpdf")
                    .arg("--check")
                    .arg(&path)
                    .output()
                    .unwrap();
                assert_ne!(said.status.code(), Some(2), "{name}");
            } else {
                check(&path, &url);
            }
        }
    }
}

#[test]
#[ignore = "needs zbarimg"]
fn a_reader_reads_the_code() {
    if !available("zbarimg") {
        return;
    }
    for seed in 0..3 {
        let planted = Planted::new(Kind::QrCode, seed);
        let png = planted
            .files
            .iter()
            .find(|f| f.name.ends_with("png"))
            .unwrap();
        let path = below(planted.root.path(), &png.path);
        let read = output(Command::new("zbarimg").args(["--raw", "-q"]).arg(path));
        assert_eq!(read.trim(), base(&planted.listener).url(&slug()));
    }
}

#[test]
#[ignore = "needs python3"]
fn a_mail_program_reads_the_mail() {
    if !available("python3") {
        return;
    }
    let script = "import email, email.policy, sys
m = email.message_from_binary_file(open(sys.argv[1], 'rb'), policy=email.policy.default)
assert not m.defects and m['date'].datetime and m['from'].addresses[0].domain
for p in m.walk():
    assert not p.defects
print(m.get_body(('plain',)).get_content())
print(m.get_body(('html',)).get_content())";
    for seed in 0..6 {
        let planted = Planted::new(Kind::EmailLink, seed);
        let path = planted_path(&planted);
        let text = output(Command::new("python3").args(["-c", script]).arg(path));
        let url = base(&planted.listener).url(&slug());
        assert!(text.matches(&format!("{url}/view")).count() == 2, "{text}");
        assert!(text.contains(&format!("src=\"{url}/logo.png\"")), "{text}");
        assert!(text.lines().all(|line| line.len() < 900));
    }
}
