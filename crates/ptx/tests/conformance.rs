//! The conformance programs on the interpreter: what must be computed, and what must be refused.
#![cfg(feature = "interpreter")]

use warpwright_ptx::conformance::{ENTRY, Program, faults, programs};
use warpwright_ptx::interpreter::{
    Approximations, Counters, Fault, FaultKind, Launch, Machine, Options, Schedule, Sums,
};
use warpwright_ptx::parse;

/// The words of the output.
fn run(program: &Program, options: Options) -> Result<(Vec<u8>, Counters), Fault> {
    let machine = Machine::new(0, options);
    let module = parse(&program.text).unwrap_or_else(|why| panic!("{}: {why}", program.name));
    let loaded = machine.load(&module)?;
    let kernel = loaded.kernel(ENTRY).expect("every program has the entry");
    let buffer = |bytes: &[u8]| -> Result<u64, Fault> {
        let address = machine.allocate(bytes.len().max(16) as u64)?;
        machine.write(address, bytes)?;
        Ok(address)
    };
    let input = buffer(&program.input)?;
    let output = buffer(&vec![0; program.output_bytes()])?;
    let counters = machine.launch(
        kernel,
        &Launch {
            grid: [program.grid, 1, 1],
            block: [program.block, 1, 1],
            cluster: (program.cluster > 1).then_some([program.cluster, 1, 1]),
            dynamic_shared: 0,
            cooperative: false,
            arguments: &[&input.to_le_bytes(), &output.to_le_bytes()],
        },
    )?;
    let mut bytes = vec![0; program.output_bytes()];
    machine.read(output, &mut bytes)?;
    Ok((bytes, counters))
}

/// What is in the table and not executed yet, by the names of its programs; printed, never silent.
fn waits_for_its_kernel(fault: &Fault) -> bool {
    fault.kind == FaultKind::Unsupported
}

fn all_pass(options: &Options) {
    let (mut wrong, mut left_out) = (Vec::new(), Vec::new());
    for program in programs() {
        match run(&program, options.clone()) {
            Ok((bytes, _)) => wrong.extend(program.check(&bytes).err().map(|why| why.to_string())),
            Err(fault) if waits_for_its_kernel(&fault) => {
                left_out.push(format!("{}: {}", program.name, fault.message));
            }
            Err(fault) => wrong.push(format!("{}: {fault}", program.name)),
        }
    }
    println!("not executed yet: {left_out:#?}");
    assert!(wrong.is_empty(), "{} programs differ:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn instructions_give_what_they_must() {
    all_pass(&Options::default());
}

#[test]
fn no_program_depends_on_the_schedule() {
    for seed in 0..4 {
        all_pass(&Options::default().with_seed(seed).with_schedule(Schedule::Shuffled));
    }
}

#[test]
fn perturbed_approximations_stay_within_their_bounds() {
    for seed in 0..4 {
        all_pass(
            &Options::default().with_seed(seed).with_approximations(Approximations::Perturbed),
        );
    }
}

#[test]
fn small_integers_add_up_in_every_order() {
    for sums in [Sums::Ampere, Sums::Hopper, Sums::Shuffled] {
        all_pass(&Options::default().with_sums(sums));
    }
}

#[test]
fn faults_are_reported_where_they_are() {
    let mut wrong = Vec::new();
    for faulty in faults() {
        let name = &faulty.program.name;
        match run(&faulty.program, Options::default().with_patience(1_000_000)) {
            Ok(_) => wrong.push(format!("{name} ({}): not noticed", faulty.what)),
            Err(fault) if waits_for_its_kernel(&fault) => println!("not executed yet: {name}"),
            Err(fault) => {
                println!("{name} ({}): {fault}", faulty.what);
                if !faulty.lines.contains(&fault.line) {
                    wrong.push(format!(
                        "{name}: expected a report of line {:?}, found {fault}",
                        faulty.lines
                    ));
                }
            }
        }
        if let Err(fault) = run(&faulty.repaired, Options::default())
            && !waits_for_its_kernel(&fault)
        {
            wrong.push(format!("{name}, repaired: {fault}"));
        }
    }
    assert!(wrong.is_empty(), "{} of the faults:\n{}", wrong.len(), wrong.join("\n"));
}
