//! Text to token ids and back, as the model's file has it.
//!
//! The tokenizer is built from the file's own metadata. Which rule splits text into words is only named there, not
//! written down; a name that is not known here is refused, since with a wrong rule a model answers badly in silence.
//!
//! The invariant: text is only ever text. A special token comes from [`Piece::Token`], never from what somebody typed.

use candle_core::quantized::gguf_file::{Content, Value};
use candle_core::quantized::tokenizer::TokenizerFromGguf;
use tokenizers::Tokenizer;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;

use super::model::Refusal;

/// The names of tokens that end a turn, in the files of different families. Only special tokens count.
const TURN_ENDS: [&str; 6] = [
    "<|im_end|>",
    "<|endoftext|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end_of_text|>",
    "</s>",
];

/// The kinds of `tokenizer.ggml.token_type` that stand for something else than their own text.
const CONTROL: i64 = 3;

/// A part of a prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    /// A special token.
    Token(u32),
    /// Plain text, whatever it looks like.
    Text(String),
}

/// A model's vocabulary.
pub(super) struct Vocabulary {
    tokenizer: Tokenizer,
    /// Special tokens by their text, longest first.
    specials: Vec<(String, u32)>,
    turn_ends: Vec<u32>,
    /// What every prompt begins with, where the file demands that.
    start: Option<u32>,
    longest: usize,
}

impl Vocabulary {
    /// The vocabulary in a file's metadata.
    pub(super) fn new(content: &mut Content) -> Result<Vocabulary, Refusal> {
        let rule = WordRule::of(content)?;
        if let WordRule::Llama3 = rule {
            // The tokenizer's builder knows this rule under another name, and what else comes with it is in no file.
            let metadata = &mut content.metadata;
            metadata.insert("tokenizer.ggml.pre".into(), Value::String("llama3".into()));
            metadata.insert("tokenizer.ggml.ignore_merges".into(), Value::Bool(true));
        }
        let mut tokenizer = Tokenizer::from_gguf(content).map_err(|error| Refusal::tokenizer(&error.to_string()))?;
        if let WordRule::SmolLm = rule {
            let words = ByteLevel::new(false, true, true);
            let words: Vec<PreTokenizerWrapper> = vec![Digits::new(true).into(), words.into()];
            tokenizer.with_pre_tokenizer(Some(Sequence::new(words)));
        }
        tokenizer.set_encode_special_tokens(true);

        let specials = specials(content);
        let stated = [
            "tokenizer.ggml.eos_token_id",
            "tokenizer.ggml.eot_token_id",
            "tokenizer.ggml.eom_token_id",
        ];
        let named = specials.iter().filter(|(text, _)| TURN_ENDS.contains(&text.as_str()));
        let turn_ends = stated
            .iter()
            .filter_map(|key| id(content, key))
            .chain(named.map(|(_, id)| *id))
            .collect();
        let wants_start = matches!(
            content.metadata.get("tokenizer.ggml.add_bos_token"),
            Some(Value::Bool(true))
        );
        Ok(Vocabulary {
            turn_ends,
            start: id(content, "tokenizer.ggml.bos_token_id").filter(|_| wants_start),
            longest: tokens(content)
                .map(|token| token.chars().count())
                .max()
                .unwrap_or(1)
                .max(1),
            tokenizer,
            specials,
        })
    }

    /// The special tokens with their texts, longest first.
    pub(super) fn specials(&self) -> &[(String, u32)] {
        &self.specials
    }

    /// Whether this token ends the turn.
    pub(super) fn ends_turn(&self, id: u32) -> bool {
        self.turn_ends.contains(&id)
    }

    /// What every prompt begins with.
    pub(super) fn start(&self) -> Option<u32> {
        self.start
    }

    /// The fewest tokens that a text of this many bytes can have.
    pub(super) fn at_least(&self, bytes: usize) -> usize {
        bytes.div_ceil(self.longest)
    }

    /// The ids of these pieces.
    pub(super) fn encode(&self, pieces: &[Piece]) -> Vec<u32> {
        let mut ids = Vec::new();
        for piece in pieces {
            match piece {
                Piece::Token(id) => ids.push(*id),
                Piece::Text(text) => {
                    let encoding = self.tokenizer.encode_fast(text.as_str(), false);
                    // A byte-level vocabulary has a token for every byte, so there is no text that it cannot encode.
                    ids.extend(encoding.expect("bytes have tokens").get_ids());
                }
            }
        }
        ids
    }

    /// The bytes that a token stands for: none for a special token. They may end within a character.
    pub(super) fn bytes(&self, id: u32) -> Vec<u8> {
        if self.specials.iter().any(|(_, special)| *special == id) {
            return Vec::new();
        }
        let token = self.tokenizer.id_to_token(id).unwrap_or_default();
        token.chars().filter_map(byte).collect()
    }
}

/// How text is split into words before they become tokens.
#[derive(Debug, Clone, Copy)]
enum WordRule {
    /// GPT-2's words, each digit by itself.
    SmolLm,
    /// Llama 3's words.
    Llama3,
    /// As the tokenizer's builder does it by the name in the file.
    Known,
}

impl WordRule {
    fn of(content: &Content) -> Result<WordRule, Refusal> {
        let text = |key: &str| match content.metadata.get(key) {
            Some(Value::String(text)) => text.as_str(),
            _ => "",
        };
        let model = text("tokenizer.ggml.model");
        if model != "gpt2" {
            return Err(Refusal::tokenizer(&format!("expected the kind `gpt2`, got `{model}`")));
        }
        match text("tokenizer.ggml.pre") {
            "smollm" => Ok(WordRule::SmolLm),
            "llama-bpe" | "llama3" | "llama-v3" => Ok(WordRule::Llama3),
            "gpt-2" | "gpt2" | "qwen2" => Ok(WordRule::Known),
            other => Err(Refusal::tokenizer(&format!(
                "expected its rule for words to be `smollm`, `llama-bpe`, `qwen2` or `gpt-2`, got `{other}`"
            ))),
        }
    }
}

fn tokens(content: &Content) -> impl Iterator<Item = &String> {
    let tokens = match content.metadata.get("tokenizer.ggml.tokens") {
        Some(Value::Array(tokens)) => tokens.as_slice(),
        _ => &[],
    };
    tokens.iter().filter_map(|token| token.to_string().ok())
}

fn specials(content: &Content) -> Vec<(String, u32)> {
    let kinds = match content.metadata.get("tokenizer.ggml.token_type") {
        Some(Value::Array(kinds)) => kinds.as_slice(),
        _ => &[],
    };
    let is_special = |kind: &Value| number(kind) == Some(CONTROL);
    let mut specials: Vec<(String, u32)> = tokens(content)
        .zip(0..)
        .zip(kinds)
        .filter(|(_, kind)| is_special(kind))
        .map(|((token, id), _)| (token.clone(), id))
        .filter(|(token, _)| token.chars().count() > 1)
        .collect();
    specials.sort_by_key(|(text, _)| std::cmp::Reverse(text.len()));
    specials
}

fn id(content: &Content, key: &str) -> Option<u32> {
    number(content.metadata.get(key)?)?.try_into().ok()
}

fn number(value: &Value) -> Option<i64> {
    match value {
        Value::U8(n) => Some((*n).into()),
        Value::I8(n) => Some((*n).into()),
        Value::U16(n) => Some((*n).into()),
        Value::I16(n) => Some((*n).into()),
        Value::U32(n) => Some((*n).into()),
        Value::I32(n) => Some((*n).into()),
        Value::U64(n) => (*n).try_into().ok(),
        Value::I64(n) => Some(*n),
        _ => None,
    }
}

/// The byte that a character of a byte-level vocabulary stands for. Bytes that show as themselves in Latin-1 are
/// themselves; the others follow from U+0100 on, in their order.
fn byte(character: char) -> Option<u8> {
    let shows = |byte: &u8| matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    let code = u32::from(character);
    match u8::try_from(code) {
        Ok(byte) => Some(byte).filter(shows),
        Err(_) => (0..=0xff).filter(|byte| !shows(byte)).nth(code as usize - 0x100),
    }
}

#[cfg(test)]
mod tests {
    use super::super::model::open;
    use super::super::weights;
    use super::*;

    #[test]
    fn every_byte_has_one_character() {
        let mut bytes: Vec<u8> = (0..0x200).filter_map(char::from_u32).filter_map(byte).collect();
        bytes.sort_unstable();
        assert_eq!(bytes, (0..=0xff).collect::<Vec<u8>>());
        assert_eq!((byte('Ġ'), byte('Ċ'), byte('a')), (Some(b' '), Some(b'\n'), Some(b'a')));
    }

    /// The ids were made from the file's tables by a program of its own, after the rule as llama.cpp writes it.
    #[test]
    fn text_becomes_the_ids_that_the_model_was_trained_with() {
        let (mut content, _) = open(&weights::for_tests()).unwrap();
        let vocabulary = Vocabulary::new(&mut content).unwrap();
        let cases: [(&str, &[u32]); 15] = [
            ("Hello, world!", &[19556, 28, 905, 17]),
            ("  two  spaces ", &[216, 827, 216, 5600, 216]),
            (
                "It's 2026, isn't it?",
                &[1589, 506, 216, 34, 32, 34, 38, 28, 3247, 982, 357, 47],
            ),
            ("x1 = 42 + 007", &[104, 33, 446, 216, 36, 34, 1232, 216, 32, 32, 39]),
            ("\n\n  indented\n", &[8866, 641, 6574, 198]),
            ("tab\tend", &[15999, 197, 486]),
            (
                "naïve café — “quotes”",
                &[3546, 46494, 37366, 1841, 619, 385, 2346, 573],
            ),
            ("日本語", &[23274, 115, 40993, 179, 120, 248]),
            ("😀👍🏽", &[10813, 242, 218, 10813, 235, 231, 10813, 233, 138]),
            ("<|im_end|>", &[44, 108, 306, 79, 486, 108, 46]),
            ("don't WE'LL", &[12420, 982, 26587, 23, 16421]),
            ("a\r\nb", &[81, 201, 198, 82]),
            ("²³ ٣ Ⅷ", &[19133, 39050, 216, 164, 113, 216, 173, 223, 117]),
            (" ", &[216]),
            (
                "fn main() { println!(\"{}\", 1_000); }",
                &[
                    7853, 1085, 1000, 1662, 1628, 34115, 17, 43331, 1002, 216, 33, 79, 32, 32, 32, 4258, 4029,
                ],
            ),
        ];
        for (text, ids) in cases {
            let encoded = vocabulary.encode(&[Piece::Text(text.to_owned())]);
            assert_eq!(encoded, ids, "{text}");
            let bytes: Vec<u8> = encoded.iter().flat_map(|id| vocabulary.bytes(*id)).collect();
            assert_eq!(String::from_utf8(bytes).unwrap(), text);
            assert!(vocabulary.at_least(text.len()) <= encoded.len());
        }
        assert!(vocabulary.ends_turn(2) && vocabulary.ends_turn(0) && !vocabulary.ends_turn(1));
        assert_eq!(vocabulary.bytes(2), b"");
    }
}
