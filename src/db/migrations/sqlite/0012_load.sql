-- Events of one decky, service or kind, however rare, without going through the others.
create index logs_decky on logs (decky);
create index logs_service on logs (service);
create index logs_kind on logs (kind);

-- The ids that events of an hour have, so that a condition on time ends a search by id.
create table log_hours (
    hour     integer primary key,               -- since the epoch
    first_id integer not null,
    last_id  integer not null
);
insert into log_hours (hour, first_id, last_id)
    select ts / 3600000000, min(id), max(id) from logs group by 1;

-- One row per secret that attackers tried, and in how many places; kept in the transaction
-- of the credentials.
create table secrets (
    id               integer primary key autoincrement,
    secret_sha256    text    not null,
    secret_kind      text    not null,
    secret_printable text    not null,
    attackers        integer not null,        -- different ones
    deckies          integer not null,
    services         integer not null,
    attempts         integer not null,
    first_seen       integer not null,
    last_seen        integer not null,
    n                integer not null,        -- its newest credential
    unique (secret_sha256, secret_kind)
);
create index secrets_reused on secrets (n) where attackers > 1 or deckies > 1 or services > 1;

-- The places themselves: a letter for what it is (a, d, s; p for a name it was tried with)
-- and the place.
create table secret_places (
    secret integer not null,
    place  text    not null,
    primary key (secret, place)
) without rowid;

insert into secrets (secret_sha256, secret_kind, secret_printable, attackers, deckies, services,
        attempts, first_seen, last_seen, n)
    select secret_sha256, secret_kind, min(secret_printable), count(distinct attacker_ip),
        count(distinct decky), count(distinct service), sum(count), min(first_seen),
        max(last_seen), max(id)
    from credentials group by secret_sha256, secret_kind;
insert into secret_places (secret, place)
    select s.id, 'a' || c.attacker_ip from credentials c join secrets s
        on s.secret_sha256 = c.secret_sha256 and s.secret_kind = c.secret_kind
    union select s.id, 'd' || c.decky from credentials c join secrets s
        on s.secret_sha256 = c.secret_sha256 and s.secret_kind = c.secret_kind
    union select s.id, 's' || c.service from credentials c join secrets s
        on s.secret_sha256 = c.secret_sha256 and s.secret_kind = c.secret_kind
    union select s.id, 'p' || c.principal from credentials c join secrets s
        on s.secret_sha256 = c.secret_sha256 and s.secret_kind = c.secret_kind
        where c.principal <> '';

insert into counters (name, value) values
    ('sessions', (select count(*) from attack_sessions));
