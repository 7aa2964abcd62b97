//! What the tests of the product have for the simulator.
#![allow(dead_code, unused_imports, reason = "shared with the tests, and each uses a part")]

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

pub use eventually::{PATIENCE, eventually};
pub use simulator::{Addressing, Customer, Received, Simulator};

/// The simulator is looked for beside this.
mod connector {
    use std::path::PathBuf;

    pub fn binary() -> PathBuf {
        std::env::current_exe().unwrap_or_default()
    }
}
