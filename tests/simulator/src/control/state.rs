//! Everything at a glance.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use super::faults;
use crate::hub::Hub;
use crate::party::{Account, Customer, Device};
use crate::world::{Role, World};

pub(super) async fn show(State(hub): State<Arc<Hub>>) -> Json<Value> {
    Json(hub.update(|world| {
        let faults = faults::active(world);
        json!({
            "accounts": world.accounts.values().map(account).collect::<Vec<_>>(),
            "customers": world.customers.values().map(customer).collect::<Vec<_>>(),
            "linking": linking(world),
            "connections": world.connections.len(),
            "faults": faults,
            "counters": world.counters,
            "state_error": world.store.failure(),
        })
    }))
}

fn account(account: &Account) -> Value {
    json!({
        "phone": account.record.phone,
        "name": account.record.name,
        "lid": account.record.phone.lid(),
        "devices": account.devices.values().map(device).collect::<Vec<_>>(),
        "phone_backlog": account.mailbox.waiting.len(),
    })
}

fn device(device: &Device) -> Value {
    json!({
        "id": device.record.id,
        "online": device.online.is_some(),
        "active": device.active,
        "presence": device.presence,
        "linked_at": device.record.linked_at,
        "queued": device.queue.len(),
        "queued_messages": device.queue.count(crate::queue::Class::Message),
        "unacknowledged": device.queue.unacknowledged(),
        "prekeys_left": device.one_time.len(),
    })
}

fn customer(customer: &Customer) -> Value {
    json!({
        "phone": customer.record.phone,
        "name": customer.record.name,
        "addressing": customer.record.addressing,
        "received": customer.inbox.len(),
        "sent": customer.sent.all().len(),
        "phone_backlog": customer.mailbox.waiting.len(),
    })
}

/// How many connections show a QR code.
fn linking(world: &World) -> usize {
    let roles = world.connections.values().map(|connection| &connection.role);
    roles.filter(|role| matches!(role, Role::Linking(_))).count()
}
