//! A long text attended to by one rank, and by rings of 2, 4 and 8.
//!
//! ```text
//! cargo run --release --example ring
//! ```
//!
//! Every character of the beginning of a novel looks back at all before it. Its query, key and value
//! are made of the three characters that end with it, hashed into signs:
//!
//! ```text
//! x_t = Σ_{n = 1, 2, 3} signs(the n characters up to t) / √3
//! ```
//!
//! so that places with the same letters attend to one another; the gradient of a result is the sign
//! of the character that follows. The text is cut among ranks, which are threads here, in every way,
//! and goes round by every schedule. The program compares results and gradients with those of one
//! rank, and exits with 1 where they differ.

use std::error::Error;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use warpwright::attention::{Inputs, Mask, Options, OutputGradients};
use warpwright::collective::{Communicator, Local};
use warpwright::ring::{self, Algorithm, Partition, Pass, Ring, Scheme, Shards};
use warpwright::{Cpu, DType, Tensor};

/// Characters of the text.
const TOKENS: usize = 8_192;

/// H and D; each head hashes by itself, and has keys of its own.
const HEADS: usize = 4;
const WIDTH: usize = 32;

/// Section 11.3 of the specification: results and gradients in the Euclidean norm, f32.
const GATES: [f64; 4] = [2e-6, 4e-6, 4e-6, 4e-6];

const USAGE: &str = "\
Attends to a long text by one rank, and by rings of 2, 4 and 8 with every schedule, and compares.

Usage: ring";

fn main() -> ExitCode {
    if std::env::args().len() > 1 {
        println!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("ring: {error}");
            ExitCode::from(2)
        }
    }
}

/// Queries, keys, values and gradients of results, (S, H, D) each.
struct Text {
    lines: [Vec<f32>; 4],
}

/// out, dq, dk, dv.
type Results = [Vec<f32>; 4];

/// What a ring gave, and in which time.
struct Attended {
    results: Results,
    time: Duration,
}

/// Whether all rings give what one rank gives.
fn run() -> Result<bool, Box<dyn Error>> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/data/emma.txt");
    let text = std::fs::read(path).map_err(|error| format!("{path}: {error}"))?;
    let text = Text::new(&text[..TOKENS]);
    let alone = Ring::new(Partition::new(Scheme::Contiguous, TOKENS, 1)?);
    attend(&text, &alone)?;
    let one = attend(&text, &alone)?;
    println!(
        "{TOKENS} characters, {HEADS} heads of {WIDTH}, causal; forward and backward by one rank: {:.2} s\n",
        one.time.as_secs_f64()
    );
    println!(
        "{:>5}  {:<10}  {:<10}  {:>6}  {:>8}  {:>8}  {:>9}  {:>9}",
        "ranks", "partition", "schedule", "time", "out", "gradient", "forward", "backward"
    );
    let mut all_close = true;
    for (ranks, scheme, algorithm) in ways() {
        let partition = Partition::new(scheme, TOKENS, ranks)?;
        let ring = Ring::new(partition).with_algorithm(algorithm);
        let attended = attend(&text, &ring)?;
        let errors: Vec<f64> =
            (0..4).map(|i| apart(&attended.results[i], &one.results[i])).collect();
        let is_close = errors.iter().zip(GATES).all(|(error, gate)| *error <= 2.0 * gate);
        all_close &= is_close;
        let [forward, backward] = bytes(&ring)?;
        println!(
            "{ranks:>5}  {:<10}  {:<10}  {:>5.2}x  {:>8.1e}  {:>8.1e}  {forward:>6.2} MB  {backward:>6.2} MB{}",
            scheme.to_string(),
            algorithm.to_string(),
            attended.time.as_secs_f64() / one.time.as_secs_f64(),
            errors[0],
            errors[1..].iter().fold(0.0, |most: f64, &error| most.max(error)),
            if is_close { "" } else { "  WRONG" },
        );
    }
    println!(
        "\nTimes are those of all ranks together, on this machine's cores, to that of one rank."
    );
    println!("Bytes are what all ranks send in a pass.");
    Ok(all_close)
}

fn ways() -> impl Iterator<Item = (usize, Scheme, Algorithm)> {
    let schemes = [Scheme::Contiguous, Scheme::Zigzag, Scheme::Striped];
    let algorithms = [Algorithm::KvRing, Algorithm::TwoWay, Algorithm::TokenRing];
    [2, 4, 8].into_iter().flat_map(move |ranks| {
        schemes.into_iter().flat_map(move |scheme| {
            algorithms.into_iter().map(move |algorithm| (ranks, scheme, algorithm))
        })
    })
}

impl Text {
    fn new(text: &[u8]) -> Self {
        let mut lines = [const { Vec::new() }; 4];
        for t in 0..text.len() {
            for head in 0..HEADS {
                for (kind, line) in lines.iter_mut().enumerate() {
                    let features = (0..WIDTH).map(|feature| match kind {
                        3 => sign((text.get(t + 1), feature, head)),
                        _ => of_characters(&text[..=t], (kind, head, feature)),
                    });
                    line.extend(features);
                }
            }
        }
        Self { lines }
    }
}

/// The signs of the last one, two and three characters.
fn of_characters(text: &[u8], feature: (usize, usize, usize)) -> f32 {
    let signs = (1..=3usize).map(|n| sign((&text[text.len().saturating_sub(n)..], n, feature)));
    signs.sum::<f32>() / 3f32.sqrt()
}

/// 1 or -1.
fn sign(of: impl Hash) -> f32 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    if hasher.finish() & 1 == 0 { 1.0 } else { -1.0 }
}

/// Both passes of all ranks.
fn attend(text: &Text, ring: &Ring) -> warpwright::Result<Attended> {
    let partition = &ring.queries;
    let shards: Vec<[Tensor<Cpu, f32>; 4]> = (0..ring.ranks())
        .map(|rank| {
            let shape = [1, partition.len(rank), HEADS, WIDTH];
            let [q, k, v, dout] = text.lines.each_ref().map(|lines| {
                Tensor::from_vec(partition.scatter(lines, [1, HEADS * WIDTH], rank), &shape)
            });
            Ok([q?, k?, v?, dout?])
        })
        .collect::<warpwright::Result<_>>()?;
    let began = Instant::now();
    let ends = Local::run(ring.ranks(), |ranks| {
        let [q, k, v, dout] = &shards[ranks.rank()];
        let inputs = Inputs::new(q, k, v);
        let options = Options::default().with_mask(Mask::causal());
        let outputs = ring::forward(&ranks, &inputs, ring, &options)?;
        let given = OutputGradients::new(dout);
        let gradients = ring::backward(&ranks, &inputs, ring, &options, &outputs, &given)?;
        Ok([outputs.out, gradients.q, gradients.k, gradients.v])
    });
    let time = began.elapsed();
    let mut parts = [const { Vec::new() }; 4];
    for end in ends {
        for (part, result) in parts.iter_mut().zip(end?) {
            part.push(result.into_vec()?);
        }
    }
    Ok(Attended { results: parts.map(|parts| partition.gather(&parts, [1, HEADS * WIDTH])), time })
}

/// |x - y| / |y|.
fn apart(x: &[f32], y: &[f32]) -> f64 {
    let square = |x: f64| x * x;
    let apart: f64 = x.iter().zip(y).map(|(&x, &y)| square(f64::from(x) - f64::from(y))).sum();
    (apart / y.iter().map(|&y| square(f64::from(y))).sum::<f64>()).sqrt()
}

/// Megabytes that all ranks send in each pass.
fn bytes(ring: &Ring) -> warpwright::Result<[f64; 2]> {
    let shards = Shards {
        queries: ring.queries,
        keys: ring.keys,
        batch: 1,
        heads: HEADS,
        kv_heads: HEADS,
        width: WIDTH,
        value_width: WIDTH,
        dtype: DType::F32,
    };
    let of_pass = |pass| {
        let schedule = ring.schedule(&shards, &Mask::causal(), pass)?;
        Ok(shards.bytes_sent(&schedule).iter().sum::<u64>() as f64 / 1e6)
    };
    Ok([of_pass(Pass::Forward)?, of_pass(Pass::Backward)?])
}
