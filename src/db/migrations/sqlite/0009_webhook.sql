-- Receivers of events. URL, headers and signing secrets are sealed together: the URL of a
-- chat's incoming webhook is a password in itself.
create table webhooks (
    id              text    primary key,                 -- UUIDv7
    name            text    not null unique,
    format          text    not null,                    -- see export::Format
    template        text,
    patterns        text    not null,                    -- JSON list of bus patterns
    enabled         integer not null,
    sealed          text    not null,                    -- JSON under net::seal
    version         integer not null,
    created_by      text    not null,
    created_at      integer not null,
    updated_at      integer not null,
    -- What deliveries know of it.
    failures        integer not null default 0,          -- in a row
    open_until      integer,                             -- the circuit is open until then
    last_success_at integer,
    last_failure_at integer,
    last_error      text,
    dropped         integer not null default 0           -- events its full queue refused
);

-- The outbox: one row per event and receiver, written when the event is seen.
create table webhook_deliveries (
    id          integer primary key,
    webhook_id  text    not null references webhooks (id) on delete cascade,
    event_id    text    not null,
    event_at    integer not null,
    topic       text    not null,
    kind        text    not null,
    payload     text    not null,                        -- JSON
    status      text    not null,                        -- pending, delivered or dead
    attempts    integer not null default 0,
    next_at     integer not null,                        -- not before
    created_at  integer not null,                        -- seen, or replayed
    finished_at integer,
    last_status integer,                                 -- of the receiver's reply
    last_error  text,
    took_ms     integer,
    unique (webhook_id, event_id)
);
create index webhook_deliveries_queue on webhook_deliveries (webhook_id, status, id);
create index webhook_deliveries_over on webhook_deliveries (status, finished_at);
