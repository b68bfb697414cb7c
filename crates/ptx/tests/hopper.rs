//! sm_90 at work, beyond the conformance programs: a pipeline of bulk copies and `wgmma`, clusters of two
//! dimensions, and what must be refused there.

use warpwright_ptx::interpreter::{Fault, FaultKind, Launch, Machine, Options, Schedule};
use warpwright_ptx::parse;

/// Words behind `in` and behind `out`.
const WORDS: usize = 4096;

struct Kernel {
    body: String,
    grid: [u32; 3],
    block: u32,
    cluster: Option<[u32; 3]>,
}

impl Kernel {
    fn new(block: u32, body: &str) -> Self {
        Self { body: body.to_owned(), grid: [1, 1, 1], block, cluster: None }
    }

    fn clusters(self, grid: [u32; 3], cluster: [u32; 3]) -> Self {
        Self { grid, cluster: Some(cluster), ..self }
    }

    /// With a part of the body that is another.
    fn changed(&self, from: &str, to: &str) -> Self {
        assert!(self.body.contains(from), "`{from}` is not in the kernel");
        Self { body: self.body.replacen(from, to, 1), ..*self }
    }

    fn text(&self) -> String {
        format!(
            ".version 8.1
.target sm_90a
.address_size 64
.visible .entry kernel(.param .u64 .ptr .global .align 16 in, .param .u64 .ptr .global .align 16 out)
{{
  .reg .b32 %t, %at, %peer, %rank, %v, %w, %stage, %phase, %round;
  .reg .b64 %in, %out, %mine, %a, %b, %state;
  .reg .pred %p, %q;
  .reg .f32 %d<8>;
  ld.param.u64 %in, [in];
  ld.param.u64 %out, [out];
  cvta.to.global.u64 %in, %in;
  cvta.to.global.u64 %out, %out;
  mov.u32 %t, %tid.x;
  mad.wide.u32 %mine, %t, 4, %out;
{}
}}",
            self.body
        )
    }

    fn run(&self, input: &[u32], options: Options) -> Result<Vec<u32>, Fault> {
        let machine = Machine::new(0, options.with_patience(200_000));
        let text = self.text();
        let module = parse(&text).unwrap_or_else(|why| panic!("{why}\n{text}"));
        let loaded = machine.load(&module)?;
        let bytes = |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let buffer = |bytes: Vec<u8>| -> Result<u64, Fault> {
            let address = machine.allocate(4 * WORDS as u64)?;
            machine.write(address, &bytes)?;
            Ok(address)
        };
        let (from, to) = (buffer(bytes(input))?, buffer(vec![0; 4 * WORDS])?);
        machine.launch(
            loaded.kernel("kernel").expect("the module has it"),
            &Launch {
                grid: self.grid,
                block: [self.block, 1, 1],
                cluster: self.cluster,
                dynamic_shared: 0,
                cooperative: false,
                arguments: &[&from.to_le_bytes(), &to.to_le_bytes()],
            },
        )?;
        let mut output = vec![0; 4 * WORDS];
        machine.read(to, &mut output)?;
        Ok(output.chunks(4).map(|word| u32::from_le_bytes(word.try_into().unwrap())).collect())
    }

    /// Whatever the schedule.
    fn gives(&self, input: &[u32], expected: &[u32]) {
        for options in schedules() {
            let output = self.run(input, options.clone());
            let output = output.unwrap_or_else(|fault| panic!("{options:?}: {fault}"));
            assert_eq!(&output[..expected.len()], expected, "{options:?}");
        }
    }

    /// The report must be of this kind and point at a line with this text, whatever the schedule.
    fn is_refused(&self, kind: FaultKind, line: &str) {
        self.is_refused_as(&[kind], line);
    }

    /// Where it depends on the schedule what shows first.
    fn is_refused_as(&self, kinds: &[FaultKind], line: &str) {
        for options in schedules() {
            let fault = self.run(&[], options.clone()).expect_err("it must be refused");
            assert!(kinds.contains(&fault.kind), "{options:?}: {fault}");
            let text = self.text();
            let found = text.lines().nth(fault.line as usize - 1).unwrap_or_default();
            assert!(found.contains(line), "{options:?}: {fault} points at `{found}`");
        }
    }
}

fn schedules() -> Vec<Options> {
    let shuffled = |seed| Options::default().with_seed(seed).with_schedule(Schedule::Shuffled);
    [Options::default()].into_iter().chain((0..6).map(shuffled)).collect()
}

const SYNC: &str = "barrier.cluster.arrive; barrier.cluster.wait;";

/// Tiles of A, 64 by 16, and of B, 16 by 8, in bf16 and as they lie in shared memory.
const TILES: usize = 5;
const TILE_BYTES: usize = 2048 + 256;

fn a(row: usize, k: usize) -> i32 {
    ((row * 5 + k * 3 + row / 9) % 9) as i32 - 4
}

fn b(k: usize, column: usize) -> i32 {
    ((column * 7 + k * 2 + k / 5) % 9) as i32 - 4
}

/// K-major without swizzle: groups of 8 rows every 256 bytes, groups of 8 k every 128.
fn tiles() -> Vec<u32> {
    let mut bytes = vec![0u8; TILES * TILE_BYTES];
    let mut put = |at: usize, value: i32| {
        let bf16 = (value as f32).to_bits().to_le_bytes();
        bytes[at..at + 2].copy_from_slice(&bf16[2..]);
    };
    let place = |mn: usize, k: usize| mn % 8 * 16 + mn / 8 * 256 + k % 8 * 2 + k / 8 * 128;
    for tile in 0..TILES {
        let start = tile * TILE_BYTES;
        for k in 0..16 {
            (0..64).for_each(|row| put(start + place(row, k), a(row, 16 * tile + k)));
            (0..8).for_each(|column| {
                put(start + 2048 + place(column, k), b(16 * tile + k, column));
            });
        }
    }
    bytes.chunks(4).map(|word| u32::from_le_bytes(word.try_into().unwrap())).collect()
}

/// One thread fills two stages, a warpgroup multiplies; one of its threads alone says that a stage is free.
fn pipeline() -> Kernel {
    let body = format!(
        "  .shared .align 128 .b8 tiles[{stages}];
  .shared .align 8 .b64 full[2];
  .shared .align 8 .b64 empty[2];
  mov.b32 %round, 0;
  setp.ne.u32 %p, %t, 0;
  @%p bra READY;
  mbarrier.init.shared.b64 [full], 1;
  mbarrier.init.shared.b64 [full+8], 1;
  mbarrier.init.shared.b64 [empty], 1;
  mbarrier.init.shared.b64 [empty+8], 1;
  fence.mbarrier_init.release.cluster;
READY:
  bar.sync 0;
  setp.ge.u32 %p, %t, 128;
  @%p bra CONSUMER;
  setmaxnreg.dec.sync.aligned.u32 24;
  setp.ne.u32 %p, %t, 0;
  @%p bra DONE;
FILL:
  and.b32 %stage, %round, 1;
  bfe.u32 %phase, %round, 1, 1;
  xor.b32 %phase, %phase, 1;
  mov.u32 %at, empty;
  mad.lo.u32 %at, %stage, 8, %at;
FREE:
  mbarrier.try_wait.parity.shared.b64 %q, [%at], %phase;
  @!%q bra FREE;
  mov.u32 %at, full;
  mad.lo.u32 %at, %stage, 8, %at;
  mbarrier.arrive.expect_tx.shared.b64 _, [%at], {TILE_BYTES};
  mov.u32 %peer, tiles;
  mad.lo.u32 %peer, %stage, {TILE_BYTES}, %peer;
  cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%peer], [%in], {TILE_BYTES}, [%at];
  add.u64 %in, %in, {TILE_BYTES};
  add.u32 %round, %round, 1;
  setp.lt.u32 %p, %round, {TILES};
  @%p bra FILL;
  bra DONE;
CONSUMER:
  setmaxnreg.inc.sync.aligned.u32 240;
  mov.f32 %d0, 0f00000000;
  mov.f32 %d1, %d0;
  mov.f32 %d2, %d0;
  mov.f32 %d3, %d0;
NEXT:
  and.b32 %stage, %round, 1;
  bfe.u32 %phase, %round, 1, 1;
  mov.u32 %at, full;
  mad.lo.u32 %at, %stage, 8, %at;
FILLED:
  mbarrier.try_wait.parity.shared.b64 %q, [%at], %phase;
  @!%q bra FILLED;
  mov.u32 %peer, tiles;
  mad.lo.u32 %peer, %stage, {TILE_BYTES}, %peer;
  shr.u32 %v, %peer, 4;
  cvt.u64.u32 %a, %v;
  or.b64 %a, %a, 0x1000080000;
  add.u64 %b, %a, 128;
  wgmma.fence.sync.aligned;
  wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 {{%d0,%d1,%d2,%d3}}, %a, %b, 1, 1, 1, 0, 0;
  wgmma.commit_group.sync.aligned;
  wgmma.wait_group.sync.aligned 0;
  mov.u32 %at, empty;
  mad.lo.u32 %at, %stage, 8, %at;
  setp.eq.u32 %p, %t, 128;
  @%p mbarrier.arrive.shared.b64 _, [%at];
  add.u32 %round, %round, 1;
  setp.lt.u32 %p, %round, {TILES};
  @%p bra NEXT;
  sub.u32 %t, %t, 128;
  mad.wide.u32 %mine, %t, 16, %out;
  st.global.v4.f32 [%mine], {{%d0,%d1,%d2,%d3}};
DONE:
  ret;",
        stages = 2 * TILE_BYTES,
    );
    Kernel::new(256, &body)
}

#[test]
fn a_pipeline_of_copies_and_products() {
    let sum = |thread: usize, i: usize| {
        let (warp, lane) = (thread / 32, thread % 32);
        let (row, column) = (16 * warp + lane / 4 + 8 * (i / 2), 2 * (lane % 4) + i % 2);
        let total: i32 = (0..16 * TILES).map(|k| a(row, k) * b(k, column)).sum();
        (total as f32).to_bits()
    };
    let expected: Vec<u32> =
        (0..128).flat_map(|thread| (0..4).map(move |i| sum(thread, i))).collect();
    pipeline().gives(&tiles(), &expected);
}

#[test]
fn mistakes_in_a_pipeline() {
    let kernel = pipeline();
    let wait = "  wgmma.wait_group.sync.aligned 0;\n";
    // The stage is given back while it is read.
    kernel
        .changed(wait, "")
        .changed("  sub.u32 %t, %t, 128;\n", &format!("{wait}  sub.u32 %t, %t, 128;\n"))
        .is_refused(FaultKind::Race, "");
    // Accumulators in flight.
    kernel
        .changed(wait, &format!("  st.global.f32 [%mine+8192], %d0;\n{wait}"))
        .is_refused(FaultKind::Uninitialised, "st.global.f32");
    kernel
        .changed(wait, &format!("  mov.f32 %d1, 0f00000000;\n{wait}"))
        .is_refused(FaultKind::AsyncPending, "wgmma.wait_group");
    kernel
        .changed(
            "  wgmma.fence.sync.aligned;\n",
            "  wgmma.fence.sync.aligned;\n  add.rn.f32 %d0, %d0, 0f3F800000;\n",
        )
        .is_refused(FaultKind::Undefined, "wgmma.mma_async");
    kernel
        .changed("  wgmma.fence.sync.aligned;\n", "")
        .is_refused(FaultKind::Undefined, "wgmma.mma_async");
    // The producer does not wait for a free stage.
    kernel
        .changed("  @!%q bra FREE;\n", "")
        .is_refused_as(&[FaultKind::Race, FaultKind::Barrier], "");
    // Fewer bytes are expected than come.
    kernel
        .changed(&format!("_, [%at], {TILE_BYTES}"), &format!("_, [%at], {}", TILE_BYTES - 16))
        .is_refused(FaultKind::Deadlock, "");
}

/// Blocks of a cluster are neighbours on both axes; each writes its place into the block across the diagonal.
#[test]
fn clusters_of_two_dimensions() {
    let body = format!(
        "  .shared .align 4 .b32 word;
  mov.u32 %v, %ctaid.x;
  mov.u32 %w, %ctaid.y;
  mad.lo.u32 %v, %w, 4, %v;
  mov.u32 %rank, %cluster_ctarank;
  xor.b32 %peer, %rank, 3;
  mov.u32 %at, word;
  mapa.shared::cluster.u32 %peer, %at, %peer;
  {SYNC}
  st.shared::cluster.b32 [%peer], %v;
  {SYNC}
  ld.shared.b32 %w, [word];
  mad.wide.u32 %mine, %v, 4, %out;
  st.global.b32 [%mine], %w;"
    );
    let expected: Vec<u32> =
        (0..16).map(|block| ((block % 4) ^ 1) + 4 * ((block / 4) ^ 1)).collect();
    Kernel::new(1, &body).clusters([4, 4, 1], [2, 2, 1]).gives(&[], &expected);
}

/// Work between arrival and wait; the other block's words are read behind the wait.
fn split_barrier() -> Kernel {
    let body = "  .shared .align 4 .b32 tile[64];
  mov.u32 %rank, %cluster_ctarank;
  mov.u32 %at, tile;
  mad.lo.u32 %at, %t, 4, %at;
  add.u32 %v, %t, 100;
  mad.lo.u32 %v, %rank, 1000, %v;
  st.shared.b32 [%at], %v;
  barrier.cluster.arrive.release;
  mul.lo.u32 %w, %t, 3;
  xor.b32 %peer, %rank, 1;
  mapa.shared::cluster.u32 %peer, %at, %peer;
  barrier.cluster.wait.acquire;
  ld.shared::cluster.b32 %v, [%peer];
  add.u32 %w, %w, %v;
  mad.lo.u32 %at, %rank, 64, %t;
  mad.wide.u32 %mine, %at, 4, %out;
  st.global.b32 [%mine], %w;
  barrier.cluster.arrive.release;
  barrier.cluster.wait.acquire;";
    Kernel::new(64, body).clusters([2, 1, 1], [2, 1, 1])
}

#[test]
fn the_barrier_of_a_cluster_in_two_halves() {
    let expected: Vec<u32> =
        (0..128).map(|row| 4 * (row % 64) + 100 + 1000 * (1 - row / 64)).collect();
    split_barrier().gives(&[], &expected);
    split_barrier()
        .changed("arrive.release", "arrive.relaxed")
        .is_refused(FaultKind::Race, "ld.shared::cluster");
    split_barrier()
        .changed("  barrier.cluster.wait.acquire;\n", "")
        .is_refused(FaultKind::Cluster, "ld.shared::cluster");
    split_barrier()
        .changed(
            "mapa.shared::cluster.u32 %peer, %at, %peer",
            "mapa.shared::cluster.u32 %peer, %at, 2",
        )
        .is_refused(FaultKind::Cluster, "mapa");
}

/// Copies and sums into the other block, and by single threads.
#[test]
fn sums_into_the_other_block() {
    let body = format!(
        "  .shared .align 16 .b32 own[32];
  .shared .align 16 .b32 sum[32];
  .shared .align 8 .b64 barrier;
  mov.u32 %rank, %cluster_ctarank;
  mov.u32 %at, own;
  mad.lo.u32 %at, %t, 4, %at;
  mad.lo.u32 %v, %rank, 1000, %t;
  st.shared.b32 [%at], %v;
  mov.u32 %at, sum;
  mad.lo.u32 %at, %t, 4, %at;
  st.shared.b32 [%at], 7;
  fence.proxy.async;
  setp.eq.u32 %p, %t, 0;
  @%p mbarrier.init.shared.b64 [barrier], 1;
  @%p fence.mbarrier_init.release.cluster;
  @%p mbarrier.arrive.expect_tx.shared.b64 _, [barrier], 256;
  {SYNC}
  xor.b32 %rank, %rank, 1;
  mov.u32 %w, barrier;
  mapa.shared::cluster.u32 %w, %w, %rank;
  mapa.shared::cluster.u32 %peer, %at, %rank;
  red.async.relaxed.cluster.shared::cluster.mbarrier::complete_tx::bytes.add.u32 [%peer], 5, [%w];
  @%p cp.reduce.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes.add.u32 [%peer], [own], 128, [%w];
WAIT:
  mbarrier.try_wait.parity.shared.b64 %q, [barrier], 0;
  @!%q bra WAIT;
  ld.shared.b32 %v, [%at];
  xor.b32 %rank, %rank, 1;
  mad.lo.u32 %at, %rank, 32, %t;
  mad.wide.u32 %mine, %at, 4, %out;
  st.global.b32 [%mine], %v;
  {SYNC}"
    );
    let kernel = Kernel::new(32, &body).clusters([2, 1, 1], [2, 1, 1]);
    let expected: Vec<u32> = (0..64).map(|row| 12 + row % 32 + 1000 * (1 - row / 32)).collect();
    kernel.gives(&[], &expected);
    let wait = "  mbarrier.try_wait.parity.shared.b64 %q, [barrier], 0;\n  @!%q bra WAIT;\n";
    kernel.changed(wait, "").is_refused(FaultKind::Race, "");
}

/// The sources of a bulk store are free behind `.read`, its destination only behind the whole wait.
#[test]
fn bulk_groups() {
    let body = "  .shared .align 16 .b32 tile[4];
  st.shared.v4.b32 [tile], {1, 2, 3, 4};
  fence.proxy.async.shared::cta;
  cp.async.bulk.global.shared::cta.bulk_group [%out], [tile], 16;
  cp.async.bulk.commit_group;
  cp.async.bulk.wait_group.read 0;
  st.shared.v4.b32 [tile], {5, 6, 7, 8};
  fence.proxy.async.shared::cta;
  cp.async.bulk.global.shared::cta.bulk_group [%out+16], [tile], 16;
  cp.async.bulk.commit_group;
  cp.async.bulk.wait_group 1;
  ld.global.b32 %v, [%out+4];
  st.global.b32 [%out+32], %v;
  cp.async.bulk.wait_group 0;";
    let kernel = Kernel::new(1, body);
    kernel.gives(&[], &[1, 2, 3, 4, 5, 6, 7, 8, 2]);
    kernel.changed("  cp.async.bulk.wait_group.read 0;\n", "").is_refused(FaultKind::Race, "");
    kernel.changed("wait_group 1", "wait_group.read 1").is_refused(FaultKind::Race, "");
    kernel
        .changed("[tile], 16", "[tile], %t")
        .is_refused(FaultKind::Undefined, "cp.async.bulk.global");
}

#[test]
fn mbarriers_that_are_misused() {
    let body = "  .shared .align 8 .b64 barrier;
  mbarrier.init.shared.b64 [barrier], 2;
  mbarrier.arrive.noComplete.shared.b64 %state, [barrier], 1;
  mbarrier.arrive.shared.b64 _, [barrier];
  mbarrier.test_wait.shared.b64 %q, [barrier], %state;
  selp.u32 %v, 1, 0, %q;
  st.global.b32 [%out], %v;";
    let kernel = Kernel::new(1, body);
    kernel.gives(&[], &[1]);
    kernel
        .changed("%state, [barrier], 1;", "%state, [barrier], 2;")
        .is_refused(FaultKind::Barrier, "noComplete");
    kernel
        .changed("mbarrier.arrive.shared.b64 _, [barrier];", "mbarrier.arrive.expect_tx.shared.b64 _, [barrier], 1048575; mbarrier.expect_tx.shared.b64 [barrier], 1;")
        .is_refused(FaultKind::Barrier, "expect_tx");
}
