//! Shows QR codes in the terminal, as the service that this one replaces did.

use std::time::Duration;

use qrcode::QrCode;
use qrcode::render::unicode::Dense1x2;

use super::Status;
use crate::edge::link::State;
use crate::stdout;

/// A new code is shown within this time.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// Prints each new QR code to standard output. Ends with the admin server.
pub(super) async fn show_codes(status: &Status) {
    let mut shown = None;
    let mut ticks = tokio::time::interval(POLL_INTERVAL);
    loop {
        ticks.tick().await;
        let Some((_, connection)) = status.edge.get() else { continue };
        let State::Unlinked { qr: Some(qr) } = connection.state() else { continue };
        if shown.as_ref() == Some(&qr.code) {
            continue;
        }
        if let Ok(code) = QrCode::new(&qr.code) {
            let picture =
                code.render::<Dense1x2>().dark_color(Dense1x2::Light).light_color(Dense1x2::Dark).build();
            stdout::notice(format_args!(
                "\n{picture}\nScan this with WhatsApp on the phone: Settings, Linked devices, Link a device.\n"
            ));
        }
        shown = Some(qr.code);
    }
}
