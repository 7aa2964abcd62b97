//! A container has no shell: the binary itself asks the process beside it.

use crate::support::{Connector, PATIENCE, Role, Stage, spawn_command};

#[tokio::test]
async fn the_process_beside_it_is_asked_whether_it_lives_and_whether_it_is_ready() {
    let stage = Stage::plan().set().await;
    let edge = stage.start(Role::Edge).await;
    let well = async |arguments: &[&str]| ask(&stage, &edge, arguments).await;
    assert_eq!(well(&["healthcheck"]).await, Some(0));
    assert_eq!(well(&["healthcheck", "--ready"]).await, Some(1), "it is not linked");
    edge.stop().await;
    let settings = [("HTTP_ADDR".to_owned(), "127.0.0.1:9".to_owned())].into();
    let mut nobody = spawn_command(&["healthcheck"], &settings, stage.dir());
    assert_eq!(nobody.end(PATIENCE).await.code(), Some(1));
    assert!(nobody.stderr().contains("no process answers on HTTP_ADDR=127.0.0.1:9"), "{}", nobody.stderr());
}

async fn ask(stage: &Stage, of: &Connector, arguments: &[&str]) -> Option<i32> {
    let settings = [("HTTP_ADDR".to_owned(), of.address().to_owned())].into();
    spawn_command(arguments, &settings, stage.dir()).end(PATIENCE).await.code()
}
