//! The Rust that is generated: a caller that passes the right arguments compiles and passes
//! them on in order; any other does not compile.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use crate::generator::{self, Depth};
use crate::workplace::{Changed, fixture, folder};

/// Stands for the crate round the generated entries: drivers that keep what they are given.
const STUB: &str = include_str!("stub.rs");

/// Calls every entry of the fixture.
const CALLER: &str = include_str!("caller.rs");

/// The expanded fixture, and a `bytemuck` that needs no registry.
static OUT: LazyLock<PathBuf> = LazyLock::new(|| {
    let out = folder("typed");
    generator::generate(&fixture(), &out, Depth::Everything).expect("the fixture is whole");
    with_bytemuck(&out);
    out
});

/// Compiles the stand-ins for `bytemuck` and its derives into a folder.
fn with_bytemuck(out: &Path) {
    let derives = "extern crate proc_macro; use proc_macro::TokenStream;
        #[proc_macro_derive(Pod)] pub fn pod(_: TokenStream) -> TokenStream { TokenStream::new() }
        #[proc_macro_derive(Zeroable)] pub fn zeroable(_: TokenStream) -> TokenStream { TokenStream::new() }";
    let bytemuck = "pub use derives::{Pod, Zeroable};
        pub fn bytes_of<T: Copy>(value: &T) -> &[u8] {
            unsafe { std::slice::from_raw_parts((&raw const *value).cast(), size_of::<T>()) }
        }";
    compiled(out, "derives", "proc-macro", derives).expect("the derives compile");
    compiled(out, "bytemuck", "rlib", bytemuck).expect("bytemuck compiles");
}

/// Where Cargo has compiled what this test depends on.
fn dependencies() -> PathBuf {
    let test = std::env::current_exe().expect("the test's own path");
    test.parent().expect("a folder").to_owned()
}

/// What the real `kernel.rs` inflates texts with, as `rustc` takes it.
fn inflater() -> String {
    let compiled = fs::read_dir(dependencies()).expect("a folder").filter_map(|entry| {
        let path = entry.ok()?.path();
        let name = path.file_name()?.to_str()?;
        (name.starts_with("libminiz_oxide-") && name.ends_with(".rlib")).then_some(path)
    });
    let found = compiled.min().expect("miniz_oxide is a dependency of this test");
    format!("miniz_oxide={}", found.display())
}

/// Compiles a text into a folder; the compiler's words if it will not.
fn compiled(out: &Path, name: &str, kind: &str, text: &str) -> Result<(), String> {
    let source = out.join(format!("{name}.rs"));
    fs::write(&source, text).expect("the source is written");
    let mut rustc = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    rustc
        .args(["--edition", "2024", "--crate-type", kind, "--crate-name", name])
        .args(["--cfg", "feature=\"cuda\"", "--cfg", "feature=\"wgpu\"", "-D", "warnings"])
        .args(["--extern", if name == "bytemuck" { "derives" } else { "bytemuck" }])
        .arg("--extern")
        .arg(inflater())
        .arg("-L")
        .arg(out)
        .arg("-L")
        // Only for what an `--extern` asks for: there is another bytemuck.
        .arg(format!("dependency={}", dependencies().display()))
        .arg("--out-dir")
        .arg(out)
        .arg(source)
        .env("OUT_DIR", out);
    if kind == "lib" {
        rustc.args(["--emit", "metadata"]);
    }
    let output = rustc.output().expect("rustc runs");
    if output.status.success() {
        Ok(())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

/// The crate that is compiled: the stub, the real `kernel.rs`, the entries, and a caller.
fn program(caller: &str) -> String {
    let kernel = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/backend/kernel.rs");
    format!("{}\n{caller}", STUB.replace("KERNEL", &kernel.display().to_string()))
}

/// Expects that the caller with one text replaced does not compile, for the reason given.
#[track_caller]
fn refused(name: &str, from: &str, to: &str, reason: &str) {
    assert_eq!(CALLER.matches(from).count(), 1, "`{from}` once in the caller");
    let refusal = compiled(&OUT, name, "lib", &program(&CALLER.replace(from, to)))
        .expect_err(&format!("`{to}` in place of `{from}` must not compile"));
    let all = refusal.matches("error[").count();
    let expected = refusal.matches(&format!("error[{reason}]")).count();
    assert!(all > 0 && all == expected, "expected {reason}, found:\n{refusal}");
}

const MISSING: &str = "E0063";
const MISMATCHED: &str = "E0308";

#[test]
fn right_arguments_arrive_in_order() {
    compiled(&OUT, "caller", "bin", &program(CALLER)).expect("the caller compiles");
    let ran = Command::new(OUT.join("caller")).output().expect("the caller runs");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
}

#[test]
fn missing_argument() {
    refused("missing_pointer", "x: Address(1), y: Address(2),", "x: Address(1),", MISSING);
    refused(
        "missing_scalar",
        "count: 3, scale: 0.5 }\n        .launch",
        "count: 3 }\n        .launch",
        MISSING,
    );
    refused("missing_binding", "params, x: Slice(&1),", "params,", MISSING);
    refused("missing_member", "scale: 2.0, offset", "offset", MISSING);
}

#[test]
fn swapped_arguments() {
    refused(
        "swapped",
        "ScalePtx { x: Address(1), y: Address(2), count: 3,",
        "ScalePtx { x: Address(1), count: Address(2), y: 3,",
        MISMATCHED,
    );
    refused(
        "swapped_bindings",
        "params, x: Slice(&1),",
        "params: Slice(&1), x: params,",
        MISMATCHED,
    );
}

#[test]
fn mistyped_argument() {
    refused("number_for_pointer", "y: Address(2)", "y: 2", MISMATCHED);
    refused("integer_for_float", "scale: 0.5", "scale: 1", MISMATCHED);
    refused("wide_for_narrow", "count: 3, scale: 0.5", "count: 3_u64, scale: 0.5", MISMATCHED);
    refused("float_member", "count: 7", "count: 7.0", MISMATCHED);
    refused("short_member", "offset: [8, 9]", "offset: [8]", MISMATCHED);
}

#[test]
fn variant_of_another_entry() {
    refused("other_ptx", "&stream, &scale", "&stream, &clear", MISMATCHED);
    refused("other_language", "&mut recorder, &wgsl", "&mut recorder, &scale", MISMATCHED);
}

/// Where WGSL leaves a gap, the struct has a field, so that no byte of it is undefined.
#[test]
fn gaps_of_a_uniform_are_fields() {
    let (file, from) = ("demo/scale.wgsl", "offset: vec2<u32>");
    let changed = Changed::new("gaps", file, from, "offset: vec3<u32>", Depth::Everything);
    assert_eq!(changed.failures, Vec::<String>::new());
    with_bytemuck(&changed.out);
    let rust = fs::read_to_string(changed.out.join("demo.rs")).expect("the entries");
    assert!(rust.contains("pub padding_8: [u8; 8],"), "{rust}");
    assert!(rust.contains("pub offset: [u32; 3],"), "{rust}");
    assert!(rust.contains("pub padding_28: [u8; 4],"), "{rust}");
    compiled(&changed.out, "gaps", "lib", &program("fn main() {}")).expect("the size is right");
}
