//! The plans of WebGPU devices, whose bindings hold only so much: a matrix may be in parts.

use std::ops::Range;

use super::{Cut, Plan, Share, choose, chunk_ptr, shares};
use crate::backend::Limits;
use crate::backend::kernel::VariantInfo;
use crate::group_sparse::kernels::ProductWgsl;
use crate::group_sparse::layout::{Geometry, TILE};
use crate::group_sparse::partition::Partition;
use crate::group_sparse::{NAME, Options, Problem, Scheme};
use crate::{Error, Result};

/// Workgroups of 64 that a large device has at once, 132 units of 32: WebGPU does not tell.
const RESIDENT: usize = 132 * 32;

/// Workgroups that keep a core of a software device busy.
const RESIDENT_PER_CORE: usize = 4;

/// Invocations of a workgroup.
const INVOCATIONS: u32 = 64;

/// Rows whose arrays fit in bindings.
pub(in crate::group_sparse) fn parts(
    device: &str,
    chunk_ptr: &[u32],
    geometry: &Geometry,
    limits: &Limits,
) -> Result<Vec<Range<usize>>> {
    // Codes, or scales and column groups as wide as they get, the latter with where rows begin.
    let bytes = (4 * geometry.groups() as u64 + 8).max(16);
    let most = (limits.binding_bytes.saturating_sub(16) / bytes) as usize;
    let tiles = |rows: Range<usize>| {
        let (first, end) = (chunk_ptr[rows.start] as usize, chunk_ptr[rows.end] as usize);
        end.next_multiple_of(TILE) - first / TILE * TILE
    };
    let rows = chunk_ptr.len() - 1;
    let mut parts = Vec::new();
    let mut first = 0;
    while first < rows {
        let mut end = first + 1;
        if tiles(first..end) > most {
            let asked = tiles(first..end) as u64 * bytes;
            return Err(too_much(device, format!("a row of {asked} bytes"), limits));
        }
        while end < rows && tiles(first..end + 1) <= most {
            end += 1;
        }
        parts.push(first..end);
        first = end;
    }
    Ok(parts)
}

fn too_much(device: &str, what: String, limits: &Limits) -> Error {
    Error::Unsupported {
        operation: NAME,
        backend: device.to_owned(),
        what: format!("{what}, {} are most in one binding", limits.binding_bytes),
        instead: "split the matrix, or use `cpu`".to_owned(),
    }
}

/// The kernels that a device runs with codes of so many bits, the best first.
pub(in crate::group_sparse) fn kernels(
    problem: &Problem,
    limits: &Limits,
) -> Vec<&'static VariantInfo> {
    let fits = |info: &&'static VariantInfo| {
        info.number("bits") == Some(problem.format.bits)
            && info.capabilities.iter().all(|&capability| match capability {
                "SUBGROUP" => limits.subgroups.is_some_and(are_full),
                _ => false,
            })
    };
    let mut kernels: Vec<_> =
        ProductWgsl::VARIANTS.iter().map(|one| one.info).filter(fits).collect();
    let is_one = problem.vectors == 1;
    let is_software = limits.units != 0;
    // In software barriers wait for nobody.
    kernels.sort_by_key(|info| {
        ((vectors(info) == 1) != is_one, info.capabilities.is_empty() != is_software)
    });
    kernels
}

/// Whether all subgroups of a workgroup are full, whichever size they have.
fn are_full((smallest, largest): (u32, u32)) -> bool {
    smallest >= 4 && largest >= smallest && INVOCATIONS.is_multiple_of(largest)
}

/// Vectors that a kernel multiplies each weight with.
pub(in crate::group_sparse) fn vectors(info: &VariantInfo) -> usize {
    info.number("vectors").unwrap_or(1) as usize
}

/// The plan of a product.
pub(in crate::group_sparse) fn wgpu(
    device: &str,
    limits: &Limits,
    problem: &Problem,
    options: &Options,
) -> Result<Plan> {
    let info = choose(device, options, &kernels(problem, limits))?;
    let resident = match limits.units as usize {
        0 => RESIDENT,
        cores => cores * RESIDENT_PER_CORE,
    };
    let (cut, reason) = Cut::of(&chunk_ptr(problem), resident, options);
    let mut plan = Plan {
        variant: info.name,
        scheme: cut.scheme,
        workers: cut.workers,
        quantum: TILE,
        rows: cut.rows,
        vectors: vectors(info),
        blocks: 0,
        workspace: 0,
        reason,
    };
    let work = Work::of(device, limits, problem, &plan)?;
    let runs = work.at_once / plan.vectors;
    plan.blocks = u32::try_from(work.shares.len() * runs).unwrap_or(u32::MAX);
    plan.workspace = work.bytes(&plan);
    Ok(plan)
}

/// The work of a product, as its kernels read it.
#[derive(Clone, Debug)]
pub(in crate::group_sparse) struct Work {
    /// Of all parts, one behind those of each.
    pub shares: Vec<Share>,
    /// The shares of each part, without the one behind.
    pub of_parts: Vec<Range<usize>>,
    /// The share that each row begins in, where it does not end there; else [`WHOLE`].
    pub joins: Vec<u32>,
    /// Columns of x as it is staged.
    pub staged: usize,
    /// Vectors that there is room for, in whole runs.
    pub at_once: usize,
}

/// What stands for no share.
pub(in crate::group_sparse) const WHOLE: u32 = u32::MAX;

impl Work {
    pub fn of(device: &str, limits: &Limits, problem: &Problem, plan: &Plan) -> Result<Self> {
        let geometry = Geometry::of(&problem.format);
        let chunk_ptr = chunk_ptr(problem);
        let rows = problem.format.rows;
        let mut work = Self {
            shares: Vec::new(),
            of_parts: Vec::new(),
            joins: vec![WHOLE; rows],
            staged: geometry.staged_segments(problem.format.column_groups()) * geometry.segment,
            at_once: 0,
        };
        for part in parts(device, &chunk_ptr, &geometry, limits)? {
            work.add(plan, &chunk_ptr, part);
        }
        // Numbers of a vector in the longer one of the two buffers.
        let line = work.staged.max(work.line());
        let most = limits.binding_bytes / 4;
        let runs = most / (line * plan.vectors) as u64;
        if runs == 0 || (4 * work.shares.len() + rows) as u64 > most {
            return Err(too_much(device, format!("{line} numbers beside the matrix"), limits));
        }
        work.at_once = (runs as usize).min(problem.vectors.div_ceil(plan.vectors)) * plan.vectors;
        Ok(work)
    }

    /// Cuts the chunks of some rows.
    fn add(&mut self, plan: &Plan, chunk_ptr: &[u32], part: Range<usize>) {
        let first = self.shares.len();
        let local = local(chunk_ptr, &part);
        let chunks = local[part.len()] as usize;
        let all = chunk_ptr[chunk_ptr.len() - 1] as usize;
        let partition = match plan.scheme {
            Scheme::DataCentric => Partition::by_rows(&local, plan.rows),
            Scheme::TaskCentric => {
                let workers = (plan.workers * chunks / all).clamp(1, chunks.div_ceil(TILE));
                Partition::even(&local, workers, plan.quantum)
            }
        };
        let mut shares = shares(&partition, part.len());
        // What lies before in the part's first tile is another's.
        shares[0].begin = local[0];
        for split in partition.splits() {
            self.joins[part.start + split.row] = (first + split.first) as u32;
        }
        for share in &mut shares {
            share.row += part.start as u32;
            share.owner += first as u32;
            share.last += first as u32;
        }
        self.shares.extend(shares);
        self.of_parts.push(first..self.shares.len() - 1);
    }

    /// Sums of a run: those of rows, then the heads of shares.
    pub fn line(&self) -> usize {
        self.joins.len() + self.shares.len()
    }

    fn bytes(&self, plan: &Plan) -> u64 {
        let numbers = self.at_once * (self.staged + self.line());
        let words = numbers + 4 * self.shares.len() + self.joins.len();
        debug_assert!(self.at_once.is_multiple_of(plan.vectors));
        4 * words as u64
    }
}

/// Where the chunks of a part's rows begin among its own, which begin with a tile.
pub(in crate::group_sparse) fn local(chunk_ptr: &[u32], part: &Range<usize>) -> Vec<u32> {
    let first = chunk_ptr[part.start] / TILE as u32 * TILE as u32;
    chunk_ptr[part.start..=part.end].iter().map(|chunk| chunk - first).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::group_sparse::{Format, Mode, Pattern, ScaleScope};

    fn problem(rows: usize, kept: usize, vectors: usize) -> Problem {
        let format = Format {
            rows,
            columns: 4096,
            group: 16,
            bits: 4,
            mode: Mode::Sym,
            pattern: Pattern::Free,
            scope: ScaleScope::Group,
        };
        Problem::even(format, kept, vectors).unwrap()
    }

    fn planned(limits: &Limits, problem: &Problem) -> Plan {
        wgpu("a device", limits, problem, &Options::default()).unwrap()
    }

    #[test]
    fn one_vector_has_a_kernel_of_its_own() {
        let limits = Limits::of_webgpu(0);
        let plan = planned(&limits, &problem(4096, 4096 * 128, 1));
        assert_eq!(plan.variant, "group_sparse_product_4_wgsl_m1");
        assert_eq!(plan.workers, 2048, "2 KiB each");
        let plan = planned(&limits, &problem(4096, 4096 * 128, 6));
        assert_eq!(plan.variant, "group_sparse_product_4_wgsl_m4");
        // Rows and columns, and a run of four and one of two with room for as many.
        assert_eq!(plan.workspace, 4 * (8 * (4096 + 32 + 4096 + 2049) + 4 * 2049 + 4096));
    }

    #[test]
    fn subgroups_are_used_where_they_fill_workgroups() {
        let on = |subgroups, units| {
            let limits = Limits { subgroups, ..Limits::of_webgpu(units) };
            planned(&limits, &problem(64, 64 * 128, 1)).variant.contains("subgroup")
        };
        assert!(on(Some((32, 32)), 0) && on(Some((4, 64)), 0));
        assert!(!on(Some((4, 128)), 0) && !on(None, 0), "some lanes would be nobody");
        assert!(!on(Some((8, 8)), 2), "in software");
    }

    #[test]
    fn what_bindings_do_not_hold_is_cut_between_rows() {
        let limits = Limits { binding_bytes: 4096 + 16, ..Limits::of_webgpu(0) };
        let geometry = Geometry::of(&problem(1, 1, 1).format);
        // 256 chunks of 16 bytes fit.
        let rows: Vec<u32> = (0..=20).map(|row| row * 50).collect();
        let cut = parts("a device", &rows, &geometry, &limits).unwrap();
        // The second part's first tile has 26 chunks of the first part, so that 224 to 480 are its own.
        assert_eq!(cut, [0..5, 5..9, 9..14, 14..18, 18..20]);
        let error = parts("a device", &[0, 300], &geometry, &limits).unwrap_err();
        assert!(matches!(error, Error::Unsupported { .. }), "{error}");
    }

    #[test]
    fn shares_of_parts_count_from_the_first_tile() {
        // Rows of 50 chunks, of which 1249 fit in a binding.
        let problem = problem(100, 100 * 100, 1);
        let limits = Limits { binding_bytes: 20_000, ..Limits::of_webgpu(0) };
        let mut plan = planned(&limits, &problem);
        (plan.scheme, plan.workers) = (Scheme::TaskCentric, 10);
        let work = Work::of("a device", &limits, &problem, &plan).unwrap();
        assert_eq!(work.of_parts[..2], [0..2, 3..5]);
        assert_eq!(work.of_parts.len(), 5);
        // The first row of the second part is the 24th, whose 1200 chunks before it are 37 tiles and
        // a half; row 35 goes on in the second share.
        let told = |share: &Share| [share.begin, share.row, share.owner, share.last];
        assert_eq!(told(&work.shares[3]), [16, 24, 3, 4]);
        assert_eq!(told(&work.shares[4]), [608, 36, 3, 4]);
        assert_eq!(work.joins[12], 0);
        assert_eq!(work.joins[35], 3);
        // The last part, of four rows, has one share.
        assert_eq!(work.joins.iter().filter(|&&join| join == WHOLE).count(), 96);
        let limits = Limits { binding_bytes: 4096, ..limits };
        let error = Work::of("a device", &limits, &problem, &plan).unwrap_err();
        assert!(matches!(error, Error::Unsupported { .. }), "x does not fit: {error}");
    }
}
