//! The session is its owner's alone: nobody else may read its files, and an edge does not start on one that
//! others may.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use crate::support::{PATIENCE, Process, Role, Stage, clean, connector_binary, eventually, spawn};

/// `EX_CONFIG` of `sysexits.h`.
const BAD_CONFIG: i32 = 78;

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).expect("a file").permissions().mode() & 0o7777
}

/// Starts an edge without any other part, and returns how it ended and what it said.
async fn ending(auth: &Path, dir: &Path) -> (Option<i32>, String) {
    let settings = [
        ("NATS_URL", "nats://127.0.0.1:9"),
        ("HTTP_ADDR", "127.0.0.1:0"),
        ("WHATSAPP_AUTH_DIR", auth.to_str().expect("a path")),
    ];
    let settings: BTreeMap<String, String> =
        settings.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let mut process = spawn(Role::Edge, &settings, dir);
    let status = process.end(PATIENCE).await;
    (status.code(), process.stderr())
}

#[tokio::test]
async fn a_session_that_others_may_read_is_refused_with_the_remedy() {
    let dir = tempfile::tempdir().expect("a directory");
    let auth = dir.path().join("auth");
    DirBuilder::new().mode(0o755).create(&auth).expect("a directory");
    // Without waiting for the bus, which is not there.
    let (code, said) = ending(&auth, dir.path()).await;
    assert_eq!(code, Some(BAD_CONFIG), "{said}");
    let path = auth.display();
    assert!(said.contains(&format!("{path} has mode 0755")), "{said}");
    assert!(said.contains(&format!("chmod 700 {path}")), "{said}");
    assert_eq!(mode(&auth), 0o755, "it is left as it was");

    std::fs::set_permissions(&auth, Permissions::from_mode(0o700)).expect("a mode");
    let store = auth.join("default.db");
    std::fs::write(&store, "").expect("a file");
    std::fs::set_permissions(&store, Permissions::from_mode(0o644)).expect("a mode");
    let (code, said) = ending(&auth, dir.path()).await;
    assert_eq!(code, Some(BAD_CONFIG), "{said}");
    let path = store.display();
    assert!(said.contains(&format!("{path} has mode 0644")), "{said}");
    assert!(said.contains(&format!("chmod 600 {}/default.*", auth.display())), "{said}");
}

/// Whatever the umask is: with 0, everybody could write what nobody took care of.
#[tokio::test]
async fn what_an_edge_leaves_behind_is_its_owners_alone() {
    for umask in ["0", "022"] {
        let stage = Stage::plan().set().await;
        let auth = PathBuf::from(&stage.settings()["WHATSAPP_AUTH_DIR"]);
        let mut edge = start_with_umask(umask, &stage);
        let there = |name: &str| auth.join(name).exists();
        eventually("a session", PATIENCE, async || {
            if there("default.db-wal") { Ok(()) } else { Err("no store yet".to_owned()) }
        })
        .await;
        // While it runs, SQLite has files of its own.
        let files = all(&auth);
        assert!(files.len() >= 5, "{files:?}");
        assert_eq!(mode(&auth), 0o700, "umask {umask}");
        for path in files {
            assert_eq!(mode(&path), 0o600, "umask {umask}: {}", path.display());
        }
        edge.terminate();
        assert!(edge.end(PATIENCE).await.success());
        for path in all(&auth) {
            assert_eq!(mode(&path), 0o600, "umask {umask}, at the end: {}", path.display());
        }
        // And the next start takes what this one has left.
        let next = stage.start(Role::Edge).await;
        next.shows_a_code().await;
    }
}

fn all(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).expect("the session's directory");
    entries.map(|entry| entry.expect("an entry").path()).filter(|path| path.exists()).collect()
}

fn start_with_umask(umask: &str, stage: &Stage) -> Process {
    let mut command = clean(Path::new("sh"));
    command.args(["-c", &format!("umask {umask}; exec \"$@\""), "sh"]).arg(connector_binary()).arg("edge");
    command.current_dir(stage.dir()).envs(stage.settings());
    Process::start("edge", &mut command, stage.dir())
}
