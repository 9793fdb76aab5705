//! A linked picture in a Word document or an Excel workbook: a relationship to the
//! outside and a picture of one pixel that refers to it. All other members are copied
//! packed as they are.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Cursor, Read, Write};

use zip::write::SimpleFileOptions;
use zip::{ZipArchive, ZipWriter};

use super::xml::{self, What};
use super::{Fault, PART_MAX};

/// Most members of a package.
const MEMBERS_MAX: usize = 20_000;

const RELATION: &str = "http://schemas.openxmlformats.org/officeDocument/2006/relationships";
const WORD: &str = "http://schemas.openxmlformats.org/wordprocessingml/2006/main";
const SHEET: &str = "http://schemas.openxmlformats.org/spreadsheetml/2006/main";
const DRAWING_TYPE: &str = "application/vnd.openxmlformats-officedocument.drawing+xml";
const TYPES: &str = "[Content_Types].xml";
const EMPTY_RELATIONS: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\" standalone=\"yes\"?>\n<Relationships xmlns=\"http://schemas.openxmlformats.org/package/2006/relationships\"/>";
const EMPTY_DRAWING: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\" standalone=\"yes\"?>\n<xdr:wsDr xmlns:xdr=\"http://schemas.openxmlformats.org/drawingml/2006/spreadsheetDrawing\" xmlns:a=\"http://schemas.openxmlformats.org/drawingml/2006/main\"/>";

/// Which program a package is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Program {
    Word,
    Excel,
}

/// The program, when the archive is a package of one.
pub(super) fn program(bytes: &[u8]) -> Option<Program> {
    let archive = ZipArchive::new(Cursor::new(bytes)).ok()?;
    let has = |name: &str| archive.index_for_name(name).is_some();
    match (has("word/document.xml"), has("xl/workbook.xml")) {
        (true, _) => Some(Program::Word),
        (_, true) => Some(Program::Excel),
        _ => None,
    }
}

/// The document with a picture at the end of its last paragraph.
pub(super) fn word(bytes: &[u8], url: &str) -> Result<Vec<u8>, Fault> {
    let mut package = Package::open(bytes)?;
    let document = package.text("word/document.xml")?;
    if !document.contains(WORD) {
        return Err(Fault::damaged("it is saved as Strict Open XML"));
    }
    let relations = package.text_or("word/_rels/document.xml.rels", EMPTY_RELATIONS)?;
    let (relations, id) = relate(&relations, "image", &format!("{url}/image1.png"), true)?;
    let mut body = None;
    let mut paragraph = None;
    let mut last = None;
    let mut number = 0;
    xml::tags(&document, |tag| {
        match (tag.depth, tag.name.as_str(), tag.what) {
            (1, "body", What::Close) => last = last.or(Some(tag.start)),
            (1, "body", What::Open) => body = Some(tag.end),
            // The paragraph's end takes a run; what comes after the text is its section.
            (2, "p", What::Close) if body.is_some() => paragraph = Some(tag.start),
            (2, "sectPr", What::Open | What::Empty) => last = Some(tag.start),
            _ => {}
        }
        if tag.name == "docPr" {
            let id = tag.attribute("id").and_then(|id| id.parse().ok());
            number = number.max(id.unwrap_or(0u32));
        }
    })?;
    let run = run(&id, number.saturating_add(1));
    let document = match (paragraph, last) {
        (Some(at), _) => xml::insert(&document, at, &run)?,
        (None, Some(at)) => xml::insert(
            &document,
            at,
            &format!("<w:p xmlns:w=\"{WORD}\">{run}</w:p>"),
        )?,
        (None, None) => return Err(Fault::damaged("it has no body")),
    };
    package.set("word/document.xml", document);
    package.set("word/_rels/document.xml.rels", relations);
    package.finish()
}

/// A run that holds the picture with relationship `id`.
fn run(id: &str, number: u32) -> String {
    let a = "http://schemas.openxmlformats.org/drawingml/2006/main";
    let pic = "http://schemas.openxmlformats.org/drawingml/2006/picture";
    format!(
        "<w:r xmlns:w=\"{WORD}\"><w:drawing>\
         <wp:inline xmlns:wp=\"http://schemas.openxmlformats.org/drawingml/2006/wordprocessingDrawing\" distT=\"0\" distB=\"0\" distL=\"0\" distR=\"0\">\
         <wp:extent cx=\"9525\" cy=\"9525\"/><wp:docPr id=\"{number}\" name=\"Picture {number}\"/>\
         <a:graphic xmlns:a=\"{a}\"><a:graphicData uri=\"{pic}\"><pic:pic xmlns:pic=\"{pic}\">\
         <pic:nvPicPr><pic:cNvPr id=\"{number}\" name=\"Picture {number}\"/><pic:cNvPicPr/></pic:nvPicPr>\
         <pic:blipFill><a:blip xmlns:r=\"{RELATION}\" r:link=\"{id}\"/><a:stretch><a:fillRect/></a:stretch></pic:blipFill>\
         <pic:spPr><a:xfrm><a:off x=\"0\" y=\"0\"/><a:ext cx=\"9525\" cy=\"9525\"/></a:xfrm>\
         <a:prstGeom prst=\"rect\"><a:avLst/></a:prstGeom></pic:spPr>\
         </pic:pic></a:graphicData></a:graphic></wp:inline></w:drawing></w:r>"
    )
}

/// The workbook with a picture in its first sheet.
pub(super) fn excel(bytes: &[u8], url: &str) -> Result<Vec<u8>, Fault> {
    let mut package = Package::open(bytes)?;
    let sheet_part = package
        .first_sheet()
        .ok_or_else(|| Fault::damaged("it has no worksheet"))?;
    let sheet = package.text(&sheet_part)?;
    if !sheet.contains(SHEET) {
        return Err(Fault::damaged("it is saved as Strict Open XML"));
    }
    let sheet_relations_part = relations_of(&sheet_part);
    let sheet_relations = package.text_or(&sheet_relations_part, EMPTY_RELATIONS)?;
    let mut own = None;
    let mut place = None;
    xml::tags(&sheet, |tag| {
        if tag.depth == 1 && tag.what != What::Close {
            if tag.name == "drawing" {
                own = tag.attribute("id");
            } else if AFTER_DRAWING.contains(&tag.name.as_str()) {
                place = place.or(Some(tag.start));
            }
        }
        if tag.depth == 0 && tag.what == What::Close {
            place = place.or(Some(tag.start));
        }
    })?;
    let drawing_part = match own {
        Some(id) => target(&sheet_relations, &id)?
            .and_then(|target| resolve(&sheet_part, &target))
            .ok_or_else(|| Fault::damaged("its drawing is missing"))?,
        None => {
            let part = package.free("xl/drawings/drawing", ".xml");
            let name = part.rsplit('/').next().unwrap_or_default();
            let (relations, id) = relate(
                &sheet_relations,
                "drawing",
                &format!("../drawings/{name}"),
                false,
            )?;
            let at = place.ok_or_else(|| Fault::damaged("its worksheet is empty"))?;
            let element =
                format!("<drawing xmlns=\"{SHEET}\" xmlns:r=\"{RELATION}\" r:id=\"{id}\"/>");
            package.set(&sheet_part, xml::insert(&sheet, at, &element)?);
            package.set(&sheet_relations_part, relations);
            let types = package.text(TYPES)?;
            let kind = format!(
                "<Override xmlns=\"http://schemas.openxmlformats.org/package/2006/content-types\" PartName=\"/{part}\" ContentType=\"{DRAWING_TYPE}\"/>"
            );
            package.set(TYPES, xml::append(&types, &kind)?);
            package.set(&part, EMPTY_DRAWING.to_owned());
            part
        }
    };
    let drawing = package.text(&drawing_part)?;
    let mut number = 1;
    xml::tags(&drawing, |tag| {
        if tag.name == "cNvPr" {
            let id = tag.attribute("id").and_then(|id| id.parse().ok());
            number = number.max(id.unwrap_or(0u32));
        }
    })?;
    let relations_part = relations_of(&drawing_part);
    let relations = package.text_or(&relations_part, EMPTY_RELATIONS)?;
    let (relations, id) = relate(&relations, "image", &format!("{url}/image1.png"), true)?;
    let anchor = anchor(&id, number.saturating_add(1));
    package.set(&drawing_part, xml::append(&drawing, &anchor)?);
    package.set(&relations_part, relations);
    package.finish()
}

/// What may follow `drawing` in a worksheet (ECMA-376, CT_Worksheet).
const AFTER_DRAWING: &[&str] = &[
    "legacyDrawing",
    "legacyDrawingHF",
    "drawingHF",
    "picture",
    "oleObjects",
    "controls",
    "AlternateContent",
    "webPublishItems",
    "tableParts",
    "extLst",
];

fn anchor(id: &str, number: u32) -> String {
    let a = "http://schemas.openxmlformats.org/drawingml/2006/main";
    let xdr = "http://schemas.openxmlformats.org/drawingml/2006/spreadsheetDrawing";
    format!(
        "<xdr:oneCellAnchor xmlns:xdr=\"{xdr}\" xmlns:a=\"{a}\"><xdr:from><xdr:col>0</xdr:col><xdr:colOff>0</xdr:colOff>\
         <xdr:row>0</xdr:row><xdr:rowOff>0</xdr:rowOff></xdr:from><xdr:ext cx=\"9525\" cy=\"9525\"/>\
         <xdr:pic><xdr:nvPicPr><xdr:cNvPr id=\"{number}\" name=\"Picture {number}\"/><xdr:cNvPicPr/></xdr:nvPicPr>\
         <xdr:blipFill><a:blip xmlns:r=\"{RELATION}\" r:link=\"{id}\"/><a:stretch><a:fillRect/></a:stretch></xdr:blipFill>\
         <xdr:spPr><a:xfrm><a:off x=\"0\" y=\"0\"/><a:ext cx=\"9525\" cy=\"9525\"/></a:xfrm>\
         <a:prstGeom prst=\"rect\"><a:avLst/></a:prstGeom></xdr:spPr></xdr:pic><xdr:clientData/></xdr:oneCellAnchor>"
    )
}

/// `relations` with one more, and its name.
fn relate(
    relations: &str,
    kind: &str,
    target: &str,
    external: bool,
) -> Result<(String, String), Fault> {
    let mut taken = BTreeSet::new();
    xml::tags(relations, |tag| taken.extend(tag.attribute("Id")))?;
    let id = (1..=taken.len() + 1)
        .map(|n| format!("rId{n}"))
        .find(|id| !taken.contains(id))
        .unwrap_or_else(|| "rIdPicture".to_owned());
    let mode = if external {
        " TargetMode=\"External\""
    } else {
        ""
    };
    let element = format!(
        "<Relationship xmlns=\"http://schemas.openxmlformats.org/package/2006/relationships\" Id=\"{id}\" Type=\"{RELATION}/{kind}\" Target=\"{}\"{mode}/>",
        xml::escape(target)
    );
    Ok((xml::append(relations, &element)?, id))
}

/// Where relationship `id` leads.
fn target(relations: &str, id: &str) -> Result<Option<String>, Fault> {
    let mut found = None;
    xml::tags(relations, |tag| {
        if tag.attribute("Id").as_deref() == Some(id) {
            found = tag.attribute("Target");
        }
    })?;
    Ok(found)
}

/// The part that holds the relationships of `part`.
fn relations_of(part: &str) -> String {
    let (folder, name) = part.rsplit_once('/').unwrap_or(("", part));
    format!("{folder}/_rels/{name}.rels")
}

/// The name of the member that `target` means in `part`; `None` when it leads out.
fn resolve(part: &str, target: &str) -> Option<String> {
    if let Some(whole) = target.strip_prefix('/') {
        return Some(whole.to_owned());
    }
    let mut folders: Vec<&str> = part.split('/').collect();
    folders.pop();
    for step in target.split('/') {
        match step {
            ".." => {
                folders.pop()?;
            }
            "." => {}
            step => folders.push(step),
        }
    }
    Some(folders.join("/"))
}

/// An archive with some members changed or added.
struct Package<'a> {
    archive: ZipArchive<Cursor<&'a [u8]>>,
    changed: BTreeMap<String, String>,
}

impl<'a> Package<'a> {
    fn open(bytes: &'a [u8]) -> Result<Self, Fault> {
        let archive = ZipArchive::new(Cursor::new(bytes)).map_err(zip_fault)?;
        if archive.len() > MEMBERS_MAX {
            return Err(Fault::TooLarge);
        }
        Ok(Self {
            archive,
            changed: BTreeMap::new(),
        })
    }

    /// The first worksheet by name.
    fn first_sheet(&self) -> Option<String> {
        let sheet = |name: &String| {
            name.strip_prefix("xl/worksheets/")
                .is_some_and(|rest| !rest.contains('/') && rest.ends_with(".xml"))
        };
        let names = self.archive.file_names().flatten();
        let mut names: Vec<String> = names.map(Cow::into_owned).filter(sheet).collect();
        // `sheet2.xml` before `sheet10.xml`.
        names.sort_unstable_by(|a, b| (a.len(), a).cmp(&(b.len(), b)));
        names.into_iter().next()
    }

    /// A member as text.
    fn text(&mut self, part: &str) -> Result<String, Fault> {
        if let Some(text) = self.changed.get(part) {
            return Ok(text.clone());
        }
        let member = self.archive.by_name(part).map_err(zip_fault)?;
        let mut bytes = Vec::new();
        // The size it claims is not believed.
        let limit = u64::try_from(PART_MAX).unwrap_or(u64::MAX);
        member
            .take(limit.saturating_add(1))
            .read_to_end(&mut bytes)
            .map_err(|error| Fault::damaged(error.to_string()))?;
        if bytes.len() > PART_MAX {
            return Err(Fault::TooLarge);
        }
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
        String::from_utf8(bytes.to_vec())
            .map_err(|_| Fault::damaged(format!("{part} is not UTF-8")))
    }

    /// A member as text, or `otherwise` where there is none.
    fn text_or(&mut self, part: &str, otherwise: &str) -> Result<String, Fault> {
        if self.changed.contains_key(part) || self.archive.index_for_name(part).is_some() {
            self.text(part)
        } else {
            Ok(otherwise.to_owned())
        }
    }

    fn set(&mut self, part: &str, text: String) {
        self.changed.insert(part.to_owned(), text);
    }

    /// A name between `before` and `after` that no member has.
    fn free(&self, before: &str, after: &str) -> String {
        (1..=self.archive.len() + 1)
            .map(|n| format!("{before}{n}{after}"))
            .find(|name| self.archive.index_for_name(name).is_none())
            .unwrap_or_default()
    }

    fn finish(mut self) -> Result<Vec<u8>, Fault> {
        let options = SimpleFileOptions::default()
            .compression_method(zip::CompressionMethod::Deflated)
            .last_modified_time(zip::DateTime::default());
        let mut out = ZipWriter::new(Cursor::new(Vec::new()));
        for at in 0..self.archive.len() {
            let member = self.archive.by_index_raw(at).map_err(zip_fault)?;
            let name = member.name().map_err(zip_fault)?.into_owned();
            if let Some(text) = self.changed.remove(&name) {
                drop(member);
                put(&mut out, &name, &text, options)?;
            } else {
                out.raw_copy_file(member).map_err(zip_fault)?;
            }
        }
        for (name, text) in &self.changed {
            put(&mut out, name, text, options)?;
        }
        Ok(out.finish().map_err(zip_fault)?.into_inner())
    }
}

fn put(
    out: &mut ZipWriter<Cursor<Vec<u8>>>,
    name: &str,
    text: &str,
    options: SimpleFileOptions,
) -> Result<(), Fault> {
    out.start_file(name, options).map_err(zip_fault)?;
    out.write_all(text.as_bytes())
        .map_err(|error| Fault::damaged(error.to_string()))
}

#[expect(clippy::needless_pass_by_value, reason = "the argument of map_err")]
fn zip_fault(error: zip::result::ZipError) -> Fault {
    Fault::damaged(error.to_string())
}
