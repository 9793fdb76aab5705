-- Every captured event, once. Ids are given in commit order and never again.
create table logs (
    id       integer primary key autoincrement,
    eid      text    not null unique,         -- the exactly-once key, made by the decky
    ts       integer not null,                -- when it happened, decky's clock
    severity integer not null,
    decky    text    not null,
    service  text    not null,
    kind     text    not null,
    src_ip   text,                            -- the flow columns are all set or all null
    src_port integer,
    dst_ip   text,
    dst_port integer,
    proto    text,
    session  text,
    fields   text    not null,                -- JSON object, in emission order
    msg      text    not null
);
create index logs_ts on logs (ts);
create index logs_src_ip on logs (src_ip);
create index logs_session on logs (session);

-- One row per distinct credential an attacker tried on a service of a decky. The unique
-- key begins with the hash, so that "who else tried this secret" is a look-up too.
create table credentials (
    id               integer primary key autoincrement,
    secret_sha256    text    not null,
    attacker_ip      text    not null,
    decky            text    not null,
    service          text    not null,
    secret_kind      text    not null,
    principal        text    not null,        -- empty when none was given
    secret_printable text    not null,
    secret_b64       text    not null,
    crack            text,                    -- ready line for hashcat or john
    first_seen       integer not null,
    last_seen        integer not null,
    count            integer not null,
    unique (secret_sha256, attacker_ip, decky, service, secret_kind, principal)
);
create index credentials_attacker_ip on credentials (attacker_ip);

-- How far a reader of a file came; written in the transaction of what it read.
create table checkpoints (
    source      text    primary key,
    dev         integer not null,
    ino         integer not null,
    read_bytes  integer not null,
    mark        blob    not null,             -- first bytes of the file, to know it again
    updated_at  integer not null
);
