//! What a step of the resident path costs, counted, at D = 64, N = 12, B = 16: a call of eight steps
//! less one of four.

use warpwright::DType;
use warpwright::ptx::interpreter::{Class, Counters, Format, Options as Interpretation};
use warpwright::rnn::Cell;
use warpwright::verify::rnn::{Before, Case, Pass, count};

const WIDTH: u64 = 64;

/// What a step is, of all blocks or of a warp.
struct Step {
    /// Of the least bytes.
    bytes: f64,
    conflicts: u64,
    /// Of a block.
    barriers: f64,
    /// Of a warp; and those of the tensor core among them.
    instructions: f64,
    tensor: f64,
    /// Rows of a block.
    rows: u64,
}

fn step(cell: Cell, pass: Pass, dtype: DType) -> Step {
    let [(few, least_few), (many, least)] = [4, 8].map(|steps| walk(cell, pass, dtype, steps));
    let blocks = many.launches[0].blocks();
    let of_a_warp = |count: fn(&Counters) -> u64| {
        let warps = blocks * many.launches[0].threads() / 32;
        (count(&many) - count(&few)) as f64 / (4 * warps) as f64
    };
    let (begun, ended) = (few.total(), many.total());
    Step {
        bytes: (ended.global_bytes() - begun.global_bytes()) as f64 / (least - least_few) as f64,
        conflicts: ended.bank_conflicts() - begun.bank_conflicts(),
        barriers: (many.barriers - few.barriers) as f64 / (4 * blocks) as f64,
        instructions: of_a_warp(|counters| counters.total().warps),
        tensor: of_a_warp(|counters| counters.of(Class::Tensor(Format::HalfToSingle)).warps),
        rows: 16 * 12 / blocks,
    }
}

/// The counters of the kernel that walks the steps, and the least bytes of the call.
fn walk(cell: Cell, pass: Pass, dtype: DType, steps: usize) -> (Counters, u64) {
    let case = Case { before: Before::Nothing, ..Case::new(cell, [16, steps, 12, WIDTH as usize]) };
    let name = if pass == Pass::Backward { "backward" } else { "forward" };
    let variant = format!("rnn_{name}_resident_{}_{}", cell.name(), dtype.name());
    let options = Interpretation::default().unchecked();
    let counted = count(&case, pass, dtype, Some(&variant), options).expect("it runs");
    let kernel = counted.kernels.into_iter().find(|kernel| kernel.kernel == variant);
    (kernel.expect("the plan takes what is asked for"), counted.least_bytes)
}

/// The least instructions of a warp: the recurrent product, by fused multiplications of 32 lanes
/// where a warp has eight units, or by m16n8k16 where it has 16.
fn floor(cell: Cell, dtype: DType, rows: u64) -> u64 {
    let gates = cell.recurrent_gates().len() as u64;
    match dtype {
        DType::F32 => gates * 8 * WIDTH * rows / 32,
        _ => gates * WIDTH / 16,
    }
}

/// Instructions of a warp's step: forward, forward in training, backward; in f32 with two rows of
/// a block, and in 16 bits with four. Besides the product they are the cell, in f32 with exact
/// functions, the addresses, and asking for what comes two steps later.
fn budget(cell: Cell) -> [[u64; 3]; 2] {
    match cell {
        Cell::Elman(_) => [[180, 180, 240], [190, 190, 365]],
        Cell::Lstm => [[385, 425, 470], [350, 415, 645]],
        Cell::Gru => [[295, 320, 360], [285, 330, 540]],
        Cell::Slstm => [[415, 470, 510], [445, 530, 765]],
    }
}

#[test]
fn a_step_moves_and_does_no_more_than_it_must() {
    let passes = [Pass::Forward, Pass::Training, Pass::Backward];
    for (width, dtype) in [(0, DType::F32), (1, DType::BF16), (1, DType::F16)] {
        for cell in [Cell::ELMAN, Cell::Lstm, Cell::Gru, Cell::Slstm] {
            for (pass, most) in passes.into_iter().zip(budget(cell)[width]) {
                let Step { bytes, conflicts, barriers, instructions, tensor, rows } =
                    step(cell, pass, dtype);
                let floor = floor(cell, dtype, rows);
                let what = format!("{cell} {} {pass:?}", dtype.name());
                println!(
                    "{what}: {bytes:.3} of the bytes, {instructions} instructions, {floor} of them products"
                );
                assert_eq!(rows, [2, 4][width], "{what}: rows of a block");
                assert!(bytes <= 1.10, "{what}: {bytes:.3} of the least bytes of a step");
                assert_eq!(conflicts, 0, "{what}: bank conflicts");
                assert!(barriers <= 1.0, "{what}: {barriers} barriers a step");
                assert!(instructions <= most as f64, "{what}: {instructions}, {most} at the most");
                if dtype != DType::F32 {
                    assert_eq!(tensor, floor as f64, "{what}: products of the tensor core");
                }
            }
        }
    }
}
