//! The sandbox store: sixteen databases of keys, shared by the connections of one decky
//! and bounded in bytes. Nothing here touches a disk or a network.
//!
//! Keys lie in the order of their bit-reversed hash, which is the order in which the
//! real server's SCAN visits its buckets; a cursor is therefore a bucket number, as it
//! is there.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{DefaultHasher, Hasher};

use indexmap::{IndexMap, IndexSet};

use super::reply::{Fault, OOM, WRONG_TYPE};

/// Databases of a server.
pub(super) const DATABASES: usize = 16;
/// Most bytes of keys and values; equals the `maxmemory` the server claims.
pub(super) const MAX_BYTES: usize = 32 * 1024 * 1024;
/// Counted for every key and element besides its bytes.
const OVERHEAD: usize = 64;
/// Largest string an offset may make.
pub(super) const MAX_STRING: usize = 4 * 1024 * 1024;

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Str(Vec<u8>),
    List(VecDeque<Vec<u8>>),
    Hash(IndexMap<Vec<u8>, Vec<u8>>),
    Set(IndexSet<Vec<u8>>),
    Zset(IndexMap<Vec<u8>, f64>),
}

impl Value {
    /// As TYPE names it.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Value::Str(_) => "string",
            Value::List(_) => "list",
            Value::Hash(_) => "hash",
            Value::Set(_) => "set",
            Value::Zset(_) => "zset",
        }
    }

    fn is_empty(&self) -> bool {
        match self {
            Value::Str(_) => false,
            Value::List(items) => items.is_empty(),
            Value::Hash(items) => items.is_empty(),
            Value::Set(items) => items.is_empty(),
            Value::Zset(items) => items.is_empty(),
        }
    }

    /// Bytes it counts for.
    pub(super) fn weight(&self) -> usize {
        let of = |sizes: &mut dyn Iterator<Item = usize>| {
            sizes.fold(0usize, |sum, n| {
                sum.saturating_add(n).saturating_add(OVERHEAD)
            })
        };
        match self {
            Value::Str(text) => text.len(),
            Value::List(items) => of(&mut items.iter().map(Vec::len)),
            Value::Hash(items) => {
                of(&mut items.iter().map(|(k, v)| k.len().saturating_add(v.len())))
            }
            Value::Set(items) => of(&mut items.iter().map(Vec::len)),
            Value::Zset(items) => of(&mut items.keys().map(Vec::len)),
        }
    }
}

/// A key's value and what is known of it.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) value: Value,
    /// Milliseconds since the epoch.
    pub(super) expires: Option<i64>,
    /// Whether a visitor wrote it.
    pub(super) touched: bool,
    /// Last access, milliseconds since the epoch.
    pub(super) access: i64,
    /// Counts changes, for WATCH.
    pub(super) version: u64,
    bytes: usize,
}

type Keys = BTreeMap<(u64, Vec<u8>), Entry>;

/// All databases.
#[derive(Debug)]
pub(super) struct Store {
    dbs: Vec<Keys>,
    seed: u64,
    used: usize,
    changes: u64,
    /// Changes since the last SAVE.
    pub(super) dirty: u64,
    /// Keys that ran out.
    pub(super) expired: u64,
}

impl Store {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            dbs: (0..DATABASES).map(|_| Keys::new()).collect(),
            seed,
            used: 0,
            changes: 0,
            dirty: 0,
            expired: 0,
        }
    }

    fn place(&self, key: &[u8]) -> (u64, Vec<u8>) {
        let mut hasher = DefaultHasher::new();
        hasher.write_u64(self.seed);
        hasher.write(key);
        (hasher.finish(), key.to_vec())
    }

    /// Bytes held.
    pub(super) fn used(&self) -> usize {
        self.used
    }

    fn changed(&mut self) -> u64 {
        self.changes = self.changes.saturating_add(1);
        self.dirty = self.dirty.saturating_add(1);
        self.changes
    }

    /// The live entry of `key`; one that ran out is removed.
    pub(super) fn get(&mut self, db: usize, key: &[u8], now: i64) -> Option<&mut Entry> {
        let place = self.place(key);
        let keys = self.dbs.get_mut(db)?;
        let over = keys
            .get(&place)
            .is_some_and(|e| e.expires.is_some_and(|at| at <= now));
        if over {
            if let Some(gone) = keys.remove(&place) {
                self.used = self.used.saturating_sub(gone.bytes);
            }
            self.expired = self.expired.saturating_add(1);
            return None;
        }
        let entry = keys.get_mut(&place)?;
        entry.access = now;
        Some(entry)
    }

    /// Changes what `key` holds, making it with `empty` when absent. `change` says by how
    /// many bytes the value grew or shrank; a value left empty goes.
    pub(super) fn edit<T>(
        &mut self,
        db: usize,
        key: &[u8],
        now: i64,
        empty: fn() -> Value,
        change: impl FnOnce(&mut Value, &mut isize) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        if self.get(db, key, now).is_none() {
            self.put(db, key, empty(), None, now);
        }
        let place = self.place(key);
        let version = self.changed();
        let Some(keys) = self.dbs.get_mut(db) else {
            return Err(OOM);
        };
        let Some(entry) = keys.get_mut(&place) else {
            return Err(OOM);
        };
        let mut delta = 0isize;
        let outcome = change(&mut entry.value, &mut delta);
        entry.touched = true;
        entry.version = version;
        entry.bytes = entry.bytes.saturating_add_signed(delta);
        self.used = self.used.saturating_add_signed(delta);
        if entry.value.is_empty()
            && let Some(gone) = keys.remove(&place)
        {
            self.used = self.used.saturating_sub(gone.bytes);
        }
        outcome
    }

    /// Sets `key`, whatever it held.
    pub(super) fn put(
        &mut self,
        db: usize,
        key: &[u8],
        value: Value,
        expires: Option<i64>,
        now: i64,
    ) {
        let place = self.place(key);
        let version = self.changed();
        let bytes = value
            .weight()
            .saturating_add(key.len())
            .saturating_add(OVERHEAD);
        let Some(keys) = self.dbs.get_mut(db) else {
            return;
        };
        let entry = Entry {
            value,
            expires,
            touched: true,
            access: now,
            version,
            bytes,
        };
        if let Some(old) = keys.insert(place, entry) {
            self.used = self.used.saturating_sub(old.bytes);
        }
        self.used = self.used.saturating_add(bytes);
    }

    /// Sets or clears the time at which `key` goes; false when there is no key.
    pub(super) fn expire(&mut self, db: usize, key: &[u8], at: Option<i64>, now: i64) -> bool {
        let version = self.changes.saturating_add(1);
        let Some(entry) = self.get(db, key, now) else {
            return false;
        };
        entry.expires = at;
        entry.version = version;
        self.changed();
        if at.is_some_and(|at| at <= now) {
            self.remove(db, key, now);
        }
        true
    }

    pub(super) fn remove(&mut self, db: usize, key: &[u8], now: i64) -> Option<Entry> {
        self.get(db, key, now)?;
        let place = self.place(key);
        let gone = self.dbs.get_mut(db)?.remove(&place)?;
        self.used = self.used.saturating_sub(gone.bytes);
        self.changed();
        Some(gone)
    }

    /// The change count of `key`, 0 when absent.
    pub(super) fn version(&mut self, db: usize, key: &[u8], now: i64) -> u64 {
        self.get(db, key, now).map_or(0, |entry| entry.version)
    }

    /// Drops the keys that ran out, as the real server does in the background.
    pub(super) fn sweep(&mut self, db: usize, now: i64) {
        let Some(keys) = self.dbs.get_mut(db) else {
            return;
        };
        let before = keys.len();
        let mut freed = 0usize;
        keys.retain(|_, entry| {
            let live = entry.expires.is_none_or(|at| at > now);
            if !live {
                freed = freed.saturating_add(entry.bytes);
            }
            live
        });
        let gone = before.saturating_sub(keys.len());
        self.used = self.used.saturating_sub(freed);
        self.expired = self
            .expired
            .saturating_add(u64::try_from(gone).unwrap_or(u64::MAX));
    }

    /// All keys of a database with their entries.
    pub(super) fn iter(&self, db: usize) -> impl Iterator<Item = (&[u8], &Entry)> {
        self.dbs
            .get(db)
            .into_iter()
            .flatten()
            .map(|((_, key), entry)| (key.as_slice(), entry))
    }

    pub(super) fn len(&self, db: usize) -> usize {
        self.dbs.get(db).map_or(0, BTreeMap::len)
    }

    /// Empties one database, or all.
    pub(super) fn flush(&mut self, db: Option<usize>) {
        for (index, keys) in self.dbs.iter_mut().enumerate() {
            if db.is_none_or(|db| db == index) {
                let freed = keys
                    .values()
                    .fold(0usize, |sum, e| sum.saturating_add(e.bytes));
                self.used = self.used.saturating_sub(freed);
                keys.clear();
            }
        }
        self.changed();
    }

    pub(super) fn swap(&mut self, a: usize, b: usize) {
        if a < self.dbs.len() && b < self.dbs.len() {
            self.dbs.swap(a, b);
            self.changed();
        }
    }

    /// One SCAN step from `cursor`: about `count` keys and the next cursor.
    pub(super) fn scan(&self, db: usize, cursor: u64, count: usize) -> (u64, Vec<Vec<u8>>) {
        let Some(keys) = self.dbs.get(db) else {
            return (0, Vec::new());
        };
        // The table of a real server has at least four buckets and at most one key each.
        let buckets = keys.len().next_power_of_two().max(4);
        let mask = u64::try_from(buckets).unwrap_or(4).wrapping_sub(1);
        let bucket = |place: u64| place.reverse_bits() & mask;
        let start = (cursor & mask).reverse_bits();
        let mut found = Vec::new();
        let mut last = None;
        for ((place, key), _) in keys.range((start, Vec::new())..) {
            let here = bucket(*place);
            if found.len() >= count && last != Some(here) {
                return (here, found);
            }
            last = Some(here);
            found.push(key.clone());
        }
        (0, found)
    }

    /// Some key, chosen by `pick`.
    pub(super) fn any(&self, db: usize, pick: u64) -> Option<&[u8]> {
        let keys = self.dbs.get(db)?;
        keys.range((pick, Vec::new())..)
            .next()
            .or_else(|| keys.iter().next())
            .map(|((_, key), _)| key.as_slice())
    }

    /// Marks all that is there as the host's own.
    pub(super) fn settle(&mut self) {
        for entry in self.dbs.iter_mut().flat_map(BTreeMap::values_mut) {
            entry.touched = false;
        }
        self.dirty = 0;
    }
}

/// Bytes one element adds to the count.
pub(super) fn grown(bytes: usize) -> isize {
    isize::try_from(bytes.saturating_add(OVERHEAD)).unwrap_or(isize::MAX)
}

/// Bytes one element takes from the count.
pub(super) fn shrunk(bytes: usize) -> isize {
    grown(bytes).saturating_neg()
}

macro_rules! typed {
    ($read:ident, $write:ident, $variant:ident, $type:ty) => {
        impl Store {
            /// The value of `key` if it is of this type; `None` when absent.
            pub(super) fn $read(
                &mut self,
                db: usize,
                key: &[u8],
                now: i64,
            ) -> Result<Option<&$type>, Fault> {
                match self.get(db, key, now).map(|entry| &entry.value) {
                    None => Ok(None),
                    Some(Value::$variant(value)) => Ok(Some(value)),
                    Some(_) => Err(WRONG_TYPE),
                }
            }

            /// Changes the value of `key`, made when absent.
            pub(super) fn $write<T>(
                &mut self,
                db: usize,
                key: &[u8],
                now: i64,
                change: impl FnOnce(&mut $type, &mut isize) -> T,
            ) -> Result<T, Fault> {
                self.$read(db, key, now)?;
                self.edit(
                    db,
                    key,
                    now,
                    || Value::$variant(Default::default()),
                    |value, delta| match value {
                        Value::$variant(value) => Ok(change(value, delta)),
                        _ => Err(WRONG_TYPE),
                    },
                )
            }
        }
    };
}

typed!(string, string_mut, Str, Vec<u8>);
typed!(list, list_mut, List, VecDeque<Vec<u8>>);
typed!(hash, hash_mut, Hash, IndexMap<Vec<u8>, Vec<u8>>);
typed!(set, set_mut, Set, IndexSet<Vec<u8>>);
typed!(zset, zset_mut, Zset, IndexMap<Vec<u8>, f64>);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn filled(count: usize) -> Store {
        let mut store = Store::new(7);
        for n in 0..count {
            store.put(
                0,
                format!("k{n}").as_bytes(),
                Value::Str(vec![b'x'; n]),
                None,
                0,
            );
        }
        store
    }

    proptest! {
        #[test]
        fn a_whole_scan_gives_every_key_once(count in 0usize..300, step in 1usize..50) {
            let store = filled(count);
            let (mut cursor, mut seen) = (0, Vec::new());
            loop {
                let (next, keys) = store.scan(0, cursor, step);
                seen.extend(keys);
                if next == 0 { break; }
                cursor = next;
            }
            prop_assert_eq!(seen.len(), count);
            seen.sort();
            seen.dedup();
            prop_assert_eq!(seen.len(), count);
        }
    }

    #[test]
    fn what_is_removed_is_no_longer_counted() {
        let mut store = filled(50);
        store
            .list_mut(0, b"l", 0, |l, d| {
                l.push_back(vec![1; 9]);
                *d += grown(9);
            })
            .unwrap();
        store
            .list_mut(0, b"l", 0, |l, d| {
                l.pop_back();
                *d += shrunk(9);
            })
            .unwrap();
        assert!(store.get(0, b"l", 0).is_none());
        store.expire(0, b"k1", Some(5), 0);
        assert!(store.get(0, b"k1", 5).is_none());
        store.put(0, b"k2", Value::Str(Vec::new()), None, 0);
        store.remove(0, b"k3", 0);
        store.flush(None);
        assert_eq!(store.used(), 0);
    }
}
