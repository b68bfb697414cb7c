//! The variables of a module: where they lie, and what they hold at first.

use std::collections::HashMap;

use super::decode::Symbols;
use super::decode::action::Place;
use super::execute;
use super::fault::{Fault, FaultKind};
use super::memory::Global;
use crate::ast::{Initial, Module, Variable, aligned};
use crate::types::{Space, Type};

/// The most bytes of the constant bank, as on every device so far.
const MOST_CONSTANT: u64 = 64 << 10;
/// The most bytes of the `.global` variables of a module. A text of a few bytes must not take the host's memory.
const MOST_GLOBAL: u64 = 256 << 20;
/// The highest alignment of memory: where allocations begin.
const MOST_ALIGN: u32 = 256;

/// Gives the variables of a module their places; the bytes of the constant bank come with them.
pub(crate) fn place(module: &Module, memory: &Global) -> Result<(Symbols, Vec<u8>), Fault> {
    let mut symbols = Symbols { places: HashMap::new(), shared: 0, dynamic: Vec::new() };
    let mut bank = Vec::new();
    let mut global = 0u64;
    for variable in &module.variables {
        let size = variable.size();
        let found = match variable.space {
            Space::Shared if variable.extents.first() == Some(&0) => {
                symbols.dynamic.push((variable.name.clone(), variable.align));
                continue;
            }
            Space::Shared => {
                let start = aligned(symbols.shared, variable.align);
                symbols.shared = start.saturating_add(size);
                (Place::Shared, start)
            }
            Space::Const => {
                let start = aligned(bank.len() as u64, variable.align);
                check(variable, start.saturating_add(size), MOST_CONSTANT)?;
                bank.resize(start as usize, 0);
                bank.extend(initial(variable, &symbols)?);
                (Place::Const, start)
            }
            Space::Global => {
                global = global.saturating_add(size);
                check(variable, global, MOST_GLOBAL)?;
                let start = memory.allocate(size.max(1)).map_err(|why| told(variable, why))?;
                memory
                    .write(start, &initial(variable, &symbols)?)
                    .map_err(|why| told(variable, why))?;
                (Place::Global, start)
            }
            _ => continue,
        };
        symbols.places.insert(variable.name.clone(), found);
    }
    Ok((symbols, bank))
}

/// Refuses a variable of memory that cannot be had; `end` is what the space has with it.
fn check(variable: &Variable, end: u64, most: u64) -> Result<(), Fault> {
    let (name, space) = (&variable.name, variable.space.name());
    if variable.external {
        let message = format!("`{name}` is `.extern`, and modules are not linked");
        return Err(refused(variable, FaultKind::Unsupported, message));
    }
    if variable.align > MOST_ALIGN {
        let message = format!("an alignment of {}: at most {MOST_ALIGN}", variable.align);
        return Err(refused(variable, FaultKind::Unsupported, message));
    }
    if end > most {
        let message = format!("{end} bytes of .{space} variables up to `{name}`: at most {most}");
        return Err(refused(variable, FaultKind::Launch, message));
    }
    Ok(())
}

/// The bytes that a variable begins with: zeros where the text says nothing.
fn initial(variable: &Variable, symbols: &Symbols) -> Result<Vec<u8>, Fault> {
    let element = variable.ty.bytes() as usize;
    let mut bytes = Vec::new();
    for value in &variable.initial {
        let bits = match value {
            Initial::Literal(_) if variable.ty == Type::B128 => {
                let message = "initial values of 128 bits: use two of 64 bits".to_owned();
                return Err(refused(variable, FaultKind::Unsupported, message));
            }
            Initial::Literal(value) => value.bits(variable.ty),
            Initial::Address { name, generic } => match symbols.places.get(name) {
                Some(&(place, address)) if *generic => execute::to_generic(place, address),
                Some(&(_, address)) => address,
                None => {
                    let message = format!("the address of `{name}` is not known before a launch");
                    return Err(refused(variable, FaultKind::Unsupported, message));
                }
            },
        };
        let bits = u128::from(bits).to_le_bytes();
        bytes.extend_from_slice(bits.get(..element).unwrap_or(&bits));
    }
    // `check` has bounded it.
    bytes.resize(usize::try_from(variable.size()).unwrap_or(0), 0);
    Ok(bytes)
}

fn told(variable: &Variable, why: super::memory::Fault) -> Fault {
    refused(variable, FaultKind::Launch, why.to_string())
}

fn refused(variable: &Variable, kind: FaultKind, message: String) -> Fault {
    Fault {
        kind,
        kernel: "of the module".to_owned(),
        line: variable.line,
        block: None,
        thread: None,
        address: None,
        other: None,
        message,
    }
}
