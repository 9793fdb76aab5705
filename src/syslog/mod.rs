//! The event line: one writer and one parser, round-trip tested against hostile bytes.
//!
//! `<PRI>1 TIMESTAMP HOST APP - MSGID [relay@55555 k="v" …] MSG` (RFC 5424): facility
//! local0, UTC microseconds, HOST = decky name, APP = service slug, MSGID = event kind.
//! `eid` comes first, then `src_ip`, `src_port`, `dst_ip`, `dst_port`, `proto` and
//! `session` when there is a peer, then the event's own fields in order.
//!
//! Values escape `\`, `"` and `]` with a backslash (RFC 5424 §6.3.3). Control
//! characters (U+0000–U+001F, U+007F–U+009F) and U+2028/2029 are written `\u{hex}`, so
//! nothing an attacker sends can end a record; a backslash itself is always escaped,
//! so the reader can tell the two apart.

mod json;
mod line;
pub mod spool;

pub use json::{fields_json, from_json, to_json};
pub use line::{Bad, parse, write};
