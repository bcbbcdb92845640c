//! A model out of a GGUF file: weights, vocabulary, template and limits.
//!
//! The weights are shared by all conversations; each computes in a [`State`] of its own, which is cheap to make.
//! Nothing here knows of requests, events or threads.

use std::fs::File;
use std::io::{self, BufReader};
use std::path::Path;

use candle_core::quantized::gguf_file::{Content, Value};
use candle_core::{Device, Tensor};
use candle_transformers::models::quantized_llama::{MAX_SEQ_LEN, ModelWeights};

use super::template::Template;
use super::vocabulary::Vocabulary;
use crate::error::{Error, Kind};

/// A model, ready to answer.
pub(super) struct Model {
    /// Never computes itself, so that it stays as it was loaded.
    base: ModelWeights,
    /// Text to ids and back.
    pub(super) vocabulary: Vocabulary,
    /// Messages to a prompt.
    pub(super) template: Template,
    /// How many tokens a conversation can have with its answer.
    pub(super) context: usize,
    /// What a [`State`] holds for each token, in bytes.
    pub(super) token_bytes: usize,
}

/// What a model has read of one conversation. A clone goes its own way from there.
#[derive(Clone)]
pub(super) struct State(ModelWeights);

impl State {
    /// Reads these ids behind the `read` ids before them, and gives each token's chance to be the next, as logits.
    /// There is at least one id, and `read` is what this state has read.
    pub(super) fn read(&mut self, ids: &[u32], read: usize) -> candle_core::Result<Vec<f32>> {
        let ids = Tensor::new(ids, &Device::Cpu)?.unsqueeze(0)?;
        self.0.forward(&ids, read)?.squeeze(0)?.to_vec1()
    }
}

/// Why a file is not a model that can be used here.
#[derive(Debug)]
pub(super) struct Refusal(String);

impl Refusal {
    /// The file's tokenizer is not one that is known.
    pub(super) fn tokenizer(why: &str) -> Refusal {
        Refusal(format!("its tokenizer is not supported: {}", first_line(why)))
    }

    fn at(self, path: &Path) -> Error {
        let message = format!("the model file `{}` cannot be used: {}", path.display(), self.0);
        Error::new(Kind::ConfigInvalid, message).with_hint(
            "the embedded dialect takes GGUF files of the architecture `llama` (SmolLM2, Llama 3, Mistral and the \
             like) with a chat template and a byte-level tokenizer",
        )
    }
}

impl Model {
    /// Loads a file: 0.2 s for the default model, and twice the file's size in memory.
    pub(super) fn load(path: &Path) -> Result<Model, Error> {
        let (content, reader) = open(path)?;
        Model::build(content, reader).map_err(|refusal| refusal.at(path))
    }

    fn build(mut content: Content, mut reader: BufReader<File>) -> Result<Model, Refusal> {
        let vocabulary = Vocabulary::new(&mut content)?;
        let template = template(&content)?;
        let limit = number(&content, "llama.context_length").unwrap_or(MAX_SEQ_LEN);
        let width = head_width(&content).unwrap_or(0);
        let heads = number(&content, "llama.attention.head_count_kv").unwrap_or(0);
        let layers = number(&content, "llama.block_count").unwrap_or(0);
        let base = ModelWeights::from_gguf(content, &mut reader, &Device::Cpu).map_err(refused)?;
        Ok(Model {
            base,
            vocabulary,
            template,
            context: limit.min(MAX_SEQ_LEN),
            // Keys and values, each as f32.
            token_bytes: 2 * 4 * layers * heads * width,
        })
    }

    /// A conversation that has read nothing.
    pub(super) fn fresh(&self) -> State {
        State(self.base.clone())
    }
}

/// Opens a file and reads what comes before the weights. An error says why no model can be made of it.
pub(super) fn open(path: &Path) -> Result<(Content, BufReader<File>), Error> {
    let file = File::open(path).map_err(|cause| match cause.kind() {
        io::ErrorKind::NotFound => Error::not_found("model file", &path.display().to_string()),
        _ => Refusal(cause.to_string()).at(path),
    })?;
    let mut reader = BufReader::new(file);
    let content = Content::read(&mut reader).map_err(|error| refused(error).at(path))?;
    match supported(&content) {
        Ok(()) => Ok((content, reader)),
        Err(refusal) => Err(refusal.at(path)),
    }
}

fn supported(content: &Content) -> Result<(), Refusal> {
    let architecture = text(content, "general.architecture").unwrap_or("none");
    if architecture != "llama" {
        return Err(Refusal(format!(
            "expected the architecture `llama`, got `{architecture}`"
        )));
    }
    // The weights' reader takes a head to be as wide as the embedding has room for.
    match (number(content, "llama.attention.key_length"), head_width(content)) {
        (Some(width), Some(implied)) if width != implied => Err(Refusal(format!(
            "expected attention heads of width {implied}, got {width}"
        ))),
        _ => Ok(()),
    }
}

fn template(content: &Content) -> Result<Template, Refusal> {
    let source =
        text(content, "tokenizer.chat_template").ok_or_else(|| Refusal("it has no chat template".to_owned()))?;
    let token = |key: &str| {
        let id = number(content, key)?;
        let Some(Value::Array(tokens)) = content.metadata.get("tokenizer.ggml.tokens") else {
            return None;
        };
        tokens.get(id)?.to_string().ok().cloned()
    };
    let start = token("tokenizer.ggml.bos_token_id").unwrap_or_default();
    let end = token("tokenizer.ggml.eos_token_id").unwrap_or_default();
    Template::new(source, start, end).map_err(|error| Refusal(format!("its chat template is not supported: {error}")))
}

fn head_width(content: &Content) -> Option<usize> {
    number(content, "llama.embedding_length")?.checked_div(number(content, "llama.attention.head_count")?)
}

fn text<'c>(content: &'c Content, key: &str) -> Option<&'c str> {
    match content.metadata.get(key) {
        Some(Value::String(text)) => Some(text),
        _ => None,
    }
}

fn number(content: &Content, key: &str) -> Option<usize> {
    content.metadata.get(key)?.to_u64().ok()?.try_into().ok()
}

fn refused(error: candle_core::Error) -> Refusal {
    Refusal(first_line(&error.to_string()).to_owned())
}

/// What candle adds below the first line is a backtrace.
pub(super) fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use candle_core::quantized::gguf_file;

    use super::*;

    /// A file with these texts as its metadata and no weights.
    fn file(dir: &Path, texts: &[(&str, &str)]) -> PathBuf {
        let path = dir.join("model.gguf");
        let values: Vec<Value> = texts
            .iter()
            .map(|(_, text)| Value::String((*text).to_owned()))
            .collect();
        let metadata: Vec<(&str, &Value)> = texts.iter().map(|(key, _)| *key).zip(&values).collect();
        gguf_file::write(&mut File::create(&path).unwrap(), &metadata, &[]).unwrap();
        path
    }

    fn refusal(path: &Path) -> Error {
        Model::load(path).err().expect("it is refused")
    }

    #[test]
    fn what_cannot_be_used_is_refused_in_a_sentence() {
        let dir = tempfile::tempdir().unwrap();
        let llama = ("general.architecture", "llama");
        let cases: [(&[(&str, &str)], &str); 4] = [
            (
                &[("general.architecture", "bert")],
                "expected the architecture `llama`, got `bert`",
            ),
            (
                &[llama, ("tokenizer.ggml.model", "t5")],
                "expected the kind `gpt2`, got `t5`",
            ),
            (
                &[
                    llama,
                    ("tokenizer.ggml.model", "gpt2"),
                    ("tokenizer.ggml.pre", "viking"),
                ],
                "got `viking`",
            ),
            (
                &[
                    llama,
                    ("tokenizer.ggml.model", "gpt2"),
                    ("tokenizer.ggml.pre", "smollm"),
                ],
                "tokenizer.ggml.tokens",
            ),
        ];
        for (texts, words) in cases {
            let error = refusal(&file(dir.path(), texts));
            assert_eq!(error.kind(), Kind::ConfigInvalid);
            assert!(error.message.contains(words), "{error}");
            assert!(error.data.hint.unwrap().contains("architecture `llama`"));
        }
    }

    #[test]
    fn what_is_no_model_file_is_refused_too() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("text.gguf");
        fs::write(&path, "Once upon a time").unwrap();
        assert!(refusal(&path).message.contains("unknown magic"));
        fs::write(&path, b"GG").unwrap();
        assert_eq!(refusal(&path).kind(), Kind::ConfigInvalid);
        assert_eq!(refusal(dir.path()).kind(), Kind::ConfigInvalid);
        assert_eq!(refusal(&dir.path().join("none.gguf")).kind(), Kind::NotFound);
    }

    #[test]
    fn a_conversation_costs_45_kib_a_token() {
        let model = Model::load(&super::super::weights::for_tests()).unwrap();
        assert_eq!((model.context, model.token_bytes), (4096, 45 << 10));
    }

    #[test]
    fn what_is_read_in_pieces_is_the_same_as_what_is_read_at_once() {
        let model = Model::load(&super::super::weights::for_tests()).unwrap();
        let ids: Vec<u32> = (0..150).map(|n| 1000 + n * 37).collect();
        let at_once = model.fresh().read(&ids, 0).unwrap();
        let mut state = model.fresh();
        let mut in_pieces = Vec::new();
        for (index, piece) in ids.chunks(64).enumerate() {
            in_pieces = state.read(piece, index * 64).unwrap();
        }
        let differences = at_once.iter().zip(&in_pieces).map(|(a, b)| (a - b).abs());
        assert!(differences.fold(0.0, f32::max) < 0.05);
        // The base has read nothing of it.
        assert_eq!(
            model.fresh().read(&ids[..3], 0).unwrap(),
            model.fresh().read(&ids[..3], 0).unwrap()
        );
    }
}
