//! Bulk copies of boxes of tensors: at the edges, swizzled, and back.

use warpwright_ptx::interpreter::{
    Fault, FaultKind, Launch, Machine, Options, Schedule, Swizzle, TensorMap,
};
use warpwright_ptx::{Type, parse};

/// Elements of the tensor along each dimension, and of the box; rows of 160 bytes, planes of 1280.
const EXTENTS: [usize; 3] = [37, 7, 3];
const STRIDES: [usize; 3] = [1, 40, 320];
const BOX: [usize; 3] = [32, 4, 2];
/// Words of the box, and of the tensor with what lies between its rows.
const WORDS: usize = 256;
const ALL: usize = 1024;

fn text(body: &str) -> String {
    format!(
        ".version 8.0
.target sm_90
.address_size 64
.visible .entry kernel(.param .align 64 .b8 map[128], .param .u64 .ptr .global .align 16 out)
.reqntid 128
{{
  .reg .b32 %t, %at, %v;
  .reg .b64 %map, %out;
  .reg .pred %p, %q;
  .shared .align 1024 .b32 tile[{WORDS}];
  .shared .align 8 .b64 barrier;
  mov.b64 %map, map;
  cvta.param.u64 %map, %map;
  ld.param.u64 %out, [out];
  cvta.to.global.u64 %out, %out;
  mov.u32 %t, %tid.x;
  mad.wide.u32 %out, %t, 8, %out;
  mov.u32 %at, tile;
  mad.lo.u32 %at, %t, 8, %at;
{body}
}}"
    )
}

/// The box as it lies in shared memory, word by word.
const LOAD: &str = "  setp.ne.u32 %p, %t, 0;
  @%p bra JOIN;
  mbarrier.init.shared.b64 [barrier], 1;
  fence.mbarrier_init.release.cluster;
  mbarrier.arrive.expect_tx.shared.b64 _, [barrier], 1024;
  cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [tile], [%map,{-3, 5, 1}], [barrier];
JOIN:
  bar.sync 0;
WAIT:
  mbarrier.try_wait.parity.shared.b64 %q, [barrier], 0;
  @!%q bra WAIT;
  ld.shared.b32 %v, [%at];
  st.global.b32 [%out], %v;
  ld.shared.b32 %v, [%at+4];
  st.global.b32 [%out+4], %v;";

/// A box that holds 1000 and up, in the order of shared memory.
const STORE: &str = "  mad.lo.u32 %v, %t, 2, 1000;
  st.shared.b32 [%at], %v;
  add.u32 %v, %v, 1;
  st.shared.b32 [%at+4], %v;
  fence.proxy.async.shared::cta;
  bar.sync 0;
  setp.ne.u32 %p, %t, 0;
  @%p bra DONE;
  cp.async.bulk.tensor.3d.global.shared::cta.tile.bulk_group [%map,{-3, 5, 1}], [tile];
  cp.async.bulk.commit_group;
  cp.async.bulk.wait_group 0;
DONE:
  ret;";

/// The tensor, whose words count from 0, and `out` after the launch.
fn run(body: &str, swizzle: Swizzle, options: Options) -> Result<[Vec<u32>; 2], Fault> {
    let machine = Machine::new(0, options);
    let text = text(body);
    let module = parse(&text).unwrap_or_else(|why| panic!("{why}\n{text}"));
    let loaded = machine.load(&module)?;
    let bytes =
        |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<_>>();
    let (tensor, out) = (machine.allocate(4 * ALL as u64)?, machine.allocate(4 * WORDS as u64)?);
    machine.write(tensor, &bytes(&(0..ALL as u32).collect::<Vec<_>>()))?;
    machine.write(out, &[0; 4 * WORDS])?;
    let map = TensorMap {
        element: Type::U32,
        address: tensor,
        extents: EXTENTS.map(|extent| extent as u64).to_vec(),
        strides: STRIDES[1..].iter().map(|&words| 4 * words as u64).collect(),
        tile: BOX.map(|extent| extent as u32).to_vec(),
        swizzle,
    };
    machine.launch(
        loaded.kernel("kernel").expect("the module has it"),
        &Launch {
            grid: [1, 1, 1],
            block: [128, 1, 1],
            cluster: None,
            dynamic_shared: 0,
            cooperative: false,
            arguments: &[&map.encode()?, &out.to_le_bytes()],
        },
    )?;
    let read = |address: u64, words: usize| -> Result<Vec<u32>, Fault> {
        let mut bytes = vec![0; 4 * words];
        machine.read(address, &mut bytes)?;
        Ok(bytes.chunks(4).map(|word| u32::from_le_bytes(word.try_into().unwrap())).collect())
    };
    Ok([read(tensor, ALL)?, read(out, WORDS)?])
}

fn schedules() -> Vec<Options> {
    let shuffled = |seed| Options::default().with_seed(seed).with_schedule(Schedule::Shuffled);
    [Options::default()].into_iter().chain((0..4).map(shuffled)).collect()
}

/// Each word of shared memory with the word of the tensor that belongs there, if it is one: the box of 128-byte
/// rows begins at (-3, 5, 1).
fn places(swizzle: Swizzle) -> Vec<(usize, Option<usize>)> {
    let place = |word: usize| {
        let (x, row) = (word % BOX[0], word / BOX[0]);
        let (y, z) = (row % BOX[1], row / BOX[1]);
        // Units of four words: unit u of row r goes to u ^ (r mod 8).
        let moved = if swizzle == Swizzle::Bytes128 { row % 8 } else { 0 };
        let at = row * BOX[0] + ((x / 4) ^ moved) * 4 + x % 4;
        let inside = x >= 3 && x - 3 < EXTENTS[0] && y + 5 < EXTENTS[1] && z + 1 < EXTENTS[2];
        (at, inside.then(|| x - 3 + (y + 5) * STRIDES[1] + (z + 1) * STRIDES[2]))
    };
    (0..WORDS).map(place).collect()
}

#[test]
fn a_box_is_loaded_with_zeros_around_the_tensor() {
    for swizzle in [Swizzle::None, Swizzle::Bytes128] {
        let mut expected = vec![0; WORDS];
        for (at, word) in places(swizzle) {
            expected[at] = word.map_or(0, |word| word as u32);
        }
        for options in schedules() {
            let [_, out] = run(LOAD, swizzle, options).unwrap_or_else(|fault| panic!("{fault}"));
            assert_eq!(out, expected, "{swizzle:?}");
        }
    }
}

#[test]
fn a_box_is_stored_where_the_tensor_is() {
    for swizzle in [Swizzle::None, Swizzle::Bytes128] {
        let (mut stored, mut added): (Vec<u32>, Vec<u32>) =
            ((0..ALL as u32).collect(), (0..ALL as u32).collect());
        for (at, word) in places(swizzle) {
            if let Some(word) = word {
                stored[word] = 1000 + at as u32;
                added[word] += 1000 + at as u32;
            }
        }
        let sum = STORE.replace(
            "cp.async.bulk.tensor.3d.global.shared::cta.tile",
            "cp.reduce.async.bulk.tensor.3d.global.shared::cta.add.tile",
        );
        for options in schedules() {
            let [tensor, _] =
                run(STORE, swizzle, options.clone()).unwrap_or_else(|fault| panic!("{fault}"));
            assert_eq!(tensor, stored, "{swizzle:?}");
            let [tensor, _] = run(&sum, swizzle, options).unwrap_or_else(|fault| panic!("{fault}"));
            assert_eq!(tensor, added, "{swizzle:?}");
        }
    }
}

#[test]
fn boxes_that_must_be_refused() {
    let refused = |body: &str, from: &str, to: &str| {
        assert!(body.contains(from), "{from}");
        run(&body.replace(from, to), Swizzle::None, Options::default()).unwrap_err().kind
    };
    assert_eq!(refused(LOAD, "[%map,{", "[%out,{"), FaultKind::Undefined, "no map lies there");
    assert_eq!(refused(LOAD, "[tile]", "[tile+16]"), FaultKind::Misaligned);
    let wait = "  mbarrier.try_wait.parity.shared.b64 %q, [barrier], 0;\n  @!%q bra WAIT;\n";
    assert_eq!(refused(LOAD, wait, ""), FaultKind::Race);
    assert_eq!(refused(STORE, "  fence.proxy.async.shared::cta;\n", ""), FaultKind::Race);
    assert_eq!(refused(STORE, "  cp.async.bulk.wait_group 0;\n", ""), FaultKind::AsyncPending);
}
