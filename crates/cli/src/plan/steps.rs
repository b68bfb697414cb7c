//! The bytes of a ring in tables: of each schedule that could be taken, and of each step.

use comfy_table::{Cell, CellAlignment};
use warpwright::ring::{Algorithm, Plan};

use crate::output::say;
use crate::table::table;

/// The most ranks that have a column each.
const COLUMNS: usize = 8;

/// Prints the tables of a plan.
pub fn print(plan: &Plan) {
    say!("\n{} bytes of a rank at a step, by schedule:", plan.pass());
    print_ways(plan);
    say!("\n{} bytes that ranks send, by step:", plan.pass());
    print_steps(plan);
    let (sent, dense) = (plan.shards.bytes_sent(&plan.schedule), plan.dense_bytes());
    let sent: u64 = sent.iter().sum();
    say!("{sent} bytes in all, {} of the {dense} without a mask", share(sent, dense));
}

fn share(part: u64, whole: u64) -> String {
    format!("{:.1} %", 100.0 * part as f64 / whole.max(1) as f64)
}

fn right(text: impl ToString) -> Cell {
    Cell::new(text).set_alignment(CellAlignment::Right)
}

fn print_ways(plan: &Plan) {
    let mut table = table(["schedule", "one way", "the other", "the larger", ""]);
    for (way, bytes) in plan.ways() {
        let [one, other] = match way {
            Algorithm::TwoWay => ["up", "down"],
            Algorithm::KvRing => ["to the next", ""],
            Algorithm::TokenRing => ["to the next", "home"],
        };
        let told = |bytes: u64, way: &str| match way {
            "" => right("-"),
            way => right(format!("{bytes} {way}")),
        };
        table.add_row([
            Cell::new(way),
            told(bytes[0], one),
            told(bytes[1], other),
            right(bytes[0].max(bytes[1])),
            Cell::new(if way == plan.schedule.algorithm() { "taken" } else { "" }),
        ]);
    }
    say!("{table}");
}

/// A line for each step, a column for each rank, or for the least and the most of many.
fn print_steps(plan: &Plan) {
    let ranks = plan.schedule.ranks();
    let mut header = vec!["step".to_owned()];
    match ranks <= COLUMNS {
        true => header.extend((0..ranks).map(|rank| format!("rank {rank}"))),
        false => header.extend(["least".to_owned(), "most".to_owned()]),
    }
    header.push("all".to_owned());
    let mut table = table(header);
    let mut add = |name: String, sent: &[u64]| {
        let mut row = vec![Cell::new(name)];
        match ranks <= COLUMNS {
            true => row.extend(sent.iter().map(right)),
            false => row.extend(
                [sent.iter().min(), sent.iter().max()].map(|bytes| right(bytes.unwrap_or(&0))),
            ),
        }
        row.push(right(sent.iter().sum::<u64>()));
        table.add_row(row);
    };
    for step in 0..ranks {
        add(step.to_string(), &plan.bytes_of_step(step));
    }
    add("total".to_owned(), &plan.shards.bytes_sent(&plan.schedule));
    say!("{table}");
}
