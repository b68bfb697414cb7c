//! Ranks that are processes: what they give, and how they end where one of them is stopped, late,
//! killed or in another call. Each case is run by `mpirun` on four processes of this very program.

use std::cell::Cell;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use warpwright::attention::{Gradients, Inputs, Mask, Options, OutputGradients, Outputs};
use warpwright::collective::{Communicator, Lane, Local, Mpi, Parcel, Tag, all_reduce};
use warpwright::ring::{self, Algorithm, Partition, Ring, Scheme};
use warpwright::{Cpu, Error, Result, Tensor};

const RANKS: usize = 4;
const DEADLINE: Duration = Duration::from_secs(2);

/// Beyond this a case hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// The status of a process that has met a fault.
const FAULT: u8 = 7;

/// Says which case a process is to run.
const CASE: &str = "--case=";

/// What a rank does, and how the ranks must end.
struct Case {
    name: &'static str,
    rank: fn(&Mpi) -> Result<()>,
    end: End,
}

enum End {
    /// All ranks are done.
    Done,
    /// All but this one are told this, within the deadline.
    Told { but: Option<usize>, what: &'static [&'static str] },
    /// The job ends, with another status than 0.
    Killed,
}

const CASES: [Case; 9] = [
    Case { name: "the-bits-of-threads", rank: the_bits_of_threads, end: End::Done },
    Case {
        name: "a-rank-that-never-calls",
        rank: |ranks| match ranks.rank() {
            2 => never(),
            _ => forward(ranks, 8),
        },
        end: End::Told { but: Some(2), what: &["rank 2 is late"] },
    },
    Case {
        name: "a-rank-that-is-stopped",
        rank: |ranks| match ranks.rank() {
            1 => signal(libc::SIGSTOP),
            _ => forward(ranks, 8),
        },
        end: End::Told { but: Some(1), what: &["rank 1 is late"] },
    },
    Case {
        name: "a-rank-that-is-stopped-in-a-step",
        rank: |ranks| match ranks.rank() {
            3 => forward(&Stops(ranks, Cell::new(0)), 8),
            // Who needs nothing of it is told in the next call.
            _ => forward(ranks, 8).and_then(|()| ranks.gather_bytes(b"").map(drop)),
        },
        // Some wait for others that wait for it.
        end: End::Told { but: Some(3), what: &["is late"] },
    },
    Case {
        name: "a-rank-that-calls-backward",
        rank: |ranks| match ranks.rank() {
            3 => backward_alone(ranks),
            _ => forward(ranks, 8),
        },
        end: End::Told { but: None, what: &["ranks differ in `pass`: Forward"] },
    },
    Case {
        name: "a-rank-of-other-shapes",
        rank: |ranks| forward(ranks, 8 + ranks.rank() % 2),
        end: End::Told { but: None, what: &["ranks differ in `D`: 8, 9, 8, 9"] },
    },
    Case {
        name: "a-rank-in-another-step",
        rank: in_another_step,
        end: End::Told { but: None, what: &["4 bytes of call", "step 1"] },
    },
    Case {
        name: "a-rank-that-gives-up",
        rank: |ranks| match ranks.rank() {
            1 => forward(ranks, 0),
            _ => forward(ranks, 8),
        },
        end: End::Told { but: Some(1), what: &["rank 1 has given up", "features"] },
    },
    Case {
        name: "a-rank-that-is-killed",
        rank: |ranks| match ranks.rank() {
            2 => signal(libc::SIGKILL),
            _ => forward(ranks, 8),
        },
        end: End::Killed,
    },
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some(mark) = arguments.iter().find_map(|argument| argument.strip_prefix(CASE)) {
        let name = mark.rsplit_once('-').map(|(name, _)| name);
        let case = CASES.iter().find(|case| Some(case.name) == name);
        return case.map_or(ExitCode::FAILURE, work);
    }
    let filter = arguments.iter().find(|argument| !argument.starts_with('-'));
    let wanted = |case: &&Case| filter.is_none_or(|filter| case.name.contains(filter.as_str()));
    let mut failed = 0;
    for case in CASES.iter().filter(wanted) {
        let start = Instant::now();
        match check(case) {
            Ok(()) => println!("{}: ok, {:.1} s", case.name, start.elapsed().as_secs_f64()),
            Err(wrong) => {
                failed += 1;
                println!("{}: FAILED: {wrong}", case.name);
            }
        }
    }
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A process of a case: prints how it ends, and after which time.
fn work(case: &Case) -> ExitCode {
    let ranks = match Mpi::world() {
        Ok(ranks) => ranks,
        Err(error) => {
            println!("no rank: {error}");
            return ExitCode::FAILURE;
        }
    };
    ranks.set_deadline(Some(DEADLINE));
    let start = Instant::now();
    let end = (case.rank)(&ranks);
    let elapsed = start.elapsed().as_millis();
    match end {
        Ok(()) => {
            println!("{} {elapsed} done", ranks.rank());
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("{} {elapsed} {error}", ranks.rank());
            ranks.end(FAULT)
        }
    }
}

/// Runs a case, and looks at how its processes end.
fn check(case: &Case) -> Result<(), String> {
    let mark = format!("{CASE}{}-{}", case.name, std::process::id());
    let (status, text) = run(&mark)?;
    let left = processes(&mark);
    if !left.is_empty() {
        return Err(format!("processes {left:?} are left"));
    }
    let lines: Vec<(usize, u64, &str)> = text.lines().filter_map(line).collect();
    let told = |rank: usize| lines.iter().find(|line| line.0 == rank);
    let complain = |what: String| Err(format!("{what}; status {status}:\n{text}"));
    let (but, what) = match case.end {
        End::Done => (None, ["done"].as_slice()),
        End::Told { but, what } => (but, what),
        End::Killed if status == 0 => return complain("it ends as if all were well".to_owned()),
        End::Killed => return Ok(()),
    };
    if (status == 0) != matches!(case.end, End::Done) {
        return complain("the status is wrong".to_owned());
    }
    for rank in (0..RANKS).filter(|&rank| Some(rank) != but) {
        let Some((_, elapsed, end)) = told(rank) else {
            return complain(format!("rank {rank} is told nothing"));
        };
        let most = DEADLINE + Duration::from_secs(1);
        if matches!(case.end, End::Told { .. }) && Duration::from_millis(*elapsed) > most {
            return complain(format!("rank {rank} is told after {elapsed} ms"));
        }
        if let Some(missing) = what.iter().find(|what| !end.contains(**what)) {
            return complain(format!("rank {rank} is not told: {missing}"));
        }
    }
    Ok(())
}

/// A rank, milliseconds, and how it has ended.
fn line(text: &str) -> Option<(usize, u64, &str)> {
    let (rank, rest) = text.split_once(' ')?;
    let (elapsed, end) = rest.split_once(' ')?;
    Some((rank.parse().ok()?, elapsed.parse().ok()?, end))
}

/// The status of a job, and what it has printed.
fn run(mark: &str) -> Result<(i32, String), String> {
    let said = |error: std::io::Error| error.to_string();
    let mut job = Command::new("mpirun")
        .args(["-n", &RANKS.to_string(), "--oversubscribe", "--bind-to", "none"])
        .arg(std::env::current_exe().map_err(said)?)
        .arg(mark)
        // In a container.
        .envs([("OMPI_ALLOW_RUN_AS_ROOT", "1"), ("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")])
        .env("OMPI_MCA_btl_vader_single_copy_mechanism", "none")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("mpirun: {error}"))?;
    let start = Instant::now();
    while job.try_wait().map_err(said)?.is_none() {
        if start.elapsed() > PATIENCE {
            job.kill().map_err(said)?;
            for process in processes(mark) {
                // SAFETY: a process that this program has started; that it may be gone is as good.
                unsafe { libc::kill(process, libc::SIGKILL) };
            }
            return Err("it hangs".to_owned());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let output = job.wait_with_output().map_err(said)?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok((output.status.code().unwrap_or(-1), text))
}

/// Processes of a case that still run.
fn processes(mark: &str) -> Vec<i32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let of_case = |name: &str| {
        let line = std::fs::read(format!("/proc/{name}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).split('\0').any(|argument| argument == mark)
    };
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| of_case(name)).filter_map(|name| name.parse().ok()).collect()
}

/// Comes when all the others have waited long enough.
fn never() -> Result<()> {
    std::thread::sleep(10 * DEADLINE);
    Ok(())
}

/// Sends a signal to this process.
fn signal(number: i32) -> Result<()> {
    // SAFETY: it is this process that is to be stopped or killed.
    unsafe { libc::raise(number) };
    never()
}

fn options() -> Options {
    Options::default().with_mask(Mask::causal())
}

fn ring(algorithm: Algorithm) -> Result<Ring> {
    Ok(Ring::new(Partition::new(Scheme::Zigzag, 50, RANKS)?).with_algorithm(algorithm))
}

/// Numbers of a rank, of so many heads and features, that depend on the rank and the seed.
fn tensor(
    ring: &Ring,
    rank: usize,
    [heads, width]: [usize; 2],
    seed: u32,
) -> Result<Tensor<Cpu, f32>> {
    let shape = [2, ring.queries.len(rank), heads, width];
    let mut state = seed * 101 + rank as u32 + 1;
    let number = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    Tensor::from_vec((0..shape.iter().product()).map(number).collect(), &shape)
}

fn forward(ranks: &impl Communicator<Cpu>, width: usize) -> Result<()> {
    let ring = ring(Algorithm::KvRing)?;
    let x = tensor(&ring, ranks.rank(), [2, width], 1)?;
    ring::forward(ranks, &Inputs::new(&x, &x, &x), &ring, &options()).map(drop)
}

fn backward_alone(ranks: &Mpi) -> Result<()> {
    let ring = ring(Algorithm::KvRing)?;
    let x = tensor(&ring, ranks.rank(), [2, 8], 1)?;
    let lse = Tensor::from_vec(vec![0.0f32; 2 * 2 * x.shape()[1]], &[2, 2, x.shape()[1]])?;
    let outputs = Outputs { out: x.clone(), lse };
    let (inputs, given) = (Inputs::new(&x, &x, &x), OutputGradients::new(&x));
    ring::backward(ranks, &inputs, &ring, &options(), &outputs, &given).map(drop)
}

/// Neighbours exchange a number, but one rank means another step.
fn in_another_step(ranks: &Mpi) -> Result<()> {
    let (own, peer) = (ranks.rank(), ranks.rank() ^ 1);
    let number = || Tensor::from_vec(vec![own as f32], &[1]).map(Tensor::into_view);
    let sends = vec![Parcel { peer, parts: vec![number()?] }];
    let receives = vec![Parcel { peer, parts: vec![number()?] }];
    let tag = Tag { call: 1, step: u32::from(own == 3), lane: Lane(0) };
    let ticket = ranks.post(tag, sends, receives)?;
    ranks.wait(ticket)?;
    // Those that were lucky are told in the next call.
    ranks.gather_bytes(b"").map(drop)
}

/// A communicator whose rank stops at its second wait, in the middle of the steps.
struct Stops<'a>(&'a Mpi, Cell<usize>);

impl Communicator<Cpu> for Stops<'_> {
    type Ticket = <Mpi as Communicator<Cpu>>::Ticket;

    fn rank(&self) -> usize {
        self.0.rank()
    }

    fn size(&self) -> usize {
        self.0.size()
    }

    fn post(
        &self,
        tag: Tag,
        sends: Vec<Parcel<Cpu>>,
        receives: Vec<Parcel<Cpu>>,
    ) -> Result<Self::Ticket> {
        self.0.post(tag, sends, receives)
    }

    fn test(&self, ticket: &mut Self::Ticket) -> Result<bool> {
        self.0.test(ticket)
    }

    fn wait(&self, ticket: Self::Ticket) -> Result<()> {
        self.1.set(self.1.get() + 1);
        if self.1.get() == 2 {
            signal(libc::SIGSTOP)?;
        }
        self.0.wait(ticket)
    }

    fn gather_bytes(&self, bytes: &[u8]) -> Result<Vec<Vec<u8>>> {
        self.0.gather_bytes(bytes)
    }

    fn abort(&self, reason: &str) {
        self.0.abort(reason);
    }
}

/// Every number that a rank has of both passes, and of a sum over all ranks.
fn everything(ranks: &impl Communicator<Cpu>, algorithm: Algorithm) -> Result<Vec<u32>> {
    let (ring, rank) = (ring(algorithm)?, ranks.rank());
    let q = tensor(&ring, rank, [4, 12], 1)?;
    let (k, v) = (tensor(&ring, rank, [2, 12], 2)?, tensor(&ring, rank, [2, 8], 3)?);
    let dout = tensor(&ring, rank, [4, 8], 4)?;
    let sink = Tensor::from_vec(vec![0.5f32, -1.0, 0.0, 2.0], &[4])?;
    let inputs = Inputs::new(&q, &k, &v).with_sink(&sink);
    let outputs = ring::forward(ranks, &inputs, &ring, &options())?;
    let given = OutputGradients::new(&dout);
    let gradients = ring::backward(ranks, &inputs, &ring, &options(), &outputs, &given)?;
    let Gradients { q: dq, k: dk, v: dv, sink, .. } = &gradients;
    let mut numbers = Vec::new();
    for tensor in [&outputs.out, &outputs.lse, dq, dk, dv].into_iter().chain(sink) {
        numbers.extend(tensor.to_vec()?.into_iter().map(f32::to_bits));
    }
    let part = q.narrowed(1, 0..12)?;
    all_reduce(ranks, &part)?;
    numbers.extend(q.to_vec()?.into_iter().map(f32::to_bits));
    Ok(numbers)
}

fn the_bits_of_threads(ranks: &Mpi) -> Result<()> {
    for algorithm in Algorithm::ALL {
        let own = everything(ranks, algorithm)?;
        let threads = Local::<Cpu>::run(RANKS, |ranks| everything(&ranks, algorithm));
        let threads: Vec<Vec<u32>> = threads.into_iter().collect::<Result<_>>()?;
        if own != threads[ranks.rank()] {
            return Err(Error::Io {
                what: format!("{algorithm} over MPI"),
                reason: "it has other bits than over threads".to_owned(),
            });
        }
    }
    Ok(())
}
