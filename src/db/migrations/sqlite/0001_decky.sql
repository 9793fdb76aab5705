-- The wanted fleet and what was last seen of it.
create table deckies (
    name       text    primary key,
    host       text    not null default 'local',
    ip         text    not null unique,
    services   text    not null,             -- JSON list of slugs
    persona    text    not null,             -- JSON, written once
    version    integer not null default 1,   -- counts up with every wanted change
    removed    integer not null default 0,
    state      text    not null default 'pending',
    last_error text,
    listeners  text    not null default '[]',-- JSON, as the process reports
    created_at integer not null,
    updated_at integer not null
);

-- One secret per installation, from which every persona is derived.
create table installation (
    id         integer primary key check (id = 1),
    secret     blob    not null,
    created_at integer not null
);
