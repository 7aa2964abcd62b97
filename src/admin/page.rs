//! The linking page: one QR code that renews itself. Pure.

use qrcode::QrCode;
use qrcode::render::svg;

/// The page. Only the account's name comes from outside, and that is `[a-z0-9_-]+`.
pub(super) fn render(detail: &str, account: Option<&str>, qr: Option<&str>) -> String {
    let code = qr
        .and_then(|text| QrCode::new(text).ok())
        .map(|code| code.render::<svg::Color<'_>>().min_dimensions(320, 320).build())
        .unwrap_or_default();
    let account = account.unwrap_or("-");
    format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta http-equiv=\"refresh\" content=\"3\">\
         <title>Link WhatsApp: {account}</title>\
         <body style=\"font-family:system-ui;max-width:28rem;margin:3rem auto;text-align:center\">\
         <h1>{account}</h1><p>{detail}</p>{code}</body></html>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::render;

    #[test]
    fn there_is_a_picture_only_while_there_is_a_code() {
        assert!(render("x", Some("shop"), Some("ref,key")).contains("<svg"));
        assert!(!render("x", Some("shop"), None).contains("<svg"));
    }
}
