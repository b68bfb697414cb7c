//! A roofline: the counted work of every unit over its rate.
//!
//! A unit of the multiprocessors takes work / rate clocks. Blocks are dealt out evenly, so the busiest
//! multiprocessor has ⌈blocks / SMs⌉ of them and sets the time; memory is one unit for all. The estimate is the
//! longest of these times, a bound from below: it knows no latency, no launch overhead and no dependency.
//!
//! In one respect it may lie above the truth: every sector is taken to come from device memory, since what the
//! caches hold is not counted; [`Unit::least`] of memory counts a byte again for every request. Global atomics,
//! barriers and the first-level cache have no rate of their own here.

use std::collections::BTreeMap;
use std::fmt;

use super::columns::Columns;
use super::{Class, Counters, Gpu, Line, Occupancy, Rates};

/// What a unit takes for its part.
#[derive(Debug, Clone, PartialEq)]
pub struct Unit {
    /// `memory`, `issue`, `shared`, `cluster` or the name of a [`Class`].
    pub name: String,
    /// Time for the counted work.
    pub seconds: f64,
    /// Time for the part of it that cannot be spared: the bytes that lanes asked for, no bank conflicts, no lane
    /// of a warp switched off.
    pub least: f64,
}

/// What a launch, or several in a row, take on a machine at least.
#[derive(Debug, Clone, PartialEq)]
pub struct Estimate {
    /// The machine.
    pub gpu: &'static str,
    /// What bounds it first, then the others; units without work are left out.
    pub units: Vec<Unit>,
    /// Occupancy of the last launch.
    pub occupancy: Occupancy,
    /// How often the last launch fills the machine: blocks / (SMs × blocks per SM). Above 1 the last wave is as
    /// long as a full one.
    pub waves: f64,
    /// Work per multiprocessor on average over that of the busiest; 1 is even.
    pub balance: f64,
}

/// Why there is no estimate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoEstimate {
    /// Nothing ran.
    #[error("no block of the kernel was launched")]
    Nothing,
    /// The machine cannot hold a block.
    #[error("a block does not fit a multiprocessor of {gpu}: too few {}", .limit)]
    TooLarge {
        /// The machine.
        gpu: &'static str,
        /// What it has too little of.
        limit: super::Limit,
    },
    /// The machine has no such instruction.
    #[error("{gpu} has no {class}")]
    Lacks {
        /// The machine.
        gpu: &'static str,
        /// What the kernel uses.
        class: Class,
    },
}

impl Estimate {
    /// The estimate for what `counters` hold on `gpu`; without the registers of a thread, they do not limit.
    ///
    /// # Errors
    ///
    /// If nothing was launched, or the machine cannot run it.
    pub fn of(
        counters: &Counters,
        registers: Option<u32>,
        gpu: &'static Gpu,
    ) -> Result<Self, NoEstimate> {
        let sms = u64::from(gpu.sms);
        let blocks: u64 = counters.launches.iter().map(super::Launch::blocks).sum();
        let last = counters.launches.last().filter(|_| blocks > 0).ok_or(NoEstimate::Nothing)?;
        for launch in &counters.launches {
            let occupancy = Occupancy::of(launch, registers, gpu);
            if occupancy.blocks == 0 {
                return Err(NoEstimate::TooLarge { gpu: gpu.name, limit: occupancy.limit });
            }
        }
        let occupancy = Occupancy::of(last, registers, gpu);
        let busiest: u64 =
            counters.launches.iter().map(|launch| launch.blocks().div_ceil(sms)).sum();
        let share = busiest as f64 / blocks as f64;
        let per_clock = share / gpu.clock;
        let mut units: Vec<Unit> = clocks(counters, gpu)?
            .into_iter()
            .map(|(name, [taken, least])| Unit {
                name,
                seconds: taken * per_clock,
                least: least * per_clock,
            })
            .chain(transfers(counters, gpu)?)
            .filter(|unit| unit.seconds > 0.0)
            .collect();
        units.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
        Ok(Self {
            gpu: gpu.name,
            units,
            occupancy,
            waves: last.blocks() as f64 / (sms * u64::from(occupancy.blocks)) as f64,
            balance: 1.0 / (share * f64::from(gpu.sms)),
        })
    }

    /// The unit that takes longest.
    pub fn bound(&self) -> Option<&Unit> {
        self.units.first()
    }

    /// The time that it takes: what the launch takes at least.
    pub fn seconds(&self) -> f64 {
        self.bound().map_or(0.0, |unit| unit.seconds)
    }

    /// The unit of this name.
    pub fn unit(&self, name: &str) -> Option<&Unit> {
        self.units.iter().find(|unit| unit.name == name)
    }
}

/// Clocks that one multiprocessor would take for all the work, unit by unit: taken, and least.
fn clocks(
    counters: &Counters,
    gpu: &'static Gpu,
) -> Result<BTreeMap<String, [f64; 2]>, NoEstimate> {
    let mut clocks = BTreeMap::new();
    let mut spend = |name: String, taken: f64, least: f64| {
        let sum = clocks.entry(name).or_insert([0.0; 2]);
        *sum = [sum[0] + taken, sum[1] + least];
    };
    for line in counters.all().iter().filter(|line| line.tally.warps > 0) {
        let rounds = line.rounds() as f64;
        let full = line.tally.threads as f64 / 32.0;
        let slots = f64::from(line.cost.slots) / Rates::ISSUE;
        spend("issue".into(), rounds * slots, full * slots);
        let tally = line.tally;
        spend("shared".into(), tally.wavefronts as f64, tally.least_wavefronts as f64);
        if let Some(each) = unit_clocks(line, gpu)? {
            spend(line.class.to_string(), rounds * each, full * each);
        }
    }
    Ok(clocks)
}

/// Clocks of the instruction's own unit for one warp.
fn unit_clocks(line: &Line, gpu: &'static Gpu) -> Result<Option<f64>, NoEstimate> {
    if line.products > 0 {
        let rate = gpu.rates.products(line.class);
        let rate = rate.ok_or(NoEstimate::Lacks { gpu: gpu.name, class: line.class })?;
        return Ok(Some(line.products as f64 / rate));
    }
    let rate = gpu.rates.of(line.class);
    Ok(rate.map(|rate| 32.0 * f64::from(line.cost.passes) / rate))
}

/// The units that all multiprocessors share.
fn transfers(counters: &Counters, gpu: &'static Gpu) -> Result<[Unit; 2], NoEstimate> {
    let total = counters.total();
    let remote = total.cluster_bytes as f64;
    let cluster = match gpu.cluster_bandwidth {
        Some(bandwidth) => remote / bandwidth,
        None if remote > 0.0 => {
            return Err(NoEstimate::Lacks { gpu: gpu.name, class: Class::Cluster });
        }
        None => 0.0,
    };
    let time = |bytes: u64| bytes as f64 / gpu.bandwidth;
    Ok([
        Unit {
            name: "memory".into(),
            seconds: time(total.global_bytes()),
            least: time(total.useful_bytes()),
        },
        Unit { name: "cluster".into(), seconds: cluster, least: cluster },
    ])
}

impl fmt::Display for Estimate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.bound().map_or("nothing", |unit| &unit.name);
        let micro = |seconds: f64| format!("{:.2}", seconds * 1e6);
        writeln!(
            formatter,
            "{}: at least {} us, bound by {name}\n\
             a multiprocessor holds {} warps (limit: {}); {:.2} waves, {:.0} % balanced\n",
            self.gpu,
            micro(self.seconds()),
            self.occupancy.warps,
            self.occupancy.limit,
            self.waves,
            100.0 * self.balance,
        )?;
        let header = ["unit", "us", "of the bound", "least us"];
        let mut columns = Columns::new(header, [true, false, false, false]);
        for unit in &self.units {
            columns.push([
                unit.name.clone(),
                micro(unit.seconds),
                format!("{:.0} %", 100.0 * unit.seconds / self.seconds()),
                micro(unit.least),
            ]);
        }
        write!(formatter, "{columns}")
    }
}
