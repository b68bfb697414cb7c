//! Every backend, element type and variant against the reference, by the cases of `verify`.

use std::time::Instant;

use warpwright::Device;
use warpwright::verify::{SUITES, Size, Suite};

use crate::devices::devices;

#[test]
fn every_operation_passes_its_cases_on_the_cpu() {
    on(Size::Default, |device| matches!(device, Device::Cpu(_)));
}

#[test]
fn every_operation_passes_its_cases_on_the_interpreter() {
    on(Size::Quick, |device| device.name() == "ptx");
}

#[test]
fn every_operation_passes_its_cases_on_other_devices() {
    on(Size::Quick, |device| !matches!(device, Device::Cpu(_)) && device.name() != "ptx");
}

/// Runs the cases of a size on some devices. `WARPWRIGHT_THOROUGH=1` takes the full grids instead.
fn on(size: Size, is_meant: impl Fn(&Device) -> bool) {
    let thorough = std::env::var("WARPWRIGHT_THOROUGH").is_ok_and(|value| value == "1");
    let size = if thorough { Size::Thorough } else { size };
    for device in devices().iter().filter(|device| is_meant(device)) {
        SUITES.iter().for_each(|suite| passes(*suite, device, size));
    }
}

fn passes(suite: &dyn Suite, device: &Device, size: Size) {
    let (mut cases, mut complaints) = (0, Vec::new());
    let begun = Instant::now();
    suite.run(device, size, &mut |report| {
        cases += 1;
        complaints.extend(report.complaint());
    });
    let operation = suite.operation().name();
    println!("{operation} on {}: {cases} cases, {:.1?}", device.name(), begun.elapsed());
    assert!(cases > 0, "no case of {operation} ran on {}", device.name());
    assert!(
        complaints.is_empty(),
        "{} of {cases} cases of {operation} failed on {}:\n{}",
        complaints.len(),
        device.name(),
        complaints.join("\n")
    );
}
