//! Damaged kernels, run: whatever a text that parses does, a launch ends, soon, with counters or a fault.
//!
//! `PROPTEST_CASES` sets how many are tried; 2,000 by default. The damage keeps to the pieces of the text
//! (registers, numbers, modifiers, lines), and what no longer parses is left out.
#![cfg(feature = "interpreter")]

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use warpwright_ptx::conformance::{faults, programs};
use warpwright_ptx::interpreter::{
    Approximations, Fault, FaultKind, Launch, Machine, Options, Schedule, Sums,
};
use warpwright_ptx::{Entry, Module, parse};

/// A kernel and how it is meant to be launched.
struct Seed {
    text: String,
    grid: u32,
    block: u32,
    cluster: u32,
    input: Vec<u8>,
}

static SEEDS: LazyLock<Vec<Seed>> = LazyLock::new(|| {
    let kernels = [
        include_str!("kernels/skeleton.ptx"),
        include_str!("kernels/tile.ptx"),
        include_str!("kernels/product.ptx"),
        include_str!("kernels/cluster.ptx"),
    ];
    let plain = kernels.map(|text| Seed {
        text: text.to_owned(),
        grid: 2,
        block: 128,
        cluster: 1,
        input: vec![0; 4096],
    });
    let faulty = faults().into_iter().flat_map(|one| [one.program, one.repaired]);
    // Of the many rows of arithmetic a fourth is enough; most mistakes are made where threads meet.
    let meets = |text: &str| {
        ["shared", "sync", "atom", "red", "async"].iter().any(|one| text.contains(one))
    };
    let chosen = programs().into_iter().enumerate();
    let chosen = chosen.filter(|(at, program)| at % 4 == 0 || meets(&program.text));
    let suite = chosen.map(|(_, program)| program).chain(faulty).map(|program| Seed {
        grid: program.grid,
        block: program.block,
        cluster: program.cluster,
        input: program.input,
        text: program.text,
    });
    plain.into_iter().chain(suite).collect()
});

/// Words (names, numbers, modifiers) and single other characters.
fn pieces(text: &str) -> Vec<&str> {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'%';
    let mut pieces = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let length = rest.bytes().take_while(|&byte| word(byte)).count().max(1);
        let (piece, after) = rest.split_at_checked(length).unwrap_or((rest, ""));
        pieces.push(piece);
        rest = after;
    }
    pieces
}

/// Numbers at which ranges end.
const EDGES: &[&str] = &[
    "0",
    "1",
    "2",
    "3",
    "4",
    "7",
    "8",
    "15",
    "16",
    "31",
    "32",
    "33",
    "63",
    "64",
    "65",
    "127",
    "128",
    "255",
    "256",
    "1023",
    "1024",
    "4095",
    "65535",
    "65536",
    "232448",
    "1048576",
    "2147483647",
    "2147483648",
    "4294967295",
    "4294967296",
    "9223372036854775807",
    "18446744073709551615",
    "-1",
    "-2",
    "-4",
    "-2147483648",
    "-9223372036854775808",
    "0f7F800000",
    "0fFFC00000",
    "0f00000001",
    "0d7FF0000000000000",
];

/// What is done to a text; the numbers choose the places.
#[derive(Debug, Clone)]
enum Damage {
    /// A register takes another's place.
    Register(usize, usize),
    /// A number becomes one of [`EDGES`].
    Number(usize, usize),
    /// A modifier becomes one that the text has elsewhere.
    Modifier(usize, usize),
    /// An opcode becomes that of another line.
    Opcode(usize, usize),
    /// A guard goes, or turns.
    Guard(usize, bool),
    Drop(usize),
    Duplicate(usize),
    Swap(usize, usize),
}

fn damage() -> impl Strategy<Value = Damage> {
    let at = any::<usize>;
    prop_oneof![
        6 => (at(), at()).prop_map(|(at, by)| Damage::Register(at, by)),
        5 => (at(), at()).prop_map(|(at, by)| Damage::Number(at, by)),
        4 => (at(), at()).prop_map(|(at, by)| Damage::Modifier(at, by)),
        3 => (at(), at()).prop_map(|(at, by)| Damage::Opcode(at, by)),
        2 => (at(), any::<bool>()).prop_map(|(at, gone)| Damage::Guard(at, gone)),
        3 => at().prop_map(Damage::Drop),
        2 => at().prop_map(Damage::Duplicate),
        2 => (at(), at()).prop_map(|(at, by)| Damage::Swap(at, by)),
    ]
}

/// Replaces one of the pieces that `fits` holds for by another of them.
fn exchange(text: &str, at: usize, by: usize, fits: impl Fn(&[&str], usize) -> bool) -> String {
    let mut pieces = pieces(text);
    let places: Vec<usize> = (0..pieces.len()).filter(|&at| fits(&pieces, at)).collect();
    if let (Some(&to), Some(&from)) =
        (places.get(at % places.len().max(1)), places.get(by % places.len().max(1)))
    {
        pieces[to] = pieces[from];
    }
    pieces.concat()
}

fn starts(piece: &str, test: impl Fn(u8) -> bool) -> bool {
    piece.bytes().next().is_some_and(test)
}

/// Whether only blanks stand before a piece in its line.
fn opens_line(pieces: &[&str], at: usize) -> bool {
    pieces[..at].iter().rev().find(|piece| !matches!(**piece, " " | "\t")) == Some(&"\n")
}

fn apply(text: &str, damage: &Damage) -> String {
    let lines = || text.lines().collect::<Vec<_>>();
    match *damage {
        Damage::Register(at, by) => {
            exchange(text, at, by, |pieces, at| pieces[at].starts_with('%'))
        }
        Damage::Number(at, by) => {
            let mut pieces = pieces(text);
            let digits = |&at: &usize| starts(pieces[at], |byte| byte.is_ascii_digit());
            let places: Vec<usize> = (0..pieces.len()).filter(digits).collect();
            if let Some(&place) = places.get(at % places.len().max(1)) {
                pieces[place] = EDGES[by % EDGES.len()];
            }
            pieces.concat()
        }
        Damage::Modifier(at, by) => exchange(text, at, by, |pieces, at| {
            at > 0 && pieces[at - 1] == "." && pieces[at] != "\n"
        }),
        Damage::Opcode(at, by) => exchange(text, at, by, |pieces, at| {
            starts(pieces[at], |byte| byte.is_ascii_lowercase()) && opens_line(pieces, at)
        }),
        Damage::Guard(at, gone) => {
            let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
            let guarded = |&at: &usize| lines[at].trim_start().starts_with('@');
            let places: Vec<usize> = (0..lines.len()).filter(guarded).collect();
            if let Some(&place) = places.get(at % places.len().max(1)) {
                let line = lines[place].trim_start();
                lines[place] = match (gone, line.strip_prefix("@!")) {
                    (true, _) => line.split_once(' ').map_or("", |(_, rest)| rest).to_owned(),
                    (_, Some(rest)) => format!("@{rest}"),
                    (_, None) => line.replacen('@', "@!", 1),
                };
            }
            lines.join("\n")
        }
        Damage::Drop(at) => {
            let mut lines = lines();
            lines.remove(at % lines.len().max(1));
            lines.join("\n")
        }
        Damage::Duplicate(at) => {
            let mut lines = lines();
            lines.insert(at % lines.len(), lines[at % lines.len()]);
            lines.join("\n")
        }
        Damage::Swap(at, by) => {
            let mut lines = lines();
            let count = lines.len();
            lines.swap(at % count, by % count);
            lines.join("\n")
        }
    }
}

/// Every mode of a machine, at random; few instructions.
fn options() -> impl Strategy<Value = Options> {
    let sums = [Sums::default(), Sums::Ampere, Sums::Hopper, Sums::Shuffled];
    (any::<u64>(), any::<bool>(), any::<bool>(), 0..sums.len(), 0..8u8, 1..4usize).prop_map(
        move |(seed, shuffled, perturbed, sum, unchecked, workers)| {
            let schedule = if shuffled { Schedule::Shuffled } else { Schedule::Converged };
            let approximations =
                if perturbed { Approximations::Perturbed } else { Approximations::Rounded };
            let options = Options::default()
                .with_seed(seed)
                .with_schedule(schedule)
                .with_approximations(approximations)
                .with_sums(sums[sum])
                .with_workers(workers)
                .with_patience(2_000)
                .with_limit(20_000);
            if unchecked == 0 { options.unchecked() } else { options }
        },
    )
}

/// What is changed about the launch: mostly nothing.
#[derive(Debug, Clone)]
struct Shape {
    grid: Option<[u32; 3]>,
    block: Option<[u32; 3]>,
    cluster: Option<Option<[u32; 3]>>,
    dynamic_shared: u32,
    cooperative: bool,
}

fn shape() -> impl Strategy<Value = Shape> {
    let extent = || prop_oneof![10 => 0..5u32, 1 => Just(u32::MAX), 1 => Just(65_536u32)];
    let extents = move || [extent(), extent(), extent()];
    let threads = || [0..130u32, 0..4, 0..4];
    let shared =
        prop_oneof![4 => Just(0), 2 => 0..4096u32, 1 => Just(u32::MAX), 1 => Just(232_448)];
    (
        prop::option::weighted(0.2, extents()),
        prop::option::weighted(0.2, prop_oneof![4 => threads(), 1 => [0..u32::MAX, 0..4, 0..4]]),
        prop::option::weighted(0.1, prop::option::of(extents())),
        shared,
        prop::bool::weighted(0.1),
    )
        .prop_map(|(grid, block, cluster, dynamic_shared, cooperative)| Shape {
            grid,
            block,
            cluster,
            // Thousands of blocks with all the memory there is would take their time to clear it.
            dynamic_shared: if grid.is_some() { dynamic_shared.min(4096) } else { dynamic_shared },
            cooperative,
        })
}

/// The arguments of a kernel: its pointers to real buffers, and whatever else it takes.
fn arguments(machine: &Machine, entry: &Entry, input: &[u8]) -> Result<Vec<Vec<u8>>, Fault> {
    let mut arguments = Vec::new();
    for (at, parameter) in entry.parameters.iter().enumerate() {
        let size = usize::try_from(parameter.size()).unwrap_or(0).min(1 << 16);
        let mut bytes = vec![0x11; size];
        if size == 8 {
            let buffer = machine.allocate(input.len().max(8192) as u64)?;
            if at == 0 {
                machine.write(buffer, input)?;
            }
            bytes = buffer.to_le_bytes().to_vec();
        }
        arguments.push(bytes);
    }
    Ok(arguments)
}

static LAUNCHED: AtomicU64 = AtomicU64::new(0);
static ENDED: AtomicU64 = AtomicU64::new(0);

/// Loads and launches every kernel of a module.
fn run(module: &Module, seed: &Seed, shape: &Shape, options: Options) -> Result<(), Fault> {
    let machine = Machine::new(0, options);
    let loaded = machine.load(module)?;
    for entry in &module.entries {
        let Some(kernel) = loaded.kernel(&entry.name) else { continue };
        let arguments = arguments(&machine, entry, &seed.input)?;
        let arguments: Vec<&[u8]> = arguments.iter().map(Vec::as_slice).collect();
        let usual = (seed.cluster > 1).then_some([seed.cluster, 1, 1]);
        let launch = Launch {
            grid: shape.grid.unwrap_or([seed.grid, 1, 1]),
            block: shape.block.or(entry.reqntid()).unwrap_or([seed.block, 1, 1]),
            cluster: shape.cluster.unwrap_or(usual),
            dynamic_shared: shape.dynamic_shared,
            cooperative: shape.cooperative,
            arguments: &arguments,
        };
        let result = machine.launch(kernel, &launch);
        if !matches!(&result, Err(fault) if fault.kind == FaultKind::Launch) {
            LAUNCHED.fetch_add(1, Ordering::Relaxed);
        }
        let counters = result?;
        ENDED.fetch_add(1, Ordering::Relaxed);
        let _ = counters.to_string();
    }
    Ok(())
}

fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(2_000)
}

#[test]
fn damaged_kernels_run_to_an_end() {
    let config = ProptestConfig {
        cases: cases(),
        failure_persistence: None,
        max_shrink_iters: 100,
        ..ProptestConfig::default()
    };
    let given =
        (any::<prop::sample::Index>(), prop::collection::vec(damage(), 1..8), shape(), options());
    let mutants = AtomicU64::new(0);
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let result = runner.run(&given, |(seed, damages, shape, options)| {
        let seed = &SEEDS[seed.index(SEEDS.len())];
        // A changed block needs a kernel that takes it.
        let text = match shape.block {
            Some(_) => seed.text.replace(".reqntid", "//"),
            None => seed.text.clone(),
        };
        // Damage after which the text would not parse is left out.
        let text = damages.iter().fold(text, |text, damage| {
            let next = apply(&text, damage);
            if parse(&next).is_ok() { next } else { text }
        });
        let Ok(module) = parse(&text) else { return Ok(()) };
        mutants.fetch_add(u64::from(text != seed.text), Ordering::Relaxed);
        let started = Instant::now();
        if let Err(fault) = run(&module, seed, &shape, options) {
            prop_assert!(!fault.to_string().is_empty());
        }
        let took = started.elapsed();
        prop_assert!(took < Duration::from_secs(4), "{took:?} for\n{text}");
        Ok(())
    });
    let (mutants, launched) = (mutants.into_inner(), LAUNCHED.load(Ordering::Relaxed));
    println!(
        "{} cases: {mutants} mutants, {launched} launches began, {} ended well",
        cases(),
        ENDED.load(Ordering::Relaxed)
    );
    if let Err(why) = result {
        panic!("{why}");
    }
    assert!(
        mutants > u64::from(cases()) / 2,
        "only {mutants} mutants parse: the damage is too coarse"
    );
    assert!(launched > u64::from(cases()) / 4, "only {launched} mutants ran");
}
