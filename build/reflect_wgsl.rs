//! What a dispatch of a WGSL entry has to bind: its uniform and its storage buffers.

use std::borrow::Cow;
use std::error::Error;

use naga::front::wgsl;
use naga::proc::GlobalCtx;
use naga::valid::{Capabilities, ValidationFlags, Validator};
use naga::{
    AddressSpace, GlobalVariable, Handle, Module, ScalarKind, StorageAccess, Type, TypeInner,
};

use super::Depth;
use super::expand::Text;
use super::failure::Failure;
use super::headers;
use super::interface::{Argument, Interface, Uniform};
use super::names;
use super::table::{Table, Variant};

/// What is wrong, and in which line of the expanded text.
type Wrong = (u32, String);

/// Reads the bindings of an expanded module, and its bytes of workgroup memory.
///
/// # Errors
///
/// What naga refuses, and where the module breaks the rules of this crate or disagrees with its
/// row of the table.
pub fn read(
    table: &Table,
    variant: &Variant,
    text: &Text,
    depth: Depth,
) -> Result<(Interface, u64), Failure> {
    let read = || {
        let text = match depth {
            Depth::Headers => Cow::Owned(headers::of_wgsl(&text.text)),
            Depth::Everything => Cow::Borrowed(text.text.as_str()),
        };
        let module = parsed(&text)?;
        if depth == Depth::Everything {
            validated(&module, table, variant, &text)?;
        }
        let reader = Reader { module: &module, text: &text };
        reader.entry(table, variant)?;
        Ok((reader.bindings(table)?, reader.workgroup_bytes()?))
    };
    read()
        .map_err(|(line, message): Wrong| Failure::new(text.place(line), message).of(&variant.name))
}

fn parsed(text: &str) -> Result<Module, Wrong> {
    wgsl::parse_str(text).map_err(|error| {
        let line = error.location(text).map_or(1, |location| location.line_number);
        let labels: Vec<&str> =
            error.labels().map(|(_, label)| label).filter(|label| !label.is_empty()).collect();
        let labels =
            if labels.is_empty() { String::new() } else { format!(" ({})", labels.join("; ")) };
        (line, format!("{}{labels}", error.message()))
    })
}

/// Naga's validation, with what WebGPU always has and what the variant may use besides.
fn validated(module: &Module, table: &Table, variant: &Variant, text: &str) -> Result<(), Wrong> {
    let mut capabilities = Capabilities::default() | Capabilities::SHADER_FLOAT16_IN_FLOAT32;
    for name in &variant.capabilities {
        capabilities |= Capabilities::from_name(name)
            .ok_or_else(|| (1, format!("[{}]: naga has no capability `{name}`", table.key)))?;
    }
    let validated = Validator::new(ValidationFlags::all(), capabilities).validate(module);
    validated.map(drop).map_err(|error| {
        let line = error.location(text).map_or(1, |location| location.line_number);
        let mut message = error.as_inner().to_string();
        let mut source = error.as_inner().source();
        while let Some(inner) = source {
            message.push_str(&format!(": {inner}"));
            source = inner.source();
        }
        (line, message)
    })
}

struct Reader<'a> {
    module: &'a Module,
    text: &'a str,
}

impl Reader<'_> {
    /// Whether there is one entry point, with the table's name and workgroup.
    fn entry(&self, table: &Table, variant: &Variant) -> Result<(), Wrong> {
        let [entry] = self.module.entry_points.as_slice() else {
            let found = self.module.entry_points.len();
            return Err((1, format!("a template holds one entry point, this has {found}")));
        };
        let head = (1..).zip(self.text.lines()).find(|(_, line)| line.contains("@compute"));
        let line = head.map_or(1, |(line, _)| line);
        if entry.name != variant.name {
            let message = "the entry point is named by the table: write `fn {{ entry_name }}`";
            return Err((line, message.to_owned()));
        }
        if entry.workgroup_size_overrides.is_some() {
            return Err((line, "write the workgroup's size as numbers, not overrides".to_owned()));
        }
        if entry.workgroup_size != variant.block {
            let (found, wanted) = (entry.workgroup_size, variant.block);
            return Err((
                line,
                format!("@workgroup_size is {found:?}, but [{}] says {wanted:?}", table.key),
            ));
        }
        Ok(())
    }

    fn line(&self, variable: Handle<GlobalVariable>) -> u32 {
        self.module.global_variables.get_span(variable).location(self.text).line_number
    }

    /// All bindings: the uniform, and the storage buffers in order.
    fn bindings(&self, table: &Table) -> Result<Interface, Wrong> {
        let mut bound = Vec::new();
        for (handle, variable) in self.module.global_variables.iter() {
            let line = self.line(handle);
            match (variable.binding, variable.space) {
                (Some(binding), _) if binding.group != 0 => {
                    return Err((line, "bindings are in @group(0)".to_owned()));
                }
                (Some(binding), _) => bound.push((binding.binding, line, variable)),
                (None, AddressSpace::Immediate) => {
                    return Err((line, "pass parameters in the uniform at binding 0".to_owned()));
                }
                (None, _) => {}
            }
        }
        bound.sort_by_key(|&(binding, line, _)| (binding, line));
        let mut uniform = None;
        let mut storage = Vec::new();
        for ((binding, line, variable), expected) in bound.into_iter().zip(0..) {
            if binding != expected {
                let message = format!("bindings are numbered from 0 on: {expected} is missing");
                return Err((line, message));
            }
            let name = variable.name.clone().unwrap_or_default();
            if !names::field(&name) {
                return Err((line, not_a_field("binding", &name)));
            }
            match (variable.space, binding) {
                (AddressSpace::Uniform, 0) => {
                    uniform = Some(self.uniform(name, variable.ty, line)?);
                }
                (AddressSpace::Storage { access }, 1..)
                    if access.contains(StorageAccess::LOAD | StorageAccess::STORE) =>
                {
                    let declared = format!("@binding({binding}) var<storage, read_write> {name}");
                    let rust = "crate::backend::wgpu::Slice<'a>".to_owned();
                    storage.push(Argument { name, declared, rust, line });
                }
                (AddressSpace::Storage { .. }, 1..) => {
                    let message = format!(
                        "`{name}` must be var<storage, read_write>, as an input too: wgpu refuses \
                         one buffer bound both ways in one dispatch",
                    );
                    return Err((line, message));
                }
                _ => {
                    let message = "binding 0 is the uniform, the others are storage".to_owned();
                    return Err((line, message));
                }
            }
        }
        let most = table.storage_bindings;
        if let Some(one) = storage.get(most) {
            let message = format!(
                "{} storage buffers, but [{}] may bind {most}: say `storage_bindings` if only \
                 devices that allow more shall run it",
                storage.len(),
                table.key,
            );
            return Err((one.line, message));
        }
        let uniform = uniform.ok_or((1, "there is no uniform at binding 0".to_owned()))?;
        if storage.iter().any(|one| one.name == uniform.name) {
            return Err((uniform.line, format!("`{}` names two bindings", uniform.name)));
        }
        Ok(Interface::Wgsl { uniform, storage })
    }

    /// The members of the uniform's struct, its gaps filled.
    fn uniform(&self, name: String, ty: Handle<Type>, line: u32) -> Result<Uniform, Wrong> {
        let TypeInner::Struct { members, span } = &self.module.types[ty].inner else {
            return Err((line, "the uniform holds a struct".to_owned()));
        };
        let mut fields: Vec<Argument> = Vec::new();
        let mut end = 0;
        let fill = |fields: &mut Vec<Argument>, from: u32, to: u32| {
            if to > from {
                let gap = format!("padding_{from}");
                let declared = format!("{} bytes that the kernel does not read", to - from);
                fields.push(Argument {
                    name: gap,
                    declared,
                    rust: format!("[u8; {}]", to - from),
                    line,
                });
            }
        };
        for member in members {
            let name = member.name.clone().unwrap_or_default();
            if !names::field(&name) {
                return Err((line, not_a_field("member", &name)));
            }
            let inner = &self.module.types[member.ty].inner;
            let (rust, shown) = self
                .rust(inner)
                .map_err(|message| (line, format!("member `{name}`: {message}")))?;
            fill(&mut fields, end, member.offset);
            end = member.offset + inner.size(self.context());
            fields.push(Argument { declared: format!("{name}: {shown}"), name, rust, line });
        }
        fill(&mut fields, end, *span);
        Ok(Uniform { members: fields, name, bytes: *span, line })
    }

    fn context(&self) -> GlobalCtx<'_> {
        self.module.to_ctx()
    }

    /// The Rust and the WGSL type of a member.
    fn rust(&self, inner: &TypeInner) -> Result<(String, String), String> {
        let scalar = |scalar: &naga::Scalar| match (scalar.kind, scalar.width) {
            (ScalarKind::Uint, 4) => Ok(("u32", "u32")),
            (ScalarKind::Sint, 4) => Ok(("i32", "i32")),
            (ScalarKind::Float, 4) => Ok(("f32", "f32")),
            (ScalarKind::Float, 2) => Ok(("half::f16", "f16")),
            _ => Err("use u32, i32, f32, f16, or vectors and arrays of them".to_owned()),
        };
        match inner {
            TypeInner::Scalar(of) => scalar(of).map(|(rust, wgsl)| (rust.into(), wgsl.into())),
            TypeInner::Vector { size, scalar: of } => {
                let (rust, wgsl) = scalar(of)?;
                let size = u32::from(*size);
                Ok((format!("[{rust}; {size}]"), format!("vec{size}<{wgsl}>")))
            }
            TypeInner::Array { base, size: naga::ArraySize::Constant(count), stride } => {
                let base = &self.module.types[*base].inner;
                let (rust, wgsl) = self.rust(base)?;
                if base.size(self.context()) != *stride {
                    return Err("elements of an array must fill their stride: use vec4".to_owned());
                }
                Ok((format!("[{rust}; {count}]"), format!("array<{wgsl}, {count}>")))
            }
            _ => Err("use scalars, vectors and arrays".to_owned()),
        }
    }

    /// Bytes of all workgroup variables, each aligned to 16.
    fn workgroup_bytes(&self) -> Result<u64, Wrong> {
        let mut bytes = 0_u64;
        for (handle, variable) in self.module.global_variables.iter() {
            if variable.space != AddressSpace::WorkGroup {
                continue;
            }
            let inner = &self.module.types[variable.ty].inner;
            let size = inner.try_size(self.context()).ok_or_else(|| {
                let message = "workgroup memory must have a size that is known at build".to_owned();
                (self.line(handle), message)
            })?;
            bytes = bytes.next_multiple_of(16) + u64::from(size);
        }
        Ok(bytes)
    }
}

fn not_a_field(what: &str, name: &str) -> String {
    format!("{what} `{name}` names a field of a Rust struct: snake_case, and no word of Rust")
}
