//! The engine against kills and rotations placed exactly where they hurt. The suite in
//! `tests/it/capture` does the same with real processes and a real logrotate.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use proptest::prelude::*;

use super::engine::Engine;
use crate::config::{Config, Sources};
use crate::model::{Event, Severity, Stamp};
use crate::syslog::{self, spool};

fn event(eid: &str) -> Event {
    Event {
        eid: eid.to_owned(),
        ts: Stamp(1_776_478_976_123_456),
        severity: Severity::Info,
        decky: "d1".into(),
        service: "redis".into(),
        kind: "command".into(),
        flow: None,
        fields: Vec::new(),
        msg: String::new(),
    }
}

struct Bench {
    _dir: tempfile::TempDir,
    config: Config,
    spool: spool::Writer,
    written: Vec<String>,
}

impl Bench {
    fn new() -> Self {
        Self::with(&[])
    }

    fn with(settings: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().display().to_string();
        let settings = settings
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        let settings = settings.chain([("DECNET_STATE_DIR".to_owned(), state)]);
        let config = Config::load(&Sources::new(settings)).unwrap();
        let decky = config.paths.decky("d1");
        fs::create_dir_all(&decky).unwrap();
        let spool = spool::Writer::open(&decky, 1 << 30).unwrap();
        Self {
            _dir: dir,
            config,
            spool,
            written: Vec::new(),
        }
    }

    fn write(&mut self, events: usize) {
        for _ in 0..events {
            let eid = format!("{:026}", self.written.len());
            let mut event = event(&eid);
            event.ts.0 += i64::try_from(self.written.len()).unwrap();
            self.spool.append(&syslog::write(&event)).unwrap();
            self.written.push(eid);
        }
    }

    fn open(&self) -> Engine {
        Engine::open(&self.config).unwrap()
    }

    fn log_text(&self) -> String {
        fs::read_to_string(&self.config.paths.event_log).unwrap_or_default()
    }

    fn files(&self) -> [PathBuf; 2] {
        [
            self.config.paths.event_log.clone(),
            self.config.paths.event_json(),
        ]
    }

    /// The files of the memory and what they hold.
    fn memory(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let entries = fs::read_dir(&self.config.paths.state).unwrap();
        (entries.map(|e| e.unwrap().path()))
            .filter(|p| p.display().to_string().contains("collector"))
            .map(|p| (p.clone(), fs::read(p).unwrap()))
            .collect()
    }

    fn restore(&self, memory: Vec<(PathBuf, Vec<u8>)>) {
        for (path, _) in self.memory() {
            fs::remove_file(path).unwrap();
        }
        for (path, content) in memory {
            fs::write(path, content).unwrap();
        }
    }

    /// Every event in either file and its rotated copies, counted.
    fn assert_exactly_once(&self) {
        for path in self.files() {
            let mut counts: BTreeMap<String, usize> = BTreeMap::new();
            for generation in ["", ".1", ".2", ".3"] {
                let name = format!("{}{generation}", path.display());
                let text = fs::read_to_string(name).unwrap_or_default();
                // Without its newline a line is unfinished, whatever it looks like.
                let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
                for line in whole.lines() {
                    let event = syslog::parse(line).or_else(|_| syslog::from_json(line));
                    if let Ok(event) = event {
                        *counts.entry(event.eid).or_default() += 1;
                    }
                }
            }
            let expected: BTreeMap<String, usize> =
                self.written.iter().map(|e| (e.clone(), 1)).collect();
            assert_eq!(counts, expected, "{}", path.display());
        }
    }
}

fn copy(path: &std::path::Path) -> PathBuf {
    crate::net::tail::copy_path(path)
}

fn drain(engine: &mut Engine) {
    while engine.waiting() {
        engine.turn().unwrap();
    }
}

/// Logrotate's copy, `gap` events, then its truncation.
fn rotate(bench: &mut Bench, engine: &mut Engine, gap: usize) {
    for path in bench.files() {
        let older = PathBuf::from(format!("{}.2", path.display()));
        if copy(&path).exists() {
            fs::rename(copy(&path), older).unwrap();
        }
        fs::copy(&path, copy(&path)).unwrap();
    }
    bench.write(gap);
    drain(engine);
    for path in bench.files() {
        fs::File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_len(0)
            .unwrap();
    }
}

#[test]
fn what_the_copy_missed_is_written_again() {
    let mut bench = Bench::new();
    let mut engine = bench.open();
    for _ in 0..2 {
        bench.write(20);
        drain(&mut engine);
        rotate(&mut bench, &mut engine, 7);
        bench.write(3);
        drain(&mut engine);
    }
    bench.assert_exactly_once();
}

#[test]
fn a_collector_killed_in_the_gap_makes_it_good_after_its_restart() {
    let mut bench = Bench::new();
    let mut engine = bench.open();
    bench.write(20);
    drain(&mut engine);
    rotate(&mut bench, &mut engine, 7);
    drop(engine);
    let mut engine = bench.open();
    drain(&mut engine);
    bench.assert_exactly_once();
    // And it settled: another restart finds nothing to do.
    drop(engine);
    assert!(!bench.open().waiting());
    bench.assert_exactly_once();
}

#[test]
fn a_full_disk_is_waited_for() {
    let mut bench = Bench::new();
    let log = bench.config.paths.event_log.clone();
    fs::create_dir_all(log.parent().unwrap()).unwrap();
    std::os::unix::fs::symlink("/dev/full", &log).unwrap();
    let mut engine = bench.open();
    bench.write(5);
    for _ in 0..3 {
        let error = format!("{:#}", engine.turn().unwrap_err());
        assert!(error.contains("decnet.log: No space left"), "{error}");
    }
    bench.write(5);
    fs::remove_file(&log).unwrap();
    drain(&mut engine);
    bench.assert_exactly_once();
}

#[test]
fn read_segments_go_when_no_moment_needs_them() {
    let mut bench = Bench::new();
    let mut engine = bench.open();
    let dir = bench.config.paths.decky("d1");
    for _ in 0..3 {
        bench.write(5);
        bench.spool = spool::Writer::open(&dir, 1 << 30).unwrap();
        drain(&mut engine);
    }
    engine.forget_moments().unwrap();
    engine.discover().unwrap();
    engine.sweep().unwrap();
    assert_eq!(spool::segments(&dir).unwrap(), vec![4]);
    bench.write(1);
    drain(&mut engine);
    bench.assert_exactly_once();
}

#[test]
fn a_decky_made_anew_under_an_old_name_is_read_from_its_beginning() {
    let mut bench = Bench::new();
    let mut engine = bench.open();
    bench.write(5);
    drain(&mut engine);
    drop(engine);
    let dir = bench.config.paths.decky("d1");
    fs::remove_dir_all(&dir).unwrap();
    fs::create_dir_all(&dir).unwrap();
    bench.spool = spool::Writer::open(&dir, 1 << 30).unwrap();
    bench.write(50);
    let mut engine = bench.open();
    drain(&mut engine);
    bench.assert_exactly_once();
}

/// What else lies in the spool of a decky that was taken over.
#[test]
fn a_hostile_spool_hurts_only_itself() {
    use std::os::unix::fs::symlink;
    let mut bench = Bench::new();
    let evil = bench.config.paths.decky("evil");
    fs::create_dir_all(&evil).unwrap();
    let at = |n: u64| spool::segment_path(&evil, n);
    let secret = bench.config.paths.state.join("secret");
    let line = |decky: &str, eid: &str| {
        let mut event = event(eid);
        event.decky = decky.into();
        format!("{}\n", syslog::write(&event))
    };
    fs::write(&secret, line("evil", "SECRET")).unwrap();
    symlink(&secret, at(1)).unwrap();
    nix::unistd::mkfifo(&at(2), nix::sys::stat::Mode::S_IRWXU).unwrap();
    fs::create_dir(at(3)).unwrap();
    // A file of holes, longer than any segment, with a line behind.
    let holes = fs::File::create(at(4)).unwrap();
    holes.set_len(1 << 40).unwrap();
    // Somebody else's name, and one very long line.
    fs::write(at(5), line("d1", "FOREIGN") + &"x".repeat(1_000_000) + "\n").unwrap();
    fs::write(at(6), line("evil", "OWN1")).unwrap();
    fs::write(evil.join("events.0000000007.spool\n"), line("evil", "NAME")).unwrap();
    for n in 0..2000 {
        fs::write(evil.join(format!("junk\n{n}")), "").unwrap();
    }
    symlink("/dev/zero", at(8)).unwrap();
    let mut engine = bench.open();
    bench.write(20);
    let mut turns = 0;
    while engine.waiting() {
        let turn = engine.turn().unwrap();
        assert!(turn.trouble.is_none());
        turns += 1;
        assert!(turns < 2000, "it never comes to rest");
        if turns == 1 {
            // The neighbour did not wait.
            assert!(bench.log_text().contains(bench.written.last().unwrap()));
        }
    }
    // The current segment shrinks and is taken away while it is followed.
    fs::remove_file(at(8)).unwrap();
    fs::write(at(9), line("evil", "OWN2").repeat(3)).unwrap();
    engine.discover().unwrap();
    drain(&mut engine);
    fs::write(at(9), "").unwrap();
    drain(&mut engine);
    fs::write(at(10), line("evil", "OWN3")).unwrap();
    engine.discover().unwrap();
    drain(&mut engine);
    engine.sweep().unwrap();
    let text = bench.log_text();
    for (id, there) in [
        ("SECRET", false),
        ("FOREIGN", false),
        ("NAME", false),
        ("OWN1", true),
        ("OWN2", true),
        ("OWN3", true),
    ] {
        assert_eq!(text.contains(&format!("eid=\"{id}\"")), there, "{id}");
    }
    assert!(
        engine.status(0).contains("damaged lines"),
        "{}",
        engine.status(0)
    );
    // Nothing it did survives a restart as trouble.
    drop(engine);
    let mut engine = bench.open();
    drain(&mut engine);
    bench.written.iter().for_each(|eid| {
        assert_eq!(
            bench.log_text().matches(&format!("eid=\"{eid}\"")).count(),
            1
        );
    });
}

/// The floods of five hundred do not keep one quiet decky waiting.
#[test]
fn every_turn_serves_every_decky() {
    let mut bench = Bench::new();
    for n in 0..500 {
        let dir = bench.config.paths.decky(&format!("flood{n:03}"));
        fs::create_dir_all(&dir).unwrap();
        fs::write(spool::segment_path(&dir, 1), "no event\n".repeat(40_000)).unwrap();
    }
    let mut engine = bench.open();
    engine.turn().unwrap();
    bench.write(1);
    let turns = (1..100).find(|_| {
        engine.turn().unwrap();
        bench.log_text().contains(bench.written.last().unwrap())
    });
    assert!(turns.is_some_and(|t| t <= 2), "{turns:?} turns");
}

#[test]
fn beyond_its_rate_a_decky_is_shed_and_counted_and_credentials_are_kept() {
    let mut bench = Bench::with(&[
        ("DECNET_COLLECTOR_MAX_EVENTS_PER_SEC", "1"),
        ("DECNET_SPOOL_MAX_MIB", "1"),
    ]);
    let mut engine = bench.open();
    bench.write(9000);
    let mut kept = event("CREDENTIAL");
    kept.fields = crate::model::Credential::plaintext(Some("root"), b"x").fields();
    bench.spool.append(&syslog::write(&kept)).unwrap();
    let quiet = bench.config.paths.decky("d2");
    fs::create_dir_all(&quiet).unwrap();
    let mut other = event("OTHER");
    other.decky = "d2".into();
    fs::write(spool::segment_path(&quiet, 1), syslog::write(&other) + "\n").unwrap();
    engine.discover().unwrap();
    drain(&mut engine);
    // A kill: what was counted and not reported yet is not forgotten.
    drop(engine);
    let mut engine = bench.open();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    let report = loop {
        drain(&mut engine);
        if let Some(line) = bench
            .log_text()
            .lines()
            .find(|l| l.contains(" events_shed "))
        {
            break syslog::parse(line).unwrap();
        }
        assert!(std::time::Instant::now() < deadline, "nothing was reported");
        std::thread::yield_now();
    };
    let text = bench.log_text();
    assert!(text.contains("\"CREDENTIAL\"") && text.contains("\"OTHER\""));
    let passed = text.matches(" command ").count() - 2;
    // The bucket holds what a spool of 1 MiB can: 8192 lines.
    assert!((8192..8300).contains(&passed), "{passed}");
    assert_eq!(report.decky, "d1");
    let count: usize = report.field("count").unwrap().parse().unwrap();
    assert_eq!(passed + count, 9000);
    assert!(report.field("from").unwrap() <= report.field("to").unwrap());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// A kill during the last turn leaves any part of its line file, or all of it and
    /// any part of its JSON file, and the memory of the turn before.
    #[test]
    fn a_turn_cut_anywhere_is_completed_after_the_restart(
        first in 0usize..5, second in 1usize..6, cut in 0u64..2000, rotated in any::<bool>(),
    ) {
        let mut bench = Bench::new();
        let mut engine = bench.open();
        bench.write(first);
        drain(&mut engine);
        let memory = bench.memory();
        let before: Vec<u64> = bench.files().iter().map(|f| fs::metadata(f).unwrap().len()).collect();
        bench.write(second);
        drain(&mut engine);
        drop(engine);
        bench.restore(memory);
        for (index, path) in bench.files().iter().enumerate() {
            let kept = cut.saturating_sub(index as u64 * 1000).min(1000);
            let file = fs::File::options().write(true).open(path).unwrap();
            let added = file.metadata().unwrap().len() - before[index];
            file.set_len(before[index] + added * kept / 1000).unwrap();
            if rotated {
                fs::copy(path, copy(path)).unwrap();
                file.set_len(0).unwrap();
            }
        }
        let mut engine = bench.open();
        drain(&mut engine);
        bench.assert_exactly_once();
    }
}
