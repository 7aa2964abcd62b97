//! A real nats-server with JetStream on a disk of its own.

use std::path::{Path, PathBuf};

use super::port::Port;
use super::process::{Process, clean};
use super::{PATIENCE, Streams, eventually, root};

/// What a nats-server is started with, beside an address and a store of its own.
#[derive(Debug, Clone, Default)]
pub struct Setup {
    /// Its configuration.
    pub config: Option<PathBuf>,
    /// It says where the store is.
    pub has_store: bool,
    /// Variables that the configuration names.
    pub environment: Vec<(String, String)>,
    /// User and password of the harness itself.
    pub user: Option<(String, String)>,
    /// The harness's credentials file.
    pub creds: Option<PathBuf>,
    /// The CA, and the harness's certificate and key.
    pub tls: Option<[PathBuf; 3]>,
}

impl Setup {
    /// How the harness gets in.
    pub fn options(&self) -> async_nats::ConnectOptions {
        let mut options = async_nats::ConnectOptions::new();
        if let Some((user, password)) = self.user.clone() {
            options = options.user_and_password(user, password);
        }
        if let Some(path) = &self.creds {
            let text = std::fs::read_to_string(path).expect("the harness's credentials");
            options = options.credentials(&text).expect("credentials");
        }
        if let Some([ca, certificate, key]) = self.tls.clone() {
            // Whichever test comes first.
            let _ = rustls::crypto::ring::default_provider().install_default();
            options = options.add_root_certificates(ca).add_client_certificate(certificate, key);
        }
        options
    }
}

/// One nats-server; it may be killed and started again on the same port and store.
#[derive(Debug)]
pub struct Nats {
    process: Process,
    dir: PathBuf,
    port: Port,
    setup: Setup,
}

impl Nats {
    /// Starts one on a free port, with everything below `dir`.
    pub async fn start(dir: PathBuf) -> Self {
        Self::start_as(dir, Setup::default()).await
    }

    /// Starts one as `setup` has it.
    pub async fn start_as(dir: PathBuf, setup: Setup) -> Self {
        std::fs::create_dir_all(&dir).expect("a directory for nats-server");
        let port = Port::free();
        let mut process = spawn(&dir, port.number(), &setup);
        listens(&mut process, &dir).await;
        Self { process, dir, port, setup }
    }

    /// It reads its configuration again, and has.
    pub async fn reload(&self) {
        let reloads = |log: &str| log.matches("Reloaded server configuration").count();
        let before = reloads(&self.log());
        self.process.hang_up();
        eventually("nats-server to read its configuration", PATIENCE, async || {
            let log = self.log();
            if reloads(&log) > before { Ok(()) } else { Err(log) }
        })
        .await;
    }

    /// What it has logged in this life.
    pub fn log(&self) -> String {
        self.process.stderr()
    }

    /// Its process.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Where clients reach it.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port.number())
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Has it not ended?
    pub fn is_running(&mut self) -> bool {
        self.process.ended().is_none()
    }

    /// It hears and answers nothing.
    pub fn freeze(&mut self) {
        self.process.freeze();
    }

    /// It goes on.
    pub fn thaw(&mut self) {
        self.process.thaw();
    }

    /// Ends it as an operator would.
    pub async fn stop(&mut self) {
        self.process.terminate();
        self.process.end(PATIENCE).await;
    }

    /// Starts it again after its end: the same port, the same store.
    pub async fn restart(&mut self) {
        self.process = spawn(&self.dir, self.port.number(), &self.setup);
        listens(&mut self.process, &self.dir).await;
    }

    /// It is told to hand its clients over to other servers and to end (`--signal ldm`), and a new one takes its
    /// place. Returns the old one.
    pub async fn succeed(&mut self) -> Process {
        let told = self.process.pid().to_string();
        let signal = clean(&binary()).args(["--signal", &format!("ldm={told}")]).status();
        assert!(signal.is_ok_and(|status| status.success()), "nats-server takes the signal");
        eventually("the store to be free", PATIENCE, async || {
            let log = self.log();
            if log.contains("JetStream Shutdown") { Ok(()) } else { Err(log) }
        })
        .await;
        let mut successor = spawn(&self.dir, self.port.number(), &self.setup);
        listens(&mut successor, &self.dir).await;
        std::mem::replace(&mut self.process, successor)
    }

    /// A look into its streams.
    pub async fn streams(&self) -> Streams {
        Streams::connect_as(&self.url(), self.setup.options()).await
    }
}

fn spawn(dir: &Path, port: u16, setup: &Setup) -> Process {
    let mut command = clean(&binary());
    command.args(["-a", "127.0.0.1", "-p", &port.to_string()]);
    if !setup.has_store {
        command.args(["-js", "-sd"]).arg(dir.join("store"));
    }
    command.arg("--ports_file_dir").arg(dir);
    if let Some(config) = &setup.config {
        command.arg("--config").arg(config);
    }
    command.envs(setup.environment.iter().cloned());
    Process::start("nats-server", &mut command, dir)
}

/// The server writes its ports down once it is ready.
async fn listens(process: &mut Process, dir: &Path) {
    let pid = process.pid();
    eventually("nats-server to listen", PATIENCE, async || {
        if let Some(status) = process.ended() {
            panic!("nats-server ended early, {status}");
        }
        let names = std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.file_name());
        let mut written = names.filter(|name| name.to_string_lossy().ends_with(&format!("_{pid}.ports")));
        written.next().map(|_| ()).ok_or("no ports file".to_owned())
    })
    .await
}

/// `NATS_SERVER_BIN`, else what `make tools` installs, else the one on `PATH`.
pub fn binary() -> PathBuf {
    if let Some(named) = std::env::var_os("NATS_SERVER_BIN") {
        return named.into();
    }
    let installed = root().join(".tools/bin/nats-server");
    if installed.exists() {
        return installed;
    }
    let on_path = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
        .map(|dir| dir.join("nats-server"))
        .find(|candidate| candidate.is_file());
    on_path.expect("no nats-server: run `make tools`, or name one with NATS_SERVER_BIN")
}
