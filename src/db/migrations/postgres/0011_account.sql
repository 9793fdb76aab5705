-- Sessions get a name that may be shown and say where they are used. The old ones say
-- neither: whoever is logged in during the upgrade logs in again.
drop table sessions;
create table sessions (
    token_sha256 bytea primary key,
    id           text collate "C" not null unique,                -- UUIDv7
    user_id      text collate "C" not null references users (id) on delete cascade,
    address      text collate "C" not null,                       -- where the login came from
    agent        text collate "C" not null,                       -- what the client called itself
    created_at   bigint not null,
    used_at      bigint not null,
    expires_at   bigint not null
);
create index sessions_user on sessions (user_id);
create index sessions_expires_at on sessions (expires_at);

-- The second factor: what an authenticator program on a telephone shares with us.
create table totp (
    user_id      text collate "C" primary key references users (id) on delete cascade,
    secret       text collate "C" not null,                       -- sealed, see net::seal
    last_step    bigint not null,                       -- newest time step whose code was taken
    created_at   bigint not null,
    confirmed_at bigint -- null until a first code was right
);

-- What opens the account when that telephone is lost, each once.
create table recovery_codes (
    user_id     text collate "C" not null references users (id) on delete cascade,
    code_sha256 bytea not null,
    primary key (user_id, code_sha256)
);

-- Passwords an account had before the present one; as many as may not be taken again.
create table former_passwords (
    user_id       text collate "C" not null references users (id) on delete cascade,
    password_hash text collate "C" not null,                      -- PHC string, salted: no two are alike
    replaced_at   bigint not null,
    primary key (user_id, password_hash)
);
