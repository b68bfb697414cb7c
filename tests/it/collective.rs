//! What all ranks do together, on every device.

use warpwright::attention::{self, Inputs, Mask, Options};
use warpwright::backend::Backend;
use warpwright::collective::{
    Communicator, Lane, Lines, Local, Parcel, Tag, all_gather, all_reduce, all_reduce_max,
    all_to_all, reduce_scatter, split,
};
use warpwright::ring::{self, Partition, Ring, Scheme};
use warpwright::{Cpu, Result, Tensor, View};

use crate::devices::{devices, ieee_devices, on_backend};

/// Numbers that differ from rank to rank and place to place, whole, so that sums are exact.
fn numbers(rank: usize, count: usize) -> Vec<f32> {
    (0..count).map(|i| (7 * i % 5) as f32 + 100.0 * ((rank * 3 + i) % 4) as f32).collect()
}

fn tensors<B: Backend>(
    backend: &B,
    parts: &[Vec<f32>],
    shape: &[usize],
) -> Result<Vec<Tensor<B, f32>>> {
    parts.iter().map(|part| Tensor::from_slice(backend, part, shape)).collect()
}

fn views<B: Backend>(tensors: &[Tensor<B, f32>]) -> Vec<View<B>> {
    tensors.iter().map(|tensor| (**tensor).clone()).collect()
}

/// What each of some ranks gives.
fn run<B: Lines, R: Send>(size: usize, rank: impl Fn(&Local<B>) -> Result<R> + Sync) -> Vec<R> {
    let ends = Local::run(size, |ranks| rank(&ranks));
    ends.into_iter()
        .map(|end| end.unwrap_or_else(|error| panic!("{size} ranks: {error}")))
        .collect()
}

#[test]
fn sums_and_maxima_are_those_of_all_ranks() {
    for device in devices() {
        // Fewer elements than ranks, as many, a single one, a line with a gap after it.
        for (size, shape) in
            [(1, vec![3]), (3, vec![2]), (4, vec![4, 3]), (5, vec![]), (2, vec![0])]
        {
            let count = shape.iter().product();
            let all: Vec<Vec<f32>> = (0..size).map(|rank| numbers(rank, count)).collect();
            let of_all = |how: fn(f32, f32) -> f32| -> Vec<f32> {
                (0..count).map(|i| all.iter().map(|one| one[i]).reduce(how).unwrap()).collect()
            };
            on_backend!(device, |backend| {
                let found = run(size, |ranks| {
                    let own = Tensor::from_slice(backend, &all[ranks.rank()], &shape)?;
                    let greatest = Tensor::from_slice(backend, &all[ranks.rank()], &shape)?;
                    all_reduce(ranks, &own)?;
                    all_reduce_max(ranks, &greatest)?;
                    Ok([own.to_vec()?, greatest.to_vec()?])
                });
                for (rank, found) in found.into_iter().enumerate() {
                    let what = format!("{}, rank {rank} of {size}, {shape:?}", device.name());
                    assert_eq!(found, [of_all(|x, y| x + y), of_all(f32::max)], "{what}");
                }
            });
        }
    }
}

#[test]
fn nan_is_greater_than_any_number() {
    for device in ieee_devices() {
        on_backend!(device, |backend| {
            let found = run(3, |ranks| {
                let nan = |rank| if ranks.rank() == rank { f32::NAN } else { 9.0 };
                let own = [nan(0), nan(1), nan(2), ranks.rank() as f32];
                let own = Tensor::from_slice(backend, &own, &[4])?;
                all_reduce_max(ranks, &own)?;
                own.to_vec()
            });
            for found in found {
                assert!(found[..3].iter().all(|x| x.is_nan()), "{}: {found:?}", device.name());
                assert_eq!(found[3], 2.0, "{}", device.name());
            }
        });
    }
}

#[test]
fn parts_are_exchanged_and_added_up() {
    const RANKS: usize = 3;
    let part = |from: usize, to: usize| numbers(10 * from + to, 4);
    for device in devices() {
        on_backend!(device, |backend| {
            let found = run(RANKS, |ranks| {
                let rank = ranks.rank();
                let parts: Vec<Vec<f32>> = (0..RANKS).map(|to| part(rank, to)).collect();
                let parts = views(&tensors(backend, &parts, &[2, 2])?);
                let into = tensors(backend, &vec![vec![0.0; 4]; RANKS], &[2, 2])?;
                all_to_all(ranks, &parts, &views(&into))?;
                let sum = Tensor::from_slice(backend, &[0.0f32; 4], &[2, 2])?;
                reduce_scatter(ranks, &parts, &sum)?;
                let into = into.iter().map(Tensor::to_vec).collect::<Result<Vec<_>>>()?;
                Ok((into, sum.to_vec()?))
            });
            for (rank, (into, sum)) in found.into_iter().enumerate() {
                let expected: Vec<Vec<f32>> = (0..RANKS).map(|from| part(from, rank)).collect();
                assert_eq!(into, expected, "{}, rank {rank}", device.name());
                let expected: Vec<f32> =
                    (0..4).map(|i| expected.iter().map(|part| part[i]).sum()).collect();
                assert_eq!(sum, expected, "{}, rank {rank}", device.name());
            }
        });
    }
}

/// A group of every other rank goes round a ring by itself, while the others do.
#[test]
fn groups_of_ranks_are_rings_of_their_own() {
    let tokens = 18;
    let whole = |group: usize| -> Vec<f32> {
        (0..tokens * 8).map(|i| ((i * (11 + group)) % 17) as f32 / 8.0 - 1.0).collect()
    };
    let options = Options::default().with_mask(Mask::causal());
    for device in devices() {
        on_backend!(device, |backend| {
            let found = run(4, |ranks| {
                let group = ranks.rank() % 2;
                let half = split(ranks, backend, group as u64, 0)?;
                let partition = Partition::new(Scheme::Zigzag, tokens, half.size())?;
                let part = partition.scatter(&whole(group), [1, 8], half.rank());
                let x = Tensor::from_slice(backend, &part, &[1, partition.len(half.rank()), 2, 4])?;
                let ring = Ring::new(partition);
                let outputs = ring::forward(&half, &Inputs::new(&x, &x, &x), &ring, &options)?;
                Ok((group, outputs.out.to_vec()?))
            });
            for group in 0..2 {
                let parts: Vec<Vec<f32>> = found
                    .iter()
                    .filter(|(of_group, _)| *of_group == group)
                    .map(|(_, out)| out.clone())
                    .collect();
                let partition = Partition::new(Scheme::Zigzag, tokens, 2).expect("ranks");
                let found = partition.gather(&parts, [1, 8]);
                let x = Tensor::from_vec(whole(group), &[1, tokens, 2, 4]).expect("shape");
                let exact =
                    attention::forward(&Inputs::new(&x, &x, &x), &options).expect("it runs");
                for (found, exact) in found.iter().zip(exact.out.to_vec().expect("it is there")) {
                    assert!((found - exact).abs() < 2e-6, "{}: {found} {exact}", device.name());
                }
            }
        });
    }
}

/// A message that has come can be told from one that has not.
#[test]
fn what_has_come_can_be_told() {
    for device in devices() {
        on_backend!(device, |backend| {
            let tag = |step| Tag { call: 2, step, lane: Lane(0) };
            let found = run(2, |ranks| {
                let own = Tensor::from_slice(backend, &[1.0f32 + ranks.rank() as f32], &[1])?;
                let room = Tensor::from_slice(backend, &[0.0f32], &[1])?;
                let peer = 1 - ranks.rank();
                let parcel =
                    |tensor: &Tensor<_, f32>| Parcel { peer, parts: vec![(**tensor).clone()] };
                let (sends, receives) = (vec![parcel(&own)], vec![parcel(&room)]);
                if ranks.rank() == 0 {
                    let mut ticket = ranks.post(tag(0), vec![], receives)?;
                    let before = ranks.test(&mut ticket)?;
                    // The other rank sends only now.
                    ranks.gather_bytes(b"go on")?;
                    while !ranks.test(&mut ticket)? {
                        std::thread::yield_now();
                    }
                    ranks.wait(ticket)?;
                    return Ok((before, room.to_vec()?));
                }
                ranks.gather_bytes(b"go on")?;
                ranks.wait(ranks.post(tag(0), sends, vec![])?)?;
                Ok((false, own.to_vec()?))
            });
            assert_eq!(found, [(false, vec![2.0]), (false, vec![2.0])], "{}", device.name());
        });
    }
}

/// An error of one group ends the other as well, since one communicator carries both.
#[test]
fn what_ends_a_group_ends_all() {
    let ends = Local::<Cpu>::run(4, |ranks| {
        let half = split(&ranks, &Cpu, ranks.rank() as u64 / 2, 0)?;
        if ranks.rank() == 3 {
            half.abort("it has had enough");
        }
        half.gather_bytes(b"hello").map(drop)
    });
    assert!(ends.iter().any(|end| {
        end.as_ref().is_err_and(|error| error.to_string().contains("it has had enough"))
    }));
}

#[test]
fn what_cannot_be_is_refused() {
    let ends = Local::<Cpu>::run(2, |ranks| {
        let own = Tensor::from_vec(vec![1.0f32, 2.0], &[2])?;
        let few = all_gather(&ranks, &own, &views(&tensors(&Cpu, &[vec![0.0; 2]], &[2])?));
        let few = few.expect_err("a tensor for one rank of two").to_string();
        assert!(few.contains("expected 2 tensors, one of each rank, found 1"), "{few}");
        let parcel = Parcel { peer: 2, parts: vec![(*own).clone()] };
        let tag = Tag { call: 1, step: 0, lane: Lane(0) };
        let unknown = ranks.post(tag, vec![parcel], vec![]).map(drop);
        let unknown = unknown.expect_err("a third rank of two").to_string();
        assert!(unknown.contains("option `peer`: expected a rank below 2, found 2"), "{unknown}");
        Ok(())
    });
    ends.into_iter().for_each(|end| end.expect("nothing else is wrong"));
}
