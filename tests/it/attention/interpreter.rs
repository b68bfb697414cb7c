//! What the PTX does, by the interpreter: schedules, and counts.

use warpwright::attention::{Mask, Plan};
use warpwright::backend::cuda::{Cuda, Interpreter};
use warpwright::ptx::interpreter::{
    Approximations, Class, Format, Options as Interpretation, Schedule,
};
use warpwright::verify::attention::{Case, Shard, Sizes, count, plans, run_case};
use warpwright::verify::count::Counted;
use warpwright::{DType, Device};

use crate::interpreter::assert_no_atomics;

#[test]
fn kernels_raise_nothing_under_many_schedules() {
    let sizes = |width| Sizes { queries: 45, keys: 70, ..Sizes::square([1, 2, 1, 1, width]) };
    let packed = Sizes { batch: 1, ..sizes(72) };
    let cases = [
        Case::causal(sizes(64)),
        Case { sink: true, splits: Some(2), ..Case::new(sizes(96)) },
        Case { shard: Shard::Packed, ..Case::causal(packed) },
        Case { shard: Shard::Zigzag, softcap: Some(3.0), ..Case::causal(sizes(17)) },
    ];
    for (seed, case) in (0..).zip(cases) {
        let interpretation = Interpretation::default()
            .with_seed(seed)
            .with_schedule(Schedule::Shuffled)
            .with_approximations(Approximations::Perturbed);
        let driver = Interpreter::new(interpretation);
        let device = Device::Cuda(Cuda::with_driver(driver).expect("device"));
        let mut complaints = Vec::new();
        run_case(&device, &Case { seed, ..case }, |report| complaints.extend(report.complaint()));
        assert!(complaints.is_empty(), "schedule {seed}: {}", complaints.join("\n"));
    }
}

/// Gradients are not added by atomics.
#[test]
fn no_kernel_of_attention_has_an_atomic() {
    assert_no_atomics(&["attention"], 20);
}

/// A call at the sizes whose counts the documentation states: two heads that share keys.
struct Counts {
    case: Case,
    pass: &'static str,
    plan: Plan,
    counted: Counted,
}

const TOKENS: usize = 512;

impl Counts {
    fn of(width: usize, mask: Mask, pass: &'static str) -> Self {
        let sizes = Sizes::square([1, 2, 1, TOKENS, width]);
        let case = Case { mask, splits: Some(1), ..Case::new(sizes) };
        let interpretation = Interpretation::default().unchecked();
        let counted = count(&case, pass, DType::F16, None, interpretation).expect("it runs");
        let [forward, backward] = plans(&case, DType::F16).expect("it fits");
        let plan = if pass == "forward" { forward } else { backward };
        Self { case, pass, plan, counted }
    }

    fn describe(&self) -> String {
        format!("{} {}", self.case.describe(), self.pass)
    }

    fn sees(&self, query: usize, key: usize) -> bool {
        !self.case.mask.causal || key <= query
    }

    /// Whether any of some queries sees any of some keys.
    fn meet(&self, queries: usize, of_queries: usize, keys: usize, of_keys: usize) -> bool {
        debug_assert!(of_queries > 0 && of_keys > 0);
        self.sees(queries + of_queries - 1, keys)
    }

    /// Tiles of `rows` by `columns` in which there is something to see, for one head; rows are
    /// queries or keys.
    fn tiles(&self, rows: usize, columns: usize, of_queries: bool) -> usize {
        let meets = |&(row, column): &(usize, usize)| match of_queries {
            true => self.meet(row, rows, column, columns),
            false => self.meet(column, columns, row, rows),
        };
        let starts = |step| (0..TOKENS).step_by(step);
        starts(rows)
            .flat_map(|row| starts(columns).map(move |column| (row, column)))
            .filter(meets)
            .count()
    }

    /// Tokens of the other side that tiles of so many rows walk, all tiles of a head together.
    fn walked(&self, rows: usize, of_queries: bool) -> usize {
        self.tiles(rows, 1, of_queries)
    }

    fn of_class(&self, class: Class) -> u64 {
        self.counted.kernels.iter().map(|kernel| kernel.of(class).warps).sum()
    }

    /// Products of 16 x 8 x 16 that the tiles of warps need, in which there is something to see, and
    /// the scores of these tiles.
    fn least_products(&self) -> [usize; 2] {
        let (heads, width) = (self.case.sizes.heads, self.case.sizes.width);
        let [rows, columns] = self.plan.tile.map(|length| length as usize);
        let products = |of_queries, number: usize| {
            let scores = self.tiles(rows / 4, columns, of_queries) * rows / 4 * columns * heads;
            [scores * number * width / (16 * 8 * 16), scores]
        };
        match self.pass {
            "forward" => products(true, 2),
            _ => {
                let ([dq, of_dq], [dkdv, of_dkdv]) = (products(true, 3), products(false, 4));
                [dq + dkdv, of_dq + of_dkdv]
            }
        }
    }

    /// Bytes of one pass over the tensors for each tile of rows.
    fn planned_bytes(&self) -> usize {
        let Sizes { heads, kv_heads, width, .. } = self.case.sizes;
        let rows = self.plan.tile[0] as usize;
        let line = 2 * width;
        let queries = |lines: usize, numbers: usize| heads * TOKENS * (lines * line + numbers * 4);
        let keys = heads * self.walked(rows, true) * 2 * line;
        match self.pass {
            "forward" => queries(2, 1) + keys,
            _ => {
                let dq = queries(3, 2) + keys;
                let walked = heads * self.walked(rows, false) * (2 * line + 8);
                dq + kv_heads * TOKENS * 4 * line + walked
            }
        }
    }
}

fn counts() -> impl Iterator<Item = Counts> {
    let passes = ["forward", "backward"];
    passes.into_iter().flat_map(|pass| {
        [64, 128].into_iter().flat_map(move |width| {
            [Mask::default(), Mask::causal()].map(|mask| Counts::of(width, mask, pass))
        })
    })
}

/// A backward call runs its row terms besides; they are small.
#[test]
fn kernels_on_tensor_cores_do_what_is_planned_and_no_more() {
    for counts in counts() {
        let what = counts.describe();
        assert!(counts.plan.variant.contains("_mma_f16_"), "{what}: {}", counts.plan.variant);
        let [least, scores] = counts.least_products();
        let products = counts.of_class(Class::Tensor(Format::HalfToSingle));
        let ratio = products as f64 / least as f64;
        assert!((1.0..=1.05).contains(&ratio), "{what}: {ratio:.3} of the least products");

        let conflicts: u64 =
            counts.counted.kernels.iter().map(|kernel| kernel.total().bank_conflicts()).sum();
        assert_eq!(conflicts, 0, "{what}: bank conflicts");

        let row_terms = 2 * counts.case.sizes.heads * TOKENS * (2 * counts.case.sizes.width + 4);
        let planned = counts.planned_bytes() + if counts.pass == "forward" { 0 } else { row_terms };
        let ratio = counts.counted.bytes() as f64 / planned as f64;
        assert!(ratio <= 1.10, "{what}: {ratio:.3} of the planned bytes");

        let per_score = |class| counts.of_class(class) as f64 * 32.0 / scores as f64;
        let (exponentials, sums) = (per_score(Class::Special), per_score(Class::Fp32));
        let most = if counts.pass == "forward" { 3.2 } else { 4.25 };
        assert!(exponentials <= 1.1, "{what}: {exponentials:.2} exponentials for each score");
        assert!(sums <= most, "{what}: {sums:.2} f32 instructions for each score");
        println!(
            "{what}: {products} products, {exponentials:.3} exponentials and {sums:.2} f32 instructions for each score"
        );
    }
}
