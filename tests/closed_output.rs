//! A reader of standard output who has seen enough, as `head -1` has, ends a command quietly: no panic, nothing on
//! standard error that a person would take for a fault, and the exit code that the command would have had anyway.

use std::process::Stdio;

use crate::support::{Layout, Stage, clean, connector_binary, warning};

/// Runs a command whose standard output is closed before it can say anything.
fn unread(stage: &Stage, arguments: &[&str]) -> (Option<i32>, String) {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let mut command = clean(connector_binary());
    command.args(arguments).current_dir(stage.dir()).envs(stage.settings());
    let ended = command.stdin(Stdio::null()).stdout(writer).output().expect("the command runs");
    (ended.status.code(), String::from_utf8_lossy(&ended.stderr).into_owned())
}

#[tokio::test]
async fn a_command_whose_reader_has_gone_ends_quietly() {
    let stage = Stage::plan().backend("BACKEND_FAIL", "1:422").set().await;
    stage.logs.expects(&warning::given_up("http-422"));
    let _product = stage.product(Layout::OneProcess).await;
    let customer = stage.customer().await;
    customer.write("hola").await;
    stage.streams().await.decided(1).await;
    for (arguments, code) in [
        (&["--help"][..], 0),
        (&["config"], 0),
        (&["config", "--json"], 0),
        (&["check", "forwarder"], 0),
        // A dead letter needs a person.
        (&["status"], 1),
        (&["tap"], 0),
        (&["dlq", "list"], 0),
        (&["send", "--to", customer.phone(), "--text", "Hola"], 0),
        (&["provision"], 0),
        (&["dlq", "drop", "--all"], 0),
    ] {
        let (ended, said) = unread(&stage, arguments);
        assert_eq!(ended, Some(code), "{arguments:?} ended with {ended:?}: {said}");
        for word in ["panicked", "Broken pipe", "standard output"] {
            assert!(!said.contains(word), "{arguments:?} says {word}: {said}");
        }
    }
    // What was asked for is done, whoever reads of it.
    assert_eq!(stage.output(&["dlq", "list"]).await, "");
}
