//! The C++ face of five Rust libraries. This file holds only the declarations that cross the border and the guard
//! around them; the work is in one file per concept. `mlx_lm/hub/*.h` wraps all of it: nothing else includes cxx.

mod byte_pairs;
mod cache;
mod digest;
mod download;
mod fetch;
mod grammar;
mod grammar_schema;
mod grammar_tokens;
mod guard;
mod halt;
mod header;
mod http;
mod matcher;
mod methods;
mod names;
mod regex_size;
mod template;
mod tojson;
mod tokenizer;

use byte_pairs::tokenizer_from_byte_pairs;
use digest::{BridgeDigest, digest_new};
use download::download_snapshot;
use grammar::{BridgeGrammar, grammar_new};
use grammar_tokens::{BridgeGrammarTokens, grammar_tokens};
use header::read_header;
use matcher::BridgeMatcher;
use template::{BridgeTemplate, template_new};
use tokenizer::{BridgeTokenizer, tokenizer_from_file, tokenizer_from_json};

#[cxx::bridge(namespace = "mlx_lm::bridge")]
mod ffi {
    /// One tensor of a safetensors header; offsets count from the start of the file.
    struct HeaderTensor {
        name: String,
        dtype: String,
        shape: Vec<i64>,
        begin: u64,
        end: u64,
    }

    /// One after the other in `text`: string i ends before ends[i].
    struct Strings<'a> {
        text: &'a [u8],
        ends: &'a [usize],
    }

    /// A byte-pair tokenizer.
    struct BytePairs<'a> {
        /// tokenizer.json without added tokens, and its model without tokens and merges.
        shell: &'a [u8],
        /// By id; of equal ones the last counts.
        tokens: Strings<'a>,
        /// Left and right in turn, the merge of lowest rank first.
        merges: Strings<'a>,
        /// The ids of added tokens, and whether each is special.
        added: &'a [u32],
        special: &'a [bool],
    }

    enum GrammarKind {
        JsonSchema,
        Regex,
        Lark,
        Choice,
    }

    struct GrammarRequest<'a> {
        kind: GrammarKind,
        /// One text; for a choice, each of them.
        source: Strings<'a>,
        /// JsonSchema: no white space that is not needed.
        compact: bool,
    }

    struct TokenList {
        tokens: Vec<i32>,
    }

    struct HeaderPair {
        key: String,
        value: String,
    }

    struct Header {
        tensors: Vec<HeaderTensor>,
        metadata: Vec<HeaderPair>,
    }

    struct SnapshotRequest {
        repo: String,
        revision: String,
        patterns: Vec<String>,
        offline: bool,
    }

    unsafe extern "C++" {
        include!("mlx_lm/hub/progress.h");
        type Progress;
        /// Err carries what the callback threw; the download ends with it.
        fn report(self: &Progress, file: &str, done: u64, total: u64) -> Result<()>;
    }

    extern "Rust" {
        type BridgeTokenizer;
        fn tokenizer_from_file(path: &[u8]) -> Result<Box<BridgeTokenizer>>;
        fn tokenizer_from_json(json: &[u8], origin: &[u8]) -> Result<Box<BridgeTokenizer>>;
        fn tokenizer_from_byte_pairs(parts: &BytePairs, origin: &[u8]) -> Result<Box<BridgeTokenizer>>;
        fn encode(self: &BridgeTokenizer, text: &[u8], special: bool) -> Result<Vec<i32>>;
        fn decode(self: &BridgeTokenizer, ids: &[i32], skip_special: bool) -> Result<String>;
        /// -1: there is no such token.
        fn token_to_id(self: &BridgeTokenizer, token: &[u8]) -> Result<i32>;
        /// Empty: there is no such id. Else one item.
        fn id_to_token(self: &BridgeTokenizer, id: i32) -> Result<Vec<String>>;
        fn vocab_size(self: &BridgeTokenizer) -> i32;
        fn vocabulary(self: &BridgeTokenizer) -> Result<Vec<String>>;
        fn added_tokens(self: &BridgeTokenizer, special: bool) -> Result<Vec<String>>;
        /// The `decoder` of tokenizer.json, or null.
        fn decoder_json(self: &BridgeTokenizer) -> Result<String>;

        type BridgeTemplate;
        fn template_new(source: &[u8], origin: &[u8]) -> Result<Box<BridgeTemplate>>;
        fn render(self: &BridgeTemplate, context_json: &[u8]) -> Result<String>;

        fn download_snapshot(request: &SnapshotRequest, progress: &Progress) -> Result<String>;

        type BridgeGrammarTokens;
        fn grammar_tokens(tokenizer: &BridgeTokenizer, size: u32, ends: &[i32]) -> Result<Box<BridgeGrammarTokens>>;

        type BridgeGrammar;
        fn grammar_new(tokens: &BridgeGrammarTokens, request: &GrammarRequest) -> Result<Box<BridgeGrammar>>;
        fn matcher(self: &BridgeGrammar) -> Box<BridgeMatcher>;
        fn warnings(self: &BridgeGrammar) -> Vec<String>;

        type BridgeMatcher;
        fn copy(self: &BridgeMatcher) -> Box<BridgeMatcher>;
        fn mask(self: &mut BridgeMatcher, bits: &mut [u32]) -> Result<()>;
        fn commit(self: &mut BridgeMatcher, token: i32) -> Result<bool>;
        fn validate(self: &mut BridgeMatcher, tokens: &[i32]) -> Result<usize>;
        fn rollback(self: &mut BridgeMatcher, count: usize) -> Result<()>;
        fn forced(self: &mut BridgeMatcher) -> Result<Vec<i32>>;
        fn accepts(self: &mut BridgeMatcher) -> Result<bool>;
        fn stopped(self: &BridgeMatcher) -> bool;
        /// Empty: `limit` tokens are not enough. Else one item.
        fn ending(self: &BridgeMatcher, limit: usize) -> Result<Vec<TokenList>>;

        type BridgeDigest;
        fn digest_new() -> Box<BridgeDigest>;
        fn update(self: &mut BridgeDigest, data: &[u8]);
        fn hex(self: &BridgeDigest) -> String;

        fn read_header(file: &[u8], origin: &[u8]) -> Result<Header>;
    }
}
