//! A machine with what tests do to it.
#![allow(dead_code)] // every test file takes its part

use warpwright_ptx::interpreter::{Counters, Fault, Launch, Machine, Options};
use warpwright_ptx::parse;

/// The name of the kernels here.
pub const KERNEL: &str = "kernel";

/// A module with a kernel `kernel`: variables, parameters, directives and body as given.
pub fn module(variables: &str, parameters: &str, directives: &str, body: &str) -> String {
    format!(
        ".version 8.0\n.target sm_80\n.address_size 64\n{variables}\n\
         .visible .entry {KERNEL}({parameters})\n{directives}\n{{\n{body}\n}}\n"
    )
}

/// A kernel with one buffer `out`, whose address is in `%out`; `%thread` holds `%tid.x`, `%at` the address of the
/// thread's own word.
pub fn writes_out(variables: &str, body: &str) -> String {
    let head = "
.reg .b32 %thread, %a, %b, %c; .reg .b64 %out, %at, %p, %q; .reg .pred %if;
ld.param.u64 %out, [out];
cvta.to.global.u64 %out, %out;
mov.u32 %thread, %tid.x;
mad.wide.u32 %at, %thread, 4, %out;";
    module(variables, ".param .u64 out", "", &format!("{head}\n{body}\nret;"))
}

/// A launch with these arguments and nothing else.
pub fn shape<'a>(grid: u32, block: u32, arguments: &'a [&'a [u8]]) -> Launch<'a> {
    Launch {
        grid: [grid, 1, 1],
        block: [block, 1, 1],
        cluster: None,
        dynamic_shared: 0,
        cooperative: false,
        arguments,
    }
}

/// Loads a module and launches its kernel.
pub fn launch(machine: &Machine, text: &str, launch: &Launch<'_>) -> Result<Counters, Fault> {
    let module = parse(text).unwrap_or_else(|why| panic!("{why}\n{text}"));
    let loaded = machine.load(&module)?;
    machine.launch(loaded.kernel(KERNEL).expect("the kernel is there"), launch)
}

/// A buffer of zeros.
pub fn zeros(machine: &Machine, words: usize) -> u64 {
    upload(machine, &vec![0; words])
}

pub fn upload(machine: &Machine, words: &[u32]) -> u64 {
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    let address = machine.allocate(bytes.len() as u64).expect("memory for a test");
    machine.write(address, &bytes).expect("it was allocated");
    address
}

pub fn download(machine: &Machine, address: u64, words: usize) -> Vec<u32> {
    let mut bytes = vec![0; 4 * words];
    machine.read(address, &mut bytes).expect("the buffer is there");
    bytes
        .chunks_exact(4)
        .map(|word| u32::from_le_bytes(word.try_into().expect("four bytes")))
        .collect()
}

/// Runs a kernel of [`writes_out`] with one block; gives the first words of its buffer.
pub fn run(text: &str, block: u32, words: usize, options: Options) -> Result<Vec<u32>, Fault> {
    let machine = Machine::new(0, options);
    let out = zeros(&machine, words);
    launch(&machine, text, &shape(1, block, &[&out.to_le_bytes()]))?;
    Ok(download(&machine, out, words))
}
