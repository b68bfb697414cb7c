//! Triangles of a graph, by masked products.
//!
//! The graph of a square matrix is undirected: an entry at (i, j) or at (j, i) joins i and j;
//! repeated ones and the diagonal do not count. With its vertices in the order of their degrees,
//! so that no row is long, and L the strictly lower triangle of its matrix,
//!
//! ```text
//! triangles = Σ_ij c_ij,   C = L ⊕.pair⊗ L where L has an entry
//! ```
//!
//! counts each triangle once, by its vertex of the middle place. The triangles at each vertex are
//! half the row sums of A ⊕.pair⊗ A where A has an entry, and the clustering coefficient of a
//! vertex of degree d in t triangles is 2 t / (d (d - 1)).
//!
//! ```
//! use warpwright::sparse::Csr;
//! use warpwright::{Cpu, spgemm::triangles};
//!
//! // Two triangles, 0 1 2 and 1 2 3, that share an edge.
//! let edges = Csr::<_, u8>::pattern([4, 4], vec![0u32, 2, 4, 5, 5], vec![1, 2, 2, 3, 3])?;
//! assert_eq!(triangles::count(&Cpu, &edges)?.triangles, 2);
//! let vertices = triangles::by_vertex(&Cpu, &edges)?;
//! assert_eq!(vertices.triangles, [1, 2, 2, 1]);
//! assert_eq!(vertices.clustering(), [1.0, 2.0 / 3.0, 2.0 / 3.0, 1.0]);
//! # Ok::<(), warpwright::Error>(())
//! ```

use super::{Inputs, Options, Semiring, Spgemm, Summary, multiply_with_summary};
use crate::Result;
use crate::backend::{Cpu, Device};
use crate::sparse::{Csr, Offset, Value};

/// The triangles of a graph.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Triangles {
    /// How many there are.
    pub triangles: u64,
    /// Vertices.
    pub vertices: usize,
    /// Edges.
    pub edges: usize,
    /// What the product took.
    pub summary: Summary,
}

/// Counts the triangles of a graph.
///
/// # Errors
///
/// [`Error::Sparse`](crate::Error::Sparse) where the matrix is not square, and the device's
/// refusals.
pub fn count<B, T, O>(backend: &B, graph: &Csr<Cpu, T, O>) -> Result<Triangles>
where
    B: Spgemm<u32, O>,
    T: Value,
    O: Offset,
{
    let edges: Csr<Cpu, u32, O> = graph.undirected()?;
    let lower = edges.relabelled(&by_degree(&degrees(&edges)?))?.lower(0)?;
    let lower = lower.to_backend(backend)?;
    let inputs = Inputs::new(&lower, &lower).with_mask(&lower);
    let options = Options::default().with_semiring(Semiring::PlusPair);
    let (counts, summary) = multiply_with_summary(&inputs, &options)?;
    let counts = counts.val().map(|val| val.to_vec()).transpose()?.unwrap_or_default();
    Ok(Triangles {
        triangles: counts.into_iter().map(u64::from).sum(),
        vertices: edges.side()?,
        edges: edges.nnz() / 2,
        summary,
    })
}

/// Counts the triangles of a graph, and those at each vertex, on a device that is known only at
/// run time.
///
/// # Errors
///
/// As [`count`], and [`Error::Unsupported`](crate::Error::Unsupported) where the device has no
/// kernels for it.
pub fn on<T: Value, O: Offset>(
    device: &Device,
    graph: &Csr<Cpu, T, O>,
) -> Result<(Triangles, Vertices)> {
    match device {
        Device::Cpu(cpu) => Ok((count(cpu, graph)?, by_vertex(cpu, graph)?)),
        #[cfg(feature = "cuda")]
        Device::Cuda(cuda) => Ok((count(cuda, graph)?, by_vertex(cuda, graph)?)),
        #[cfg(feature = "wgpu")]
        Device::Wgpu(wgpu) => Ok((count(wgpu, graph)?, by_vertex(wgpu, graph)?)),
    }
}

/// The triangles at each vertex of a graph.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Vertices {
    /// Triangles that each vertex is part of.
    pub triangles: Vec<u64>,
    /// Neighbours of each vertex.
    pub degrees: Vec<u32>,
}

impl Vertices {
    /// The share of each vertex's pairs of neighbours that are neighbours: 0 to 1; 0 where it has
    /// fewer than two.
    pub fn clustering(&self) -> Vec<f64> {
        let coefficient = |(&degree, &triangles): (&u32, &u64)| {
            let degree = f64::from(degree);
            let pairs = degree * (degree - 1.0) / 2.0;
            if pairs > 0.0 { triangles as f64 / pairs } else { 0.0 }
        };
        self.degrees.iter().zip(&self.triangles).map(coefficient).collect()
    }

    /// The mean of all vertices' coefficients; 0 without vertices.
    pub fn mean_clustering(&self) -> f64 {
        self.clustering().iter().sum::<f64>() / self.degrees.len().max(1) as f64
    }

    /// Three times the triangles for each two edges that meet: 0 to 1; 0 where none do.
    pub fn transitivity(&self) -> f64 {
        let meeting: u64 =
            self.degrees.iter().map(|&d| u64::from(d) * u64::from(d.saturating_sub(1)) / 2).sum();
        self.triangles.iter().sum::<u64>() as f64 / meeting.max(1) as f64
    }
}

/// Counts the triangles at each vertex of a graph.
///
/// # Errors
///
/// As [`count`].
pub fn by_vertex<B, T, O>(backend: &B, graph: &Csr<Cpu, T, O>) -> Result<Vertices>
where
    B: Spgemm<u32, O>,
    T: Value,
    O: Offset,
{
    let edges: Csr<Cpu, u32, O> = graph.undirected()?;
    let degrees = degrees(&edges)?;
    let edges = edges.to_backend(backend)?;
    let inputs = Inputs::new(&edges, &edges).with_mask(&edges);
    let options = Options::default().with_semiring(Semiring::PlusPair);
    let counts = multiply_with_summary(&inputs, &options)?.0.to_backend(&Cpu)?;
    let reading = counts.read()?;
    let rows = reading.rows()?;
    let at = |vertex| rows.row(vertex).map(|(_, count)| u64::from(count)).sum::<u64>() / 2;
    Ok(Vertices { triangles: (0..rows.len()).map(at).collect(), degrees })
}

fn degrees<O: Offset>(edges: &Csr<Cpu, u32, O>) -> Result<Vec<u32>> {
    let reading = edges.read()?;
    let rows = reading.rows()?;
    Ok((0..rows.len()).map(|row| rows.columns(row).len() as u32).collect())
}

/// The place of each vertex by ascending degree, ties by number.
fn by_degree(degrees: &[u32]) -> Vec<u32> {
    let mut order: Vec<u32> = (0..degrees.len() as u32).collect();
    order.sort_by_key(|&vertex| degrees[vertex as usize]);
    let mut place = vec![0; order.len()];
    for (i, vertex) in order.into_iter().enumerate() {
        place[vertex as usize] = i as u32;
    }
    place
}
