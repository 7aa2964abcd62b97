use whatsapp_rust::traits::DeviceStore as _;
use whatsapp_rust::traits::{LidPnMappingEntry, ProtocolStore as _, SignalStore as _};

use super::*;
use crate::edge::session::{media, polls};

/// What a journal has.
#[derive(Default)]
struct Paper(BTreeMap<Bytes, Bytes>);

impl Paper {
    fn take(&mut self, changes: Vec<Change>) -> usize {
        let count = changes.len();
        for Change { key, value } in changes {
            match value {
                Some(value) => self.0.insert(key, value),
                None => self.0.remove(&key),
            };
        }
        count
    }

    async fn open(&mut self) -> Image {
        let rows = self.0.clone().into_iter().collect();
        let image = Image::open(rows, |connection| {
            polls::make(connection)?;
            media::make(connection)
        });
        let image = image.await.unwrap();
        self.take(image.layouts());
        image
    }
}

fn mapping(lid: &str, phone: &str) -> LidPnMappingEntry {
    LidPnMappingEntry {
        lid: lid.to_owned(),
        phone_number: phone.to_owned(),
        created_at: 1,
        updated_at: 2,
        learning_source: "it's \"a\", b\n".to_owned(),
    }
}

#[tokio::test]
async fn what_is_told_makes_the_same_store_again() {
    let mut paper = Paper::default();
    let image = paper.open().await;
    assert!(image.changes().await.unwrap().is_empty());
    let store = image.store();
    store.create().await.unwrap();
    store.put_session("5491112345678.0", &[0, 255, 39]).await.unwrap();
    store.put_session("5491187654321.0", b"").await.unwrap();
    store.put_lid_mapping(&mapping("987", "54911")).await.unwrap();
    store.store_prekey(7, b"key", true).await.unwrap();
    store.store_prekey(8, b"key", false).await.unwrap();
    assert_eq!(paper.take(image.changes().await.unwrap()), 6);
    assert!(image.changes().await.unwrap().is_empty(), "it is told once");

    store.put_session("5491112345678.0", b"later").await.unwrap();
    store.put_session("5491112345678.0", b"last").await.unwrap();
    store.delete_session("5491187654321.0").await.unwrap();
    store.remove_prekey(8).await.unwrap();
    assert_eq!(paper.take(image.changes().await.unwrap()), 3);

    drop(image);
    let again = paper.open().await;
    assert!(again.changes().await.unwrap().is_empty(), "what was read is no change");
    let store = again.store();
    assert!(store.exists().await.unwrap());
    let device = store.load().await.unwrap().unwrap();
    assert_ne!(device.registration_id, 0);
    assert_eq!(store.get_session("5491112345678.0").await.unwrap().unwrap(), &b"last"[..]);
    assert_eq!(store.get_session("5491187654321.0").await.unwrap(), None);
    assert_eq!(store.load_prekey(7).await.unwrap().unwrap(), &b"key"[..]);
    assert_eq!(store.load_prekey(8).await.unwrap(), None);
    let found = store.get_pn_mapping("54911").await.unwrap().unwrap();
    assert_eq!((found.lid.as_str(), found.learning_source.as_str()), ("987", "it's \"a\", b\n"));
}

/// Whatever the library has a table for. A row that was not noted would be lost with the edge.
#[tokio::test]
async fn a_change_of_any_table_is_told() {
    let mut paper = Paper::default();
    let image = paper.open().await;
    assert!(image.tables.len() > 15, "{}", image.tables.len());
    for table in image.tables.values() {
        let (columns, ones) = (table.layout.names(), vec!["1"; table.layout.columns().len()]);
        let name = &table.name;
        let insert = format!(
            "PRAGMA foreign_keys = OFF; INSERT OR REPLACE INTO \"{name}\" ({}) VALUES ({})",
            columns.join(","),
            ones.join(",")
        );
        let last = columns.last().expect("a column").to_string();
        for (statement, told) in [
            (insert, true),
            (format!("UPDATE \"{name}\" SET {last} = {last}"), true),
            (format!("DELETE FROM \"{name}\""), false),
        ] {
            let work =
                move |connection: &mut SqliteConnection| connection.batch_execute(&statement).map_err(broken);
            image.store().shared().run(work).await.unwrap_or_else(|error| panic!("{name}: {error}"));
            let changes = image.changes().await.unwrap();
            let found: Vec<_> = changes.iter().map(|change| change.value.is_some()).collect();
            assert_eq!(found, [told], "{name}");
            assert!(changes[0].key.starts_with(&row_key(name, b"")), "{name}");
        }
    }
}

#[tokio::test]
async fn two_stores_are_two() {
    let (mut one, mut other) = (Paper::default(), Paper::default());
    let (one, other) = (one.open().await, other.open().await);
    one.store().put_session("a.0", b"of the one").await.unwrap();
    assert_eq!(other.store().get_session("a.0").await.unwrap(), None);
    assert!(other.changes().await.unwrap().is_empty());
}

/// A table that an update of the library has given another column.
#[tokio::test]
async fn a_row_with_fewer_columns_gets_the_defaults_and_one_with_others_is_refused() {
    let mut paper = Paper::default();
    let image = paper.open().await;
    image.store().store_prekey(7, b"key", true).await.unwrap();
    paper.take(image.changes().await.unwrap());
    let row = paper.0.keys().find(|key| key.starts_with(b"tprekeys\0")).unwrap().clone();
    let table =
        |columns: &[&str]| Layout::new(columns.iter().map(|name| (*name).to_owned()).collect()).unwrap();
    let (older, newer) = (table(&["id", "key", "device_id"]), table(&["id", "key", "colour"]));
    for (layout, fits) in [(older, true), (newer, false)] {
        let mut paper = Paper(paper.0.clone());
        paper.0.insert(layout_key("prekeys", layout.id()).into(), layout.columns().join("\n").into());
        paper.0.insert(row.clone(), cells::encode(layout.id(), "I7,B6B6579,I1").unwrap().into());
        let rows = paper.0.clone().into_iter().collect();
        let opened = Image::open(rows, |connection| {
            polls::make(connection)?;
            media::make(connection)
        });
        let opened = opened.await;
        assert_eq!(opened.is_ok(), fits, "{opened:?}");
        if let Ok(image) = opened {
            assert_eq!(image.store().load_prekey(7).await.unwrap().unwrap(), &b"key"[..]);
        }
    }
}
