//! Whole rows of scores, against one rank that has everything.

use warpwright::attention::{self, Attention, Inputs, Layout, Mask, Options, OutputGradients};
use warpwright::collective::{Communicator, Local};
use warpwright::ring::{self, Partition, Ring, Scheme};
use warpwright::verify::Random;
use warpwright::{Cpu, Float, Result, Tensor};

const HEADS: usize = 4;
const KV_HEADS: usize = 2;

/// A call of two batch entries, of so many queries and keys.
#[derive(Clone, Debug)]
struct Case {
    queries: usize,
    keys: usize,
    ranks: usize,
    scheme: Scheme,
    options: Options,
}

/// What comes out, in the order out, lse, weights, dq, dk, dv, dsink.
type Results = [Vec<f64>; 7];

const NAMES: [&str; 7] = ["out", "lse", "weights", "dq", "dk", "dv", "dsink"];

const FEATURES: usize = 6;

fn random(seed: u64, count: usize) -> Vec<f64> {
    let mut random = Random::new(seed);
    (0..count).map(|_| f64::from(random.normal() as f32)).collect()
}

fn tensor<T: Float>(values: &[f64], shape: &[usize]) -> Tensor<Cpu, T> {
    Tensor::from_vec(values.iter().map(|&x| T::from_f64(x)).collect(), shape).expect("shape")
}

fn numbers<T: Float>(tensor: &Tensor<Cpu, T>) -> Vec<f64> {
    tensor.to_vec().expect("it is on the CPU").into_iter().map(T::to_f64).collect()
}

/// Both passes of a rank.
fn of_rank<T: Float>(ranks: &Local<Cpu>, case: &Case, whole: bool) -> Result<Results>
where
    Cpu: Attention<T>,
{
    let cut = |total| Partition::new(case.scheme, total, case.ranks);
    let ring = Ring::new(cut(case.queries)?).with_keys(cut(case.keys)?);
    let rank = ranks.rank();
    let part = |seed: u64, partition: &Partition, heads: usize| {
        let all = random(seed, 2 * heads * partition.total() * FEATURES);
        let own = partition.scatter(&all, [2 * heads, FEATURES], rank);
        tensor::<T>(&own, &[2, heads, partition.len(rank), FEATURES])
    };
    let (q, k) = (part(1, &ring.queries, HEADS), part(2, &ring.keys, KV_HEADS));
    let (v, dout) = (part(3, &ring.keys, KV_HEADS), part(4, &ring.queries, HEADS));
    let dlse = random(5, 2 * HEADS * case.queries);
    let dlse = ring.queries.scatter(&dlse, [2 * HEADS, 1], rank);
    let dlse = tensor::<T::State>(&dlse, &[2, HEADS, ring.queries.len(rank)]);
    let sink = tensor::<T::State>(&random(6, HEADS), &[HEADS]);
    let slopes = tensor::<T::State>(&[0.3, 0.1, 0.0, 0.2], &[HEADS]);
    let inputs = Inputs::new(&q, &k, &v).with_sink(&sink).with_alibi_slopes(&slopes);
    let given = OutputGradients::new(&dout).with_lse(&dlse);
    let options = &case.options;
    let (outputs, weights, gradients) = if whole {
        let outputs = attention::forward(&inputs, options)?;
        let gradients = attention::backward(&inputs, options, &outputs.saved(), &given)?;
        (outputs, vec![], gradients)
    } else {
        let scored = ring::forward_scores(ranks, &inputs, &ring, options)?;
        let gradients = ring::backward_scores(ranks, &inputs, &ring, options, &scored, &given)?;
        (scored.outputs, numbers(&scored.weights), gradients)
    };
    let dsink = gradients.sink.as_ref().map(numbers).unwrap_or_default();
    Ok([
        numbers(&outputs.out),
        numbers(&outputs.lse),
        weights,
        numbers(&gradients.q),
        numbers(&gradients.k),
        numbers(&gradients.v),
        dsink,
    ])
}

fn of_ring<T: Float>(case: &Case) -> Results
where
    Cpu: Attention<T>,
{
    let parts = Local::run(case.ranks, |ranks| of_rank::<T>(&ranks, case, false));
    let parts: Vec<Results> = parts.into_iter().collect::<Result<_>>().expect("it runs");
    let cut = |total| Partition::new(case.scheme, total, case.ranks).expect("ranks");
    let (queries, keys) = (cut(case.queries), cut(case.keys));
    let gathered = |i: usize, partition: &Partition, around| {
        let parts: Vec<Vec<f64>> = parts.iter().map(|results| results[i].clone()).collect();
        partition.gather(&parts, around)
    };
    [
        gathered(0, &queries, [2 * HEADS, FEATURES]),
        gathered(1, &queries, [2 * HEADS, 1]),
        gathered(2, &queries, [2 * HEADS, case.keys]),
        gathered(3, &queries, [2 * HEADS, FEATURES]),
        gathered(4, &keys, [2 * KV_HEADS, FEATURES]),
        gathered(5, &keys, [2 * KV_HEADS, FEATURES]),
        parts[0][6].clone(),
    ]
}

fn check<T: Float>(case: &Case, gate: f64)
where
    Cpu: Attention<T>,
{
    let found = of_ring::<T>(case);
    let alone = Case { ranks: 1, ..case.clone() };
    let exact = Local::run(1, |ranks| of_rank::<f64>(&ranks, &alone, true));
    let exact = exact.into_iter().next().expect("a rank").expect("it runs");
    for (i, name) in NAMES.into_iter().enumerate().filter(|(_, name)| *name != "weights") {
        let pairs = || found[i].iter().zip(&exact[i]).filter(|(x, y)| x != y);
        let (apart, norm) = pairs().fold((0.0, f64::MIN_POSITIVE), |(apart, norm), (x, y)| {
            (apart + (x - y).powi(2), norm + y * y)
        });
        let error = (apart / norm).sqrt();
        assert!(error <= gate, "{case:?}: `{name}` is {error:.2e} off, {gate:.0e} is allowed");
    }
    // Weights are shares: with the sink's they add up to one.
    let sink = random(6, HEADS);
    for (row, weights) in found[2].chunks_exact(case.keys.max(1)).enumerate() {
        let of_sink = (sink[row / case.queries % HEADS] - found[1][row]).exp();
        let sum = weights.iter().sum::<f64>() + of_sink;
        assert!((sum - 1.0).abs() < 1e-5, "{case:?}: the weights of row {row} add up to {sum}");
    }
}

fn case(scheme: Scheme, queries: usize, keys: usize, ranks: usize) -> Case {
    let options = Options::default().with_mask(Mask::causal()).with_layout(Layout::Bhsd);
    Case { queries, keys, ranks, scheme, options }
}

#[test]
fn rows_of_scores_give_what_one_rank_gives() {
    for scheme in [Scheme::Contiguous, Scheme::Zigzag, Scheme::Striped] {
        for ranks in [1, 2, 3, 7] {
            check::<f64>(&case(scheme, 23, 23, ranks), 1e-12);
            check::<f32>(&case(scheme, 23, 23, ranks), 2e-6);
        }
        check::<f32>(&case(scheme, 3, 17, 4), 2e-6);
        check::<f32>(&case(scheme, 17, 2, 4), 2e-6);
    }
}

#[test]
fn rows_of_scores_know_windows_and_softcaps() {
    let one = case(Scheme::Zigzag, 29, 29, 4);
    let window = Mask::causal().with_window(Some(3), None);
    check::<f64>(&Case { options: one.options.clone().with_mask(window), ..one.clone() }, 1e-12);
    check::<f64>(&Case { options: one.options.clone().with_softcap(1.5), ..one.clone() }, 1e-12);
    check::<f64>(&Case { options: one.options.clone().with_scale(-0.4), ..one }, 1e-12);
}

/// What no query of a rank sees does not get there, whatever it is.
#[test]
fn weights_of_what_is_not_seen_are_zero() {
    let ends = Local::<Cpu>::run(2, |ranks| {
        let ring = Ring::new(Partition::new(Scheme::Contiguous, 4, 2)?);
        let ones = Tensor::from_vec(vec![1.0f32; 2], &[1, 2, 1, 1])?;
        let v = if ranks.rank() == 1 { f32::NAN } else { 1.0 };
        let v = Tensor::from_vec(vec![v; 2], &[1, 2, 1, 1])?;
        let options = Options::default().with_mask(Mask::causal());
        let scored = ring::forward_scores(&ranks, &Inputs::new(&ones, &ones, &v), &ring, &options)?;
        Ok((scored.outputs.out.to_vec()?, scored.weights.to_vec()?))
    });
    let (out, weights) = ends.into_iter().next().expect("a rank").expect("it runs");
    assert_eq!(out, [1.0, 1.0]);
    assert_eq!(weights, [1.0, 0.0, 0.0, 0.0, 0.5, 0.5, 0.0, 0.0]);
}
