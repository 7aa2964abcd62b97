//! Calls of the simulator's control API: `METHOD PATH`, a line break, and a body; a line of `---` before the next.

use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use whatsapp_simulator::{Config, Handle, Simulator};

/// More calls than this tell nothing new.
const MOST: usize = 4;
/// Some calls wait for something that will not come.
const PATIENCE: Duration = Duration::from_millis(40);

thread_local! {
    static RUNTIME: Runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
}

pub fn check(bytes: &[u8]) {
    RUNTIME.with(|runtime| runtime.block_on(calls(bytes)));
}

async fn calls(bytes: &[u8]) {
    let simulator = Simulator::start(Config::default()).await.expect("a simulator");
    ok(&simulator, "/sim/accounts", r#"{"phone":"5491100000000","name":"Bistro"}"#).await;
    ok(&simulator, "/sim/customers", r#"{"phone":"5491112345678","name":"Ana"}"#).await;
    let text = String::from_utf8_lossy(bytes);
    for call in text.split("\n---\n").take(MOST) {
        let (line, body) = call.split_once('\n').unwrap_or((call, ""));
        let (method, path) = line.trim().split_once(' ').unwrap_or(("POST", line));
        let answer = simulator.call(method, path, body.as_bytes().to_vec());
        if let Ok(Some((status, answer))) = tokio::time::timeout(PATIENCE, answer).await {
            judge(line, status, &answer);
        }
    }
    let (status, _) = simulator.call("GET", "/sim/state", Vec::new()).await.expect("a call");
    assert_eq!(status, 200, "it is well after all that");
    simulator.shutdown().await.expect("it ends");
}

async fn ok(simulator: &Handle, path: &str, body: &str) {
    let (status, answer) = simulator.call("POST", path, body.into()).await.expect("a call");
    assert_eq!(status, 201, "{}", String::from_utf8_lossy(&answer));
}

/// Nothing that is asked is the simulator's fault, and what is refused says why.
fn judge(line: &str, status: u16, answer: &[u8]) {
    let shown = String::from_utf8_lossy(answer);
    assert!(status < 500, "{line}: {status}: {shown}");
    if status >= 400 {
        let said: serde_json::Value = serde_json::from_slice(answer).expect("an error is JSON");
        assert!(said["error"].as_str().is_some_and(|why| !why.is_empty()), "{line}: {status}: {shown}");
    }
}
