//! A broken kernel is reported with file and line of its source.

use crate::generator::Depth;
use crate::workplace::Changed;

/// Breaks the fixture, and expects failures at the broken place, or at `elsewhere`, of which the
/// first says all of `told`.
#[track_caller]
fn fails(name: &str, file: &str, from: &str, to: &str, elsewhere: Option<&str>, told: &[&str]) {
    let broken = Changed::new(name, file, from, to, Depth::Everything);
    assert!(!broken.failures.is_empty(), "`{to}` in place of `{from}` must fail");
    let place = elsewhere.unwrap_or(&broken.place);
    for failure in &broken.failures {
        assert!(failure.starts_with(&format!("{place}: ")), "expected {place}, found {failure}");
    }
    for told in told {
        assert!(broken.failures[0].contains(told), "expected `{told}` in {}", broken.failures[0]);
    }
}

#[test]
fn the_fixture_itself_is_whole() {
    let same = Changed::new("whole", "demo/scale.ptx", "ret;", "ret;", Depth::Everything);
    assert_eq!(same.failures, Vec::<String>::new());
}

#[test]
fn syntax_of_a_template() {
    let (from, to) = ("{% for i in range(per_thread) %}", "{% for i range(per_thread) %}");
    fails("syntax", "demo/scale.ptx", from, to, None, &["syntax error"]);
}

#[test]
fn tag_that_is_not_closed() {
    fails("unclosed", "demo/scale.ptx", "{% endfor %}", "{% endfor", None, &["not closed"]);
}

#[test]
fn undefined_variable() {
    let told = ["`entry_nam` is undefined", "(variant demo_scale_f32_n1 and 3 more)"];
    fails("undefined", "demo/scale.ptx", "{{ entry_name }}", "{{ entry_nam }}", None, &told);
}

#[test]
fn undefined_variable_in_a_macro_of_another_file() {
    let (from, to) = ("{{ value }}, [{{ address }}", "{{ valu }}, [{{ address }}");
    let told = ["undefined", "(variant demo_scale_f32_n1 and 1 more)"];
    fails("undefined_macro", "common/memory.ptx", from, to, None, &told);
}

#[test]
fn unknown_instruction() {
    fails("instruction", "demo/scale.ptx", "mul.rn.f32", "mul.rm.f33", None, &["(variant"]);
}

#[test]
fn unknown_instruction_behind_unrolled_lines() {
    fails("behind", "demo/scale.ptx", "  ret;", "  return;", None, &["(variant"]);
}

#[test]
fn unknown_instruction_in_a_macro_of_another_file() {
    let told = ["(variant demo_scale_f32_n1 and 1 more)"];
    fails("macro", "common/memory.ptx", "ld.global.f32", "ld.globl.f32", None, &told);
}

#[test]
fn ptx_header() {
    fails(
        "header",
        "demo/scale.ptx",
        ".param .u32 count",
        ".param .u33 count",
        None,
        &["(variant"],
    );
}

#[test]
fn text_that_is_not_ascii() {
    fails("ascii", "demo/scale.ptx", "// y[i] = scale", "// y[i] ≔ scale", None, &["ASCII"]);
}

#[test]
fn syntax_of_wgsl() {
    let (from, to) = ("tile[lane] = 0.0;", "tile[lane] = ;");
    fails("wgsl", "demo/scale.wgsl", from, to, None, &["(variant demo_scale_wgsl)"]);
}

#[test]
fn validity_of_wgsl_is_checked_in_depth_only() {
    let (from, to) = ("@compute ", "fn half() -> f32 { }\n@compute ");
    fails("wgsl_types", "demo/scale.wgsl", from, to, None, &["(variant demo_scale_wgsl)"]);
    let headers = Changed::new("wgsl_headers", "demo/scale.wgsl", from, to, Depth::Headers);
    assert_eq!(headers.failures, Vec::<String>::new());
}

#[test]
fn variants_with_different_parameters() {
    let to = ".param .u{{ 32 if per_thread == 1 else 64 }} count";
    let told = ["demo_scale_f32_n1", "demo_scale_f32_n4", "`.param .u32 count`", "item 3"];
    let broken = Changed::new("lists", "demo/scale.ptx", ".param .u32 count", to, Depth::Headers);
    assert_eq!(broken.failures.len(), 2, "{:#?}", broken.failures);
    assert!(broken.failures[0].starts_with(&broken.place), "{:#?}", broken.failures);
    for told in told {
        assert!(broken.failures[0].contains(told), "`{told}` in {}", broken.failures[0]);
    }
}

#[test]
fn ptx_that_disagrees_with_its_table() {
    let file = "demo/scale.ptx";
    let told = ["entry_name", "(variant demo_scale_f32_n1 and 3 more)"];
    fails("name", file, "{{ entry_name }}(", "{{ entry_name }}_(", None, &told);
    fails("target", file, ".target {{ target }}", ".target sm_90a", None, &["sm_80"]);
    let elsewhere = Some("kernels/demo/scale.ptx:7");
    fails("block", file, ".reqntid {{ block[0] }}", ".reqntid 96", elsewhere, &["[96, 1, 1]"]);
    fails("free_block", file, ".reqntid {{ block[0] }}", "", elsewhere, &["needs .reqntid"]);
}

#[test]
fn parameter_that_names_no_field() {
    let to = ".param .u32 Count";
    let broken = Changed::new("field", "demo/scale.ptx", ".param .u32 count", to, Depth::Headers);
    let failure = &broken.failures[0];
    assert!(failure.starts_with(&broken.place) && failure.contains("snake_case"), "{failure}");
}

#[test]
fn bindings_that_break_a_rule() {
    let file = "demo/scale.wgsl";
    let x = "@group(0) @binding(1) var<storage, read_write> x";
    let told = ["`x` must be var<storage, read_write>"];
    fails("read", file, x, "@group(0) @binding(1) var<storage, read> x", None, &told);
    let other = "@group(1) @binding(1) var<storage, read_write> x";
    fails("group", file, x, other, None, &["@group(0)"]);
    let y = "@binding(2) var<storage, read_write> y";
    let gap = "@binding(3) var<storage, read_write> y";
    fails("gap", file, y, gap, None, &["2 is missing"]);
    let uniform = "@group(0) @binding(0) var<uniform> params: Params;";
    let private = "var<private> params: Params;";
    let elsewhere = Some("kernels/demo/scale.wgsl:9");
    fails("uniform", file, uniform, private, elsewhere, &["0 is missing"]);
    let elsewhere = Some("kernels/demo/scale.wgsl:14");
    fails("main", file, "fn {{ entry_name }}", "fn main", elsewhere, &["entry_name"]);
    let told = ["[64, 1, 1]", "[32, 1, 1]"];
    fails("size", file, "size({{ block[0] }})", "size(32)", elsewhere, &told);
}

#[test]
fn more_storage_than_the_default_limits() {
    let lines: Vec<String> = (3..12)
        .map(|n| format!("@group(0) @binding({n}) var<storage, read_write> more{n}: array<f32>;"))
        .collect();
    let (file, from) = ("demo/scale.wgsl", "\nvar<workgroup>");
    let to = format!("{}\nvar<workgroup>", lines.join("\n"));
    let told = ["11 storage buffers", "may bind 8", "storage_bindings"];
    fails("storage", file, from, &to, Some("kernels/demo/scale.wgsl:17"), &told);
}

#[test]
fn tables() {
    let file = "demo/variants.toml";
    let head = |line: u32| format!("kernels/{file}:{line}");
    let (ptx, clear) = (Some(head(3)), Some(head(18)));
    let name = "demo_scale_{element}_n{per_thread}";
    let told = ["`lanes`", "no parameter"];
    fails("pattern", file, name, "demo_{lanes}", ptx.as_deref(), &told);
    let told = ["unique"];
    fails(
        "unique",
        file,
        "\"demo_clear\"",
        "\"demo_scale_wgsl\"",
        Some("kernels/demo/variants.toml"),
        &told,
    );
    fails("no_block", file, "block = [32]", "", clear.as_deref(), &["needs `block"]);
    let told = ["neither .ptx nor .wgsl"];
    fails("ending", file, "\"common/clear.ptx\"", "\"clear.cu\"", clear.as_deref(), &told);
    let told = ["there is no kernels/common/erase.ptx"];
    let whole = Some("kernels/demo/variants.toml");
    fails("template", file, "\"common/clear.ptx\"", "\"common/erase.ptx\"", whole, &told);
    let told = ["`schedule` is given twice"];
    fails("twice", file, "per_thread = 4", "per_thread = 4\nschedule = 1", ptx.as_deref(), &told);
    let told = ["a row's `element` is none of `each.element`"];
    let row = "per_thread = 4\nelement = \"f64\"";
    fails("alone", file, "per_thread = 4", row, ptx.as_deref(), &told);
    let told = ["`capabilities` is for WGSL only"];
    let row = "per_thread = 4\ncapabilities = [\"SUBGROUP\"]";
    fails("capabilities", file, "per_thread = 4", row, ptx.as_deref(), &told);
    fails("toml", file, "pass = \"setup\"", "pass = setup", None, &[]);
}
