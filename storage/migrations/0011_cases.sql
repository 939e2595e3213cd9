-- What people did about a case: seen, given to somebody, a note, closed. The case itself keeps whether it still waits.

create table case_notes (
    site       text not null,
    note       bigint generated always as identity,
    case_id    bigint not null,
    at         timestamptz not null,
    user_name  text not null check (user_name <> ''),
    what       text not null check (what in ('acknowledged', 'assigned', 'note', 'closed')),
    detail     text not null,
    primary key (site, note),
    foreign key (site, case_id) references cases
);
create index case_notes_of_case on case_notes (site, case_id, note);

create trigger append_only before update or delete on case_notes for each row execute function refuse_change();
create trigger append_only_truncate before truncate on case_notes
    for each statement execute function refuse_change();
