//! `warpwright devices`: what this machine has.

use warpwright::backend::{DeviceInfo, Limits};

use crate::failure::Failure;
use crate::output::say;
use crate::table::table;

/// List the CPU, the wgpu adapters, the CUDA devices and the interpreter of this machine
#[derive(clap::Args)]
pub struct Arguments {}

pub fn run(_: &Arguments) -> Result<(), Failure> {
    let (found, missing) = DeviceInfo::list();
    let mut table = table([
        "device",
        "what it is",
        "units",
        "block",
        "shared",
        "binding",
        "buffers",
        "subgroups",
        "PTX",
    ]);
    for device in found {
        let Limits { units, block_threads, shared_bytes, binding_bytes, .. } = device.limits;
        let kind = if device.software { " (software)" } else { "" };
        let known = |number: u32| if number == 0 { "-".to_owned() } else { number.to_string() };
        table.add_row([
            device.name.to_string(),
            format!("{}{kind}", device.title),
            known(units),
            known(block_threads),
            bytes(u64::from(shared_bytes)),
            bytes(binding_bytes),
            match device.limits.storage_bindings {
                u32::MAX => "-".to_owned(),
                buffers => buffers.to_string(),
            },
            device.limits.subgroups.map_or("-".to_owned(), |(min, max)| match min == max {
                true => min.to_string(),
                false => format!("{min} to {max}"),
            }),
            device.limits.tier.map_or("-".to_owned(), |tier| tier.to_string()),
        ]);
    }
    say!("{table}");
    for error in missing {
        say!("{error}");
    }
    Ok(())
}

/// A size, rounded down to a unit that reads well.
fn bytes(size: u64) -> String {
    match size {
        0 => "-".to_owned(),
        1..=0xF_FFFF => format!("{} KiB", size >> 10),
        0x10_0000..=0x3FFF_FFFF => format!("{} MiB", size >> 20),
        0x4000_0000..=0xFF_FFFF_FFFF => format!("{} GiB", size >> 30),
        _ => "no limit".to_owned(),
    }
}
