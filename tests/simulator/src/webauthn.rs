//! The passkey of an account: what its owner's browser answers, and what the server looks at in that answer.
//!
//! The options are as WhatsApp sends them (observed by users of other clients, July 2026): a challenge, ten minutes, and
//! `whatsapp.com`, for which only WhatsApp's own pages may ask.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _, UnparsedPublicKey,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::ids::Blob;

/// Whose passkey it is.
pub(crate) const RELYING_PARTY: &str = "whatsapp.com";
/// The page that may ask for it.
const ORIGIN: &str = "https://web.whatsapp.com";
/// A person was there, and has proved who it is.
const PRESENT_AND_VERIFIED: u8 = 0b101;

/// A passkey, with the key that no authenticator gives away.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Passkey {
    /// Its id.
    pub(crate) id: Blob,
    /// Its key, as PKCS #8, for browsers with a virtual authenticator.
    pub(crate) private_key: Blob,
}

/// What is wrong with an answer.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum WebAuthnError {
    #[error("there is no randomness, or the key is unusable")]
    Key,
    #[error("`options`: {0}")]
    Options(&'static str),
    #[error("the answer is not that of this passkey: {0}")]
    Answer(&'static str),
}

impl Passkey {
    /// A new one.
    pub(crate) fn create() -> Result<Self, WebAuthnError> {
        let key = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new())
            .map_err(|_| WebAuthnError::Key)?;
        let id = rand::random::<[u8; 16]>().to_vec();
        Ok(Self { id: Blob(id), private_key: Blob(key.as_ref().to_vec()) })
    }

    fn key(&self) -> Result<EcdsaKeyPair, WebAuthnError> {
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &self.private_key.0, &SystemRandom::new())
            .map_err(|_| WebAuthnError::Key)
    }

    /// What a browser on WhatsApp's page answers to `options`, once its owner has agreed.
    pub(crate) fn answer(&self, options: &Value) -> Result<Value, WebAuthnError> {
        let challenge = options["challenge"].as_str().ok_or(WebAuthnError::Options("no challenge"))?;
        if options["rpId"].as_str() != Some(RELYING_PARTY) {
            return Err(WebAuthnError::Options("it is for another page than WhatsApp's"));
        }
        let client =
            json!({"type": "webauthn.get", "challenge": challenge, "origin": ORIGIN, "crossOrigin": false});
        let client = client.to_string();
        let mut data = Sha256::digest(RELYING_PARTY).to_vec();
        data.push(PRESENT_AND_VERIFIED);
        data.extend([0; 4]);
        let signed = [data.as_slice(), Sha256::digest(&client).as_slice()].concat();
        let signature = self.key()?.sign(&SystemRandom::new(), &signed).map_err(|_| WebAuthnError::Key)?;
        let encode = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
        let id = encode(&self.id.0);
        Ok(json!({
            "id": id, "rawId": id, "type": "public-key",
            "authenticatorAttachment": "platform", "clientExtensionResults": {},
            "response": {
                "clientDataJSON": encode(client.as_bytes()),
                "authenticatorData": encode(&data),
                "signature": encode(signature.as_ref()),
                "userHandle": null,
            },
        }))
    }

    /// Is it this passkey's answer to this challenge?
    pub(crate) fn check(&self, challenge: &str, id: &[u8], answer: &[u8]) -> Result<(), WebAuthnError> {
        let bad = WebAuthnError::Answer;
        let answer: Value = serde_json::from_slice(answer).map_err(|_| bad("it is no JSON"))?;
        let field =
            |value: &Value| -> Option<Vec<u8>> { BASE64_URL_SAFE_NO_PAD.decode(value.as_str()?).ok() };
        let response = &answer["response"];
        let raw_id = field(&answer["rawId"]).ok_or(bad("no rawId"))?;
        if answer["type"] != "public-key" || raw_id != self.id.0 || id != self.id.0 {
            return Err(bad("it is of another one"));
        }
        let client = field(&response["clientDataJSON"]).ok_or(bad("no clientDataJSON"))?;
        let data = field(&response["authenticatorData"]).ok_or(bad("no authenticatorData"))?;
        let signature = field(&response["signature"]).ok_or(bad("no signature"))?;
        let says: Value = serde_json::from_slice(&client).map_err(|_| bad("clientDataJSON is no JSON"))?;
        if says["type"] != "webauthn.get" || says["origin"] != ORIGIN || says["challenge"] != challenge {
            return Err(bad("it is to another challenge, or of another page"));
        }
        let for_whatsapp = data.get(..32) == Some(Sha256::digest(RELYING_PARTY).as_slice());
        let flags = data.get(32).copied().unwrap_or_default();
        if !for_whatsapp || flags & PRESENT_AND_VERIFIED != PRESENT_AND_VERIFIED {
            return Err(bad("nobody has proved who it is"));
        }
        let signed = [data.as_slice(), Sha256::digest(&client).as_slice()].concat();
        let key = self.key()?;
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key.public_key().as_ref())
            .verify(&signed, &signature)
            .map_err(|_| bad("its signature is wrong"))
    }
}

/// What the server wants answered.
pub(crate) fn options(challenge: &str) -> Value {
    json!({
        "challenge": challenge, "timeout": 600_000, "rpId": RELYING_PARTY, "allowCredentials": [],
        "userVerification": "required", "extensions": {"uvm": true},
    })
}

/// A new challenge.
pub(crate) fn challenge() -> String {
    BASE64_URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_good_for_its_own_challenge_and_passkey_only() -> Result<(), WebAuthnError> {
        let (passkey, other, first) = (Passkey::create()?, Passkey::create()?, challenge());
        let answer = passkey.answer(&options(&first))?;
        let bytes = answer.to_string();
        assert_eq!(passkey.check(&first, &passkey.id.0, bytes.as_bytes()), Ok(()));
        assert!(passkey.check(&challenge(), &passkey.id.0, bytes.as_bytes()).is_err());
        assert!(other.check(&first, &other.id.0, bytes.as_bytes()).is_err());
        let mut forged = answer;
        forged["response"]["signature"] = json!(BASE64_URL_SAFE_NO_PAD.encode([7; 70]));
        let forged = passkey.check(&first, &passkey.id.0, forged.to_string().as_bytes());
        assert_eq!(forged, Err(WebAuthnError::Answer("its signature is wrong")));
        let elsewhere = json!({"challenge": first, "rpId": "example.com"});
        assert!(passkey.answer(&elsewhere).is_err());
        Ok(())
    }
}
