//! The session's store in memory, and what has changed in it since it was asked last.
//!
//! It is the same SQLite store as in a file, with all that the library does in it, and with the edge's own tables. Where
//! the tables come from does not matter here: triggers write down which rows have changed, in the transaction that changes
//! them. So what [`Image::changes`] returns is all of some transactions, in their order, and nothing of any other.
//!
//! A row is a key and a value for the journal: its table and primary key, and its cells. Which columns the cells
//! belong to is a value of its own (`layout`): after an update of the library a table may have more of them.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use diesel::connection::SimpleConnection as _;
use diesel::sql_types::{BigInt, Binary, Double, Text};
use diesel::sqlite::Sqlite;
use diesel::{Connection as _, QueryableByName, RunQueryDsl as _, SqliteConnection, sql_query};
use whatsapp_rust::bytes::Bytes;
use whatsapp_rust::store::{SqliteStore, SqliteStoreConfig, Synchronous};
use whatsapp_rust::wacore::store::error::{Result, StoreError};

use super::cells::{self, Layout, Value};
use crate::edge::journal::Change;

/// What a row's key begins with.
const ROW: u8 = b't';
/// What a layout's key begins with.
const LAYOUT: u8 = b'l';

/// Where triggers write down what has changed. The same row may be there many times: what to do about a conflict would
/// be up to the statement that changes it, and not to the trigger.
const CHANGED: &str =
    "CREATE TABLE connector_changed (place TEXT NOT NULL, row INTEGER NOT NULL, key TEXT NOT NULL)";

/// How many rows are put into a table with one statement. Those with the most columns bind some hundred values then.
const TOGETHER: usize = 32;

/// A table.
struct Table {
    name: String,
    layout: Layout,
    /// SQL that tells a row's primary key and its cells (`cells::on_side`).
    key: String,
    cells: String,
}

/// The store in memory. It is gone with its last handle.
#[derive(Clone)]
pub(super) struct Image {
    store: SqliteStore,
    tables: Arc<BTreeMap<String, Table>>,
    /// SQLite keeps such a database as long as somebody has a connection. The store may make its own anew.
    _keeper: Arc<Mutex<SqliteConnection>>,
}

impl std::fmt::Debug for Image {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Image").finish_non_exhaustive()
    }
}

#[derive(QueryableByName)]
struct Name {
    #[diesel(sql_type = Text)]
    name: String,
}

#[derive(QueryableByName)]
struct Column {
    #[diesel(sql_type = Text)]
    name: String,
    /// Its place in the primary key, from 1 on; 0: it is not in it.
    #[diesel(sql_type = BigInt)]
    pk: i64,
}

#[derive(QueryableByName)]
struct Changed {
    #[diesel(sql_type = Text)]
    place: String,
    #[diesel(sql_type = Text)]
    key: String,
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = Text)]
    key: String,
    #[diesel(sql_type = Text)]
    cells: String,
}

fn broken(error: diesel::result::Error) -> StoreError {
    StoreError::Database(Box::new(error))
}

pub(super) fn unreadable(why: &str) -> StoreError {
    StoreError::Validation(format!("the session on the bus cannot be read: {why}"))
}

impl Image {
    /// Makes a store of these rows. `make` makes the tables beside the library's.
    pub(super) async fn open(
        rows: Vec<(Bytes, Bytes)>,
        make: impl FnOnce(&mut SqliteConnection) -> Result<()> + Send + 'static,
    ) -> Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("file:session-{number}?mode=memory&cache=shared");
        let keeper =
            SqliteConnection::establish(&name).map_err(|error| StoreError::Connection(Box::new(error)))?;
        let config = SqliteStoreConfig { synchronous: Synchronous::Off, ..Default::default() }
            // Without it, what a REPLACE removes would not be told.
            .with_connection_init(|connection| {
                Ok(connection.batch_execute("PRAGMA recursive_triggers = ON")?)
            });
        let store = SqliteStore::with_config(&name, config).await?;
        let work = move |connection: &mut SqliteConnection| {
            make(connection)?;
            let tables = tables(connection)?;
            fill(connection, &tables, rows)?;
            watch(connection, &tables).map_err(broken)?;
            Ok(tables)
        };
        let tables = store.shared().run(work).await?;
        Ok(Self { store, tables: Arc::new(tables), _keeper: Arc::new(Mutex::new(keeper)) })
    }

    /// The store.
    pub(super) fn store(&self) -> &SqliteStore {
        &self.store
    }

    /// Which columns the rows' cells belong to. They have to be in the journal before the first row.
    pub(super) fn layouts(&self) -> Vec<Change> {
        let change = |table: &Table| {
            Change::set(layout_key(&table.name, table.layout.id()), table.layout.columns().join("\n"))
        };
        self.tables.values().map(change).collect()
    }

    /// What has changed since it was asked last.
    pub(super) async fn changes(&self) -> Result<Vec<Change>> {
        let tables = Arc::clone(&self.tables);
        let work = move |connection: &mut SqliteConnection| {
            let read = connection.immediate_transaction(|connection| read(connection, &tables));
            read.map_err(broken)?.into_iter().collect()
        };
        self.store.shared().run(work).await
    }
}

/// Does it belong to the store, and is no small file beside it?
pub(super) fn is_of_the_store(key: &Bytes) -> bool {
    matches!(key.first(), Some(&(ROW | LAYOUT)))
}

/// Is it a list of columns?
pub(super) fn is_layout(key: &Bytes) -> bool {
    key.first() == Some(&LAYOUT)
}

/// Do the cells of both belong to the same columns?
pub(super) fn have_one_layout(one: &[u8], other: &[u8]) -> bool {
    cells::layout_of(one) == cells::layout_of(other)
}

fn layout_key(table: &str, id: u32) -> Vec<u8> {
    [&[LAYOUT], table.as_bytes(), &[0], &id.to_be_bytes()].concat()
}

fn row_key(table: &str, key: &[u8]) -> Vec<u8> {
    [&[ROW], table.as_bytes(), &[0], key].concat()
}

/// All that is in a store, as keys and values of the journal.
pub(super) fn tell_all(connection: &mut SqliteConnection) -> Result<Vec<(Bytes, Bytes)>> {
    let mut all: Vec<(Bytes, Bytes)> = Vec::new();
    for Table { name, layout, key, cells } in tables(connection)?.values() {
        all.push((layout_key(name, layout.id()).into(), layout.columns().join("\n").into()));
        let (key, cells) = (cells::on_side(key, ""), cells::on_side(cells, ""));
        let rows: Vec<Row> = sql_query(format!("SELECT {key} AS key, {cells} AS cells FROM \"{name}\""))
            .load(connection)
            .map_err(broken)?;
        for Row { key, cells } in rows {
            let told = cells::encode_key(&key).zip(cells::encode(layout.id(), &cells));
            let (key, cells) =
                told.ok_or_else(|| StoreError::Validation("a row cannot be read".to_owned()))?;
            all.push((row_key(name, &key).into(), cells.into()));
        }
    }
    Ok(all)
}

/// Puts rows into a store whose tables are made and empty.
pub(super) fn put_all(connection: &mut SqliteConnection, rows: Vec<(Bytes, Bytes)>) -> Result<()> {
    let tables = tables(connection)?;
    fill(connection, &tables, rows)
}

/// The text in a column of the first row of a table.
pub(super) fn first_text<'a>(
    mut rows: impl Iterator<Item = (&'a Bytes, &'a Bytes)>,
    layout: impl Fn(&[u8]) -> Option<&'a Bytes>,
    table: &str,
    column: &str,
) -> Option<String> {
    let of_table = row_key(table, &[]);
    let (_, value) = rows.find(|(key, _)| key.starts_with(&of_table))?;
    let columns = layout(&layout_key(table, cells::layout_of(value)?))?;
    let at = String::from_utf8_lossy(columns).lines().position(|name| name == column)?;
    cells::text(value, at)
}

/// All tables but SQLite's own and those of who makes them.
fn tables(connection: &mut SqliteConnection) -> Result<BTreeMap<String, Table>> {
    let names: Vec<Name> = sql_query(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'
         AND name <> '__diesel_schema_migrations'",
    )
    .load(connection)
    .map_err(broken)?;
    let mut tables = BTreeMap::new();
    for Name { name } in names {
        let columns: Vec<Column> = sql_query("SELECT name, pk FROM pragma_table_info(?) ORDER BY cid")
            .bind::<Text, _>(&name)
            .load(connection)
            .map_err(broken)?;
        let mut key: Vec<_> = columns.iter().filter(|column| column.pk > 0).collect();
        key.sort_by_key(|column| column.pk);
        let key: Vec<_> = key.iter().map(|column| column.name.as_str()).collect();
        let layout = Layout::new(columns.iter().map(|column| column.name.clone()).collect());
        if key.is_empty() || layout.is_none() || !cells::is_name(&name) {
            return Err(StoreError::Validation(format!("the table {name} cannot be kept on the bus")));
        }
        let Some(layout) = layout else { continue };
        let (key, cells) = (cells::query(&key), cells::query(&layout.names()));
        tables.insert(name.clone(), Table { name, layout, key, cells });
    }
    Ok(tables)
}

/// Puts the rows into their tables.
fn fill(
    connection: &mut SqliteConnection,
    tables: &BTreeMap<String, Table>,
    rows: Vec<(Bytes, Bytes)>,
) -> Result<()> {
    let mut layouts: HashMap<(String, u32), Layout> = HashMap::new();
    let place = |key: &Bytes| -> Option<(String, Bytes)> {
        let at = key.iter().position(|byte| *byte == 0)?;
        Some((String::from_utf8(key.get(1..at)?.to_vec()).ok()?, key.slice(at + 1..)))
    };
    for (key, value) in rows.iter().filter(|(key, _)| key.first() == Some(&LAYOUT)) {
        let (table, id) = place(key).ok_or_else(|| unreadable("a layout has no name"))?;
        let id =
            u32::from_be_bytes(id.as_ref().try_into().map_err(|_| unreadable("a layout has no number"))?);
        let columns = String::from_utf8_lossy(value).lines().map(str::to_owned).collect();
        let layout = Layout::new(columns).ok_or_else(|| unreadable("a layout has no columns"))?;
        layouts.insert((table, id), layout);
    }
    // Those that go into one statement.
    let mut alike: BTreeMap<(String, u32), Vec<Vec<Option<Value>>>> = BTreeMap::new();
    for (key, value) in rows.iter().filter(|(key, _)| key.first() == Some(&ROW)) {
        let (name, _) = place(key).ok_or_else(|| unreadable("a row has no table"))?;
        let (id, cells) = cells::decode(value).ok_or_else(|| unreadable("a row is damaged"))?;
        alike.entry((name, id)).or_default().push(cells);
    }
    connection.batch_execute("BEGIN IMMEDIATE; PRAGMA defer_foreign_keys = ON").map_err(broken)?;
    for (of, rows) in &alike {
        let layout = layouts.get(of).ok_or_else(|| unreadable("a row has no layout"))?;
        let known = |table: &&Table| layout.is_part_of(&table.layout);
        let Some(table) = tables.get(&of.0).filter(known) else {
            return Err(unreadable("a newer version of this program has written it"));
        };
        if rows.iter().any(|cells| cells.len() != layout.columns().len()) {
            return Err(unreadable("a row is not as its table"));
        }
        for rows in rows.chunks(TOGETHER) {
            insert(connection, table, layout, rows).map_err(broken)?;
        }
    }
    connection.batch_execute("COMMIT").map_err(broken)
}

/// Puts rows into a table. To compile a statement costs more than to write a row, so one has many of them.
fn insert(
    connection: &mut SqliteConnection,
    table: &Table,
    layout: &Layout,
    rows: &[Vec<Option<Value>>],
) -> diesel::QueryResult<()> {
    let places = |cells: &Vec<Option<Value>>| {
        let places: Vec<_> = cells.iter().map(|cell| cells::place(cell.as_ref())).collect();
        format!("({})", places.join(","))
    };
    let (columns, values) = (layout.names().join(","), rows.iter().map(places).collect::<Vec<_>>().join(","));
    let text = format!("INSERT INTO \"{}\" ({columns}) VALUES {values}", table.name);
    let mut query = sql_query(text).into_boxed::<Sqlite>();
    for value in rows.iter().flatten().flatten() {
        query = match value {
            Value::Integer(number) => query.bind::<BigInt, _>(*number),
            Value::Real(number) => query.bind::<Double, _>(*number),
            Value::Text(bytes) | Value::Blob(bytes) => query.bind::<Binary, _>(bytes.as_slice()),
        };
    }
    query.execute(connection).map(drop)
}

/// From now on changes are written down.
fn watch(connection: &mut SqliteConnection, tables: &BTreeMap<String, Table>) -> diesel::QueryResult<()> {
    connection.batch_execute(CHANGED)?;
    for Table { name, key, .. } in tables.values() {
        for (event, sides) in [("INSERT", &["NEW"][..]), ("UPDATE", &["OLD", "NEW"]), ("DELETE", &["OLD"])] {
            let note = |side: &&str| {
                let key = cells::on_side(key, &format!("{side}."));
                format!("INSERT INTO connector_changed VALUES ('{name}', {side}.rowid, {key});")
            };
            let notes: String = sides.iter().map(note).collect();
            connection.batch_execute(&format!(
                "CREATE TRIGGER connector_{name}_{event} AFTER {event} ON \"{name}\" BEGIN {notes} END"
            ))?;
        }
    }
    Ok(())
}

/// What has changed, which is forgotten then.
fn read(
    connection: &mut SqliteConnection,
    tables: &BTreeMap<String, Table>,
) -> diesel::QueryResult<Vec<Result<Change>>> {
    let changed: Vec<Changed> =
        sql_query("SELECT DISTINCT place, key FROM connector_changed").load(connection)?;
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for Changed { place, key } in changed {
        places.entry(place).or_default().push(key);
    }
    let mut changes = Vec::new();
    for (place, keys) in places {
        let Some(table) = tables.get(&place) else { continue };
        let Table { key, cells, name, layout } = table;
        let (key, cells) = (cells::on_side(key, ""), cells::on_side(cells, ""));
        let rows: Vec<Row> = sql_query(format!(
            "SELECT {key} AS key, {cells} AS cells FROM \"{name}\"
             WHERE rowid IN (SELECT row FROM connector_changed WHERE place = '{name}')"
        ))
        .load(connection)?;
        let mut now: HashMap<String, String> = rows.into_iter().map(|row| (row.key, row.cells)).collect();
        for text in keys {
            let cells = now.remove(&text);
            let change = cells::encode_key(&text).zip(match cells {
                None => Some(None),
                Some(cells) => cells::encode(layout.id(), &cells).map(Some),
            });
            let change = change.map(|(key, value)| Change {
                key: row_key(name, &key).into(),
                value: value.map(Bytes::from),
            });
            changes.push(change.ok_or_else(|| StoreError::Validation("a row cannot be read".to_owned())));
        }
    }
    connection.batch_execute("DELETE FROM connector_changed")?;
    Ok(changes)
}

#[cfg(test)]
#[path = "image_tests.rs"]
mod tests;
