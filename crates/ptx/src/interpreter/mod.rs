//! Runs kernels on any machine, strictly: what hardware forgives is reported, what it leaves open is drawn.
//!
//! ```
//! use warpwright_ptx::interpreter::{Estimate, Gpu, Launch, Machine, Options};
//!
//! let module = warpwright_ptx::parse("
//! .version 7.0
//! .target sm_80
//! .address_size 64
//! .visible .entry double(.param .u64 .ptr .global .align 4 x)
//! .reqntid 128
//! {
//!     .reg .b32 %thread; .reg .b64 %x; .reg .f32 %value;
//!     ld.param.u64 %x, [x];
//!     cvta.to.global.u64 %x, %x;
//!     mov.u32 %thread, %tid.x;
//!     mad.wide.u32 %x, %thread, 4, %x;
//!     ld.global.f32 %value, [%x];
//!     add.rn.f32 %value, %value, %value;
//!     st.global.f32 [%x], %value;
//!     ret;
//! }")?;
//! let machine = Machine::new(0, Options::default());
//! let loaded = machine.load(&module)?;
//! let kernel = loaded.kernel("double").ok_or("no such kernel")?;
//!
//! let x = machine.allocate(4 * 128)?;
//! machine.write(x, &1.5f32.to_le_bytes().repeat(128))?;
//! let counters = machine.launch(
//!     kernel,
//!     &Launch {
//!         grid: [1, 1, 1],
//!         block: [128, 1, 1],
//!         cluster: None,
//!         dynamic_shared: 0,
//!         cooperative: false,
//!         arguments: &[&x.to_le_bytes()],
//!     },
//! )?;
//! let mut value = [0; 4];
//! machine.read(x, &mut value)?;
//! assert_eq!(f32::from_le_bytes(value), 3.0);
//!
//! // What it did: four warps of eight instructions, each with a load and a store of four sectors.
//! let total = counters.total();
//! assert_eq!((total.warps, total.loads.sectors, total.stores.sectors), (32, 16, 16));
//! println!("{counters}"); // a table, a row per instruction of the text
//!
//! // What an H100 needs for it at least, by published rates; nothing was run on one.
//! let estimate = Estimate::of(&counters, None, Gpu::named("H100")?)?;
//! assert!(estimate.seconds() > 0.0);
//! println!("{estimate}");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What is checked
//!
//! Every launch stops at the first [`Fault`], which names the kernel, the line of the text, the block, the thread
//! and, of a race, the other access:
//!
//! * memory: bounds of each allocation, alignment, use after free, the space of an address;
//! * order: data races in global and shared memory by happens-before, with scopes, in whatever order the threads
//!   happened to run; writes to what is read as read-only; accesses to what an asynchronous copy still works on;
//! * unwritten registers and memory, where they reach an address, a predicate, a mask, an atomic or global memory;
//! * warps, blocks, clusters: `.sync` masks, lanes that never come, shuffles from inactive lanes, counts of barriers,
//!   deadlocks, waits for a block that may never be resident;
//! * clusters: other blocks that have not started or have ended, second arrivals before a wait;
//! * bulk copies and `wgmma`: their ends before their source is written or their destination read, the fence of the
//!   asynchronous proxy before they read what plain stores wrote to shared memory, registers of a product in flight;
//! * launches: shape, arguments, shared memory, whether a cooperative grid finds room.
//!
//! [`Options`] decide the rest: how lanes and blocks are interleaved, what approximate instructions return within
//! their documented bounds, how tensor cores add.
//!
//! # What is not
//!
//! Time: [`Counters`] count, and an [`Estimate`] is a bound from below. Sequential consistency of `fence.sc`
//! beyond acquire and release. Caches. The interpreter follows the PTX ISA; it has not been compared with a GPU.

mod arithmetic;
mod counters;
mod decode;
mod exchange;
mod execute;
mod fault;
mod machine;
mod memory;
mod options;
mod random;
mod row;
mod tensor;
mod tensor_map;
mod variables;

pub use counters::{
    Class, Cost, Counters, Estimate, Format, GPUS, Gpu, Launch as LaunchShape, Limit, Limits, Line,
    NoEstimate, Occupancy, Rates, Tally, Tensor, Traffic, Unit, UnknownGpu,
};
pub use fault::{Fault, FaultKind, Other};
pub use machine::{Kernel, Launch, Loaded, Machine};
pub use options::{Approximations, Options, Schedule};
pub use tensor::sums::Sums;
pub use tensor_map::{Swizzle, TensorMap};
