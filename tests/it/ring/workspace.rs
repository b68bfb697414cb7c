//! Memory that one call leaves to the next.

use warpwright::attention::{Inputs, Mask, Options, OutputGradients};
use warpwright::collective::{Communicator, Local};
use warpwright::ring::{self, Algorithm, Partition, Ring, Scheme, Workspace};
use warpwright::{Result, Tensor};

use crate::devices::{devices, on_backend};

#[test]
fn calls_leave_their_memory_to_the_next() {
    let options = Options::default().with_mask(Mask::causal());
    let ways = [Algorithm::KvRing, Algorithm::TwoWay, Algorithm::TokenRing];
    for (device, algorithm) in devices().iter().flat_map(|device| ways.map(|way| (device, way))) {
        let found = on_backend!(device, |backend| Local::run(3, |ranks| {
            let partition = Partition::new(Scheme::Zigzag, 31, 3)?;
            let shape = [1, partition.len(ranks.rank()), 2, 8];
            let numbers = |salt: usize| -> Vec<f32> {
                let count = shape.iter().product::<usize>();
                (0..count)
                    .map(|i| ((i * 31 + salt * ranks.rank()) % 23) as f32 / 9.0 - 1.2)
                    .collect()
            };
            let tensor = |salt| Tensor::from_slice(backend, &numbers(salt), &shape);
            let (q, k, v, dout) = (tensor(1)?, tensor(2)?, tensor(3)?, tensor(5)?);
            let inputs = Inputs::new(&q, &k, &v);
            let given = OutputGradients::new(&dout);
            let ring = Ring::new(partition).with_algorithm(algorithm);
            let workspace = &mut Workspace::new(backend);
            let call = |workspace: &mut Workspace<_>| -> Result<(Vec<f32>, Vec<f32>, u64)> {
                let outputs = ring::forward_in(&ranks, &inputs, &ring, &options, workspace)?;
                let given = (&outputs, &given);
                let gradients =
                    ring::backward_in(&ranks, &inputs, &ring, &options, given, workspace)?;
                Ok((outputs.out.to_vec()?, gradients.k.to_vec()?, workspace.bytes()))
            };
            Ok([call(workspace)?, call(workspace)?, call(workspace)?])
        }));
        for (rank, found) in found.into_iter().enumerate() {
            let what = format!("{}, {algorithm}, rank {rank}", device.name());
            let [(out, dk, bytes), second, third] = found.expect("it runs");
            assert!(bytes > 0, "{what}: nothing was left");
            assert_eq!((&second.0, &second.1), (&out, &dk), "{what}");
            assert_eq!(third, second, "{what}: what is left should not grow");
        }
    }
}
