//! Names: what is declared where, under which name, and what a use means.

use std::collections::HashMap;

use crate::error::{Result, fail};
use crate::lexer::{Position, clipped};
use crate::types::{Space, Type};

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meaning {
    Register(Type),
    /// A variable, with its size in bytes if that is known.
    Variable(Space, Option<u64>),
    Label,
    Targets,
    Entry,
}

impl Meaning {
    pub fn what(self) -> &'static str {
        match self {
            Self::Register(_) => "register",
            Self::Variable(Space::Param, _) => "parameter",
            Self::Variable(..) => "variable",
            Self::Label => "label",
            Self::Targets => "list of branch targets",
            Self::Entry => "kernel",
        }
    }
}

/// The special registers: name, whether it has `.x .y .z`, its type.
const SPECIAL: &[(&str, bool, Type)] = &[
    ("%tid", true, Type::U32),
    ("%ntid", true, Type::U32),
    ("%ctaid", true, Type::U32),
    ("%nctaid", true, Type::U32),
    ("%clusterid", true, Type::U32),
    ("%nclusterid", true, Type::U32),
    ("%cluster_ctaid", true, Type::U32),
    ("%cluster_nctaid", true, Type::U32),
    ("%cluster_ctarank", false, Type::U32),
    ("%cluster_nctarank", false, Type::U32),
    ("%is_explicit_cluster", false, Type::Pred),
    ("%laneid", false, Type::U32),
    ("%warpid", false, Type::U32),
    ("%nwarpid", false, Type::U32),
    ("%lanemask_eq", false, Type::U32),
    ("%lanemask_lt", false, Type::U32),
    ("%lanemask_le", false, Type::U32),
    ("%lanemask_gt", false, Type::U32),
    ("%lanemask_ge", false, Type::U32),
    ("%smid", false, Type::U32),
    ("%nsmid", false, Type::U32),
    ("%gridid", false, Type::U64),
    ("%clock", false, Type::U32),
    ("%clock_hi", false, Type::U32),
    ("%clock64", false, Type::U64),
    ("%globaltimer", false, Type::U64),
    ("%globaltimer_lo", false, Type::U32),
    ("%globaltimer_hi", false, Type::U32),
    ("%dynamic_smem_size", false, Type::U32),
    ("%total_smem_size", false, Type::U32),
    ("%aggr_smem_size", false, Type::U32),
    ("%reserved_smem_offset_begin", false, Type::U32),
    ("%reserved_smem_offset_end", false, Type::U32),
    ("%reserved_smem_offset_cap", false, Type::U32),
];

/// Whether `name` is a special register: whether it has components, and its type.
pub(crate) fn special(name: &str) -> Option<(bool, Type)> {
    SPECIAL.iter().find(|(one, ..)| *one == name).map(|&(_, components, ty)| (components, ty))
}

/// One `{ }`, or the module, or the parameters of a kernel.
#[derive(Default)]
struct Scope {
    names: HashMap<String, (Meaning, u32)>,
    /// Ranges `%acc<8>` by what stands before the number: how many, type, line.
    ranges: HashMap<String, (u32, Type, u32)>,
    /// For every way to read a declared name as stem and number, the lowest number and its line: a range
    /// `stem<n>` collides with it if n is larger. This keeps declarations linear in their number.
    numbered: HashMap<String, (u64, u32)>,
}

/// All ways to read `name` as a stem and a canonical number of at most 10 digits.
pub(crate) fn splits(name: &str) -> impl Iterator<Item = (&str, u64)> {
    let longest = name.len().saturating_sub(10).max(1);
    (longest..name.len()).filter_map(move |at| {
        let (stem, digits) = (name.get(..at)?, name.get(at..)?);
        let canonical = digits == "0" || !digits.starts_with('0');
        if !canonical || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        Some((stem, digits.parse().ok()?))
    })
}

impl Scope {
    fn find(&self, name: &str) -> Option<(Meaning, u32)> {
        if let Some(found) = self.names.get(name) {
            return Some(*found);
        }
        splits(name).find_map(|(stem, number)| {
            let &(count, ty, line) = self.ranges.get(stem)?;
            (number < u64::from(count)).then_some((Meaning::Register(ty), line))
        })
    }

    /// The line of something that the range `stem<count>` would declare again.
    fn collision(&self, stem: &str, count: u32) -> Option<u32> {
        if let Some(&(_, _, line)) = self.ranges.get(stem) {
            return Some(line);
        }
        if let Some(&(lowest, line)) = self.numbered.get(stem)
            && lowest < u64::from(count)
        {
            return Some(line);
        }
        // `%a1<8>` begins with `%a10`, which `%a<11>` has.
        self.find(&format!("{stem}0")).map(|(_, line)| line)
    }

    fn number(&mut self, stem: &str, number: u64, line: u32) {
        let entry = self.numbered.entry(stem.to_owned()).or_insert((number, line));
        if number < entry.0 {
            *entry = (number, line);
        }
    }
}

/// The scopes that are open, outermost first.
pub(crate) struct Scopes {
    open: Vec<Scope>,
}

impl Scopes {
    pub fn new() -> Self {
        Self { open: vec![Scope::default()] }
    }

    pub fn enter(&mut self) {
        self.open.push(Scope::default());
    }

    pub fn leave(&mut self) {
        self.open.pop();
    }

    /// What `name` means here.
    pub fn find(&self, name: &str) -> Option<Meaning> {
        self.open.iter().rev().find_map(|scope| scope.find(name)).map(|(meaning, _)| meaning)
    }

    /// What `name` means in the innermost scope alone.
    pub fn find_innermost(&self, name: &str) -> Option<Meaning> {
        self.open.last()?.find(name).map(|(meaning, _)| meaning)
    }

    /// What to say about a register that no range has, although its stem is declared.
    pub fn out_of_range(&self, name: &str) -> Option<String> {
        self.open.iter().rev().find_map(|scope| {
            splits(name).find_map(|(stem, _)| {
                let (count, _, line) = scope.ranges.get(stem)?;
                Some(match count.checked_sub(1) {
                    Some(last) => {
                        format!("`{stem}<{count}>` of line {line} declares {stem}0 to {stem}{last}")
                    }
                    None => format!("`{stem}<0>` of line {line} declares nothing"),
                })
            })
        })
    }

    /// Declares `name` in the innermost scope.
    pub fn declare(&mut self, name: &str, meaning: Meaning, at: Position) -> Result<()> {
        refuse_taken(name, at)?;
        self.refuse_again(name, |scope| scope.find(name).map(|(_, line)| line), at)?;
        if let Some(scope) = self.open.last_mut() {
            scope.names.insert(name.to_owned(), (meaning, at.line));
            for (stem, number) in splits(name) {
                scope.number(stem, number, at.line);
            }
        }
        Ok(())
    }

    /// Declares `stem0` to `stem(count-1)` in the innermost scope.
    pub fn declare_range(&mut self, stem: &str, count: u32, ty: Type, at: Position) -> Result<()> {
        refuse_taken(stem, at)?;
        self.refuse_again(stem, |scope| scope.collision(stem, count), at)?;
        if let Some(scope) = self.open.last_mut() {
            scope.ranges.insert(stem.to_owned(), (count, ty, at.line));
            for (shorter, number) in splits(stem) {
                // The first register of the range, `stem0`, read with the shorter stem.
                if number > 0 {
                    scope.number(shorter, number.saturating_mul(10), at.line);
                }
            }
        }
        Ok(())
    }

    fn refuse_again(
        &self,
        name: &str,
        collision: impl Fn(&Scope) -> Option<u32>,
        at: Position,
    ) -> Result<()> {
        let name = clipped(name);
        for (outward, scope) in self.open.iter().rev().enumerate() {
            let Some(line) = collision(scope) else {
                continue;
            };
            return fail(
                at,
                if outward == 0 {
                    format!("`{name}` is declared twice in this block, first in line {line}")
                } else {
                    format!("`{name}` shadows the declaration of line {line}: choose another name")
                },
            );
        }
        Ok(())
    }
}

fn refuse_taken(name: &str, at: Position) -> Result<()> {
    if special(name).is_some() || name == "WARP_SZ" {
        return fail(at, format!("`{name}` is a name of the machine: choose another"));
    }
    Ok(())
}
