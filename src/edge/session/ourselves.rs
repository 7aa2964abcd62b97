//! Who the linked number is, and a secret that only its session knows.

use sha2::{Digest as _, Sha256};
use whatsapp_rust::{Client, Jid};

/// The linked number.
#[derive(Clone)]
pub(crate) struct Ourselves {
    /// Its address by phone number.
    pub phone: Option<Jid>,
    /// Its hidden id.
    pub lid: Option<Jid>,
    /// The private half of the session's identity key. It never leaves this struct.
    key: Vec<u8>,
}

impl std::fmt::Debug for Ourselves {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ourselves").finish_non_exhaustive()
    }
}

impl Ourselves {
    /// As the session's store says.
    pub(super) fn of(client: &Client) -> Self {
        let device = client.persistence_manager().get_device_snapshot();
        let key = device.identity_key.private_key.serialize().to_vec();
        Self { phone: device.pn.clone(), lid: device.lid.clone(), key }
    }

    /// The secret that votes on the message with this id are sealed with. It is the same for each copy of the message,
    /// also after a kill, and WhatsApp's server, which knows the id, cannot tell it.
    pub(crate) fn secret(&self, whatsapp_id: &str) -> [u8; 32] {
        let mut digest = Sha256::new();
        digest.update(b"whatsapp-connector message secret\0");
        digest.update(&self.key);
        digest.update(whatsapp_id.as_bytes());
        digest.finalize().into()
    }

    /// The key that a file with this hash is encrypted with, when it is sent as this kind. It is the same each time: what
    /// was uploaded before a kill is found again, and a message that is sent again names the same file. Nobody who has
    /// the file but not the session can tell it.
    pub(crate) fn file_key(&self, sha256: &[u8; 32], kind: &str) -> [u8; 32] {
        let mut digest = Sha256::new();
        digest.update(b"whatsapp-connector file key\0");
        digest.update(&self.key);
        digest.update(sha256);
        digest.update(kind.as_bytes());
        digest.finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_of_its_message_and_of_its_session() {
        let session = |key: u8| Ourselves { phone: None, lid: None, key: vec![key; 32] };
        let secret = session(1).secret("3EB0AB");
        assert_eq!(secret, session(1).secret("3EB0AB"));
        assert_ne!(secret, session(1).secret("3EB0AC"));
        assert_ne!(secret, session(2).secret("3EB0AB"));
        assert!(!format!("{:?}", session(1)).contains('1'), "a key is in a log");
        let key = session(1).file_key(&[7; 32], "image");
        assert_eq!(key, session(1).file_key(&[7; 32], "image"));
        for other in [
            session(2).file_key(&[7; 32], "image"),
            session(1).file_key(&[8; 32], "image"),
            session(1).file_key(&[7; 32], "video"),
        ] {
            assert_ne!(key, other);
        }
    }
}
