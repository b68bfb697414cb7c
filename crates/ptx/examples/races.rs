//! The same sum without its barrier: the report says which two instructions of which two threads race.
//!
//! `cargo run -p warpwright-ptx --example races`

use std::error::Error;

use warpwright_ptx::interpreter::{Launch, Machine, Options, Schedule};

fn main() -> Result<(), Box<dyn Error>> {
    let text = include_str!("sum.ptx").replace("bar.sync 0;", "");
    let module = warpwright_ptx::parse(&text)?;
    // A race is found whatever the schedule: what counts is whether anything orders the accesses.
    for schedule in [Schedule::Converged, Schedule::Shuffled] {
        let machine = Machine::new(0, Options::default().with_schedule(schedule));
        let loaded = machine.load(&module)?;
        let kernel = loaded.kernel("sum").ok_or("no such kernel")?;
        let x = machine.allocate(4 * 256)?;
        machine.write(x, &[0; 4 * 256])?;
        let sums = machine.allocate(4)?;
        let launch = Launch {
            grid: [1; 3],
            block: [256, 1, 1],
            cluster: None,
            dynamic_shared: 0,
            cooperative: false,
            arguments: &[&x.to_le_bytes(), &sums.to_le_bytes()],
        };
        let fault = machine.launch(kernel, &launch).expect_err("the barrier is missing");
        println!("{schedule:?}\n  {fault}");
        for line in [Some(fault.line), fault.other.map(|other| other.line)].into_iter().flatten() {
            println!(
                "  line {line}: {}",
                text.lines().nth(line as usize - 1).unwrap_or_default().trim()
            );
        }
    }
    Ok(())
}
