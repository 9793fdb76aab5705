-- Named keys for scripts. The token itself is nowhere: the key is its SHA-256.
create table api_tokens (
    token_sha256 bytea  primary key,
    id           text   collate "C" not null unique,        -- UUIDv7
    user_id      text   collate "C" not null references users (id) on delete cascade,
    name         text   collate "C" not null,
    role         text   collate "C" not null,               -- admin or viewer; never more than the owner's
    created_at   bigint not null,
    expires_at   bigint,
    used_at      bigint
);
create index api_tokens_user on api_tokens (user_id);
