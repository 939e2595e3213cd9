-- What the office does: orders that wait for their money, slots, refunds, collections, name lists, cards, reversals,
-- code batches. Every row names the command that made it, and a command is carried out once.

-- `command` is the key that its sender gave it; `digest` tells the same command from another one under the same key,
-- `answer` is what it was answered with and is answered with again.
create table office_commands (
    site       text not null references sites,
    command    text not null check (command <> ''),
    action     text not null check (action <> ''),
    user_name  text not null check (user_name <> ''),
    role       text not null,
    reason     text not null,
    digest     bytea not null check (octet_length(digest) = 32),
    answer     bytea not null,
    booked_at  timestamptz not null,
    constraint office_commands_say_why check (reason <> '' or action in ('PaymentNotice', 'Collect', 'NamePeople',
                                              'CompleteRefund', 'ExpireOrder')),
    primary key (site, command)
);

-- Orders ------------------------------------------------------------------------------------------------------------

-- `supplement_of`: the group's order that this one adds people to.
alter table orders
    add column supplement_of bigint,
    add foreign key (site, supplement_of) references orders (site, order_id);
alter table order_lines add column slot text not null default '';  -- when it opens, HH:MM; empty: no slot

-- Places per product, date and slot, in people. No number of windows or lanes sells more than there are.
create table slots (
    site        text not null references sites,
    product     text not null,
    visit_date  date not null,
    opens       text not null check (opens <> ''),
    closes      text not null check (closes <> ''),
    total       int not null check (total >= 0),
    held        int not null default 0 check (held >= 0),
    sold        int not null default 0 check (sold >= 0),
    constraint slot_never_oversold check (sold + held <= total),
    primary key (site, product, visit_date, opens)
);

-- Orders that were not paid at once: the working set; what became of them stands in the commands. An order without a
-- row here was paid when it was made.
create table reservations (
    site        text not null,
    order_id    bigint not null,
    pay_by      timestamptz not null,
    printer     text not null default '',
    state       text not null default 'held' check (state in ('held', 'paid', 'expired', 'cancelled')),
    changed_at  timestamptz not null,
    primary key (site, order_id),
    foreign key (site, order_id) references orders
);
create index reservations_due on reservations (site, pay_by) where state = 'held';

-- Refunds -----------------------------------------------------------------------------------------------------------

-- `places`: people who will not come; `payment`: money that paid for nothing. What it costs is settled when it is
-- asked for; how far it is stands in the steps.
create table refunds (
    site          text not null,
    refund        bigint not null,
    order_id      bigint not null,
    ticket        bigint,
    kind          text not null check (kind in ('places', 'payment')),
    places        int not null check (places >= 0),
    amount_cents  bigint not null check (amount_cents >= 0),
    command       text not null,
    booked_at     timestamptz not null,
    check ((kind = 'places') = (ticket is not null) and (kind = 'places') = (places > 0)),
    primary key (site, refund),
    foreign key (site, order_id) references orders,
    foreign key (site, ticket) references tickets,
    foreign key (site, command) references office_commands deferrable initially deferred
);
create index refunds_of_order on refunds (site, order_id);

-- What it takes from each right, in uses.
create table refund_rights (
    site         text not null,
    refund       bigint not null,
    entitlement  bigint not null,
    taken        int not null check (taken > 0),
    primary key (site, refund, entitlement),
    foreign key (site, refund) references refunds,
    foreign key (site, entitlement) references entitlements
);
create index refund_rights_of_entitlement on refund_rights (site, entitlement);

-- What goes back to each payment.
create table refund_tenders (
    site          text not null,
    refund        bigint not null,
    order_id      bigint not null,
    payment       int not null,
    amount_cents  bigint not null check (amount_cents > 0),
    primary key (site, refund, payment),
    foreign key (site, refund) references refunds,
    foreign key (site, order_id, payment) references payments
);
create index refund_tenders_of_payment on refund_tenders (site, order_id, payment);

-- Papers and named places that were given up for it.
create table refund_credentials (
    site        text not null,
    refund      bigint not null,
    credential  bigint not null,
    primary key (site, refund, credential),
    foreign key (site, refund) references refunds,
    foreign key (site, credential) references credentials
);

create table refund_steps (
    site       text not null,
    refund     bigint not null,
    step       text not null check (step in ('approved', 'rejected', 'done')),
    command    text not null,
    booked_at  timestamptz not null,
    primary key (site, refund, step),
    foreign key (site, refund) references refunds,
    foreign key (site, command) references office_commands deferrable initially deferred
);
create unique index refund_decided_once on refund_steps (site, refund) where step <> 'done';

-- Each word of a payment provider, once. At most one of an order's notices issues it.
create table payment_notices (
    site          text not null,
    tender        text not null check (tender <> ''),
    key           text not null check (key <> ''),
    order_id      bigint not null,
    amount_cents  bigint not null check (amount_cents > 0),
    outcome       text not null check (outcome in ('paid', 'held_again', 'given_back')),
    refund        bigint,
    booked_at     timestamptz not null,
    check ((outcome = 'given_back') = (refund is not null)),
    primary key (site, tender, key),
    foreign key (site, order_id) references orders,
    foreign key (site, refund) references refunds
);
create unique index order_paid_once on payment_notices (site, order_id) where outcome <> 'given_back';

-- Tickets -----------------------------------------------------------------------------------------------------------

-- `set_aside`: uses promised to single people, as paper that was handed out or by name. What is promised is not
-- refunded, and the shared code does not use it.
alter table entitlements
    add column set_aside int not null default 0 check (set_aside >= 0),
    add constraint never_more_set_aside_than_sold
        check (sold is null and set_aside = 0 or set_aside + refunded + reserved_refund <= sold);
create index personal_uses_of_entitlement on personal_uses (site, entitlement);

create table ticket_holds (
    site       text not null,
    ticket     bigint not null,
    step       int not null check (step > 0),
    held       boolean not null,
    command    text not null,
    booked_at  timestamptz not null,
    check (held = (step % 2 = 1)),  -- held and resumed in turn
    primary key (site, ticket, step),
    foreign key (site, ticket) references tickets,
    foreign key (site, command) references office_commands deferrable initially deferred
);

create table collections (
    site         text not null,
    collection   bigint not null,
    ticket       bigint not null,
    places       int not null check (places > 0),
    workstation  text not null check (workstation <> ''),
    command      text not null,
    booked_at    timestamptz not null,
    primary key (site, collection),
    foreign key (site, ticket) references tickets,
    foreign key (site, command) references office_commands deferrable initially deferred
);
create index collections_of_ticket on collections (site, ticket);

-- The credentials of single people, and where they come from: a collection (paper) or a list of names. Nobody is on
-- the lists of one order twice.
create table personal_places (
    site        text not null,
    credential  bigint not null,
    ticket      bigint not null,
    order_id    bigint not null,
    collection  bigint,
    person      bytea,  -- the keyed hash of an ID number
    name_enc    bytea,
    command     text not null,
    check ((collection is null) <> (person is null)),
    primary key (site, credential),
    unique (site, order_id, person),
    foreign key (site, credential) references credentials,
    foreign key (site, ticket) references tickets,
    foreign key (site, order_id) references orders,
    foreign key (site, collection) references collections,
    foreign key (site, command) references office_commands deferrable initially deferred
);
create index personal_places_of_ticket on personal_places (site, ticket);

-- Places moved between tickets of one line.
create table transfers (
    site         text not null,
    transfer     bigint not null,
    from_ticket  bigint not null,
    to_ticket    bigint not null,
    places       int not null check (places > 0),
    command      text not null,
    booked_at    timestamptz not null,
    check (from_ticket <> to_ticket),
    primary key (site, transfer),
    foreign key (site, from_ticket) references tickets (site, ticket),
    foreign key (site, to_ticket) references tickets (site, ticket),
    foreign key (site, command) references office_commands deferrable initially deferred
);
create index transfers_from on transfers (site, from_ticket);
create index transfers_to on transfers (site, to_ticket);

alter table credentials
    drop constraint credentials_state_check,
    add constraint credentials_state_check
        check (state in ('blank', 'active', 'lost', 'frozen', 'superseded', 'void'));
create unique index one_card_of_an_issue on credentials (site, ticket, issue_index) where kind = 'card';
create unique index one_card_opens on credentials (site, ticket) where kind = 'card' and state = 'active';

create table card_events (
    site        text not null,
    event       bigint not null,
    credential  bigint not null,
    state       text not null check (state in ('active', 'lost', 'frozen')),
    command     text not null,
    booked_at   timestamptz not null,
    primary key (site, event),
    foreign key (site, credential) references credentials,
    foreign key (site, command) references office_commands deferrable initially deferred
);

-- An admission undone: a row against a redemption, at most one. `count_corrected`: nobody went in.
create table reversals (
    site             text not null,
    device           text not null,
    boot             text not null,
    direction        text not null,
    seq              bigint not null,
    entitlement      bigint not null,
    count_corrected  boolean not null,
    command          text not null,
    booked_at        timestamptz not null,
    primary key (site, device, boot, direction, seq),
    foreign key (site, device, boot, direction, seq) references redemptions,
    foreign key (site, entitlement) references entitlements,
    foreign key (site, command) references office_commands deferrable initially deferred
);
create index reversals_of_entitlement on reversals (site, entitlement);

-- Pre-printed codes -------------------------------------------------------------------------------------------------

create table code_batches (
    site        text not null references sites,
    batch       bigint not null,
    product     text not null,
    version     int not null,
    quantity    int not null check (quantity > 0),
    created_by  text not null check (created_by <> ''),
    command     text not null,
    created_at  timestamptz not null,
    primary key (site, batch),
    unique (site, batch, created_by),
    foreign key (site, product, version) references products,
    foreign key (site, command) references office_commands deferrable initially deferred
);

-- Two people see every export: whoever made the batch does not take it out.
create table code_exports (
    site         text not null,
    batch        bigint not null,
    export       int not null check (export > 0),
    sha256       bytea not null check (octet_length(sha256) = 32),
    handed_to    text not null check (handed_to <> ''),
    created_by   text not null,
    exported_by  text not null check (exported_by <> ''),
    command      text not null,
    booked_at    timestamptz not null,
    constraint code_exports_take_two_people check (exported_by <> created_by),
    primary key (site, batch, export),
    foreign key (site, batch, created_by) references code_batches (site, batch, created_by),
    foreign key (site, command) references office_commands deferrable initially deferred
);

create table code_moves (
    site         text not null,
    batch        bigint not null,
    move         bigint not null,
    first        bigint not null check (first > 0),
    last         bigint not null,
    state        text not null check (state in ('blank', 'at_printer', 'in_stock', 'sold', 'void', 'lost')),
    workstation  text not null default '',
    command      text not null,
    booked_at    timestamptz not null,
    check (last >= first),
    primary key (site, batch, move),
    foreign key (site, batch) references code_batches
);

alter table preprinted add foreign key (site, batch) references code_batches;
create index preprinted_by_state on preprinted (site, batch, state);

-- What happened stays as it happened.
do $$ declare name text; begin
    foreach name in array array['office_commands', 'refunds', 'refund_rights', 'refund_tenders', 'refund_credentials',
                                'refund_steps', 'payment_notices', 'ticket_holds', 'collections', 'personal_places',
                                'transfers', 'card_events', 'reversals', 'code_batches', 'code_exports', 'code_moves']
    loop
        execute format('create trigger append_only before update or delete on %I '
                       'for each row execute function refuse_change()', name);
        execute format('create trigger append_only_truncate before truncate on %I '
                       'for each statement execute function refuse_change()', name);
    end loop;
end $$;
