-- Changes of a decky's services over time: asked for, being tried, settled. The wish and
-- the persona of before are kept so that a refused change can be taken back after a
-- restart as well.
create table mutations (
    id           integer primary key autoincrement,
    decky        text    not null,
    cause        text    not null,            -- scheduled, operator, …
    actor        text,
    status       text    not null,            -- requested, applying, applied, failed
    step         text,                        -- 'open ftp', 'close redis', 'update'
    reason       text,                        -- why it failed
    old_wish     text,
    new_wish     text,
    old_persona  text,
    version      integer,                     -- of the decky row while applying
    requested_at integer not null,
    begun_at     integer,
    settled_at   integer
);
create index mutations_open on mutations (status) where status in ('requested', 'applying');
create index mutations_decky on mutations (decky, id);
