//! The plan of WebGPU devices.
//!
//! There is no variant that sums y by subgroup operations, because it would gain nothing. With k
//! lanes to a channel, each step costs an invocation one store of its part of y, and later one
//! load and one addition, among some four operations and an exponential for each of its states;
//! a sum by shuffles costs log2(k) shuffles and as many additions instead, and WGSL does not
//! promise that neighbouring invocations lie in one subgroup, so that it would need the other
//! path as well.

use super::{Plan, Schedule};
use crate::backend::Limits;
use crate::backend::kernel::VariantInfo;
use crate::selective_scan::kernels::{ForwardChunkedWgsl, ForwardDirectWgsl, ForwardSerialWgsl};
use crate::selective_scan::{NAME, Options, Problem};
use crate::variant::no_such_variant;
use crate::{Error, Result};

mod backward;
pub(in crate::selective_scan) use backward::{Cut, Rooms, wgpu_backward};

/// Storage buffers that a device must allow before small tensors get bindings of their own. The
/// kernel needs 13; devices offer 8, 10, or 16 and more.
const DIRECT_BINDINGS: u32 = 16;

/// Invocations that fill a hardware device: WebGPU does not tell how many units there are, so
/// this is what a large one needs, 132 units of 256.
const FULL: u64 = 132 * 256;

/// Invocations that keep a core of a software device busy: two workgroups.
const FULL_PER_CORE: u64 = 128;

/// Steps of a chunk are a multiple of this, which is a multiple of every kernel's tile.
const CHUNK_UNIT: u64 = 64;

/// Below this many steps a chunk costs more than it brings, and a row is not worth cutting.
const LEAST_CHUNK: u64 = 256;

/// Steps that one dispatch may walk. A longer row goes in several, so that no dispatch runs into
/// the watchdog of a desktop. Software devices walk less: lavapipe counts the iterations of all
/// loops of an invocation and leaves them, wherever they are, after 65,535; a step takes up to 8.
pub(in crate::selective_scan) fn segment(limits: &Limits) -> u64 {
    if limits.units == 0 { 1 << 16 } else { 1 << 12 }
}

/// Chooses the kernel and the schedule for a WebGPU device.
pub(in crate::selective_scan) fn wgpu(
    problem: &Problem,
    limits: &Limits,
    options: &Options,
    device: &str,
) -> Result<Plan> {
    let kernels = Kernels::fitting(problem, limits);
    if kernels.serial.is_empty() {
        return Err(no_room(limits, device));
    }
    let choice = match options.forward_variant() {
        Some(asked) => kernels.named(&asked, device)?,
        None => kernels.best(problem, limits),
    };
    let lanes = u64::from(choice.spread.lanes());
    let chunk = chunk(problem, limits, lanes);
    let lines = (problem.rows * problem.channels) as u64;
    let (schedule, reason) = match (choice.chunked, choice.forced) {
        (true, forced) => (
            Schedule::Chunked { chunk: u32::try_from(chunk).unwrap_or(u32::MAX) },
            match forced {
                true => "the variant was asked for".to_owned(),
                false => format!(
                    "{lines} channels of all rows do not fill the device, but {} steps can be cut",
                    problem.steps
                ),
            },
        ),
        (false, true) => (Schedule::Serial, "the variant was asked for".to_owned()),
        (false, false) if lines * lanes >= full(limits) => {
            (Schedule::Serial, format!("{lines} channels of all rows fill the device"))
        }
        (false, false) => {
            (Schedule::Serial, format!("{} steps are too few to be cut into chunks", problem.steps))
        }
    };
    let chunks = match schedule {
        Schedule::Serial => 1,
        Schedule::Chunked { chunk } => (problem.steps as u64).div_ceil(u64::from(chunk)).max(1),
    };
    let workgroups = workgroups(problem, choice.spread, chunks);
    Ok(Plan {
        variant: choice.spread.info.name,
        schedule,
        blocks: crate::backend::wgpu::folded(workgroups, limits.grid).unwrap_or(limits.grid),
        workspace: workspace(problem, chunks, choice.direct),
        reason,
    })
}

/// The device allows less than every WebGPU device does.
fn no_room(limits: &Limits, device: &str) -> Error {
    Error::Unsupported {
        operation: NAME,
        backend: device.to_owned(),
        what: format!(
            "kernels of 64 invocations and 16 KiB: it allows {} and {} bytes",
            limits.block_threads, limits.shared_bytes
        ),
        instead: "use `cpu`".to_owned(),
    }
}

/// Every variant that fits, the plan's own first.
pub(in crate::selective_scan) fn wgpu_variants(
    problem: &Problem,
    limits: &Limits,
    options: &Options,
    device: &str,
) -> Result<Vec<&'static str>> {
    let planned = wgpu(problem, limits, options, device)?.variant;
    let kernels = Kernels::fitting(problem, limits);
    let others = kernels.all().map(|(one, _)| one.info.name).filter(|&name| name != planned);
    Ok(std::iter::once(planned).chain(others).collect())
}

/// Workgroups of a scan over `chunks` spans of time.
fn workgroups(problem: &Problem, spread: Spread, chunks: u64) -> u64 {
    let tiles = (problem.group_channels() as u64).div_ceil(u64::from(spread.channels()));
    problem.rows as u64 * problem.groups as u64 * tiles * chunks
}

/// Invocations that fill the device.
fn full(limits: &Limits) -> u64 {
    if limits.units == 0 { FULL } else { u64::from(limits.units) * FULL_PER_CORE }
}

/// Whether cutting time pays: the serial schedule leaves half of the device idle, and there is
/// time to cut. The first pass costs as much as the scan, so less would not do.
fn worth_cutting(problem: &Problem, limits: &Limits, lanes: u64) -> bool {
    let invocations = (problem.rows * problem.channels) as u64 * lanes;
    invocations * 4 <= full(limits) && problem.steps as u64 >= 2 * LEAST_CHUNK
}

/// Steps of a chunk, so that the chunks of all channels just fill the device and the states
/// between them fit in half a binding.
fn chunk(problem: &Problem, limits: &Limits, lanes: u64) -> u64 {
    let invocations = ((problem.rows * problem.channels) as u64 * lanes).max(1);
    let filling = full(limits).div_ceil(invocations);
    let rows = if problem.packed { problem.rows as u64 } else { 1 };
    let state_bytes = 4 * (problem.states as u64 + 1) * rows * problem.channels as u64;
    let fitting = (limits.binding_bytes / 2).checked_div(state_bytes).unwrap_or(u64::MAX);
    let chunks = filling.min(fitting).max(1);
    let steps = (problem.steps as u64).div_ceil(chunks).next_multiple_of(CHUNK_UNIT);
    steps.clamp(CHUNK_UNIT, segment(limits))
}

/// Bytes of scratch and workspace, as if every optional tensor were there.
fn workspace(problem: &Problem, chunks: u64, direct: bool) -> u64 {
    let &Problem { channels, states, steps, rows, .. } = problem;
    let (channels, states, rows) = (channels as u64, states as u64, rows as u64);
    let state = rows * channels * states;
    let positions = if problem.packed { rows + 1 } else { rows * steps as u64 };
    let carries = if chunks > 1 { rows * channels * chunks * (states + 1) } else { state };
    let copied = match direct {
        true => 0,
        false => {
            let saved = if problem.save { problem.checkpoints() as u64 } else { 0 };
            channels * (states + 2) + 2 * state + rows * channels * saved * states
        }
    };
    4 * (positions + carries + copied)
}

/// How a kernel spreads states over invocations.
#[derive(Clone, Copy, Debug)]
pub(in crate::selective_scan) struct Spread {
    /// The variant.
    pub info: &'static VariantInfo,
}

impl Spread {
    fn number(self, name: &str) -> u32 {
        // The table gives the number to every variant of these entries; a test reads them all.
        self.info.number(name).unwrap_or(1)
    }

    /// States in an invocation.
    fn states(self) -> u32 {
        self.number("states")
    }

    /// Invocations that share a channel.
    pub(in crate::selective_scan) fn lanes(self) -> u32 {
        self.number("lanes")
    }

    /// Channels of a workgroup.
    pub(in crate::selective_scan) fn channels(self) -> u32 {
        self.info.block[0] / self.lanes()
    }

    /// States of a channel.
    pub(in crate::selective_scan) fn capacity(self) -> u32 {
        self.states() * self.lanes()
    }

    /// Whether the kernel can run this problem on this device.
    fn fits(self, problem: &Problem, limits: &Limits) -> bool {
        self.info.parameter("element") == Some(problem.dtype.name())
            && self.capacity() as usize >= problem.states
            && self.info.block[0] <= limits.block_threads
            && self.info.shared_bytes <= limits.shared_bytes
    }

    /// Whether two kernels of different entries are made for the same tensors and spread alike.
    pub(in crate::selective_scan) fn matches(self, other: &VariantInfo) -> bool {
        ["element", "states", "lanes"]
            .iter()
            .all(|name| self.info.parameter(name) == other.parameter(name))
    }
}

/// The kernels that can run a problem on a device.
struct Kernels {
    serial: Vec<Spread>,
    direct: Vec<Spread>,
    chunked: Vec<Spread>,
}

/// The kernel that was chosen.
#[derive(Clone, Copy, Debug)]
struct Choice {
    spread: Spread,
    chunked: bool,
    direct: bool,
    forced: bool,
}

impl Kernels {
    /// Those of the least capacity that holds the states: more would only idle.
    fn fitting(problem: &Problem, limits: &Limits) -> Self {
        let fitting = |infos: &mut dyn Iterator<Item = &'static VariantInfo>| {
            let spreads = infos.map(|info| Spread { info });
            let mut all: Vec<Spread> = spreads.filter(|one| one.fits(problem, limits)).collect();
            let least = all.iter().map(|one| one.capacity()).min();
            all.retain(|one| Some(one.capacity()) == least);
            all
        };
        Self {
            serial: fitting(&mut ForwardSerialWgsl::VARIANTS.iter().map(|one| one.info)),
            direct: match binds_directly(limits) {
                true => fitting(&mut ForwardDirectWgsl::VARIANTS.iter().map(|one| one.info)),
                false => Vec::new(),
            },
            chunked: fitting(&mut ForwardChunkedWgsl::VARIANTS.iter().map(|one| one.info)),
        }
    }

    /// All of them, and whether they begin a chunked schedule.
    fn all(&self) -> impl Iterator<Item = (Spread, bool)> + '_ {
        let lists = [(&self.direct, false), (&self.serial, false), (&self.chunked, true)];
        lists.into_iter().flat_map(|(list, chunked)| list.iter().map(move |&one| (one, chunked)))
    }

    fn named(&self, asked: &str, device: &str) -> Result<Choice> {
        let found = self.all().find(|(spread, _)| spread.info.name == asked);
        let Some((spread, chunked)) = found else {
            let names = self.all().map(|(spread, _)| spread.info.name);
            return Err(no_such_variant(NAME, device.to_owned(), asked, names));
        };
        let direct = if chunked { !self.direct.is_empty() } else { is_direct(spread.info) };
        Ok(Choice { spread, chunked, direct, forced: true })
    }

    /// Few lanes where there are enough channels for all invocations, many where there are not.
    fn best(&self, problem: &Problem, limits: &Limits) -> Choice {
        let direct = !self.direct.is_empty();
        let scans = if direct { &self.direct } else { &self.serial };
        let lines = (problem.rows * problem.channels) as u64;
        let key = |one: &&Spread| {
            let lanes = one.lanes();
            // Software runs the lanes of a channel one after the other: few of them, unless they
            // would belong to no channel.
            let enough = lines >= full(limits) || limits.units != 0;
            let few = enough && problem.group_channels() >= one.channels() as usize;
            if few { lanes } else { u32::MAX - lanes }
        };
        // `wgpu` has checked that there is a serial kernel, and the direct ones are as many.
        let spread = *scans.iter().min_by_key(key).unwrap_or(&self.serial[0]);
        let chunked = self.chunked.iter().find(|one| one.matches(spread.info));
        match chunked.filter(|_| worth_cutting(problem, limits, u64::from(spread.lanes()))) {
            Some(&spread) => Choice { spread, chunked: true, direct, forced: false },
            None => Choice { spread, chunked: false, direct, forced: false },
        }
    }
}

/// Whether the device allows a binding for every small tensor.
pub(in crate::selective_scan) fn binds_directly(limits: &Limits) -> bool {
    limits.storage_bindings >= DIRECT_BINDINGS
}

/// Whether the kernel has a binding for every small tensor.
fn is_direct(info: &VariantInfo) -> bool {
    info.parameter("direct") == Some("true")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::element::DType;
    use crate::selective_scan::Layout;

    pub(super) fn problem(rows: usize, channels: usize, steps: usize, states: usize) -> Problem {
        Problem {
            batch: rows,
            channels,
            steps,
            states,
            groups: 1,
            rows,
            layout: Layout::Bdl,
            dtype: DType::F32,
            a_per_channel: false,
            b_constant: false,
            c_constant: false,
            packed: false,
            save: false,
        }
    }

    pub(super) fn limits(storage_bindings: u32, units: u32) -> Limits {
        Limits { storage_bindings, ..Limits::of_webgpu(units) }
    }

    fn planned(problem: &Problem, limits: &Limits) -> Plan {
        wgpu(problem, limits, &Options::default(), "wgpu").unwrap()
    }

    #[test]
    fn the_least_kernel_that_holds_the_states_is_chosen() {
        let shape = |states| {
            let plan = planned(&problem(32, 2048, 100, states), &limits(8, 0));
            plan.variant.strip_prefix("selective_scan_forward_serial_wgsl_f32_").unwrap()
        };
        let expected = [
            (0, "1x1"),
            (1, "1x1"),
            (2, "4x1"),
            (4, "4x1"),
            (5, "8x1"),
            (9, "16x1"),
            (16, "16x1"),
            (17, "16x2"),
            (64, "16x4"),
            (100, "16x8"),
            (129, "16x16"),
            (256, "16x16"),
        ];
        for (states, name) in expected {
            assert_eq!(shape(states), name, "N = {states}");
        }
    }

    #[test]
    fn more_lanes_share_a_channel_where_channels_are_few() {
        let plan = planned(&problem(1, 64, 100, 16), &limits(8, 0));
        assert!(plan.variant.ends_with("4x4"), "{}", plan.variant);
        let plan = planned(&problem(1, 64, 100, 16), &limits(8, 2));
        assert!(plan.variant.ends_with("16x1"), "{}", plan.variant);
        let groups = Problem { groups: 64, ..problem(1, 64, 100, 16) };
        let plan = planned(&groups, &limits(8, 2));
        assert!(plan.variant.ends_with("4x4"), "{}", plan.variant);
    }

    #[test]
    fn small_tensors_are_bound_directly_where_the_device_allows_it() {
        let plan = planned(&problem(8, 64, 100, 16), &limits(16, 0));
        assert!(plan.variant.contains("_direct_"), "{}", plan.variant);
        assert!(plan.workspace < planned(&problem(8, 64, 100, 16), &limits(8, 0)).workspace);
    }

    #[test]
    fn long_rows_of_few_channels_are_cut() {
        let plan = planned(&problem(1, 64, 1 << 16, 16), &limits(8, 0));
        let Schedule::Chunked { chunk } = plan.schedule else { panic!("{plan}") };
        assert!(plan.variant.contains("_chunked_"), "{}", plan.variant);
        assert!(u64::from(chunk).is_multiple_of(CHUNK_UNIT));
        let busy = 64 * 4 * (1u64 << 16).div_ceil(u64::from(chunk));
        assert!((FULL / 2..=2 * FULL).contains(&busy), "{plan}");
        assert_eq!(
            planned(&problem(8, 2048, 1 << 16, 16), &limits(8, 0)).schedule,
            Schedule::Serial
        );
        assert_eq!(planned(&problem(1, 64, 100, 16), &limits(8, 0)).schedule, Schedule::Serial);
    }

    #[test]
    fn no_chunk_is_longer_than_a_dispatch_may_walk() {
        for units in [0, 2] {
            let limits = limits(8, units);
            assert!(segment(&limits).is_multiple_of(CHUNK_UNIT));
            let many = problem(1, 64 * units.max(1) as usize, 1 << 20, 256);
            let name = Kernels::fitting(&many, &limits).chunked[0].info.name;
            let options = Options::default().with_variant(name);
            let plan = wgpu(&many, &limits, &options, "wgpu").unwrap();
            let Schedule::Chunked { chunk } = plan.schedule else { panic!("{plan}") };
            assert!(u64::from(chunk) <= segment(&limits));
        }
    }

    #[test]
    fn a_variant_can_be_forced_if_it_fits() {
        let name = "selective_scan_forward_chunked_wgsl_f32_16x1";
        let options = Options::default().with_variant(name);
        let plan = wgpu(&problem(1, 3, 130, 9), &limits(8, 0), &options, "wgpu").unwrap();
        assert_eq!((plan.variant, plan.schedule), (name, Schedule::Chunked { chunk: 64 }));
        let error = wgpu(&problem(1, 3, 130, 17), &limits(8, 0), &options, "wgpu").unwrap_err();
        let message = error.to_string();
        assert!(message.contains(name) && message.contains("16x2"), "{message}");
        assert!(!message.contains("_direct_"), "{message}");
        let all = wgpu_variants(&problem(1, 3, 130, 9), &limits(16, 0), &options, "wgpu").unwrap();
        assert_eq!((all[0], all.len()), (name, 6));
    }

    #[test]
    fn every_kernel_fits_the_default_limits_and_has_its_partners() {
        for one in ForwardChunkedWgsl::VARIANTS {
            let shape = Spread { info: one.info };
            assert!(ForwardSerialWgsl::VARIANTS.iter().any(|other| shape.matches(other.info)));
            assert!(ForwardDirectWgsl::VARIANTS.iter().any(|other| shape.matches(other.info)));
        }
        let serial = ForwardSerialWgsl::VARIANTS.iter().map(|one| one.info);
        let direct = ForwardDirectWgsl::VARIANTS.iter().map(|one| one.info);
        let chunked = ForwardChunkedWgsl::VARIANTS.iter().map(|one| one.info);
        for info in serial.chain(direct).chain(chunked) {
            assert!(info.shared_bytes <= 16384, "{}: {} bytes", info.name, info.shared_bytes);
            let number = |name| info.number(name).unwrap();
            assert_eq!(64 % number("lanes"), 0);
            assert_eq!(CHUNK_UNIT as u32 % number("tile"), 0);
            assert!(number("states") > 0);
        }
    }
}
