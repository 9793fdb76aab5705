-- What is wanted of a decky becomes one JSON value that deploy compares whole; a small
-- number per decky gives it a user id of its own; the mutator remembers when it acted.
alter table deckies add column wish text not null default '{}';
update deckies set wish = json_object('runtime', 'local', 'services', json(services));
alter table deckies drop column services;
alter table deckies add column slot integer not null default 0;
update deckies set slot = rowid;
create unique index deckies_slot on deckies (slot);
alter table deckies add column mutated_at integer not null default 0;
update deckies set mutated_at = created_at;
