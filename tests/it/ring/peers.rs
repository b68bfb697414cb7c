//! Ranks on devices of their own, which are interpreters here, against ranks that share one.

use std::time::Duration;

use warpwright::attention::{Inputs, Mask, Options, OutputGradients};
use warpwright::backend::cuda::{Cuda, Interpreter};
use warpwright::collective::{
    Cause, Communicator, CudaPeer, Fault, Lane, Local, Parcel, Tag, all_gather, all_reduce,
};
use warpwright::ring::{self, Algorithm, Partition, Ring, Scheme};
use warpwright::verify::Random;
use warpwright::{Error, Result, Tensor};

const RANKS: usize = 3;

fn devices() -> Vec<Cuda> {
    (0..RANKS).map(|_| Interpreter::open().expect("it needs nothing")).collect()
}

/// Both passes of a rank: out, dq, dk and dv.
fn both(
    ranks: &impl Communicator<Cuda>,
    device: &Cuda,
    algorithm: Algorithm,
) -> Result<[Vec<f32>; 4]> {
    let partition = Partition::new(Scheme::Zigzag, 26, RANKS)?;
    let mut random = Random::new(40 + ranks.rank() as u64);
    let mut tensor = |heads: usize| {
        let shape = [1, partition.len(ranks.rank()), heads, 8];
        let count = shape.iter().product();
        let numbers: Vec<f32> = (0..count).map(|_| random.normal() as f32).collect();
        Tensor::from_slice(device, &numbers, &shape)
    };
    let (q, k, v, dout) = (tensor(4)?, tensor(2)?, tensor(2)?, tensor(4)?);
    let inputs = Inputs::new(&q, &k, &v);
    let ring = Ring::new(partition).with_algorithm(algorithm);
    let options = Options::default().with_mask(Mask::causal());
    let outputs = ring::forward(ranks, &inputs, &ring, &options)?;
    let given = OutputGradients::new(&dout);
    let gradients = ring::backward(ranks, &inputs, &ring, &options, &outputs, &given)?;
    Ok([outputs.out.to_vec()?, gradients.q.to_vec()?, gradients.k.to_vec()?, gradients.v.to_vec()?])
}

#[test]
fn devices_of_their_own_give_the_bits_of_one_device() {
    let all = devices();
    for algorithm in [Algorithm::KvRing, Algorithm::TwoWay, Algorithm::TokenRing] {
        let apart = CudaPeer::run_on(&all, |ranks, device| both(&ranks, device, algorithm));
        let apart: Result<Vec<_>> = apart.expect("a group").into_iter().collect();
        let shared = Local::run(RANKS, |ranks| both(&ranks, &all[0], algorithm));
        let shared: Result<Vec<_>> = shared.into_iter().collect();
        let (apart, shared) = (apart.expect("it runs"), shared.expect("it runs"));
        assert_eq!(apart, shared, "{algorithm}");
    }
}

/// Tensors with gaps are packed before they travel, and put in their places then.
#[test]
fn lines_with_gaps_travel() {
    let columns = |device: &Cuda, number: f32| -> Result<Tensor<Cuda, f32>> {
        let numbers: Vec<f32> = (0..12u8).map(|i| number + f32::from(i)).collect();
        Tensor::from_slice(device, &numbers, &[3, 4])
    };
    let ends = CudaPeer::run_on(&devices(), |ranks, device| {
        let own = columns(device, 100.0 * ranks.rank() as f32)?;
        let heard = columns(device, -100.0)?;
        let sends = vec![Parcel {
            peer: (ranks.rank() + 1) % RANKS,
            parts: vec![own.narrowed(1, 1..3)?.into_view()],
        }];
        let receives = vec![Parcel {
            peer: (ranks.rank() + RANKS - 1) % RANKS,
            parts: vec![heard.narrowed(1, 0..2)?.into_view()],
        }];
        let tag = Tag { call: 9, step: 0, lane: Lane(1) };
        ranks.wait(ranks.post(tag, sends, receives)?)?;
        heard.to_vec()
    });
    for (rank, heard) in ends.expect("a group").into_iter().enumerate() {
        let of = 100.0 * ((rank + RANKS - 1) % RANKS) as f32;
        let expected: Vec<f32> = (0..12u8)
            .map(|i| if i % 4 < 2 { of + f32::from(i) + 1.0 } else { f32::from(i) - 100.0 })
            .collect();
        assert_eq!(heard.expect("it runs"), expected, "rank {rank}");
    }
}

#[test]
fn sums_over_devices_are_those_of_all_ranks() {
    let ends = CudaPeer::run_on(&devices(), |ranks, device| {
        let numbers: Vec<f32> =
            (0..7u8).map(|i| f32::from(i) + 10.0 * ranks.rank() as f32).collect();
        let own = Tensor::from_slice(device, &numbers, &[7])?;
        let parts = (0..RANKS)
            .map(|_| Tensor::<Cuda, f32>::new(device, &[7]))
            .collect::<Result<Vec<_>>>()?;
        let views: Vec<_> = parts.iter().map(|part| (**part).clone()).collect();
        all_gather(&ranks, &own, &views)?;
        all_reduce(&ranks, &own)?;
        Ok((own.to_vec()?, parts.iter().map(Tensor::to_vec).collect::<Result<Vec<_>>>()?))
    });
    for end in ends.expect("a group") {
        let (sum, parts) = end.expect("it runs");
        assert_eq!(sum, (0..7u8).map(|i| 3.0 * f32::from(i) + 30.0).collect::<Vec<_>>());
        for (rank, part) in parts.into_iter().enumerate() {
            let expected: Vec<f32> = (0..7u8).map(|i| f32::from(i) + 10.0 * rank as f32).collect();
            assert_eq!(part, expected, "of rank {rank}");
        }
    }
}

#[test]
fn a_rank_that_leaves_is_told_to_the_others() {
    let deadline = Some(Duration::from_millis(500));
    let ends = CudaPeer::run_on(&devices(), |ranks, device| match ranks.rank() {
        1 => Ok(()),
        _ => both(&ranks.with_deadline(deadline), device, Algorithm::TokenRing).map(drop),
    });
    for (rank, end) in ends.expect("a group").into_iter().enumerate().filter(|(rank, _)| *rank != 1)
    {
        let left = |error: &Error| {
            let fault = match error {
                Error::Communication { fault: Fault::Poisoned { first }, .. } => match &**first {
                    Error::Communication { fault, .. } => fault,
                    _ => return false,
                },
                Error::Communication { fault, .. } => fault,
                _ => return false,
            };
            matches!(fault, Fault::PeerFailed { peer: 1, cause: Cause::Left })
        };
        assert!(end.as_ref().is_err_and(left), "rank {rank}: {end:?}");
    }
}
