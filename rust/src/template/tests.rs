use std::time::Instant;

use super::*;

/// What the template makes of the context, or its error.
pub fn render(source: &str, context: &str) -> Answer<String> {
    template_new(source.as_bytes(), b"T")?.render(context.as_bytes())
}

fn fails(source: &str) -> String {
    let start = Instant::now();
    let text = render(source, "{}").expect_err(source);
    assert!(start.elapsed() < Duration::from_secs(4), "{source}: {:?}", start.elapsed());
    assert!(!text.contains('\n') && text.len() < 1200, "{source}: {text}");
    text.strip_prefix("[chat template] T: ").expect(&text).to_owned()
}

#[test]
fn generation_tags_are_scopes() {
    for (source, plain) in [
        ("{% generation %}a{% endgeneration %}", "{% with %}a{% endwith %}"),
        ("{%- generation -%}a{%+ endgeneration -%}", "{%- with -%}a{%+ endwith -%}"),
        ("{%generation%}", "{% with %}"),
        ("{% generation_x %}{% set generation = 1 %}{%", "{% generation_x %}{% set generation = 1 %}{%"),
        ("{% {% generation", "{% {% generation"),
    ] {
        assert_eq!(plain_generation_tags(source), plain);
    }
    assert_eq!(render("a {%- generation %} b {%- endgeneration %}", "{}").unwrap(), "a b");
}

#[test]
fn blocks_are_trimmed_as_transformers_does() {
    assert_eq!(render("a\n  {% if true %}\nb\n  {% endif %}\nc\n", "{}").unwrap(), "a\nb\nc");
    assert_eq!(render("{{ '<&>\"' }}{{ x }}{{ none }}{{ true }}{{ 1.0 }}", "{}").unwrap(), "<&>\"NoneTrue1.0");
}

#[test]
fn keys_keep_their_order() {
    let text = render("{% for k in m %}{{ k }}{% endfor %}{{ m }}", r#"{"m": {"z": 1, "a": [true, null, "x"]}}"#);
    assert_eq!(text.unwrap(), "za{'z': 1, 'a': [True, None, 'x']}");
}

#[test]
fn errors_tell_the_line_and_the_reason() {
    assert_eq!(
        fails("a\n{{ raise_exception('only\\nuser and model') }}"),
        "raised by the template: only user and model"
    );
    assert_eq!(
        fails("{% macro m() %}{{ raise_exception('no') }}{% endmacro %}{{ m() }}"),
        "raised by the template: no"
    );
    assert!(fails("a\nb {% if %}").starts_with("line 2: syntax error: "));
    assert!(fails("\n\n{{ 1 + 'a' }}").starts_with("line 3: invalid operation: "));
    assert!(fails("{{ nothing.at.all }}").starts_with("line 1: undefined value: "));
    assert!(fails("{% include 'x' %}").contains("include"));
    assert!(template_new(&vec![b' '; MAX_SOURCE + 1], b"T").is_err() && template_new(b"\xff", b"T").is_err());
    let template = template_new(b"", b"T").unwrap();
    assert!(template.render(b"{").unwrap_err().starts_with("[chat template] messages: "));
    assert!(template.render("[".repeat(100_000).as_bytes()).unwrap_err().contains("recursion limit"));
}

#[test]
fn time_of_day() {
    let year = render("{{ strftime_now('%Y') }}", "{}").unwrap();
    assert!(year.len() == 4 && year.as_str() >= "2024");
    assert_eq!(render("[{{ strftime_now('') }}]{{ strftime_now('%%') }}", "{}").unwrap(), "[]%");
    assert!(fails("{{ strftime_now('%Y' * 600) }}").contains("at most 1000"));
    assert!(fails("{{ strftime_now('%65535Y') }}").contains("too long"));
    assert!(fails("{{ strftime_now('a\\u0000') }}").contains("strftime_now"));
}

#[test]
fn endless_work_runs_out_of_fuel() {
    const NUMBERS: &str = "{% set ns = namespace(x='a') %}{% for i in range(9999) %}";
    for work in [
        "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}",
        "{{ range(1000000000)|list }}",
        "{{ 'a' * 1000000000 }}",
        "{{ [1] * 1000000000 }}",
        "{{ ('a' * 100000) * 100000 }}",
        "{{ 'a'|indent(1000000000, true) }}",
        "{{ 'a'|center(1000000000) }}",
        "{{ ('a' * 10000).replace('', 'a' * 1000000)|length }}",
    ] {
        let text = fails(work);
        assert!(
            ["too many", "too large", "too long", "unknown"].iter().any(|part| text.contains(part)),
            "{work}: {text}"
        );
    }
    for step in ["ns.x = ns.x ~ ns.x", "ns.x = ns.x + ns.x", "ns.x = ns.x|replace('a', 'aa')", "ns.x = [ns.x]|join * 2"]
    {
        // On a busy machine the clock may be first.
        let text = fails(&format!("{NUMBERS}{{% set {step} %}}{{% endfor %}}"));
        assert!(text.contains("too many steps") || text.contains("too long"), "{step}: {text}");
    }
}

#[test]
fn format_takes_no_huge_width() {
    for call in [
        "'{:99999999}'.format(1)",
        "'{:{}}'.format(1, 99999999)",
        "'{:.99999999f}'.format(1)",
        "'%099999999d'|format(1)",
    ] {
        let text = fails(&format!("{{{{ {call}|length }}}}"));
        assert!(!text.is_empty(), "{call}");
    }
    assert_eq!(render("{{ '{:>4}|{}|{a}'.format(1, 'b', a=2) }}", "{}").unwrap(), "   1|b|2");
}

#[test]
fn depth_is_bounded() {
    assert!(fails("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}").contains("recursion limit"));
    assert!(fails(&format!("{{{{ {}", "(".repeat(100_000))).contains("too long"));
    assert!(fails(&format!("{{{{ {}1 }}}}", "[".repeat(100_000))).contains("too long"));
    assert!(fails(&"{% if 1 %}".repeat(20_000)).contains("line 1"));
    assert!(fails(&format!("{{{{ {}1 }}}}", "1~".repeat(50_000))).contains("too long"));
    // As deep as the bound on the length of expressions allows: no overflow of the stack.
    for part in ["not ", "-", "1~", "1+", "1 if 1 else ", "a|e|", "[[],"] {
        let _ = render(&format!("{{{{ {}1 }}}}", part.repeat(1_300)), "{}");
    }
    let nested = "{% set ns = namespace(x=[]) %}{% for i in range(9999) %}{% set ns.x = [ns.x] %}{% endfor %}";
    let _ = render(&format!("{nested}{{{{ ns.x }}}}"), "{}");
    let _ = render(&format!("{nested}{{{{ ns.x == [ns.x] }}}}"), "{}");
    assert!(fails(&format!("{nested}{{{{ ns.x|tojson }}}}")).contains("nested too deeply"));
}

#[test]
fn doubling_values_are_halted() {
    let double = "{% set ns = namespace(x=[1], y=[1]) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}\
                  {% set ns.y = [ns.y, ns.y] %}{% endfor %}";
    // Side by side, as each takes all the time that it is given.
    std::thread::scope(|scope| {
        for use_ in
            ["{{ ns.x }}", "{{ ns.x ~ '' }}", "{{ ns.x == ns.y }}", "{{ {ns.x: 1} }}", "{{ '{}'.format(ns.x) }}"]
        {
            scope.spawn(move || assert_eq!(fails(&format!("{double}{use_}")), "it takes too long", "{use_}"));
        }
    });
    // No memory grows after that.
    let resident = || {
        let text = std::fs::read_to_string("/proc/self/statm").unwrap();
        text.split(' ').nth(1).unwrap().parse::<i64>().unwrap() * 4096
    };
    if cfg!(target_os = "linux") {
        let before = resident();
        std::thread::sleep(Duration::from_millis(300));
        assert!(resident() - before < 30 << 20, "{} bytes more", resident() - before);
    }
}

#[test]
fn a_slow_template_gets_few_chances() {
    let source =
        "{% set ns = namespace(x=[1]) %}{% for i in range(n) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x }}";
    let template = template_new(source.as_bytes(), b"T").unwrap();
    for _ in 0..MAX_HALTED {
        assert_eq!(template.render(br#"{"n": 1}"#).unwrap(), "[[1], [1]]");
        assert!(template.render(br#"{"n": 60}"#).unwrap_err().ends_with("it takes too long"));
    }
    assert!(template.render(br#"{"n": 1}"#).unwrap_err().ends_with("it takes too long"));
}

#[test]
fn a_long_conversation_pays_for_itself() {
    let message = r#"{"role": "user", "content": "CONTENT"}"#.replace("CONTENT", &"word ".repeat(80));
    let context = format!(r#"{{"messages": [{}]}}"#, vec![message; 10_000].join(","));
    let source = "{% for m in messages %}<|{{ m.role }}|>{{ m['content'] | trim }}\n{% endfor %}";
    assert_eq!(render(source, &context).unwrap().len(), 10_000 * (9 + 399));
}
