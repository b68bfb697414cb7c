//! Products of sparse matrices: known numbers, algebra, plans, and what is refused.

mod edges;
#[cfg(feature = "interpreter")]
mod interpreter;
#[cfg(feature = "wgpu")]
mod wgpu;

use proptest::prelude::*;
use warpwright::sparse::matrix_market::{ReadOptions, read};
use warpwright::sparse::{Csr, Fault, Reducer, Value};
use warpwright::spgemm::{Inputs, Options, Problem, Semiring, Spgemm, SpgemmPlan};
use warpwright::spgemm::{estimate, gram, multiply, multiply_with_summary, reference, triangles};
use warpwright::verify::spgemm::generate::{KNOWN, with_values};
use warpwright::verify::spgemm::{Case, Values, compare};
use warpwright::{Cpu, Error, Tensor};

use crate::devices::devices;

/// Products of a square that a test takes without being asked for all.
const FEW: u64 = 20_000_000;

#[test]
fn squares_have_the_numbers_of_the_specification() {
    let all = std::env::var_os("WARPWRIGHT_THOROUGH").is_some();
    for known in KNOWN.iter().filter(|known| all || known.products <= FEW) {
        let pattern = known.family.pattern(1).expect("it is made");
        assert_eq!(pattern.nnz(), known.nnz, "{}: entries", known.name);
        let options = Options::default().with_semiring(Semiring::PlusPair);
        let (square, summary) =
            multiply_with_summary(&Inputs::new(&pattern, &pattern), &options).expect("it runs");
        assert_eq!(summary.products, known.products, "{}: products", known.name);
        assert_eq!(square.nnz() as u64, known.square, "{}: entries of the square", known.name);
        let counts = square.val().expect("values").to_vec().expect("they are read");
        let counted: u64 = counts.into_iter().map(u64::from).sum();
        assert_eq!(counted, known.products, "{}: counts", known.name);
    }
}

fn graph(name: &str) -> Csr<Cpu, u8> {
    let path = format!("{}/examples/data/{name}.mtx", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read(path).expect("the file is there");
    read(text.as_slice(), &ReadOptions::default()).expect("it is whole")
}

#[test]
fn graphs_have_as_many_triangles_as_others_count() {
    for (name, vertices, edges, expected) in [
        ("karate", 34, 78, 45),
        ("lesmis", 77, 254, 467),
        ("minnesota", 2642, 3303, 53),
        ("power", 4941, 6594, 651),
    ] {
        for device in devices() {
            let what = format!("{name} on {}", device.name());
            let (found, by_vertex) = triangles::on(device, &graph(name)).expect("it runs");
            assert_eq!((found.vertices, found.edges), (vertices, edges), "{what}");
            assert_eq!(found.triangles, expected, "{what}");
            assert_eq!(by_vertex.triangles.iter().sum::<u64>(), 3 * expected, "{what}");
        }
        // Each triangle is a way of two edges that a third one closes, six times.
        let edges = graph(name).undirected::<u32>().expect("it is square");
        let options = Options::default().with_semiring(Semiring::PlusPair);
        let ways = Inputs::new(&edges, &edges).with_mask(&edges);
        let closed = multiply(&ways, &options.with_variant("spgemm_dot")).expect("it runs");
        let sums = closed.row_sums().expect("it runs");
        assert_eq!(sums.into_iter().map(u64::from).sum::<u64>(), 6 * expected, "{name}");
    }
    let karate = triangles::by_vertex(&Cpu, &graph("karate")).expect("it runs");
    // As networkx has them.
    assert!((karate.mean_clustering() - 0.570_638_478).abs() < 1e-9);
    assert!((karate.transitivity() - 0.255_681_818).abs() < 1e-9);
}

#[test]
fn complete_graphs_have_every_triangle_and_bipartite_ones_none() {
    let edges = |joined: fn(u32, u32) -> bool| {
        let rows: Vec<Vec<u32>> =
            (0..30).map(|i| (0..30).filter(|&j| joined(i, j)).collect()).collect();
        let ends = rows.iter().scan(0, |end, row| {
            *end += row.len() as u32;
            Some(*end)
        });
        let row_ptr = [0].into_iter().chain(ends).collect();
        Csr::<Cpu, u8>::pattern([30, 30], row_ptr, rows.concat()).expect("a graph")
    };
    let count = |graph| triangles::count(&Cpu, &graph).expect("it runs").triangles;
    assert_eq!(count(edges(|_, _| true)), 30 * 29 * 28 / 6);
    assert_eq!(count(edges(|i, j| i % 2 != j % 2)), 0);
    assert_eq!(count(edges(|_, _| false)), 0);
}

fn drawn(shape: [usize; 2], per_row: f64, seed: u64) -> Csr<Cpu, i32> {
    let case = Case { seed, ..Case::drawn([shape[0], shape[1], 1], per_row) };
    case.matrices::<i32>().expect("it is drawn").a
}

fn product<T: Value>(a: &Csr<Cpu, T>, b: &Csr<Cpu, T>) -> Csr<Cpu, T> {
    multiply(&Inputs::new(a, b), &Options::default()).expect("it runs")
}

/// Shape, places and values.
#[track_caller]
fn assert_equal<T: Value>(found: &Csr<Cpu, T>, expected: &Csr<Cpu, T>) {
    let parts = |matrix: &Csr<Cpu, T>| {
        let val = matrix.val().map(|val| val.to_vec().expect("values"));
        let row_ptr = matrix.row_ptr().to_vec().expect("row pointers");
        (matrix.shape(), row_ptr, matrix.col().to_vec().expect("columns"), val)
    };
    assert_eq!(parts(found), parts(expected));
}

/// The same, and what it is that differs.
#[track_caller]
fn assert_equal_named<T: Value>(found: &Csr<Cpu, T>, expected: &Csr<Cpu, T>, what: &str) {
    let compared = compare(found, expected, None).expect("they are read");
    let wrong = compared.iter().find(|comparison| !comparison.passed());
    assert_eq!(wrong.map(ToString::to_string), None, "{what}");
}

/// Places and values, to the bit.
#[track_caller]
fn assert_same_bits<T: Value>(found: &Csr<Cpu, T>, expected: &Csr<Cpu, T>) {
    let compared = compare(found, expected, None).expect("they are read");
    let wrong = compared.iter().find(|comparison| !comparison.passed());
    assert_eq!(wrong.map(ToString::to_string), None);
}

/// Every variant that fits gives the same bits; there are so many.
#[track_caller]
fn assert_variants_agree<T: Value>(case: &Case, count: usize) {
    let matrices = case.matrices::<T>().expect("it is drawn");
    let (inputs, options) = (matrices.inputs(), case.options());
    let problem = Problem::check(&inputs, &options).expect("it fits");
    let variants = Spgemm::<T>::variants(&Cpu, &problem, &options).expect("some fit");
    assert_eq!(variants.len(), count, "{variants:?}");
    let expected = reference::mapped(&inputs, &options).expect("it runs");
    for variant in variants {
        let options = options.clone().with_variant(variant);
        let (found, summary) = multiply_with_summary(&inputs, &options).expect("it runs");
        assert_eq!(summary.variant, variant);
        assert_same_bits(&found, &expected);
        let (plan, _) = SpgemmPlan::new(&inputs, &options).expect("it runs");
        assert_same_bits(&plan.execute(&inputs, &options).expect("it runs"), &expected);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn entries_made_by_themselves_have_the_bits_of_rows(
        sides in prop::array::uniform3(0usize..40),
        per_row in 0.2f64..20.0,
        alpha in prop::sample::select(vec![1.0, 3.0, 0.0]),
        values in prop::sample::select(
            vec![Values::Plain, Values::Pattern, Values::Cancelling, Values::Hostile],
        ),
        seed in 0u64..1 << 40,
    ) {
        let plain = Case { mask: Some(false), values, seed, ..Case::drawn(sides, per_row) };
        let of = |semiring| Case { semiring, ..plain.clone() };
        assert_variants_agree::<f32>(&Case { alpha, ..plain.clone() }, 3);
        assert_variants_agree::<f64>(&of(Semiring::MaxTimes), 3);
        assert_variants_agree::<i32>(&of(Semiring::MinPlus), 3);
        assert_variants_agree::<u8>(&of(Semiring::OrAnd), 3);
        assert_variants_agree::<u32>(&of(Semiring::PlusPair), 3);
    }

    #[test]
    fn estimates_bound_what_is_made(
        sides in prop::array::uniform3(0usize..60),
        per_row in 0.2f64..8.0,
        seed in 0u64..1 << 40,
    ) {
        let [m, k, n] = sides;
        let (a, b) = (drawn([m, k], per_row, seed), drawn([k, n], per_row, seed + 1));
        let estimate = estimate(&a, &b).expect("sides match");
        let inputs = Inputs::new(&a, &b);
        let (made, summary) =
            multiply_with_summary(&inputs, &Options::default()).expect("it runs");
        prop_assert_eq!(estimate.products, summary.products);
        prop_assert!(made.nnz() as u64 <= estimate.most_entries);
        prop_assert!(estimate.entries <= estimate.most_entries);
        prop_assert!(estimate.most_entries <= estimate.products);
        prop_assert!(estimate.most_products <= estimate.products);
    }

    #[test]
    fn products_with_the_transpose_equal_theirs(
        sides in prop::array::uniform2(0usize..40),
        per_row in 0.2f64..20.0,
        seed in 0u64..1 << 40,
    ) {
        let case = Case { seed, ..Case::drawn([sides[0], sides[1], 1], per_row) };
        let a = case.matrices::<f32>().expect("it is drawn").a;
        for semiring in [Semiring::PlusTimes, Semiring::MinPlus, Semiring::MaxTimes] {
            let pairs = gram(&a, semiring).expect("it is canonical");
            assert_same_bits(&pairs.transposed().expect("it runs"), &pairs);
        }
    }

    #[test]
    fn scaling_is_a_product_with_a_diagonal(
        sides in prop::array::uniform2(0usize..40),
        per_row in 0.2f64..8.0,
        seed in 0u64..1 << 40,
    ) {
        let a = drawn(sides, per_row, seed);
        let diagonal = |factors: &[i32]| {
            let identity = Csr::<Cpu, i32>::identity(factors.len()).expect("a matrix");
            identity.scaled_rows(factors).expect("as many factors")
        };
        let factors = sides.map(|side| (0..side as i32).map(|i| 7 - i).collect::<Vec<i32>>());
        let rows = a.scaled_rows(&factors[0]).expect("as many factors");
        assert_equal(&rows, &product(&diagonal(&factors[0]), &a));
        let columns = a.scaled_columns(&factors[1]).expect("as many factors");
        assert_equal(&columns, &product(&a, &diagonal(&factors[1])));
        let ones = Csr::pattern([sides[1], 1], (0..=sides[1] as u32).collect(), vec![0; sides[1]]);
        let sums = product(&a, &ones.expect("a matrix"));
        let of_filled: Vec<i32> = sums.val().expect("values").to_vec().expect("values");
        let all = a.row_sums().expect("it runs");
        let empty = a.entries_per_row().expect("it runs").empty;
        prop_assert_eq!(of_filled.len() + empty, all.len());
        prop_assert_eq!(of_filled.iter().sum::<i32>(), all.iter().sum::<i32>());
    }

    #[test]
    fn products_obey_algebra(
        sides in prop::array::uniform4(0usize..40),
        per_row in 0.2f64..8.0,
        seed in 0u64..1 << 40,
    ) {
        let [m, k, l, n] = sides;
        let (a, b) = (drawn([m, k], per_row, seed), drawn([k, l], per_row, seed + 1));
        let c = drawn([l, n], per_row, seed + 2);
        assert_equal(&product(&product(&a, &b), &c), &product(&a, &product(&b, &c)));
        let transposed = |x: &Csr<Cpu, i32>| x.transposed().expect("it runs");
        assert_equal(&transposed(&product(&a, &b)), &product(&transposed(&b), &transposed(&a)));
        assert_equal(&transposed(&transposed(&a)), &a);
        let identity = Csr::identity(m).expect("a matrix");
        assert_equal(&product(&identity, &a), &a);
        // (A B + C0) with C0 = A B is twice A B.
        let ab = product(&a, &b);
        let added = Inputs::new(&a, &b).with_c0(&ab);
        let sum = multiply(&added, &Options::default().with_beta(1.0)).expect("it runs");
        let twice = multiply(&Inputs::new(&a, &b), &Options::default().with_alpha(2.0));
        assert_equal(&sum, &twice.expect("it runs"));
    }

    #[test]
    fn a_mask_and_its_complement_are_the_whole(
        sides in prop::array::uniform3(1usize..40),
        per_row in 0.2f64..8.0,
        seed in 0u64..1 << 40,
    ) {
        let [m, k, n] = sides;
        let (a, b) = (drawn([m, k], per_row, seed), drawn([k, n], per_row, seed + 1));
        let mask = drawn([m, n], 5.0, seed + 2);
        let masked = Inputs::new(&a, &b).with_mask(&mask);
        let inside = multiply(&masked, &Options::default()).expect("it runs");
        let options = Options::default().with_complement(true);
        let outside = multiply(&masked, &options).expect("it runs");
        let whole = product(&a, &b);
        prop_assert_eq!(inside.nnz() + outside.nnz(), whole.nnz());
        let identity = Csr::identity(n).expect("a matrix");
        let sum = Inputs::new(&inside, &identity).with_c0(&outside);
        assert_equal(&multiply(&sum, &Options::default().with_beta(1.0)).expect("it runs"), &whole);
    }
}

#[test]
fn bits_do_not_depend_on_the_number_of_threads() {
    let case = Case { disorder: [true, true], ..Case::drawn([300, 200, 250], 20.0) };
    let matrices = case.matrices::<f32>().expect("it is drawn");
    let expected = reference::dense(&matrices.inputs(), &case.options()).expect("it runs");
    for threads in [1, 2, 3, 7] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
        let found = pool.install(|| multiply(&matrices.inputs(), &case.options()));
        assert_equal(&found.expect("it runs"), &expected);
    }
}

#[test]
fn a_plan_serves_all_values_at_its_places() {
    let case = Case { beta: Some(2.0), ..Case::drawn([60, 50, 40], 4.0) };
    let first = case.matrices::<f32>().expect("it is drawn");
    let (plan, product) = SpgemmPlan::new(&first.inputs(), &case.options()).expect("it runs");
    assert_equal(&product, &multiply(&first.inputs(), &case.options()).expect("it runs"));
    let mut val = Tensor::new(&Cpu, &[plan.nnz()]).expect("memory");
    for seed in 0..50u32 {
        let pattern = first.a.to_pattern::<u32>();
        let a = with_values(&pattern, |row, col| (row as u32 ^ col ^ seed) as f32 - 20.0);
        let a = a.expect("as many values as places");
        let mut inputs = first.inputs();
        inputs.a = &a;
        plan.execute_into(&inputs, &case.options(), &mut val).expect("it runs");
        let expected = multiply(&inputs, &case.options()).expect("it runs");
        assert_equal(&expected, &expected.with_values(val.clone()).expect("as many values"));
    }
}

#[test]
fn entries_are_made_by_themselves_where_the_mask_lets_few_through() {
    let case = Case::drawn([200, 200, 200], 50.0);
    let drawn = case.matrices::<f32>().expect("it is drawn");
    let variant = |mask: &Csr<Cpu, f32>| {
        let inputs = drawn.inputs().with_mask(mask);
        multiply_with_summary(&inputs, &Options::default()).expect("it runs").1.variant
    };
    assert_eq!(variant(&Csr::identity(200).expect("a matrix")), "spgemm_dot");
    assert_eq!(variant(&drawn.a), "spgemm_dense");
    let disorder = Case { mask: Some(false), disorder: [true, false], ..case.clone() };
    assert_variants_agree::<f32>(&disorder, 2);
    assert_variants_agree::<f32>(&Case { mask: Some(true), ..case }, 2);
}

#[test]
fn products_with_the_transpose_need_rows_in_order() {
    let case = Case { disorder: [true, false], ..Case::drawn([20, 30, 1], 5.0) };
    let a = case.matrices::<f32>().expect("it is drawn").a;
    let error = gram(&a, Semiring::PlusTimes).expect_err("rows in disorder").to_string();
    assert!(error.contains("matrix `A`: expected columns that ascend"), "{error}");
    let error = a.scaled_rows(&[1.0]).expect_err("too few factors").to_string();
    assert!(error.contains("`factors`: expected 20, as the matrix has rows, found 1"), "{error}");
}

#[test]
fn a_plan_refuses_other_places() {
    let case = Case::drawn([60, 50, 40], 4.0);
    let first = case.matrices::<f32>().expect("it is drawn");
    let other = Case { seed: 2, ..case.clone() }.matrices::<f32>().expect("it is drawn");
    let (plan, _) = SpgemmPlan::new(&first.inputs(), &case.options()).expect("it runs");
    let refused = |inputs, name: &str| {
        let error = plan.execute(&inputs, &case.options()).expect_err("other places");
        let wrong = Error::Sparse {
            operation: "spgemm",
            matrix: name.to_owned(),
            fault: Fault::PatternMismatch,
        };
        assert_eq!(error, wrong);
    };
    refused(Inputs::new(&other.a, &first.b), "A");
    refused(Inputs::new(&first.a, &other.b), "B");
    let mask = Csr::pattern([60, 40], vec![0; 61], vec![]).expect("a matrix");
    refused(first.inputs().with_mask(&mask), "mask");
}

#[test]
fn what_does_not_fit_is_refused() {
    let case = Case { disorder: [false, true], ..Case::drawn([6, 5, 4], 3.0) };
    let drawn = case.matrices::<f32>().expect("it is drawn");
    let message = |inputs: Inputs<'_, Cpu, f32>, options: Options| {
        multiply(&inputs, &options).expect_err("it does not fit").to_string()
    };
    let plain = Options::default;
    let (a, b) = (&drawn.a, &drawn.b);
    for (inputs, options, expected) in [
        (Inputs::new(b, a), plain(), "tensor `B`: expected 4 rows, as A has columns, found 6 x 5"),
        (Inputs::new(a, b).with_mask(a), plain(), "tensor `mask`: expected 6 x 4"),
        (Inputs::new(a, b), plain().with_beta(1.0), "option `beta`: expected none without C0"),
        (Inputs::new(a, b), plain().with_complement(true), "option `complement`"),
        (Inputs::new(a, b), plain().with_auto_canonical(false), "matrix `B`: expected columns"),
        (Inputs::new(a, b), plain().with_semiring(Semiring::OrAnd), "values of or-and"),
        (Inputs::new(a, b), plain().with_variant("spgemm_other"), "spgemm_other"),
        (Inputs::new(a, b), plain().with_variant("spgemm_dot"), "spgemm_dot"),
    ] {
        let message = message(inputs, options);
        assert!(message.contains(expected), "{message}");
    }
    let counts = drawn.a.to_pattern::<u32>();
    let error = multiply(&Inputs::new(&counts, &b.to_pattern()), &plain().with_alpha(0.5));
    let error = error.expect_err("no such factor").to_string();
    assert!(error.contains("option `alpha`: expected a factor that is exact in u32"), "{error}");
}

#[test]
fn wrong_arrays_are_refused_in_the_order_of_their_faults() {
    let fault = |shape, row_ptr: &[u32], col: &[u32], values: usize| match Csr::new(
        shape,
        row_ptr.to_vec(),
        col.to_vec(),
        vec![1.0f32; values],
    ) {
        Err(Error::Sparse { fault, .. }) => fault,
        other => panic!("expected a fault, found {other:?}"),
    };
    let (rows, cols) = (1 << 31, 3);
    assert_eq!(fault([rows, cols], &[0], &[], 0), Fault::DimensionTooLarge { rows, cols });
    assert_eq!(fault([2, 3], &[0, 1], &[0], 1), Fault::RowPtrLength { got: 2, want: 3 });
    assert_eq!(fault([2, 3], &[1, 1, 1], &[0], 1), Fault::RowPtrStart { got: 1 });
    assert_eq!(fault([2, 3], &[0, 2, 1], &[0], 1), Fault::RowPtrNotMonotone { row: 1 });
    let mismatch = |row_ptr, col, val| Fault::LengthMismatch { row_ptr, col, val: Some(val) };
    assert_eq!(fault([2, 3], &[0, 1, 2], &[0], 1), mismatch(2, 1, 1));
    assert_eq!(fault([2, 3], &[0, 1, 1], &[0], 2), mismatch(1, 1, 2));
    let side = usize::MAX;
    let too_large = Csr::<Cpu, f32>::identity(side).expect_err("no such matrix");
    let fault_of_sides = Fault::DimensionTooLarge { rows: side, cols: side };
    assert!(matches!(too_large, Error::Sparse { fault, .. } if fault == fault_of_sides));
    let outside = Fault::ColumnOutOfRange { row: 1, pos: 1, col: 3, cols: 3 };
    assert_eq!(fault([2, 3], &[0, 1, 2], &[0, 3], 2), outside);
}

#[test]
fn repeated_columns_are_reduced_from_left_to_right() {
    let matrix =
        Csr::new([1, 4], vec![0u32, 5], vec![3, 1, 3, 1, 3], vec![1.0f32, 2.0, 5.0, -7.0, 4.0]);
    let matrix = matrix.expect("a matrix");
    for (reducer, expected) in [
        (Reducer::Sum, [-5.0, 10.0]),
        (Reducer::First, [2.0, 1.0]),
        (Reducer::Last, [-7.0, 4.0]),
        (Reducer::Max, [2.0, 5.0]),
    ] {
        let canonical = matrix.canonical(reducer).expect("it runs");
        assert!(canonical.is_canonical());
        assert_eq!(canonical.col().to_vec().expect("columns"), [1, 3]);
        assert_eq!(canonical.val().expect("values").to_vec().expect("values"), expected);
    }
}
