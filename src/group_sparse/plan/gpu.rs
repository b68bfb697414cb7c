//! The plans of GPUs, CUDA's and WebGPU's, whose kernels read chunks of 16 bytes of codes.

use super::BALANCED;
use crate::Result;
use crate::backend::kernel::VariantInfo;
use crate::group_sparse::layout::{Geometry, TILE};
use crate::group_sparse::partition::{Partition, imbalance};
use crate::group_sparse::{NAME, Options, Problem, Scheme};
use crate::variant::{forced, no_such_variant};

/// Chunks of a worker's least share: 2 KiB of codes.
const LEAST_SHARE: usize = 128;

/// Where each row's chunks begin, and where the last one's end.
pub(in crate::group_sparse) fn chunk_ptr(problem: &Problem) -> Vec<u32> {
    let geometry = Geometry::of(&problem.format);
    let mut chunks = 0;
    let ends = problem.row_ptr.windows(2).map(|pair| {
        chunks += geometry.chunks_of_row((pair[1] - pair[0]) as usize) as u32;
        chunks
    });
    std::iter::once(0).chain(ends.collect::<Vec<_>>()).collect()
}

/// How a product's work is cut among workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::group_sparse) struct Cut {
    pub scheme: Scheme,
    pub workers: usize,
    pub rows: usize,
}

impl Cut {
    /// Cuts chunks among workers, of which so many are on the device at once. Even shares are whole
    /// tiles, none of them empty.
    pub fn of(chunk_ptr: &[u32], resident: usize, options: &Options) -> (Self, String) {
        let count = chunk_ptr.len() - 1;
        let chunks = chunk_ptr[count] as usize;
        // As few rows as keep every worker busy twice.
        let rows = [4, 2, 1].into_iter().find(|rows| count / rows >= 2 * resident).unwrap_or(1);
        let imbalance = imbalance(chunk_ptr, rows);
        let fills = count / rows >= 2 * resident;
        let scheme = options.scheme.unwrap_or(match fills && imbalance <= BALANCED {
            true => Scheme::DataCentric,
            false => Scheme::TaskCentric,
        });
        let tiles = chunks.div_ceil(TILE);
        let workers = match scheme {
            Scheme::DataCentric => count.div_ceil(rows),
            Scheme::TaskCentric => options
                .workers
                .unwrap_or_else(|| chunks.div_ceil(LEAST_SHARE).clamp(1, resident))
                .min(tiles),
        };
        let reason = match fills {
            true => format!("the largest share of {rows} whole rows is {imbalance:.2} of the mean"),
            false => format!("{count} rows do not fill {resident} workers twice"),
        };
        (Self { scheme, workers, rows }, reason)
    }
}

/// What a worker has to know, as kernels read it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub(in crate::group_sparse) struct Share {
    /// The first chunk; the next worker's is the end.
    pub begin: u32,
    /// The first row that begins in the share, or behind it.
    pub row: u32,
    /// The worker that owns the row in which the share begins: itself where a row begins there.
    pub owner: u32,
    /// The last worker that has a part of the row in which the share ends: itself where a row ends
    /// there, or the row is another's.
    pub last: u32,
}

/// The shares of all workers, and one behind them that says where the last one ends.
pub(in crate::group_sparse) fn shares(partition: &Partition<'_>, rows: usize) -> Vec<Share> {
    let mut shares: Vec<Share> = (0..partition.workers())
        .map(|worker| Share {
            begin: partition.share(worker).start as u32,
            row: partition.owned(worker).start as u32,
            owner: worker as u32,
            last: worker as u32,
        })
        .collect();
    for split in partition.splits() {
        shares[split.first].last = split.last as u32;
        for share in &mut shares[split.first + 1..=split.last] {
            share.owner = split.first as u32;
        }
    }
    let end = partition.share(partition.workers() - 1).end as u32;
    let behind = partition.workers() as u32;
    shares.push(Share { begin: end, row: rows as u32, owner: behind, last: behind });
    shares
}

/// The kernel of a problem among those that fit, or the one that is asked for.
pub(in crate::group_sparse) fn choose(
    device: &str,
    options: &Options,
    fitting: &[&'static VariantInfo],
) -> Result<&'static VariantInfo> {
    let asked = forced(NAME, options.variant.as_ref());
    let found = match &asked {
        Some(asked) => fitting.iter().find(|info| info.name == asked),
        None => fitting.first(),
    };
    found.copied().ok_or_else(|| {
        let names = fitting.iter().map(|info| info.name);
        no_such_variant(NAME, device.to_owned(), asked.as_deref().unwrap_or("any"), names)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_say_who_puts_rows_together() {
        // Three tiles of one row, then 32 rows of one chunk each.
        let row_ptr: Vec<u32> = std::iter::once(0).chain(96..=128).collect();
        let shares = shares(&Partition::even(&row_ptr, 4, TILE), 33);
        let told = |share: &Share| [share.begin, share.row, share.owner, share.last];
        let told: Vec<_> = shares.iter().map(told).collect();
        assert_eq!(told[0], [0, 0, 0, 2]);
        assert_eq!(told[1], [32, 1, 0, 1]);
        assert_eq!(told[2], [64, 1, 0, 2]);
        assert_eq!(told[3], [96, 1, 3, 3]);
        assert_eq!(told[4], [128, 33, 4, 4]);
    }

    #[test]
    fn rows_stay_whole_where_they_are_alike_and_many() {
        let alike: Vec<u32> = (0..=8192).map(|row| row * 64).collect();
        let (cut, _) = Cut::of(&alike, 1024, &Options::default());
        assert_eq!(cut, Cut { scheme: Scheme::DataCentric, workers: 2048, rows: 4 });
        let (cut, _) = Cut::of(&alike[..=1024], 1024, &Options::default());
        assert_eq!(cut.scheme, Scheme::TaskCentric);
        assert_eq!(cut.workers, 512, "2 KiB each");
        let mut uneven: Vec<u32> = (0..=8192).collect();
        uneven[8192] = 100_000;
        let (cut, _) = Cut::of(&uneven, 1024, &Options::default());
        assert_eq!(cut.scheme, Scheme::TaskCentric);
        // Nobody is without work.
        let (cut, _) = Cut::of(&[0, 3], 1024, &Options::default().with_workers(99));
        assert_eq!(cut.workers, 1);
    }
}
