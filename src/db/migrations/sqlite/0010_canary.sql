-- Canary tokens: bait that tells when somebody uses it. What a token looks like follows from
-- its kind, slug, seed, place and base, so its files can be made again at any time.
create table canary_blobs (
    sha256       text    primary key,
    name         text    not null,          -- as it was called when it was uploaded first
    size_bytes   integer not null,
    uploaded_by  text    not null,
    uploaded_at  integer not null
);
create table canary_tokens (
    id                text    primary key,  -- UUIDv7, so in the order of time
    slug              text    not null unique,
    kind              text    not null,
    memo              text    not null,     -- what the operator calls it
    decky             text,                 -- on which decky; null is a real machine
    path              text,                 -- where exactly; null is the kind's own place
    seed              text    not null,     -- hex
    place             text    not null,     -- JSON: the host the files are made for
    base              text    not null,     -- JSON: where the token calls
    blob              text    references canary_blobs (sha256),
    state             text    not null,     -- new, planted, revoked, failed
    last_error        text,
    planted           text    not null,     -- JSON list of the paths that were written
    created_by        text    not null,
    created_at        integer not null,
    planted_at        integer,
    revoked_at        integer,
    trigger_count     integer not null default 0,
    last_triggered_at integer
);
create index canary_tokens_decky on canary_tokens (decky, id);
create index canary_tokens_blob on canary_tokens (blob);

-- Each time a token was used. The same use again within a while counts up.
create table canary_triggers (
    n           integer primary key autoincrement,
    id          text    not null unique,    -- ULID; also the id of the event in the log
    token       text    not null references canary_tokens (id) on delete cascade,
    first_at    integer not null,
    last_at     integer not null,
    count       integer not null,
    address     text    not null,           -- the attacker's, as in attackers.ip
    port        integer,
    via         text    not null,           -- http, https, dns
    method      text    not null,           -- or the type of a DNS question
    path        text    not null,           -- or the name asked for
    user_agent  text    not null,           -- empty when there was none
    headers     text    not null,           -- JSON list of [name, value]
    body        text    not null,           -- empty when there was none
    resolver    text,                       -- who asked for somebody else
    fingerprint text                        -- JSON
);
create index canary_triggers_token on canary_triggers (token, n);
create index canary_triggers_address on canary_triggers (address, n);
