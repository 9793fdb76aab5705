-- Who may use the API.
create table users (
    id                   text    primary key,            -- UUIDv7
    name                 text    not null unique,
    password_hash        text    not null,               -- PHC string, argon2id
    role                 text    not null,               -- admin or viewer
    must_change_password integer not null default 0,
    created_at           integer not null,
    updated_at           integer not null
);

-- Open logins. The token itself is nowhere: the key is its SHA-256.
create table sessions (
    token_sha256 blob    primary key,
    user_id      text    not null references users (id) on delete cascade,
    created_at   integer not null,
    used_at      integer not null,
    expires_at   integer not null
);
create index sessions_user on sessions (user_id);
create index sessions_expires_at on sessions (expires_at);

-- What people did through the API, and who tried to get in.
create table audit (
    id         integer primary key autoincrement,
    created_at integer not null,
    actor      text    not null,                         -- user name as given
    address    text    not null,                         -- where the request came from
    action     text    not null,                         -- login, worker.start, …
    target     text    not null default '',
    outcome    text    not null
);
