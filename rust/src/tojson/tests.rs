use crate::template::tests::render;

#[test]
fn text_is_that_of_python() {
    // Each was computed by CPython 3.11: json.dumps(value, **options), where ensure_ascii is false when not given.
    for (value, options, expected) in [
        ("1", "", "1"),
        ("1.0", "", "1.0"),
        ("-0.0", "", "-0.0"),
        ("0.1", "", "0.1"),
        ("1e16", "", "1e+16"),
        ("1e15", "", "1000000000000000.0"),
        ("123456789.5", "", "123456789.5"),
        ("1e-5", "", "1e-05"),
        ("0.0001", "", "0.0001"),
        ("1.5e300", "", "1.5e+300"),
        ("-2.5e-7", "", "-2.5e-07"),
        ("18446744073709551615", "", "18446744073709551615"),
        ("-9223372036854775808", "", "-9223372036854775808"),
        ("true", "", "true"),
        ("null", "", "null"),
        (r#""a\"b\\c\n\t\r\b\f\u0001/<>&'""#, "", r#""a\"b\\c\n\t\r\b\f\u0001/<>&'""#),
        (r#""\u00e4\u20ac\ud83d\ude00\u007f""#, "", "\"ä€😀\u{7f}\""),
        (r#""\u00e4\u20ac\ud83d\ude00\u007f""#, "ensure_ascii=true", r#""\u00e4\u20ac\ud83d\ude00\u007f""#),
        ("[]", "", "[]"),
        ("{}", "", "{}"),
        (r#"[1,[2,{"a":null}]]"#, "", r#"[1, [2, {"a": null}]]"#),
        (r#"[1,[2,{"a":null}]]"#, "indent=2", "[\n  1,\n  [\n    2,\n    {\n      \"a\": null\n    }\n  ]\n]"),
        (r#"[1,[2,{"a":null}]]"#, "sort_keys=true, separators=(',', ':')", r#"[1,[2,{"a":null}]]"#),
        (r#"{"b":1,"a":{"d":[],"c":{}}}"#, "", r#"{"b": 1, "a": {"d": [], "c": {}}}"#),
        (
            r#"{"b":1,"a":{"d":[],"c":{}}}"#,
            "indent=2",
            "{\n  \"b\": 1,\n  \"a\": {\n    \"d\": [],\n    \"c\": {}\n  }\n}",
        ),
        (r#"{"b":1,"a":{"d":[],"c":{}}}"#, "sort_keys=true, separators=(',', ':')", r#"{"a":{"c":{},"d":[]},"b":1}"#),
    ] {
        let found = render(&format!("{{{{ x|tojson({options}) }}}}"), &format!(r#"{{"x": {value}}}"#));
        assert_eq!(found.as_deref(), Ok(expected), "{value} {options}");
    }
}

#[test]
fn options_as_templates_give_them() {
    for (call, expected) in [
        ("tojson(true)", r#""\u00e4""#),
        ("tojson(none)", "\"ä\""),
        ("tojson(indent=none)", "\"ä\""),
        ("tojson(separators=none)", "\"ä\""),
    ] {
        assert_eq!(render(&format!("{{{{ 'ä'|{call} }}}}"), "{}").as_deref(), Ok(expected), "{call}");
    }
    assert_eq!(render("{{ [1]|tojson(indent='--') }}", "{}").as_deref(), Ok("[\n--1\n]"));
    assert_eq!(
        render("{{ {1: 2, none: 3, false: 4}|tojson }}", "{}").as_deref(),
        Ok(r#"{"1": 2, "null": 3, "false": 4}"#)
    );
    assert_eq!(render("{{ [1e400, -1e400]|tojson }}", "{}").as_deref(), Ok("[Infinity, -Infinity]"));
    assert_eq!(render("{{ range(3)|tojson }}", "{}").as_deref(), Ok("[0, 1, 2]"));
}

#[test]
fn what_is_not_json_is_an_error() {
    for call in [
        "nothing|tojson",
        "namespace|tojson",
        "x|tojson(step=1)",
        "x|tojson(separators='a')",
        "x|tojson(separators=[1, 2])",
        "x|tojson(indent={})",
    ] {
        assert!(render(&format!("{{{{ {call} }}}}"), r#"{"x": 1}"#).is_err(), "{call}");
    }
}

#[test]
fn size_is_bounded() {
    assert!(render("{{ range(99999999)|tojson }}", "{}").is_err());
    let context = format!(r#"{{"x": {}1{}}}"#, "[".repeat(120), "]".repeat(120));
    // An indentation is clamped; without, 120 levels of it would be paid for.
    assert!(render("{{ x|tojson(indent=1000000000) }}", &context).is_ok());
    let wide = "{{ [[[[[[[[[[1]]]]]]]]]]|tojson(indent='a' * 10000000) }}";
    assert!(render(wide, "{}").is_err());
}
