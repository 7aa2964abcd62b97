//! Many linked numbers, for tests of a pool.

use serde::Deserialize;
use serde_json::json;

use super::process::Process;
use super::simulator::{Addressing, Customer, Simulator};
use super::stage::Stage;
use super::{PATIENCE, eventually};

/// One of many linked numbers.
#[derive(Debug, Clone)]
pub struct Shop {
    /// The account's name.
    pub name: String,
    /// The number.
    pub phone: String,
}

impl Shop {
    /// The shop of this number, counted from 0.
    pub fn nth(number: usize) -> Self {
        Self { name: format!("shop-{number:03}"), phone: format!("54911600{number:05}") }
    }
}

/// Their names, as a setting has them.
pub fn names(shops: &[Shop]) -> String {
    shops.iter().map(|shop| shop.name.as_str()).collect::<Vec<_>>().join(",")
}

impl Simulator {
    /// Opens the accounts of so many shops.
    pub async fn shops(&self, count: usize) -> Vec<Shop> {
        let shops: Vec<Shop> = (0..count).map(Shop::nth).collect();
        for shop in &shops {
            self.http.make("/sim/accounts", &json!({"phone": shop.phone, "name": shop.name})).await;
        }
        shops
    }

    /// The shop's phone scans a QR code; the refusal, if it is refused.
    pub async fn shop_scans(&self, shop: &Shop, qr: &str) -> Result<(), String> {
        let path = format!("/sim/accounts/{}/scan", shop.phone);
        let (status, answer) = self.http.post(&path, &json!({"qr": qr})).await?;
        if (200..300).contains(&status) {
            Ok(())
        } else {
            Err(format!("the scan was refused: {status} {answer}"))
        }
    }

    /// A new customer of a shop: what the phone writes goes there.
    pub async fn customer_of(&self, shop: &Shop, phone: &str) -> Customer {
        let customer = self.customer(phone, Addressing::Phone).await;
        customer.of(&shop.phone)
    }

    /// Is an edge online for the shop?
    pub async fn shop_is_online(&self, shop: &Shop) -> bool {
        self.visits_of(shop).await.iter().any(|visit| visit.until.is_none())
    }

    /// The connections of the shop's linked devices, in their order.
    pub async fn visits_of(&self, shop: &Shop) -> Vec<Visit> {
        #[derive(Deserialize)]
        struct All {
            visits: Vec<Visit>,
        }
        self.http.read::<All>(&format!("/sim/accounts/{}/visits", shop.phone)).await.visits
    }

    /// A fault of the shop's connections, once.
    pub async fn shop_fault(&self, shop: &Shop, kind: &str) {
        self.http.make("/sim/faults", &json!({"kind": kind, "account": shop.phone})).await;
    }

    /// What the simulator has counted under this name.
    pub async fn counted(&self, name: &str) -> u64 {
        let state: serde_json::Value = self.http.read("/sim/state").await;
        let count = state["counters"][name].as_u64();
        count.unwrap_or_else(|| panic!("no count of {name} in {state}"))
    }

    /// The simulator's own process.
    pub fn process(&self) -> &Process {
        &self.process
    }
}

/// A connection of a linked device. Times are milliseconds since 1970.
#[derive(Debug, Clone, Deserialize)]
pub struct Visit {
    /// Who it was, if its address said so.
    pub name: Option<String>,
    /// The login.
    pub since: u64,
    /// The last that WhatsApp took of it.
    pub last_heard: u64,
    /// Its end. `None`: it is there.
    pub until: Option<u64>,
    /// It ended because the device logged in once more.
    pub replaced: bool,
}

impl Stage {
    /// The shop's phone scans the code that whichever edge has its account shows.
    pub async fn link_shop(&self, shop: &Shop) {
        eventually(format!("{} to be linked", shop.name), PATIENCE, async || {
            let (link, _) = self.command(&["link", "--account", &shop.name]).await;
            let qr = link["qr"].as_str().ok_or_else(|| format!("no QR code in {link}"))?;
            self.simulator.shop_scans(shop, qr).await
        })
        .await;
        self.shop_works(shop).await;
    }

    /// Waits until an edge is online for the shop.
    pub async fn shop_works(&self, shop: &Shop) {
        eventually(format!("{} to be online", shop.name), PATIENCE, async || {
            let (link, _) = self.command(&["link", "--account", &shop.name]).await;
            if link["state"] == "online" { Ok(()) } else { Err(link.to_string()) }
        })
        .await;
    }
}
