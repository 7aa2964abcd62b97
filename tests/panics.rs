//! What a panic of a task means: of one that everything depends on, the end of the process; of a chat's own, a delay of
//! that chat.

use crate::support::{Layout, PATIENCE, Role, Stage, eventually, spawn};

/// Exit code 69: start me again.
const UNAVAILABLE: i32 = 69;
/// What the runtime prints.
const PANICKED: &str = "panicked at src/crash.rs";

#[tokio::test]
async fn a_panic_of_a_task_that_everything_depends_on_ends_the_process_with_69() {
    let stage = Stage::plan().set().await;
    stage.logs.expects(PANICKED);
    stage.logs.expects("a task that everything depends on panicked; the process ends with exit code 69");
    for task in ["signals", "admin server", "lease renewal", "edge heartbeat", "connection watch"] {
        let mut settings = stage.settings().clone();
        settings.insert("PANIC_AT".to_owned(), task.to_owned());
        let mut edge = spawn(Role::Edge, &settings, stage.dir());
        let status = edge.end(PATIENCE).await;
        assert_eq!(status.code(), Some(UNAVAILABLE), "{task}: {status}");
        assert!(edge.stderr().contains(&format!("\"task\":\"{task}\"")), "{}", edge.stderr());
    }
}

#[tokio::test]
async fn a_lane_that_panics_is_removed_and_its_answer_comes_again_and_no_other_chat_waits() {
    let stage = Stage::plan().setting("PANIC_AT", "a lane at work").set().await;
    stage.logs.expects(PANICKED);
    stage.logs.expects("a task panicked; this is a bug, please report it");
    let _product = stage.product(Layout::Split { forwarders: 1 }).await;
    let [first, other] = <[_; 2]>::try_from(stage.customers("54911561", 2).await).expect("two");
    first.write("uno").await;
    let streams = stage.streams().await;
    streams.decided(1).await;

    other.write("dos").await;
    assert_eq!(other.receives(1).await[0].text, "eco: dos");
    first.write("tres").await;
    let inbox = first.receives(2).await;
    let texts: Vec<&str> = inbox.iter().map(|received| received.text.as_str()).collect();
    assert_eq!(texts, ["eco: uno", "eco: tres"]);
    eventually("everybody to have nothing left", PATIENCE, async || streams.left().await).await;
}
