//! Rings of ranks that are threads, against one rank that has everything.

mod faults;
#[cfg(feature = "interpreter")]
mod peers;

use warpwright::attention::{self, Inputs, Mask, Options, OutputGradients};
use warpwright::collective::{Communicator, Local, Meter};
use warpwright::ring::{self, Algorithm, Direction, Partition, Pass, Ring, Scheme, Shards};
use warpwright::verify::Random;
use warpwright::{Cpu, DType, Float, Tensor, bf16};

/// A call, of which each rank has a part.
#[derive(Clone, Debug)]
struct Case {
    /// B, H, Hk, Sq, Sk, D, Dv.
    sizes: [usize; 7],
    scheme: Scheme,
    mask: Mask,
    softcap: Option<f32>,
    sink: bool,
    slopes: bool,
    ranks: usize,
    algorithm: Option<Algorithm>,
    direction: Option<Direction>,
}

impl Case {
    /// Self-attention of two batch entries and heads that share keys in pairs.
    fn new(scheme: Scheme, mask: Mask, tokens: usize, ranks: usize) -> Self {
        Self {
            sizes: [2, 4, 2, tokens, tokens, 12, 8],
            scheme,
            mask,
            softcap: None,
            sink: false,
            slopes: false,
            ranks,
            algorithm: None,
            direction: None,
        }
    }

    fn options(&self) -> Options {
        let options = Options::default().with_mask(self.mask);
        match self.softcap {
            Some(softcap) => options.with_softcap(softcap),
            None => options,
        }
    }

    fn ring(&self) -> Ring {
        let [_, _, _, queries, keys, ..] = self.sizes;
        let cut = |total| Partition::new(self.scheme, total, self.ranks).expect("ranks");
        let mut ring = Ring::new(cut(queries)).with_keys(cut(keys));
        ring.algorithm = self.algorithm;
        ring.direction = self.direction;
        ring
    }

    fn shards(&self, dtype: DType) -> Shards {
        let [batch, heads, kv_heads, .., width, value_width] = self.sizes;
        let Ring { queries, keys, .. } = self.ring();
        Shards { queries, keys, batch, heads, kv_heads, width, value_width, dtype }
    }
}

/// The tensors of a call, in f64: numbers that T has, too.
struct Whole {
    q: Vec<f64>,
    k: Vec<f64>,
    v: Vec<f64>,
    dout: Vec<f64>,
    dlse: Vec<f64>,
    sink: Vec<f64>,
    slopes: Vec<f64>,
}

impl Whole {
    fn new<T: Float>(case: &Case) -> Self {
        let [batch, heads, kv_heads, queries, keys, width, value_width] = case.sizes;
        let mut random = Random::new(7);
        let mut numbers = |count: usize| -> Vec<f64> {
            (0..count).map(|_| T::from_f64(random.normal()).to_f64()).collect()
        };
        Self {
            q: numbers(batch * queries * heads * width),
            k: numbers(batch * keys * kv_heads * width),
            v: numbers(batch * keys * kv_heads * value_width),
            dout: numbers(batch * queries * heads * value_width),
            dlse: numbers(batch * heads * queries),
            sink: numbers(heads),
            slopes: (0..heads).map(|head| 0.25 / (head + 1) as f64).collect(),
        }
    }
}

/// What comes out, in the order out, lse, dq, dk, dv, dsink.
type Results = [Vec<f64>; 6];

const NAMES: [&str; 6] = ["out", "lse", "dq", "dk", "dv", "dsink"];

fn tensor<T: Float>(values: &[f64], shape: &[usize]) -> Tensor<Cpu, T> {
    Tensor::from_vec(values.iter().map(|&value| T::from_f64(value)).collect(), shape)
        .expect("shape")
}

fn numbers<T: Float>(tensor: &Tensor<Cpu, T>) -> Vec<f64> {
    tensor.to_vec().expect("it is on the CPU").into_iter().map(T::to_f64).collect()
}

/// Both passes of a rank, and what it has sent.
fn both<T: Float>(
    ranks: Local<Cpu>,
    case: &Case,
    whole: &Whole,
) -> warpwright::Result<(Results, [u64; 2])>
where
    Cpu: attention::Attention<T>,
{
    let [batch, heads, kv_heads, .., width, value_width] = case.sizes;
    let (ring, options, rank) = (case.ring(), case.options(), ranks.rank());
    let (queries, keys) = (ring.queries.len(rank), ring.keys.len(rank));
    let part =
        |values: &[f64], partition: &Partition, [outer, inner]: [usize; 2], shape: &[usize]| {
            tensor::<T>(&partition.scatter(values, [outer, inner], rank), shape)
        };
    let of_queries = |values, features| {
        let shape = [batch, queries, heads, features];
        part(values, &ring.queries, [batch, heads * features], &shape)
    };
    let of_keys = |values, features| {
        let shape = [batch, keys, kv_heads, features];
        part(values, &ring.keys, [batch, kv_heads * features], &shape)
    };
    let (q, k, v) =
        (of_queries(&whole.q, width), of_keys(&whole.k, width), of_keys(&whole.v, value_width));
    let dout = of_queries(&whole.dout, value_width);
    let dlse = part(&whole.dlse, &ring.queries, [batch * heads, 1], &[batch, heads, queries]);
    let sink = tensor::<T::State>(&whole.sink, &[heads]);
    let slopes = tensor::<T::State>(&whole.slopes, &[heads]);
    let mut inputs = Inputs::new(&q, &k, &v);
    if case.sink {
        inputs = inputs.with_sink(&sink);
    }
    if case.slopes {
        inputs = inputs.with_alibi_slopes(&slopes);
    }
    let ranks = Meter::new(ranks);
    let outputs = ring::forward(&ranks, &inputs, &ring, &options)?;
    let sent = ranks.sent();
    let given = OutputGradients::new(&dout).with_lse(&dlse);
    let gradients = ring::backward(&ranks, &inputs, &ring, &options, &outputs, &given)?;
    let sink = gradients.sink.as_ref().map(numbers).unwrap_or_default();
    let results = [
        numbers(&outputs.out),
        numbers(&outputs.lse),
        numbers(&gradients.q),
        numbers(&gradients.k),
        numbers(&gradients.v),
        sink,
    ];
    Ok((results, [sent, ranks.sent() - sent]))
}

/// What all ranks give, put together, and what each has sent in each pass.
fn of_ring<T: Float>(case: &Case, whole: &Whole) -> (Results, Vec<[u64; 2]>)
where
    Cpu: attention::Attention<T>,
{
    let [batch, heads, kv_heads, .., width, value_width] = case.sizes;
    let parts: Vec<(Results, [u64; 2])> =
        Local::run(case.ranks, |ranks| both::<T>(ranks, case, whole))
            .into_iter()
            .collect::<Result<_, _>>()
            .unwrap_or_else(|error| panic!("{case:?}: {error}"));
    let ring = case.ring();
    let gathered = |number: usize, partition: &Partition, inner| {
        let parts: Vec<_> = parts.iter().map(|(results, _)| results[number].clone()).collect();
        partition.gather(&parts, inner)
    };
    let results = [
        gathered(0, &ring.queries, [batch, heads * value_width]),
        gathered(1, &ring.queries, [batch * heads, 1]),
        gathered(2, &ring.queries, [batch, heads * width]),
        gathered(3, &ring.keys, [batch, kv_heads * width]),
        gathered(4, &ring.keys, [batch, kv_heads * value_width]),
        parts[0].0[5].clone(),
    ];
    for (rank, (of_rank, _)) in parts.iter().enumerate() {
        assert_eq!(of_rank[5], results[5], "{case:?}: dsink of rank {rank}");
    }
    (results, parts.into_iter().map(|(_, sent)| sent).collect())
}

/// The reference: everything on one rank, in f64.
fn exact(case: &Case, whole: &Whole) -> Results {
    let alone = Case { ranks: 1, algorithm: None, ..case.clone() };
    of_ring::<f64>(&alone, whole).0
}

fn apart(found: &[f64], exact: &[f64]) -> [f64; 2] {
    assert_eq!(found.len(), exact.len());
    let pairs = || found.iter().zip(exact).filter(|(found, exact)| found != exact);
    let squares = pairs().map(|(found, exact)| (found - exact).powi(2)).sum::<f64>();
    let norm = exact.iter().filter(|x| x.is_finite()).map(|x| x * x).sum::<f64>();
    let largest = pairs().map(|(found, exact)| (found - exact).abs() / (1.0 + exact.abs()));
    [(squares / norm.max(f64::MIN_POSITIVE)).sqrt(), largest.fold(0.0, f64::max)]
}

/// Section 11.3 of the specification: the gates of a block, for lse four times.
fn assert_close(dtype: DType, found: &Results, exact: &Results, what: &str) {
    let (out, gradients, lse) = match dtype {
        DType::F32 => (2e-6, 4e-6, 8e-6),
        DType::BF16 => (5e-3, 6e-3, 8e-5),
        _ => (1e-13, 1e-12, 4e-12),
    };
    for (i, name) in NAMES.into_iter().enumerate() {
        let [norm, largest] = apart(&found[i], &exact[i]);
        let (error, gate) = match name {
            "lse" => (largest, lse),
            "out" => (norm, out),
            _ => (norm, gradients),
        };
        assert!(error <= gate, "{what}: `{name}` is {error:.2e} off, {gate:.0e} is allowed");
    }
}

const ALGORITHMS: [Option<Algorithm>; 4] =
    [None, Some(Algorithm::KvRing), Some(Algorithm::TwoWay), Some(Algorithm::TokenRing)];

const SCHEMES: [Scheme; 3] = [Scheme::Contiguous, Scheme::Zigzag, Scheme::Striped];

fn check<T: Float>(case: &Case)
where
    Cpu: attention::Attention<T>,
{
    let whole = Whole::new::<T>(case);
    let exact = exact(case, &whole);
    for algorithm in ALGORITHMS {
        let case = Case { algorithm, ..case.clone() };
        let (found, sent) = of_ring::<T>(&case, &whole);
        assert_close(T::DTYPE, &found, &exact, &format!("{case:?}"));
        check_bytes::<T>(&case, &sent);
    }
}

/// What was sent is what the schedule says, to the byte.
fn check_bytes<T: Float>(case: &Case, sent: &[[u64; 2]]) {
    let (shards, ring) = (case.shards(T::DTYPE), case.ring());
    for (i, pass) in [Pass::Forward, Pass::Backward].into_iter().enumerate() {
        let schedule = ring.schedule(&shards, &case.mask, pass).expect("schedule");
        let found: Vec<u64> = sent.iter().map(|sent| sent[i]).collect();
        assert_eq!(found, shards.bytes_sent(&schedule), "{case:?}: {pass:?}");
    }
}

#[test]
fn rings_of_any_size_give_what_one_rank_gives() {
    for ranks in [2, 3, 4, 5, 8, 16] {
        check::<f32>(&Case::new(Scheme::Zigzag, Mask::causal(), 64, ranks));
    }
    check::<bf16>(&Case::new(Scheme::Zigzag, Mask::causal(), 64, 4));
    check::<f64>(&Case::new(Scheme::Zigzag, Mask::causal(), 64, 4));
}

#[test]
fn every_scheme_meets_every_mask() {
    let masks = [
        Mask::default(),
        Mask::causal(),
        Mask::causal().with_window(Some(5), None),
        Mask::default().with_window(Some(0), Some(9)),
    ];
    for (scheme, mask) in SCHEMES.into_iter().flat_map(|s| masks.map(|mask| (s, mask))) {
        check::<f32>(&Case::new(scheme, mask, 37, 3));
    }
}

/// Shards of nothing, of one token, of keys of another sequence.
#[test]
fn shards_may_be_unequal_and_empty() {
    for scheme in SCHEMES {
        for [queries, keys] in [[3, 3], [1, 1], [5, 40], [40, 5], [2, 0], [0, 7]] {
            let case = Case::new(scheme, Mask::causal(), queries, 4);
            let [batch, heads, kv_heads, .., width, value_width] = case.sizes;
            let sizes = [batch, heads, kv_heads, queries, keys, width, value_width];
            check::<f32>(&Case { sizes, ..case });
        }
    }
}

#[test]
fn softcaps_slopes_and_sinks_go_round() {
    for scheme in SCHEMES {
        let case = Case::new(scheme, Mask::causal(), 29, 4);
        check::<f32>(&Case { softcap: Some(2.0), ..case.clone() });
        check::<f32>(&Case { slopes: true, ..case.clone() });
        check::<f32>(&Case { sink: true, ..case.clone() });
        let window = Mask::causal().with_window(Some(2), None);
        check::<f32>(&Case { sink: true, slopes: true, mask: window, ..case });
    }
}

/// Directions, and heads that do not share keys, or share one.
#[test]
fn directions_and_groups_do_not_matter() {
    let case = Case::new(Scheme::Zigzag, Mask::causal(), 40, 4);
    for direction in [Direction::Up, Direction::Down] {
        check::<f32>(&Case { direction: Some(direction), ..case.clone() });
    }
    check::<f32>(&Case { sizes: [1, 3, 3, 24, 24, 8, 8], ..case.clone() });
    let alone = Case { sizes: [1, 3, 1, 24, 24, 8, 8], ..case };
    for algorithm in [None, Some(Algorithm::KvRing), Some(Algorithm::TokenRing)] {
        let case = Case { algorithm, ..alone.clone() };
        let whole = Whole::new::<f32>(&case);
        let (found, _) = of_ring::<f32>(&case, &whole);
        assert_close(DType::F32, &found, &exact(&case, &whole), &format!("{case:?}"));
    }
}

/// One rank is a plain call, and the same call gives the same bits twice.
#[test]
fn equal_calls_give_equal_bits() {
    let alone = Case::new(Scheme::Contiguous, Mask::causal(), 50, 1);
    let whole = Whole::new::<f32>(&alone);
    let (found, sent) = of_ring::<f32>(&alone, &whole);
    assert_eq!(sent, [[0, 0]]);
    let [batch, heads, kv_heads, queries, keys, width, value_width] = alone.sizes;
    let q = tensor::<f32>(&whole.q, &[batch, queries, heads, width]);
    let k = tensor::<f32>(&whole.k, &[batch, keys, kv_heads, width]);
    let v = tensor::<f32>(&whole.v, &[batch, keys, kv_heads, value_width]);
    let plain = attention::forward(&Inputs::new(&q, &k, &v), &alone.options()).expect("it runs");
    assert_eq!(found[0], numbers(&plain.out));
    assert_eq!(found[1], numbers(&plain.lse));

    for algorithm in ALGORITHMS {
        let case =
            Case { algorithm, sink: true, ..Case::new(Scheme::Zigzag, Mask::causal(), 50, 4) };
        let first = of_ring::<f32>(&case, &whole).0;
        for _ in 0..3 {
            assert_eq!(of_ring::<f32>(&case, &whole).0, first, "{case:?}");
        }
    }
}

/// Errors do not grow with the number of ranks.
#[test]
fn errors_are_flat() {
    let errors: Vec<f64> = [2, 16]
        .into_iter()
        .map(|ranks| {
            let case = Case::new(Scheme::Zigzag, Mask::causal(), 256, ranks);
            let whole = Whole::new::<f32>(&case);
            apart(&of_ring::<f32>(&case, &whole).0[0], &exact(&case, &whole)[0])[0]
        })
        .collect();
    assert!(errors[1] <= 1.5 * errors[0], "{errors:?} with 2 and with 16 ranks");
}
