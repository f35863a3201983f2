use crate::template::tests::render;

#[test]
fn results_are_those_of_python() {
    // Each was computed by CPython 3.11: str(eval(expression)), of a list where |list says so.
    for (expression, expected) in [
        ("'a,b,,c'.split(',')", "['a', 'b', '', 'c']"),
        ("'a,b,,c'.split(',', 1)", "['a', 'b,,c']"),
        ("'a,b,,c'.rsplit(',', 1)", "['a,b,', 'c']"),
        ("'a,b'.split(',', maxsplit=1)", "['a', 'b']"),
        ("'a b'.split(sep=' ')", "['a', 'b']"),
        (r#"'  a  b\tc\n'.split()"#, "['a', 'b', 'c']"),
        (r#"'  a  b\tc\n'.split(None, 1)"#, r#"['a', 'b\tc\n']"#),
        (r#"'  a  b\tc\n'.rsplit(None, 1)"#, "['  a  b', 'c']"),
        ("''.split()", "[]"),
        ("''.split(',')", "['']"),
        (r#"' \u00a0 '.split()"#, "[]"),
        ("'a</think>b</think>c'.split('</think>')[-1]", "c"),
        ("'a</think>b</think>c'.split('</think>')[0].split('<think>')[-1]", "a"),
        ("'abc'.removeprefix('a')", "bc"),
        ("'abc'.removeprefix('b')", "abc"),
        ("'abc'.removesuffix('c')", "ab"),
        ("'abcb'.partition('b')|list", "['a', 'b', 'cb']"),
        ("'abcb'.rpartition('b')|list", "['abc', 'b', '']"),
        ("'abc'.partition('x')|list", "['abc', '', '']"),
        ("'abc'.rpartition('x')|list", "['', '', 'abc']"),
        ("'äbc'.index('c')", "2"),
        ("'ÄB'.casefold()", "äb"),
        ("'aBä'.swapcase()", "AbÄ"),
        ("'  a '.strip()", "a"),
        ("'xxaxx'.strip('x')", "a"),
        ("'xxaxx'.lstrip('x')", "axx"),
        ("'xxaxx'.rstrip('x')", "xxa"),
        ("'abc'.startswith('ab')", "True"),
        ("'abc'.startswith(('x', 'a'))", "True"),
        ("'abc'.endswith('bc')", "True"),
        ("'abc'.find('c')", "2"),
        ("'abc'.find('x')", "-1"),
        ("'abcabc'.rfind('b')", "4"),
        ("'aXbX'.replace('X', '-')", "a-b-"),
        ("'aXbX'.replace('X', '-', 1)", "a-bX"),
        ("'hello world'.title()", "Hello World"),
        ("'hello WORLD'.capitalize()", "Hello world"),
        ("'aB'.upper()", "AB"),
        ("'aB'.lower()", "ab"),
        ("'abab'.count('ab')", "2"),
        ("'12'.isdigit()", "True"),
        ("'a1'.isalnum()", "True"),
        ("'ab'.isalpha()", "True"),
        ("' '.isspace()", "True"),
        ("'AB'.isupper()", "True"),
        ("'ab'.islower()", "True"),
        ("'ab'.isascii()", "True"),
        ("','.join(['a', 'b'])", "a,b"),
        (r#"'a\nb\r\nc'.splitlines()"#, "['a', 'b', 'c']"),
        (r#"'a\nb\n'.splitlines(True)"#, r#"['a\n', 'b\n']"#),
        ("'{} {}'.format('a', 1)", "a 1"),
        ("{'a': 1}.get('b', 2)", "2"),
        ("{'a': 1}.get('b')", "None"),
        ("{'a': 1}.keys()|list", "['a']"),
        ("{'a': 1}.values()|list", "[1]"),
        ("{'a': 1}.items()|list", "[('a', 1)]"),
        ("[1, 2, 1].count(1)", "2"),
        ("'abc'[::-1]", "cba"),
        ("'abc'[-2:]", "bc"),
        ("[1, 2, 3][1:]", "[2, 3]"),
        ("'a' in 'abc'", "True"),
        ("'a' 'b'", "ab"),
    ] {
        assert_eq!(render(&format!("{{{{ {expression} }}}}"), "{}").as_deref(), Ok(expected), "{expression}");
    }
}

#[test]
fn wide_fields_are_found() {
    for wide in ["{:99999}", "{0:>12345}", "{a:.10000f}", "a{{{:12345}}}", "{:{}}", "{:>{w}}", "{!r:99999}", "{:99999"]
    {
        assert!(super::has_wide_field(wide), "{wide}");
    }
    for plain in ["", "{}", "{:9999}", "id 123456: {}", "{{a: 123456}}", "{a}: 123456 {b:>4}", "{", "}{", "12345:{}"] {
        assert!(!super::has_wide_field(plain), "{plain}");
    }
}

#[test]
fn wrong_arguments_are_errors() {
    for expression in [
        "'a'.split('')",
        "'a'.split(1)",
        "'a'.split(',', 1, 2)",
        "'a'.split(step=1)",
        "'a'.partition('')",
        "'a'.index('b')",
        "'a'.removeprefix()",
        "'a'.removeprefix(1)",
        "'a'.casefold(1)",
        "'a'.nothing()",
        "(1).split()",
        "[].split()",
        "{}.append(1)",
    ] {
        assert!(render(&format!("{{{{ {expression} }}}}"), "{}").is_err(), "{expression}");
    }
}
