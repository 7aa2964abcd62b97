//! What the tests of the product have for the simulator.
#![allow(dead_code, unused_imports, reason = "shared with the tests, and each uses a part")]

use std::path::PathBuf;

#[path = "../../support/eventually.rs"]
mod eventually;
#[path = "../../support/http.rs"]
pub mod http;
#[path = "../../support/port.rs"]
mod port;
#[path = "../../support/process.rs"]
mod process;
#[path = "../../support/simulator.rs"]
mod simulator;
#[path = "../../support/warm.rs"]
mod warm;

pub use eventually::{PATIENCE, eventually};
pub use simulator::{Addressing, Customer, Received, Simulator};

/// The tests fork their backends from this interpreter; here is no such backend.
mod backend {
    use std::path::PathBuf;

    pub(super) fn python() -> PathBuf {
        PathBuf::from("python3")
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The simulator is looked for beside this.
mod connector {
    use std::path::PathBuf;

    pub fn binary() -> PathBuf {
        std::env::current_exe().unwrap_or_default()
    }
}
