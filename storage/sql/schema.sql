-- name: guards
-- Every constraint and trigger of the current schema, in words that are the same for the same guard.
select conrelid::regclass::text || ': ' || conname as guard,
       pg_get_constraintdef(oid, true) || case when convalidated then '' else ' not valid' end as definition
  from pg_constraint
 where connamespace = current_schema::regnamespace and contype <> 't' and conrelid <> 0
union all
select t.tgrelid::regclass::text || ': ' || t.tgname,
       replace(pg_get_triggerdef(t.oid, true), current_schema || '.', '') || case t.tgenabled when 'O' then '' else ' disabled' end
  from pg_trigger t join pg_class c on c.oid = t.tgrelid
 where not t.tgisinternal and c.relnamespace = current_schema::regnamespace
 order by 1
