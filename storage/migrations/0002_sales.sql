-- Orders, what was sold in them, and how it was paid. Money is integer cents.

create table orders (
    site          text not null references sites,
    order_id      bigint not null,
    channel       text not null check (channel <> ''),
    key           text not null check (key <> ''),
    user_name     text not null check (user_name <> ''),
    total_cents   bigint not null check (total_cents >= 0),
    change_cents  bigint not null check (change_cents >= 0),
    sold_at       timestamptz not null,
    primary key (site, order_id),
    unique (site, channel, key)  -- the same external order is the same order
);

create table order_lines (
    site              text not null,
    order_id          bigint not null,
    line              int not null check (line > 0),
    product           text not null,
    version           int not null,
    quantity          int not null check (quantity > 0),
    unit_price_cents  bigint not null check (unit_price_cents >= 0),
    visit_date        date not null,
    primary key (site, order_id, line),
    unique (site, order_id, line, product, version),
    foreign key (site, order_id) references orders,
    foreign key (site, product, version) references products
);

-- `tendered_cents` was handed over, `change_cents` of it given back; what stays adds up to the order's total.
create table payments (
    site            text not null,
    order_id        bigint not null,
    payment         int not null check (payment > 0),
    tender          text not null check (tender <> ''),
    tendered_cents  bigint not null check (tendered_cents > 0),
    change_cents    bigint not null default 0 check (change_cents >= 0 and change_cents <= tendered_cents),
    check (change_cents = 0 or tender = 'cash'),
    primary key (site, order_id, payment),
    foreign key (site, order_id) references orders
);

-- Issued once per place of a line: `number` counts from 1 to the line's quantity.
create table tickets (
    site        text not null,
    ticket      bigint not null,
    order_id    bigint not null,
    line        int not null,
    number      int not null check (number > 0),
    product     text not null,
    version     int not null,
    pax         int not null check (pax > 0),
    state       text not null default 'active'
                check (state in ('active', 'on_hold', 'void', 'refunded', 'unpaid', 'expired')),
    valid_from  timestamptz not null,
    valid_to    timestamptz not null,
    check (valid_from < valid_to),
    primary key (site, ticket),
    unique (site, order_id, line, number),
    foreign key (site, order_id, line, product, version)
        references order_lines (site, order_id, line, product, version)
);

-- The right to use one zone, and its counters in people. `sold` null is unlimited use. No holder of any code, on any
-- number of lanes, gets past this constraint.
create table entitlements (
    site             text not null,
    entitlement      bigint not null,
    ticket           bigint not null,
    zone             text not null,
    sold             int check (sold > 0),
    redeemed         int not null default 0 check (redeemed >= 0),
    held             int not null default 0 check (held >= 0),
    refunded         int not null default 0 check (refunded >= 0),
    reserved_refund  int not null default 0 check (reserved_refund >= 0),
    last_used_at     timestamptz,
    last_used_lane   text not null default '',
    constraint never_more_than_sold check (sold is null or redeemed + held + refunded + reserved_refund <= sold),
    primary key (site, entitlement),
    unique (site, ticket, zone),
    foreign key (site, ticket) references tickets,
    foreign key (site, zone) references zones
);

-- What opens a lane. Only keyed hashes: nobody can make a ticket from this table.
create table credentials (
    site        text not null,
    credential  bigint not null,
    ticket      bigint not null,
    kind        text not null check (kind in ('code', 'card')),
    value_hash  bytea not null check (octet_length(value_hash) >= 16),
    tail        text not null default '' check (char_length(tail) <= 8),
    state       text not null default 'active' check (state in ('active', 'lost', 'superseded', 'void')),
    primary key (site, credential),
    unique (site, kind, value_hash),
    foreign key (site, ticket) references tickets
);
create index credentials_of_ticket on credentials (site, ticket);

-- Annual cards: holder and face template, both encrypted with the data key before they come here.
create table passes (
    site                text not null,
    ticket              bigint not null,
    holder_enc          bytea,
    template_enc        bytea,
    template_algorithm  text not null default '',
    enrolled_at         timestamptz not null,
    primary key (site, ticket),
    foreign key (site, ticket) references tickets
);

create table print_jobs (
    site        text not null,
    job         bigint not null,
    order_id    bigint not null,
    ticket      bigint not null,
    printer     text not null check (printer <> ''),
    state       text not null default 'queued' check (state in ('queued', 'printing', 'done', 'failed')),
    detail      text not null default '',
    created_at  timestamptz not null,
    changed_at  timestamptz not null,
    primary key (site, job),
    unique (site, ticket),
    foreign key (site, order_id) references orders,
    foreign key (site, ticket) references tickets
);
create index print_jobs_of_order on print_jobs (site, order_id);
create index print_jobs_unfinished on print_jobs (site, job) where state in ('queued', 'printing', 'failed');

create trigger append_only before update or delete on orders for each row execute function refuse_change();
create trigger append_only_truncate before truncate on orders for each statement execute function refuse_change();
create trigger append_only before update or delete on order_lines for each row execute function refuse_change();
create trigger append_only_truncate before truncate on order_lines for each statement execute function refuse_change();
create trigger append_only before update or delete on payments for each row execute function refuse_change();
create trigger append_only_truncate before truncate on payments for each statement execute function refuse_change();
