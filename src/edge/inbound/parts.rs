//! Short ways to write a message of WhatsApp, for tests.

/// A message with these fields.
macro_rules! message {
    ($($field:ident: $value:expr),* $(,)?) => { wa::Message { $($field: $value),*, ..Default::default() } };
}

/// A part of a message, of this type and with these fields.
macro_rules! part {
    ($part:path { $($field:ident: $value:expr),* $(,)? }) => {
        MessageField::some({
            use $part as Part;
            #[allow(clippy::needless_update, reason = "a few parts have one field only")]
            let part = Part { $($field: $value),*, ..Default::default() };
            part
        })
    };
}
