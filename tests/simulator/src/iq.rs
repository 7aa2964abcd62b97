//! Answers to the IQs of a linked device, as far as whatsapp-rust 0.7.0 asks.

use std::time::Instant;

use wacore_binary::Node;
use wacore_binary::builder::NodeBuilder;

use crate::faults::FaultKind;
use crate::groups;
use crate::ids::{PhoneNumber, unix_now};
use crate::media;
use crate::prekeys;
use crate::stanza::{self, attr};
use crate::usync;
use crate::world::{ConnectionId, World};

/// Who asks.
pub(crate) struct Asker<'a> {
    pub(crate) number: &'a PhoneNumber,
    pub(crate) device: u16,
    pub(crate) connection: ConnectionId,
}

/// Answers a request.
pub(crate) fn answer(world: &mut World, asker: &Asker<'_>, request: &Node) {
    let child = request.children().and_then(<[Node]>::first).map_or("", |child| child.tag.as_ref());
    let namespace = attr(request, "xmlns");
    let reply = match (namespace.as_str(), child) {
        ("passive", "active") => {
            world.send(asker.connection, stanza::iq_result(request, vec![]));
            world.activate(asker.number, asker.device);
            return;
        }
        ("w:p", _) | ("urn:xmpp:ping", _) => {
            world.counters.pings += 1;
            let mut pong = stanza::iq_result(request, vec![]);
            pong.attrs.insert("t", unix_now());
            pong
        }
        ("encrypt", _) => prekeys::answer(world, asker, request),
        ("w:g2", _) => groups::answer(world, asker.number, request),
        ("usync", _) => usync::answer(world, asker.number, request),
        ("w:sync:app:state", _) => app_state(request),
        ("abt", _) => stanza::iq_result(
            request,
            vec![
                NodeBuilder::new("props")
                    .attr("protocol", 1u8)
                    .attr("ab_key", "sim")
                    .attr("hash", "sim")
                    .attr("refresh", 86_400u32)
                    .attr("refresh_id", 1u8)
                    .build(),
            ],
        ),
        ("blocklist", _) => {
            let list = NodeBuilder::new("list").attr("dhash", 0u8).build();
            stanza::iq_result(request, vec![list])
        }
        ("privacy", _) if attr(request, "type") == "get" => privacy(world, asker, request),
        ("w:m", _) => media::connection(world, request),
        ("md", "remove-companion-device") => {
            world.send(asker.connection, stanza::iq_result(request, vec![]));
            world.unlink(asker.number, asker.device, None);
            return;
        }
        _ => {
            if !matches!(namespace.as_str(), "privacy" | "passive") {
                world.counters.unknown_iqs += 1;
                tracing::debug!(%namespace, child, "answered an unknown request with nothing");
            }
            stanza::iq_result(request, vec![])
        }
    };
    world.send(asker.connection, reply);
}

/// Settings sync: every collection exists and is empty.
fn app_state(request: &Node) -> Node {
    let wanted = request.get_optional_child("sync");
    let collections =
        wanted.into_iter().flat_map(|sync| stanza::children(sync, "collection")).map(|collection| {
            NodeBuilder::new("collection").attr("name", attr(collection, "name")).attr("version", 0u8).build()
        });
    let sync = NodeBuilder::new("sync").children(collections).build();
    stanza::iq_result(request, vec![sync])
}

fn privacy(world: &World, asker: &Asker<'_>, request: &Node) -> Node {
    let hides = world.faults.find(FaultKind::HideReads, Some(asker.number), Instant::now()).is_some();
    let value = |name: &str| if hides && name == "readreceipts" { "none" } else { "all" };
    let names = ["readreceipts", "last", "online", "profile", "status", "groupadd", "calladd"];
    let categories =
        names.map(|name| NodeBuilder::new("category").attr("name", name).attr("value", value(name)).build());
    let privacy = NodeBuilder::new("privacy").children(categories).build();
    stanza::iq_result(request, vec![privacy])
}
