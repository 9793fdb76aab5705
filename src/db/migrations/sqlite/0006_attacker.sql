-- What events add up to, kept by the ingester in the transaction of each batch, so that no
-- page has to count events.
create table attackers (
    id               text    primary key,        -- UUIDv7
    ip               text    not null unique,
    country          text,                       -- ISO 3166-1 alpha-2
    first_seen       integer not null,
    last_seen        integer not null,
    event_count      integer not null,
    session_count    integer not null default 0,
    credential_count integer not null default 0, -- distinct ones
    command_count    integer not null default 0,
    artifact_count   integer not null default 0
);
create index attackers_last_seen on attackers (last_seen, id);
create index attackers_first_seen on attackers (first_seen, id);
create index attackers_event_count on attackers (event_count, id);

-- What an attacker did on a service, and on a decky.
create table attacker_services (
    ip         text    not null,
    service    text    not null,
    events     integer not null,
    commands   integer not null,
    logins     integer not null,                 -- events that carried a credential
    first_seen integer not null,
    last_seen  integer not null,
    primary key (ip, service)
);
create table attacker_deckies (
    ip         text    not null,
    decky      text    not null,
    events     integer not null,
    first_seen integer not null,
    last_seen  integer not null,
    primary key (ip, decky)
);

-- One connection of an attacker, from its first event to its last.
create table attack_sessions (
    n           integer primary key autoincrement,
    id          text    not null unique,
    attacker_ip text    not null,
    decky       text    not null,
    service     text    not null,
    started_at  integer not null,
    last_seen   integer not null,
    ended_at    integer,
    events      integer not null,
    commands    integer not null,
    logins      integer not null
);
create index attack_sessions_attacker_ip on attack_sessions (attacker_ip, n);
create index attack_sessions_decky on attack_sessions (decky, n);

-- Files that attackers left, and each time they did.
create table artifacts (
    n          integer primary key autoincrement,
    sha256     text    not null unique,
    size_bytes integer not null,
    name       text    not null,
    first_seen integer not null,
    last_seen  integer not null,
    count      integer not null
);
create table artifact_sightings (
    n           integer primary key autoincrement,
    sha256      text    not null,
    ts          integer not null,
    attacker_ip text    not null,
    decky       text    not null,
    service     text    not null,
    session     text    not null,
    name        text    not null
);
create index artifact_sightings_sha256 on artifact_sightings (sha256, n);
create index artifact_sightings_attacker_ip on artifact_sightings (attacker_ip, n);

-- Events per minute, decky and service; hits are those that somebody caused.
create table log_minutes (
    minute  integer not null,                    -- since the epoch
    decky   text    not null,
    service text    not null,
    count   integer not null,
    hits    integer not null,
    primary key (minute, decky, service)
);

-- Sums that would be slow to count. 'logs' is the number of events stored; 'backlog' the
-- newest id that was there before these tables were, 'gathered' how far it was gone
-- through since; 'words' the id up to which events can be found by word.
create table counters (
    name  text    primary key,
    value integer not null
);
insert into counters (name, value) values ('logs', (select count(*) from logs)),
    ('backlog', (select coalesce(max(id), 0) from logs)), ('gathered', 0), ('words', 0);

-- The words of events, by their id; without the text itself.
create virtual table log_words using fts5 (
    text, content = '', contentless_delete = 1, detail = 'none',
    tokenize = 'unicode61 remove_diacritics 0'
);
