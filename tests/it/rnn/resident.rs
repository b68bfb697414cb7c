//! What a step of the resident path costs, counted: a call of eight steps less one of four.

use warpwright::DType;
use warpwright::ptx::interpreter::{Class, Counters, Options as Interpretation, Tally};
use warpwright::rnn::Cell;
use warpwright::verify::rnn::{Before, Case, Pass, count};

/// What a step of all blocks is, and of one warp.
struct Step {
    bytes: f64,
    conflicts: u64,
    barriers: f64,
    instructions: f64,
}

fn step(cell: Cell, pass: Pass, dtype: DType) -> Step {
    let [(few, least_few), (many, least)] = [4, 8].map(|steps| walk(cell, pass, dtype, steps));
    let blocks = many.launches[0].blocks();
    let warps = (blocks * many.launches[0].threads() / 32) as f64;
    let of = |counters: &Counters, class| counters.of(class).warps as f64;
    let (begun, ended): (Tally, Tally) = (few.total(), many.total());
    Step {
        bytes: (ended.global_bytes() - begun.global_bytes()) as f64 / (least - least_few) as f64,
        conflicts: ended.bank_conflicts() - begun.bank_conflicts(),
        barriers: (of(&many, Class::Barrier) - of(&few, Class::Barrier)) / warps / 4.0,
        instructions: (ended.warps - begun.warps) as f64 / warps / 4.0,
    }
}

/// The counters of the kernel that walks the steps, and the least bytes of the call.
fn walk(cell: Cell, pass: Pass, dtype: DType, steps: usize) -> (Counters, u64) {
    let case = Case { before: Before::Nothing, ..Case::new(cell, [16, steps, 12, 64]) };
    let name = if pass == Pass::Backward { "backward" } else { "forward" };
    let variant = format!("rnn_{name}_resident_{}_{}", cell.name(), dtype.name());
    let options = Interpretation::default().unchecked();
    let counted = count(&case, pass, dtype, Some(&variant), options).expect("it runs");
    let kernel = counted.kernels.into_iter().find(|kernel| kernel.kernel == variant);
    (kernel.expect("the plan takes what is asked for"), counted.least_bytes)
}

#[test]
fn a_step_moves_and_does_no_more_than_it_must() {
    for dtype in [DType::F32, DType::BF16, DType::F16] {
        for pass in [Pass::Forward, Pass::Training, Pass::Backward] {
            for cell in [Cell::ELMAN, Cell::Lstm, Cell::Gru, Cell::Slstm] {
                let Step { bytes, conflicts, barriers, instructions } = step(cell, pass, dtype);
                let what = format!("{cell} {} {pass:?}", dtype.name());
                println!("{what}: {bytes:.3} of the least bytes, {barriers} barriers, {instructions} instructions of a warp, {conflicts} conflicts");
                assert!(bytes <= 1.10, "{what}: {bytes:.3} of the least bytes of a step");
                assert_eq!(conflicts, 0, "{what}: bank conflicts");
                assert!(barriers <= 2.0, "{what}: {barriers} barriers a step");
            }
        }
    }
}
