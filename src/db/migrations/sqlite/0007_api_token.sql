-- Named keys for scripts. The token itself is nowhere: the key is its SHA-256.
create table api_tokens (
    token_sha256 blob    primary key,
    id           text    not null unique,                -- UUIDv7
    user_id      text    not null references users (id) on delete cascade,
    name         text    not null,
    role         text    not null,                       -- admin or viewer; never more than the owner's
    created_at   integer not null,
    expires_at   integer,
    used_at      integer
);
create index api_tokens_user on api_tokens (user_id);
