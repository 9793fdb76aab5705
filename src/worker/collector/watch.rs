//! Being told which spools changed, instead of looking at a thousand of them: one
//! inotify descriptor with a watch per directory. What it says is a hint; a lost one
//! costs the time to the next full look, never an event.

use std::collections::{BTreeSet, HashMap};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};
use tokio::io::unix::AsyncFd;

/// What changed since the last question.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// Hints were lost, or a directory of directories changed: look at everything.
    pub(super) all: bool,
    /// Spools with new bytes.
    pub(super) grown: BTreeSet<String>,
    /// Spools with new files.
    pub(super) entries: BTreeSet<String>,
}

/// Who is meant by a watch.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Target {
    Root,
    Spool(String),
}

#[derive(Debug)]
struct Descriptor(Inotify);

impl AsRawFd for Descriptor {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

/// The watches. Cloned freely; all clones are one.
#[derive(Clone, Debug)]
pub(super) struct Watch {
    inotify: Arc<AsyncFd<Descriptor>>,
    targets: Arc<Mutex<HashMap<WatchDescriptor, Target>>>,
}

impl Watch {
    /// A descriptor without watches.
    ///
    /// # Errors
    /// When the host allows no more of them; the caller polls then.
    pub(super) fn open() -> std::io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        #[expect(
            deprecated,
            reason = "its successor is unsafe code; this descriptor stays open as long as the value"
        )]
        let inotify = AsyncFd::new(Descriptor(inotify))?;
        Ok(Self {
            inotify: Arc::new(inotify),
            targets: Arc::default(),
        })
    }

    fn targets(&self) -> MutexGuard<'_, HashMap<WatchDescriptor, Target>> {
        self.targets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Watches a directory that holds spools. Repeating it costs one call; false when
    /// there is no such directory, and true only when it was not watched before.
    pub(super) fn root(&self, dir: &Path) -> bool {
        let flags = AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_MOVED_FROM
            | AddWatchFlags::IN_DELETE;
        self.add(dir, flags, &Target::Root).unwrap_or(false)
    }

    /// Watches one spool.
    ///
    /// # Errors
    /// When the host allows no more watches, or the directory is gone.
    pub(super) fn spool(&self, dir: &Path, key: &str) -> nix::Result<()> {
        let flags =
            AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO;
        self.add(dir, flags, &Target::Spool(key.to_owned()))?;
        Ok(())
    }

    fn add(&self, dir: &Path, flags: AddWatchFlags, target: &Target) -> nix::Result<bool> {
        let only = AddWatchFlags::IN_ONLYDIR | AddWatchFlags::IN_DONT_FOLLOW;
        let mut targets = self.targets();
        let descriptor = self.inotify.get_ref().0.add_watch(dir, flags | only)?;
        let before = targets.insert(descriptor, target.clone());
        Ok(before.as_ref() != Some(target))
    }

    /// Resolves when something changed.
    pub(super) async fn changed(&self) -> Changes {
        loop {
            let Ok(mut guard) = self.inotify.readable().await else {
                // The runtime is ending.
                std::future::pending::<()>().await;
                continue;
            };
            let (changes, emptied) = self.drain();
            // What is left behind must not be forgotten: readiness is edge-triggered.
            if emptied {
                guard.clear_ready();
            }
            if let Some(changes) = changes {
                return changes;
            }
        }
    }

    /// What changed until now, without waiting.
    pub(super) fn so_far(&self) -> Option<Changes> {
        self.drain().0
    }

    /// What waits, if anything does, and whether that was all.
    fn drain(&self) -> (Option<Changes>, bool) {
        let mut changes = Changes::default();
        let mut any = false;
        let mut targets = self.targets();
        // Bounded: what comes while reading may wait for the next time.
        for _ in 0..256 {
            let events = match self.inotify.get_ref().0.read_events() {
                Ok(events) => events,
                Err(Errno::EINTR) => continue,
                Err(Errno::EAGAIN) => return (any.then_some(changes), true),
                Err(error) => {
                    tracing::warn!("watching the spools: {error}");
                    changes.all = true;
                    return (Some(changes), true);
                }
            };
            any |= !events.is_empty();
            for event in events {
                if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
                    changes.all = true;
                } else if event.mask.contains(AddWatchFlags::IN_IGNORED) {
                    changes.all |= targets.remove(&event.wd) == Some(Target::Root);
                } else {
                    match targets.get(&event.wd) {
                        Some(Target::Root) => changes.all = true,
                        Some(Target::Spool(key)) => {
                            let set = if event.mask.contains(AddWatchFlags::IN_MODIFY) {
                                &mut changes.grown
                            } else {
                                &mut changes.entries
                            };
                            if !set.contains(key) {
                                set.insert(key.clone());
                            }
                        }
                        None => {}
                    }
                }
            }
        }
        (Some(changes), false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[tokio::test]
    async fn it_names_the_spool_that_changed_and_sees_new_ones() {
        let dir = tempfile::tempdir().unwrap();
        let watch = Watch::open().unwrap();
        assert!(!watch.root(&dir.path().join("missing")));
        assert!(watch.root(dir.path()) && !watch.root(dir.path()));
        let spool = dir.path().join("a");
        std::fs::create_dir(&spool).unwrap();
        assert!(watch.changed().await.all);
        watch.spool(&spool, "a").unwrap();
        let mut file = std::fs::File::create(spool.join("x")).unwrap();
        let changes = watch.changed().await;
        assert!(!changes.all && changes.entries.contains("a") && changes.grown.is_empty());
        file.write_all(b"x").unwrap();
        let changes = watch.changed().await;
        assert!(changes.grown.contains("a") && changes.entries.is_empty());
        std::fs::remove_dir_all(&spool).unwrap();
        assert!(watch.changed().await.all);
    }
}
