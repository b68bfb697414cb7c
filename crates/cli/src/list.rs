//! `warpwright list`: what there is, and the README's status table.

use std::collections::BTreeMap;

use warpwright::{Listed, list};

use crate::failure::Failure;
use crate::output::say;
use crate::table::table;

/// List every variant: operation, pass, backend, element types
#[derive(clap::Args)]
pub struct Arguments {
    /// Print the status table of the README
    #[arg(long)]
    status: bool,
    /// Print JSON
    #[arg(long, conflicts_with = "status")]
    json: bool,
}

pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let rows = list();
    if arguments.status {
        say!("{}", status(&rows).trim_end());
        return Ok(());
    }
    if arguments.json {
        say!("{}", json(&rows));
        return Ok(());
    }
    let mut table = table(["operation", "pass", "backend", "elements", "layout", "variant", "in"]);
    for row in rows {
        let Listed { operation, pass, elements, layout, variant, language, .. } = row;
        table.add_row([
            operation,
            pass,
            row.backend.to_owned(),
            elements,
            layout,
            variant,
            language,
        ]);
    }
    say!("{table}");
    Ok(())
}

/// Operation × pass × backend, with the element types, as Markdown.
fn status(rows: &[Listed]) -> String {
    const BACKENDS: [&str; 3] = ["cpu", "wgpu", "cuda"];
    let mut cells: BTreeMap<(&str, &str), [Vec<&str>; 3]> = BTreeMap::new();
    for row in rows.iter().filter(|row| is_public_pass(row)) {
        let backends = cells.entry((&row.operation, &row.pass)).or_default();
        for (elements, _) in
            backends.iter_mut().zip(BACKENDS).filter(|(_, backend)| *backend == row.backend)
        {
            for element in row.elements.split_whitespace() {
                if !elements.contains(&element) {
                    elements.push(element);
                }
            }
        }
    }
    let mut text = "| operation | pass | CPU | WGSL | PTX |\n|---|---|---|---|---|\n".to_owned();
    for ((operation, pass), backends) in cells {
        let [cpu, wgpu, cuda] = backends.map(|mut elements| {
            const ORDER: [&str; 7] = ["f32", "bf16", "f16", "f64", "i32", "u32", "u8"];
            elements.sort_by_key(|element| ORDER.iter().position(|known| known == element));
            if elements.is_empty() { "-".to_owned() } else { elements.join(", ") }
        });
        text += &format!("| {operation} | {pass} | {cpu} | {wgpu} | {cuda} |\n");
    }
    text
}

/// Kernels that only prepare tensors for others are no pass of their own.
fn is_public_pass(row: &Listed) -> bool {
    let passes = ["forward", "backward", "step", "update", "product", "merge", "decompress"];
    passes.contains(&row.pass.as_str())
}

fn json(rows: &[Listed]) -> serde_json::Value {
    rows.iter()
        .map(|row| {
            serde_json::json!({
                "operation": row.operation,
                "pass": row.pass,
                "backend": row.backend,
                "elements": row.elements,
                "layout": row.layout,
                "variant": row.variant,
                "language": row.language,
            })
        })
        .collect()
}
