//! `warpwright verify conformance`: what each instruction of PTX must give, on a CUDA device.

use warpwright::Device;
use warpwright::verify::conformance::{self, Verdict};

use crate::failure::Failure;
use crate::output::say;

/// Runs the programs on the devices and prints what differs.
pub fn run(devices: &[Device]) -> Result<(), Failure> {
    let mut ran = false;
    let mut failed = 0;
    for device in devices {
        let Device::Cuda(cuda) = device else { continue };
        ran = true;
        let (mut passed, mut left_out) = (0, Vec::new());
        conformance::run(cuda, |program, verdict| match verdict {
            Verdict::Passed => passed += 1,
            Verdict::Failed(why) => {
                failed += 1;
                say!("FAILED {}: {}: {why}", device.name(), program.name);
            }
            Verdict::LeftOut(why) => left_out.push(format!("{}: {why}", program.name)),
        });
        say!("{}: {passed} programs passed, {} left out", device.name(), left_out.len());
        for program in left_out {
            say!("left out {program}");
        }
    }
    match (ran, failed) {
        (false, _) => Err(Failure::input("conformance: expected --device cuda or ptx")),
        (true, 0) => Ok(()),
        (true, failed) => Err(Failure::run(format!("{failed} programs failed"))),
    }
}
