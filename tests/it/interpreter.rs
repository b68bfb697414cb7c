//! The interpreter on the shipped kernels: what it must find, what it must not, and what it counts.

use warpwright::backend::cuda::{Cuda, Interpreter};
use warpwright::ptx::interpreter::{Approximations, Options as Interpretation, Schedule};
use warpwright::selective_scan::{Layout, Options, run_named};
use warpwright::verify::conformance::{self, Verdict};
use warpwright::verify::count::Counted;
use warpwright::verify::selective_scan::{Case, ResetForm, count};
use warpwright::{DType, Device, Error};

mod backward;
pub mod planted;

use planted::{Edit, Planted};

/// No PTX of these operations, of which there are more kernels than so many, has an atomic: what is
/// added does not depend on who comes first.
pub fn assert_no_atomics(operations: &[&str], least: usize) {
    let ours = warpwright::backend::kernel::all().filter(|info| {
        operations.contains(&info.operation)
            && matches!(info.language, warpwright::backend::Language::Ptx(_))
    });
    let mut looked_at = 0;
    for info in ours {
        let text = info.text();
        let atomic = text.lines().find(|line| {
            let mut words = line.split("//").next().unwrap_or_default().split_whitespace();
            words.any(|word| word.starts_with("atom.") || word.starts_with("red."))
        });
        assert_eq!(atomic, None, "{}", info.name);
        looked_at += 1;
    }
    assert!(looked_at > least, "only {looked_at} kernels");
}

/// A fault in a copy of a shipped kernel.
struct Fault {
    name: &'static str,
    /// Part of the line that is changed, how many lines with it are passed by, and the change.
    line: (&'static str, usize),
    change: (&'static str, &'static str),
    /// What the report may call it.
    kinds: &'static [&'static str],
    /// Parts of the lines that the report, or the other access of a race, may point at.
    at: &'static [&'static str],
}

const SHARED: &[&str] = &["ld.shared", "st.shared"];
const RACE: &[&str] = &["data race"];
const UNWRITTEN: &[&str] = &["use of an unwritten value"];
const DIVERGENT: &[&str] = &["divergent synchronisation"];
const BARRIER: &str = "bar.sync 0;";
const VOTE: &str = "vote.sync.ballot.b32 %bit";

const FAULTS: &[Fault] = &[
    Fault {
        name: "no barrier before the tile is overwritten",
        line: (BARRIER, 0),
        change: (BARRIER, ""),
        kinds: RACE,
        at: SHARED,
    },
    Fault {
        name: "no barrier after staging",
        line: (BARRIER, 1),
        change: (BARRIER, ""),
        kinds: RACE,
        at: SHARED,
    },
    Fault {
        name: "a misaligned vector in shared memory",
        line: ("ld.shared.v4.f32 {%delta0_0", 0),
        change: ("[%scan_row+0]", "[%scan_row+4]"),
        kinds: &["misaligned access"],
        at: &["[%scan_row+4]"],
    },
    Fault {
        name: "a misaligned vector in global memory",
        line: ("ld.global.v4.b32 {%delta0", 0),
        change: ("[%delta_tile+0]", "[%delta_tile+4]"),
        kinds: &["misaligned access"],
        at: &["[%delta_tile+4]"],
    },
    Fault {
        name: "partial sums that all channels leave in one place",
        line: ("st.shared.v4.f32 [%scan_y", 1),
        change: ("[%scan_y+", "[%scan_bc+"),
        kinds: RACE,
        at: &["st.shared.v4.f32 [%scan_bc+"],
    },
    Fault {
        name: "u is read four steps too late",
        line: ("ld.global.v4.b32 {%u0_3", 0),
        change: ("[%u_tile+96]", "[%u_tile+112]"),
        kinds: &["access out of bounds"],
        at: &["[%u_tile+112]"],
    },
    Fault {
        name: "out is written four steps too late",
        line: ("st.global.v4.f32 [%out_tile+96]", 0),
        change: ("[%out_tile+96]", "[%out_tile+112]"),
        kinds: &["data race", "access out of bounds"],
        at: &["[%out_tile"],
    },
    Fault {
        name: "a vote whose mask names half of the warp",
        line: (VOTE, 0),
        change: ("0xFFFFFFFF", "0x0000FFFF"),
        kinds: DIVERGENT,
        at: &[VOTE],
    },
    Fault {
        name: "a vote that some lanes skip",
        line: (VOTE, 0),
        change: ("vote.sync", "@%scans0 vote.sync"),
        kinds: DIVERGENT,
        at: &[VOTE],
    },
    Fault {
        name: "a vote with a mask that nobody wrote",
        line: (VOTE, 0),
        change: ("0xFFFFFFFF", "%packed3"),
        kinds: UNWRITTEN,
        at: &[VOTE],
    },
    Fault {
        name: "a register that is not cleared",
        line: ("mov.u32 %neutral, 0;", 0),
        change: ("mov.u32 %neutral, 0;", ""),
        kinds: UNWRITTEN,
        at: &["bra ", "@"],
    },
    Fault {
        name: "step sizes that are not staged",
        line: ("st.shared.v4.f32 [%point_shared", 0),
        change: ("st.shared", "@!%points st.shared"),
        kinds: UNWRITTEN,
        at: &["st.global.v4.f32 [%out_tile", "st.global"],
    },
    Fault {
        name: "an asynchronous copy that nobody waits for",
        line: ("st.shared.v4.f32 [%point_shared", 0),
        change: (
            "st.shared",
            "cp.async.cg.shared.global [%point_shared+0], [%u_tile], 16; @!%points st.shared",
        ),
        kinds: &["access during an asynchronous copy"],
        at: &["ld.shared", "cp.async"],
    },
    Fault {
        name: "a global address taken for one in shared memory",
        line: ("cvta.to.global.u64 %u_tile", 0),
        change: ("cvta.to.global", "cvta.to.shared"),
        kinds: &["address of another space"],
        at: &["cvta.to.shared"],
    },
    Fault {
        name: "a barrier for some lanes of a warp",
        line: (BARRIER, 0),
        change: (BARRIER, "@%scans0 bar.sync 0;"),
        kinds: DIVERGENT,
        at: &["@%scans0 bar.sync"],
    },
    Fault {
        name: "a barrier for fewer threads than come",
        line: (BARRIER, 0),
        change: (BARRIER, "bar.sync 0, 32;"),
        kinds: &["barrier misuse", "data race"],
        at: &["bar.sync 0, 32", "ld.shared", "st.shared"],
    },
    Fault {
        name: "a barrier for more threads than there are",
        line: (BARRIER, 0),
        change: (BARRIER, "bar.sync 0, 1024;"),
        kinds: &["deadlock"],
        at: &["bar.sync 0, 1024"],
    },
    Fault {
        name: "warps that end before a barrier counts them",
        line: (BARRIER, 0),
        change: (BARRIER, "@!%scans0 exit; bar.sync 1, 128;"),
        kinds: &["deadlock"],
        at: &["bar.sync 1, 128"],
    },
    Fault {
        name: "every block does the work of the first",
        line: ("mov.u32 %block, %ctaid.x", 0),
        change: ("%ctaid.x", "0"),
        kinds: RACE,
        at: &["st.global"],
    },
    Fault {
        name: "the read-only path to what the kernel writes",
        line: ("ld.global.v4.b32 {%z0_0", 0),
        change: (
            "ld.global.v4.b32 {%z0_0_0_word0, %z0_0_0_word1, %z0_0_0_word2, %z0_0_0_word3}, [%z_tile+0]",
            "ld.global.nc.v4.b32 {%z0_0_0_word0, %z0_0_0_word1, %z0_0_0_word2, %z0_0_0_word3}, [%out_tile+0]",
        ),
        kinds: &["read-only memory written"],
        at: &["ld.global.nc", "st.global"],
    },
    Fault {
        name: "an atomic on memory that nobody wrote",
        line: ("st.global.v4.f32 [%out_tile+0]", 0),
        change: (
            "st.global.v4.f32 [%out_tile+0], {%y0_0_0, %y0_0_1, %y0_0_2, %y0_0_3}",
            "red.global.add.f32 [%out_tile+0], %y0_0_0",
        ),
        kinds: UNWRITTEN,
        at: &["red.global"],
    },
    Fault {
        name: "too little shared memory",
        line: (".shared .align 16 .b8 tiles[", 0),
        change: (
            "tiles[",
            "spare[16]; .shared .align 16 .b8 tiles[16]; .shared .align 16 .b8 rest[16]; //",
        ),
        kinds: &["access out of bounds"],
        at: SHARED,
    },
];

/// Steps enough for whole tiles and channels enough for a second block with idle lanes.
fn case() -> Case {
    Case { resets: ResetForm::Flags, ..Case::new(2, 70, 128, 16, 1) }
}

/// The edit, for the scan alone, and where it fell.
fn edited(fault: &'static Fault) -> Edit {
    Box::new(move |text| {
        if !text.contains(".entry selective_scan_forward_serial") {
            return text.to_owned();
        }
        let (part, passed) = fault.line;
        let found = text.lines().enumerate().filter(|(_, line)| line.contains(part)).nth(passed);
        let (number, line) = found.unwrap_or_else(|| panic!("{}: no line has {part}", fault.name));
        assert!(line.contains(fault.change.0), "{}: {line} lacks {}", fault.name, fault.change.0);
        let changed = line.replacen(fault.change.0, fault.change.1, 1);
        let lines = text.lines().enumerate();
        lines
            .map(|(at, line)| if at == number { changed.as_str() } else { line })
            .flat_map(|line| [line, "\n"])
            .collect()
    })
}

/// The numbers of the lines that a report names.
fn lines_of(report: &str) -> Vec<usize> {
    let numbers = report.match_indices("line ").map(|(at, found)| {
        let rest = &report[at + found.len()..];
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        rest[..end].parse()
    });
    numbers.filter_map(Result::ok).collect()
}

fn run(device: &Device, case: &Case) -> Result<(), Error> {
    run_named(device, &case.tensors::<f32>()?, &case.options()).map(|_| ())
}

/// On the interpreter, and on a GPU where there is one.
#[test]
fn instructions_give_what_they_must() {
    let gpu = Cuda::new(0).inspect_err(|error| eprintln!("skipped: {error}"));
    let interpreter = Interpreter::open().expect("it needs nothing");
    for device in gpu.into_iter().chain([interpreter]) {
        let (mut passed, mut wrong) = (0, Vec::new());
        conformance::run(&device, |program, verdict| match verdict {
            Verdict::Passed => passed += 1,
            Verdict::Failed(why) => wrong.push(format!("{}: {why}", program.name)),
            Verdict::LeftOut(why) => println!("left out {}: {why}", program.name),
        });
        assert!(wrong.is_empty(), "{} programs differ:\n{}", wrong.len(), wrong.join("\n"));
        assert!(passed > 800, "only {passed} programs ran");
    }
}

#[test]
fn planted_faults_are_found_where_they_are() {
    let mut missed = Vec::new();
    for fault in FAULTS {
        let interpreter = Interpreter::new(Interpretation::default().with_patience(200_000));
        let planted = Planted::new(interpreter, edited(fault));
        let device = Device::Cuda(Cuda::with_driver(std::sync::Arc::new(planted)).expect("device"));
        // Some code is for plain tiles alone, some for those with resets.
        let plain = Case { resets: ResetForm::None, ..case() };
        match run(&device, &case()).and_then(|()| run(&device, &plain)) {
            Ok(()) => missed.push(format!("{}: not noticed", fault.name)),
            Err(error) => missed.extend(misreported(fault, &error.to_string())),
        }
    }
    assert!(missed.is_empty(), "{} of {}:\n{}", missed.len(), FAULTS.len(), missed.join("\n"));
}

/// What is wrong with a report, if anything.
fn misreported(fault: &'static Fault, report: &str) -> Option<String> {
    let text = std::cell::RefCell::new(String::new());
    let kernel = report.split(": kernel ").nth(1).and_then(|rest| rest.split([',', ':']).next());
    if let Some(info) = warpwright::backend::kernel::all().find(|info| Some(info.name) == kernel) {
        *text.borrow_mut() = edited(fault)(&info.text());
    }
    let text = text.into_inner();
    let line = |number: usize| text.lines().nth(number.wrapping_sub(1)).unwrap_or_default();
    let pointed = lines_of(report).into_iter().map(line).collect::<Vec<_>>();
    let right_line = pointed.iter().any(|line| fault.at.iter().any(|part| line.contains(part)));
    let right_kind = fault.kinds.iter().any(|kind| report.contains(kind))
        && report.contains("[kernels/selective_scan/") | report.contains("[kernels/common/");
    (!right_line || !right_kind)
        .then(|| format!("{}: {report}; it points at {pointed:?}", fault.name))
}

#[test]
fn shipped_kernels_raise_nothing_under_twenty_schedules() {
    for seed in 0..20 {
        let interpretation = Interpretation::default()
            .with_seed(seed)
            .with_schedule(Schedule::Shuffled)
            .with_approximations(Approximations::Perturbed);
        let driver = Interpreter::new(interpretation);
        let device = Device::Cuda(Cuda::with_driver(driver).expect("device"));
        let case = Case { seed, ..case() };
        run(&device, &case).unwrap_or_else(|error| panic!("schedule {seed}: {error}"));
    }
}

/// The kernels that are taken where a shape fills a GPU.
const LARGE: [(Layout, &str); 2] = [
    (Layout::Bdl, "selective_scan_forward_serial_f32_bdl_n16x4"),
    (Layout::Bld, "selective_scan_forward_serial_f32_bld_n16x4"),
];

/// A scan in f32 with z, D, bias and softplus.
fn counted(channels: usize, steps: usize, (layout, variant): (Layout, &str)) -> Counted {
    let case = Case { layout, ..Case::new(1, channels, steps, 16, 1) };
    let options: Options = case.options().with_save(false).with_variant(variant);
    count(&case, DType::F32, &options, Interpretation::default().unchecked())
        .expect("the scan runs")
}

#[test]
fn the_scan_does_no_more_than_it_must() {
    for kernel in LARGE {
        for steps in [256, 1024] {
            // What is done once counts too.
            let counted = counted(128, steps, kernel);
            let conflicts = counted.kernels.iter().map(|kernel| kernel.total().bank_conflicts());
            assert_eq!(conflicts.sum::<u64>(), 0, "bank conflicts of {}", kernel.1);
            let instructions = counted.instructions_per_element();
            assert!(instructions <= 7.0, "{}, L = {steps}: {instructions:.3}", kernel.1);
        }
    }
}

#[test]
fn the_scan_moves_no_more_than_it_must() {
    for kernel in LARGE {
        // So many blocks of one row that their common share of B and C does not matter.
        let counted = counted(128 * 32, 1024, kernel);
        let bytes = counted.bytes() as f64 / counted.least_bytes as f64;
        assert!(bytes <= 1.10, "{}: {bytes:.3} of the least bytes", kernel.1);
    }
}
