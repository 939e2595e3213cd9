-- The gates' tables are written many rows at a time, and a foreign key looks at each row for itself: eleven of them were
-- a third of PostgreSQL's time. What nobody may do to anybody (use a grant of another lane, use a right without having
-- passed) is still refused, by one look at all the rows that a statement adds. That a grant is on a right and between
-- zones, that a hold or an end is of a grant, is looked at by the audit; the ledger has them from these tables.
-- What is looked at can neither be deleted nor be named anew, so that looking once is enough.

alter table grants drop constraint grants_site_from_zone_fkey;
alter table grants drop constraint grants_site_to_zone_fkey;
alter table grants drop constraint grants_site_entitlement_fkey;
alter table holds drop constraint holds_site_grant_id_lane_fkey;
alter table grant_ends drop constraint grant_ends_site_grant_id_lane_fkey;
alter table passages drop constraint passages_site_from_zone_fkey;
alter table passages drop constraint passages_site_to_zone_fkey;
alter table passages drop constraint passages_site_grant_id_lane_fkey;
alter table redemptions drop constraint redemptions_site_device_boot_direction_seq_fkey;
alter table redemptions drop constraint redemptions_site_grant_id_entitlement_fkey;
alter table scans drop constraint scans_site_fkey;
alter table tickets drop constraint tickets_site_at_zone_fkey;
alter table grants drop constraint grants_site_grant_id_lane_key;
alter table grants drop constraint grants_site_grant_id_entitlement_key;

create trigger kept before delete on zones for each row execute function refuse_change();
create trigger named_once before update of site, zone on zones for each row execute function refuse_change();
create trigger kept before delete on entitlements for each row execute function refuse_change();
create trigger named_once before update of site, entitlement on entitlements
    for each row execute function refuse_change();

create function passages_are_on_their_grant() returns trigger language plpgsql as $$
begin
    perform from added a
       left join grants g on g.site = a.site and g.grant_id = a.grant_id and g.lane = a.lane
      where a.grant_id is not null and g.grant_id is null;
    if found then
        raise exception 'a passage is on no grant of its lane'
            using errcode = 'foreign_key_violation', table = tg_table_name, constraint = tg_name;
    end if;
    return null;
end $$;
create trigger passages_are_on_their_grant after insert on passages referencing new table as added
    for each statement execute function passages_are_on_their_grant();

create function redemptions_are_passages() returns trigger language plpgsql as $$
begin
    perform from added a
       left join passages p on p.site = a.site and p.device = a.device and p.boot = a.boot
                           and p.direction = a.direction and p.seq = a.seq
       left join grants g on g.site = a.site and g.grant_id = a.grant_id and g.entitlement = a.entitlement
      where p.seq is null or g.grant_id is null;
    if found then
        raise exception 'a redemption has no passage, or its grant is on another right'
            using errcode = 'foreign_key_violation', table = tg_table_name, constraint = tg_name;
    end if;
    return null;
end $$;
create trigger redemptions_are_passages after insert on redemptions referencing new table as added
    for each statement execute function redemptions_are_passages();

-- What moves with every visitor: room for the next version beside the last, so that no index is touched.
alter table entitlements set (fillfactor = 70);
alter table tickets set (fillfactor = 80);
alter table zones set (fillfactor = 20);
