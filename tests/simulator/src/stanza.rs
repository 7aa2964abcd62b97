//! The stanzas that the server sends, and small helpers to read those of clients.
//!
//! Shapes as observed with whatsapp-rust 0.7.0.

use wacore_binary::builder::NodeBuilder;
use wacore_binary::{Jid, Node, NodeContent};

use crate::ids::{PhoneNumber, unix_now};
use crate::signal::Sealed;

/// The server's own JID.
pub(crate) const SERVER: &str = "s.whatsapp.net";

/// How a customer appears to the other side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Addressing {
    /// By phone number.
    #[default]
    Pn,
    /// By hidden id, as today's WhatsApp does for most chats.
    Lid,
    /// By hidden id, and nobody is told the phone number.
    Hidden,
}

/// An attribute as text; empty if it is absent.
pub(crate) fn attr(node: &Node, key: &str) -> String {
    node.attrs.get(key).map(|value| value.as_str().into_owned()).unwrap_or_default()
}

/// An attribute as a JID.
pub(crate) fn jid(node: &Node, key: &str) -> Option<Jid> {
    node.attrs.get(key)?.to_jid()
}

/// The bytes inside a node.
pub(crate) fn bytes(node: &Node) -> Option<&[u8]> {
    match &node.content {
        Some(NodeContent::Bytes(bytes)) => Some(bytes),
        Some(NodeContent::String(text)) => Some(text.as_bytes()),
        _ => None,
    }
}

/// The children with this tag.
pub(crate) fn children<'a>(node: &'a Node, tag: &'a str) -> impl Iterator<Item = &'a Node> {
    node.get_children_by_tag(tag)
}

fn copy_attr(builder: NodeBuilder, node: &Node, from: &str, to: &'static str) -> NodeBuilder {
    match node.attrs.get(from) {
        Some(value) => builder.attr(to, value.clone()),
        None => builder,
    }
}

/// The answer to an IQ.
pub(crate) fn iq_result(request: &Node, content: Vec<Node>) -> Node {
    let builder = NodeBuilder::new("iq").attr("from", SERVER).attr("type", "result");
    let builder = copy_attr(builder, request, "id", "id");
    if content.is_empty() { builder.build() } else { builder.children(content).build() }
}

/// The refusal of an IQ.
pub(crate) fn iq_error(request: &Node, code: u16, text: &str) -> Node {
    let builder = NodeBuilder::new("iq").attr("from", SERVER).attr("type", "error");
    copy_attr(builder, request, "id", "id")
        .children([NodeBuilder::new("error").attr("code", code).attr("text", text).build()])
        .build()
}

/// An IQ of the server's own.
pub(crate) fn iq_set(id: &str, content: Node) -> Node {
    NodeBuilder::new("iq")
        .attr("from", SERVER)
        .attr("type", "set")
        .attr("id", id)
        .attr("xmlns", "md")
        .children([content])
        .build()
}

/// The server's acknowledgement of a client's message, with an error code if it is refused.
pub(crate) fn message_ack(message: &Node, error: Option<u16>) -> Node {
    let builder = NodeBuilder::new("ack").attr("class", "message");
    let builder = copy_attr(builder, message, "id", "id");
    let builder = copy_attr(builder, message, "to", "from").attr("t", unix_now());
    match error {
        Some(code) => builder.attr("error", code).build(),
        None => builder.build(),
    }
}

/// The server's acknowledgement of a client's receipt.
pub(crate) fn receipt_ack(receipt: &Node) -> Node {
    let builder = NodeBuilder::new("ack").attr("class", "receipt");
    let builder = copy_attr(builder, receipt, "id", "id");
    let builder = copy_attr(builder, receipt, "type", "type");
    copy_attr(builder, receipt, "to", "from").attr("t", unix_now()).build()
}

/// Login succeeded.
pub(crate) fn success(lid: Jid) -> Node {
    NodeBuilder::new("success").attr("t", unix_now()).attr("lid", lid).attr("location", "sim").build()
}

/// Login refused.
pub(crate) fn failure(reason: u16) -> Node {
    NodeBuilder::new("failure").attr("reason", reason).attr("location", "sim").build()
}

/// Login refused, with all that WhatsApp says of it.
pub(crate) fn refused_login(reason: u16, attributes: &std::collections::BTreeMap<String, String>) -> Node {
    with_attributes(failure(reason), attributes)
}

/// The stanza, and what else it says.
pub(crate) fn with_attributes(
    mut node: Node,
    attributes: &std::collections::BTreeMap<String, String>,
) -> Node {
    for (name, value) in attributes {
        node.attrs.insert(name.clone(), value.as_str());
    }
    node
}

/// The refusal of an IQ, and what else it says.
pub(crate) fn iq_refusal(
    request: &Node,
    code: u16,
    text: &str,
    attributes: &std::collections::BTreeMap<String, String>,
) -> Node {
    let builder = NodeBuilder::new("iq").attr("from", SERVER).attr("type", "error");
    let error = NodeBuilder::new("error").attr("code", code).attr("text", text).build();
    copy_attr(builder, request, "id", "id").children([with_attributes(error, attributes)]).build()
}

/// The end of a stream with a code.
pub(crate) fn stream_error(code: u16) -> Node {
    NodeBuilder::new("stream:error").attr("code", code).build()
}

/// The end of a stream because another connection took its place.
pub(crate) fn stream_replaced() -> Node {
    stream_conflict(NodeBuilder::new("stream:error"), "replaced")
}

/// The end of a stream because the device was unlinked.
pub(crate) fn stream_logged_out() -> Node {
    stream_conflict(NodeBuilder::new("stream:error").attr("code", 401u16), "device_removed")
}

fn stream_conflict(builder: NodeBuilder, kind: &str) -> Node {
    builder.children([NodeBuilder::new("conflict").attr("type", kind).build()]).build()
}

/// What waits for a device that just became active.
pub(crate) fn offline_preview(messages: usize, receipts: usize, notifications: usize) -> Node {
    NodeBuilder::new("ib")
        .attr("from", SERVER)
        .children([NodeBuilder::new("offline_preview")
            .attr("count", messages + receipts + notifications)
            .attr("message", messages)
            .attr("receipt", receipts)
            .attr("notification", notifications)
            .attr("appdata", 0u8)
            .build()])
        .build()
}

/// The end of what waited.
pub(crate) fn offline_end(count: usize) -> Node {
    NodeBuilder::new("ib")
        .attr("from", SERVER)
        .children([NodeBuilder::new("offline").attr("count", count).build()])
        .build()
}

/// The attributes that say whom a stanza is from, and the other name of the same person.
pub(crate) fn from_person(
    builder: NodeBuilder,
    number: &PhoneNumber,
    device: u16,
    addressing: Addressing,
) -> NodeBuilder {
    match addressing {
        Addressing::Pn => builder.attr("from", number.pn_jid(device)).attr("sender_lid", number.lid_jid(0)),
        Addressing::Lid => builder
            .attr("from", number.lid_jid(device))
            .attr("addressing_mode", "lid")
            .attr("sender_pn", number.pn_jid(0)),
        Addressing::Hidden => builder.attr("from", number.lid_jid(device)).attr("addressing_mode", "lid"),
    }
}

/// What every delivered message says besides its content.
pub(crate) struct Envelope<'a> {
    pub(crate) from: &'a PhoneNumber,
    pub(crate) device: u16,
    pub(crate) addressing: Addressing,
    pub(crate) id: &'a str,
    pub(crate) kind: &'a str,
    pub(crate) at: u64,
    pub(crate) push_name: &'a str,
}

impl Envelope<'_> {
    /// The beginning of the stanza.
    pub(crate) fn open(&self) -> NodeBuilder {
        from_person(self.open_unsigned(), self.from, self.device, self.addressing)
    }

    /// The same, and whom it is from is still to be said.
    pub(crate) fn open_unsigned(&self) -> NodeBuilder {
        NodeBuilder::new("message")
            .attr("id", self.id)
            .attr("type", self.kind)
            .attr("t", self.at)
            .attr("notify", self.push_name)
    }
}

/// The encrypted part.
pub(crate) fn enc(sealed: Sealed, media_type: Option<&str>) -> Node {
    let builder = NodeBuilder::new("enc").attr("v", "2").attr("type", sealed.kind);
    match media_type {
        Some(media_type) => builder.attr("mediatype", media_type),
        None => builder,
    }
    .bytes(sealed.bytes)
    .build()
}

/// A receipt from a customer's phone.
pub(crate) fn receipt(
    from: &PhoneNumber,
    addressing: Addressing,
    id: &str,
    kind: Option<&str>,
) -> NodeBuilder {
    let builder = NodeBuilder::new("receipt").attr("id", id).attr("t", unix_now());
    let builder = from_person(builder, from, 0, addressing);
    match kind {
        Some(kind) => builder.attr("type", kind),
        None => builder,
    }
}

/// A receipt of somebody's phone for what was written in a group or to a list.
pub(crate) fn receipt_through(through: &Jid, from: &PhoneNumber, id: &str, kind: &str) -> Node {
    NodeBuilder::new("receipt")
        .attr("id", id)
        .attr("t", unix_now())
        .attr("from", through.clone())
        .attr("participant", from.pn_jid(0))
        .attr("type", kind)
        .build()
}

/// A copy of a queued stanza for a device that was away.
pub(crate) fn as_offline(stanza: &Node, index: usize) -> Node {
    let mut stanza = stanza.clone();
    stanza.attrs.insert("offline", index);
    stanza
}
