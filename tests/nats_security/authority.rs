//! A certificate authority of the test's own.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

/// It signs what the test needs, in files below a directory.
pub struct Authority {
    dir: PathBuf,
    name: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// A new one that nobody knows yet.
    pub fn new(dir: &Path, name: &str) -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("a CA's parameters");
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).expect("a CA");
        let authority = Self { dir: dir.to_owned(), name: name.to_owned(), issuer: Issuer::new(params, key) };
        std::fs::write(authority.ca(), certificate.pem()).expect("the CA's file");
        authority
    }

    /// Its own certificate.
    pub fn ca(&self) -> PathBuf {
        self.dir.join(format!("{}.pem", self.name))
    }

    /// A certificate for loopback, and its key.
    pub fn sign(&self, name: &str) -> [PathBuf; 2] {
        let key = KeyPair::generate().expect("a key");
        let names = ["127.0.0.1".to_owned(), "localhost".to_owned()];
        let params = CertificateParams::new(names).expect("a certificate's parameters");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        let paths = ["crt", "key"].map(|kind| self.dir.join(format!("{}-{name}.{kind}", self.name)));
        std::fs::write(&paths[0], certificate.pem()).expect("the certificate's file");
        std::fs::write(&paths[1], key.serialize_pem()).expect("the key's file");
        paths
    }
}
