//! What a launch of a PTX entry has to pass: its `.param` list.

use warpwright_ptx::{Entry, Parameter, Space, Type};

use super::Depth;
use super::expand::Text;
use super::failure::Failure;
use super::headers;
use super::interface::{Argument, Interface};
use super::names;
use super::table::{Table, Variant};

/// Reads the one entry of an expanded module, and its bytes of static shared memory.
///
/// # Errors
///
/// What the parser refuses, and where the module and its row of the table disagree.
pub fn read(
    table: &Table,
    variant: &Variant,
    text: &Text,
    depth: Depth,
) -> Result<(Interface, u64), Failure> {
    let wrong = |line, message: String| Failure::new(text.place(line), message).of(&variant.name);
    let module = match depth {
        Depth::Headers => warpwright_ptx::parse(&headers::of_ptx(&text.text)),
        Depth::Everything => warpwright_ptx::parse(&text.text),
    };
    let module = module.map_err(|error| wrong(error.line, error.message))?;
    let [entry] = module.entries.as_slice() else {
        let (line, found) =
            (module.entries.get(1).map_or(1, |entry| entry.line), module.entries.len());
        return Err(wrong(line, format!("a template holds one .entry, this has {found}")));
    };
    agree(table, variant, entry).map_err(|message| wrong(entry.line, message))?;
    if !module.targets.contains(&variant.target) {
        let (found, wanted) = (module.targets.join(", "), &variant.target);
        let line = line_with(&text.text, ".target");
        return Err(wrong(line, format!(".target is {found}, the table says {wanted}")));
    }
    let parameters = entry
        .parameters
        .iter()
        .map(|parameter| argument(parameter).map_err(|message| wrong(parameter.line, message)))
        .collect::<Result<_, _>>()?;
    let shared = module.static_shared_bytes() + entry.static_shared_bytes();
    Ok((Interface::Ptx(parameters), shared))
}

/// Whether name and block are those of the table.
fn agree(table: &Table, variant: &Variant, entry: &Entry) -> Result<(), String> {
    let Variant { name, block, .. } = variant;
    if entry.name != *name {
        return Err("the entry is named by the table: write `.entry {{ entry_name }}`".to_owned());
    }
    let threads = |block: [u32; 3]| block.iter().map(|&axis| u64::from(axis)).product::<u64>();
    match (entry.reqntid(), entry.maxntid()) {
        (Some(required), _) if required != *block => {
            Err(format!(".reqntid is {required:?}, but [{}] has blocks of {block:?}", table.key))
        }
        (None, Some(most)) if threads(most) < threads(*block) => {
            Err(format!(".maxntid is {most:?}, but [{}] has blocks of {block:?}", table.key))
        }
        (None, None) => Err("the entry needs .reqntid, or .maxntid, that fits `block`".to_owned()),
        _ => Ok(()),
    }
}

/// A parameter and the Rust type of its field.
fn argument(parameter: &Parameter) -> Result<Argument, String> {
    let Parameter { name, ty, array, pointer, line, .. } = parameter;
    if !names::field(name) {
        return Err(format!(
            "parameter `{name}` names a field of a Rust struct: snake_case, and no word of Rust"
        ));
    }
    let scalar = match ty {
        Type::U8 | Type::B8 => "u8",
        Type::S8 => "i8",
        Type::U16 | Type::B16 => "u16",
        Type::S16 => "i16",
        Type::U32 | Type::B32 => "u32",
        Type::S32 => "i32",
        Type::U64 | Type::B64 => "u64",
        Type::S64 => "i64",
        Type::F32 => "f32",
        Type::F64 => "f64",
        other => return Err(format!("parameter `{name}`: .{} is no type to pass", other.name())),
    };
    let (rust, kind) = match (pointer, array) {
        (None, None) => (scalar.to_owned(), String::new()),
        (None, Some(count)) => (format!("[{scalar}; {count}]"), String::new()),
        (Some(pointer), None)
            if matches!(pointer.space, Space::Global | Space::Generic) && ty.bytes() == 8 =>
        {
            ("crate::backend::cuda::Address".to_owned(), format!(" .ptr .{}", pointer.space.name()))
        }
        (Some(_), _) => {
            return Err(format!("parameter `{name}`: a pointer is `.param .u64 .ptr .global`"));
        }
    };
    let extent = array.map_or(String::new(), |count| format!("[{count}]"));
    let declared = format!(".param .{}{kind} {name}{extent}", ty.name());
    Ok(Argument { name: name.clone(), declared, rust, line: *line })
}

/// The line of the first `word`, from 1.
fn line_with(text: &str, word: &str) -> u32 {
    (1..)
        .zip(text.lines())
        .find(|(_, line)| line.trim_start().starts_with(word))
        .map_or(1, |one| one.0)
}
