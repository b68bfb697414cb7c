//! The plans of WebGPU devices: a workgroup has a head of four rows for many steps, or a block of
//! its units for one.

use super::{Pass, Path, Plan};
use crate::backend::Limits;
use crate::backend::kernel::VariantInfo;
use crate::rnn::kernels::{BackwardWgsl, ForwardWgsl};
use crate::rnn::{Activation, Cell, NAME, Options, Problem};
use crate::variant::no_such_variant;
use crate::{Error, Result};

/// Rows of a workgroup.
pub(in crate::rnn) const ROWS: usize = 4;

/// Bytes of a head's matrices that a workgroup reads at each step in less time than it takes a
/// device to begin with another step: those of LSTM with 128 units.
const MATRICES_OF_A_WORKGROUP: usize = 1 << 18;

/// Iterations of all loops that an invocation does in one dispatch, about: it ends long before the
/// watchdog of a desktop comes. lavapipe counts them and leaves the loops, wherever they are, after
/// 65,535.
pub(in crate::rnn) const ITERATIONS: usize = 1 << 15;

/// Numbers of D that stay in the workspace at once, about: 32 MiB.
const HISTORY: usize = 8 << 20;

/// Chooses the kernel of a pass.
pub(in crate::rnn) fn wgpu(
    pass: Pass,
    device: &str,
    limits: &Limits,
    problem: &Problem,
    options: &Options,
) -> Result<Plan> {
    let fitting = fitting(pass, problem);
    let &Problem { cell, batch, heads, width, .. } = problem;
    let matrices = cell.recurrent_gates().len() * width * width * size_of::<f32>();
    let (tiles, small) = (heads * batch.div_ceil(ROWS), matrices <= MATRICES_OF_A_WORKGROUP);
    // On a program that runs on the CPU, a core without a head of its own is all there is to gain.
    let busy = limits.units > 0 && tiles >= limits.units as usize;
    let has_resident = fitting.iter().any(|(_, path)| *path == Path::Resident);
    let resident = has_resident && (small || busy);
    let wanted = if resident { Path::Resident } else { Path::Stepwise };
    let chosen = match pass.forced(options) {
        Some(asked) => match fitting.iter().find(|(info, _)| info.name == asked) {
            Some(chosen) => Some(chosen),
            None => {
                let names = fitting.iter().map(|(info, _)| info.name);
                return Err(no_such_variant(NAME, device.to_owned(), &asked, names));
            }
        },
        None => fitting.iter().find(|(_, path)| *path == wanted),
    };
    let Some(&(info, path)) = chosen else {
        return Err(Error::Unsupported {
            operation: NAME,
            backend: device.to_owned(),
            what: format!("elements {}", problem.dtype),
            instead: "use `cpu`".to_owned(),
        });
    };
    let blocks = match path {
        Path::Resident => tiles,
        Path::Stepwise => tiles.saturating_mul(width.div_ceil(info.block[0] as usize)),
    };
    let reason = match (resident, small) {
        (true, true) => format!("{matrices} bytes of matrices are read faster than a step begins"),
        (true, false) => format!("{tiles} heads of {ROWS} rows keep all cores busy"),
        (false, _) => format!("{matrices} bytes of matrices are shared out to workgroups"),
    };
    Ok(Plan {
        variant: info.name,
        path,
        rows: ROWS as u32,
        blocks: u32::try_from(blocks).unwrap_or(u32::MAX),
        workspace: workspace(pass, problem),
        reason,
        layouts: Vec::new(),
    })
}

/// Every variant of a pass that fits, the plan's own first.
pub(in crate::rnn) fn wgpu_variants(
    pass: Pass,
    device: &str,
    limits: &Limits,
    problem: &Problem,
    options: &Options,
) -> Result<Vec<&'static str>> {
    let planned = wgpu(pass, device, limits, problem, options)?.variant;
    let others = fitting(pass, problem).into_iter().map(|(info, _)| info.name);
    Ok(std::iter::once(planned).chain(others.filter(|&name| name != planned)).collect())
}

/// Every kernel of a pass that can run the problem, and how it walks time.
fn fitting(pass: Pass, problem: &Problem) -> Vec<(&'static VariantInfo, Path)> {
    let all: Vec<&'static VariantInfo> = match pass {
        Pass::Forward => ForwardWgsl::VARIANTS.iter().map(|one| one.info).collect(),
        Pass::Backward => BackwardWgsl::VARIANTS.iter().map(|one| one.info).collect(),
    };
    let cell = match problem.cell {
        Cell::Elman(Activation::Relu) => "relu",
        cell => cell.name(),
    };
    let fits = |info: &VariantInfo| {
        info.parameter("element") == Some(problem.dtype.name())
            && info.parameter("cell") == Some(cell)
    };
    let with_path = |info: &'static VariantInfo| match info.parameter("path") {
        Some("head") => (info, Path::Resident),
        _ => (info, Path::Stepwise),
    };
    let ends = |&(info, path): &(&VariantInfo, Path)| {
        path == Path::Stepwise || iterations(info, problem) <= ITERATIONS
    };
    all.into_iter().filter(|info| fits(info)).map(with_path).filter(ends).collect()
}

/// Iterations of all loops of an invocation that walks a head through a step.
fn iterations(info: &VariantInfo, problem: &Problem) -> usize {
    let width = problem.width;
    let blocks = width.div_ceil(info.block[0] as usize);
    // Units of the products, and for each piece of them the loops over rows and pieces.
    blocks.saturating_mul(width.saturating_add((2 * blocks + 2) * ROWS))
}

/// Steps of one dispatch.
pub(in crate::rnn) fn steps_at_once(path: Path, info: &VariantInfo, problem: &Problem) -> usize {
    match path {
        Path::Resident => (ITERATIONS / iterations(info, problem)).max(1),
        Path::Stepwise => 1,
    }
}

/// Steps whose D stays in the workspace at once. At least two: a step is written while the one
/// behind it is read.
pub(in crate::rnn) fn history_steps(problem: &Problem) -> usize {
    let &Problem { cell, batch, steps, heads, width, .. } = problem;
    let sizes = [padded_gates(cell), batch, heads, width];
    let of_step = sizes.iter().fold(1usize, |all, &size| all.saturating_mul(size)).max(1);
    (HISTORY / of_step).min(steps).max(2)
}

/// Numbers that the gates of a unit fill side by side: fours where there are several.
pub(in crate::rnn) fn padded_gates(cell: Cell) -> usize {
    match cell.recurrent_gates().len() {
        1 => 1,
        _ => 4,
    }
}

/// Bytes of scratch and workspace, as if every optional tensor but gradients of sequences were
/// there.
fn workspace(pass: Pass, problem: &Problem) -> u64 {
    let &Problem { cell, batch, heads, width, .. } = problem;
    let size = |elements: &[usize]| {
        elements.iter().fold(4u64, |bytes, &factor| bytes.saturating_mul(factor as u64))
    };
    let state = size(&[batch, heads, width]);
    let states = cell.states().len() as u64;
    let bias = size(&[cell.bias_gates().len(), heads, width]);
    let lengths = size(&[batch]);
    let matrices = size(&[padded_gates(cell), heads, width, width]);
    let rest = match pass {
        Pass::Forward => state.saturating_mul(states + 1).saturating_add(bias),
        Pass::Backward => {
            let sums = bias.saturating_mul(batch as u64);
            let history = size(&[history_steps(problem), padded_gates(cell), batch, heads, width]);
            let states = state.saturating_mul(2 * states.min(3));
            states.saturating_add(sums).saturating_add(history)
        }
    };
    rest.saturating_add(lengths).saturating_add(matrices)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::element::DType;

    fn problem(cell: Cell, sizes: [usize; 4]) -> Problem {
        Problem::new(DType::F32, sizes, &Options::new(cell)).unwrap()
    }

    fn plan(cell: Cell, sizes: [usize; 4], units: u32) -> Plan {
        let (problem, options) = (problem(cell, sizes), Options::new(cell));
        wgpu(Pass::Forward, "a device", &Limits::of_webgpu(units), &problem, &options).unwrap()
    }

    #[test]
    fn small_heads_are_walked_by_themselves_and_large_ones_shared_out() {
        let small = plan(Cell::Lstm, [16, 256, 12, 64], 0);
        assert_eq!((small.path, small.blocks), (Path::Resident, 12 * 4));
        assert_eq!(small.variant, "rnn_forward_head_wgsl_lstm_f32");
        let large = plan(Cell::Lstm, [16, 256, 1, 768], 0);
        assert_eq!((large.path, large.blocks), (Path::Stepwise, 4 * 12));
        assert_eq!(large.variant, "rnn_forward_step_wgsl_lstm_f32");
    }

    #[test]
    fn cores_that_all_have_a_head_are_not_shared_out() {
        assert_eq!(plan(Cell::Gru, [16, 256, 1, 768], 4).path, Path::Resident);
        assert_eq!(plan(Cell::Gru, [4, 256, 1, 768], 4).path, Path::Stepwise);
    }

    #[test]
    fn a_head_whose_step_takes_too_long_is_always_shared_out() {
        let cell = Cell::RELU;
        assert_eq!(plan(cell, [64, 3, 1, 4096], 2).path, Path::Stepwise);
        let (problem, options) = (problem(cell, [64, 3, 1, 4096]), Options::new(cell));
        let all =
            wgpu_variants(Pass::Backward, "a device", &Limits::of_webgpu(0), &problem, &options);
        assert_eq!(all.unwrap(), ["rnn_backward_step_wgsl_relu_f32"]);
    }

    #[test]
    fn a_variant_is_forced_in_its_own_pass_only() {
        let asked = "rnn_backward_step_wgsl_gru_f32";
        let options = Options::new(Cell::Gru).with_variant(asked);
        let problem = problem(Cell::Gru, [2, 3, 1, 4]);
        let variant = |pass| {
            wgpu(pass, "a device", &Limits::of_webgpu(0), &problem, &options).unwrap().variant
        };
        assert_eq!(variant(Pass::Backward), asked);
        assert_eq!(variant(Pass::Forward), "rnn_forward_head_wgsl_gru_f32");
        let options = Options::new(Cell::Gru).with_variant("rnn_forward_head_wgsl_lstm_f32");
        assert!(
            wgpu(Pass::Forward, "a device", &Limits::of_webgpu(0), &problem, &options).is_err()
        );
    }

    #[test]
    fn the_workspace_holds_two_steps_at_least_and_all_at_most() {
        assert_eq!(history_steps(&problem(Cell::Lstm, [1 << 16, 100, 1, 1 << 10])), 2);
        assert_eq!(history_steps(&problem(Cell::Lstm, [1, 100, 1, 1])), 100);
        assert_eq!(history_steps(&problem(Cell::Lstm, [1, 0, 1, 1])), 2);
        let spans = history_steps(&problem(Cell::ELMAN, [16, 1 << 20, 1, 64]));
        assert_eq!(spans, HISTORY / (16 * 64));
    }
}
