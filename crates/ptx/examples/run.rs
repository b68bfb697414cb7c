//! Runs a sum over blocks, and shows what it did and what an H100 would need for it at least.
//!
//! `cargo run -p warpwright-ptx --example run`

use std::error::Error;

use warpwright_ptx::interpreter::{Estimate, Gpu, Launch, Machine, Options};

const BLOCKS: u32 = 264;
const THREADS: u32 = 256;

fn main() -> Result<(), Box<dyn Error>> {
    let module = warpwright_ptx::parse(include_str!("sum.ptx"))?;
    let machine = Machine::new(0, Options::default());
    let loaded = machine.load(&module)?;
    let kernel = loaded.kernel("sum").ok_or("no such kernel")?;

    // Small integers: every order of additions gives the same sums.
    let values: Vec<f32> = (0..BLOCKS * THREADS).map(|at| (at % 100) as f32).collect();
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let x = machine.allocate(bytes.len() as u64)?;
    machine.write(x, &bytes)?;
    let sums = machine.allocate(u64::from(4 * BLOCKS))?;

    let counters = machine.launch(
        kernel,
        &Launch {
            grid: [BLOCKS, 1, 1],
            block: [THREADS, 1, 1],
            cluster: None,
            dynamic_shared: 0,
            cooperative: false,
            arguments: &[&x.to_le_bytes(), &sums.to_le_bytes()],
        },
    )?;

    for (block, values) in values.chunks(THREADS as usize).enumerate() {
        let mut bytes = [0; 4];
        machine.read(sums + 4 * block as u64, &mut bytes)?;
        assert_eq!(f32::from_le_bytes(bytes), values.iter().sum::<f32>(), "block {block}");
    }
    println!("all {BLOCKS} sums are right\n");
    println!("{counters}");
    println!("{}", Estimate::of(&counters, None, Gpu::named("H100")?)?);
    Ok(())
}
