//! Deciding parts of the capture path: cutting bytes into lines, knowing a file again,
//! how fast a source may go,
//! remembering which events are in a file. Values in, values out; the files themselves
//! are the collector's and the ingester's.

pub(crate) mod lines;
pub(crate) mod rate;
pub(crate) mod rotation;
pub(crate) mod seen;
