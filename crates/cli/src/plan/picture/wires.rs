//! What travels between two rows of a picture, as wires that do not lie on one another.

use warpwright::ring::{Item, Lane, Plan, Transfer};

use super::look::colour;
use super::{CARD, column, heads, of_piece};
use crate::output::size;
use crate::svg::{Element, text};

/// The height of a track, and what is above the first and below the last.
const TRACK: f64 = 19.0;
const ABOVE: f64 = 20.0;
const BELOW: f64 = 16.0;

/// The least distance of wires on one track.
const APART: f64 = 10.0;

/// The space below a row, and what travels in it.
pub struct Gutter {
    wires: Vec<Wire>,
    /// Its height.
    pub height: f64,
}

/// A transfer, and where it is drawn.
struct Wire {
    transfer: Transfer,
    /// What travels, and its bytes.
    label: String,
    bytes: u64,
    /// Where it leaves its sender, and reaches its receiver.
    ends: [f64; 2],
    track: usize,
}

impl Wire {
    fn new(plan: &Plan, transfer: Transfer) -> Self {
        let bytes = plan.shards.bytes_of(&transfer, plan.pass());
        let (what, of_queries) = match transfer.item {
            Item::Keys => ("K", false),
            Item::Queries => ("Q", true),
            Item::Result => ("out of Q", true),
            Item::KeyGradients => ("dK", false),
            Item::QueryGradients => ("dQ", true),
        };
        let piece = of_piece(plan, of_queries, transfer.piece);
        let heads = heads(plan, transfer.piece).map(|heads| format!(", {heads}"));
        let heads = heads.unwrap_or_default();
        let label = format!("{what}{piece}{heads} · {}", size(bytes));
        let ends = [column(transfer.from), column(transfer.to)];
        Self { transfer, label, bytes, ends, track: 0 }
    }

    /// From left to right, with room for its label.
    fn span(&self) -> [f64; 2] {
        let [from, to] = self.ends;
        let (left, right) = (from.min(to), from.max(to));
        let short = (5.6 * self.label.chars().count() as f64 - (right - left)).max(0.0);
        [left - short / 2.0, right + short / 2.0]
    }
}

/// What is sent at a step.
pub fn wires(plan: &Plan, step: usize) -> Gutter {
    let of_step = plan.schedule.transfers().iter().filter(|transfer| transfer.step == step);
    let mut wires: Vec<Wire> = of_step.map(|transfer| Wire::new(plan, *transfer)).collect();
    spread(&mut wires, plan.schedule.ranks());
    let tracks = stack(&mut wires);
    let height = if wires.is_empty() { 22.0 } else { ABOVE + TRACK * tracks as f64 + BELOW };
    Gutter { wires, height }
}

/// Gives each end in a column a place of its own: to the left what goes there.
fn spread(wires: &mut [Wire], ranks: usize) {
    for rank in 0..ranks {
        let mut ends: Vec<(usize, usize, usize)> = Vec::new();
        for (i, wire) in wires.iter().enumerate() {
            let Transfer { from, to, .. } = wire.transfer;
            ends.extend((from == rank).then_some((to, i, 0)));
            ends.extend((to == rank).then_some((from, i, 1)));
        }
        ends.sort_unstable();
        for (place, &(_, i, end)) in ends.iter().enumerate() {
            let share = (place + 1) as f64 / (ends.len() + 1) as f64;
            wires[i].ends[end] = column(rank) + CARD * (share - 0.5);
        }
    }
}

/// Lays wires on tracks, the short ones first; how many tracks there are.
fn stack(wires: &mut [Wire]) -> usize {
    let mut order: Vec<usize> = (0..wires.len()).collect();
    let length = |wire: &Wire| wire.span()[1] - wire.span()[0];
    order.sort_by(|&i, &j| {
        let lanes = wires[i].transfer.lane.cmp(&wires[j].transfer.lane);
        lanes.then(length(&wires[i]).total_cmp(&length(&wires[j])))
    });
    let mut tracks: Vec<Vec<[f64; 2]>> = Vec::new();
    for i in order {
        let [left, right] = wires[i].span();
        let is_free = |track: &Vec<[f64; 2]>| {
            track.iter().all(|[from, to]| right + APART < *from || to + APART < left)
        };
        let track = tracks.iter().position(is_free).unwrap_or_else(|| {
            tracks.push(Vec::new());
            tracks.len() - 1
        });
        tracks[track].push([left, right]);
        wires[i].track = track;
    }
    tracks.len()
}

impl Gutter {
    /// Whether nothing travels.
    pub fn is_empty(&self) -> bool {
        self.wires.is_empty()
    }

    /// Draws it below a row that ends at `top`.
    pub fn draw(&self, svg: &mut Element, top: f64) {
        for wire in &self.wires {
            svg.add(&self.wire(wire, top));
        }
        // Labels lie over all wires.
        for wire in &self.wires {
            let [from, to] = wire.ends;
            let y = track(wire, top) - 4.0;
            let label = text((from + to) / 2.0, y, "bytes", &wire.label);
            svg.add(&label.with("text-anchor", "middle"));
        }
    }

    fn wire(&self, wire: &Wire, top: f64) -> Element {
        let ([from, to], y, bottom) = (wire.ends, track(wire, top), top + self.height);
        let bend = if to > from { 6.0 } else { -6.0 };
        let path = format!(
            "M{from:.1} {top:.1}V{:.1}q0 6 {bend} 6H{:.1}q{bend} 0 {bend} 6V{:.1}",
            y - 6.0,
            to - bend,
            bottom - 6.0
        );
        let hue = colour(wire.transfer.piece.owner);
        let class = if wire.transfer.lane == Lane::Results { "wire result" } else { "wire" };
        let line = Element::new("path").with("d", path).with("class", class).with("stroke", hue);
        let tip = format!("M{to:.1} {bottom:.1}l-4 -8h8z");
        let Transfer { from, to, .. } = wire.transfer;
        let told = format!("rank {from} to rank {to}: {}, {} bytes", wire.label, wire.bytes);
        Element::new("g")
            .child(&Element::new("title").text(told))
            .child(&line)
            .child(&Element::new("path").with("d", tip).with("fill", hue))
    }
}

fn track(wire: &Wire, top: f64) -> f64 {
    top + ABOVE + TRACK * wire.track as f64
}
