//! A production build can talk to WhatsApp only, and checks whom it talks to.

use std::process::Command;

use crate::support::root;

/// The client library's feature that skips the check of WhatsApp's certificate.
const DANGER: &str = "danger-skip-cert-chain-verify";
/// The product's feature that asks for it.
const SIMULATOR: &str = "whatsapp-connector feature \"simulator\"";

/// Which features the crate that makes the check would be built with, and who asks for them.
fn features_of(build: &[&str]) -> String {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["tree", "--locked", "--offline", "--edges", "features,no-dev", "--invert", "wacore-noise"])
        .args(build)
        .current_dir(root())
        .output()
        .expect("cargo tree");
    assert!(output.status.success(), "cargo tree: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn the_certificate_check_is_on_and_the_simulator_is_out() {
    for build in [&["--package", "whatsapp-connector"][..], &["--workspace"][..]] {
        let features = features_of(build);
        assert!(features.contains("whatsapp-connector v"), "the product is not in it:\n{features}");
        assert!(!features.contains(DANGER), "{build:?} has {DANGER}:\n{features}");
        assert!(!features.contains(SIMULATOR), "{build:?} has the simulator:\n{features}");
    }
}

/// The control: what the test above looks for is there to be found.
#[test]
fn a_simulator_build_shows_both() {
    let features = features_of(&["--package", "whatsapp-connector", "--features", "simulator"]);
    assert!(features.contains(DANGER), "{features}");
    assert!(features.contains(SIMULATOR), "{features}");
}
