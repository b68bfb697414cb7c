//! Products and decoded rows against the reference, on whatever adapter there is.

use super::*;
use crate::Error;
use crate::backend::Buffer;
use crate::element::DType::{BF16, F16, F32};
use crate::group_sparse::format::{
    BITS, Floats, Format, GROUPS, Mode, Outliers, Pattern, ScaleScope,
};
use crate::group_sparse::random::{Like, normal};
use crate::group_sparse::{Scheme, reference};

const TYPES: [DType; 3] = [F32, BF16, F16];

fn device() -> Option<Wgpu> {
    Wgpu::first().ok()
}

/// A random matrix of this grouping and coding.
fn like(random: &mut fastrand::Rng, bits: u32, group: usize, mode: Mode, pattern: u8) -> Like {
    let groups = random.usize(1..12);
    let rest = *random.choice(&[0, 1, group - 1]).unwrap();
    let columns = (groups - 1) * group + if rest == 0 { group } else { rest };
    let rows = random.usize(1..90);
    let pattern = match pattern {
        0 => Pattern::Free,
        1 => Pattern::Uniform(random.usize(1..=groups)),
        _ => Pattern::Dense,
    };
    let scope = *random.choice(&[ScaleScope::Group, ScaleScope::Row]).unwrap();
    let kept = (0..rows).map(|_| match pattern {
        Pattern::Free if random.u8(..3) == 0 => 0,
        Pattern::Free => random.usize(0..=groups),
        Pattern::Uniform(count) => count,
        Pattern::Dense => groups,
    });
    Like {
        kept: kept.collect(),
        format: Format { rows, columns, group, bits, mode, pattern, scope },
        scales: *random.choice(&TYPES).unwrap(),
        outliers: random.bool().then(|| (*random.choice(&TYPES).unwrap(), 0.07 * random.f64())),
        is_permuted: random.bool(),
    }
}

/// Rows of a tensor, apart from one another, with what is no number all round.
struct Rows {
    view: View<Wgpu>,
    /// As they are stored.
    values: Vec<f64>,
}

impl Rows {
    fn new(device: &Wgpu, dtype: DType, values: &[f32], width: usize, gap: usize) -> Self {
        let stride = width + gap;
        let rows = values.len() / width;
        let mut all = vec![f32::NAN; gap + rows * stride];
        for (row, of_row) in values.chunks_exact(width).enumerate() {
            all[gap + row * stride..][..width].copy_from_slice(of_row);
        }
        let stored = Floats::rounded(dtype, &all);
        let buffer = device.upload(stored.as_bytes()).unwrap();
        let offset = (gap * dtype.bytes()) as u64;
        let view =
            View::from_buffer(device, buffer, dtype, offset, &[rows, width], &[stride, 1]).unwrap();
        let values = Floats::rounded(dtype, values).iter().map(f64::from).collect();
        Self { view, values }
    }

    /// Nothing was written beside the rows.
    fn check_gaps(&self) {
        let mut bytes = vec![0; self.view.buffer().bytes() as usize];
        self.view.backend().download(self.view.buffer(), 0, &mut bytes).unwrap();
        let size = self.view.dtype().bytes();
        let first = self.view.offset() as usize / size;
        let (width, stride) = (self.view.shape()[1], self.view.strides()[0]);
        for (i, element) in bytes.chunks_exact(size).enumerate() {
            let inside = i >= first && (i - first) % stride < width;
            let is_nan = match (self.view.dtype(), element) {
                (F32, bytes) => f32::from_le_bytes(bytes.try_into().unwrap()).is_nan(),
                (BF16, bytes) => half::bf16::from_le_bytes(bytes.try_into().unwrap()).is_nan(),
                (_, bytes) => half::f16::from_le_bytes(bytes.try_into().unwrap()).is_nan(),
            };
            assert!(inside || is_nan, "element {i} was written, which is not y's");
        }
    }
}

/// Types of x, bias and y, and how a product is run.
#[derive(Clone, Debug)]
struct How {
    vectors: usize,
    x: DType,
    bias: Option<DType>,
    y: DType,
    gap: usize,
    options: Options,
}

fn how(random: &mut fastrand::Rng) -> How {
    let mut options = Options::default();
    if random.bool() {
        options = options.with_scheme(*random.choice(&Scheme::ALL).unwrap());
    }
    if random.bool() {
        options = options.with_workers(random.usize(1..40));
    }
    How {
        vectors: *random.choice(&[1, 1, 2, 3, 5, 16, 17]).unwrap(),
        x: *random.choice(&TYPES).unwrap(),
        bias: random.bool().then(|| *random.choice(&TYPES).unwrap()),
        y: *random.choice(&TYPES).unwrap(),
        gap: random.usize(0..4),
        options,
    }
}

fn check_product(device: &Wgpu, matrix: &Matrix, how: &How, random: &mut fastrand::Rng) {
    let weights = Weights::new(device, matrix).unwrap();
    let mut product = weights.product(how.vectors, &how.options).unwrap();
    let (rows, columns) = (matrix.format().rows, matrix.format().columns);
    let x: Vec<f32> = (0..how.vectors * columns).map(|_| normal(random)).collect();
    let x = Rows::new(device, how.x, &x, columns, how.gap);
    let bias: Vec<f32> = (0..rows).map(|_| normal(random)).collect();
    let bias = how.bias.map(|dtype| Rows::new(device, dtype, &bias, rows, how.gap));
    let y = Rows::new(device, how.y, &vec![f32::NAN; how.vectors * rows], rows, how.gap);
    let bias_view = bias.as_ref().map(|bias| {
        let view = &bias.view;
        let (buffer, offset) = (view.buffer().clone(), view.offset());
        View::from_buffer(device, buffer, view.dtype(), offset, &[rows], &[1]).unwrap()
    });
    product.run(&x.view, bias_view.as_ref(), &y.view).unwrap();
    let exact = reference::forward(matrix, &x.values, bias.as_ref().map(|bias| &*bias.values));
    let found = numbers(&y.view);
    for (i, (&found, (&right, &terms))) in
        found.iter().zip(exact.y.iter().zip(&exact.terms)).enumerate()
    {
        assert!(
            (found - right).abs() <= bound(how.y, right, terms),
            "vector {}, row {}: {found} instead of {right}, {terms} in all; {how:?}, {:?}, {}",
            i / rows,
            i % rows,
            matrix.format(),
            product.plan(),
        );
    }
    if how.y == F32 {
        let units =
            found.iter().zip(exact.y.iter().zip(&exact.terms)).map(|(found, (right, terms))| {
                let rounding = 2f64.powi(-24) * right.abs();
                ((found - right).abs() - rounding).max(0.0) / (2f64.powi(-24) * terms.max(1e-30))
            });
        let mean = units.map(|unit| unit * unit).sum::<f64>() / found.len() as f64;
        assert!(mean <= 1.0, "{} roundings off, {how:?}, {:?}", mean.sqrt(), matrix.format());
    }
    y.check_gaps();
    // Again, bit for bit.
    product.run(&x.view, bias_view.as_ref(), &y.view).unwrap();
    assert_eq!(found, numbers(&y.view));
}

fn bound(dtype: DType, right: f64, terms: f64) -> f64 {
    let (rounding, smallest) = match dtype {
        F16 => (-11, -25),
        BF16 => (-8, -134),
        _ => (-24, -150),
    };
    2f64.powi(rounding) * right.abs() + 8.0 * 2f64.powi(-24) * terms + 2f64.powi(smallest)
}

fn check_decompress(device: &Wgpu, matrix: &Matrix, rows: Range<usize>) {
    let weights = Weights::new(device, matrix).unwrap();
    let columns = matrix.format().columns;
    let mut right = vec![0f32; rows.len() * columns];
    for (row, of_row) in rows.clone().zip(right.chunks_exact_mut(columns)) {
        for kept in matrix.row(row) {
            let coding = matrix.coding(row, kept);
            let of_group = matrix.format().group_columns(matrix.column_group(kept));
            for (j, column) in of_group.enumerate() {
                of_row[matrix.input(column)] = coding.decode(matrix.code(kept, j));
            }
        }
        for (column, value) in matrix.outliers(row) {
            of_row[matrix.input(column)] += value;
        }
    }
    for dtype in TYPES {
        for gap in [0, 3] {
            let nothing = vec![f32::NAN; rows.len() * columns];
            let dense = Rows::new(device, dtype, &nothing, columns, gap);
            device.launch_decompress(&weights, rows.clone(), &dense.view).unwrap();
            let bytes = Floats::rounded(dtype, &right);
            let format = matrix.format();
            let found = dense.view.to_bytes().unwrap();
            let size = dtype.bytes();
            for (i, (found, right)) in
                found.chunks_exact(size).zip(bytes.as_bytes().chunks_exact(size)).enumerate()
            {
                let (row, column) = (rows.start + i / columns, i % columns);
                assert_eq!(found, right, "{dtype}, row {row}, column {column}, {format:?}");
            }
            dense.check_gaps();
        }
    }
}

#[test]
fn products_of_every_grouping_and_coding_are_right() {
    let Some(device) = device() else { return };
    let mut random = fastrand::Rng::with_seed(1);
    for bits in BITS {
        for group in GROUPS {
            for mode in Mode::ALL {
                for pattern in 0..3 {
                    let matrix =
                        like(&mut random, bits, group, mode, pattern).matrix(&mut random).unwrap();
                    let how = how(&mut random);
                    check_product(&device, &matrix, &how, &mut random);
                }
            }
        }
    }
}

#[test]
fn every_variant_and_number_of_workers_is_right() {
    let Some(device) = device() else { return };
    let mut random = fastrand::Rng::with_seed(2);
    for bits in BITS {
        let mut like = like(&mut random, bits, 16, Mode::Sym, 0);
        // Rows of all lengths, an empty one, and one with nearly everything.
        like.format =
            Format { rows: 150, columns: 16 * 2000, scope: ScaleScope::Group, ..like.format };
        like.kept = (0..150).map(|row| if row == 77 { 1999 } else { row * row % 97 }).collect();
        like.outliers = None;
        let matrix = like.matrix(&mut random).unwrap();
        let problem = Problem::of(&matrix, 5);
        for variant in device.variants(&problem, &Options::default()).unwrap() {
            for workers in [1, 2, 7, 64, 1000] {
                for scheme in Scheme::ALL {
                    let options = Options::default()
                        .with_variant(variant)
                        .with_workers(workers)
                        .with_scheme(scheme);
                    let how = How { vectors: 5, options, ..how(&mut random) };
                    check_product(&device, &matrix, &how, &mut random);
                }
            }
        }
    }
}

#[test]
fn extreme_matrices_are_right() {
    let Some(device) = device() else { return };
    let mut random = fastrand::Rng::with_seed(3);
    let rows_of: [Vec<usize>; 7] = [
        vec![0],
        vec![0; 40],
        [vec![0; 1000], vec![3]].concat(),
        [vec![0; 99], vec![400]].concat(),
        [vec![400], vec![0; 99]].concat(),
        vec![1; 300],
        vec![400; 5],
    ];
    for (i, kept) in rows_of.into_iter().enumerate() {
        let mut like = like(&mut random, BITS[i % 4], 8, Mode::Asym, 0);
        like.format = Format { rows: kept.len(), columns: 3200, ..like.format };
        like.kept = kept;
        like.outliers = None;
        let matrix = like.matrix(&mut random).unwrap();
        for workers in [1, 3, 100] {
            let mut how = how(&mut random);
            how.options = Options::default().with_workers(workers);
            check_product(&device, &matrix, &how, &mut random);
        }
    }
}

#[test]
fn what_is_not_kept_is_not_read() {
    let Some(device) = device() else { return };
    let mut random = fastrand::Rng::with_seed(4);
    for bits in BITS {
        let mut like = like(&mut random, bits, 16, Mode::Asym, 0);
        like.format = Format { rows: 3, columns: 64, scope: ScaleScope::Group, ..like.format };
        like.kept = vec![0, 1, 3];
        (like.outliers, like.is_permuted) = (None, false);
        let matrix = like.matrix(&mut random).unwrap();
        let weights = Weights::new(&device, &matrix).unwrap();
        for kept in matrix.row(2) {
            // No number in a kept column of the last row alone.
            let column = matrix.column_group(kept) * 16 + 5;
            let mut x = vec![1.0; 64];
            x[column] = f32::NAN;
            let x = crate::Tensor::from_slice(&device, &x, &[1, 64]).unwrap();
            let y = crate::group_sparse::forward(&weights, &x, None).unwrap().to_vec().unwrap();
            let is_read = matrix.column_group(matrix.row(1).start) == matrix.column_group(kept);
            assert_eq!((y[0].is_nan(), y[1].is_nan(), y[2].is_nan()), (false, is_read, true));
            assert_eq!(y[0].to_bits(), 0, "an empty row is +0");
        }
    }
}

#[test]
fn decoded_rows_are_the_reference_bit_for_bit() {
    let Some(device) = device() else { return };
    let mut random = fastrand::Rng::with_seed(5);
    for bits in BITS {
        for group in GROUPS {
            for mode in Mode::ALL {
                for pattern in 0..3 {
                    let matrix =
                        like(&mut random, bits, group, mode, pattern).matrix(&mut random).unwrap();
                    let rows = matrix.format().rows;
                    let first = random.usize(..rows);
                    check_decompress(&device, &matrix, first..random.usize(first..rows) + 1);
                }
            }
        }
    }
}

#[test]
fn numbers_at_the_ends_of_their_types_are_decoded_bit_for_bit() {
    let Some(device) = device() else { return };
    let mut random = fastrand::Rng::with_seed(6);
    for mode in Mode::ALL {
        for dtype in TYPES {
            let format = Format {
                rows: 60,
                columns: 256,
                group: 8,
                bits: 8,
                mode,
                pattern: Pattern::Dense,
                scope: ScaleScope::Group,
            };
            let like = Like {
                format,
                kept: vec![32; 60],
                scales: dtype,
                outliers: Some((dtype, 0.5)),
                is_permuted: false,
            };
            let mut parts = like.matrix(&mut random).unwrap().into_parts();
            // Any finite bits at all.
            let mut any = |count: usize| {
                let mut finite = || loop {
                    let bits = random.u32(..);
                    let value = match dtype {
                        F16 => half::f16::from_bits(bits as u16).to_f32(),
                        BF16 => half::bf16::from_bits(bits as u16).to_f32(),
                        // Half of them at the end, where there are no leading zeros less.
                        _ if bits & 1 == 0 => {
                            f32::from_bits(bits & 0x807f_ffff | (bits >> 1 & 7) << 23)
                        }
                        _ => f32::from_bits(bits),
                    };
                    if value.is_finite() {
                        return value;
                    }
                };
                Floats::rounded(dtype, &(0..count).map(|_| finite()).collect::<Vec<_>>())
            };
            parts.scales = any(parts.scales.len());
            parts.offsets = parts.offsets.map(|offsets| any(offsets.len()));
            parts.outliers = parts.outliers.map(|outliers| {
                let val = any(outliers.val.len());
                Outliers { val, ..outliers }
            });
            check_decompress(&device, &Matrix::new(parts).unwrap(), 0..60);
        }
    }
}

#[test]
fn matrices_beyond_one_binding_are_in_parts() {
    let Some(device) = device() else { return };
    let device = small(&device, 1 << 16).unwrap();
    let mut random = fastrand::Rng::with_seed(7);
    for (i, bits) in BITS.into_iter().enumerate() {
        let mut like = like(&mut random, bits, 16, Mode::ALL[i % 3], 0);
        like.format =
            Format { rows: 500, columns: 16 * 100, scope: ScaleScope::Group, ..like.format };
        like.kept = (0..500).map(|row| row * row % 101).collect();
        like.outliers = Some((F16, 0.04));
        let matrix = like.matrix(&mut random).unwrap();
        let weights = Weights::new(&device, &matrix).unwrap();
        assert!(weights.held().parts.len() > 2 && weights.held().outliers.len() > 2);
        for vectors in [1, 16] {
            for scheme in Scheme::ALL {
                let options = Options::default().with_scheme(scheme);
                let how = How { vectors, options, ..how(&mut random) };
                check_product(&device, &matrix, &how, &mut random);
            }
        }
        check_decompress(&device, &matrix, 3..490);
    }
    let mut like = like(&mut random, 4, 16, Mode::Sym, 0);
    like.format = Format { rows: 1, columns: 1 << 18, scope: ScaleScope::Group, ..like.format };
    (like.kept, like.outliers) = (vec![1 << 14], None);
    let error = Weights::new(&device, &like.matrix(&mut random).unwrap()).unwrap_err();
    assert!(matches!(error, Error::Unsupported { .. }), "{error}");
}

/// A device like this one whose bindings hold only so much.
fn small(device: &Wgpu, binding_bytes: u64) -> Option<Wgpu> {
    let name = device.name();
    let instance = ::wgpu::Instance::new(::wgpu::InstanceDescriptor::new_without_display_handle());
    let adapters = pollster::block_on(instance.enumerate_adapters(::wgpu::Backends::all()));
    let adapter = adapters.into_iter().find(|adapter| name.contains(&adapter.get_info().name))?;
    let descriptor = ::wgpu::DeviceDescriptor {
        label: None,
        required_limits: ::wgpu::Limits {
            max_storage_buffer_binding_size: binding_bytes,
            ..::wgpu::Limits::default()
        },
        ..Default::default()
    };
    let (device, queue) = pollster::block_on(adapter.request_device(&descriptor)).ok()?;
    Some(Wgpu::borrow(device, queue))
}

/// What a tensor holds.
fn numbers(view: &View<Wgpu>) -> Vec<f64> {
    view.to_backend(&crate::Cpu).unwrap().to_f64().unwrap()
}
