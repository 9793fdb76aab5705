-- The wanted fleet and what was last seen of it. Texts of every table are compared byte by
-- byte ("C"), as the other engine does, whatever the language of the database is.
create table deckies (
    name       text    collate "C" primary key,
    host       text    collate "C" not null default 'local',
    ip         text    collate "C" not null unique,
    wish       text    collate "C" not null default '{}', -- JSON that deploy compares whole
    persona    text    collate "C" not null,              -- JSON, written once
    slot       bigint  not null default 0 unique,         -- gives it a user id of its own
    version    bigint  not null default 1,                -- counts up with every wanted change
    removed    boolean not null default false,
    state      text    collate "C" not null default 'pending',
    last_error text    collate "C",
    listeners  text    collate "C" not null default '[]', -- JSON, as the process reports
    mutated_at bigint  not null default 0,
    created_at bigint  not null,
    updated_at bigint  not null
);

-- One secret per installation, from which every persona is derived.
create table installation (
    id         bigint primary key check (id = 1),
    secret     bytea  not null,
    created_at bigint not null
);
