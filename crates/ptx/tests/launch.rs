//! Launches that do not fit, and kernels that no device takes, are refused before anything runs.
#![cfg(feature = "interpreter")]

mod common;

use common::{KERNEL, launch, module, shape, zeros};
use warpwright_ptx::interpreter::{Fault, FaultKind, Launch, Machine, Options};
use warpwright_ptx::parse;

/// A kernel that does nothing, under these directives and with these parameters.
fn idle(parameters: &str, directives: &str) -> String {
    module("", parameters, directives, "ret;")
}

fn try_launch(text: &str, shape: &Launch<'_>) -> Result<(), Fault> {
    launch(&Machine::new(0, Options::default()), text, shape).map(|_| ())
}

/// The launch is refused, and the report names what is wrong.
fn refused(text: &str, launch: &Launch<'_>, words: &str) {
    let fault = try_launch(text, launch).expect_err(words);
    assert_eq!(fault.kind, FaultKind::Launch, "{fault}");
    assert!(fault.message.contains(words), "{fault}");
}

#[test]
fn blocks_have_1_to_1024_threads() {
    let text = idle("", "");
    for block in [[1024, 1, 1], [1, 1024, 1], [16, 1, 64], [1; 3]] {
        try_launch(&text, &Launch { block, ..shape(1, 1, &[]) }).expect("it fits");
    }
    for block in [[0, 1, 1], [1025, 1, 1], [33, 32, 1], [1, 1, 65], [u32::MAX; 3]] {
        refused(&text, &Launch { block, ..shape(1, 1, &[]) }, "1 to 1024 are possible");
    }
}

#[test]
fn kernels_say_how_large_a_block_is() {
    let exact = idle("", ".reqntid 32, 2");
    try_launch(&exact, &Launch { block: [32, 2, 1], ..shape(1, 1, &[]) }).expect("as required");
    refused(&exact, &shape(1, 64, &[]), "requires blocks of [32, 2, 1]");
    let most = idle("", ".maxntid 64");
    try_launch(&most, &shape(1, 64, &[])).expect("as many as it takes");
    refused(&most, &shape(1, 65, &[]), "at most [64, 1, 1]");
}

#[test]
fn grids_have_bounds() {
    let text = idle("", "");
    for grid in [[1, 65_536, 1], [1, 1, 65_536], [u32::MAX; 3], [(1 << 26) + 1, 1, 1]] {
        refused(&text, &Launch { grid, ..shape(1, 1, &[]) }, "65535 along y and z");
    }
    let none = Launch { grid: [0, 1, 1], ..shape(1, 32, &[]) };
    let machine = Machine::new(0, Options::default());
    let counters = launch(&machine, &text, &none).expect("no block is nothing to do");
    assert_eq!(counters.total().warps, 0);
}

#[test]
fn clusters_divide_the_grid() {
    let text = idle("", "");
    let cluster = |cluster| Launch { cluster: Some(cluster), ..shape(6, 32, &[]) };
    try_launch(&text, &cluster([1; 3])).expect("clusters of one block");
    for wrong in [[4, 1, 1], [0, 1, 1], [1, 2, 1]] {
        refused(&text, &cluster(wrong), "do not divide the grid");
    }
}

#[test]
fn arguments_are_as_many_and_as_large_as_parameters() {
    let text = idle(".param .u32 n, .param .u64 .ptr .global .align 16 x, .param .b8 all[12]", "");
    let (n, x, all) = (1u32.to_le_bytes(), 4096u64.to_le_bytes(), [0; 12]);
    try_launch(&text, &shape(1, 1, &[&n, &x, &all])).expect("they fit");
    refused(&text, &shape(1, 1, &[&n, &x]), "3 parameters, 2 arguments");
    refused(&text, &shape(1, 1, &[&n, &x, &all, &n]), "3 parameters, 4 arguments");
    refused(&text, &shape(1, 1, &[&x, &x, &all]), "n has 4 bytes, the argument 8");
    refused(&text, &shape(1, 1, &[&n, &x, &[0; 11]]), "all has 12 bytes, the argument 11");
    let odd = 4104u64.to_le_bytes();
    refused(&text, &shape(1, 1, &[&n, &odd, &all]), "x promises multiples of 16");
}

#[test]
fn arguments_lie_at_their_alignment() {
    let parameters =
        ".param .u8 a, .param .u64 out, .param .u16 b, .param .b8 all[5], .param .u32 c";
    let body = "
.reg .b32 %a, %b, %c, %d; .reg .b64 %out;
ld.param.u64 %out, [out];
ld.param.u8 %a, [a];
ld.param.u16 %b, [b];
ld.param.u8 %d, [all+4];
ld.param.u32 %c, [c];
st.global.v4.b32 [%out], {%a, %b, %c, %d};
ret;";
    let machine = Machine::new(0, Options::default());
    let out = zeros(&machine, 4);
    let (address, b, c) =
        (out.to_le_bytes(), 0x1234u16.to_le_bytes(), 0xABCD_EF01u32.to_le_bytes());
    let all = [1, 2, 3, 4, 5];
    let text = module("", parameters, "", body);
    launch(&machine, &text, &shape(1, 1, &[&[7], &address, &b, &all, &c])).expect("it runs");
    assert_eq!(common::download(&machine, out, 4), [7, 0x1234, 0xABCD_EF01, 5]);
}

#[test]
fn shared_memory_has_a_limit() {
    let text = module("", "", "", ".shared .align 16 .b8 tile[1024];\nret;");
    let dynamic = |dynamic_shared| Launch { dynamic_shared, ..shape(1, 32, &[]) };
    try_launch(&text, &dynamic(226 << 10)).expect("227 KiB");
    refused(&text, &dynamic((226 << 10) + 1), "bytes of shared memory, at most 232448");
    refused(&text, &dynamic(u32::MAX), "bytes of shared memory");
}

#[test]
fn cooperative_grids_fit_the_device() {
    let text = idle("", "");
    let cooperative = |grid| Launch { cooperative: true, ..shape(grid, 1024, &[]) };
    try_launch(&text, &cooperative(2 * 132)).expect("two of 1024 threads per multiprocessor");
    refused(&text, &cooperative(2 * 132 + 1), "264 run at the same time");
}

/// Short texts that ask for more than any device has, and would take the host's memory.
#[test]
fn hostile_sizes_are_refused_at_once() {
    let huge = "[4000000000]";
    let body = |text: &str| module("", "", "", &format!("{text}\nret;"));
    let variables = |text: &str| module(text, "", "", "ret;");
    let refused = [
        body(&format!(".shared .b8 a{huge};")),
        body(&format!(".shared .align 1073741824 .b64 a{huge}{huge}; .shared .align 16 .b8 b[1];")),
        body(&format!(".local .align 8 .b64 a{huge}{huge}; .local .align 8 .b64 b[1];")),
        body(".local .b8 a[524289];"),
        variables(&format!(".shared .b64 a{huge}{huge}; .shared .b64 b[1];")),
        variables(&format!(".global .b8 a{huge};")),
        variables(&format!(".global .b64 a{huge}{huge}{huge}; .global .b64 b;")),
        variables(".global .b8 a[200000000]; .global .b8 b[200000000];"),
        variables(&format!(".const .b8 a{huge};")),
        variables(".const .b8 a[65537];"),
        variables(".const .b8 a; .const .align 1073741824 .b8 b;"),
        variables(".global .align 512 .b8 b;"),
        variables(".extern .global .b32 elsewhere;"),
        module("", ".param .b8 a[4000000000]", "", "ret;"),
        module("", ".param .b8 a[32765]", "", "ret;"),
        module("", ".param .b8 a[1], .param .align 1073741824 .b8 b[4294967295]", "", "ret;"),
    ];
    for text in refused {
        let Ok(module) = parse(&text) else { continue };
        let fault = Machine::new(0, Options::default()).load(&module).expect_err(&text);
        assert!(matches!(fault.kind, FaultKind::Launch | FaultKind::Unsupported), "{fault}");
    }
}

#[test]
fn registers_that_nobody_names_cost_nothing() {
    let body = ".reg .b32 %a<4000000000>; .reg .pred %p<4000000000>;\n\
                mov.u32 %a3999999999, 1; setp.eq.u32 %p7, %a3999999999, 1; ret;";
    try_launch(&module("", "", "", body), &shape(8, 1024, &[])).expect("it runs");
}

#[test]
fn the_name_of_a_kernel_is_known() {
    let machine = Machine::new(0, Options::default());
    let loaded = machine.load(&parse(&idle("", "")).expect("it parses")).expect("it loads");
    assert_eq!(loaded.kernel(KERNEL).map(|kernel| kernel.name()), Some(KERNEL));
    assert!(loaded.kernel("another").is_none());
}
