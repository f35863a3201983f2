use super::*;

const BYTES: &str = r#"{"version": "1.0",
  "truncation": {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0},
  "padding": {"strategy": {"Fixed": 9}, "direction": "Right", "pad_to_multiple_of": null, "pad_id": 0,
              "pad_type_id": 0, "pad_token": "<s>"},
  "added_tokens": [{"id": 9, "content": "<s>", "single_word": false, "lstrip": false, "rstrip": false,
                    "normalized": false, "special": true}],
  "normalizer": null,
  "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
  "post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}},
    {"Sequence": {"id": "A", "type_id": 0}}], "pair": [{"Sequence": {"id": "A", "type_id": 0}},
    {"Sequence": {"id": "B", "type_id": 0}}], "special_tokens": {"<s>": {"id": "<s>", "ids": [9], "tokens": ["<s>"]}}},
  "decoder": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
  "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
            "vocab": {"a": 0, "b": 1, "ab": 2, "Ġ": 3, "Ã": 4, "¤": 5, "z": 8, "<s>": 9}, "merges": [["a", "b"]]}}"#;

fn tokenizer() -> Box<BridgeTokenizer> {
    tokenizer_from_json(BYTES.as_bytes(), b"T").unwrap_or_else(|e| panic!("{e}"))
}

fn fails(json: &str) -> String {
    tokenizer_from_json(json.as_bytes(), b"T\n").err().expect("an error")
}

#[test]
fn text_to_ids_and_back() {
    let t = tokenizer();
    assert_eq!(t.encode(b"ab aba", false).unwrap(), [2, 3, 2, 0]);
    assert_eq!(t.encode(b"ab", true).unwrap(), [9, 2], "neither truncated nor padded");
    assert_eq!(t.encode("ä<s>".as_bytes(), false).unwrap(), [4, 5, 9]);
    assert_eq!(t.encode(b"", true).unwrap(), [9]);
    assert_eq!(t.decode(&[9, 2, 3, 4, 5], true).unwrap(), "ab ä");
    assert_eq!(t.decode(&[9, 2, 3, 4, 5], false).unwrap(), "<s>ab ä");
    assert_eq!(t.decode(&[4], false).unwrap(), "\u{fffd}");
    assert_eq!(t.decode(&[-1, i32::MAX, i32::MIN, 7, 0], false).unwrap(), "a");
    assert!(t.encode(b"a\xff", false).err().unwrap().ends_with("expected UTF-8, found an invalid byte at 1"));
}

#[test]
fn vocabulary_by_id() {
    let t = tokenizer();
    assert_eq!(t.vocab_size(), 8);
    assert_eq!(t.vocabulary().unwrap(), ["a", "b", "ab", "Ġ", "Ã", "¤", "", "", "z", "<s>"]);
    assert_eq!((t.token_to_id(b"ab").unwrap(), t.token_to_id(b"<s>").unwrap()), (2, 9));
    assert_eq!((t.token_to_id(b"x").unwrap(), t.token_to_id(b"\xff").unwrap()), (-1, -1));
    assert_eq!(t.id_to_token(9).unwrap(), ["<s>"]);
    assert!([7, 10, -1, i32::MAX, i32::MIN].iter().all(|&id| t.id_to_token(id).unwrap().is_empty()));
    assert!(t.decoder_json().unwrap().contains("\"ByteLevel\""));
}

#[test]
fn hostile_files() {
    for json in ["", "{}", "[]", "null", "{\"model\": 1}", &"[".repeat(100_000), &BYTES[..BYTES.len() / 2]] {
        let text = fails(json);
        assert!(text.starts_with("[tokenizer] T : not a tokenizer that is known here: "), "{text}");
        assert!(text.len() < 500);
    }
    assert!(tokenizer_from_json(b"{\xff}", b"T").err().unwrap().ends_with("not UTF-8 at byte 1"));
    // Ids are the length of what vocabulary() makes.
    for id in ["16777217", "4294967295"] {
        assert!(
            fails(&BYTES.replace("\"ab\": 2", &format!("\"ab\": {id}")))
                .contains("expected ids up to 16777216, found ")
        );
    }
    for id in ["-1", "4294967296", "1.5", "\"2\""] {
        assert!(fails(&BYTES.replace("\"ab\": 2", &format!("\"ab\": {id}"))).contains("not a tokenizer"));
    }
    assert!(fails(&BYTES.replace("[\"a\", \"b\"]", "[\"a\", \"x\"]")).contains("not a tokenizer"));
    let words = r#"{"model": {"type": "WordLevel", "vocab": {}, "unk_token": "?"}}"#;
    let empty = tokenizer_from_json(words.as_bytes(), b"").unwrap_or_else(|e| panic!("{e}"));
    assert_eq!((empty.vocab_size(), empty.vocabulary().unwrap().len()), (0, 0));
    assert_eq!(empty.decoder_json().unwrap(), "null");
}

#[test]
fn files() {
    let of = |path: &str| tokenizer_from_file(path.as_bytes()).err().expect(path);
    assert!(of("/nowhere/tokenizer.json").starts_with("[tokenizer] /nowhere/tokenizer.json: cannot be read: "));
    assert!(of("/").ends_with("expected a file, found something else"));
    assert!(of("/dev/zero").ends_with("expected a file, found something else"));
    assert!(of("a\0b").contains("cannot be read"));
}
