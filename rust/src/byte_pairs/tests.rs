use super::*;
use crate::tokenizer::tokenizer_from_json;

const SHELL: &str = r#"{"version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
  "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
  "post_processor": null,
  "decoder": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
  "model": {"type": "BPE", "dropout": null, "unk_token": "?", "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": FUSE, "byte_fallback": BYTES, "ignore_merges": WHOLE,
            "vocab": {}, "merges": []}}"#;

/// Text and ends of strings.
fn joined(strings: &[&str]) -> (Vec<u8>, Vec<usize>) {
    let mut text = Vec::new();
    let ends = strings.iter().map(|s| (text.extend(s.as_bytes()), text.len()).1).collect();
    (text, ends)
}

fn built(
    shell: &str,
    tokens: &[&str],
    merges: &[&str],
    added: &[u32],
    special: &[bool],
) -> Answer<Box<BridgeTokenizer>> {
    let (token_text, token_ends) = joined(tokens);
    let (merge_text, merge_ends) = joined(merges);
    let parts = BytePairs {
        shell: shell.as_bytes(),
        tokens: Strings { text: &token_text, ends: &token_ends },
        merges: Strings { text: &merge_text, ends: &merge_ends },
        added,
        special,
    };
    tokenizer_from_byte_pairs(&parts, b"T")
}

const TOKENS: [&str; 12] = ["<s>", "a", "b", "ab", "?", "Ġ", "abab", "<tool>", "a", "<0x63>", "#version", "Ġa"];
const MERGES: [&str; 6] = ["a", "b", "ab", "ab", "Ġ", "a"];

#[test]
fn the_same_as_from_json() {
    for flags in 0..8 {
        let flag = |bit: i32| if flags >> bit & 1 == 1 { "true" } else { "false" };
        let shell = SHELL.replace("FUSE", flag(0)).replace("BYTES", flag(1)).replace("WHOLE", flag(2));
        let vocabulary: Vec<String> =
            TOKENS.iter().enumerate().map(|(id, t)| format!("{}: {id}", serde_json::to_string(t).unwrap())).collect();
        let json = shell
            .replace("\"vocab\": {}", &format!("\"vocab\": {{{}}}", vocabulary.join(",")))
            .replace("\"merges\": []", r#""merges": [["a", "b"], ["ab", "ab"], ["Ġ", "a"]]"#)
            .replace(
                "\"added_tokens\": []",
                r#""added_tokens": [
                  {"id": 0, "content": "<s>", "single_word": false, "lstrip": false, "rstrip": false,
                   "normalized": false, "special": true},
                  {"id": 7, "content": "<tool>", "single_word": false, "lstrip": false, "rstrip": false,
                   "normalized": false, "special": false}]"#,
            );
        let expected = tokenizer_from_json(json.as_bytes(), b"T").unwrap_or_else(|e| panic!("{e}"));
        let found = built(&shell, &TOKENS, &MERGES, &[0, 7], &[true, false]).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(
            serde_json::to_value(&*found.inner).unwrap(),
            serde_json::to_value(&*expected.inner).unwrap(),
            "model, added tokens and all"
        );
        assert_eq!((found.size, found.highest), (expected.size, expected.highest));
        assert_eq!(found.vocabulary().unwrap(), expected.vocabulary().unwrap());
        for text in ["abab", "ab<s>a<tool>b", "xyz c", " a ab", "#version", ""] {
            let ids = found.encode(text.as_bytes(), true).unwrap();
            assert_eq!(ids, expected.encode(text.as_bytes(), true).unwrap(), "{text}");
            assert_eq!(found.decode(&ids, true).unwrap(), expected.decode(&ids, true).unwrap());
        }
    }
}

#[test]
fn hostile_parts() {
    let shell = SHELL.replace("FUSE", "false").replace("BYTES", "false").replace("WHOLE", "false");
    assert!(built(&shell, &["a", "b"], &[], &[1], &[true]).is_ok());
    for (tokens, merges, added, special) in [
        (&["a", "b"][..], &["a", "b"][..], &[][..], &[][..]), // ab is no token
        (&["a", "ab"], &["a", "b"], &[], &[]),
        (&["a"], &["a"], &[], &[]),
        (&[], &[], &[], &[]),
        (&["a"], &[], &[1], &[true]),
        (&["a"], &[], &[u32::MAX], &[true]),
        (&["a"], &[], &[0], &[]),
    ] {
        let text = built(&shell, tokens, merges, added, special).err().expect("an error");
        assert!(text.starts_with("[tokenizer] T: "), "{text}");
    }
    for shell in ["", "{}", &shell.replace("BPE", "WordLevel"), &shell.replace("BPE", "Unknown")] {
        assert!(built(shell, &["a"], &[], &[], &[]).is_err());
    }
    for (text, ends) in [(&b"a\xff"[..], &[2][..]), ("é".as_bytes(), &[1, 2]), (b"ab", &[2, 1]), (b"ab", &[3])] {
        let (tokens, merges) = (Strings { text, ends }, Strings { text: b"", ends: &[] });
        let parts = BytePairs { shell: shell.as_bytes(), tokens, merges, added: &[], special: &[] };
        assert!(tokenizer_from_byte_pairs(&parts, b"T").is_err());
    }
}
