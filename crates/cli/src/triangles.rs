//! `warpwright triangles`: triangles and clustering of a graph.

use std::path::PathBuf;

use comfy_table::{Cell, CellAlignment};
use warpwright::spgemm::triangles;

use crate::failure::Failure;
use crate::matrix::{self, Phases};
use crate::output::say;
use crate::spgemm::print;
use crate::table::table;
use crate::target::Target;

/// Count the triangles of a graph in a Matrix Market file
///
/// An entry at (i, j) or (j, i) joins i and j; directions, repetitions, loops and values do not
/// count. Example: warpwright triangles graph.mtx
#[derive(clap::Args)]
pub struct Arguments {
    /// The graph, a square matrix
    graph: PathBuf,
    /// Vertices to list, those in most triangles first
    #[arg(long, default_value_t = 5)]
    top: usize,
    /// Where to run: auto, cpu, wgpu, wgpu:INDEX, cuda, cuda:INDEX or ptx
    #[arg(long, default_value = "auto")]
    device: Target,
}

pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let device = arguments.device.open()?;
    let mut phases = Phases::default();
    let graph = phases.run("read", || matrix::read::<f64>(&arguments.graph))?;
    let (found, vertices) = phases.run("count", || Ok(triangles::on(&device, &graph)?))?;
    say!("vertices         {}", found.vertices);
    say!("edges            {}", found.edges);
    say!("triangles        {}", found.triangles);
    say!("mean clustering  {:.4}", vertices.mean_clustering());
    say!("transitivity     {:.4}", vertices.transitivity());
    let clustering = vertices.clustering();
    let mut order: Vec<usize> = (0..vertices.triangles.len()).collect();
    order.sort_by_key(|&vertex| std::cmp::Reverse(vertices.triangles[vertex]));
    let mut most = table(["vertex", "triangles", "neighbours", "clustering"]);
    let right = |text: String| Cell::new(text).set_alignment(CellAlignment::Right);
    for &vertex in order.iter().take(arguments.top) {
        most.add_row([
            // As the file numbers them.
            right((vertex + 1).to_string()),
            right(vertices.triangles[vertex].to_string()),
            right(vertices.degrees[vertex].to_string()),
            right(format!("{:.4}", clustering[vertex])),
        ]);
    }
    if arguments.top > 0 {
        say!("\n{most}");
    }
    print(&device, &found.summary, &phases);
    Ok(())
}
