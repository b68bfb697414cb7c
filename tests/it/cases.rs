//! Every backend, element type and variant against the reference, by the cases of `verify`.

use warpwright::verify::{SUITES, Size};

use crate::devices::devices;

#[test]
fn every_operation_passes_its_cases_on_every_device() {
    let thorough = std::env::var("WARPWRIGHT_THOROUGH").is_ok_and(|value| value == "1");
    for device in devices() {
        // The interpreter takes its time: the default cases are those of `verify --device ptx`.
        let size = match (thorough, device.name() == "ptx") {
            (true, _) => Size::Thorough,
            (false, true) => Size::Quick,
            (false, false) => Size::Default,
        };
        for suite in SUITES {
            let (mut cases, mut complaints) = (0, Vec::new());
            suite.run(device, size, &mut |report| {
                cases += 1;
                complaints.extend(report.complaint());
            });
            let operation = suite.operation().name();
            assert!(cases > 0, "no case of {operation} ran on {}", device.name());
            assert!(
                complaints.is_empty(),
                "{} of {cases} cases of {operation} failed on {}:\n{}",
                complaints.len(),
                device.name(),
                complaints.join("\n")
            );
        }
    }
}
