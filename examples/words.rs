//! Counts the words of a novel with one selective scan over all its 883,028 characters.
//!
//! ```text
//! cargo run --release --example words -- --device cpu
//! ```
//!
//! What "selective" means: at every step the scan chooses what becomes of its state. Here the
//! step size is 1 at a letter, which is taken in while the earlier letters fade,
//!
//! ```text
//! h_n = a_n h_n + code(letter),   a = 0.9, 0.7, 0.5, 0.3
//! ```
//!
//! and 10,000 at every other character, where a_n^10000 is 0 and the state is forgotten. So the
//! state at a word's last letter depends on that word alone: its fingerprint. Decays of several
//! speeds tell the order of the letters; eight channels, each with letter codes of its own, keep
//! different words apart.
//!
//! The program finds words, counts them and names the twenty most frequent from fingerprints
//! alone; only their spelling is looked up in the text. Then it compares all counts with those of
//! a hash map over the text itself, and exits with 1 where they differ.
//!
//! A word is a run of the letters a to z in either case. Everything else ends it, an apostrophe
//! too: "sister's" counts as `sister` and `s`.

use std::collections::HashMap;
use std::error::Error;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use warpwright::selective_scan::{self, Inputs, Options, SelectiveScan};
use warpwright::{Device, DeviceName, Tensor};

/// Channels D: letter codes side by side.
const CHANNELS: usize = 8;

/// What remains of a letter's code one letter later, for each of the N states of a channel.
const DECAYS: [f32; 4] = [0.9, 0.7, 0.5, 0.3];

/// The step size where the state is forgotten: 0.9^10000 is 0 in f32, and so are the others.
const FORGET: f32 = 10_000.0;

/// Fingerprints closer than this belong to one word. Rounding moves them by 1e-5, different words
/// of the novel are 0.1 apart; both distances are printed.
const TOLERANCE: f32 = 0.01;

/// Codes lie between 1 and 2, four states are summed: a letter gives 4 or more, nothing gives 0.
const SOMETHING: f32 = 1.0;

const USAGE: &str = "\
Counts the words of Jane Austen's Emma with one selective scan, and checks the counts.

Usage: words [--device DEVICE]

DEVICE is cpu (the default), wgpu, wgpu:INDEX, cuda, cuda:INDEX, auto, or all: the CPU, the first
wgpu adapter (software Vulkan where there is no other) and the first CUDA device.";

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("words: {error}");
            ExitCode::from(2)
        }
    }
}

/// Whether the counts of all devices are right.
fn run() -> Result<bool, Box<dyn Error>> {
    let Some(devices) = devices()? else {
        println!("{USAGE}");
        return Ok(true);
    };
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/data/emma.txt");
    let text = std::fs::read(path).map_err(|error| format!("{path}: {error}"))?;
    let began = Instant::now();
    let expected = count_by_spelling(&text);
    let map_time = began.elapsed();
    println!(
        "Emma: {} characters, one scan of as many steps; {CHANNELS} channels x {} states",
        grouped(text.len()),
        DECAYS.len()
    );

    let mut all_equal = true;
    let mut timings = Vec::new();
    for device in devices {
        let (fingerprints, time) = scan_on(&device, &text)?;
        let counted = count_by_fingerprint(&fingerprints);
        println!("\n{}", device.name());
        all_equal &= report(&text, &counted, &expected);
        timings.push((device.name(), time));
    }

    print_timings(text.len(), &timings, map_time);
    Ok(all_equal)
}

/// Prints time and throughput; a state update is one (d, t, n).
fn print_timings(characters: usize, timings: &[(String, Duration)], map_time: Duration) {
    let map = "a plain hash map";
    let width = timings.iter().map(|(name, _)| name.len()).chain([map.len()]).max().unwrap_or(0);
    let millions = |time: Duration| characters as f64 / time.as_secs_f64() / 1e6;
    println!("\n{:width$} {:>10} {:>16} {:>18}", "", "time", "characters / s", "state updates / s");
    for (name, time) in timings {
        let rate = millions(*time);
        let updates = rate * (CHANNELS * DECAYS.len()) as f64;
        println!("{name:width$} {time:>10.1?} {rate:>14.2} M {updates:>16.2} M");
    }
    println!("{map:width$} {map_time:>10.1?} {:>14.2} M", millions(map_time));
}

/// The devices that the command line names; none where it asks for help.
fn devices() -> Result<Option<Vec<Device>>, Box<dyn Error>> {
    let mut name = "cpu".to_owned();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--help" | "-h" => return Ok(None),
            "--device" => name = arguments.next().ok_or("--device: the name is missing")?,
            other => return Err(format!("unknown argument `{other}`\n\n{USAGE}").into()),
        }
    }
    if name != "all" {
        return Ok(Some(vec![Device::open(name.parse()?)?]));
    }
    let names = [DeviceName::Cpu, DeviceName::Wgpu(None), DeviceName::Cuda(0)];
    let open = |name| Device::open(name).inspect_err(|error| println!("left out: {error}"));
    Ok(Some(names.into_iter().filter_map(|name| open(name).ok()).collect()))
}

/// The scan on a device that is known only at run time.
fn scan_on(device: &Device, text: &[u8]) -> Result<(Vec<f32>, Duration), Box<dyn Error>> {
    match device {
        Device::Cpu(cpu) => Ok(scan(cpu, text)?),
        #[cfg(feature = "wgpu")]
        Device::Wgpu(wgpu) => Ok(scan(wgpu, text)?),
        #[cfg(feature = "cuda")]
        Device::Cuda(cuda) => Ok(scan(cuda, text)?),
        other => Err(format!("{} is unknown to this program", other.name()).into()),
    }
}

/// The fingerprints (D, L) of the text, and the time that the scan took, the best of three; of
/// one on a device that takes seconds.
fn scan<B: SelectiveScan<f32>>(
    backend: &B,
    text: &[u8],
) -> warpwright::Result<(Vec<f32>, Duration)> {
    let (channels, states) = (CHANNELS, DECAYS.len());
    let sizes = [1, channels, text.len()];
    let (codes, steps) = encode(text);
    let u = Tensor::from_slice(backend, &codes, &sizes)?;
    let delta = Tensor::from_slice(backend, &steps, &sizes)?;
    let a = DECAYS.map(f32::ln).repeat(channels);
    let a = Tensor::from_slice(backend, &a, &[channels, states])?;
    let ones = Tensor::from_slice(backend, &vec![1.0f32; channels * states], &[channels, states])?;

    let inputs = Inputs::new(&u, &delta, &a, &ones, &ones);
    let options = Options::default();
    let plan = selective_scan::plan_forward(&inputs, &options)?;
    selective_scan::preload(backend, &plan)?;
    let mut outputs = selective_scan::forward(&inputs, &options)?;
    backend.synchronise()?;
    let mut best = Duration::MAX;
    for _ in 0..3 {
        let began = Instant::now();
        selective_scan::forward_into(&inputs, &options, &mut outputs.as_mut())?;
        backend.synchronise()?;
        best = best.min(began.elapsed());
        if best > Duration::from_secs(1) {
            break;
        }
    }
    Ok((outputs.out.to_vec()?, best))
}

/// The input u and the step size, (D, L) each.
fn encode(text: &[u8]) -> (Vec<f32>, Vec<f32>) {
    let codes = (0..CHANNELS).flat_map(|d| {
        text.iter().map(move |&character| letter(character).map_or(0.0, |k| code(d, k)))
    });
    let steps: Vec<f32> =
        text.iter().map(|&character| letter(character).map_or(FORGET, |_| 1.0)).collect();
    (codes.collect(), steps.repeat(CHANNELS))
}

/// 1 for a or A to 26 for z or Z.
fn letter(character: u8) -> Option<u8> {
    character.is_ascii_alphabetic().then(|| character.to_ascii_lowercase() - b'a' + 1)
}

/// The code of a letter in channel d, in [1, 2): 1 + the fraction of letter² √prime.
fn code(d: usize, letter: u8) -> f32 {
    const PRIMES: [f64; CHANNELS] = [2.0, 3.0, 5.0, 7.0, 11.0, 13.0, 17.0, 19.0];
    1.0 + (f64::from(letter).powi(2) * PRIMES[d].sqrt()).fract() as f32
}

type Fingerprint = [f32; CHANNELS];

/// The largest difference in any channel.
fn distance(x: &Fingerprint, y: &Fingerprint) -> f32 {
    x.iter().zip(y).fold(0.0, |largest, (x, y)| largest.max((x - y).abs()))
}

/// A word as the scan knows it.
struct Word {
    fingerprint: Fingerprint,
    /// Its first occurrence ends before this position.
    end: usize,
    count: usize,
}

/// What the fingerprints tell.
struct Counted {
    words: Vec<Word>,
    /// The largest distance of a fingerprint from that of its word.
    rounding: f32,
    /// The smallest distance between the fingerprints of two words.
    separation: f32,
}

/// Finds and counts words in (D, L) fingerprints, without a look at the text: a word ends where
/// the state is about to be forgotten.
fn count_by_fingerprint(fingerprints: &[f32]) -> Counted {
    let steps = fingerprints.len() / CHANNELS;
    let is_word = |t: usize| t < steps && fingerprints[t] > SOMETHING;
    // Most occurrences of a word agree in every bit.
    let mut patterns: HashMap<[u32; CHANNELS], Word> = HashMap::new();
    for t in (0..steps).filter(|&t| is_word(t) && !is_word(t + 1)) {
        let fingerprint: Fingerprint = std::array::from_fn(|d| fingerprints[d * steps + t]);
        let fresh = Word { fingerprint, end: t + 1, count: 0 };
        patterns.entry(fingerprint.map(f32::to_bits)).or_insert(fresh).count += 1;
    }
    // Those that differ by rounding alone lie within the tolerance.
    let mut patterns: Vec<Word> = patterns.into_values().collect();
    patterns.sort_by(|x, y| x.fingerprint[0].total_cmp(&y.fingerprint[0]));
    let mut words: Vec<Word> = Vec::new();
    let mut rounding = 0.0f32;
    for pattern in patterns {
        let same = words
            .iter_mut()
            .rev()
            .take_while(|word| pattern.fingerprint[0] - word.fingerprint[0] <= TOLERANCE)
            .find(|word| distance(&word.fingerprint, &pattern.fingerprint) <= TOLERANCE);
        match same {
            Some(word) => {
                rounding = rounding.max(distance(&word.fingerprint, &pattern.fingerprint));
                word.end = word.end.min(pattern.end);
                word.count += pattern.count;
            }
            None => words.push(pattern),
        }
    }
    let separation = separation(&words);
    Counted { words, rounding, separation }
}

/// The smallest distance between two words, which come in the order of their first channel.
fn separation(words: &[Word]) -> f32 {
    let mut smallest = f32::INFINITY;
    for (i, word) in words.iter().enumerate() {
        for other in &words[i + 1..] {
            if other.fingerprint[0] - word.fingerprint[0] >= smallest {
                break;
            }
            smallest = smallest.min(distance(&word.fingerprint, &other.fingerprint));
        }
    }
    smallest
}

/// The plain way.
fn count_by_spelling(text: &[u8]) -> HashMap<String, usize> {
    let mut counts = HashMap::new();
    for word in text.split(|&character| letter(character).is_none()) {
        if !word.is_empty() {
            *counts.entry(spelling(word)).or_insert(0) += 1;
        }
    }
    counts
}

fn spelling(word: &[u8]) -> String {
    String::from_utf8_lossy(word).to_lowercase()
}

/// Prints what was counted beside what was expected; whether all of it is equal.
fn report(text: &[u8], counted: &Counted, expected: &HashMap<String, usize>) -> bool {
    let mut words: Vec<(String, usize)> = counted
        .words
        .iter()
        .map(|word| {
            let letters = text[..word.end].rsplit(|&character| letter(character).is_none());
            (letters.take(1).map(spelling).collect(), word.count)
        })
        .collect();
    words.sort_by(|(x, x_count), (y, y_count)| y_count.cmp(x_count).then_with(|| x.cmp(y)));

    println!("{:>6}  {:<8} {:>9} {:>9}", "", "word", "scan", "hash map");
    for (rank, (word, count)) in words.iter().take(20).enumerate() {
        let right = expected.get(word).copied().unwrap_or(0);
        println!("{:>6}  {word:<8} {:>9} {:>9}", rank + 1, grouped(*count), grouped(right));
    }
    let total = |counts: &mut dyn Iterator<Item = usize>| grouped(counts.sum());
    let (distinct, right) = (grouped(words.len()), grouped(expected.len()));
    println!("{:>6}  {:<8} {distinct:>9} {right:>9}", "", "distinct");
    let occurrences = total(&mut words.iter().map(|&(_, count)| count));
    let right = total(&mut expected.values().copied());
    println!("{:>6}  {:<8} {occurrences:>9} {right:>9}", "", "all");
    let rounding = match counted.rounding {
        0.0 => "agree in every bit".to_owned(),
        rounding => format!("differ by at most {rounding:.0e}"),
    };
    println!(
        "Fingerprints of one word {rounding}, those of different words differ by at least {:.2}.",
        counted.separation
    );

    // Equal lengths as well: a word that was split would stand in the list twice.
    let wrong: Vec<&(String, usize)> =
        words.iter().filter(|(word, count)| expected.get(word) != Some(count)).collect();
    let equal = wrong.is_empty() && words.len() == expected.len();
    match (equal, wrong.first()) {
        (true, _) => println!("Every count is that of the hash map."),
        (false, Some((word, count))) => {
            let right = expected.get(word).copied().unwrap_or(0);
            println!("WRONG: {} counts differ, as of `{word}`: {count}, not {right}.", wrong.len());
        }
        (false, None) => println!("WRONG: another number of distinct words."),
    }
    equal
}

/// A number with commas between thousands.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}
