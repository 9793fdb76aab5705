//! Events that keep coming while the API is asked: a file that grows as the collector
//! writes it, and the real ingester behind it.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::process::Child;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use decnet::model::Stamp;
use decnet::syslog;

use crate::seed::{Seeded, Source};

/// Appends in a second.
const BEATS: usize = 50;

/// Ends when dropped.
pub(crate) struct Live {
    ingester: Child,
    writer: Option<JoinHandle<()>>,
    over: Arc<AtomicBool>,
}

impl Live {
    /// Begins to write so many events a second.
    pub(crate) fn start(seeded: Seeded, rate: usize) -> Self {
        let log = seeded.dir.join("log");
        fs::create_dir_all(&log).unwrap();
        let ingester = crate::worker(&seeded, "ingester").spawn().unwrap();
        let over = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&over);
        let writer = std::thread::spawn(move || {
            let path = log.join("decnet.json");
            let options = OpenOptions::new().create(true).append(true).open(path);
            let mut file = options.unwrap();
            let mut source = Source::new(&seeded);
            while !told.load(Ordering::Relaxed) {
                let mut text = String::new();
                for _ in 0..rate.div_ceil(BEATS) {
                    let mut event = source.next();
                    event.ts = Stamp::now();
                    text.push_str(&syslog::to_json(&event, &syslog::write(&event)));
                    text.push('\n');
                }
                file.write_all(text.as_bytes()).unwrap();
                std::thread::park_timeout(Duration::from_secs(1) / u32::try_from(BEATS).unwrap());
            }
        });
        Self {
            ingester,
            writer: Some(writer),
            over,
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(writer) = self.writer.take() {
            let _ended = writer.join();
        }
        let _gone = self.ingester.kill();
        let _reaped = self.ingester.wait();
    }
}
