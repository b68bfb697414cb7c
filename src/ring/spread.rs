//! A call whose whole tensors lie with the first rank: it tells the others what is to be done, sends
//! them their shards, and collects what they give. Made of messages alone, so that every engine has
//! it.

use std::time::Duration;

use super::named::{OfAll, OfRank, check, has_bias, run_rank};
use super::request::Request;
use super::{CHECK, NAME, Ring, refuse, whole};
use crate::Result;
use crate::attention::Layout;
use crate::backend::{Cpu, Device, Named, dispatch};
use crate::collective::{Communicator, Lane, Parcel, Tag};
use crate::element::DType;
use crate::operation::{Ran, Settings};
use crate::tensor::View;

/// The messages of this module, as their tags name them.
const CALL: u64 = u64::from_le_bytes(*b"spreaded");

/// Runs a call over a communicator of ranks on the CPU. The first rank gives the whole tensors, under
/// the names of files, and the options, and is given the outputs of the whole sequence; the others
/// give and are given nothing.
///
/// ```
/// use warpwright::collective::{Communicator, Local};
/// use warpwright::operation::Settings;
/// use warpwright::{Cpu, Named, Tensor, ring};
///
/// // Keys that are all alike: every query has the mean of all values.
/// let ones = Tensor::from_vec(vec![1.0f32; 4], &[1, 4, 1, 1])?.into_view();
/// let v = Tensor::from_vec(vec![1.0f32, 2.0, 3.0, 6.0], &[1, 4, 1, 1])?.into_view();
/// let tensors: Named<Cpu> = [("q", &ones), ("k", &ones), ("v", &v)]
///     .map(|(name, view)| (name.to_owned(), view.clone()))
///     .into();
/// let call = (&tensors, &Settings::default());
/// let mut ends = Local::<Cpu>::run(2, |ranks| {
///     ring::run_over(&ranks, (ranks.rank() == 0).then_some(call))
/// });
/// assert!(ends.remove(1)?.is_none());
/// let ran = ends.remove(0)?.expect("the first rank has the outputs");
/// let out: Tensor<Cpu, f32> = ran.outputs["out"].typed()?;
/// assert_eq!(out.to_vec()?, [3.0; 4]);
/// assert_eq!(ran.metadata["bytes_sent"], "16,16");
/// # Ok::<(), warpwright::Error>(())
/// ```
///
/// # Errors
///
/// As [`check_over`] and those of the ring's passes. What the first rank alone finds wrong is told
/// to the others.
pub fn run_over<C: Communicator<Cpu>>(
    ranks: &C,
    whole: Option<(&Named<Cpu>, &Settings)>,
) -> Result<Option<Ran>> {
    let ran = run(ranks, whole);
    ran.inspect_err(|error| {
        if !matches!(error, crate::Error::Communication { .. }) {
            ranks.abort(&error.to_string());
        }
    })
}

/// Checks all that the first rank can tell of a call over so many ranks.
///
/// # Errors
///
/// What does not fit, and what rings do not have.
pub fn check_over(named: &Named<Cpu>, settings: &Settings, ranks: usize) -> Result<()> {
    let mut request = Request::from_settings(settings)?;
    if let Some(asked) = request.ranks.filter(|&asked| asked != ranks) {
        let expected = format!("{ranks}, as many as the job has");
        return Err(CHECK.wrong_option("ranks", &expected, &asked.to_string()));
    }
    request.ranks = Some(ranks);
    let problem = check(named, &request)?;
    request.check_ability()?;
    refuse("cpu", has_bias(named), problem.sequences.is_some(), &request.options)
}

fn run<C: Communicator<Cpu>>(
    ranks: &C,
    whole: Option<(&Named<Cpu>, &Settings)>,
) -> Result<Option<Ran>> {
    let whole = whole.filter(|_| ranks.rank() == 0);
    if let Some((named, settings)) = whole {
        check_over(named, settings, ranks.size())?;
    }
    let told = whole.map(|(named, settings)| Outline::new(named, settings).to_text());
    let said = ranks.gather_bytes(told.unwrap_or_default().as_bytes())?;
    let outline = Outline::read(&String::from_utf8_lossy(&said[0]));
    let request = Request::from_settings(&outline.settings)?;
    let layout = request.options.layout;
    let ring = request.ring(outline.tokens(layout), ranks.size())?;
    let shard = match whole {
        Some((named, _)) => send_shards(ranks, named, &ring, layout)?,
        None => receive_shard(ranks, &outline, &ring, layout)?,
    };
    let dtype = shard["q"].dtype();
    let own = dispatch!(NAME, &Device::Cpu(Cpu), dtype, |_cpu, T| {
        run_rank::<Cpu, T, C>(ranks, &shard, &ring, &request.options)
    })?;
    let all = collect(ranks, own, &ring, layout)?;
    let Some((named, _)) = whole else { return Ok(None) };
    let problem = check(named, &request)?;
    all.ran(&ring, &problem, &request.options).map(Some)
}

/// What a call is, without the contents of its tensors.
struct Outline {
    settings: Settings,
    tensors: Vec<(String, DType, Vec<usize>)>,
}

impl Outline {
    fn new(named: &Named<Cpu>, settings: &Settings) -> Self {
        let tensor = |(name, view): (&String, &View<Cpu>)| {
            (name.clone(), view.dtype(), view.shape().to_vec())
        };
        Self { settings: settings.clone(), tensors: named.iter().map(tensor).collect() }
    }

    /// A line for each option, and one for each tensor. No option that makes sense has a line's
    /// end in it.
    fn to_text(&self) -> String {
        let mut lines = Vec::new();
        let options = self.settings.options.iter();
        lines.extend(options.map(|(key, value)| format!("option {key} {}", value.trim())));
        lines.extend(self.settings.variant.iter().map(|name| format!("variant {name}")));
        for (name, dtype, shape) in &self.tensors {
            let shape: Vec<String> = shape.iter().map(usize::to_string).collect();
            lines.push(format!("tensor {name} {} {}", dtype.name(), shape.join(",")));
        }
        lines.join("\n")
    }

    fn read(text: &str) -> Self {
        let mut outline = Self { settings: Settings::default(), tensors: Vec::new() };
        for line in text.lines() {
            let (kind, rest) = line.split_once(' ').unwrap_or((line, ""));
            let (name, rest) = rest.split_once(' ').unwrap_or((rest, ""));
            match kind {
                "option" => {
                    outline.settings.options.insert(name.to_owned(), rest.to_owned());
                }
                "variant" => outline.settings.variant = Some(name.to_owned()),
                _ => {
                    let (dtype, shape) = rest.split_once(' ').unwrap_or((rest, ""));
                    let shape = shape.split(',').filter_map(|length| length.parse().ok());
                    let dtype = DType::ALL.into_iter().find(|one| one.name() == dtype);
                    let tensor = dtype.map(|dtype| (name.to_owned(), dtype, shape.collect()));
                    outline.tensors.extend(tensor);
                }
            }
        }
        outline
    }

    /// Queries and keys of the whole sequences.
    fn tokens(&self, layout: Layout) -> [usize; 2] {
        let axis = if layout == Layout::Bshd { 1 } else { 2 };
        ["q", "k"].map(|name| {
            let tensor = self.tensors.iter().find(|(known, ..)| known == name);
            tensor.and_then(|(.., shape)| shape.get(axis)).copied().unwrap_or(0)
        })
    }
}

fn tag(step: u32) -> Tag {
    Tag { call: CALL, step, lane: Lane(0) }
}

/// The tensors of a peer, unless there is nothing in them.
fn parcel(peer: usize, tensors: &Named<Cpu>) -> Option<Parcel<Cpu>> {
    let parts = tensors.values().filter(|view| view.elements() > 0).cloned().collect();
    let parcel = Parcel { peer, parts };
    (parcel.bytes() > 0).then_some(parcel)
}

/// Sends every other rank its shard; the own one stays.
fn send_shards<C: Communicator<Cpu>>(
    ranks: &C,
    named: &Named<Cpu>,
    ring: &Ring,
    layout: Layout,
) -> Result<Named<Cpu>> {
    let mut shards = whole::scatter(named, ring, layout)?;
    let others = shards.iter().enumerate().skip(1);
    let sends = others.filter_map(|(peer, shard)| parcel(peer, shard)).collect();
    ranks.wait(ranks.post(tag(0), sends, Vec::new())?)?;
    Ok(shards.swap_remove(0))
}

fn receive_shard<C: Communicator<Cpu>>(
    ranks: &C,
    outline: &Outline,
    ring: &Ring,
    layout: Layout,
) -> Result<Named<Cpu>> {
    let mut shard = Named::new();
    for (name, dtype, shape) in &outline.tensors {
        let cut = whole::cut_of(name, ring, layout);
        let shape = whole::shape_of_rank(shape, cut, ranks.rank());
        shard.insert(name.clone(), View::new(&Cpu, *dtype, &shape)?);
    }
    let receives = parcel(0, &shard).into_iter().collect();
    ranks.wait(ranks.post(tag(0), Vec::new(), receives)?)?;
    Ok(shard)
}

/// Brings what all ranks gave to the first; elsewhere it is that of the rank alone.
fn collect<C: Communicator<Cpu>>(
    ranks: &C,
    own: OfRank,
    ring: &Ring,
    layout: Layout,
) -> Result<OfAll> {
    let numbers = [own.sent, own.elapsed.map(|time| time.as_nanos() as u64)].concat();
    let numbers: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
    let said = ranks.gather_bytes(&numbers)?;
    if ranks.rank() > 0 {
        let sends = parcel(0, &own.outputs).into_iter().collect();
        ranks.wait(ranks.post(tag(1), sends, Vec::new())?)?;
        return Ok(OfAll(vec![own]));
    }
    let of_rank = |(rank, numbers): (usize, &Vec<u8>)| -> Result<OfRank> {
        let number = |i: usize| {
            let bytes = numbers.chunks_exact(8).nth(i).and_then(|bytes| bytes.try_into().ok());
            u64::from_le_bytes(bytes.unwrap_or_default())
        };
        let mut outputs = Named::new();
        for (name, view) in &own.outputs {
            let cut = whole::cut_of(name, ring, layout);
            let shape = whole::shape_of_rank(view.shape(), cut, rank);
            outputs.insert(name.clone(), View::new(&Cpu, view.dtype(), &shape)?);
        }
        let elapsed = [number(2), number(3)].map(Duration::from_nanos);
        Ok(OfRank { outputs, sent: [number(0), number(1)], elapsed })
    };
    let others = said.iter().enumerate().skip(1).map(of_rank);
    let others: Vec<OfRank> = others.collect::<Result<_>>()?;
    let receives = others.iter().zip(1..).filter_map(|(rank, peer)| parcel(peer, &rank.outputs));
    ranks.wait(ranks.post(tag(1), Vec::new(), receives.collect())?)?;
    let all: Vec<OfRank> = [vec![own], others].concat();
    Ok(OfAll(all))
}
