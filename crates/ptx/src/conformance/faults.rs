//! Kernels that must be refused, each with the repaired twin that must pass.
//!
//! Both are one text of `conformance/faults/*.ptx`, written like a difference: a line that begins with `-` is in
//! the faulty kernel only, one that begins with `+` in the repaired one only. A line where the report
//! may point ends in `// <- here`. A head comment says what the report is and how the kernel is launched:
//!
//! ```text
//! // what: race
//! // block 64, grid 1
//! ```
//!
//! The reports are `bounds` (memory near 0 included), `alignment`, `unwritten` (register or memory), `race`,
//! `read-only`, `mask` (of a warp instruction), `divergence`, `barrier`, `deadlock`, `pending copy`, `range`,
//! `mbarrier`, `division by zero`, `branch`, `carry`, `cluster` and `proxy`.

use super::expected::Expected;
use super::{Program, Target, Words};

/// A kernel that must be refused.
#[derive(Debug, Clone, PartialEq)]
pub struct Faulty {
    /// The kernel with its fault.
    pub program: Program,
    /// What the report must be about.
    pub what: String,
    /// The report must point at one of these lines of the text: of two accesses that race, either may come last.
    pub lines: Vec<u32>,
    /// The same kernel, lines kept in place, without the fault: it must pass.
    pub repaired: Program,
}

macro_rules! texts {
    ($($name:literal)*) => {
        &[$(($name, include_str!(concat!("../../conformance/faults/", $name, ".ptx")))),*]
    };
}

const TEXTS: &[(&str, &str)] = texts! {
    "read_out_of_bounds" "write_out_of_bounds" "shared_out_of_bounds" "misaligned_vector"
    "misaligned_word" "shared_offset_as_global" "shared_offset_as_generic" "unwritten_address"
    "unwritten_predicate" "unwritten_stored" "unwritten_shared_stored" "unwritten_mask"
    "unwritten_added" "shared_race" "shared_race_of_rounds" "lane_race" "shared_write_race"
    "global_race" "weak_against_atomic" "flag_by_plain_store" "red_as_acquire" "fence_on_one_side"
    "unfenced_writer" "scope_too_narrow" "read_only_path" "shfl_outside_mask"
    "shfl_reads_inactive_lane" "shfl_masks_differ" "vote_never_complete" "divergent_barrier"
    "barrier_count_differs" "barrier_never_complete" "barrier_short_of_exited"
    "barrier_arrived_twice" "divergent_product" "divergent_matrix" "matrix_misaligned"
    "copy_read_before_wait" "copy_of_newest_group" "copy_without_barrier" "copy_source_overwritten"
    "copy_source_too_large" "copy_pending_at_exit" "mbarrier_plain_access"
    "mbarrier_not_initialised" "mbarrier_count_zero" "mbarrier_too_many" "mbarrier_never_complete"
    "division_by_zero" "branch_index" "branch_uniform" "carry_unset" "spin_deadlock"
    "waits_for_unborn_block" "cluster_barrier_twice" "cluster_starts_late" "cluster_exits_early"
    "bulk_without_proxy_fence" "bulk_pending_at_exit" "bulk_bytes_short"
};

/// The kernels that must be refused.
pub fn faults() -> Vec<Faulty> {
    // A text that does not read is a mistake of this crate; the test below refuses it.
    TEXTS.iter().filter_map(|(name, text)| read(name, text).ok()).collect()
}

/// Words behind `in` and behind `out`: `in` counts from 0, `out` holds zeros.
const WORDS: u32 = 256;

fn read(name: &str, text: &str) -> Result<Faulty, String> {
    let program = program(name, &side(text, '-'), text)?;
    let marked = program.text.lines().zip(1..).filter(|(line, _)| line.ends_with("// <- here"));
    Ok(Faulty {
        what: headed(text, "// what: ").ok_or("no `// what:`")?.to_owned(),
        lines: marked.map(|(_, number)| number).collect(),
        repaired: self::program(&format!("{name}, repaired"), &side(text, '+'), text)?,
        program,
    })
}

/// The text with the lines of one side; those of the other are left empty, so that numbers stay.
fn side(text: &str, own: char) -> String {
    let lines = text.lines().map(|line| match line.chars().next() {
        Some(first) if first == own => line.replacen(own, " ", 1),
        Some('-' | '+') => String::new(),
        _ => line.to_owned(),
    });
    lines.flat_map(|line| [line, "\n".to_owned()]).collect()
}

/// What follows `key` in the line that begins with it.
fn headed<'t>(text: &'t str, key: &str) -> Option<&'t str> {
    text.lines().find_map(|line| line.strip_prefix(key)).map(str::trim)
}

fn program(name: &str, side: &str, text: &str) -> Result<Program, String> {
    let shape = headed(text, "// block ").ok_or("no `// block`")?;
    let (block, rest) = shape.split_once(", grid ").ok_or("no grid")?;
    let (grid, cluster) = rest.split_once(", cluster ").unwrap_or((rest, "1"));
    let count = |text: &str| text.parse::<u32>().map_err(|_| format!("`{text}` is no count"));
    let target = headed(text, ".target ").ok_or("no `.target`")?;
    let all = [Target::Sm80, Target::Sm90, Target::Sm90a];
    Ok(Program {
        name: name.to_owned(),
        text: side.to_owned(),
        target: all.into_iter().find(|one| one.name() == target).ok_or("an unknown target")?,
        grid: count(grid)?,
        block: count(block)?,
        cluster: count(cluster)?,
        input: (0..WORDS).flat_map(u32::to_le_bytes).collect(),
        expected: vec![Expected::Any; WORDS as usize],
        reads: Words { width: 4, names: Vec::new() },
        writes: Words { width: 4, names: vec!["a word".to_owned()] },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::ENTRY;

    #[test]
    fn every_text_reads_and_parses() {
        for (name, text) in TEXTS {
            let faulty = read(name, text).unwrap_or_else(|why| panic!("{name}: {why}"));
            assert!(!faulty.lines.is_empty(), "{name}: no line is marked");
            for program in [&faulty.program, &faulty.repaired] {
                let module = crate::parse(&program.text)
                    .unwrap_or_else(|why| panic!("{}: {why}\n{}", program.name, program.text));
                let entry = module.entry(ENTRY).expect("the kernel of the suite");
                assert_eq!(entry.reqntid(), Some([program.block, 1, 1]), "{name}");
                assert_eq!(entry.cluster().map_or(1, |shape| shape[0]), program.cluster, "{name}");
            }
            let module = crate::parse(&faulty.program.text).expect("it parsed above");
            let entry = module.entry(ENTRY).expect("it was there above");
            let lines: Vec<u32> = entry.instructions().iter().map(|one| one.line).collect();
            let all = faulty.lines.iter().all(|line| lines.contains(line));
            assert!(all, "{name}: a marked line has no instruction");
            assert_ne!(faulty.program.text, faulty.repaired.text, "{name}");
        }
    }

    #[test]
    fn sides_keep_the_lines_in_place() {
        let text = "a;\n- b;\n+ c;\nd;\n";
        assert_eq!(side(text, '-'), "a;\n  b;\n\nd;\n");
        assert_eq!(side(text, '+'), "a;\n\n  c;\nd;\n");
    }
}
