//! A picture of compressed layers: a card each, with its kept groups as a grid, darker where more is
//! kept, and its error as a bar.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

use super::Grid;
use crate::failure::Failure;
use crate::file::write_whole;
use crate::layers::{Facts, total};
use crate::output::size;
use crate::svg::{Element, rect, text};

/// The style of every class, on light and on dark paper.
const STYLE: &str = "
text{font-family:system-ui,-apple-system,Segoe UI,Roboto,Helvetica,Arial,sans-serif;fill:#1f2328}
.title{font-size:22px;font-weight:600}
.dim{font-size:13px;fill:#59636e}
.name{font-size:14px;font-weight:600}
.small{font-size:11px;fill:#59636e}
.paper{fill:#ffffff}
.card{fill:#f6f8fa;stroke:#d1d9e0}
.empty{fill:#ffffff;stroke:#d1d9e0}
.kept{fill:#3f7fd0}
.track{fill:#d1d9e0}
.error{fill:#e0662f}
.weighted{fill:#2aa07f}
@media (prefers-color-scheme:dark){
text{fill:#f0f6fc}
.dim,.small{fill:#9198a1}
.paper{fill:#0d1117}
.card{fill:#151b23;stroke:#3d444d}
.empty{fill:#0d1117;stroke:#3d444d}
.track{fill:#3d444d}
}
";

/// Distances, in pixels.
const MARGIN: f64 = 28.0;
const TOP: f64 = 104.0;
const WIDTH: f64 = 820.0;
const CARD: f64 = 132.0;
const GAP: f64 = 12.0;
const GRID: [f64; 2] = [288.0, 104.0];
const BAR: f64 = 240.0;

/// Steps from nothing kept to all.
const SHADES: usize = 8;

/// Draws layers, each with its grid, into a file.
pub fn write(path: &Path, source: &Path, layers: &[Facts], grids: &[Grid]) -> Result<(), Failure> {
    let text = draw(source, layers, grids);
    write_whole(path, |file| file.write_all(text.as_bytes()))
}

fn draw(source: &Path, layers: &[Facts], grids: &[Grid]) -> String {
    let height = TOP + (CARD + GAP) * layers.len() as f64 + MARGIN;
    let title = source.file_name().unwrap_or_default().to_string_lossy();
    let mut svg = Element::new("svg")
        .with("xmlns", "http://www.w3.org/2000/svg")
        .with("width", WIDTH)
        .with("height", height)
        .with("viewBox", format!("0 0 {WIDTH} {height}"))
        .with("role", "img")
        .child(&Element::new("title").text(&title))
        .child(&Element::new("style").text(STYLE))
        .child(&rect(0.0, 0.0, WIDTH, height).with("class", "paper"))
        .child(&text(MARGIN, 40.0, "title", &title))
        .child(&text(MARGIN, 64.0, "dim", &total(layers)));
    let told = "kept groups, rows from top to bottom: the darker, the more · \
                bars: relative errors, on one scale";
    svg.add(&text(MARGIN, 84.0, "dim", told));
    let errors = layers.iter().flat_map(|layer| [layer.error, layer.weighted]).flatten();
    let most = errors.fold(f64::MIN_POSITIVE, f64::max);
    for (i, (layer, grid)) in layers.iter().zip(grids).enumerate() {
        card(&mut svg, TOP + (CARD + GAP) * i as f64, layer, grid, most);
    }
    format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{}", svg.to_text())
}

/// A layer, whose errors are at most `most`.
fn card(svg: &mut Element, top: f64, layer: &Facts, grid: &Grid, most: f64) {
    let width = WIDTH - 2.0 * MARGIN;
    svg.add(&rect(MARGIN, top, width, CARD).with("class", "card").with("rx", 6));
    let x = MARGIN + 14.0;
    cells(svg, x, top + (CARD - GRID[1]) / 2.0, grid);
    let x = x + GRID[0] + 24.0;
    svg.add(&text(x, top + 28.0, "name", &layer.name));
    let format = &layer.format;
    let sides = format!(
        "{} x {}, G = {}, {} bits {}, {}",
        format.rows, format.columns, format.group, format.bits, format.mode, format.pattern
    );
    svg.add(&text(x, top + 47.0, "small", &sides));
    let sizes = format!(
        "{:.1} % pruned, {:.2} bits a weight, {} of {}, imbalance {:.2}",
        100.0 * layer.sparsity,
        layer.bits(),
        size(layer.bytes[1]),
        size(layer.bytes[0]),
        layer.imbalance
    );
    svg.add(&text(x, top + 63.0, "small", &sizes));
    let bars = [("error", layer.error), ("weighted", layer.weighted)];
    for (i, (class, error)) in bars.into_iter().enumerate() {
        let Some(error) = error else { continue };
        let y = top + 78.0 + 22.0 * i as f64;
        svg.add(&rect(x, y, BAR, 10.0).with("class", "track").with("rx", 2));
        svg.add(&rect(x, y, BAR * error / most, 10.0).with("class", class).with("rx", 2));
        svg.add(&text(x + BAR + 8.0, y + 9.0, "small", &format!("{class} {error:.4}")));
    }
}

/// The cells of a grid, those of a shade as one path, neighbours in a row as one rectangle.
fn cells(svg: &mut Element, x: f64, y: f64, grid: &Grid) {
    let [wide, high] = grid.sides;
    svg.add(&rect(x, y, GRID[0], GRID[1]).with("class", "empty"));
    let shade = |kept: f32| (kept * SHADES as f32).ceil() as usize;
    let mut paths = vec![String::new(); SHADES + 1];
    for (row, cells) in grid.kept.chunks(wide).enumerate() {
        let mut first = 0;
        for run in cells.chunk_by(|left, right| shade(*left) == shade(*right)) {
            // Writing to a text does not fail.
            let _ = write!(paths[shade(run[0])], "M{first} {row}h{}v1h-{0}z", run.len());
            first += run.len();
        }
    }
    let scale = format!(
        "translate({x} {y}) scale({:.4} {:.4})",
        GRID[0] / wide as f64,
        GRID[1] / high as f64
    );
    let mut group = Element::new("g").with("transform", scale).with("class", "kept");
    for (shade, path) in paths.into_iter().enumerate().skip(1).filter(|(_, path)| !path.is_empty())
    {
        let opacity = shade as f64 / SHADES as f64;
        group.add(&Element::new("path").with("d", path).with("fill-opacity", opacity));
    }
    svg.add(&group);
}
