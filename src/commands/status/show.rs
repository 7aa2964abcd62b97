//! A report on one screen.

use std::fmt;

use crate::operator::{AccountReport, ConsumerReport, PoolReport, Report, name};
use crate::wire::process_status::{PoolSide, Process};

/// So many accounts are shown, whatever they are like.
const FEW: usize = 20;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(PoolReport { edges, capacity, accounts, held, paused }) = &self.pool {
            writeln!(f, "pool")?;
            let free = accounts.saturating_sub(held + paused);
            write!(f, "  {accounts} accounts: {held} with an edge, {paused} paused, {free} free; ")?;
            writeln!(f, "{edges} edges, with room for {capacity}")?;
        }
        writeln!(f, "accounts")?;
        let wanted = |account: &AccountReport| self.wants.iter().any(|want| want.about == account.account);
        // Of many, those that nobody has to look at would hide the others.
        let is_shown = |account: &&AccountReport| {
            self.accounts.len() <= FEW || account.pool.is_none() || wanted(account)
        };
        let shown: Vec<_> = self.accounts.iter().filter(is_shown).collect();
        for account in &shown {
            let heard = if account.live { "" } else { " (last event on the bus)" };
            let since = account.since.as_deref().map(|since| format!(" since {since}")).unwrap_or_default();
            let is_paused = account.pool.as_ref().is_some_and(|pool| pool.paused);
            let heard = if is_paused { " (paused)" } else { heard };
            let action = if account.action.is_empty() { "unknown" } else { &account.action };
            writeln!(f, "  {}: {}{since}{heard}; to do: {action}", account.account, account.link)?;
            match (&account.lease, &account.lease_renewed_at) {
                (Some(holder), Some(renewed)) => writeln!(f, "    lease: {holder}, renewed at {renewed}")?,
                _ => writeln!(f, "    lease: none")?,
            }
            consumer(f, account.consumer.as_ref())?;
        }
        let others = self.accounts.len() - shown.len();
        if others > 0 {
            writeln!(f, "  {others} more, with which all is well: `whatsapp-connector accounts list`")?;
        }
        writeln!(f, "forwarders")?;
        consumer(f, self.forwarders.as_ref())?;
        writeln!(f, "dead letters")?;
        for dead in &self.dead_letters {
            writeln!(f, "  {}: {} {}", dead.account, dead.count, dead.reason)?;
        }
        if self.dead_letters.is_empty() {
            writeln!(f, "  none")?;
        }
        writeln!(f, "processes")?;
        for process in &self.processes {
            one(f, process)?;
        }
        if self.processes.is_empty() {
            writeln!(f, "  no process answers")?;
        }
        if self.well {
            return writeln!(f, "all is well");
        }
        writeln!(f, "needs a person")?;
        for want in &self.wants {
            writeln!(f, "  {} {}: {}", want.about, want.code, want.say)?;
        }
        Ok(())
    }
}

fn consumer(f: &mut fmt::Formatter<'_>, consumer: Option<&ConsumerReport>) -> fmt::Result {
    let Some(ConsumerReport { name, lag, in_flight, oldest_at }) = consumer else {
        return writeln!(f, "    consumer: unknown");
    };
    let oldest = oldest_at.as_deref().map(|at| format!(", the oldest of {at}")).unwrap_or_default();
    writeln!(f, "    {name}: {lag} not delivered, {in_flight} in flight{oldest}")
}

fn one(f: &mut fmt::Formatter<'_>, process: &Process) -> fmt::Result {
    write!(f, "  {} {} {}", process.role, process.version, name(process))?;
    if let Some(edge) = &process.edge {
        write!(f, ", {} {}, sending {}", edge.account, edge.state, edge.sending)?;
    }
    if let Some(PoolSide { capacity, accounts, parked, sending }) = &process.pool {
        write!(f, ", {} of {capacity} accounts, {} parked, sending {sending}", accounts.len(), parked.len())?;
    }
    if let Some(forwarder) = &process.forwarder {
        let crate::wire::process_status::ForwarderSide { calling, waiting, held, retrying, .. } = forwarder;
        write!(f, ", calling {calling}, waiting {waiting}, held {held}, retrying {retrying}")?;
    }
    let reasons: Vec<_> =
        process.reasons.iter().map(|reason| format!("{}/{}", reason.part, reason.code)).collect();
    match process.ready {
        true => writeln!(f, ", ready")?,
        false => writeln!(f, ", not ready: {}", reasons.join(", "))?,
    }
    for route in process.forwarder.iter().flat_map(|forwarder| &forwarder.routes) {
        writeln!(f, "    held {}, route {}: backend/{}", route.held, route.route, route.hold)?;
    }
    Ok(())
}
