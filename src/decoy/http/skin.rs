//! The table of web servers: how each reads a head, waits, refuses and answers. The
//! loop in [`super`] knows no server by name; everything it must ask is a cell here.

use crate::decoy::http::reply::{Body, Place, Reply};
use crate::decoy::http::request::{Bad, Head};
use crate::decoy::http::{
    apache, apache_head, cisco, emweb, iis, iis_head, lighttpd, lighttpd_head, nginx, nginx_head,
    plain_head,
};
use crate::persona::WebServer;

/// What a reader of heads gives; see [`super::request::parse`].
pub(super) type Parsed = Result<Option<(Head, usize)>, Bad>;

/// One server.
#[derive(Debug)]
pub(super) struct Skin {
    /// Seconds it waits for the first request, and for the next ones.
    pub(super) patience: (u64, u64),
    /// Seconds it waits for a body it wants, and for one it throws away.
    pub(super) body_patience: (u64, u64),
    /// Whether it says 408 to who began a head and fell silent.
    pub(super) farewell: bool,
    /// Whether it ends its side as soon as it will not read on, and says 100 Continue
    /// only to who still waits for it.
    pub(super) prompt: bool,
    /// Reads a head.
    pub(super) parse: fn(&[u8]) -> Parsed,
    /// Says when it reads the body.
    pub(super) body: fn(&Place<'_>, &Head) -> Body,
    /// Answers a request; the last argument is the name somebody tried to sign in with.
    pub(super) answer: fn(&Place<'_>, &Head, Option<&str>) -> Reply,
    /// Answers a head that was not understood.
    pub(super) refuse: fn(&Place<'_>, &Bad) -> Reply,
    /// Answers a body that breaks its own framing.
    pub(super) broken_body: fn(&Place<'_>, &Head) -> Reply,
    /// Answers a body that is too large.
    pub(super) large_body: fn(&Place<'_>, &Head) -> Reply,
    /// Answers a body that never came; `None` just hangs up.
    pub(super) late_body: Option<fn(&Place<'_>, &Head) -> Reply>,
}

static NGINX: Skin = Skin {
    patience: (60, 75),
    body_patience: (60, 5),
    farewell: false,
    prompt: false,
    parse: nginx_head::parse,
    body: nginx::body,
    answer: nginx::answer,
    refuse: nginx::refuse,
    broken_body: |place, head| nginx::error(place, head, 400, &[]),
    large_body: |place, head| nginx::error(place, head, 413, &[]),
    late_body: None,
};

static APACHE: Skin = Skin {
    patience: (20, apache::KEEP_ALIVE),
    body_patience: (10, 10),
    farewell: true,
    prompt: false,
    parse: apache_head::parse,
    body: apache::body,
    answer: apache::answer,
    refuse: apache::refuse,
    broken_body: apache::broken_body,
    large_body: |place, head| apache::error(place, head, 413, &[]),
    late_body: Some(|place, head| apache::error(place, head, 408, &[])),
};

static IIS: Skin = Skin {
    patience: (120, 120),
    body_patience: (120, 20),
    farewell: false,
    prompt: false,
    parse: iis_head::parse,
    body: iis::body,
    answer: iis::answer,
    refuse: iis::refuse,
    broken_body: iis::broken_body,
    large_body: |place, head| iis::page(place, head, 404, &[]),
    late_body: None,
};

static LIGHTTPD: Skin = Skin {
    patience: (60, 5),
    body_patience: (60, 5),
    farewell: false,
    prompt: true,
    parse: lighttpd_head::parse,
    body: lighttpd::body,
    answer: lighttpd::answer,
    refuse: lighttpd::refuse,
    broken_body: |place, head| lighttpd::error(place, head, 400, &[], true),
    large_body: |place, head| lighttpd::error(place, head, 413, &[], true),
    late_body: None,
};

static EMWEB: Skin = Skin {
    patience: (30, 30),
    body_patience: (30, 5),
    farewell: false,
    prompt: true,
    parse: plain_head::parse,
    body: emweb::body,
    answer: emweb::answer,
    refuse: emweb::refuse,
    broken_body: |place, head| emweb::error(place, head, 400),
    large_body: |place, head| emweb::error(place, head, 413),
    late_body: None,
};

static CISCO: Skin = Skin {
    patience: (180, 180),
    body_patience: (60, 5),
    farewell: false,
    prompt: true,
    parse: plain_head::parse,
    body: |_, _| Body::First(false),
    answer: cisco::answer,
    refuse: cisco::refuse,
    broken_body: |place, head| cisco::plain(place, head, 400),
    large_body: |place, head| cisco::plain(place, head, 413),
    late_body: None,
};

/// The row of `server`.
pub(super) fn skin(server: WebServer) -> &'static Skin {
    match server {
        WebServer::Nginx => &NGINX,
        WebServer::Apache => &APACHE,
        WebServer::Iis => &IIS,
        WebServer::Lighttpd => &LIGHTTPD,
        WebServer::Emweb => &EMWEB,
        WebServer::CiscoIos => &CISCO,
    }
}
