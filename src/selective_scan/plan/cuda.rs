//! The plan of a CUDA device.

use std::cmp::Reverse;

use super::{Plan, Schedule, forced, no_such_variant};
use crate::backend::kernel::{Language, VariantInfo};
use crate::backend::{Limits, Tier};
use crate::element::DType;
use crate::selective_scan::kernels::ForwardPtx;
use crate::selective_scan::{Layout, NAME, Options, Problem};
use crate::{Error, Result};

/// Steps that the kernels count, in 32 bits with a sign, with room for a tile behind the last.
const MOST_STEPS: usize = i32::MAX as usize - 256;

/// The plan of a CUDA device: one row and some channels of a group per block, serial in time.
pub(in crate::selective_scan) fn cuda(
    device: &str,
    limits: &Limits,
    problem: &Problem,
    options: &Options,
) -> Result<Plan> {
    check_ability(device, problem)?;
    let chosen = choose(device, limits, problem, options)?;
    let block_channels = chosen.block[0] as usize / number(chosen, "lanes").max(1);
    let group_blocks = problem.group_channels().div_ceil(block_channels.max(1));
    let blocks = [problem.rows, problem.groups, group_blocks]
        .into_iter()
        .try_fold(1u64, |blocks, factor| blocks.checked_mul(factor as u64))
        .unwrap_or(u64::MAX);
    let blocks = grid_length(device, limits, blocks)?;
    Ok(Plan {
        variant: chosen.name,
        schedule: Schedule::Serial,
        blocks: [blocks, 1, 1],
        workspace: workspace(problem),
        reason: format!(
            "{} is the least room for N = {} states; a block walks {block_channels} channels of \
             a row through time",
            number(chosen, "padded"),
            problem.states
        ),
    })
}

/// The variant with the least room for states that has enough, of the highest tier; or the one
/// that is forced.
fn choose(
    device: &str,
    limits: &Limits,
    problem: &Problem,
    options: &Options,
) -> Result<&'static VariantInfo> {
    let fitting = || {
        ForwardPtx::VARIANTS.iter().map(|variant| variant.info).filter(|info| {
            tier(info) <= limits.tier
                && element(info) == Some(problem.dtype.name())
                && number(info, "padded") >= problem.states
        })
    };
    match forced(options) {
        Some(asked) => fitting().find(|info| info.name == asked).ok_or_else(|| {
            no_such_variant(device.to_owned(), &asked, fitting().map(|info| info.name))
        }),
        None => fitting()
            .min_by_key(|info| (number(info, "padded"), Reverse(tier(info))))
            .ok_or_else(|| unsupported(device, format!("elements {}", problem.dtype))),
    }
}

/// The length of a grid, where the device takes it.
pub(in crate::selective_scan) fn grid_length(
    device: &str,
    limits: &Limits,
    blocks: u64,
) -> Result<u32> {
    let most = limits.grid[0];
    u32::try_from(blocks).ok().filter(|&blocks| blocks <= most).ok_or_else(|| Error::Unsupported {
        operation: NAME,
        backend: device.to_owned(),
        what: format!("{blocks} blocks in a grid of at most {most}"),
        instead: "split the batch".to_owned(),
    })
}

/// What the kernels can do.
fn check_ability(device: &str, problem: &Problem) -> Result<()> {
    if problem.layout == Layout::Bld {
        return Err(unsupported(device, "layout BLD".to_owned()));
    }
    if problem.steps > MOST_STEPS || u32::try_from(problem.channels).is_err() {
        let what = format!("L = {} and D = {}", problem.steps, problem.channels);
        return Err(unsupported(device, what));
    }
    Ok(())
}

/// The most that a call may need: which parameters have 16 bits, and whether there is a
/// `seq_idx`, only the tensors tell.
fn workspace(problem: &Problem) -> u64 {
    let &Problem { batch, channels, steps, states, rows, .. } = problem;
    let mut workspace = Workspace::default();
    let bytes = |elements: &[usize], size: u64| {
        elements.iter().fold(size, |bytes, &factor| bytes.saturating_mul(factor as u64))
    };
    if problem.dtype != DType::F32 {
        let maps = 1 + usize::from(problem.b_constant) + usize::from(problem.c_constant);
        for _ in 0..maps {
            workspace.take(bytes(&[channels, states], 4));
        }
        for _d_and_delta_bias in 0..2 {
            workspace.take(bytes(&[channels], 4));
        }
        workspace.take(bytes(&[rows, channels, states], 4));
    }
    if !problem.packed {
        workspace.take(bytes(&[batch, steps], 1));
    }
    workspace.bytes()
}

/// Workspace that is handed out piece by piece, each from a boundary that suits any access.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::selective_scan) struct Workspace {
    bytes: u64,
}

impl Workspace {
    const BOUNDARY: u64 = 256;

    /// The first byte of the next piece.
    pub fn take(&mut self, bytes: u64) -> u64 {
        let at = self.bytes;
        let whole = bytes.div_ceil(Self::BOUNDARY).saturating_mul(Self::BOUNDARY);
        self.bytes = at.saturating_add(whole);
        at
    }

    /// All that was handed out.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// The level of PTX that a variant needs.
fn tier(info: &VariantInfo) -> Option<Tier> {
    match info.language {
        Language::Ptx(tier) => Some(tier),
        Language::Wgsl => None,
    }
}

/// The element type that a variant is for.
pub(in crate::selective_scan) fn element(info: &VariantInfo) -> Option<&'static str> {
    info.parameter("element")
}

/// A whole number among a variant's parameters; 0 where there is none.
fn number(info: &VariantInfo, name: &str) -> usize {
    info.number(name).map_or(0, |value| value as usize)
}

fn unsupported(device: &str, what: String) -> Error {
    Error::Unsupported {
        operation: NAME,
        backend: device.to_owned(),
        what,
        instead: "use wgpu or cpu".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        Limits {
            units: 132,
            block_threads: 1024,
            shared_bytes: 227 << 10,
            grid: [i32::MAX as u32, 65_535, 65_535],
            binding_bytes: u64::MAX,
            storage_bindings: u32::MAX,
            subgroups: Some((32, 32)),
            tier: Some(Tier::Sm90a),
        }
    }

    fn problem() -> Problem {
        Problem {
            batch: 8,
            channels: 2048,
            steps: 1024,
            states: 16,
            groups: 1,
            rows: 8,
            layout: Layout::Bdl,
            dtype: DType::F32,
            a_per_channel: false,
            b_constant: false,
            c_constant: false,
            packed: false,
            save: false,
        }
    }

    fn plan(problem: &Problem) -> Result<Plan> {
        cuda("cuda:0", &limits(), problem, &Options::default())
    }

    #[test]
    fn every_state_size_has_the_least_room_that_holds_it() {
        for states in 0..=crate::selective_scan::MAX_STATES {
            let chosen = plan(&Problem { states, ..problem() }).unwrap();
            let padded = states.next_power_of_two().max(4);
            assert!(chosen.variant.ends_with(&format!("f32_n{padded}")), "{states}: {chosen:?}");
        }
    }

    #[test]
    fn blocks_cover_rows_groups_and_channels() {
        // 2 lanes of a channel, 64 channels of a block.
        assert_eq!(plan(&problem()).unwrap().blocks, [8 * 2048 / 64, 1, 1]);
        let groups = Problem { groups: 4, channels: 4 * 65, ..problem() };
        assert_eq!(plan(&groups).unwrap().blocks, [8 * 4 * 2, 1, 1]);
        let packed = Problem { batch: 1, rows: 1000, packed: true, ..problem() };
        assert_eq!(plan(&packed).unwrap().blocks, [1000 * 32, 1, 1]);
        assert_eq!(plan(&Problem { batch: 0, rows: 0, ..problem() }).unwrap().blocks, [0, 1, 1]);
        assert_eq!(plan(&Problem { channels: 0, groups: 0, ..problem() }).unwrap().blocks[0], 0);
        let many = plan(&Problem { batch: 1 << 32, rows: 1 << 32, ..problem() }).unwrap_err();
        assert!(many.to_string().contains("split the batch"), "{many}");
    }

    #[test]
    fn workspace_holds_codes_and_widened_parameters() {
        assert_eq!(plan(&problem()).unwrap().workspace, 8 * 1024);
        let bf16 = plan(&Problem { dtype: DType::BF16, ..problem() }).unwrap();
        let (a, channel, h0) = (4 * 2048 * 16, 4 * 2048, 4 * 8 * 2048 * 16);
        assert_eq!(bf16.workspace, a + 2 * channel + h0 + 8 * 1024);
        let packed = Problem { batch: 1, packed: true, ..problem() };
        assert_eq!(plan(&packed).unwrap().workspace, 0);
    }

    #[test]
    fn what_has_no_kernel_says_where_it_runs() {
        let refused = [
            Problem { layout: Layout::Bld, ..problem() },
            Problem { dtype: DType::F16, ..problem() },
            Problem { steps: 1 << 31, ..problem() },
        ];
        for problem in refused {
            let error = plan(&problem).unwrap_err();
            assert!(matches!(error, Error::Unsupported { .. }));
            assert!(error.to_string().ends_with("use wgpu or cpu"), "{error}");
        }
    }

    #[test]
    fn a_variant_can_be_forced_where_it_fits() {
        let force = |name: &str| {
            cuda("cuda:0", &limits(), &problem(), &Options::default().with_variant(name))
        };
        let larger = force("selective_scan_forward_serial_f32_n64").unwrap();
        assert!(larger.variant.ends_with("n64"));
        let smaller = force("selective_scan_forward_serial_f32_n8").unwrap_err();
        assert!(smaller.to_string().contains("f32_n16 or"), "{smaller}");
    }
}
