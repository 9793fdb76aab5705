-- Tables whose key is most of the row: with row ids each was kept twice.
create table attacker_services_new (
    ip         text    not null,
    service    text    not null,
    events     integer not null,
    commands   integer not null,
    logins     integer not null,                 -- events that carried a credential
    first_seen integer not null,
    last_seen  integer not null,
    primary key (ip, service)
) without rowid;
insert into attacker_services_new
    select ip, service, events, commands, logins, first_seen, last_seen
    from attacker_services order by ip, service;
drop table attacker_services;
alter table attacker_services_new rename to attacker_services;

create table attacker_deckies_new (
    ip         text    not null,
    decky      text    not null,
    events     integer not null,
    first_seen integer not null,
    last_seen  integer not null,
    primary key (ip, decky)
) without rowid;
insert into attacker_deckies_new
    select ip, decky, events, first_seen, last_seen from attacker_deckies order by ip, decky;
drop table attacker_deckies;
alter table attacker_deckies_new rename to attacker_deckies;

create table log_minutes_new (
    minute  integer not null,                    -- since the epoch
    decky   text    not null,
    service text    not null,
    count   integer not null,
    hits    integer not null,
    primary key (minute, decky, service)
) without rowid;
insert into log_minutes_new
    select minute, decky, service, count, hits
    from log_minutes order by minute, decky, service;
drop table log_minutes;
alter table log_minutes_new rename to log_minutes;
