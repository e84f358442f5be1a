//! The objects of a schema as PostgreSQL describes them.

use diptych::projection::{ReaderName, SchemaObject};

use crate::{
    link::{Link, literal, quoted},
    trouble::Answer,
};

/// All tables, views, indexes and sequences of the schema, in order of creation. Constraints belong
/// to the text of their table. A view for readers has a comment with the digest of its text, so
/// that a view that was replaced differs.
const PRESENT: &str = r#"
with space as (select oid from pg_namespace where nspname = current_schema()),
columns as (
    select a.attrelid, string_agg(
        format('%I %s%s%s%s%s', a.attname, format_type(a.atttypid, a.atttypmod),
            case when a.attcollation <> t.typcollation
                then ' collate ' || a.attcollation::regcollation::text else '' end,
            case when a.attnotnull then ' not null' else '' end,
            case when a.attidentity <> '' then ' identity ' || a.attidentity::text else '' end
                || case when a.attgenerated <> '' then ' generated' else '' end,
            coalesce(' default ' || pg_get_expr(d.adbin, d.adrelid), '')),
        ', ' order by a.attnum) as sql
    from pg_attribute a
    join pg_class c on c.oid = a.attrelid and c.relnamespace = (select oid from space)
    join pg_type t on t.oid = a.atttypid
    left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
    where a.attnum > 0 and not a.attisdropped group by a.attrelid
),
rules as (
    select conrelid, string_agg(format('%I %s', conname, pg_get_constraintdef(oid, true)), ', '
        order by conname) as sql
    from pg_constraint where connamespace = (select oid from space)
        and contype in ('c', 'f', 'p', 'u', 'x')
    group by conrelid
),
views as (
    select c.oid, pg_get_viewdef(c.oid, true) as sql, obj_description(c.oid, 'pg_class') as told
    from pg_class c where c.relnamespace = (select oid from space) and c.relkind in ('v', 'm')
),
shown as (
    select oid, sql, told, 'diptych '
        || encode(sha256(convert_to(sql, 'UTF8')), 'hex') || ' shows ' as mark from views
)
select case c.relkind when 'v' then 'view' when 'm' then 'materialized view'
        when 'i' then 'index' when 'I' then 'index' when 'S' then 'sequence'
        when 'f' then 'foreign table' else 'table' end,
    c.relname::text,
    case
        when c.relkind in ('v', 'm') then (select case
            when starts_with(s.told, s.mark) then 'CREATE VIEW "' || replace(c.relname, '"', '""')
                || '" AS SELECT * FROM "'
                || replace(substr(s.told, length(s.mark) + 1), '"', '""') || '"'
            else s.sql end from shown s where s.oid = c.oid)
        when c.relkind in ('i', 'I') then pg_get_indexdef(c.oid, 0, true)
        when c.relkind = 'S' then (select format('%s %s %s %s %s %s', seqtypid::regtype, seqstart,
            seqincrement, seqmin, seqmax, seqcycle) from pg_sequence where seqrelid = c.oid)
        else c.relpersistence::text || ' (' || coalesce((select sql from columns
            where attrelid = c.oid), '') || ') ' || coalesce((select sql from rules
            where conrelid = c.oid), '') end
from pg_class c where c.relnamespace = (select oid from space)
    and c.relkind in ('r', 'p', 'f', 'v', 'm', 'i', 'I', 'S')
    and not exists (select 1 from pg_constraint where conindid = c.oid
        and contype in ('p', 'u', 'x') and c.relkind in ('i', 'I'))
    and not exists (select 1 from pg_depend where classid = 'pg_class'::regclass and objid = c.oid
        and refclassid = 'pg_class'::regclass and deptype in ('a', 'i') and c.relkind = 'S')
order by c.oid"#;

/// A digest of the versions of all rows that describe the schema.
const COUNT: &str = "
with own as materialized (select oid, xmin from pg_class where relnamespace =
    (select oid from pg_namespace where nspname = current_schema())),
parts as (
    select hashint8extended((oid::bigint << 32) | xmin::text::bigint, 0) as part from own
    union all
    select hashint8extended((a.attrelid::bigint << 32) | a.xmin::text::bigint, a.attnum)
        from own join pg_attribute a on a.attrelid = own.oid where a.attnum > 0
    union all
    select hashint8extended((t.oid::bigint << 32) | t.xmin::text::bigint, -1)
        from own join pg_trigger t on t.tgrelid = own.oid
    union all
    select hashint8extended((k.oid::bigint << 32) | k.xmin::text::bigint, -2)
        from own join pg_constraint k on k.conrelid = own.oid
    union all
    select hashint8extended((r.oid::bigint << 32) | r.xmin::text::bigint, -3)
        from own join pg_rewrite r on r.ev_class = own.oid
)
select coalesce(sum(part) % 4611686018427387904, 0)::bigint from parts";

/// Triggers and unique indexes on these tables that are not among these objects.
const FOREIGN_RULES: &str = "
with space as (select oid from pg_namespace where nspname = current_schema()),
own as (select oid, relname from pg_class
    where relnamespace = (select oid from space) and relname::text = any($1))
select 'trigger', t.tgname::text, o.relname::text from pg_trigger t
    join own o on o.oid = t.tgrelid where not t.tgisinternal
union all
select 'index', c.relname::text, o.relname::text from pg_index i
    join own o on o.oid = i.indrelid join pg_class c on c.oid = i.indexrelid
    where i.indisunique and c.relname::text <> all($1)
        and not exists (select 1 from pg_constraint where conindid = c.oid)
union all
select 'rule', r.rulename::text, o.relname::text from pg_rewrite r
    join own o on o.oid = r.ev_class where r.rulename <> '_RETURN'";

const FOREIGN_KEYS: &str = "
select c.relname::text, r.relname::text, k.condeferrable,
    c.relname::text = any($1) and c.relnamespace = r.relnamespace,
    r.relname::text = any($1) and c.relnamespace = r.relnamespace
from pg_constraint k join pg_class c on c.oid = k.conrelid join pg_class r on r.oid = k.confrelid
where k.contype = 'f' and (c.relnamespace = r.relnamespace or c.relname::text = any($1))
    and (c.relname::text = any($1) or r.relname::text = any($1))
    and c.relnamespace = (select oid from pg_namespace where nspname = current_schema())";

const IS_DEFERRED: &str = "
select exists (select 1 from pg_constraint k join pg_class c on c.oid = k.conrelid
    where k.condeferrable and c.relname::text = any($1)
        and c.relnamespace = (select oid from pg_namespace where nspname = current_schema()))";

pub(crate) fn present(link: &mut Link) -> Answer<Vec<SchemaObject>> {
    let rows = link.query(PRESENT, &[])?;
    let objects = rows.iter().map(|row| {
        Ok(SchemaObject { kind: row.try_get(0)?, name: row.try_get(1)?, sql: row.try_get(2)? })
    });
    objects.collect()
}

pub(crate) fn schema_count(link: &mut Link) -> Answer<i64> {
    let row = link.first(COUNT, &[])?;
    Ok(row.map_or(Ok(0), |row| row.try_get(0))?)
}

/// The view by which readers find an object under a name that all versions share, as
/// [`present`] describes it.
pub(crate) fn reader_view(reader: &ReaderName) -> SchemaObject {
    let [name, object] = [&reader.name, &reader.object].map(|name| quoted(name));
    let sql = format!("CREATE VIEW {name} AS SELECT * FROM {object}");
    SchemaObject { kind: "view".to_owned(), name: reader.name.clone(), sql }
}

pub(crate) fn show(link: &mut Link, reader: &ReaderName) -> Answer<()> {
    let view = reader_view(reader);
    link.execute_once(&view.sql)?;
    let digest = "select encode(sha256(convert_to(pg_get_viewdef(c.oid, true), 'UTF8')), 'hex')
        from pg_class c join pg_namespace n on n.oid = c.relnamespace
        where c.relname = $1::text and n.nspname = current_schema()";
    let row = link.first(digest, &[&reader.name])?;
    let digest: String = row.map_or(Ok(String::new()), |row| row.try_get(0))?;
    let told = literal(&format!("diptych {digest} shows {}", reader.object));
    link.execute_once(&format!("comment on view {} is {told}", quoted(&reader.name)))?;
    link.forget_plans();
    Ok(())
}

/// Removes these objects, last made first. Skips objects that are already gone.
pub(crate) fn remove(link: &mut Link, objects: &[SchemaObject]) -> Answer<()> {
    for SchemaObject { kind, name, .. } in objects.iter().rev() {
        link.execute_once(&format!("drop {kind} if exists {}", quoted(name)))?;
    }
    link.forget_plans();
    Ok(())
}

/// Finds a rule of others on the objects: its kind, its name, and the table.
pub(crate) fn foreign_rule(
    link: &mut Link,
    names: &[String],
) -> Answer<Option<(String, String, String)>> {
    let Some(row) = link.first(FOREIGN_RULES, &[&names])? else { return Ok(None) };
    Ok(Some((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?)))
}

/// A foreign key that leads from an own table to one of others.
pub(crate) fn foreign_reference(
    link: &mut Link,
    names: &[String],
) -> Answer<Option<(String, String)>> {
    for row in link.query(FOREIGN_KEYS, &[&names])? {
        let refers_to_own: bool = row.try_get(4)?;
        let is_own: bool = row.try_get(3)?;
        if !refers_to_own
            && (is_own || row.try_get::<_, String>(0).is_ok_and(|it| names.contains(&it)))
        {
            return Ok(Some((row.try_get(0)?, row.try_get(1)?)));
        }
    }
    Ok(None)
}

/// Whether a rule of the tables, or of others about them, is checked only at the commit.
pub(crate) fn has_deferred_rules(link: &mut Link, names: &[String]) -> Answer<bool> {
    let own = link.first(IS_DEFERRED, &[&names])?;
    if own.map_or(Ok(false), |row| row.try_get(0))? {
        return Ok(true);
    }
    for row in link.query(FOREIGN_KEYS, &[&names])? {
        if row.try_get(2)? {
            return Ok(true);
        }
    }
    Ok(false)
}
