//! Whole tensors that carry names: cut among ranks, and put together again.

use super::options::Ring;
use super::partition::Partition;
use crate::Result;
use crate::attention::Layout;
use crate::backend::{Cpu, Named};
use crate::tensor::View;

/// The partition that cuts a tensor, and the axis of its tokens; nothing where every rank has all
/// of it.
pub(super) fn cut_of<'a>(
    name: &str,
    ring: &'a Ring,
    layout: Layout,
) -> Option<(&'a Partition, usize)> {
    let axis = match layout {
        Layout::Bshd => 1,
        Layout::Bhsd => 2,
    };
    match name {
        "q" | "dout" | "out" | "dq" => Some((&ring.queries, axis)),
        "k" | "v" | "dk" | "dv" => Some((&ring.keys, axis)),
        "lse" | "dlse" => Some((&ring.queries, 2)),
        _ => None,
    }
}

/// What lies before the tokens, and the bytes of a token.
fn around(view: &View<Cpu>, axis: usize) -> [usize; 2] {
    let shape = view.shape();
    let outer = shape[..axis].iter().product();
    [outer, shape[axis + 1..].iter().product::<usize>() * view.dtype().bytes()]
}

/// The shape of a rank's part of a tensor.
pub(super) fn shape_of_rank(
    whole: &[usize],
    cut: Option<(&Partition, usize)>,
    rank: usize,
) -> Vec<usize> {
    let mut shape = whole.to_vec();
    if let Some((partition, axis)) = cut {
        shape[axis] = partition.len(rank);
    }
    shape
}

/// Each rank's part of whole tensors.
pub(super) fn scatter(whole: &Named<Cpu>, ring: &Ring, layout: Layout) -> Result<Vec<Named<Cpu>>> {
    let mut shards = vec![Named::new(); ring.ranks()];
    for (name, view) in whole {
        let cut = cut_of(name, ring, layout);
        let bytes = cut.map(|_| view.to_bytes()).transpose()?.unwrap_or_default();
        for (rank, shard) in shards.iter_mut().enumerate() {
            let part = match cut {
                None => view.clone(),
                Some((partition, axis)) => {
                    let part = partition.scatter(&bytes, around(view, axis), rank);
                    let shape = shape_of_rank(view.shape(), cut, rank);
                    View::from_bytes(&Cpu, view.dtype(), &part, &shape)?
                }
            };
            shard.insert(name.clone(), part);
        }
    }
    Ok(shards)
}

/// The whole tensors of which each rank has a part; of what all have, that of the first.
pub(super) fn gather(shards: &[Named<Cpu>], ring: &Ring, layout: Layout) -> Result<Named<Cpu>> {
    let mut whole = Named::new();
    for (name, first) in shards.first().into_iter().flatten() {
        let view = match cut_of(name, ring, layout) {
            None => first.clone(),
            Some((partition, axis)) => {
                let parts = shards.iter().map(|shard| shard[name].to_bytes());
                let parts: Vec<Vec<u8>> = parts.collect::<Result<_>>()?;
                let bytes = partition.gather(&parts, around(first, axis));
                let mut shape = first.shape().to_vec();
                shape[axis] = partition.total();
                View::from_bytes(&Cpu, first.dtype(), &bytes, &shape)?
            }
        };
        whole.insert(name.clone(), view);
    }
    Ok(whole)
}
