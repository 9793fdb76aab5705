-- What was asked of the fleet through the API and takes a while. How far it is follows from
-- the decky rows: targets holds the version each row has once the job is written.
create table jobs (
    id          text   collate "C" primary key,   -- UUIDv7, so in the order of time
    kind        text   collate "C" not null,
    status      text   collate "C" not null,      -- queued, running, succeeded, failed
    request     text   collate "C" not null,      -- JSON, for people
    targets     text   collate "C" not null,      -- JSON list of {name, version, gone}
    items       text   collate "C" not null,      -- JSON list of {name, state, detail}
    done        bigint not null,
    total       bigint not null,
    error       text   collate "C",
    created_by  text   collate "C" not null,
    created_at  bigint not null,
    updated_at  bigint not null,
    finished_at bigint
);
create index jobs_open on jobs (id) where status in ('queued', 'running');
