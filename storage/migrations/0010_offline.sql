-- Lane controllers that decide alone: what has changed in their lists, and what they upload.

-- Tickets that a lane must hear of anew, beside those that a grant, a passage or an end has moved (these are found by
-- their ledger_seq). Ticket 0: something that every list carries. Written in the transaction of the change by the one
-- writer of the site, so they are committed in order.
create table list_changes (
    site    text not null,
    change  bigint generated always as identity,
    ticket  bigint not null,
    primary key (site, change)
);

-- Every version that a lane was ever told, written before it is told: a crash gives none out twice. What was committed
-- up to `ledger_seq` and `change` is in it. The token tells two histories apart, should a backup be restored.
create table list_versions (
    site        text not null references sites,
    version     bigint not null check (version > 0),
    token       text not null check (token <> ''),
    ledger_seq  bigint not null check (ledger_seq >= 0),
    change      bigint not null check (change >= 0),
    keys        text not null,  -- a digest of the keys that went with it
    made_at     timestamptz not null,
    primary key (site, version)
);

create function list_tickets() returns trigger language plpgsql as $$
begin
    insert into list_changes (site, ticket) select distinct site, ticket from added;
    return null;
end $$;
create function list_everything() returns trigger language plpgsql as $$
begin
    insert into list_changes (site, ticket) select distinct site, 0 from added;
    return null;
end $$;
create function list_reversals() returns trigger language plpgsql as $$
begin
    insert into list_changes (site, ticket)
    select distinct a.site, e.ticket from added a join entitlements e on e.site = a.site and e.entitlement = a.entitlement;
    return null;
end $$;
create function list_ticket() returns trigger language plpgsql as $$
begin
    insert into list_changes (site, ticket) values (new.site, new.ticket);
    return null;
end $$;

-- No ticket is without a credential. What moves with every visitor is in none of the columns named here.
create trigger listed after insert on credentials referencing new table as added
    for each statement execute function list_tickets();
create trigger listed after insert on preprinted referencing new table as added
    for each statement execute function list_tickets();
create trigger listed after insert on products referencing new table as added
    for each statement execute function list_everything();
create trigger listed after insert on zone_stops referencing new table as added
    for each statement execute function list_everything();
create trigger listed after insert on reversals referencing new table as added
    for each statement execute function list_reversals();
create trigger listed_again after update of state, valid_from, valid_to, slot_from, slot_to on tickets
    for each row when (row (old.state, old.valid_from, old.valid_to, old.slot_from, old.slot_to)
                       is distinct from row (new.state, new.valid_from, new.valid_to, new.slot_from, new.slot_to))
    execute function list_ticket();
create trigger listed_again after update of state, issue_index on credentials
    for each row when (row (old.state, old.issue_index) is distinct from row (new.state, new.issue_index))
    execute function list_ticket();
create trigger listed_again after update of state on preprinted
    for each row when (old.state <> new.state) execute function list_ticket();
create trigger listed_again after update of sold, refunded, reserved_refund, set_aside on entitlements
    for each row when (row (old.sold, old.refunded, old.reserved_refund, old.set_aside)
                       is distinct from row (new.sold, new.refunded, new.reserved_refund, new.set_aside))
    execute function list_ticket();

-- A list is read by the tickets' end, so that last year's are never looked at; what begins soon is looked for by its
-- beginning.
create index tickets_by_end on tickets (site, valid_to, ticket);
create index tickets_by_begin on tickets (site, valid_from);

-- Uploads ------------------------------------------------------------------------------------------------------------

-- How far each journal is on disk, written with what its records did.
create table upload_marks (
    site       text not null references sites,
    device     text not null,
    journal    text not null check (journal <> ''),
    lane       text not null,
    upto       bigint not null check (upto > 0),
    booked_at  timestamptz not null,
    primary key (site, device, journal)
);
create function marks_go_on() returns trigger language plpgsql as $$
begin
    if new.upto <= old.upto or new.lane <> old.lane then
        raise exception 'the mark of journal % of % goes from % to %', old.journal, old.device, old.upto, new.upto
            using errcode = 'restrict_violation';
    end if;
    return new;
end $$;
create trigger marks_go_on before update on upload_marks for each row execute function marks_go_on();
create trigger kept before delete on upload_marks for each row execute function refuse_change();

-- What a lane granted alone, and what the rules say of it at the time of its scan. `booked`: it used the right.
-- `conflict`: the right was used elsewhere meanwhile, the grant is over as it begins. `refused`: there is no right.
create table offline_grants (
    site             text not null,
    device           text not null,
    journal          text not null,
    seq              bigint not null,
    lane             text not null,
    nonce            text not null check (nonce <> ''),
    kind             text not null,
    credential_hash  bytea not null,
    direction        text not null check (direction in ('entry', 'exit')),
    pax              int not null check (pax > 0),
    ticket           bigint,
    code             text not null check (code <> ''),
    outcome          text not null check (outcome in ('booked', 'conflict', 'refused')),
    grant_id         bigint,
    why              text not null,
    list_version     bigint not null,
    device_at        timestamptz not null,
    scan_at          timestamptz not null,  -- the same, put right by how far the lane's clock was off
    booked_at        timestamptz not null,
    check ((outcome = 'refused') = (grant_id is null)),
    check (outcome <> 'booked' or code = 'ok'),
    primary key (site, device, journal, seq),
    unique (site, device, nonce)
);

-- Somebody whom a lane let in alone, for whom there was no right left: by the identity of the passage. `other_lane` and
-- `other_at` say where and when the right was used last, if it was.
create table offline_conflicts (
    site        text not null,
    device      text not null,
    boot        text not null,
    direction   text not null,
    seq         bigint not null,
    lane        text not null,
    nonce       text not null,
    ticket      bigint,
    code        text not null check (code <> '' and code <> 'ok'),
    seen_at     timestamptz not null,
    other_lane  text not null,
    other_at    timestamptz,
    booked_at   timestamptz not null,
    primary key (site, device, boot, direction, seq),
    foreign key (site, device, boot, direction, seq) references passages,
    foreign key (site, device, nonce) references offline_grants (site, device, nonce)
);

create trigger append_only before update or delete on offline_grants for each row execute function refuse_change();
create trigger append_only_truncate before truncate on offline_grants
    for each statement execute function refuse_change();
create trigger append_only before update or delete on offline_conflicts for each row execute function refuse_change();
create trigger append_only_truncate before truncate on offline_conflicts
    for each statement execute function refuse_change();
