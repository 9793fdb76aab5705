//! Takes in the lines of one source: decides what is an event of that source, what is
//! there already, and what is too much.
//!
//! A decky that was taken over may write anything into its own spool. It cannot speak
//! for another (such lines are refused), and it cannot fill the files: beyond its rate
//! its events are shed and counted. Credentials are kept longest: they have a rate of
//! their own that only they use.

use std::path::Path;

use anyhow::Context;
use sha2::{Digest, Sha256};

use crate::capture::seen::Seen;
use crate::model::{Event, Severity, Stamp};
use crate::net::store::Store;
use crate::syslog;
use crate::worker::collector::artifact;
use crate::worker::collector::source::Pace;
use crate::worker::collector::state::{Cursor, Moment, Shed};

/// Longest event id accepted.
const EID_MAX: usize = 64;
/// What a line with a credential contains. Keys are never escaped.
const CREDENTIAL: &[u8] = b" secret_b64=\"";

/// Events already in the files that will be read once more.
#[derive(Debug)]
pub(super) struct Replay {
    pub(super) log: Seen,
    pub(super) json: Seen,
    /// What the memory must go on saying until the replay is over.
    pub(super) from: Moment,
}

/// Lines on their way into the two files.
#[derive(Debug, Default)]
pub(super) struct Pending {
    pub(super) log: Vec<u8>,
    pub(super) log_done: usize,
    pub(super) json: Vec<u8>,
    pub(super) json_done: usize,
    pub(super) events: u64,
    pub(super) read: usize,
    pub(super) more: bool,
}

impl Pending {
    fn push(&mut self, text: &str, event: &Event, in_log: bool, in_json: bool) {
        if !in_log {
            self.log.extend_from_slice(text.as_bytes());
            self.log.push(b'\n');
        }
        if !in_json {
            let json = syslog::to_json(event, text);
            self.json.extend_from_slice(json.as_bytes());
            self.json.push(b'\n');
            self.events += 1;
        }
    }

    /// The one event that stands for all that were shed from `decky` in a second.
    pub(super) fn push_shed(&mut self, decky: &str, key: &str, at: &Cursor, shed: &Shed) {
        let place = format!(
            "{key} {} {} {} {}",
            at.segment, at.offset, shed.from, shed.count
        );
        let fields = [
            ("count", shed.count.to_string()),
            ("from", Stamp(shed.from).to_string()),
            ("to", Stamp(shed.to).to_string()),
        ];
        let eid = derived_id(&[b"shed", place.as_bytes()], Stamp(shed.to));
        self.push_own(decky, "events_shed", eid, Stamp(shed.to), fields);
    }

    /// Says that captured files of `decky` had to go.
    pub(super) fn push_evicted(&mut self, decky: &str, files: u64, bytes: u64, now: Stamp) {
        let fields = [("files", files.to_string()), ("bytes", bytes.to_string())];
        let eid = ulid::Ulid::generate().to_string();
        self.push_own(decky, "artifacts_evicted", eid, now, fields);
    }

    fn push_own<const N: usize>(
        &mut self,
        decky: &str,
        kind: &str,
        eid: String,
        ts: Stamp,
        fields: [(&str, String); N],
    ) {
        let event = Event {
            eid,
            ts,
            severity: Severity::Warning,
            decky: decky.to_owned(),
            service: "decky".to_owned(),
            kind: kind.to_owned(),
            flow: None,
            fields: fields.map(|(k, v)| (k.to_owned(), v)).into(),
            msg: String::new(),
        };
        self.push(&syslog::write(&event), &event, false, false);
    }
}

/// An event id that is the same whenever it is made from the same parts.
pub(super) fn derived_id(parts: &[&[u8]], ts: Stamp) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let random = hash
        .finalize()
        .iter()
        .take(10)
        .fold(0u128, |sum, b| sum << 8 | u128::from(*b));
    let millis = u64::try_from(ts.0 / 1000).unwrap_or(0);
    ulid::Ulid::from_parts(millis, random).to_string()
}

/// Takes in the lines of one source.
pub(super) struct Intake<'a> {
    /// The decky all events must name; `None` where we wrote the lines ourselves.
    pub(super) decky: Option<&'a str>,
    pub(super) dir: &'a Path,
    pub(super) store: &'a mut Store,
    pub(super) replay: &'a mut Option<Replay>,
    pub(super) pending: &'a mut Pending,
    pub(super) now: Stamp,
    pub(super) damaged: u64,
}

impl Intake<'_> {
    pub(super) fn take(
        &mut self,
        line: &[u8],
        at: &mut Cursor,
        pace: &mut Pace,
        source: &mut String,
    ) -> anyhow::Result<()> {
        // What may be in the files already costs nothing; else judging comes after the
        // rate, so that a flood is cheap.
        let admitted = self.replay.is_some() || admit(line, pace);
        if !admitted {
            at.shed.add(self.now);
            return Ok(());
        }
        let Some((text, event)) = self.judge(line) else {
            self.damaged += 1;
            return Ok(());
        };
        if self.decky.is_none() && *source != event.decky {
            source.clone_from(&event.decky);
        }
        // Before anything is struck off: should it fail, the line comes again.
        if let Some(name) = artifact::named(&event) {
            artifact::stow(self.dir, self.store, &name, &event)
                .with_context(|| format!("storing the file {}", name.as_str()))?;
        }
        let (in_log, in_json) = match self.replay {
            Some(replay) => (replay.log.take(&event.eid), replay.json.take(&event.eid)),
            None => (false, false),
        };
        if self.replay.is_some() && !in_log && !in_json && !admit(line, pace) {
            at.shed.add(self.now);
            return Ok(());
        }
        self.pending.push(text, &event, in_log, in_json);
        Ok(())
    }

    /// The line as an event, if it is one and speaks only for its own decky: a decky
    /// that was taken over must not write the others' history.
    fn judge<'l>(&self, line: &'l [u8]) -> Option<(&'l str, Event)> {
        let text = std::str::from_utf8(line).ok()?;
        if text.chars().any(char::is_control) {
            return None;
        }
        let event = syslog::parse(text).ok()?;
        let named = self.decky.is_none_or(|decky| decky == event.decky);
        let identified = !event.eid.is_empty() && event.eid.len() <= EID_MAX;
        (named && identified).then_some((text, event))
    }
}

fn admit(line: &[u8], pace: &mut Pace) -> bool {
    pace.events.take() || (holds(line, CREDENTIAL) && pace.credentials.take())
}

fn holds(line: &[u8], what: &[u8]) -> bool {
    line.windows(what.len()).any(|w| w == what)
}
