//! The Rust that is written: typed entries for each folder, and the rows of all tables.
//!
//! `<folder>.rs` is included by the operation's module. `tables.rs` is included by
//! `backend::kernel`; the typed variants point into it, so that each text is embedded once, deflated:
//! unrolled loops take a twentieth then.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use super::Entry;
use super::failure::{Failure, Place};
use super::interface::{Argument, Expanded, Interface, Uniform};
use super::table::{Language, Table, Variant};

/// Writes everything below `out`.
///
/// # Errors
///
/// A file that cannot be written.
pub fn write<'a>(
    entries: &[Entry],
    folders: impl Iterator<Item = &'a str>,
    out: &Path,
) -> Result<(), Failure> {
    let texts = out.join("text");
    fs::create_dir_all(&texts).map_err(|error| unwritable(&texts, &error))?;
    let mut typed: BTreeMap<&str, String> = folders.map(|folder| (folder, String::new())).collect();
    for entry in entries {
        for variant in &entry.variants {
            let ending = entry.table.language.ending();
            embed(&texts.join(format!("{}.{ending}", variant.name)), &variant.text.text)?;
            embed(&texts.join(format!("{}.lines", variant.name)), &variant.text.lines)?;
        }
        typed.entry(&entry.table.folder).or_default().push_str(&typed_entry(entry));
    }
    for (folder, rust) in typed {
        put(&out.join(format!("{folder}.rs")), &rust)?;
    }
    put(&out.join("tables.rs"), &tables(entries))
}

/// Writes a text, for those who want to read it, and beside it what is embedded.
fn embed(path: &Path, text: &str) -> Result<(), Failure> {
    let mut deflated = path.as_os_str().to_owned();
    deflated.push(".deflate");
    let deflated = Path::new(&deflated);
    if holds(path, text) && deflated.exists() {
        return Ok(());
    }
    let bytes = miniz_oxide::deflate::compress_to_vec(text.as_bytes(), DEFLATE_LEVEL);
    fs::write(deflated, bytes).map_err(|error| unwritable(deflated, &error))?;
    put(path, text)
}

/// Higher levels take much longer and gain little.
const DEFLATE_LEVEL: u8 = 6;

/// Writes a file, if it does not hold this already.
fn put(path: &Path, text: &str) -> Result<(), Failure> {
    if holds(path, text) {
        return Ok(());
    }
    fs::write(path, text).map_err(|error| unwritable(path, &error))
}

fn holds(path: &Path, text: &str) -> bool {
    fs::read(path).is_ok_and(|found| found == text.as_bytes())
}

fn unwritable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(Place::directory(path), format!("cannot be written: {error}"))
}

fn feature(language: Language) -> &'static str {
    match language {
        Language::Ptx => "cuda",
        Language::Wgsl => "wgpu",
    }
}

/// The static of a table's rows: `SELECTIVE_SCAN_FORWARD_PTX`.
fn static_name(table: &Table) -> String {
    format!("{}_{}", table.folder, table.key).to_uppercase()
}

/// The rows of all tables.
fn tables(entries: &[Entry]) -> String {
    let mut rust = String::new();
    for entry in entries {
        let table = &entry.table;
        let rows: Vec<String> = table
            .variants
            .iter()
            .zip(&entry.variants)
            .map(|(variant, expanded)| row(table, variant, expanded))
            .collect();
        rust += &format!(
            "#[cfg(feature = {feature:?})]\n\
             pub(crate) static {name}: [VariantInfo; {count}] = [\n{rows}];\n\n",
            feature = feature(table.language),
            name = static_name(table),
            count = rows.len(),
            rows = rows.concat(),
        );
    }
    let names = entries.iter().map(|Entry { table, .. }| {
        format!(
            "    #[cfg(feature = {:?})]\n    &{},\n",
            feature(table.language),
            static_name(table)
        )
    });
    rust += &format!(
        "/// The rows of every table.\n\
         pub(crate) static ALL: &[&[VariantInfo]] = &[\n{}];\n",
        names.collect::<String>(),
    );
    rust
}

/// One `VariantInfo`.
fn row(table: &Table, variant: &Variant, expanded: &Expanded) -> String {
    let parameters: Vec<String> = variant
        .parameters
        .iter()
        .map(|(name, value)| format!("({name:?}, {:?})", value.shown()))
        .collect();
    let language = match (table.language, variant.target.as_str()) {
        (Language::Wgsl, _) => "super::Language::Wgsl",
        (Language::Ptx, "sm_90a") => "super::Language::Ptx(super::Tier::Sm90a)",
        (Language::Ptx, _) => "super::Language::Ptx(super::Tier::Sm80)",
    };
    format!(
        "    VariantInfo {{\n\
         \x20       operation: {operation:?},\n\
         \x20       entry: {entry:?},\n\
         \x20       pass: {pass:?},\n\
         \x20       name: {name:?},\n\
         \x20       parameters: &[{parameters}],\n\
         \x20       language: {language},\n\
         \x20       capabilities: &{capabilities:?},\n\
         \x20       block: {block:?},\n\
         \x20       shared_bytes: {shared},\n\
         \x20       text: {text},\n\
         \x20       lines: {lines},\n\
         \x20   }},\n",
        operation = table.folder,
        entry = table.key,
        pass = variant.pass,
        name = variant.name,
        parameters = parameters.join(", "),
        capabilities = variant.capabilities,
        block = variant.block,
        shared = expanded.shared,
        text = included(&variant.name, table.language.ending()),
        lines = included(&variant.name, "lines"),
    )
}

fn included(name: &str, ending: &str) -> String {
    format!(
        "Deflated(include_bytes!(concat!(env!(\"OUT_DIR\"), \"/text/{name}.{ending}.deflate\")))"
    )
}

/// The struct of arguments of an entry, with its variants and its launch.
fn typed_entry(entry: &Entry) -> String {
    match &entry.interface {
        Interface::Ptx(parameters) => typed_ptx(&entry.table, parameters),
        Interface::Wgsl { uniform, storage } => typed_wgsl(&entry.table, uniform, storage),
    }
}

/// The fields of a struct, each with its declaration in the kernel.
fn fields(arguments: &[Argument]) -> String {
    let field = |Argument { name, declared, rust, .. }: &Argument| {
        format!("    /// `{declared}`\n    pub {name}: {rust},\n")
    };
    arguments.iter().map(field).collect()
}

/// The constant `VARIANTS` for variants of a type.
fn variants(table: &Table, entry: &str) -> String {
    let rows = (0..table.variants.len()).fold(String::new(), |mut rows, row| {
        let name = static_name(table);
        // Writing to a String does not fail.
        let _ = writeln!(
            rows,
            "        crate::backend::kernel::Variant::new(&crate::backend::kernel::tables::{name}[{row}]),"
        );
        rows
    });
    format!(
        "    /// The variants of the entry, in the order of its table.\n\
         \x20   pub(crate) const VARIANTS: &'static [crate::backend::kernel::Variant<{entry}>] = &[\n\
         {rows}    ];\n"
    )
}

/// The templates of a table, as documentation names them.
fn shown(table: &Table) -> String {
    let files = table.templates().into_iter().map(|file| format!("kernels/{file}"));
    files.collect::<Vec<_>>().join(" and ")
}

fn typed_ptx(table: &Table, parameters: &[Argument]) -> String {
    let bytes = parameters
        .iter()
        .map(|Argument { name, .. }| format!("                bytemuck::bytes_of(&self.{name}),\n"))
        .collect::<String>();
    format!(
        "/// Arguments of {templates}, in the order of the `.param` list.\n\
         #[cfg(feature = \"cuda\")]\n\
         #[derive(Clone, Copy, Debug)]\n\
         pub(crate) struct {rust} {{\n\
         {fields}}}\n\
         \n\
         #[cfg(feature = \"cuda\")]\n\
         impl {rust} {{\n\
         {variants}\
         \n\
         \x20   /// Launches a variant on a stream.\n\
         \x20   pub(crate) fn launch(\n\
         \x20       &self,\n\
         \x20       stream: &crate::backend::cuda::Stream,\n\
         \x20       variant: &crate::backend::kernel::Variant<Self>,\n\
         \x20       grid: crate::backend::cuda::Grid,\n\
         \x20   ) -> crate::Result<()> {{\n\
         \x20       stream.launch(\n\
         \x20           variant.info,\n\
         \x20           grid,\n\
         \x20           &[\n\
         {bytes}\
         \x20           ],\n\
         \x20       )\n\
         \x20   }}\n\
         }}\n\n",
        templates = shown(table),
        rust = table.rust_name(),
        fields = fields(parameters),
        variants = variants(table, "Self"),
    )
}

fn typed_wgsl(table: &Table, uniform: &Uniform, storage: &[Argument]) -> String {
    let slices: Vec<String> = storage.iter().map(|one| format!("self.{}", one.name)).collect();
    let rust = table.rust_name();
    // Without a storage binding the lifetime would have no use.
    let (own, any, fixed) =
        if storage.is_empty() { ("", "", "") } else { ("<'a>", "<'_>", "<'static>") };
    format!(
        "/// Parameters of {templates}: the uniform at binding 0.\n\
         #[cfg(feature = \"wgpu\")]\n\
         #[repr(C)]\n\
         #[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]\n\
         pub(crate) struct {rust}Params {{\n\
         {members}}}\n\
         \n\
         #[cfg(feature = \"wgpu\")]\n\
         const _: () = assert!(size_of::<{rust}Params>() == {bytes});\n\
         \n\
         /// Arguments of {templates}, in the order of the bindings.\n\
         #[cfg(feature = \"wgpu\")]\n\
         pub(crate) struct {rust}{own} {{\n\
         \x20   /// `@binding(0) var<uniform> {params}`\n\
         \x20   pub {params}: {rust}Params,\n\
         {fields}}}\n\
         \n\
         #[cfg(feature = \"wgpu\")]\n\
         impl {rust}{any} {{\n\
         {variants}\
         \n\
         \x20   /// Records a variant.\n\
         \x20   pub(crate) fn record(\n\
         \x20       &self,\n\
         \x20       recorder: &mut crate::backend::wgpu::Recorder<'_>,\n\
         \x20       variant: &crate::backend::kernel::Variant<{rust}{fixed}>,\n\
         \x20       workgroups: [u32; 3],\n\
         \x20   ) -> crate::Result<()> {{\n\
         \x20       recorder.dispatch(\n\
         \x20           variant.info,\n\
         \x20           workgroups,\n\
         \x20           bytemuck::bytes_of(&self.{params}),\n\
         \x20           &[{slices}],\n\
         \x20       )\n\
         \x20   }}\n\
         }}\n\n",
        templates = shown(table),
        members = fields(&uniform.members),
        bytes = uniform.bytes,
        params = uniform.name,
        fields = fields(storage),
        variants = variants(table, &format!("{rust}{fixed}")),
        slices = slices.join(", "),
    )
}
