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

struct Bench {
    _dir: tempfile::TempDir,
    config: Config,
    spool: spool::Writer,
    written: Vec<String>,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().display().to_string();
        let config = Config::load(&Sources::new([("DECNET_STATE_DIR".to_owned(), state)])).unwrap();
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
            let event = Event {
                eid: eid.clone(),
                ts: Stamp(1_776_478_976_123_456 + i64::try_from(self.written.len()).unwrap()),
                severity: Severity::Info,
                decky: "d1".into(),
                service: "redis".into(),
                kind: "command".into(),
                flow: None,
                fields: Vec::new(),
                msg: String::new(),
            };
            self.spool.append(&syslog::write(&event)).unwrap();
            self.written.push(eid);
        }
    }

    fn open(&self) -> Engine {
        Engine::open(&self.config).unwrap()
    }

    fn files(&self) -> [PathBuf; 2] {
        [
            self.config.paths.event_log.clone(),
            self.config.paths.event_json(),
        ]
    }

    fn memory(&self) -> PathBuf {
        self.config.paths.state.join("collector.json")
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
    engine.forget_moments();
    engine.scan().unwrap();
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
        let memory = fs::read(bench.memory()).unwrap();
        let before: Vec<u64> = bench.files().iter().map(|f| fs::metadata(f).unwrap().len()).collect();
        bench.write(second);
        drain(&mut engine);
        drop(engine);
        fs::write(bench.memory(), memory).unwrap();
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
