-- What a product grants becomes data, and a right, a ticket, a credential and a grant remember what the rules ask.

-- `rules` is a `protocols.rights.ProductRules`. Versions of one product may wait for their day: a sale uses the newest
-- whose `effective_from` has come (null: always), and what was sold keeps its version.
alter table products add column rules jsonb, add column effective_from date;
alter table products disable trigger append_only;
update products
   set rules = jsonb_build_object(
           'rights', jsonb_build_array(
               jsonb_build_object('zones', to_jsonb(zones), 'uses', uses, 'min_gap_s', min_gap_s)),
           'days', days, 'needs_face', needs_face);
alter table products enable trigger append_only;
alter table products
    alter column rules set not null,
    add constraint products_rules_grant_something check (jsonb_array_length(rules -> 'rights') > 0),
    drop column uses, drop column days, drop column needs_face, drop column min_gap_s;

-- `slot_from`/`slot_to`: the time that was booked. `holder_hash`/`holder_enc`: the person that the ticket is bound to.
-- `at_zone`/`at_since`: where this person was last seen, by the time of the scan.
alter table tickets
    add column slot_from timestamptz,
    add column slot_to timestamptz,
    add column holder_hash bytea,
    add column holder_enc bytea,
    add column at_zone text,
    add column at_since timestamptz,
    drop constraint tickets_state_check,
    add constraint tickets_state_check check (state in ('blank', 'in_stock', 'reserved', 'unpaid', 'active', 'on_hold',
                                                        'blocked', 'void', 'refunded', 'expired')),
    add constraint tickets_slot check ((slot_from is null) = (slot_to is null) and slot_from < slot_to),
    add constraint tickets_seen check ((at_zone is null) = (at_since is null)),
    add foreign key (site, at_zone) references zones (site, zone);
create index tickets_of_holder on tickets (site, holder_hash) where holder_hash is not null;

-- `rule` is the place of the right in the product's rules; `zone` is null for a right that several zones share.
-- Counters of one business day belong to `day`: people who used the right, who came back, who were seen to leave and
-- have not come back. `reentries_held`: people who hold an open grant to come back.
alter table entitlements
    add column rule int not null default 0 check (rule >= 0),
    alter column zone drop not null,
    add column first_used_at timestamptz,
    add column day date,
    add column used_day int not null default 0 check (used_day >= 0),
    add column reentries_day int not null default 0 check (reentries_day >= 0),
    add column reentries_held int not null default 0 check (reentries_held >= 0),
    add column out_day int not null default 0 check (out_day >= 0),
    add column last_exit_at timestamptz,
    drop constraint entitlements_site_ticket_zone_key,
    add constraint entitlements_one_of_each unique nulls not distinct (site, ticket, rule, zone),
    add constraint entitlements_day check (day is not null or used_day + reentries_day + out_day = 0);

-- `issue_index`: a higher one supersedes lower ones. `value_enc`: an ID number, sealed. `personal`: one of many people
-- on a list, for one person only. Several tickets may hang on one ID number, on everything else only one.
alter table credentials
    add column issue_index int not null default 0 check (issue_index >= 0),
    add column value_enc bytea,
    add column personal boolean not null default false,
    drop constraint credentials_kind_check,
    add constraint credentials_kind_check check (kind in ('code', 'card', 'id_number', 'short')),
    drop constraint credentials_site_kind_value_hash_key,
    add constraint credentials_one_of_each unique (site, kind, value_hash, ticket);
create unique index credentials_one_ticket on credentials (site, kind, value_hash) where kind <> 'id_number';

-- How often a person of a list has used each right, and holds an open grant on it.
create table personal_uses (
    site         text not null,
    credential   bigint not null,
    entitlement  bigint not null,
    redeemed     int not null default 0 check (redeemed >= 0),
    held         int not null default 0 check (held between 0 and 1),
    primary key (site, credential, entitlement),
    foreign key (site, credential) references credentials,
    foreign key (site, entitlement) references entitlements
);

-- `entry` uses a right, `reentry` comes back on one, `exit` needs none: an unknown code opens the way out as well.
alter table grants
    add column kind text not null default 'entry' check (kind in ('entry', 'reentry', 'exit')),
    add column credential bigint,
    alter column ticket drop not null,
    alter column entitlement drop not null,
    add constraint grants_use_a_right check (kind = 'exit' or ticket is not null and entitlement is not null);

-- The time that counts: the device's, where it can be true.
alter table passages add column seen_at timestamptz;

-- Codes that were printed before anybody bought them: the ticket's number is drawn in advance. The code opens when it
-- is sold, which makes the ticket; a void or lost one never does.
create table preprinted (
    site         text not null references sites,
    ticket       bigint not null,
    batch        bigint not null,
    serial       bigint not null check (serial > 0),
    state        text not null default 'blank'
                 check (state in ('blank', 'at_printer', 'in_stock', 'sold', 'void', 'lost')),
    workstation  text not null default '',
    changed_at   timestamptz not null,
    primary key (site, ticket),
    unique (site, batch, serial)
);
