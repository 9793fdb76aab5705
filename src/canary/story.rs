//! What documents say: a review, a plan, minutes, with people, machines and numbers that
//! fit the place. One story serves every document format.

use super::draw::{Draw, Person, Setting};
use crate::model::Stamp;

/// The texts; the file says how it is written.
const STORIES: &str = include_str!("templates/stories.txt");

const APPS: &[&str] = &[
    "the intranet",
    "the ticket system",
    "the payroll system",
    "the web shop",
    "the wiki",
    "the print server",
    "the time recording",
    "the document archive",
];
const VENDORS: &[&str] = &[
    "Halden Systems",
    "Norvik IT",
    "Brandt & Partner",
    "Celera Networks",
    "Ostermann Data",
    "Quantis Services",
];
const ROLES: &[(&str, &str)] = &[
    ("dc", "Directory services"),
    ("fs", "File server"),
    ("db", "Database"),
    ("app", "Application server"),
    ("web", "Web server"),
    ("bk", "Backup"),
    ("mail", "Mail relay"),
    ("vpn", "Remote access"),
    ("mon", "Monitoring"),
    ("hv", "Hypervisor"),
];
const SYSTEMS: &[&str] = &[
    "VPN gateway",
    "ERP (read only)",
    "File exchange",
    "Ticket system",
    "Database (reporting)",
    "Remote desktop",
    "Monitoring",
    "Git server",
];
const COSTS: &[&str] = &[
    "Licences, office",
    "Licences, database",
    "Storage",
    "Network, site 2",
    "External support",
    "Backup tapes",
    "Remote access",
    "Training",
    "Workstations",
    "Printing",
];

/// One document.
#[derive(Debug)]
pub(super) struct Story {
    pub(super) title: String,
    /// File name without its ending.
    pub(super) stem: String,
    pub(super) author: Person,
    /// Everybody it names.
    pub(super) people: Vec<Person>,
    /// When it was last saved.
    pub(super) saved: Stamp,
    pub(super) sections: Vec<Section>,
    pub(super) table: Table,
}

/// A heading with its paragraphs.
#[derive(Debug)]
pub(super) struct Section {
    pub(super) heading: String,
    pub(super) paragraphs: Vec<String>,
}

/// The table at the end.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) title: &'static str,
    pub(super) head: Vec<&'static str>,
    pub(super) rows: Vec<Vec<String>>,
}

/// A story as the file has it.
struct Outline {
    title: &'static str,
    stem: &'static str,
    table: &'static str,
    sections: Vec<(&'static str, Vec<&'static str>)>,
}

fn outlines() -> Vec<Outline> {
    let mut found: Vec<Outline> = Vec::new();
    for line in STORIES.lines() {
        if let Some(head) = line.strip_prefix("= ") {
            let mut parts = head.split(" | ");
            found.push(Outline {
                title: parts.next().unwrap_or_default(),
                stem: parts.next().unwrap_or_default(),
                table: parts.next().unwrap_or_default(),
                sections: Vec::new(),
            });
        } else if let Some(heading) = line.strip_prefix("+ ")
            && let Some(story) = found.last_mut()
        {
            story.sections.push((heading, Vec::new()));
        } else if let Some(text) = line.strip_prefix("- ")
            && let Some((_, texts)) = found.last_mut().and_then(|s| s.sections.last_mut())
        {
            texts.push(text);
        }
    }
    found
}

impl Story {
    /// The story that `draw` tells of `setting`.
    pub(super) fn new(draw: &mut Draw, setting: &Setting, now: Stamp) -> Self {
        let saved = draw.moment(now, 9, 70);
        let author = setting.owner(draw);
        let mut people = vec![author.clone()];
        for _ in 0..4 {
            people.push(draw.person(&people));
        }
        let mut outlines = outlines();
        let at = draw.index(outlines.len());
        let outline = outlines.swap_remove(at);
        let table = table(outline.table, draw, setting, &people);
        let mut fill = Fill {
            people: &people,
            setting,
            saved,
            vendor: draw.pick(VENDORS),
            draw,
        };
        let title = fill.text(outline.title);
        let stem = fill.text(outline.stem).replace([' ', '.'], "_");
        let sections = outline
            .sections
            .into_iter()
            .map(|(heading, mut texts)| {
                // Leaving out one or two makes two of a kind differ.
                while texts.len() > 2 && fill.draw.below(3) > 0 {
                    let out = fill.draw.index(texts.len());
                    texts.remove(out);
                }
                Section {
                    heading: fill.text(heading),
                    paragraphs: texts.into_iter().map(|text| fill.text(text)).collect(),
                }
            })
            .collect();
        Self {
            title,
            stem,
            author,
            people,
            saved,
            sections,
            table,
        }
    }

    /// The day it was saved, as `14 October 2026`.
    pub(super) fn day(&self) -> String {
        day(self.saved)
    }

    /// Cells of the table for columns of a width of their own: how many letters each needs.
    pub(super) fn widths(&self) -> Vec<usize> {
        let column = |at: usize| {
            let cells = self.table.rows.iter().filter_map(move |row| row.get(at));
            let head = self.table.head.get(at).map_or(0, |h| h.len());
            cells.map(String::len).max().unwrap_or(0).max(head)
        };
        (0..self.table.head.len()).map(column).collect()
    }
}

/// `14 October 2026`.
pub(super) fn day(at: Stamp) -> String {
    let t = at.utc();
    let months = [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ];
    let month = usize::try_from(t.month() - 1)
        .ok()
        .and_then(|m| months.get(m));
    format!("{} {} {}", t.day(), month.unwrap_or(&"January"), t.year())
}

/// Fills in what stands in braces.
struct Fill<'a> {
    draw: &'a mut Draw,
    people: &'a [Person],
    setting: &'a Setting,
    saved: Stamp,
    vendor: &'static str,
}

impl Fill<'_> {
    fn text(&mut self, text: &str) -> String {
        let mut out = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            out.push_str(before);
            let Some((name, after)) = after.split_once('}') else {
                break;
            };
            out.push_str(&self.value(name));
            rest = after;
        }
        out.push_str(rest);
        // A sentence may begin with what is filled in.
        super::draw::capital(&out)
    }

    fn value(&mut self, name: &str) -> String {
        let t = self.saved.utc();
        match name {
            "company" => self.setting.company.clone(),
            "year" => t.year().to_string(),
            "month" => format!("{:02}", t.month()),
            "quarter" => ((t.month() - 1) / 3 + 1).to_string(),
            "date" => {
                let at = self.draw.moment(self.saved, 3, 60);
                day(at)
            }
            "person" => self.someone(1),
            "other" => self.someone(3),
            "host" => host(self.draw),
            "app" => self.draw.pick(APPS).to_owned(),
            "vendor" => self.vendor.to_owned(),
            "n" => self.draw.between(14, 180).to_string(),
            "small" => self.draw.between(3, 9).to_string(),
            "percent" => format!("99.{}", self.draw.between(52, 97)),
            "amount" => {
                let hundreds = self.draw.between(18, 420) * 100;
                format!("{},{:03}", hundreds / 1000, hundreds % 1000)
            }
            _ => String::new(),
        }
    }

    /// Person `first` or the one after.
    fn someone(&mut self, first: usize) -> String {
        let at = first + self.draw.index(2);
        self.people.get(at).map(Person::full).unwrap_or_default()
    }
}

fn host(draw: &mut Draw) -> String {
    let (word, _) = draw.pick(ROLES);
    format!("{word}{:02}", draw.between(1, 12))
}

fn table(kind: &str, draw: &mut Draw, setting: &Setting, people: &[Person]) -> Table {
    let owner = |draw: &mut Draw| {
        let at = draw.index(people.len());
        people.get(at).map(Person::full).unwrap_or_default()
    };
    match kind {
        "accounts" => Table {
            title: "Accounts",
            head: vec!["System", "Login", "Password", "Responsible"],
            rows: SYSTEMS
                .iter()
                .map(|system| {
                    let login = format!(
                        "{}-{}",
                        draw.pick(&["ext", "svc", "sup"]),
                        draw.person(&[]).login().replace('.', "")
                    );
                    vec![(*system).to_owned(), login, draw.password(), owner(draw)]
                })
                .collect(),
        },
        "costs" => Table {
            title: "Positions",
            head: vec!["Position", "Cost centre", "This year", "Next year"],
            rows: COSTS
                .iter()
                .map(|position| {
                    let this = draw.between(12, 900) * 100;
                    let next = this * draw.between(80, 135) / 100;
                    vec![
                        (*position).to_owned(),
                        draw.between(4100, 4890).to_string(),
                        this.to_string(),
                        next.to_string(),
                    ]
                })
                .collect(),
        },
        _ => {
            let net = draw.address();
            let net = net
                .rsplit_once('.')
                .map_or("10.1.1", |(net, _)| net)
                .to_owned();
            let mut last = draw.between(4, 20);
            let mut rows: Vec<Vec<String>> = ROLES
                .iter()
                .map(|(word, purpose)| {
                    last += draw.between(1, 14);
                    let name = format!("{word}{:02}.{}", draw.between(1, 12), setting.domain);
                    vec![
                        name,
                        format!("{net}.{last}"),
                        (*purpose).to_owned(),
                        owner(draw),
                    ]
                })
                .collect();
            let own = format!("{}.{}", setting.hostname, setting.domain);
            rows.insert(
                2,
                vec![
                    own,
                    format!("{net}.{}", last + 7),
                    "See ticket".to_owned(),
                    owner(draw),
                ],
            );
            Table {
                title: "Machines",
                head: vec!["Name", "Address", "Purpose", "Responsible"],
                rows,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::canary::Kind;

    #[test]
    fn every_story_is_whole_and_no_brace_is_left() {
        let now = Stamp::parse("2026-11-30T09:00:00Z").unwrap();
        let setting = Setting::new(&crate::canary::tests::place());
        assert!(outlines().len() >= 6);
        let mut titles = std::collections::BTreeSet::new();
        for seed in 0..300 {
            let mut draw = Draw::new(seed, Kind::Docx);
            let story = Story::new(&mut draw, &setting, now);
            assert!(story.sections.len() >= 2 && story.table.rows.len() >= 8);
            let all = format!("{story:?}");
            // Debug output of the story has braces of its own, so look at the texts.
            for section in &story.sections {
                assert!((2..=4).contains(&section.paragraphs.len()), "{section:?}");
                for text in &section.paragraphs {
                    assert!(!text.contains(['{', '}']) && !text.contains("  "), "{text}");
                }
            }
            assert!(
                all.is_ascii() && !story.stem.contains(['{', ' ', '/']),
                "{}",
                story.stem
            );
            titles.insert(story.stem);
        }
        assert!(titles.len() > 6, "{titles:?}");
    }
}
