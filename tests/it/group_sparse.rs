//! What holds for every product with compressed weights: sections 6, 11 and 12 of the specification.

use warpwright::group_sparse::{
    Floats, Format, GroupSparse, Matrix, Mode, Options, Parts, Pattern, ScaleScope, Scheme,
    Weights, decompress, forward, forward_into,
};
use warpwright::{Cpu, Error, Tensor, f16};

use crate::devices::{devices, ieee_devices, on_backend, poison};

#[cfg(feature = "interpreter")]
mod interpreter;

/// 3 rows of 40 columns in groups of 16, the last partial: row 0 keeps groups 0 and 2, row 1 none, row 2
/// group 1. All codes are 1 above the zero, 8, so that decoded weights are the scales.
fn small(scales: [f32; 3]) -> Matrix {
    let mut codes = vec![0x99u8; 3 * 8];
    // Behind column 39 of group 2, which is the second kept one.
    codes[8 + 4..16].fill(0x88);
    Matrix::new(Parts {
        format: Format {
            rows: 3,
            columns: 40,
            group: 16,
            bits: 4,
            mode: Mode::Sym,
            pattern: Pattern::Free,
            scope: ScaleScope::Group,
        },
        row_ptr: vec![0, 2, 2, 3],
        col_idx: vec![0, 2, 1],
        codes,
        scales: Floats::F32(scales.to_vec()),
        zeros: Vec::new(),
        offsets: None,
        outliers: None,
        perm: None,
    })
    .expect("a matrix")
}

fn product<B: GroupSparse>(device: &B, matrix: &Matrix, x: &[f32]) -> Vec<f32> {
    let weights = Weights::new(device, matrix).expect("weights");
    let x = Tensor::from_slice(device, x, &[1, x.len()]).expect("x");
    let y = forward(&weights, &x, None).expect("a product");
    y.to_vec().expect("y")
}

#[test]
fn rows_are_sums_of_what_they_keep() {
    let x: Vec<f32> = (0..40).map(|k| k as f32).collect();
    let sum = |range: std::ops::Range<usize>| x[range].iter().sum::<f32>();
    let right = [sum(0..16) + 2.0 * sum(32..40), 0.0, 3.0 * sum(16..32)];
    for device in devices() {
        let found = on_backend!(device, |backend| product(backend, &small([1.0, 2.0, 3.0]), &x));
        assert_eq!(found, right, "{}", device.name());
        assert_eq!(found[1].to_bits(), 0, "an empty row is +0 on {}", device.name());
    }
}

/// Section 11.6: what is no number reaches the rows that read it, and no others.
#[test]
fn pruned_columns_are_not_read() {
    for device in devices() {
        for (column, rows) in [(5, vec![0]), (20, vec![2]), (39, vec![0])] {
            let mut x = vec![1.0; 40];
            x[column] = poison(device);
            let found = on_backend!(device, |backend| product(backend, &small([1.0; 3]), &x));
            for (row, y) in found.iter().enumerate() {
                let is_hit = y.is_nan() || y.abs() > 1e20;
                assert_eq!(is_hit, rows.contains(&row), "row {row} on {}: {y}", device.name());
            }
        }
    }
}

/// Infinite inputs give what IEEE gives them, where devices know it.
#[test]
fn infinite_inputs_stay_infinite() {
    for device in ieee_devices() {
        let mut x = vec![1.0; 40];
        x[3] = f32::INFINITY;
        let found = on_backend!(device, |backend| product(backend, &small([-1.0; 3]), &x));
        assert_eq!(found[0], f32::NEG_INFINITY, "{}", device.name());
    }
}

/// Section 11.7: sums beyond f16 come back, and results beyond it are infinite.
#[test]
fn sums_may_leave_the_range_of_results() {
    for device in devices() {
        let run = |x: &[f32]| -> Vec<f16> {
            on_backend!(device, |backend| {
                let weights = Weights::new(backend, &small([1.0; 3])).expect("weights");
                let x = Tensor::from_slice(backend, x, &[1, 40]).expect("x");
                let mut y = Tensor::<_, f16>::new(backend, &[1, 3]).expect("y");
                forward_into(&weights, &x, None, &mut y, &Options::default()).expect("a product");
                y.to_vec().expect("y")
            })
        };
        let mut x = vec![60_000.0; 40];
        x[..8].fill(-60_000.0);
        x[32..].fill(1.0);
        assert_eq!(run(&x)[0].to_f32(), 8.0, "{}", device.name());
        assert_eq!(run(&[60_000.0; 40])[0], f16::INFINITY, "{}", device.name());
    }
}

#[test]
fn decoded_rows_are_exact() {
    for device in devices() {
        let found = on_backend!(device, |backend| {
            let weights = Weights::new(backend, &small([1.0, 2.0, 3.0])).expect("weights");
            decompress::<_, f32>(&weights, 0..3).expect("rows").to_vec().expect("rows")
        });
        for (i, value) in found.iter().enumerate() {
            let right = match (i / 40, i % 40) {
                (0, 0..16) => 1.0,
                (0, 32..) => 2.0,
                (2, 16..32) => 3.0,
                _ => 0.0,
            };
            assert_eq!(*value, right, "row {}, column {} on {}", i / 40, i % 40, device.name());
        }
    }
}

#[test]
fn wrong_tensors_are_told() {
    let weights = Weights::new(&Cpu, &small([1.0; 3])).expect("weights");
    let refused =
        |x: &Tensor<Cpu, f32>, y: &mut Tensor<Cpu, f32>, bias: Option<&Tensor<Cpu, f32>>| {
            forward_into(&weights, x, bias.map(Into::into), y, &Options::default())
                .expect_err("it does not fit")
                .to_string()
        };
    let tensor = |shape: &[usize]| Tensor::<Cpu, f32>::new(&Cpu, shape).expect("a tensor");
    let (x, mut y) = (tensor(&[2, 40]), tensor(&[2, 3]));
    assert_eq!(
        refused(&tensor(&[2, 39]), &mut y, None),
        "group-sparse: tensor `x`: expected shape (M, K) = (2, 40), found shape (2, 39)"
    );
    assert_eq!(
        refused(&x, &mut tensor(&[2, 4]), None),
        "group-sparse: tensor `y`: expected shape (M, N) = (2, 3), found shape (2, 4)"
    );
    assert_eq!(
        refused(&x, &mut y, Some(&tensor(&[4]))),
        "group-sparse: tensor `bias`: expected shape (N) = (3), found shape (4)"
    );
    let whole = Tensor::<Cpu, f32>::new(&Cpu, &[2, 43]).expect("a tensor");
    let x = whole.narrowed(1, 0..40).expect("columns");
    let mut y = whole.narrowed(1, 39..42).expect("columns");
    assert!(matches!(
        forward_into(&weights, &x, None, &mut y, &Options::default()),
        Err(Error::Aliased { .. })
    ));
    let unknown = Options::default().with_variant("group_sparse_none");
    let error = weights.product(1, &unknown).expect_err("there is none").to_string();
    assert!(error.contains("use group_sparse_cpu"), "{error}");
    let error = decompress::<_, f32>(&weights, 2..4).expect_err("too many rows").to_string();
    assert!(error.contains("a range within 0..3"), "{error}");
}

/// Section 11.13: each thread with a product, and so a workspace, of its own.
#[test]
fn a_thousand_calls_side_by_side_give_equal_bits() {
    use warpwright::verify::group_sparse::{Case, Rows};
    let format = Format { rows: 40, columns: 1000, ..*small([1.0; 3]).format() };
    let case = Case { rows: Rows::Last, ..Case::new(format) };
    let matrix = case.matrix(&mut warpwright::verify::Random::new(5)).expect("a matrix");
    let x: Vec<f32> = (0..1000).map(|k| (k as f32).cos()).collect();
    for device in devices() {
        on_backend!(device, |backend| calls_side_by_side(backend, &matrix, &x));
    }
}

fn calls_side_by_side<B: GroupSparse>(device: &B, matrix: &Matrix, x: &[f32]) {
    let weights = Weights::new(device, matrix).expect("weights");
    let rows = matrix.format().rows;
    let calls = |count: usize| -> Vec<Vec<u32>> {
        // The last row goes on over many workers, who put it together.
        let options = Options::default().with_scheme(Scheme::TaskCentric).with_workers(8);
        let mut product = weights.product(1, &options).expect("a product");
        let x = Tensor::from_slice(device, x, &[1, x.len()]).expect("x");
        let call = |_| {
            let mut y = Tensor::<B, f32>::new(device, &[1, rows]).expect("y");
            product.forward_into(&x, None, &mut y).expect("it runs");
            y.to_vec().expect("y").into_iter().map(f32::to_bits).collect()
        };
        (0..count).map(call).collect()
    };
    let right = &calls(1)[0];
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for (number, y) in calls(500).iter().enumerate() {
                    assert_eq!(y, right, "call {number} on {}", device.name());
                }
            });
        }
    });
}

/// On the CPU sums do not depend on the number of threads.
#[test]
fn any_number_of_threads_gives_equal_bits() {
    use warpwright::verify::group_sparse::{Case, Rows};
    let format = Format { rows: 300, columns: 2000, ..*small([1.0; 3]).format() };
    let case = Case { rows: Rows::Any, ..Case::new(format) };
    let matrix = case.matrix(&mut warpwright::verify::Random::new(3)).expect("a matrix");
    let x: Vec<f32> = (0..2000).map(|k| (k as f32).sin()).collect();
    let with = |threads: usize| {
        let pool = rayon_pool(threads);
        pool.install(|| product(&Cpu, &matrix, &x))
    };
    let bits = |y: Vec<f32>| y.into_iter().map(f32::to_bits).collect::<Vec<_>>();
    let right = bits(with(1));
    for threads in [2, 3, 5] {
        assert!(bits(with(threads)) == right, "{threads} threads");
    }
}

fn rayon_pool(threads: usize) -> rayon::ThreadPool {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads")
}
