//! A picture of a ring: who computes and sends what at each step. Ranks are columns and steps rows;
//! what travels goes through the space between two rows.

use std::io::Write;
use std::path::Path;

use warpwright::attention::Class;
use warpwright::ring::{
    Algorithm, Block, Half, Heads, Item, Lane, Partition, Pass, Piece, Plan, Scheme,
};

use crate::failure::Failure;
use crate::file::write_whole;
use crate::output::size;
use crate::svg::{Element, middle, rect, text};

mod look;
mod wires;

use look::{STYLE, colour};
use wires::{Gutter, wires};

/// The most ranks of a picture that can be read.
const MOST_RANKS: usize = 32;

/// Distances, in pixels.
const MARGIN: f64 = 28.0;
const LEFT: f64 = 92.0;
const TOP: f64 = 188.0;
const COLUMN: f64 = 228.0;
const CARD: f64 = 192.0;
const LINE: f64 = 56.0;
const GLYPH: f64 = 40.0;

/// Draws a plan into a file.
pub fn write(path: &Path, plan: &Plan) -> Result<(), Failure> {
    let ranks = plan.schedule.ranks();
    if ranks > MOST_RANKS {
        return Err(Failure::input(format!(
            "ring-attention: --svg: expected at most {MOST_RANKS} ranks, found {ranks}"
        )));
    }
    let text = Picture::new(plan).draw();
    write_whole(path, |file| file.write_all(text.as_bytes()))
}

/// A plan, and where its rows are.
struct Picture<'a> {
    plan: &'a Plan,
    /// What travels between a row and the next, and behind the last.
    gutters: Vec<Gutter>,
    /// The upper edge of each row, and of what is behind the last.
    rows: Vec<f64>,
    /// The height of a card.
    card: f64,
}

impl<'a> Picture<'a> {
    fn new(plan: &'a Plan) -> Self {
        let ranks = plan.schedule.ranks();
        let lines = if plan.schedule.algorithm() == Algorithm::TwoWay { 2.0 } else { 1.0 };
        let card = 12.0 + lines * LINE;
        let gutters: Vec<Gutter> = (0..ranks).map(|step| wires(plan, step)).collect();
        let mut rows = vec![TOP];
        for gutter in &gutters {
            let last = rows.last().copied().unwrap_or(TOP);
            rows.push(last + card + gutter.height);
        }
        Self { plan, gutters, rows, card }
    }

    fn ranks(&self) -> usize {
        self.plan.schedule.ranks()
    }

    fn width(&self) -> f64 {
        (LEFT + COLUMN * self.ranks() as f64 + MARGIN).max(760.0)
    }

    /// The text of the whole picture.
    fn draw(&self) -> String {
        let end = self.rows[self.ranks()] + if self.has_tail() { 40.0 } else { 0.0 };
        let (width, height) = (self.width(), end + 152.0);
        let mut svg = Element::new("svg")
            .with("xmlns", "http://www.w3.org/2000/svg")
            .with("width", width)
            .with("height", height)
            .with("viewBox", format!("0 0 {width} {height}"))
            .with("role", "img")
            .child(&Element::new("title").text(self.title()))
            .child(&Element::new("style").text(STYLE))
            .child(&rect(0.0, 0.0, width, height).with("class", "paper"));
        self.head(&mut svg);
        for step in 0..self.ranks() {
            self.row(&mut svg, step);
            self.gutters[step].draw(&mut svg, self.rows[step] + self.card);
        }
        if self.has_tail() {
            self.tail(&mut svg);
        }
        self.legend(&mut svg, end + 20.0);
        format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{}", svg.to_text())
    }

    fn title(&self) -> String {
        let plan = self.plan;
        format!("ring-attention, {}: {}", plan.pass(), plan.schedule.algorithm())
    }

    /// What is drawn, and the ranks with their tokens.
    fn head(&self, svg: &mut Element) {
        let (plan, shards) = (self.plan, &self.plan.shards);
        let [queries, keys] = [&shards.queries, &shards.keys].map(Partition::total);
        let mask = plan.options.mask;
        let mut masked = if mask.causal { "causal".to_owned() } else { "dense".to_owned() };
        if mask.window != (None, None) {
            let side = |side: Option<usize>| side.map_or("all".to_owned(), |n| n.to_string());
            masked = format!("{masked}, window {} to {}", side(mask.window.0), side(mask.window.1));
        }
        let sent: u64 = shards.bytes_sent(&plan.schedule).iter().sum();
        let share = 100.0 * sent as f64 / plan.dense_bytes().max(1) as f64;
        svg.add(&text(MARGIN, 40.0, "title", &self.title()));
        let sizes = format!(
            "{} over {} ranks, {masked} · B={} H={} Hk={} Sq={queries} Sk={keys} D={} Dv={} {}",
            shards.queries.scheme(),
            self.ranks(),
            shards.batch,
            shards.heads,
            shards.kv_heads,
            shards.width,
            shards.value_width,
            shards.dtype,
        );
        svg.add(&text(MARGIN, 64.0, "dim", &sizes));
        let sent = format!("all ranks send {}, {share:.1} % of a dense ring", size(sent));
        svg.add(&text(MARGIN, 84.0, "dim", &sent));
        svg.add(&text(MARGIN, 104.0, "dim", &plan.reason()));
        for rank in 0..self.ranks() {
            let x = column(rank);
            let bar = rect(x - CARD / 2.0, 130.0, CARD, 4.0).with("rx", 2);
            svg.add(&bar.with("fill", colour(rank)));
            svg.add(&middle(x, 153.0, "rank", &format!("rank {rank}")));
            svg.add(&middle(x, 171.0, "small", &tokens(&shards.queries, rank)));
        }
    }

    /// What the ranks compute at a step.
    fn row(&self, svg: &mut Element, step: usize) {
        let y = self.rows[step];
        svg.add(&text(MARGIN, y + 27.0, "step", &format!("step {step}")));
        for rank in 0..self.ranks() {
            let blocks = self.plan.schedule.blocks().iter();
            let blocks: Vec<&Block> =
                blocks.filter(|block| (block.step, block.rank) == (step, rank)).collect();
            self.card(svg, [column(rank) - CARD / 2.0, y], &blocks);
        }
    }

    fn card(&self, svg: &mut Element, [x, y]: [f64; 2], blocks: &[&Block]) {
        let class = if blocks.is_empty() { "idle" } else { "card" };
        svg.add(&rect(x, y, CARD, self.card).with("rx", 8).with("class", class));
        if blocks.is_empty() {
            let label = "nothing to compute";
            svg.add(&middle(x + CARD / 2.0, y + self.card / 2.0 + 4.0, "small", label));
        }
        for (i, block) in blocks.iter().enumerate() {
            let y = y + 6.0 + (self.card - 12.0) * i as f64 / blocks.len() as f64;
            let y = if blocks.len() == 1 { y + (self.card - 12.0 - LINE) / 2.0 } else { y };
            svg.add(&self.block(x, y, block));
        }
    }

    /// A block: which of its scores are seen, and what meets.
    fn block(&self, x: f64, y: f64, block: &Block) -> Element {
        let plan = self.plan;
        let travels = match plan.schedule.algorithm() {
            Algorithm::TokenRing => block.queries.owner,
            Algorithm::KvRing | Algorithm::TwoWay => block.keys.owner,
        };
        let (queries, keys) =
            (of_piece(plan, true, block.queries), of_piece(plan, false, block.keys));
        let counts = plan.tokens(block).map(|tokens| tokens.len());
        let heads = heads(plan, block.keys).map(|heads| format!(", {heads}")).unwrap_or_default();
        let kind = format!("{}{heads}", Kind::of(plan, block).name());
        let told = format!("Q{queries} x K{keys}, {kind}: {} x {} tokens", counts[0], counts[1]);
        let counted = format!("{} × {} tokens", counts[0], counts[1]);
        let mut group = Element::new("g").child(&Element::new("title").text(told));
        glyph(&mut group, [x + 12.0, y + 8.0], plan, block, colour(travels));
        group.add(&text(x + 64.0, y + 20.0, "label", &format!("Q{queries} × K{keys}")));
        group.add(&text(x + 64.0, y + 35.0, "small", &kind));
        group.add(&text(x + 64.0, y + 49.0, "small", &counted));
        group
    }

    /// Whether something travels behind the last step.
    fn has_tail(&self) -> bool {
        self.gutters.last().is_some_and(|gutter| !gutter.is_empty())
    }

    /// Where what is left comes home.
    fn tail(&self, svg: &mut Element) {
        let y = self.rows[self.ranks()];
        svg.add(&text(MARGIN, y + 18.0, "step", "home"));
        for rank in 0..self.ranks() {
            let x = column(rank);
            let pill = rect(x - CARD / 2.0, y, CARD, 28.0).with("rx", 14).with("class", "card");
            svg.add(&pill);
            svg.add(&middle(x, y + 18.0, "small", &format!("rank {rank} has all of its own")));
        }
    }

    /// What glyphs, wires and colours mean.
    fn legend(&self, svg: &mut Element, y: f64) {
        const GREY: &str = "#8a8f98";
        let line = Element::new("line").with("x1", MARGIN).with("x2", self.width() - MARGIN);
        svg.add(&line.with("y1", y).with("y2", y).with("class", "rule"));
        let place = |i: usize| MARGIN + 264.0 * i as f64;
        let blocks = self.plan.schedule.blocks();
        let of_kind = |kind: Kind| blocks.iter().find(|one| Kind::of(self.plan, one) == kind);
        let examples = Kind::ALL.into_iter().filter_map(|kind| Some((kind, of_kind(kind)?)));
        for (i, (kind, block)) in examples.enumerate() {
            glyph(svg, [place(i), y + 18.0], self.plan, block, GREY);
            svg.add(&text(place(i) + 52.0, y + 43.0, "small", kind.meaning()));
        }
        let [inputs, results] = travellers(self.plan);
        let wires = [(inputs, "wire"), (results, "wire result")];
        for (i, (told, class)) in wires.into_iter().enumerate() {
            let (Some(told), x, y) = (told, place(i), y + 82.0) else { continue };
            let line = Element::new("path").with("d", format!("M{x} {y}h40")).with("class", class);
            svg.add(&line.with("stroke", GREY));
            svg.add(&text(x + 52.0, y + 4.0, "small", told));
        }
        let rest = "squares are scores of a rank's queries, downwards, and keys, to the right, in \
                    the colour of the rank whose tokens travel; transfers go while the step above \
                    them is computed";
        svg.add(&text(MARGIN, y + 114.0, "small", rest));
    }
}

/// How much of a block is seen, and which part of the shards it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Diagonal,
    Full,
    EarlyKeys,
    LateQueries,
    Masked,
}

impl Kind {
    const ALL: [Self; 5] =
        [Self::Diagonal, Self::Full, Self::EarlyKeys, Self::LateQueries, Self::Masked];

    fn of(plan: &Plan, block: &Block) -> Self {
        let [queries, keys] = plan.tokens(block);
        let is_full = plan.sight(block).class(queries, keys) == Class::Full;
        let is_whole = |of_queries, piece| half(plan, of_queries, piece).is_none();
        match (is_whole(true, block.queries), is_whole(false, block.keys)) {
            _ if !is_full && block.queries.owner == block.keys.owner => Self::Diagonal,
            _ if !is_full => Self::Masked,
            (true, false) => Self::EarlyKeys,
            (false, true) => Self::LateQueries,
            _ => Self::Full,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Diagonal => "diagonal",
            Self::Masked => "masked",
            Self::Full => "full",
            Self::EarlyKeys | Self::LateQueries => "full half",
        }
    }

    fn meaning(self) -> &'static str {
        match self {
            Self::Diagonal => "a rank's own tokens",
            Self::Masked => "some scores are masked",
            Self::Full => "every query sees every key",
            Self::EarlyKeys => "all queries, half of the keys",
            Self::LateQueries => "half of the queries, all keys",
        }
    }
}

/// What travels to be computed with, and what was computed.
fn travellers(plan: &Plan) -> [Option<&'static str>; 2] {
    let told = |lane| {
        let of_lane = plan.schedule.transfers().iter().find(|transfer| transfer.lane == lane);
        of_lane.map(|transfer| match (transfer.item, plan.pass()) {
            (Item::Keys, _) => "keys and values",
            (Item::Queries, Pass::Forward) => "queries",
            (Item::Queries, Pass::Backward) => "queries, dout, lse and row terms",
            (Item::Result, _) => "results and lse, on their way home",
            (Item::KeyGradients, _) => "sums of gradients of keys and values",
            (Item::QueryGradients, _) => "gradients of queries, on their way home",
        })
    };
    [told(Lane::Inputs), told(Lane::Results)]
}

/// Which heads of keys a piece has, if not all.
fn heads(plan: &Plan, piece: Piece) -> Option<String> {
    let heads = piece.heads.of(plan.shards.kv_heads);
    match piece.heads {
        Heads::All => None,
        _ if heads.len() == 1 => Some(format!("head {}", heads.start)),
        _ => Some(format!("heads {}–{}", heads.start, heads.end.saturating_sub(1))),
    }
}

/// The middle of a rank's column.
fn column(rank: usize) -> f64 {
    LEFT + COLUMN * (rank as f64 + 0.5)
}

/// Which half of its owner's tokens a piece is, where it is not all of them.
fn half(plan: &Plan, of_queries: bool, piece: Piece) -> Option<&'static str> {
    let partition = if of_queries { &plan.ring.queries } else { &plan.ring.keys };
    let tokens = partition.tokens(piece.owner, piece.half);
    match piece.half {
        _ if tokens.len() == partition.len(piece.owner) => None,
        Half::Whole => None,
        Half::Early => Some("early"),
        Half::Late => Some("late"),
    }
}

/// `2`, `2 early` or `2 late`.
fn of_piece(plan: &Plan, of_queries: bool, piece: Piece) -> String {
    match half(plan, of_queries, piece) {
        None => piece.owner.to_string(),
        Some(half) => format!("{} {half}", piece.owner),
    }
}

/// Which tokens a rank has.
fn tokens(partition: &Partition, rank: usize) -> String {
    if partition.scheme() == Scheme::Striped {
        let ranks = partition.ranks();
        return format!("tokens {rank}, {}, {}, …", rank + ranks, rank + 2 * ranks);
    }
    let segments = partition.positions(rank).segments();
    let ends = segments.iter().filter(|segment| segment.length > 0);
    let ends: Vec<String> =
        ends.map(|one| format!("{} – {}", one.start, one.start + one.length - 1)).collect();
    match ends.is_empty() {
        true => "no tokens".to_owned(),
        false => format!("tokens {}", ends.join(", ")),
    }
}

/// The lines of a glyph.
const GLYPH_LINES: usize = 40;

/// The scores of two ranks' tokens, queries downwards and keys to the right: those that a block has
/// and that are seen are filled.
fn glyph(into: &mut Element, [x, y]: [f64; 2], plan: &Plan, block: &Block, colour: &str) {
    let (sight, [queries, keys]) = (plan.sight(block), plan.tokens(block));
    let [height, width] = [sight.queries.len(), sight.keys.len()];
    let right = |key: usize| x + GLYPH * key as f64 / width.max(1) as f64;
    let mut path = String::new();
    for line in 0..GLYPH_LINES {
        let query = (2 * line + 1) * height / (2 * GLYPH_LINES);
        let seen = if queries.contains(&query) { sight.keys_of(query) } else { 0..0 };
        let (from, to) = (right(seen.start.max(keys.start)), right(seen.end.min(keys.end)));
        if from < to {
            let (top, tall) =
                (GLYPH * line as f64 / GLYPH_LINES as f64, GLYPH / GLYPH_LINES as f64);
            path += &format!("M{from:.1} {:.1}H{to:.1}v{tall}H{from:.1}z", y + top);
        }
    }
    into.add(&rect(x, y, GLYPH, GLYPH).with("class", "scores"));
    into.add(&Element::new("path").with("d", path).with("fill", colour));
    let mut outline = format!("M{x} {y}h{GLYPH}v{GLYPH}h-{GLYPH}z");
    // Where the late tokens begin.
    let [early_queries, early_keys] =
        [sight.queries, sight.keys].map(|positions| positions.segments()[0].length);
    if early_keys < width {
        outline += &format!("M{:.1} {y}v{GLYPH}", right(early_keys));
    }
    if early_queries < height {
        let down = y + GLYPH * early_queries as f64 / height as f64;
        outline += &format!("M{x} {down:.1}h{GLYPH}");
    }
    into.add(&Element::new("path").with("d", outline).with("class", "outline"));
}
