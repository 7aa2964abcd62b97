//! What people do with a business: what they press and pick, order and ask about, read from a message without
//! wrappers. Pure.

use whatsapp_rust::prelude::wa;

use super::{bound, context};
use crate::wire::v1::{self, Order, Product, inbound_message::Content};

/// What the message is. `None`: nothing of this.
pub(super) fn kind(base: &wa::Message) -> Option<Content> {
    choice(base).or_else(|| order(base)).or_else(|| product(base))
}

/// The choice that a person pressed or picked.
fn choice(base: &wa::Message) -> Option<Content> {
    use wa::message::buttons_response_message::Response;
    if let Some(reply) = base.buttons_response_message.as_option() {
        let text = match &reply.response {
            Some(Response::SelectedDisplayText(text)) => bound::text(Some(text)),
            _ => String::new(),
        };
        let button_id = bound::line(reply.selected_button_id.as_deref());
        return Some(Content::ButtonReply(v1::ButtonReply { button_id, text, ..Default::default() }));
    }
    if let Some(reply) = base.interactive_response_message.as_option() {
        return Some(pressed(reply));
    }
    if let Some(reply) = base.template_button_reply_message.as_option() {
        return Some(Content::ButtonReply(v1::ButtonReply {
            button_id: bound::line(reply.selected_id.as_deref()),
            text: bound::text(reply.selected_display_text.as_deref()),
            ..Default::default()
        }));
    }
    let reply = base.list_response_message.as_option()?;
    Some(Content::ListReply(v1::ListReply {
        row_id: bound::line(
            reply.single_select_reply.as_option().and_then(|row| row.selected_row_id.as_deref()),
        ),
        title: bound::line(reply.title.as_deref()),
        description: bound::text(reply.description.as_deref()),
        ..Default::default()
    }))
}

/// A press of a native-flow button. The label is the message's body; the parameters have the id, and the label again.
fn pressed(reply: &wa::message::InteractiveResponseMessage) -> Content {
    use wa::message::interactive_response_message::InteractiveResponseMessage::NativeFlowResponseMessage;
    let flow = reply.interactive_response_message.as_ref().map(|NativeFlowResponseMessage(flow)| flow);
    let json = flow.and_then(|flow| flow.params_json.as_deref()).unwrap_or_default();
    let params: serde_json::Value = serde_json::from_str(json).unwrap_or_default();
    let field = |name: &str| match params.get(name) {
        Some(serde_json::Value::String(text)) => Some(text.clone()),
        Some(serde_json::Value::Number(number)) => Some(number.to_string()),
        _ => None,
    };
    let label = |text: &String| !text.trim().is_empty();
    let text = reply.body.as_option().and_then(|body| body.text.clone()).filter(label);
    let text = text.or_else(|| field("display_text").filter(label)).or_else(|| field("title"));
    Content::ButtonReply(v1::ButtonReply {
        button_id: bound::line(field("id").as_deref()),
        text: bound::text(text.as_deref()),
        flow: bound::id(flow.and_then(|flow| flow.name.as_deref())),
        params_json: bound::text(Some(json)),
        ..Default::default()
    })
}

fn order(base: &wa::Message) -> Option<Content> {
    let order = base.order_message.as_option()?;
    Some(Content::Order(Order {
        order_id: bound::id(order.order_id.as_deref()),
        text: bound::text(order.message.as_deref()),
        title: bound::line(order.order_title.as_deref()),
        item_count: order.item_count.and_then(|count| u32::try_from(count).ok()).unwrap_or_default(),
        total_thousandths: order.total_amount1000.unwrap_or_default(),
        currency: bound::id(order.total_currency_code.as_deref()),
    }))
}

fn product(base: &wa::Message) -> Option<Content> {
    let message = base.product_message.as_option()?;
    let empty = wa::message::product_message::ProductSnapshot::default();
    let product = message.product.as_option().unwrap_or(&empty);
    Some(Content::Product(Product {
        product_id: bound::id(product.product_id.as_deref()),
        title: bound::line(product.title.as_deref()),
        description: bound::text(product.description.as_deref()),
        text: bound::text(message.body.as_deref()),
        price_thousandths: product.price_amount1000.unwrap_or_default(),
        sale_price_thousandths: product.sale_price_amount1000.unwrap_or_default(),
        currency: bound::id(product.currency_code.as_deref()),
        retailer_id: bound::id(product.retailer_id.as_deref()),
        url: bound::line(product.url.as_deref()),
        seller: message.business_owner_jid.as_deref().and_then(context::person),
    }))
}
