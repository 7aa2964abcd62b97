//! Shows QR codes in the terminal, as the service that this one replaces did.

use qrcode::QrCode;
use qrcode::render::unicode::Dense1x2;

use super::Status;
use crate::edge::link::State;
use crate::stdout;

/// Prints each new QR code to standard output. Ends with the admin server.
pub(super) async fn show_codes(status: &Status) {
    // A forwarder waits here for ever.
    let (mut connection, mut shown) = (status.edge.wait().await.connection.clone(), None);
    loop {
        match connection.state() {
            State::Unlinked { qr: Some(qr) } if shown.as_ref() != Some(&qr.code) => {
                show(&qr.code);
                shown = Some(qr.code);
            }
            state @ State::Passkey(_) if shown.as_deref() != Some(&*state.detail()) => {
                stdout::notice(format_args!("{}", state.detail()));
                shown = Some(state.detail().into_owned());
            }
            _ => {}
        }
        connection.changed().await;
    }
}

fn show(code: &str) {
    if let Ok(code) = QrCode::new(code) {
        let picture =
            code.render::<Dense1x2>().dark_color(Dense1x2::Light).light_color(Dense1x2::Dark).build();
        stdout::notice(format_args!(
            "\n{picture}\nScan this with WhatsApp on the phone: Settings, Linked devices, Link a device.\n"
        ));
    }
}
