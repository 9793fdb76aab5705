-- What was asked of the fleet through the API and takes a while. How far it is follows from
-- the decky rows: targets holds the version each row has once the job is written.
create table jobs (
    id          text    primary key,          -- UUIDv7, so in the order of time
    kind        text    not null,
    status      text    not null,             -- queued, running, succeeded, failed
    request     text    not null,             -- JSON, for people
    targets     text    not null,             -- JSON list of {name, version, gone}
    items       text    not null,             -- JSON list of {name, state, detail}
    done        integer not null,
    total       integer not null,
    error       text,
    created_by  text    not null,
    created_at  integer not null,
    updated_at  integer not null,
    finished_at integer
);
create index jobs_open on jobs (id) where status in ('queued', 'running');
