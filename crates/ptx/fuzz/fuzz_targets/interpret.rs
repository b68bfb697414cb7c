//! Any text: whatever parses is loaded and launched, and must end soon with counters or a fault.
//!
//! ```text
//! cd crates/ptx
//! mkdir -p fuzz/corpus
//! cargo fuzz run interpret fuzz/corpus tests/kernels
//! ```
//!
//! The same is done to damaged kernels by `tests/interpretation.rs`, which needs no fuzzer.
#![no_main]

use libfuzzer_sys::fuzz_target;
use warpwright_ptx::interpreter::{Fault, Launch, Machine, Options};
use warpwright_ptx::{Module, parse};

fuzz_target!(|text: &str| {
    if let Ok(module) = parse(text) {
        // A fault is an answer; a panic, an endless loop or memory without end is none.
        let _ = run(&module);
    }
});

fn run(module: &Module) -> Result<(), Fault> {
    let machine = Machine::new(0, Options::default().with_patience(2_000).with_limit(20_000));
    let loaded = machine.load(module)?;
    for entry in &module.entries {
        let Some(kernel) = loaded.kernel(&entry.name) else { continue };
        let mut arguments = Vec::new();
        for parameter in &entry.parameters {
            let size = usize::try_from(parameter.size()).unwrap_or(0).min(1 << 16);
            arguments.push(match size {
                8 => machine.allocate(8192)?.to_le_bytes().to_vec(),
                size => vec![0x11; size],
            });
        }
        let arguments: Vec<&[u8]> = arguments.iter().map(Vec::as_slice).collect();
        machine.launch(
            kernel,
            &Launch {
                grid: [2, 1, 1],
                block: entry.reqntid().unwrap_or([64, 1, 1]),
                cluster: None,
                dynamic_shared: 4096,
                cooperative: false,
                arguments: &arguments,
            },
        )?;
    }
    Ok(())
}
