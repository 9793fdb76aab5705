//! The files of one area (a home directory, the public area) in memory: bounded in
//! names and bytes, shared by all connections of the decky, so what one connection
//! uploads the next one finds. Knows paths, modes and times; formats nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::decoy::disk::Place;
use crate::model::Stamp;

/// Most names an area may hold.
const MAX_NAMES: usize = 1024;
/// Longest path.
const MAX_PATH: usize = 1024;
/// Most bytes of uploads an area keeps; the oldest go first.
const MAX_HELD: usize = 24 * 1024 * 1024;

/// Why a file operation failed, as the system call would say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// ENOENT
    Missing,
    /// ENOTDIR
    NotDir,
    /// EISDIR
    IsDir,
    /// ENOTEMPTY
    NotEmpty,
    /// EEXIST
    Exists,
    /// EACCES
    Denied,
    /// EINVAL
    Invalid,
    /// ENOSPC
    Full,
}

impl Fault {
    /// `strerror`.
    pub(super) fn text(self) -> &'static str {
        match self {
            Fault::Missing => "No such file or directory",
            Fault::NotDir => "Not a directory",
            Fault::IsDir => "Is a directory",
            Fault::NotEmpty => "Directory not empty",
            Fault::Exists => "File exists",
            Fault::Denied => "Permission denied",
            Fault::Invalid => "Invalid argument",
            Fault::Full => "No space left on device",
        }
    }
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    /// User id.
    pub(super) uid: u32,
    /// Group id.
    pub(super) gid: u32,
}

/// Where the bytes of a file come from.
#[derive(Clone, Debug)]
pub(super) enum Content {
    /// Drawn again from the persona each time; the number names what.
    Drawn(usize),
    /// Planted by the operator; lies on the disk.
    Planted(Place),
    /// Left by somebody. Shorter than the file's size when it was too large to keep.
    Kept(Arc<Vec<u8>>),
}

/// What a name stands for.
#[derive(Clone, Debug)]
pub(super) enum Kind {
    /// A directory.
    Dir,
    /// A file of `size` bytes.
    File {
        /// Bytes.
        size: u64,
        /// Their source.
        content: Content,
    },
}

/// One name.
#[derive(Clone, Debug)]
pub(super) struct Node {
    /// What it is.
    pub(super) kind: Kind,
    /// Permission bits.
    pub(super) mode: u32,
    /// Owner and group.
    pub(super) owner: Owner,
    /// Last change.
    pub(super) mtime: Stamp,
    /// Inode number.
    pub(super) inode: u64,
}

impl Node {
    pub(super) fn is_dir(&self) -> bool {
        matches!(self.kind, Kind::Dir)
    }

    /// Bytes, as `ls` shows them.
    pub(super) fn size(&self) -> u64 {
        match self.kind {
            Kind::Dir => 4096,
            Kind::File { size, .. } => size,
        }
    }

    /// Whether `who` has permission `bit` (4 read, 2 write, 1 search).
    pub(super) fn allows(&self, who: Owner, bit: u32) -> bool {
        let shift = if who.uid == self.owner.uid {
            6
        } else if who.gid == self.owner.gid {
            3
        } else {
            0
        };
        self.mode & (bit << shift) != 0
    }

    fn held(&self) -> usize {
        match &self.kind {
            Kind::File {
                content: Content::Kept(bytes),
                ..
            } => bytes.len(),
            _ => 0,
        }
    }
}

/// One area.
#[derive(Debug)]
pub(super) struct Tree {
    nodes: BTreeMap<String, Node>,
    next_inode: u64,
}

/// The absolute form of `arg` seen from `cwd`. `..` stops at the root.
pub(super) fn resolve(cwd: &str, arg: &str) -> String {
    let joined = if arg.starts_with('/') {
        arg.to_owned()
    } else {
        format!("{cwd}/{arg}")
    };
    let mut parts: Vec<&str> = Vec::new();
    for part in joined.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            name => parts.push(name),
        }
    }
    format!("/{}", parts.join("/"))
}

/// The directory and the name of an absolute path.
pub(super) fn split(path: &str) -> (&str, &str) {
    match path.rsplit_once('/') {
        Some(("", name)) => ("/", name),
        Some((parent, name)) => (parent, name),
        None => ("/", path),
    }
}

/// `name` in `dir`.
pub(super) fn join(dir: &str, name: &str) -> String {
    if dir == "/" {
        format!("/{name}")
    } else {
        format!("{dir}/{name}")
    }
}

impl Tree {
    /// An area holding only its root.
    pub(super) fn new(owner: Owner, mode: u32, mtime: Stamp, first_inode: u64) -> Self {
        let root = Node {
            kind: Kind::Dir,
            mode,
            owner,
            mtime,
            inode: first_inode,
        };
        Self {
            nodes: BTreeMap::from([("/".to_owned(), root)]),
            next_inode: first_inode.saturating_add(1),
        }
    }

    /// Adds a name while the area is being furnished; no permissions apply.
    pub(super) fn furnish(&mut self, path: &str, node: Node) {
        let inode = self.next_inode;
        // Inodes of one directory are near each other but not consecutive.
        let gap = 1u64.saturating_add(u64::try_from(path.len()).unwrap_or(0) % 7);
        self.next_inode = inode.saturating_add(gap);
        self.nodes.insert(path.to_owned(), Node { inode, ..node });
    }

    /// Takes `path` and all below it out; no permissions apply. The root only loses what
    /// it holds.
    pub(super) fn clear(&mut self, path: &str) {
        let below = if path == "/" {
            "/".to_owned()
        } else {
            format!("{path}/")
        };
        self.nodes
            .retain(|name, _| name == "/" || (name != path && !name.starts_with(&below)));
    }

    /// What `path` is.
    pub(super) fn get(&self, path: &str) -> Result<&Node, Fault> {
        if let Some(node) = self.nodes.get(path) {
            return Ok(node);
        }
        let mut parent = split(path).0;
        loop {
            match self.nodes.get(parent) {
                Some(node) if node.is_dir() => return Err(Fault::Missing),
                Some(_) => return Err(Fault::NotDir),
                None if parent == "/" => return Err(Fault::Missing),
                None => parent = split(parent).0,
            }
        }
    }

    /// The names in `dir` in byte order.
    pub(super) fn children(&self, dir: &str) -> Vec<(&str, &Node)> {
        let prefix = if dir == "/" {
            "/".to_owned()
        } else {
            format!("{dir}/")
        };
        self.nodes
            .range(prefix.clone()..)
            .take_while(|(path, _)| path.starts_with(&prefix))
            .filter_map(|(path, node)| {
                let name = path.strip_prefix(&prefix)?;
                (!name.is_empty() && !name.contains('/')).then_some((name, node))
            })
            .collect()
    }

    /// Link count: a directory has one per subdirectory and two of its own.
    pub(super) fn links(&self, path: &str, node: &Node) -> usize {
        if node.is_dir() {
            let subdirs = self.children(path).into_iter();
            subdirs
                .filter(|(_, n)| n.is_dir())
                .count()
                .saturating_add(2)
        } else {
            1
        }
    }

    /// Whether `who` may add and remove names beside `path`.
    fn may_change(&mut self, path: &str, who: Owner, now: Stamp) -> Result<(), Fault> {
        let parent = split(path).0.to_owned();
        let dir = self.get(&parent)?;
        if !dir.is_dir() {
            return Err(Fault::NotDir);
        }
        if !dir.allows(who, 2) {
            return Err(Fault::Denied);
        }
        if let Some(dir) = self.nodes.get_mut(&parent) {
            dir.mtime = now;
        }
        Ok(())
    }

    /// Makes a directory.
    pub(super) fn mkdir(
        &mut self,
        path: &str,
        mode: u32,
        who: Owner,
        now: Stamp,
    ) -> Result<(), Fault> {
        if self.nodes.contains_key(path) {
            return Err(Fault::Exists);
        }
        self.get(split(path).0)?;
        if self.nodes.len() >= MAX_NAMES || path.len() > MAX_PATH {
            return Err(Fault::Full);
        }
        self.may_change(path, who, now)?;
        self.furnish(
            path,
            Node {
                kind: Kind::Dir,
                mode,
                owner: who,
                mtime: now,
                inode: 0,
            },
        );
        Ok(())
    }

    /// Removes an empty directory.
    pub(super) fn rmdir(&mut self, path: &str, who: Owner, now: Stamp) -> Result<(), Fault> {
        let node = self.get(path)?;
        if !node.is_dir() {
            return Err(Fault::NotDir);
        }
        if path == "/" {
            return Err(Fault::Invalid);
        }
        if !self.children(path).is_empty() {
            return Err(Fault::NotEmpty);
        }
        self.may_change(path, who, now)?;
        self.nodes.remove(path);
        Ok(())
    }

    /// Removes a file.
    pub(super) fn unlink(&mut self, path: &str, who: Owner, now: Stamp) -> Result<(), Fault> {
        if self.get(path)?.is_dir() {
            return Err(Fault::IsDir);
        }
        self.may_change(path, who, now)?;
        self.nodes.remove(path);
        Ok(())
    }

    /// Renames a file or a directory with all it holds.
    pub(super) fn rename(
        &mut self,
        from: &str,
        to: &str,
        who: Owner,
        now: Stamp,
    ) -> Result<(), Fault> {
        let source_is_dir = self.get(from)?.is_dir();
        let below = format!("{from}/");
        if from == "/" || to.starts_with(&below) {
            return Err(Fault::Invalid);
        }
        if to.len() > MAX_PATH {
            return Err(Fault::Full);
        }
        match self.get(to) {
            Ok(target) if target.is_dir() && !source_is_dir => return Err(Fault::IsDir),
            Ok(target) if !target.is_dir() && source_is_dir => return Err(Fault::NotDir),
            Ok(_) if source_is_dir && !self.children(to).is_empty() => {
                return Err(Fault::NotEmpty);
            }
            Ok(_) => {}
            Err(Fault::Missing) => {
                self.get(split(to).0)?;
            }
            Err(fault) => return Err(fault),
        }
        if from == to {
            return Ok(());
        }
        self.may_change(from, who, now)?;
        self.may_change(to, who, now)?;
        let moved: Vec<String> = self
            .nodes
            .range(from.to_owned()..)
            .take_while(|(path, _)| path.starts_with(from))
            .filter(|(path, _)| *path == from || path.starts_with(&below))
            .map(|(path, _)| path.clone())
            .collect();
        for path in moved {
            if let (Some(node), Some(rest)) = (self.nodes.remove(&path), path.strip_prefix(from)) {
                self.nodes.insert(format!("{to}{rest}"), node);
            }
        }
        Ok(())
    }

    /// Whether a file may be written at `path`; says whether it exists.
    pub(super) fn may_write(&self, path: &str, who: Owner) -> Result<bool, Fault> {
        match self.get(path) {
            Ok(node) if node.is_dir() => Err(Fault::IsDir),
            Ok(node) if node.allows(who, 2) => Ok(true),
            Ok(_) => Err(Fault::Denied),
            Err(Fault::Missing) => {
                let parent = self.get(split(path).0)?;
                if !parent.allows(who, 2) {
                    Err(Fault::Denied)
                } else if self.nodes.len() >= MAX_NAMES || path.len() > MAX_PATH {
                    Err(Fault::Full)
                } else {
                    Ok(false)
                }
            }
            Err(fault) => Err(fault),
        }
    }

    /// Writes a file of `size` bytes of which `bytes` are kept. The oldest uploads
    /// vanish when the area holds too much.
    pub(super) fn write(
        &mut self,
        path: &str,
        bytes: Vec<u8>,
        size: u64,
        mode: u32,
        who: Owner,
        now: Stamp,
    ) -> Result<(), Fault> {
        let kind = Kind::File {
            size,
            content: Content::Kept(Arc::new(bytes)),
        };
        if self.may_write(path, who)? {
            if let Some(node) = self.nodes.get_mut(path) {
                node.kind = kind;
                node.mtime = now;
            }
        } else {
            self.may_change(path, who, now)?;
            self.furnish(
                path,
                Node {
                    kind,
                    mode,
                    owner: who,
                    mtime: now,
                    inode: 0,
                },
            );
        }
        self.make_room(path);
        Ok(())
    }

    fn make_room(&mut self, newest: &str) {
        while self.nodes.values().map(Node::held).sum::<usize>() > MAX_HELD {
            let oldest = self
                .nodes
                .iter()
                .filter(|(path, node)| node.held() > 0 && *path != newest)
                .min_by_key(|(_, node)| node.inode)
                .map(|(path, _)| path.clone());
            let Some(oldest) = oldest else {
                return;
            };
            self.nodes.remove(&oldest);
        }
    }

    /// Changes the mode; only the owner may.
    pub(super) fn chmod(&mut self, path: &str, mode: u32, who: Owner) -> Result<(), Fault> {
        self.owned(path, who)?.mode = mode & 0o777;
        Ok(())
    }

    /// Changes the time; only the owner may.
    pub(super) fn touch(&mut self, path: &str, mtime: Stamp, who: Owner) -> Result<(), Fault> {
        self.owned(path, who)?.mtime = mtime;
        Ok(())
    }

    fn owned(&mut self, path: &str, who: Owner) -> Result<&mut Node, Fault> {
        self.get(path)?;
        let node = self.nodes.get_mut(path).ok_or(Fault::Missing)?;
        if node.owner.uid == who.uid {
            Ok(node)
        } else {
            Err(Fault::Denied)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ME: Owner = Owner {
        uid: 1000,
        gid: 1000,
    };
    const NOW: Stamp = Stamp(1);

    fn tree() -> Tree {
        Tree::new(ME, 0o755, NOW, 100)
    }

    #[test]
    fn paths_stay_below_the_root() {
        assert_eq!(resolve("/a", "../../../etc/./x//y"), "/etc/x/y");
        assert_eq!(resolve("/a", ""), "/a");
        assert_eq!(resolve("/", ".."), "/");
    }

    #[test]
    fn renaming_a_directory_takes_what_it_holds() {
        let mut tree = tree();
        tree.mkdir("/a", 0o755, ME, NOW).unwrap();
        tree.write("/a/f", b"x".to_vec(), 1, 0o644, ME, NOW)
            .unwrap();
        tree.write("/a.txt", b"x".to_vec(), 1, 0o644, ME, NOW)
            .unwrap();
        tree.rename("/a", "/b", ME, NOW).unwrap();
        assert!(tree.get("/b/f").is_ok() && tree.get("/a.txt").is_ok());
        assert_eq!(tree.get("/a/f").unwrap_err(), Fault::Missing);
        assert_eq!(tree.rename("/b", "/b/c", ME, NOW), Err(Fault::Invalid));
        assert_eq!(tree.rmdir("/b", ME, NOW), Err(Fault::NotEmpty));
    }

    #[test]
    fn strangers_need_the_world_bits() {
        let mut tree = tree();
        let stranger = Owner { uid: 1, gid: 1 };
        assert_eq!(tree.mkdir("/x", 0o755, stranger, NOW), Err(Fault::Denied));
        tree.chmod("/", 0o777, ME).unwrap();
        tree.mkdir("/x", 0o755, stranger, NOW).unwrap();
        assert_eq!(tree.chmod("/x", 0o777, ME), Err(Fault::Denied));
    }

    #[test]
    fn uploads_are_bounded_in_names_and_bytes() {
        let mut tree = tree();
        for n in 0..8 {
            let path = format!("/big{n}");
            tree.write(&path, vec![0; MAX_HELD / 4], 1, 0o644, ME, NOW)
                .unwrap();
        }
        assert!(tree.get("/big0").is_err() && tree.get("/big7").is_ok());
        let full = (0..2 * MAX_NAMES)
            .find(|n| tree.mkdir(&format!("/d{n}"), 0o755, ME, NOW) == Err(Fault::Full));
        assert!(full.is_some());
    }

    proptest! {
        #[test]
        fn every_node_keeps_its_parent(
            steps in proptest::collection::vec((0u8..5, "[ab/.]{0,6}", "[ab/.]{0,6}"), 0..40),
        ) {
            let mut tree = tree();
            for (step, one, two) in steps {
                let (one, two) = (resolve("/", &one), resolve("/", &two));
                let done = match step {
                    0 => tree.mkdir(&one, 0o755, ME, NOW),
                    1 => tree.rmdir(&one, ME, NOW),
                    2 => tree.unlink(&one, ME, NOW),
                    3 => tree.rename(&one, &two, ME, NOW),
                    _ => tree.write(&one, vec![1], 1, 0o644, ME, NOW),
                };
                if done.is_ok() && step == 4 {
                    prop_assert!(tree.get(&one).is_ok());
                }
            }
            for path in tree.nodes.keys() {
                prop_assert!(tree.get(split(path).0).unwrap().is_dir(), "{path}");
            }
        }
    }
}
