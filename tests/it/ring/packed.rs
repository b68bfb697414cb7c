//! Packed sequences, each cut among all ranks, against one rank that has all of them.

use warpwright::attention::{self, Attention, Inputs, Layout, Mask, Options, OutputGradients};
use warpwright::collective::{Communicator, Lines, Local};
use warpwright::ring::{self, Algorithm, PackedPartition, PackedRing, Scheme};
use warpwright::verify::Random;
use warpwright::{Cpu, Device, Error, Result, Tensor};

use crate::devices::{devices, on_backend};

const HEADS: usize = 4;
const KV_HEADS: usize = 2;
const WIDTH: usize = 8;
const VALUE_WIDTH: usize = 12;

/// Sequences of a call: where they begin, of queries and of keys.
#[derive(Clone, Debug)]
struct Case {
    queries: Vec<usize>,
    keys: Vec<usize>,
    scheme: Scheme,
    mask: Mask,
    sink: bool,
    ranks: usize,
    algorithm: Option<Algorithm>,
    layout: Layout,
}

impl Case {
    fn new(bounds: &[usize], scheme: Scheme, ranks: usize) -> Self {
        Self {
            queries: bounds.to_vec(),
            keys: bounds.to_vec(),
            scheme,
            mask: Mask::causal(),
            sink: false,
            ranks,
            algorithm: None,
            layout: Layout::Bshd,
        }
    }

    fn ring(&self) -> PackedRing {
        let cut = |bounds: &[usize]| PackedPartition::new(self.scheme, bounds, self.ranks);
        let ring = PackedRing::new(cut(&self.queries).expect("bounds"));
        let ring = ring.with_keys(cut(&self.keys).expect("bounds"));
        match self.algorithm {
            Some(algorithm) => ring.with_algorithm(algorithm),
            None => ring,
        }
    }

    fn options(&self) -> Options {
        Options::default().with_mask(self.mask).with_layout(self.layout)
    }

    /// Features of a token, and what they are as a tensor's shape.
    fn axes(&self, tokens: usize, heads: usize, features: usize) -> ([usize; 2], [usize; 3]) {
        match self.layout {
            Layout::Bshd => ([1, heads * features], [tokens, heads, features]),
            Layout::Bhsd => ([heads, features], [heads, tokens, features]),
        }
    }
}

/// q, k, v, dout, dlse, sink and slopes of all tokens, in f32.
struct Whole {
    tensors: [Vec<f32>; 4],
    dlse: Vec<f32>,
    sink: Vec<f32>,
    slopes: Vec<f32>,
}

impl Whole {
    fn new(case: &Case) -> Self {
        let (queries, keys) = (*case.queries.last().expect("all"), *case.keys.last().expect("all"));
        let mut random = Random::new(17);
        let mut numbers =
            |count: usize| (0..count).map(|_| random.normal() as f32).collect::<Vec<f32>>();
        let slopes = case.queries.len() - 1;
        Self {
            tensors: [
                numbers(queries * HEADS * WIDTH),
                numbers(keys * KV_HEADS * WIDTH),
                numbers(keys * KV_HEADS * VALUE_WIDTH),
                numbers(queries * HEADS * VALUE_WIDTH),
            ],
            dlse: numbers(queries * HEADS),
            sink: numbers(HEADS),
            slopes: numbers(slopes * HEADS).iter().map(|x| 0.1 * x.abs()).collect(),
        }
    }
}

/// out, lse, dq, dk, dv and dsink.
type Results = [Vec<f64>; 6];

const NAMES: [&str; 6] = ["out", "lse", "dq", "dk", "dv", "dsink"];

fn widened(numbers: Vec<f32>) -> Vec<f64> {
    numbers.into_iter().map(f64::from).collect()
}

/// Both passes of a rank.
fn of_rank<B: Attention<f32> + Lines>(
    ranks: &Local<B>,
    backend: &B,
    case: &Case,
    whole: &Whole,
) -> Result<Results> {
    let (ring, rank) = (case.ring(), ranks.rank());
    let tensor = |i: usize, heads: usize, features: usize| {
        let partition = if i.is_multiple_of(3) { &ring.queries } else { &ring.keys };
        let (around, shape) = case.axes(partition.len(rank), heads, features);
        Tensor::from_slice(backend, &partition.scatter(&whole.tensors[i], around, rank), &shape)
    };
    let (q, k) = (tensor(0, HEADS, WIDTH)?, tensor(1, KV_HEADS, WIDTH)?);
    let (v, dout) = (tensor(2, KV_HEADS, VALUE_WIDTH)?, tensor(3, HEADS, VALUE_WIDTH)?);
    let dlse = ring.queries.scatter(&whole.dlse, [HEADS, 1], rank);
    let dlse = Tensor::from_slice(backend, &dlse, &[HEADS, ring.queries.len(rank)])?;
    let sink = Tensor::from_slice(backend, &whole.sink, &[HEADS])?;
    let slopes = Tensor::from_slice(backend, &whole.slopes, &[ring.queries.sequences(), HEADS])?;
    let mut inputs = Inputs::new(&q, &k, &v).with_alibi_slopes(&slopes);
    if case.sink {
        inputs = inputs.with_sink(&sink);
    }
    let outputs = ring::forward_packed(ranks, &inputs, &ring, &case.options())?;
    let given = OutputGradients::new(&dout).with_lse(&dlse);
    let gradients =
        ring::backward_packed(ranks, &inputs, &ring, &case.options(), &outputs, &given)?;
    let dsink = gradients.sink.map_or(Ok(vec![]), |sink| sink.to_vec())?;
    Ok([
        widened(outputs.out.to_vec()?),
        widened(outputs.lse.to_vec()?),
        widened(gradients.q.to_vec()?),
        widened(gradients.k.to_vec()?),
        widened(gradients.v.to_vec()?),
        widened(dsink),
    ])
}

/// What all ranks give, put together.
fn of_ring<B: Attention<f32> + Lines>(backend: &B, case: &Case, whole: &Whole) -> Results {
    let parts = Local::run(case.ranks, |ranks| of_rank(&ranks, backend, case, whole));
    let parts: Vec<Results> = parts
        .into_iter()
        .collect::<Result<_>>()
        .unwrap_or_else(|error| panic!("{}, {case:?}: {error}", backend.name()));
    let ring = case.ring();
    let gathered = |i: usize, partition: &PackedPartition, around| {
        let parts: Vec<Vec<f64>> = parts.iter().map(|results| results[i].clone()).collect();
        partition.gather(&parts, around)
    };
    let around = |heads, features| case.axes(0, heads, features).0;
    [
        gathered(0, &ring.queries, around(HEADS, VALUE_WIDTH)),
        gathered(1, &ring.queries, [HEADS, 1]),
        gathered(2, &ring.queries, around(HEADS, WIDTH)),
        gathered(3, &ring.keys, around(KV_HEADS, WIDTH)),
        gathered(4, &ring.keys, around(KV_HEADS, VALUE_WIDTH)),
        parts[0][5].clone(),
    ]
}

/// One rank, in f64, by the attention of packed sequences.
fn exact(case: &Case, whole: &Whole) -> Results {
    let wide = |numbers: &[f32], shape: &[usize]| {
        Tensor::from_vec(widened(numbers.to_vec()), shape).expect("shape")
    };
    let (queries, keys) = (*case.queries.last().expect("all"), *case.keys.last().expect("all"));
    let shape = |tokens, heads, features| case.axes(tokens, heads, features).1;
    let q = wide(&whole.tensors[0], &shape(queries, HEADS, WIDTH));
    let k = wide(&whole.tensors[1], &shape(keys, KV_HEADS, WIDTH));
    let v = wide(&whole.tensors[2], &shape(keys, KV_HEADS, VALUE_WIDTH));
    let dout = wide(&whole.tensors[3], &shape(queries, HEADS, VALUE_WIDTH));
    let dlse = wide(&whole.dlse, &[HEADS, queries]);
    let sink = wide(&whole.sink, &[HEADS]);
    let slopes = wide(&whole.slopes, &[case.queries.len() - 1, HEADS]);
    let bounds = |bounds: &[usize]| {
        let bounds: Vec<i64> = bounds.iter().map(|&bound| bound as i64).collect();
        Tensor::from_vec(bounds.clone(), &[bounds.len()]).expect("shape")
    };
    let (of_queries, of_keys) = (bounds(&case.queries), bounds(&case.keys));
    let mut inputs = Inputs::new(&q, &k, &v).with_alibi_slopes(&slopes);
    inputs = inputs.with_packed(&of_queries, &of_keys);
    if case.sink {
        inputs = inputs.with_sink(&sink);
    }
    let options = case.options();
    let outputs = attention::forward(&inputs, &options).expect("it runs");
    let given = OutputGradients::new(&dout).with_lse(&dlse);
    let gradients =
        attention::backward(&inputs, &options, &outputs.saved(), &given).expect("it runs");
    let numbers = |tensor: &Tensor<Cpu, f64>| tensor.to_vec().expect("it is on the CPU");
    [
        numbers(&outputs.out),
        numbers(&outputs.lse),
        numbers(&gradients.q),
        numbers(&gradients.k),
        numbers(&gradients.v),
        gradients.sink.as_ref().map(numbers).unwrap_or_default(),
    ]
}

/// Section 11.3 of the specification, for f32.
fn assert_close(device: &str, case: &Case, found: &Results, exact: &Results) {
    for (i, name) in NAMES.into_iter().enumerate() {
        let pairs = || found[i].iter().zip(&exact[i]).filter(|(found, exact)| found != exact);
        assert_eq!(found[i].len(), exact[i].len(), "{device}, {case:?}: `{name}`");
        let error = match name {
            "lse" => pairs().map(|(x, y)| (x - y).abs() / (1.0 + y.abs())).fold(0.0, f64::max),
            _ => {
                let squares: f64 = pairs().map(|(x, y)| (x - y).powi(2)).sum();
                let norm: f64 = exact[i].iter().map(|y| y * y).sum();
                (squares / norm.max(f64::MIN_POSITIVE)).sqrt()
            }
        };
        let gate = match name {
            "lse" => 8e-6,
            "out" => 2e-6,
            _ => 4e-6,
        };
        assert!(
            error <= gate,
            "{device}, {case:?}: `{name}` is {error:.2e} off, {gate:.0e} allowed"
        );
    }
}

fn check(device: &Device, case: &Case) {
    let whole = Whole::new(case);
    let found = on_backend!(device, |backend| of_ring(backend, case, &whole));
    assert_close(&device.name(), case, &found, &exact(case, &whole));
}

#[test]
fn packed_sequences_give_what_one_rank_gives() {
    let bounds: [&[usize]; 4] = [&[0, 13], &[0, 7, 8, 8, 29], &[0, 1, 2, 3], &[0, 0, 16]];
    for device in devices() {
        for bounds in bounds {
            let case = Case::new(bounds, Scheme::Zigzag, 3);
            check(device, &case);
            check(device, &Case { sink: true, layout: Layout::Bhsd, ..case });
        }
    }
}

#[test]
fn schemes_schedules_and_sizes_of_packed_rings_do_not_matter() {
    let cpu = Device::Cpu(Cpu);
    let schemes = [Scheme::Contiguous, Scheme::Zigzag, Scheme::Striped];
    let ways = [Algorithm::KvRing, Algorithm::TwoWay, Algorithm::TokenRing];
    for (scheme, algorithm) in schemes.into_iter().flat_map(|s| ways.map(|way| (s, way))) {
        for ranks in [1, 2, 5] {
            let case = Case::new(&[0, 7, 8, 29, 33], scheme, ranks);
            check(&cpu, &Case { algorithm: Some(algorithm), ..case.clone() });
            let keys = vec![0, 3, 20, 20, 31];
            check(&cpu, &Case { keys, mask: Mask::default(), sink: true, ..case });
        }
    }
}

#[test]
fn no_sequences_are_no_work() {
    for device in devices() {
        check(device, &Case { sink: true, ..Case::new(&[0], Scheme::Zigzag, 2) });
    }
}

#[test]
fn packed_rings_refuse_what_does_not_fit() {
    let message = |tokens: usize, change: fn(PackedRing) -> PackedRing| {
        let mut ends = Local::<Cpu>::run(2, |ranks| {
            let partition = PackedPartition::new(Scheme::Contiguous, &[0, 4, 10], 2)?;
            let x = Tensor::from_vec(vec![1.0f32; tokens], &[tokens, 1, 1])?;
            let inputs = Inputs::new(&x, &x, &x);
            let ring = change(PackedRing::new(partition));
            ring::forward_packed(&ranks, &inputs, &ring, &Options::default())
        });
        match ends.swap_remove(0) {
            Err(Error::Communication { fault, .. }) => fault.to_string(),
            Err(error) => error.to_string(),
            Ok(_) => panic!("it ran"),
        }
    };
    let short = message(4, |ring| ring);
    assert!(short.contains("(T, H, D) of 5 tokens, those of rank 0 of 10"), "{short}");
    let keys = message(5, |ring| {
        ring.with_keys(PackedPartition::new(Scheme::Contiguous, &[0, 10], 2).expect("bounds"))
    });
    assert!(keys.contains("expected 2 sequences, as of queries, found 1"), "{keys}");
}
