use super::*;

fn file(json: &str, data: usize) -> Vec<u8> {
    let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
    bytes.extend(json.bytes());
    bytes.extend(vec![0; data]);
    bytes
}

fn fails(bytes: &[u8]) -> String {
    let text = read_header(bytes, b"F").err().expect("an error");
    text.strip_prefix("[safetensors] F: ").expect(&text).to_owned()
}

#[test]
fn offsets_count_from_the_start_of_the_file() {
    let json = r#"{"__metadata__":{"format":"mlx"},"b":{"dtype":"BF16","shape":[2,3],"data_offsets":[4,16]},
                   "a":{"dtype":"F32","shape":[],"data_offsets":[0,4]}}"#;
    let header = read_header(&file(json, 16), b"F").unwrap();
    let start = 8 + json.len() as u64;
    let found: Vec<_> = header.tensors.iter().map(|t| (&*t.name, &*t.dtype, &*t.shape, t.begin, t.end)).collect();
    assert_eq!(found, [("a", "F32", &[][..], start, start + 4), ("b", "BF16", &[2, 3], start + 4, start + 16)]);
    assert_eq!((&*header.metadata[0].key, &*header.metadata[0].value), ("format", "mlx"));
}

#[test]
fn names_twice() {
    let one = r#""a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}"#;
    assert_eq!(fails(&file(&format!("{{{one},{one}}}"), 1)), "tensor a: expected once, found twice");
    // The same name by another spelling.
    let other = one.replace("\"a\"", "\"\\u0061\"");
    assert_eq!(fails(&file(&format!("{{{one},{other}}}"), 1)), "tensor a: expected once, found twice");
}

#[test]
fn keys_twice_within() {
    for json in [
        r#"{"a":{"dtype":"U8","dtype":"U8","shape":[1],"data_offsets":[0,1]}}"#,
        r#"{"a":{"dtype":"U8","shape":[1],"shape":[1],"data_offsets":[0,1]}}"#,
        r#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"data_offsets":[0,1]}}"#,
        r#"{"__metadata__":{},"__metadata__":{}}"#,
    ] {
        let text = fails(&file(json, 1));
        assert!(text.contains("duplicate field") || text.contains("found twice"), "{text}");
    }
}
